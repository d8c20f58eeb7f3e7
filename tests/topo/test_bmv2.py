"""Which options the BMv2 on PATH takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.topo.conftest import Put
from topo import bmv2
from topo.model import one_switch
from topo.spec import LabSpec
from topo.switches import switch_argv


def argv(directory: Path, position: int = 0) -> list[str]:
    spec = LabSpec(name="t", directory=str(directory), topology=one_switch(1), target="bmv2")
    return switch_argv(spec, position, {1: "veth1"})


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


def test_switches_of_a_lab_ask_it_once(tmp_path: Path, put: Put) -> None:
    program = put(bmv2.PROGRAM, f"echo asked >> {tmp_path}/asked; echo '  --notifications-addr arg  where'")
    assert all("--notifications-addr" in argv(tmp_path, position) for position in range(3))
    assert bmv2.lacks(program, bmv2.PACKETS) and bmv2.lacks(bmv2.PROGRAM, bmv2.PACKETS)
    assert (tmp_path / "asked").read_text() == "asked\n"


def test_one_that_has_been_replaced_is_asked_again(tmp_path: Path, put: Put) -> None:
    program = Path(put(bmv2.PROGRAM, "echo '  --thrift-port arg  TCP port'"))
    assert "--notifications-addr" not in argv(tmp_path)
    replaced = program.rename(tmp_path / "replaced").stat()
    put(bmv2.PROGRAM, "echo '  --notifications-addr arg  where'")
    os.utime(program, ns=(replaced.st_atime_ns, replaced.st_mtime_ns))  # as reproducible builds have it
    assert "--notifications-addr" in argv(tmp_path)
    put(bmv2.PROGRAM, "echo '  --thrift-port arg  TCP port'")
    os.utime(program, ns=(0, 0))
    assert "--notifications-addr" not in argv(tmp_path)


def test_one_that_did_not_answer_is_asked_again(tmp_path: Path, put: Put) -> None:
    put(bmv2.PROGRAM, f"test -e {tmp_path}/well || exit 3; echo '  --thrift-port arg  TCP port'")
    assert "--notifications-addr" in argv(tmp_path)
    (tmp_path / "well").touch()
    assert "--notifications-addr" not in argv(tmp_path)
