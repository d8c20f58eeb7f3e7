"""Connections are ended where they are, with what is in them, and no others are."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import cutting

_ACCEPTS = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("ready", flush=True)
connection, _ = listener.accept()
print("accepted", flush=True)
sys.stdin.readline()
print(connection.recv(100), flush=True)
"""
"""A process that reads a connection only when it is told to."""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    path = tmp_path / "sock"
    argv = [sys.executable, "-c", _ACCEPTS, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process, path
        process.kill()


def test_a_connection_of_another_process_ends_for_both_sides_with_what_was_in_it(
    other: tuple[subprocess.Popen[str], Path],
) -> None:
    process, path = other
    assert process.stdin is not None and process.stdout is not None
    with socket.socket(socket.AF_UNIX) as mine:
        mine.connect(str(path))
        assert process.stdout.readline() == "accepted\n"
        mine.sendall(b"never read")
        found = list(cutting.accepted(process.pid, [str(path)]))
        assert len(found) == 1, "the listener is no connection"
        cutting.end(found[0])
        mine.settimeout(10)
        assert mine.recv(10) == b""
        with pytest.raises(BrokenPipeError):
            mine.sendall(b"late")
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "b''\n"


def test_connections_at_other_paths_and_of_dead_processes_are_none(
    other: tuple[subprocess.Popen[str], Path], tmp_path: Path
) -> None:
    process, path = other
    with socket.socket(socket.AF_UNIX) as mine:
        mine.connect(str(path))
        assert list(cutting.accepted(process.pid, [str(tmp_path / "another")])) == []
    process.kill()
    process.wait()
    assert list(cutting.accepted(process.pid, [str(path)])) == []


def test_own_connections_are_told_by_the_port_that_they_lead_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as another:
        ports = [each.getsockname()[1] for each in (server, another)]
        first, second = (socket.create_connection(("127.0.0.1", port)) for port in ports)
        with first, second:
            before = len(os.listdir("/proc/self/fd"))
            for copy in cutting.own_connections(ports[:1]):
                cutting.end(copy)
            assert len(os.listdir("/proc/self/fd")) == before, "a copy was left open"
            first.settimeout(10)
            assert first.recv(1) == b""
            second.sendall(b"it goes on")


def test_an_interface_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError):
        cutting.set_up("nosuch0", up=False)
