"""What a policy sees and what it may recommend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Figure = Literal["flows", "packets", "cpu"]
FIGURES: tuple[Figure, ...] = ("flows", "packets", "cpu")


@dataclass(frozen=True, slots=True)
class Load:
    """One replica's load, averaged over the window of the `Meter`."""

    flows: float = 0.0
    """Flows held now (not averaged)."""
    packets: float = 0.0
    """Packets per second."""
    cpu: float = 0.0
    """Processors used: 0.5 is half of one."""

    def of(self, figure: Figure) -> float:
        """The figure of this name."""
        return float(getattr(self, figure))


@dataclass(frozen=True, slots=True)
class Observation:
    """All living replicas at one moment. Replicas that are starting or ending are not among them."""

    replicas: Mapping[int, Load]
    """By number."""
    start_up: float = 0.0
    """Seconds that a replica takes from being asked for until it takes flows, as last seen; 0 if none was."""
    trend: Load = field(default_factory=Load)
    """By how much all replicas' load together grows each second."""
    absent: int = 0
    """Replicas that died and in whose place none comes, since it was given up or is switched off. Who keeps a number of
    replicas counts them as if they were there."""

    @property
    def count(self) -> int:
        """Replicas that live."""
        return len(self.replicas)

    def total(self, figure: Figure) -> float:
        """All replicas' load together."""
        return sum(load.of(figure) for load in self.replicas.values())

    def mean(self, figure: Figure) -> float:
        """The load of a replica on average; 0 if none lives."""
        return self.total(figure) / self.count if self.replicas else 0.0

    def busiest(self, figure: Figure = "flows") -> int:
        """The replica with the highest load; of equals the first. At least one must live."""
        return max(self.replicas, key=lambda replica: (self.replicas[replica].of(figure), -replica))

    def idlest(self, figure: Figure = "flows") -> int:
        """The replica with the lowest load; of equals the last. At least one must live."""
        return min(self.replicas, key=lambda replica: (self.replicas[replica].of(figure), -replica))

    def ahead(self, seconds: float) -> Observation:
        """What will be seen if the trend goes on for so long and what it brings spreads evenly."""
        share = seconds / self.count if self.replicas else 0.0
        later = {
            replica: Load(*(max(0.0, load.of(name) + self.trend.of(name) * share) for name in FIGURES))
            for replica, load in self.replicas.items()
        }
        return Observation(later, self.start_up, self.trend, self.absent)


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing to do."""


@dataclass(frozen=True, slots=True)
class Split:
    """Add a replica and give it half of what this one has."""

    replica: int
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Add:
    """Add replicas; each gets its share from all the others."""

    count: int = 1
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Merge:
    """Remove this replica; the others take what it has."""

    replica: int
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Rebalance:
    """Even the load over the replicas there are."""

    by: Figure = "flows"
    why: str = field(default="", compare=False)


Recommendation = Keep | Split | Add | Merge | Rebalance
Change = Split | Add | Merge | Rebalance


class Policy(Protocol):
    """What would be good now, judged by this observation alone.

    A class of one's own needs this method and nothing else; as a dataclass, its fields are its settings.
    """

    def recommend(self, seen: Observation) -> Recommendation:
        """One recommendation at most; the most urgent."""
