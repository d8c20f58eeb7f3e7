"""TCP and UDP frames for the middleboxes' tests, and replicas that exchange flows without sockets."""

from __future__ import annotations

import struct
from collections import deque

import pytest

from guestlib import Guest, Packet
from guestlib.instructions import Reply, ToOrchestrator, ToPeer
from middleboxes.ids.packet import ACK, SYN
from splitmerge.flowkey import TCP, UDP
from splitmerge.messages import Commit, Committed, Export, Exported, Release, Released, Scope

CLIENT, SERVER = bytes((10, 0, 1, 2)), bytes((10, 0, 2, 2))
CLIENT6, SERVER6 = bytes.fromhex("fd000001" + "00" * 11 + "02"), bytes.fromhex("fd000002" + "00" * 11 + "02")
_MACS = bytes.fromhex("0200000000fe020000000102")


def _ip(protocol: int, payload: bytes, *, back: bool, version: int, fragment: int = 0) -> bytes:
    if version == 4:
        src, dst = (SERVER, CLIENT) if back else (CLIENT, SERVER)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, fragment, 64, protocol, 0) + src + dst
        return _MACS + b"\x08\x00" + head + payload
    src, dst = (SERVER6, CLIENT6) if back else (CLIENT6, SERVER6)
    return _MACS + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + src + dst + payload


class Talk:
    """One TCP connection's frames, from a client's and a server's point of view."""

    def __init__(
        self,
        port: int = 40000,
        *,
        version: int = 4,
        isn: int = 0xFFFFFF00,
        server_isn: int = 5000,
        server_port: int = 80,
    ) -> None:
        self.port, self.version, self.isn, self.server_isn = port, version, isn, server_isn
        self.server_port = server_port

    def frame(self, flags: int, seq: int, ack: int, payload: bytes = b"", *, back: bool = False) -> bytes:
        """Any segment."""
        ports = (self.server_port, self.port) if back else (self.port, self.server_port)
        tcp = struct.pack("!HHIIBBHHH", *ports, seq % 2**32, ack % 2**32, 5 << 4, flags, 65535, 0, 0)
        return _ip(TCP, tcp + payload, back=back, version=self.version)

    def handshake(self) -> list[bytes]:
        return [
            self.frame(SYN, self.isn, 0),
            self.frame(SYN | ACK, self.server_isn, self.isn + 1, back=True),
            self.frame(ACK, self.isn + 1, self.server_isn + 1),
        ]

    def data(self, offset: int, payload: bytes, flags: int = ACK) -> bytes:
        """Bytes of the client's stream."""
        return self.frame(flags, self.isn + 1 + offset, self.server_isn + 1, payload)

    def reply(self, offset: int, payload: bytes, acked: int, flags: int = ACK) -> bytes:
        """Bytes of the server's stream; ``acked`` of the client's are acknowledged."""
        return self.frame(flags, self.server_isn + 1 + offset, self.isn + 1 + acked, payload, back=True)


def udp_frame(port: int = 1024, payload: bytes = b"x" * 18, *, back: bool = False, version: int = 4) -> bytes:
    ports = (53, port) if back else (port, 53)
    return _ip(UDP, struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload, back=back, version=version)


def ip_frame(protocol: int, payload: bytes, *, fragment: int = 0) -> bytes:
    return _ip(protocol, payload, back=False, version=4, fragment=fragment)


class Replica:
    """A middlebox on a real guest library, without sockets."""

    def __init__(self, middlebox, config=None, replica: int = 1) -> None:
        self.middlebox = middlebox
        self.guest = Guest(config or {})
        middlebox.setup(self.guest)
        self.guest.begin(replica, f"incarnation {replica}")
        self.guest.now = 1000.0

    def take(self, *frames: bytes) -> list[bytes]:
        """Give frames to the middlebox; the frames that left it."""
        self.guest.sent.clear()
        for frame in frames:
            self.middlebox.on_packet(self.guest, Packet.of(frame))
        self.guest.table.validate_state()
        return list(self.guest.sent)

    def wait(self, seconds: float) -> None:
        """Let time pass, and timers fire."""
        end = self.guest.now + seconds
        while (due := self.guest.timers.next_due()) is not None and due <= end:
            self.guest.fire_timers(max(due, self.guest.now))
        self.guest.fire_timers(end)

    @property
    def statistics(self):
        value = self.guest.get_shared("ids.statistics")
        self.guest.put_shared("ids.statistics")
        return value


def move(source: Replica, target: Replica, keys, epoch: int) -> None:
    """The flows' state goes from one to the other, by the messages that the orchestrator and the replicas exchange."""
    scope = Scope(keys=tuple(map(bytes, keys)))
    now = source.guest.now
    to_source = deque(
        [Export(epoch=epoch, scope=scope, target=target.guest.replica, address="unix:/peer", deadline=1.0)]
    )
    heard: list[object] = []
    while to_source:
        for step in source.guest.handle(to_source.popleft(), now) + source.guest.poll(now):
            if isinstance(step, ToPeer):
                answers = target.guest.handle(step.message, now)
                to_source.extend(answer.message for answer in answers if isinstance(answer, Reply))
            elif isinstance(step, ToOrchestrator | Reply):
                heard.append(step.message)
    assert [type(message) for message in heard] == [Exported], heard
    committed = target.guest.handle(Commit(epoch=epoch, scope=scope, hold=False), now)
    assert any(isinstance(getattr(step, "message", None), Committed) for step in committed)
    released = source.guest.handle(Release(epoch=epoch, scope=scope), now)
    assert any(isinstance(getattr(step, "message", None), Released) for step in released)


@pytest.fixture(scope="session")
def talk() -> type[Talk]:
    return Talk


@pytest.fixture(scope="session")
def replica_of() -> type[Replica]:
    return Replica


@pytest.fixture(scope="session")
def move_flows():
    return move


@pytest.fixture(scope="session")
def udp():
    return udp_frame


@pytest.fixture(scope="session")
def ip():
    return ip_frame
