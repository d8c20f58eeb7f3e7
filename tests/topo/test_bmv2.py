"""Which options the BMv2 on PATH takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from topo import bmv2
from topo.errors import TopologyError
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
    assert bmv2.takes(program, bmv2.PACKETS)


def test_one_without_is_not_given_the_option_that_it_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = put(tmp_path, "echo '  --thrift-port arg  TCP port'", monkeypatch)
    assert "--notifications-addr" not in argv(tmp_path)
    assert not bmv2.takes(program, bmv2.PACKETS)


def test_one_that_cannot_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = put(tmp_path, "", monkeypatch)
    Path(program).write_bytes(b"\x7fELF, but for another machine")
    with pytest.raises(TopologyError, match=r"simple_switch_grpc --help: .*is it a BMv2 that runs here"):
        argv(tmp_path)
