"""The smallest useful middlebox: forwards every packet, and counts per flow.

Named to a replica as ``middleboxes.forward:Forward``. Packets without a flow key (ARP and the like) only pass.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from guestlib import FlowMigrated, FlowMissing, Guest, Packet
from splitmerge.flowkey import FlowKey

IDLE = "forward.idle"
"""The timer that forgets a flow after silence."""


class ForwardConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator may set."""

    idle: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 60.0
    """Seconds without a packet after which a flow is forgotten."""


class FlowCount(msgspec.Struct):
    """One flow's packets and bytes (of whole frames)."""

    packets: int = 0
    bytes: int = 0


class Forward:
    """Forwards and counts. A packet of a flow that lives elsewhere is dropped; the figure ``migrated`` counts it."""

    def setup(self, guest: Guest) -> None:
        """Before the snapshot. :raises BadInput: for a configuration that is wrong."""
        self.config = guest.configure(ForwardConfig)
        guest.register_state(FlowCount)
        guest.on_timer(IDLE, _forget)
        guest.figures["migrated"] = 0

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        """Count the packet in its flow's state, and send it."""
        key = packet.key
        if key is None:
            guest.send(packet.frame)
            return
        try:
            flow = self._flow(guest, key)
        except FlowMigrated:
            guest.figures["migrated"] += 1
            return
        flow.packets += 1
        flow.bytes += len(packet.frame)
        guest.flow_timer(key, self.config.idle, IDLE)
        guest.send(packet.frame)
        guest.put_flow(key)

    def _flow(self, guest: Guest, key: FlowKey) -> FlowCount:
        """The flow's state, referenced; a new one if there is none. :raises FlowMigrated:"""
        try:
            flow: FlowCount = guest.get_flow(key)
        except FlowMissing:
            guest.create_flow(key, FlowCount())
            flow = guest.get_flow(key)
        return flow


def _forget(guest: Guest, key: FlowKey) -> None:
    guest.delete_flow(key)
