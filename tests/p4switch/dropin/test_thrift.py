"""``--thrift-port``: what wrappers wait for."""

from __future__ import annotations

import logging
import socket

import pytest

from p4switch.cli import config_of
from p4switch.errors import PortError
from p4switch.thrift import ThriftPort
from tests.ports import free_port

DEADLINE = 5.0


def test_who_connects_is_let_in_and_who_speaks_is_sent_away(caplog: pytest.LogCaptureFixture) -> None:
    port = ThriftPort(free_port())
    with socket.socket() as early:
        assert early.connect_ex(("localhost", port.port)) != 0, "not before the switch is ready"
    port.start()
    with caplog.at_level(logging.WARNING, "p4switch"):
        socket.create_connection(("localhost", port.port), DEADLINE).close()
        for _ in range(2):
            with socket.create_connection(("localhost", port.port), DEADLINE) as client:
                client.sendall(b"\x80")
                assert client.recv(1) == b""
    assert [record.getMessage() for record in caplog.records] == [
        f"a Thrift client on port {port.port} was sent away: tables are written over P4Runtime"
    ]
    port.close()
    with socket.socket() as late:
        assert late.connect_ex(("localhost", port.port)) != 0


def test_a_taken_port_is_an_error_that_names_it() -> None:
    first = ThriftPort(free_port())
    first.start()
    with pytest.raises(PortError, match=f"--thrift-port {first.port}"):
        ThriftPort(first.port)
    first.close()
    first.close()


def test_only_on_request() -> None:
    assert config_of(["--no-p4"]).thrift_port is None
    assert config_of(["--no-p4", "--thrift-port", "9090"]).thrift_port == 9090
