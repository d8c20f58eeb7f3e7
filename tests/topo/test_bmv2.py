"""Which options the BMv2 on PATH takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from topo import bmv2
from topo.model import one_switch
from topo.spec import LabSpec
from topo.switches import switch_argv


def put(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A `simple_switch_grpc` of that text comes first on PATH; where it is."""
    program = directory / bmv2.PROGRAM
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    return str(program)


def argv(directory: Path) -> list[str]:
    spec = LabSpec(name="t", directory=str(directory), topology=one_switch(1), target="bmv2")
    return switch_argv(spec, 0, {1: "veth1"})


def test_one_with_nanomsg_gets_an_event_socket_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = put(tmp_path, "echo '  --notifications-addr arg  where'; echo '  --packet-in arg  where'", monkeypatch)
    words = argv(tmp_path)
    assert words[0] == program
    assert words[words.index("--notifications-addr") + 1].startswith(f"ipc://{tmp_path}")
    assert not bmv2.lacks(program, bmv2.PACKETS)


def test_one_without_is_not_given_the_option_that_it_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = put(tmp_path, "echo '  --thrift-port arg  TCP port'", monkeypatch)
    assert "--notifications-addr" not in argv(tmp_path)
    assert bmv2.lacks(program, bmv2.PACKETS)


@pytest.mark.parametrize("script", ["exit 3", "exec sleep 60", "\x7fELF, but for another machine"])
def test_one_that_says_nothing_is_run_anyway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """What is wrong with it, it says when it is to work: its words are shown then."""
    program = put(tmp_path, script, monkeypatch)
    if script.startswith("\x7f"):
        Path(program).write_bytes(script.encode())
    monkeypatch.setattr(bmv2, "_ANSWERS_WITHIN", 0.5)
    assert "--notifications-addr" in argv(tmp_path)


def test_a_switch_of_ones_own_is_not_asked(tmp_path: Path) -> None:
    assert bmv2.notifications([str(tmp_path / "nothing"), "-m", "switch"], "ipc://n")[-1] == "ipc://n"
