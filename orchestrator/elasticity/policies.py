"""The policies that come along: pure, they recommend and never act.

Sources: §5.1 of the paper for thresholds on a replica's flows, §5.3 (figure 11) for one on the average, §3.3 for the
two ways to scale (by policy, or on request). `Utilisation` and `Target` are what clouds offer: thresholds on the
group's average, and as many replicas as bring the average to a value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from orchestrator.elasticity.observation import (
    Add,
    Figure,
    Keep,
    Merge,
    Observation,
    Policy,
    Rebalance,
    Recommendation,
    Split,
)
from splitmerge.errors import BadInput, shortened

REPLICAS_MOST = 0xFFFF
"""A replica's number has 16 bits."""


@dataclass(frozen=True, slots=True)
class Explicit:
    """Replicas come and go on request only; the configured minimum is kept."""

    def recommend(self, seen: Observation) -> Recommendation:
        """Nothing."""
        return Keep()


@dataclass(frozen=True, slots=True)
class Static:
    """Always so many replicas: the paper's static pair, with assignment round-robin."""

    replicas: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.replicas <= REPLICAS_MOST:
            problem = f"{shortened(str(self.replicas))} replicas"
            raise BadInput("elasticity: static", problem, f"replicas from 1 to {REPLICAS_MOST}")

    def recommend(self, seen: Observation) -> Recommendation:
        """Up or down to the number. One that died is others' to replace: its place is not filled from here."""
        if not seen.replicas:
            return Keep()
        missing = self.replicas - seen.count - seen.absent
        if missing > 0:
            return Add(missing, f"{seen.count} of {self.replicas} replicas")
        surplus = seen.count > self.replicas
        return Merge(seen.idlest(), f"{seen.count} replicas for {self.replicas}") if surplus else Keep()


def _check(name: str, split_above: float, merge_below: float) -> None:
    if not 0 <= merge_below <= split_above:
        problem = f"split above {split_above:g}, merge below {merge_below:g}"
        raise BadInput(f"elasticity: {name}", problem, "0 <= merge_below <= split_above")


@dataclass(frozen=True, slots=True)
class FlowCount:
    """§5.1: split a replica that has more than ``split_above`` flows, merge one that has less than ``merge_below``.

    A merge is recommended only if the survivors, with its flows, stay at or below ``split_above`` on average: or the
    next look would split again.
    """

    split_above: float = 60
    merge_below: float = 40

    def __post_init__(self) -> None:
        _check("flow-count", self.split_above, self.merge_below)

    def recommend(self, seen: Observation) -> Recommendation:
        """Split first: an overload hurts, an idle replica does not."""
        if not seen.replicas:
            return Keep()
        most, least = seen.busiest(), seen.idlest()
        if (flows := seen.replicas[most].flows) > self.split_above:
            return Split(most, f"replica {most} has {flows:.0f} flows, above {self.split_above:g}")
        flows, survivors = seen.replicas[least].flows, seen.count - 1
        if flows < self.merge_below and survivors and seen.total("flows") <= survivors * self.split_above:
            return Merge(least, f"replica {least} has {flows:.0f} flows, below {self.merge_below:g}")
        return Keep()


@dataclass(frozen=True, slots=True)
class AverageFlows:
    """§5.3: split the fullest replica above so many flows on average, merge the emptiest below so many.

    A merge is recommended only if the average afterwards is not above ``split_above``.
    """

    split_above: float = 100
    merge_below: float = 50

    def __post_init__(self) -> None:
        _check("average-flows", self.split_above, self.merge_below)

    def recommend(self, seen: Observation) -> Recommendation:
        """Split first."""
        if not seen.replicas:
            return Keep()
        average, survivors = seen.mean("flows"), seen.count - 1
        if average > self.split_above:
            return Split(seen.busiest(), f"{average:.1f} flows on average, above {self.split_above:g}")
        if average < self.merge_below and survivors and seen.total("flows") <= survivors * self.split_above:
            return Merge(seen.idlest(), f"{average:.1f} flows on average, below {self.merge_below:g}")
        return Keep()


Busy = Literal["cpu", "packets"]


