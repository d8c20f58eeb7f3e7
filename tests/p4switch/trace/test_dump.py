"""``--dump-packet-data``."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest

from p4switch.cli import config_of
from p4switch.ports import DumpPort, Received, Sent


class Port:
    """Gives one frame and takes what it is told to take."""

    answer = Sent.YES
    closed = False

    def fileno(self) -> int:
        return 3

    def ports(self) -> Mapping[int, str]:
        return {1: "one"}

    def receive(self, limit: int) -> list[Received]:
        return [Received(1, b"\1\2\3\4")]

    def send(self, port: int, frame: bytes) -> Sent:
        return self.answer

    def drops(self) -> Mapping[str, int]:
        return {"lost": 2}

    def close(self) -> None:
        self.closed = True


def test_the_beginning_of_what_passes_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "p4switch.packet")
    inner = Port()
    port = DumpPort(inner, 2)
    assert port.receive(9) == [Received(1, b"\1\2\3\4")]
    assert port.send(7, b"\5") is Sent.YES
    inner.answer = Sent.LATER
    assert port.send(7, b"\6") is Sent.LATER
    assert caplog.messages == [
        "Received packet of length 4 on port 1: 0102",
        "Sent packet of length 1 on port 7: 05",
    ]


def test_everything_else_is_the_ports_own() -> None:
    inner = Port()
    port = DumpPort(inner, 2)
    port.close()
    assert (port.fileno(), port.ports(), port.drops(), inner.closed) == (3, {1: "one"}, {"lost": 2}, True)


def test_flags() -> None:
    config = config_of(["--dump-packet-data", "10240", "--no-p4", "--", "--priority-queues", "8"])
    assert (config.dump, config.priority_queues) == (10240, 8)
    assert config_of(["--no-p4"]).dump == 0
