"""Replicas, flows and who has which, without packets: what a lab would do with the load, as far as policies can tell.

Flows move in *units*, as in `orchestrator.scaling.planning`: buckets if the assignment is by hash, else single flows.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from orchestrator.elasticity import Sample
from orchestrator.scaling.planning import Share
from orchestrator.scaling.planning import Unit as Name
from orchestrator.simulator.trace import ENDED
from splitmerge.flowkey import BUCKETS

SLACK = 1 + 1e-9
"""Rates are sums of many: so much above the capacity is not above it."""


class Unit:
    """What moves as one."""

    __slots__ = ("flows", "name", "rate", "replica")

    def __init__(self, name: Name, replica: Replica) -> None:
        self.name = name
        self.replica = replica
        self.flows = 0
        self.rate = 0.0


@dataclass(slots=True, eq=False)
class Replica:
    """One replica; rates in packets per second, times in seconds."""

    number: int
    born: float
    capacity: float
    units: dict[Name, Unit] = field(default_factory=dict)
    flows: int = 0
    rate: float = 0.0
    """Offered to it now."""
    finishing: bool = False
    since: float = 0.0
    served: float = 0.0
    """Packets that it had the capacity for, since it was born."""
    excess: float = 0.0
    """Packets that it had not."""
    overloaded: float = 0.0
    """Seconds in which it was offered more than its capacity."""

    def account(self, now: float) -> None:
        """Add up what was since the last time."""
        seconds = now - self.since
        self.since = now
        if seconds <= 0 or self.rate <= 0:
            return
        if self.rate <= self.capacity * SLACK:
            self.served += self.rate * seconds
            return
        self.served += self.capacity * seconds
        self.excess += (self.rate - self.capacity) * seconds
        self.overloaded += seconds

    def sample(self, now: float) -> Sample:
        """What it would report: packets that it processed, and the processor time that this took."""
        self.account(now)
        return Sample(now, self.flows, int(self.served), self.served / self.capacity)


class World:
    """All replicas and flows. ``choose``: the replica's number for a new flow; None: by hash."""

    def __init__(self, capacity: float, choose: Callable[[dict[int, int]], int] | None) -> None:
        self.capacity = capacity
        self.replicas: dict[int, Replica] = {}
        self.ended: list[Replica] = []
        self.flows: dict[str, list[Unit | float]] = {}
        self._choose = choose
        self._buckets: list[Unit] = []
        self._numbers = 0

    @property
    def by_hash(self) -> bool:
        """Whether flows belong to their buckets' owners."""
        return self._choose is None

    def live(self) -> list[Replica]:
        """Replicas that take flows, by number."""
        return [each for each in self.replicas.values() if not each.finishing]

    def add(self, now: float) -> Replica:
        """One more; the first one gets all buckets."""
        self._numbers += 1
        made = Replica(self._numbers, now, self.capacity, since=now)
        self.replicas[made.number] = made
        if self.by_hash and not self._buckets:
            self._buckets = [Unit(bucket, made) for bucket in range(BUCKETS)]
            made.units = {unit.name: unit for unit in self._buckets}
        return made

    def end(self, replica: Replica, now: float) -> None:
        """It has nothing any more, and goes."""
        assert not replica.units, "a replica that ends has nothing"
        replica.account(now)
        self.ended.append(self.replicas.pop(replica.number))

    def change(self, flow: str, rate: float, now: float) -> None:
        """A flow begins, sends more or less, or ends."""
        found = self.flows.get(flow)
        if found is None:
            if rate == ENDED:
                return
            unit = self._new_unit(flow)
            self.flows[flow] = [unit, rate]
            replica, step = unit.replica, rate
            replica.account(now)
            unit.flows += 1
            replica.flows += 1
        else:
            unit, old = found  # type: ignore[assignment]  # a list of two: faster than a class of its own
            replica = unit.replica
            replica.account(now)
            if rate == ENDED:
                self._gone(flow, unit)
                step = -old  # type: ignore[operator]
            else:
                step = rate - old  # type: ignore[operator]
                found[1] = rate
        unit.rate += step
        replica.rate = replica.rate + step if replica.flows else 0.0

    def _gone(self, flow: str, unit: Unit) -> None:
        del self.flows[flow]
        unit.flows -= 1
        unit.replica.flows -= 1
        if not self.by_hash:
            del unit.replica.units[unit.name]

    def _new_unit(self, flow: str) -> Unit:
        name = flow.encode()
        if self._choose is None:
            return self._buckets[zlib.crc32(name) % BUCKETS]
        replica = self.replicas[self._choose({each.number: each.flows for each in self.live()})]
        unit = replica.units[name] = Unit(name, replica)
        return unit

    # -- moves -------------------------------------------------------------------------------------------------

    def loads(self, replica: Replica) -> dict[Name, int]:
        """Flows in each of its units."""
        return {name: unit.flows for name, unit in replica.units.items()}

    def weighed(self, replica: Replica, measured: float) -> dict[Name, float]:
        """A measured load in each of its units: it goes with their packets, as in `orchestrator.scaling.measuring`."""
        scale = measured / replica.rate if replica.rate else 0.0
        return {name: unit.rate * scale for name, unit in replica.units.items()}

    def move(self, shares: Iterable[Share], now: float) -> int:
        """Do what is planned, as far as it is still there; how many flows have moved."""
        moved = 0
        for share in shares:
            source, target = self.replicas[share.source], self.replicas[share.target]
            for name in share.units:
                unit = source.units.pop(name, None)
                if unit is None:  # the flow has ended meanwhile
                    continue
                moved += unit.flows
                _hand_over(unit, source, target, now)
        return moved


def _hand_over(unit: Unit, source: Replica, target: Replica, now: float) -> None:
    for each in (source, target):
        each.account(now)
    source.flows -= unit.flows
    target.flows += unit.flows
    source.rate = source.rate - unit.rate if source.flows else 0.0
    target.rate += unit.rate
    unit.replica = target
    target.units[unit.name] = unit
