"""docs/drops.md has every reason that a packet may be dropped for, and none besides."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from guestlib.packets.dataplane import DataPlane
from orchestrator.ownership.assigning import DROPS
from p4rt_controller.events import ControllerStats, PacketFigures
from p4src import DropReason

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "drops.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def rows(section: str) -> list[list[str]]:
    """The cells of its table, without the head."""
    lines = [line for line in SECTIONS[section].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def reasons(section: str, column: int = 0) -> list[str]:
    return [row[column].strip().strip("`") for row in rows(section)]


def test_the_switchs_reasons_are_the_programs() -> None:
    assert {int(row[0]): row[1].strip("`") for row in rows("The switch")} == {
        reason.value: reason.name.lower() for reason in DropReason if reason is not DropReason.NONE
    }


def test_the_replicas_reasons_are_those_that_the_library_counts() -> None:
    source = "".join(path.read_text() for path in (ROOT / "guestlib").rglob("*.py"))
    counted = set(re.findall(r'"(\w+)"', " ".join(re.findall(r"self\.drops\[(.+?)\] \+=", source))))
    (interfaces,) = re.findall(r"drops = \{\n(.*?)\n *\}", (ROOT / "guestlib" / "shell.py").read_text(), re.DOTALL)
    counted |= set(re.findall(r'^ *"(\w+)":', interfaces, re.MULTILINE))
    assert len(counted) > 14
    assert Counter(reasons("Replicas")) == Counter(counted)


def test_the_regular_expression_finds_what_the_library_counts() -> None:
    """A reason that is seen at work is among those read from the source."""
    plane = DataPlane()
    plane.handle(bytes(12) + b"\x88\xb5", 0.0)
    assert set(plane.drops) <= set(reasons("Replicas")) and plane.drops.total() == 1


def test_the_controllers_reasons_are_those_of_its_figures() -> None:
    nothing = dict.fromkeys(ControllerStats.__dataclass_fields__, 0)
    assert reasons("The controller") == list(PacketFigures.of([ControllerStats(**nothing)]).drops)


def test_the_orchestrators_reasons_are_those_that_its_assigner_counts() -> None:
    assert reasons("The orchestrator") == list(DROPS)


@pytest.mark.parametrize("section", ["The switch", "Replicas", "The controller", "The orchestrator"])
def test_every_reason_has_its_cause_whether_it_is_normal_and_a_remedy(section: str) -> None:
    assert all(all(row) and len(row) == (5 if section == "The switch" else 4) for row in rows(section))
