"""Ports over nanomsg, as PTF's nn platform speaks it."""

from __future__ import annotations

import select
import struct
from collections.abc import Iterator
from pathlib import Path

import pynng
import pytest

from p4switch.errors import PortError
from p4switch.ports import NanomsgPorts, Received, Sent

ADD, REMOVE, STATUS, IN, OUT, REQUEST, REPLY = range(7)


def message(kind: int, port: int, more: int, body: bytes = b"") -> bytes:
    return struct.pack("=iii", kind, port, more) + body


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/packets.ipc"


@pytest.fixture
def ports(address: str) -> Iterator[NanomsgPorts]:
    opened = NanomsgPorts(address)
    yield opened
    opened.close()


@pytest.fixture
def wire(address: str, ports: NanomsgPorts) -> Iterator[pynng.Pair0]:
    with pynng.Pair0(dial=address, send_timeout=5000, recv_timeout=5000) as socket:
        yield socket


def received(ports: NanomsgPorts, wanted: int = 1) -> list[Received]:
    """What arrives until ``wanted`` frames are there, or nothing comes for a while."""
    frames: list[Received] = []
    while len(frames) < wanted and select.select([ports], [], [], 5.0)[0]:
        frames += ports.receive(64)
    return frames


def test_frames_in_and_out(ports: NanomsgPorts, wire: pynng.Pair0) -> None:
    wire.send(message(ADD, 3, 0))
    wire.send(message(IN, 3, 5, b"hello"))
    assert received(ports) == [Received(3, b"hello")]
    assert list(ports.ports()) == [3]
    assert ports.send(500, b"world") is Sent.YES
    assert wire.recv() == message(OUT, 500, 5, b"world")
    wire.send(message(REMOVE, 3, 0))
    wire.send(message(IN, 4, 1, b"x"))
    assert received(ports) == [Received(4, b"x")]
    assert 3 not in ports.ports()


def test_requests_are_answered(ports: NanomsgPorts, wire: pynng.Pair0) -> None:
    wire.send(message(IN, 1, 1, b"x"))
    wire.send(message(REQUEST, 1, 0))
    wire.send(message(REQUEST, 1, 1))
    wire.send(message(IN, 1, 1, b"y"))
    assert received(ports, 2) == [Received(1, b"x"), Received(1, b"y")]
    assert wire.recv() == message(REPLY, 1, 0, struct.pack("=i", 1))
    assert wire.recv() == message(REPLY, 1, 1, struct.pack("=iii", 0, 1, 0))


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"short",
        message(IN, 1, 9, b"x"),
        message(IN, -1, 1, b"x"),
        message(77, 1, 0),
        message(OUT, 1, 0),
        message(REPLY, 1, 0),
    ],
)
def test_malformed_messages_are_counted(ports: NanomsgPorts, wire: pynng.Pair0, bad: bytes) -> None:
    wire.send(bad)
    wire.send(message(IN, 1, 1, b"x"))
    assert received(ports) == [Received(1, b"x")]
    assert ports.drops() == {"malformed_message": 1}


def test_without_a_peer_frames_wait_and_are_then_refused(ports: NanomsgPorts) -> None:
    results = {ports.send(1, b"x") for _ in range(20_000)}
    assert Sent.LATER in results


def test_address_that_cannot_be_listened_on() -> None:
    with pytest.raises(PortError) as caught:
        NanomsgPorts("ipc:///nowhere/at/all")
    assert "--packet-in ipc:///nowhere/at/all" in str(caught.value)
