"""When to split and merge: pure policies that recommend and never act.

A policy sees one `Observation` after another and answers with what it would do; `Damper` decides which of these
recommendations come through (limits, several in a row, a pause after acting). The service acts. Sources: §5.1 of the
paper for the thresholds, §3.3 for the two ways to scale (by policy, or on request).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from splitmerge.errors import BadInput


@dataclass(frozen=True, slots=True)
class Observation:
    """Flows held by each living replica."""

    flows: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing to do."""


@dataclass(frozen=True, slots=True)
class Split:
    """Add a replica and give it half of what this one has."""

    replica: int
    flows: int


@dataclass(frozen=True, slots=True)
class Merge:
    """Remove this replica; the others take what it has."""

    replica: int
    flows: int


Recommendation = Keep | Split | Merge


class Policy(Protocol):
    """What would be good now, judged by this observation alone."""

    def recommend(self, seen: Observation) -> Recommendation:
        """One recommendation at most; the most urgent."""


@dataclass(frozen=True, slots=True)
class FlowCount:
    """§5.1: split a replica that has more than ``split_above`` flows, merge one that has less than ``merge_below``.

    A merge is recommended only if the survivors, with its flows, stay at or below ``split_above`` on average: or the
    next look would split again.
    """

    split_above: int = 60
    merge_below: int = 40

    def __post_init__(self) -> None:
        if not 0 <= self.merge_below <= self.split_above:
            problem = f"split above {self.split_above}, merge below {self.merge_below}"
            raise BadInput("elasticity", problem, "0 <= merge_below <= split_above")

    def recommend(self, seen: Observation) -> Recommendation:
        """Split first: an overload hurts, an idle replica does not."""
        if not seen.flows:
            return Keep()
        most = max(seen.flows, key=lambda replica: (seen.flows[replica], -replica))
        if seen.flows[most] > self.split_above:
            return Split(most, seen.flows[most])
        least = min(seen.flows, key=lambda replica: (seen.flows[replica], -replica))
        survivors = len(seen.flows) - 1
        fits = sum(seen.flows.values()) <= survivors * self.split_above
        if seen.flows[least] < self.merge_below and survivors and fits:
            return Merge(least, seen.flows[least])
        return Keep()


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a policy may bring about."""

    min_replicas: int = 1
    max_replicas: int = 8
    consecutive: int = 3
    """A recommendation comes through when it was made this many times in a row (for whatever replica)."""
    cool_down: float = 5.0
    """Seconds after an action in which none comes through."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_replicas <= self.max_replicas:
            problem = f"{self.min_replicas} to {self.max_replicas} replicas"
            raise BadInput("elasticity", problem, "1 <= min_replicas <= max_replicas")
        if self.consecutive < 1 or self.cool_down < 0:
            problem = f"consecutive {self.consecutive}, cool_down {self.cool_down}"
            raise BadInput("elasticity", problem, "consecutive at least 1, cool_down at least 0 seconds")


class Damper:
    """Lets a policy's recommendation through only if it lasts, is within limits, and nothing was done just before."""

    def __init__(self, policy: Policy, limits: Limits) -> None:
        self._policy = policy
        self._limits = limits
        self._kind: type[Recommendation] = Keep
        self._count = 0
        self._quiet_until = float("-inf")

    def recommendations(self, seen: Observation, now: float) -> Recommendation:
        """What to do now. ``now`` in seconds."""
        wanted = self._policy.recommend(seen)
        if not self._within_limits(wanted, len(seen.flows)):
            wanted = Keep()
        self._count = self._count + 1 if type(wanted) is self._kind else 1
        self._kind = type(wanted)
        if self._count < self._limits.consecutive or now < self._quiet_until:
            return Keep()
        return wanted

    def acted(self, now: float) -> None:
        """Something was done (by this policy or on request): let the figures settle."""
        self._kind, self._count = Keep, 0
        self._quiet_until = now + self._limits.cool_down

    def _within_limits(self, wanted: Recommendation, replicas: int) -> bool:
        match wanted:
            case Split():
                return replicas < self._limits.max_replicas
            case Merge():
                return replicas > self._limits.min_replicas
            case _:
                return True
