"""What moves did, as people and tests see it: of those under way, and of the newest that have ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from orchestrator import migration as core
from orchestrator.errors import JournalError
from orchestrator.migration.steps import TERMINAL, Path, Step

NAMED = 20
"""Unknown keys that a report names."""
REPORTS = 10_000
"""Ended moves that are kept in memory with their figures; the journal keeps fewer."""


@dataclass(frozen=True, slots=True)
class Report:
    """One move as people and tests see it."""

    epoch: int
    source: int
    target: int
    step: Step
    reason: str
    keys: int
    """Flows named in the scope."""
    buckets: int
    staged: int
    """Flows whose state was staged at the target."""
    stateless: bool
    """The source died before all state was there: flows go on at the target without it."""
    pinned: tuple[bytes, ...]
    guarantee: core.Guarantee
    buffer: str
    """``cpu`` or ``replica``; empty if nothing was to be kept."""
    relayed: int
    """Packets that the controller kept and delivered."""
    held: int
    """Packets that the target kept until the state was there."""
    carried: int
    """Packets that one replica passed on to the other."""
    dropped: int
    """Packets that there was no room for, or that the guarantee says nothing about."""
    suspended: float | None
    """Seconds for which packets were held back, at most; 0 if the move is not over, or held none back. None if it was
    taken up from an earlier process, which had begun to."""
    waited: float
    """Seconds that the first packet kept at the target waited."""
    steps: dict[str, float]
    """Seconds from the first step entered to each later one."""
    unroomed: dict[int, int]
    """As `migration.Figures.unroomed`: what is told again adds nothing, also to a later process."""
    peak: int = 0
    """Packets that waited at once, at the controller or at the target, at most."""
    final: bool = False
    """The source refused for good: another such move would be refused too."""
    planned: float = 0.0
    """When it was asked for, in seconds since 1970; 0: not known."""
    follows: int = 0
    """The move that this one was made for; 0: none."""
    moot: bool = False
    """As `Move.moot`."""
    unknown: int = 0
    """Keys named that the source had no flow of: the move did not take them."""
    unknown_keys: tuple[bytes, ...] = ()
    """Some of those, `NAMED` at most."""
    untaken_keys: int = 0
    """Undone for flows that stayed: flows of the others' that no move follows for, though they could move."""
    untaken_buckets: int = 0
    """The same of buckets."""

    @property
    def untaken(self) -> str:
        """What it was to take, could be moved, and stays all the same; empty if nothing."""
        left = self.untaken_keys or self.untaken_buckets
        return in_words(self.untaken_keys, self.untaken_buckets) if left else ""

    @property
    def packed(self) -> bytes:
        """For the journal; `unpack` is the other way."""
        return msgspec.msgpack.encode(self)

    @property
    def what(self) -> str:
        """What was to move, and how much of it there was; new flows have no state yet."""
        if not self.source:
            return in_words(self.keys, self.buckets)
        stateful = "1 flow" if self.staged == 1 else f"{self.staged} flows"
        return f"{in_words(self.keys, self.buckets)}: {stateful} with state"

    @property
    def why(self) -> str:
        """Why it ended as it did; empty if all went as planned."""
        return self.reason or (f"without state: replica {self.source} had died" if self.stateless else "")

    @property
    def over(self) -> bool:
        """Whether the move has ended; one that has not, though who waited for it is told, is late."""
        return self.step in TERMINAL

    @property
    def done(self) -> bool:
        """Whether the flows live at the target."""
        return self.step is Step.DONE


def in_words(keys: int, buckets: int) -> str:
    """A scope by its size; of a kind that it does not name, nothing."""
    parts = [f"{number} {noun}{'s' if number != 1 else ''}" for number, noun in ((keys, "flow"), (buckets, "bucket"))]
    return " and ".join(part for part, number in zip(parts, (keys, buckets), strict=True) if number) or "nothing"


def buffer_of(plan: core.Plan) -> str:
    """Where its packets wait: ``replica``, ``cpu``, or nowhere (empty)."""
    return plan.path.value if plan.path in (Path.CPU, Path.REPLICA) else ""


def report(move: core.Move) -> Report:
    """The figures of a move, at any time."""
    plan, figures = move.plan, move.figures
    first = min(figures.entered.values(), default=0.0)
    return Report(
        epoch=plan.epoch,
        source=plan.source,
        target=plan.target,
        step=move.step,
        reason=move.reason,
        keys=len(plan.scope.keys),
        buckets=len(plan.scope.buckets),
        staged=figures.staged,
        stateless=move.stateless,
        pinned=move.pinned,
        guarantee=plan.options.guarantee,
        buffer=buffer_of(plan),
        relayed=figures.relayed,
        held=figures.held,
        carried=figures.carried,
        dropped=figures.dropped,
        suspended=figures.suspended,
        waited=figures.held_seconds,
        unroomed=dict(figures.unroomed),
        peak=figures.peak,
        final=move.final,
        planned=move.planned,
        follows=move.follows,
        moot=move.moot,
        unknown=len(move.unknown),
        unknown_keys=move.unknown[:NAMED],
        steps={step.value: at - first for step, at in figures.entered.items()},
    )


def unpack(packed: bytes) -> Report:
    """What `Report.packed` was made of. :raises JournalError: if it was made of something else."""
    try:
        return msgspec.msgpack.decode(packed, type=Report)
    except msgspec.MsgspecError as error:
        remedy = "stop the replicas, remove the journal and start again"
        raise JournalError("journal", f"figures of a move cannot be read: {error}", remedy) from None


class Reports:
    """Of moves that have ended, oldest first, and how many there were: of this process and of those before it."""

    def __init__(self, packed: Iterable[bytes] = (), outcomes: Mapping[str, int] | None = None) -> None:
        self.outcomes: Counter[str] = Counter(outcomes or {})
        """Ended moves, by the step that they ended in."""
        self._reports: dict[int, Report] = {}
        for each in map(unpack, packed):
            self.put(each)

    def __iter__(self) -> Iterator[Report]:
        return iter(self._reports.values())

    @property
    def epochs(self) -> Collection[int]:
        """Of which moves there are reports."""
        return self._reports.keys()

    def get(self, epoch: int) -> Report | None:
        """The report of this move; None if it has not ended, or ended long ago."""
        return self._reports.get(epoch)

    def put(self, report: Report) -> None:
        """Keep this report, in place of an earlier one of the same move."""
        self._reports[report.epoch] = report
        if len(self._reports) > REPORTS:
            del self._reports[next(iter(self._reports))]

    def ended(self, report: Report) -> None:
        """A move has ended."""
        self.outcomes[report.step.value] += 1
        self.put(report)