@dataclass(frozen=True, slots=True)
class Utilisation:
    """Add a replica above ``high`` of the capacity on average, merge the least busy one below ``low``.

    A merge is recommended only if the survivors stay at or below ``high``.
    """

    by: Busy = "cpu"
    high: float = 0.75
    low: float = 0.3
    capacity: float = 1.0
    """What one replica can do at most: processors for ``cpu``, packets per second for ``packets``."""

    def __post_init__(self) -> None:
        if not (0 <= self.low <= self.high and self.high > 0 and self.capacity > 0):
            problem = f"low {self.low:g}, high {self.high:g}, capacity {self.capacity:g}"
            raise BadInput("elasticity: utilisation", problem, "0 <= low <= high, capacity more than 0")

    def recommend(self, seen: Observation) -> Recommendation:
        """Add first."""
        if not seen.replicas:
            return Keep()
        used, survivors = seen.mean(self.by) / self.capacity, seen.count - 1
        if used > self.high:
            return Add(1, f"{self.by} {used:.0%} used on average, above {self.high:.0%}")
        if used < self.low and survivors and used * seen.count <= survivors * self.high:
            return Merge(seen.idlest(self.by), f"{self.by} {used:.0%} used on average, below {self.low:.0%}")
        return Keep()


@dataclass(frozen=True, slots=True)
class Target:
    """As many replicas as bring the average to ``target`` of the capacity; several may come at once, one goes."""

    by: Busy = "cpu"
    target: float = 0.6
    tolerance: float = 0.1
    """An average so much (as a part of the target) above or below it changes nothing."""
    capacity: float = 1.0
    """As for `Utilisation`."""

    def __post_init__(self) -> None:
        if not (self.target > 0 and 0 <= self.tolerance < 1 and self.capacity > 0):
            problem = f"target {self.target:g}, tolerance {self.tolerance:g}, capacity {self.capacity:g}"
            raise BadInput("elasticity: target", problem, "target and capacity more than 0, tolerance 0 to 1")

    def recommend(self, seen: Observation) -> Recommendation:
        """The difference between what is and what the target asks for."""
        if not seen.replicas:
            return Keep()
        used = seen.mean(self.by) / self.capacity
        why = f"{self.by} {used:.0%} used on average for {self.target:.0%}"
        wanted = max(1, math.ceil(used * seen.count / self.target))
        if used > self.target * (1 + self.tolerance) and wanted > seen.count:
            return Add(wanted - seen.count, why)
        if used < self.target * (1 - self.tolerance) and wanted < seen.count:
            return Merge(seen.idlest(self.by), why)
        return Keep()


# -- what makes other policies more --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Foresight:
    """Another policy that also looks ahead: by the time a replica takes to start, times ``headroom``, plus ``delay``.

    It grows if the policy would then, so that the replica is there when the load is; and shrinks only if the policy
    would not want it back at once.
    """

    policy: Policy
    headroom: float
    delay: float = 0.0
    """Seconds from a recommendation until it comes through."""

    def recommend(self, seen: Observation) -> Recommendation:
        """What is urgent now wins."""
        now = self.policy.recommend(seen)
        if isinstance(now, Split | Add):
            return now
        seconds = self.headroom * seen.start_up + self.delay
        then = self.policy.recommend(seen.ahead(seconds))
        if isinstance(then, Split):
            return Split(then.replica, f"in {seconds:.1f} s: {then.why}")
        if isinstance(then, Add):
            return Add(then.count, f"in {seconds:.1f} s: {then.why}")
        return now


@dataclass(frozen=True, slots=True)
class Evening:
    """Another policy that, where it would keep the number of replicas, evens the load once it is uneven."""

    policy: Policy
    by: Figure
    above: float
    """The busiest replica's load as a multiple of the average; more than 1."""

    def recommend(self, seen: Observation) -> Recommendation:
        """Number first, evenness second."""
        wanted = self.policy.recommend(seen)
        if not isinstance(wanted, Keep) or seen.count < 2:
            return wanted
        busiest, mean = seen.busiest(self.by), seen.mean(self.by)
        if seen.replicas[busiest].of(self.by) > self.above * mean:
            return Rebalance(self.by, f"replica {busiest} has more than {self.above:g} times the average of {self.by}")
        return Keep()
