"""The compute-bound middlebox of §4.2: every packet costs a configured amount of CPU, then leaves unchanged.

Named to a replica as ``middleboxes.compute:Compute``. Two kinds of work: ``busy`` spins for so many microseconds of
this process's CPU, whatever else the machine does; ``hash`` does so many rounds of SHA-256 over the packet, a fixed
amount of work whose time depends on the machine. A packet costs the same wherever its flow is, so a replica's load is
the rate of its packets.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import msgspec

from guestlib import FlowMissing, Guest, Packet
from splitmerge.flowkey import FlowKey

IDLE = "compute.idle"
"""The timer that forgets a flow after silence."""
TOTALS = "compute.totals"
"""Key of the coherent totals."""


class ComputeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator may set."""

    work: Literal["busy", "hash"] = "busy"
    """What a packet costs: CPU time, or rounds of hashing."""
    cost_us: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 50.0
    """Microseconds of CPU a packet, for ``busy``."""
    rounds: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 100
    """SHA-256 rounds a packet, for ``hash``."""
    idle: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 60.0
    """Seconds without a packet after which a flow is forgotten."""


class Worked(msgspec.Struct):
    """One flow's packets and the CPU that they cost, in nanoseconds; with ``hash`` also the digest so far."""

    packets: int = 0
    cpu_ns: int = 0
    digest: bytes = b""


class Totals(msgspec.Struct):
    """Over all flows of a replica."""

    packets: int = 0
    cpu_ns: int = 0


def combine(parts: Sequence[Totals]) -> Totals:
    """The combiner: sums."""
    return Totals(sum(part.packets for part in parts), sum(part.cpu_ns for part in parts))


class Compute:
    """Works, counts and forwards. ``cpu_clock`` gives nanoseconds of CPU that this process has used."""

    def __init__(self, cpu_clock: Callable[[], int] = time.process_time_ns) -> None:
        self._cpu_clock = cpu_clock

    def setup(self, guest: Guest) -> None:
        """Before the snapshot. :raises BadInput: for a configuration that is wrong."""
        self.config = guest.configure(ComputeConfig)
        self._work = self._spin if self.config.work == "busy" else self._hash
        guest.register_state(Worked, Totals)
        guest.on_timer(IDLE, _forget)
        guest.create_shared(TOTALS, Totals(), combine)

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        """Do the work for one packet, and send it. Packets without a flow key (ARP and the like) only pass."""
        key = packet.key
        if key is None:
            guest.send(packet.frame)
            return
        try:
            worked: Worked = guest.get_flow(key)
        except FlowMissing:
            guest.create_flow(key, Worked())
            worked = guest.get_flow(key)
        try:
            self._account(guest, worked, packet.frame)
        finally:
            guest.put_flow(key)
        guest.flow_timer(key, self.config.idle, IDLE)
        guest.send(packet.frame)

    def _account(self, guest: Guest, worked: Worked, frame: bytes) -> None:
        began = self._cpu_clock()
        self._work(worked, frame)
        spent = self._cpu_clock() - began
        worked.packets += 1
        worked.cpu_ns += spent
        totals: Totals = guest.get_shared(TOTALS)
        totals.packets += 1
        totals.cpu_ns += spent
        guest.put_shared(TOTALS)
        guest.figures.update(worked=totals.packets, cpu_us_per_packet=totals.cpu_ns / 1000 / totals.packets)

    def _spin(self, worked: Worked, frame: bytes) -> None:
        # CPU time, not wall time: a process that has to wait for a core still does all of its work, as real work would.
        until = self._cpu_clock() + round(self.config.cost_us * 1000)
        while self._cpu_clock() < until:
            pass

    def _hash(self, worked: Worked, frame: bytes) -> None:
        digest = worked.digest + frame
        for _ in range(self.config.rounds):
            digest = hashlib.sha256(digest).digest()
        worked.digest = digest if self.config.rounds else b""


def _forget(guest: Guest, key: FlowKey) -> None:
    guest.delete_flow(key)
