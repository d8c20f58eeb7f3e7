"""Which options the BMv2 on PATH takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.topo.conftest import Put
from topo import bmv2
from topo.model import one_switch
from topo.spec import LabSpec
from topo.switches import switch_argv


def argv(directory: Path) -> list[str]:
    spec = LabSpec(name="t", directory=str(directory), topology=one_switch(1), target="bmv2")
    return switch_argv(spec, 0, {1: "veth1"})


def test_one_with_nanomsg_gets_an_event_socket_of_its_own(tmp_path: Path, put: Put) -> None:
    program = put(bmv2.PROGRAM, "echo '  --notifications-addr arg  where'; echo '  --packet-in arg  where'")
    words = argv(tmp_path)
    assert words[0] == program
    assert words[words.index("--notifications-addr") + 1].startswith(f"ipc://{tmp_path}")
    assert not bmv2.lacks(program, bmv2.PACKETS)


def test_one_without_is_not_given_the_option_that_it_refuses(tmp_path: Path, put: Put) -> None:
    program = put(bmv2.PROGRAM, "echo '  --thrift-port arg  TCP port'")
    assert "--notifications-addr" not in argv(tmp_path)
    assert bmv2.lacks(program, bmv2.PACKETS)


@pytest.mark.parametrize("script", ["exit 3", "exec sleep 60", "\x7fELF, but for another machine"])
def test_one_that_says_nothing_is_run_anyway(
    tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """What is wrong with it, it says when it is to work: its words are shown then."""
    program = put(bmv2.PROGRAM, script)
    if script.startswith("\x7f"):
        Path(program).write_bytes(script.encode())
    monkeypatch.setattr(bmv2, "_ANSWERS_WITHIN", 0.5)
    assert "--notifications-addr" in argv(tmp_path)


def test_a_switch_of_ones_own_is_not_asked(tmp_path: Path) -> None:
    assert bmv2.notifications([str(tmp_path / "nothing"), "-m", "switch"], "ipc://n")[-1] == "ipc://n"
