"""`CostlyIds`: the intrusion detection system, with so much work a packet that one replica has a known capacity.

The paper's Bro is saturated by 60 clients; our IDS would take more than one machine's clients can send. What a packet
costs more is spent like real work: processor time of the replica, not sleep.
"""

from __future__ import annotations

import time
from typing import Annotated

import msgspec

from guestlib import Guest, Packet
from middleboxes.ids.config import IdsConfig
from middleboxes.ids.middlebox import Ids


class CostlyConfig(IdsConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The IDS's own configuration, and the cost."""

    cost_us: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 0.0
    """Microseconds of CPU a packet."""


class CostlyIds(Ids):
    """Named to a replica as ``experiments.middlebox:CostlyIds``."""

    def setup(self, guest: Guest) -> None:
        """Before the snapshot. :raises BadInput: for a configuration that is wrong."""
        config = CostlyConfig.of(guest.config)
        self._cost_ns = round(config.cost_us * 1000)
        self.prepare(guest, config)

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        """Work, then what the IDS does."""
        until = time.process_time_ns() + self._cost_ns
        while time.process_time_ns() < until:
            pass
        super().on_packet(guest, packet)
