"""The STF runner notices what is wrong."""

from pathlib import Path

import pytest

from p4switch.device import Device
from p4switch.load import load_program
from p4switch.stf import StfError, parse_stf, run_stf
from p4switch.stf.__main__ import main

PROGRAMS = Path(__file__).parent.parent / "programs"


def run(text: str) -> list[str]:
    device = Device(load_program((PROGRAMS / "tables.json").read_bytes()))
    return run_stf(device, parse_stf(text))


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("packet 0 0601 0000 0000\nexpect 1 0601 0001 0400", 0),
        ("packet 0 0601 0000 0000\nexpect 1 06** 0001", 0),
        ("packet 0 0601 0000 0000\nexpect 1 0601 0001$", 1),
        ("packet 0 0601 0000 0000\nexpect 1 0601 0002", 1),
        ("packet 0 0601 0000 0000\nexpect 2 00", 1),
        ("packet 0 0601 0000 0000\nexpect 1", 0),
        ("packet 1 0601 0000 0000", 1),
        ("# nothing\n\nwait", 0),
    ],
)
def test_differences_are_found(text: str, problems: int) -> None:
    assert len(run(text)) == problems


@pytest.mark.parametrize(
    "text",
    [
        "packet 0 0",
        "packet x 00",
        "expect 0 0g",
        "add exact_table x:1 y:1 set",
        "add exact_table x:1 y:1 set(value)",
        "add nothing x:1 set(value:1)",
        "add exact_table z:1 set(value:1)",
        "add exact_table x:one set(value:1)",
        "add exact_table x:1 y:1 fly(value:1)",
        "add exact_table x:1 y:1 set(other:1)",
        "register_read nothing 1",
        "dance 1 2",
    ],
)
def test_what_cannot_be_done_is_said(text: str) -> None:
    with pytest.raises(StfError, match="line 1"):
        run(text)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = PROGRAMS / "tables.stf", tmp_path / "bad.stf"
    bad.write_text("packet 0 0601 0000 0000\nexpect 1 ff")
    assert main([str(PROGRAMS / "tables.json"), str(good)]) == 0
    assert main([str(PROGRAMS / "tables.json"), str(bad)]) == 1
    assert main([str(tmp_path / "nothing.json"), str(bad)]) == 2
    assert "line 2" in capsys.readouterr().out
