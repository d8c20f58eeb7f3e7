"""An orchestrator's end of the control network, and a counting middlebox, for the tests of the shells."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from guestlib import PULL, SYNCH, FlowMissing, Guest, Packet, ReplicaConfig
from splitmerge import wire
from splitmerge.messages import Hello, Message, Refused, Stats, Welcome
from tests.guestlib.conftest import Count, number_in

M = TypeVar("M", bound=Message)
PULL_FRAME = b"pull" + bytes(60)
"""A frame that makes `Counter` pull."""
SYNCH_FRAME = b"synch" + bytes(59)
"""One that makes it add under SYNCH."""


class Counter:
    """Counts per flow and in all, logs the numbers it sees, and forwards."""

    def __init__(self) -> None:
        self.pulled: list[object] = []
        self.finished = 0

    def setup(self, guest: Guest) -> None:
        guest.register_state(Count)
        guest.on_timer("idle", lambda guest, key: guest.delete_flow(key))
        guest.create_shared("total", Count(), add)
        guest.create_shared("value", Count())

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        if packet.frame == PULL_FRAME:
            self._pull(guest)
            return
        if packet.frame == SYNCH_FRAME:
            with guest.shared("value", SYNCH) as value:
                value.packets += 1
            return
        if packet.key is None:
            raise ValueError("no flow key")
        self._count(guest, packet)
        guest.get_shared("total").packets += 1
        guest.put_shared("total")
        guest.send(packet.frame)

    def on_finish(self, guest: Guest) -> None:
        self.finished += 1

    def _count(self, guest: Guest, packet: Packet) -> None:
        assert packet.key is not None
        try:
            state = guest.get_flow(packet.key)
        except FlowMissing:
            guest.create_flow(packet.key, Count())
            state = guest.get_flow(packet.key)
        state.packets += 1
        state.log.append(number_in(packet.frame))
        guest.flow_timer(packet.key, guest.config.get("idle", 30.0), "idle")
        guest.put_flow(packet.key)

    def _pull(self, guest: Guest) -> None:
        try:
            self.pulled.append(guest.get_shared("total", PULL).packets)
            guest.put_shared("total")
        except TimeoutError as error:
            self.pulled.append(str(error))


def add(elements: Sequence[Count]) -> Count:
    return Count(sum(element.packets for element in elements))


class Peer:
    """One accepted or opened connection, blocking, with a deadline on every wait."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(10)
        self._decoder = wire.Decoder()

    def say(self, message: Message) -> None:
        self.sock.sendall(wire.encode(message))

    def hear(self, kind: type[M]) -> M:
        """The next message of this kind; Stats on the way are skipped, anything else is an error."""
        while True:
            message = self.next()
            if isinstance(message, kind):
                return message
            assert isinstance(message, Stats), message

    def next(self) -> Message | None:
        """The next message; None at the end of the stream."""
        while (message := self._decoder.next_message()) is None:
            data = self.sock.recv(65536)
            if not data:
                return None
            self._decoder.receive_data(data)
        return message

    def close(self) -> None:
        self.sock.close()


class Desk:
    """Where replicas connect: the orchestrator's listening socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.settimeout(10)
        self._listener.bind(str(path))
        self._listener.listen()
        self._peers: list[Peer] = []

    def accept(self, answer: Welcome | Refused | None = None) -> tuple[Peer, Hello]:
        sock, _ = self._listener.accept()
        peer = Peer(sock)
        self._peers.append(peer)
        hello = peer.hear(Hello)
        peer.say(answer or Welcome(epoch=3))
        return peer, hello

    def close(self) -> None:
        self._listener.close()
        for peer in self._peers:
            peer.close()


def config_for(directory: Path, replica: int = 1, **fields: object) -> ReplicaConfig:
    """A replica's configuration, its sockets in this directory."""
    return ReplicaConfig(
        replica=replica,
        interface="unused",
        control=f"unix:{directory}/o",
        peer=str(fields.pop("peer", f"unix:{directory}/p{replica}")),
        incarnation=f"i{replica}",
        **fields,
    )
