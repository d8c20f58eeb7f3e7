"""Which recommendations come through: limits, several in a row, a pause after acting."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.elasticity.observation import (
    FIGURES,
    Add,
    Keep,
    Merge,
    Observation,
    Policy,
    Rebalance,
    Recommendation,
    Split,
)
from orchestrator.elasticity.policies import REPLICAS_MOST
from splitmerge.errors import BadInput, shortened


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a policy may bring about."""

    min_replicas: int = 1
    max_replicas: int = 8
    consecutive: int = 3
    """A recommendation comes through when its kind was made this many times in a row (for whatever replica)."""
    cool_down: float = 5.0
    """Seconds after an action in which none comes through."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_replicas <= self.max_replicas <= REPLICAS_MOST:
            problem = shortened(f"{self.min_replicas} to {self.max_replicas} replicas")
            raise BadInput("elasticity", problem, f"1 <= min_replicas <= max_replicas <= {REPLICAS_MOST}")
        if self.consecutive < 1 or not 0 <= self.cool_down < float("inf"):
            problem = f"consecutive {self.consecutive}, cool_down {self.cool_down}"
            raise BadInput("elasticity", problem, "consecutive at least 1, cool_down at least 0 seconds")


class Damper:
    """Lets a policy's recommendation through only if it lasts, is within limits, and nothing was done just before.

    Fewer replicas than the minimum are made up for without waiting for a row of recommendations; not those that died,
    which are others' to replace (`Observation.absent`).
    """

    def __init__(self, policy: Policy, limits: Limits) -> None:
        self._policy = policy
        self._limits = limits
        self._kind: type[Recommendation] = Keep
        self._count = 0
        self._quiet_until = float("-inf")
        self._beyond_row = 0
        self.beyond = 0
        """Replicas more than the maximum that the policy wants, as of the newest look; 0 before it has wanted too many
        for as many looks in a row as a recommendation needs."""

    def recommendations(self, seen: Observation, now: float) -> Recommendation:
        """What to do now. ``now`` in seconds.

        :raises BadInput: if the policy fails, or recommends what cannot be; then as if it had not been asked.
        """
        return self.made_up(seen, now) or self.comes_through(self.asked(seen), seen, now)

    def made_up(self, seen: Observation, now: float) -> Recommendation | None:
        """What to do whatever the policy says, since there are too few; None: it is to be asked."""
        missing = self._limits.min_replicas - seen.count - seen.absent
        if not seen.replicas or missing <= 0:
            return None
        self.beyond = 0
        quiet = now < self._quiet_until
        return Keep() if quiet else Add(missing, f"{seen.count} of at least {self._limits.min_replicas} replicas")

    def asked(self, seen: Observation) -> Recommendation:
        """What the policy says; changes nothing here, so that any thread may ask. :raises BadInput: as above."""
        return _ask(self._policy, seen)

    def comes_through(self, wanted: Recommendation, seen: Observation, now: float) -> Recommendation:
        """What becomes of what the policy said."""
        beyond = self._beyond(wanted, seen.count)
        self._beyond_row = self._beyond_row + 1 if beyond else 0
        self.beyond = beyond if self._beyond_row >= self._limits.consecutive else 0
        wanted = self._within_limits(wanted, seen.count)
        kind = _kind(wanted)
        self._count = self._count + 1 if kind is self._kind else 1
        self._kind = kind
        if self._count < self._limits.consecutive or now < self._quiet_until:
            return Keep()
        return wanted

    def acted(self, now: float) -> None:
        """Something was done (by this policy or on request): let the figures settle."""
        self._kind, self._count = Keep, 0
        self._quiet_until = now + self._limits.cool_down

    def _beyond(self, wanted: Recommendation, replicas: int) -> int:
        """How many of the replicas wanted are more than the maximum."""
        count = wanted.count if isinstance(wanted, Add) else int(isinstance(wanted, Split))
        return max(0, count - max(0, self._limits.max_replicas - replicas))

    def _within_limits(self, wanted: Recommendation, replicas: int) -> Recommendation:
        free = self._limits.max_replicas - replicas
        match wanted:
            case Split() if free < 1:
                return Keep()
            case Add(count, why):
                return Add(min(count, free), why) if min(count, free) > 0 else Keep()
            case Merge() if replicas <= self._limits.min_replicas:
                return Keep()
            case Rebalance() if replicas < 2:
                return Keep()
            case _:
                return wanted


def _ask(policy: Policy, seen: Observation) -> Recommendation:
    """The policy's recommendation. Policies are anybody's classes: none of their faults may end what asks them."""
    where = f"elasticity: {type(policy).__name__}.recommend"
    try:
        wanted = policy.recommend(seen)
    except (Exception, SystemExit) as error:
        line = error.__traceback__.tb_next if error.__traceback__ else None
        place = f" (line {line.tb_lineno})" if line else ""
        raise BadInput(where, f"{type(error).__name__}: {error}{place}", "correct the policy") from error
    if not isinstance(wanted, Recommendation):
        raise BadInput(where, f"returned {wanted!r}", "return Keep(), Split(…), Add(…), Merge(…) or Rebalance(…)")
    if isinstance(wanted, Add) and (not isinstance(wanted.count, int) or wanted.count < 1):
        raise BadInput(where, f"returned Add({wanted.count!r})", "at least 1; Merge(replica) removes one")
    if isinstance(wanted, Rebalance) and wanted.by not in FIGURES:
        raise BadInput(where, f"returned Rebalance({wanted.by!r})", f"one of {', '.join(FIGURES)}")
    if isinstance(wanted, Split | Merge) and wanted.replica not in seen.replicas:
        there = ", ".join(map(str, seen.replicas)) or "none"
        raise BadInput(where, f"returned {wanted!r}: no such replica", f"one of those seen: {there}")
    return wanted


def _kind(wanted: Recommendation) -> type[Recommendation]:
    """`Split` and `Add` are one kind: growing."""
    return Add if isinstance(wanted, Split) else type(wanted)
