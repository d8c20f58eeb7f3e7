"""`Sized`: a middlebox whose flows have a given amount of state, and which sees by itself whether a move was clean.

Flows of `population` carry a number a round. The next one must be exactly one more: a larger one means lost packets,
the same or a smaller one a repeated or overtaken packet. A new run begins with 1 again. Other packets (those of
`traffic.udp`, TCP) are forwarded, and their flows have state too, so that they can be moved.
"""

from __future__ import annotations

import msgspec

from benchmarks.migration.population import MAGIC, NUMBER, state_bytes
from guestlib import FlowMissing, Guest, Packet
from splitmerge.flowkey import UDP, FlowKey

LOST, AGAIN, NUMBERED = "lost", "repeated_or_overtaken", "numbered"


class Ballast(msgspec.Struct):
    """One flow: the newest number of the newest run, and ballast."""

    run: int = 0
    newest: int = 0
    packets: int = 0
    ballast: bytes = b""


class Sized:
    """Named to a replica as ``benchmarks.migration.middlebox:Sized``."""

    def setup(self, guest: Guest) -> None:
        """Before the snapshot."""
        guest.register_state(Ballast)
        guest.figures.update(dict.fromkeys((LOST, AGAIN, NUMBERED), 0.0))

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        """Check and swallow a numbered packet; forward any other."""
        key = packet.key
        size = None
        if key is not None:
            size = state_bytes(max(key.low_port, key.high_port)) if key.protocol == UDP else None
            self._count(guest, key, packet.frame, size)
        if size is None:
            guest.send(packet.frame)

    def _count(self, guest: Guest, key: FlowKey, frame: bytes, size: int | None) -> None:
        try:
            flow: Ballast = guest.get_flow(key)
        except FlowMissing:
            guest.create_flow(key, Ballast(ballast=bytes(size or 0)))
            flow = guest.get_flow(key)
        flow.packets += 1
        if size is not None:
            self._check(guest, flow, frame)
        guest.put_flow(key)

    def _check(self, guest: Guest, flow: Ballast, frame: bytes) -> None:
        magic, run, number = NUMBER.unpack_from(frame, 42)
        assert magic == MAGIC, "a frame of another sender to a port of this benchmark"
        guest.figures[NUMBERED] += 1
        if run > flow.run:
            flow.run, flow.newest = run, 0
        if run < flow.run or number <= flow.newest:
            guest.figures[AGAIN] += 1
            return
        guest.figures[LOST] += number - flow.newest - 1
        flow.newest = number
