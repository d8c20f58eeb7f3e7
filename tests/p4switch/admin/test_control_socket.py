"""Commands to a running switch: what is said on the control socket, and the socket itself."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p4switch import cli
from p4switch.admin import ControlSocket, PortState, SwitchPorts
from p4switch.admin.requests import LONGEST, answer
from p4switch.cli import config_of
from p4switch.config import InterfaceBinding
from p4switch.engine import Engine, EngineOptions
from p4switch.errands import Errands
from p4switch.errors import PortError
from splitmerge.errors import BadInput

VETH1 = PortState(1, "veth1", True, 10, 640, 9, 576)


class Ports:
    """A switch with veth1 and, if it is added, more."""

    def __init__(self) -> None:
        self.there = {1: VETH1}

    def add(self, item: InterfaceBinding) -> None:
        if item.port in self.there:
            raise PortError(f"port {item.port} is in use")
        self.there[item.port] = PortState(item.port, item.interface, False, 0, 0, 0, 0)

    def remove(self, port: int) -> None:
        if port not in self.there:
            raise PortError(f"there is no port {port}")
        del self.there[port]

    def all(self) -> list[PortState]:
        return list(self.there.values())


@pytest.mark.parametrize(
    ("request_", "expected", "there"),
    [
        ({"do": "port-add", "port": 2, "interface": "veth2"}, {}, [1, 2]),
        ({"do": "port-remove", "port": 1}, {}, []),
        ({"do": "port-add", "port": 1, "interface": "veth2"}, {"error": "port 1 is in use"}, [1]),
        ({"do": "port-remove", "port": 7}, {"error": "there is no port 7"}, [1]),
        ({"do": "port-add", "port": 65536, "interface": "v"}, {"error": "port 65536 is out of range 0..65535"}, [1]),
        ({"do": "port-add", "port": -1, "interface": "v"}, {"error": "port -1 is out of range 0..65535"}, [1]),
        ({"do": "port-remove", "port": True}, {"error": "port True is out of range 0..65535"}, [1]),
    ],
)
def test_requests(request_: dict[str, Any], expected: dict[str, Any], there: list[int]) -> None:
    ports = Ports()
    assert json.loads(answer(json.dumps(request_).encode(), ports)) == expected
    assert list(ports.there) == there


def test_all_ports_are_told() -> None:
    said = json.loads(answer(b'{"do": "ports"}', Ports()))
    assert said == {
        "ports": [
            {
                "port": 1,
                "interface": "veth1",
                "up": True,
                "received_packets": 10,
                "received_bytes": 640,
                "sent_packets": 9,
                "sent_bytes": 576,
            }
        ]
    }


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"ports",
        b"[]",
        b"7",
        b'{"do": "ports", "port": 1}',
        b'{"do": "port-add", "port": 2}',
        b'{"do": "port-add", "port": "2", "interface": "veth2"}',
        b'{"do": "port-add", "port": 2, "interface": ""}',
        b'{"do": "port-add", "port": 2, "interface": "longer-than-any-interface"}',
        b"[" * LONGEST,
        b" " * LONGEST + b'{"do": "ports"}',
        b"\xff",
    ],
    ids=str,
)
def test_what_is_no_request_is_refused(line: bytes) -> None:
    ports = Ports()
    assert list(json.loads(answer(line, ports))) == ["error"]
    assert list(ports.there) == [1]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["ports", "port-add"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["do", "port", "interface", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_said_is_answered(line: bytes) -> None:
    said = answer(line, Ports())
    assert said.endswith(b"\n") and said.count(b"\n") == 1
    assert isinstance(json.loads(said), dict)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ControlSocket]:
    made = ControlSocket(tmp_path / "sw.sock", Ports())
    made.start()
    yield made
    made.close()
    assert not made.path.exists()


def run(served: ControlSocket, *words: str) -> int:
    return cli.main([words[0], "--socket", str(served.path), *words[1:]])


def test_the_command_line(served: ControlSocket, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(served, "port-add", "2@veth2", "3@veth3") == 0
    assert run(served, "port-remove", "1", "2") == 0
    assert run(served, "port-add", "3@again") == 1
    assert run(served, "ports", "--json") == 0
    out, error = capsys.readouterr()
    assert [(port["port"], port["interface"]) for port in json.loads(out)] == [(3, "veth3")]
    assert error == "p4switch port-add: port-add: port 3 is in use\n"
    assert run(served, "ports") == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[0].split()) == "port interface up received packets received bytes sent packets sent bytes"
    assert lines[1].split() == ["3", "veth3", "down", "0", "0", "0", "0"]


@pytest.mark.parametrize("words", [("port-add", "veth2"), ("port-add", "70000@veth2"), ("port-add", "2@veth2", "x@")])
def test_a_word_that_is_wrong_is_refused_before_anything_is_done(
    served: ControlSocket, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(served, *words) == 1
    assert "port-add" in capsys.readouterr().err
    assert run(served, "ports", "--json") == 0
    assert [port["port"] for port in json.loads(capsys.readouterr().out)] == [1]


def test_without_a_switch_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ports", "--socket", str(tmp_path / "none")]) == 1
    assert "--control-socket" in capsys.readouterr().err


def test_only_the_owner_may_use_it(served: ControlSocket) -> None:
    assert stat.S_IMODE(served.path.stat().st_mode) == 0o600


def test_many_requests_of_one_client_and_clients_that_say_nothing(served: ControlSocket) -> None:
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(served.path))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(served.path))
        client.sendall(b'{"do": "ports"}\n' * 3 + b'{"do": "ports"}')
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as lines:
            assert len(lines.readlines()) == 4


def test_a_dead_switchs_socket_is_replaced_and_a_live_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "sw.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    first = ControlSocket(path, Ports())
    first.start()
    with pytest.raises(BadInput, match="--control-socket"):
        ControlSocket(path, Ports())
    first.close()


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["directory", "file"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "there"
    make(path)
    with pytest.raises(BadInput, match="--control-socket"):
        ControlSocket(path, Ports())
    assert path.exists()


def test_a_switch_whose_packets_come_from_elsewhere_keeps_its_ports() -> None:
    ports = SwitchPorts(config_of(["--no-p4"]), Engine((), EngineOptions()), None)
    with pytest.raises(PortError, match="elsewhere"):
        ports.add(InterfaceBinding(1, "veth1"))
    with pytest.raises(PortError, match="elsewhere"):
        ports.remove(1)
    assert ports.all() == []


# -- errands --------------------------------------------------------------------------------------------------------


def test_an_errands_error_reaches_who_asked() -> None:
    errands = Errands(lambda: None)
    errands._wake = lambda: threading.Thread(target=errands.do_all).start()

    def fail() -> None:
        raise PortError("no")

    with pytest.raises(PortError, match="no"):
        errands.ask(fail, 10)
    done: list[int] = []
    errands.ask(lambda: done.append(1), 10)
    assert done == [1] and not errands


def test_an_errand_that_is_not_begun_in_time_is_not_done_later() -> None:
    errands = Errands(lambda: None)
    done: list[int] = []
    with pytest.raises(TimeoutError):
        errands.ask(lambda: done.append(1), 0.01)
    errands.do_all()
    assert done == []


# -- the process ----------------------------------------------------------------------------------------------------


def test_a_switch_serves_it_and_takes_it_away_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "sw.sock"
    words = ["--no-p4", "--control-socket", str(path), "--", "--grpc-server-addr", f"unix:{tmp_path}/grpc"]
    process = subprocess.Popen([sys.executable, "-m", "p4switch", *words], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Server listening")
        said = subprocess.run(
            [sys.executable, "-m", "p4switch", "ports", "--json", "--socket", str(path)],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert json.loads(said.stdout) == []
    finally:
        process.terminate()
        assert process.wait(10) == 0
        process.stdout.close()
    assert not os.path.lexists(path)
