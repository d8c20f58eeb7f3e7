"""A middlebox that sends nothing, for replicas whose interface is this system's loopback: forwarding goes round there.

What such a replica sent would come in again, and again, for every other test that uses the loopback.
"""

from __future__ import annotations

from guestlib import Guest, Packet


class Idle:
    """Takes packets, and that is all."""

    def setup(self, guest: Guest) -> None:
        """Nothing to set up."""

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        """Nor to do."""
