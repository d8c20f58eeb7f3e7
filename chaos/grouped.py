"""The IDS with what moves by key must keep together: UDP flows in groups, and each with a second key."""

from __future__ import annotations

from contextlib import suppress

from guestlib import FlowExists, FlowMigrated, FlowMissing, Guest, Packet
from middleboxes.ids import Ids
from splitmerge.flowkey import UDP, FlowKey

GROUPS = 4
"""Groups that there are; a flow's is told by its client's port."""


def group_of(key: FlowKey) -> int:
    """Number of the group of a flow between a client and a server whose address is the higher."""
    return key.low_port % GROUPS


def second_key(key: FlowKey) -> FlowKey:
    """Another one of the same flow: to the server's next port, at which nobody sends."""
    return FlowKey.of(UDP, key.low_addr, key.low_port, key.high_addr, key.high_port + 1 & 0xFFFF)


class Grouped(Ids):
    """As `Ids`; a UDP flow is put into its group, and gets its second key, with its first packet."""

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        """Forward the packet and learn from it."""
        super().on_packet(guest, packet)
        key = packet.key
        if key is None or key[-1] != UDP:
            return
        # A second key that another replica has not let go of yet is done without.
        with suppress(FlowMissing, FlowMigrated, FlowExists):
            with guest.flow(key) as flow:
                new = flow.packets == 1
            if new:
                guest.group(key, f"clients {group_of(key)}")
                guest.add_alias(key, second_key(key))
