"""Shared by the guest library's tests: keys, frames, a state type, an interface made of a socket pair."""

from __future__ import annotations

import socket
import struct

import msgspec
import pytest

from guestlib.blocking import SelectorPoller
from splitmerge.flowkey import UDP, FlowKey


class Count(msgspec.Struct):
    """A flow's state in these tests."""

    packets: int = 0
    log: list[int] = []


def key_of(number: int) -> FlowKey:
    """The ``number``-th flow."""
    return FlowKey.of(UDP, bytes((10, 0, 1, 2)), 1024 + number, bytes((10, 0, 2, 2)), 53)


def frame_of(flow: int, number: int = 0) -> bytes:
    """An Ethernet frame of that flow that carries ``number``."""
    payload = number.to_bytes(8, "big")
    udp = struct.pack("!HHHH", 1024 + flow, 53, 8 + len(payload), 0) + payload
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, UDP, 0) + bytes((10, 0, 1, 2, 10, 0, 2, 2))
    return bytes.fromhex("0200000000fe020000000102") + b"\x08\x00" + ip + udp


def number_in(frame: bytes) -> int:
    """What `frame_of` put in."""
    return int.from_bytes(frame[42:50], "big")


class PairInterface:
    """A `FrameSocket` over one end of a datagram socket pair."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self.drops = 0
        self.send_failures = 0

    def fileno(self) -> int:
        return self._sock.fileno()

    def receive(self, limit: int) -> list[bytes]:
        frames: list[bytes] = []
        while len(frames) < limit:
            try:
                frames.append(self._sock.recv(65536))
            except BlockingIOError:
                break
        return frames

    def send(self, frame: bytes) -> bool:
        try:
            self._sock.send(frame)
        except OSError:
            self.send_failures += 1
            return False
        return True

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def wires():
    """Makes (interface, far end): frames put into the far end arrive at the interface."""
    made: list[socket.socket] = []

    def make() -> tuple[PairInterface, socket.socket]:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (near, far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        far.settimeout(10)
        made.extend((near, far))
        return PairInterface(near), far

    yield make
    for sock in made:
        sock.close()


@pytest.fixture
def poller():
    poller = SelectorPoller()
    yield poller
    poller.close()
