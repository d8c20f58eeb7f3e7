"""`CostlyIds`: the intrusion detection system, with so much work a packet that one replica has a known capacity.

The paper's Bro is saturated by 60 clients; our IDS would take more than one machine's clients can send. What a packet
costs more is spent like real work: processor time of the replica, not sleep.
"""

from __future__ import annotations

import time

from guestlib import Guest, Packet
from middleboxes.ids.config import IdsConfig
from middleboxes.ids.middlebox import Ids
from splitmerge.errors import BadInput

COST = "cost_us"
"""Key of the configuration besides the IDS's own: microseconds of CPU a packet."""


class CostlyIds(Ids):
    """Named to a replica as ``experiments.middlebox:CostlyIds``."""

    def setup(self, guest: Guest) -> None:
        """Before the snapshot. :raises BadInput: for a configuration that is wrong."""
        config = dict(guest.config)
        cost = config.pop(COST, 0)
        if not isinstance(cost, int | float) or not 0 <= cost <= 1_000_000:
            raise BadInput(f"middlebox: {COST}", f"{cost!r}", "microseconds, 0 to 1000000")
        self._cost_ns = round(cost * 1000)
        self.prepare(guest, IdsConfig.of(config))

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        """Work, then what the IDS does."""
        until = time.process_time_ns() + self._cost_ns
        while time.process_time_ns() < until:
            pass
        super().on_packet(guest, packet)
