"""The numbers that P4 and Python share are the same in both."""

import enum
import re
from pathlib import Path

import pytest

import p4src
from p4src import CPU_CLONE_SESSION, CPU_PORT, DROP_PORT, ETHERTYPE_PUNT, DropReason, PortRole, PuntReason
from p4src.reasons import MAC_PUNT_CONTROLLER, MAC_PUNT_SWITCH
from splitmerge import BUCKETS, TagKind
from splitmerge.tag import ETHERTYPE_TAG

DEFINE = (Path(p4src.__file__).parent / "include" / "define.p4").read_text()


def enum_in_p4(name: str) -> dict[str, int]:
    body = re.search(rf"^enum bit<8> {name} \{{\n(.*?)^\}}", DEFINE, re.DOTALL | re.MULTILINE)
    assert body is not None
    return {member: int(number) for member, number in re.findall(r"^\s*(\w+)\s*=\s*(\d+)", body[1], re.MULTILINE)}


def constant_in_p4(name: str) -> int:
    found = re.search(rf"^const \S+\s+{name}\s*=\s*(\w+);", DEFINE, re.MULTILINE)
    assert found is not None
    return int(found[1], 0)


@pytest.mark.parametrize("members", [DropReason, PuntReason, PortRole, TagKind], ids=lambda members: members.__name__)
def test_enum_is_the_programs(members: type[enum.IntEnum]) -> None:
    assert enum_in_p4(members.__name__) == {member.name: member.value for member in members}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CPU_PORT", CPU_PORT),
        ("DROP_PORT", DROP_PORT),
        ("CPU_CLONE_SESSION", CPU_CLONE_SESSION),
        ("BUCKETS", BUCKETS),
        ("ETHERTYPE_TAG", ETHERTYPE_TAG),
        ("ETHERTYPE_PUNT", ETHERTYPE_PUNT),
        ("MAC_PUNT_CONTROLLER", int.from_bytes(MAC_PUNT_CONTROLLER)),
        ("MAC_PUNT_SWITCH", int.from_bytes(MAC_PUNT_SWITCH)),
    ],
)
def test_constant_is_the_programs(name: str, value: int) -> None:
    assert constant_in_p4(name) == value


def test_every_drop_reason_has_a_counter() -> None:
    (size,) = re.findall(r"^#define DROP_REASONS\s+(\d+)", DEFINE, re.MULTILINE)
    assert max(DropReason) < int(size)


def test_exports() -> None:
    assert p4src.__all__ == [
        "CPU_CLONE_SESSION",
        "CPU_PORT",
        "DROP_PORT",
        "ETHERTYPE_PUNT",
        "P4BLOB",
        "P4INFO",
        "CompilerFailed",
        "CompilerMissing",
        "DropReason",
        "P4BuildError",
        "PortRole",
        "PuntReason",
        "StaleOutputs",
    ]
