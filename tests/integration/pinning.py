"""A middlebox for the tests: forwards, and keeps the flow that a file names in use for as long as it does."""

from __future__ import annotations

from pathlib import Path

import msgspec

from guestlib import FlowMissing, Guest, Packet
from splitmerge.flowkey import FlowKey

PIN = "pin"
"""The file, in the configured directory; empty or missing: no flow is in use for longer than its packet."""
PINNED = "pinned"
"""The figure that says whether this replica has that flow in use."""


class Count(msgspec.Struct):
    """Partitioned: a flow's packets."""

    packets: int = 0


class Pinning:
    """Each packet is a transaction of its flow, inside the long one that the first packet of the pinned flow begins."""

    def setup(self, guest: Guest) -> None:
        self._pin = Path(guest.config["directory"], PIN)
        self._held: FlowKey | None = None
        guest.register_state(Count)
        guest.figures[PINNED] = 0

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        if packet.key is not None:
            self._count(guest, packet.key)
            self._hold(guest, packet.key)
        guest.send(packet.frame)

    def _count(self, guest: Guest, key: FlowKey) -> None:
        try:
            flow = guest.get_flow(key)
        except FlowMissing:
            guest.create_flow(key, Count())
            flow = guest.get_flow(key)
        flow.packets += 1
        guest.put_flow(key)

    def _hold(self, guest: Guest, key: FlowKey) -> None:
        try:
            wanted = self._pin.read_text()
        except FileNotFoundError:
            wanted = ""
        if self._held is None and str(key) == wanted:
            guest.get_flow(key)
            self._held = key
        elif self._held is not None and str(self._held) != wanted:
            guest.put_flow(self._held)
            self._held = None
        guest.figures[PINNED] = int(self._held is not None)
