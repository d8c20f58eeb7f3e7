"""What is remembered of an epoch by a replica that takes part in it, and what it says."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from guestlib.instructions import Hold, Instruction, Keep, ToOrchestrator
from guestlib.moves.exports import Phase
from guestlib.packets.holds import Kept
from guestlib.partitioned.fences import bucket_of
from guestlib.partitioned.flows import Flow, FlowTable
from splitmerge.flowkey import BUCKETS
from splitmerge.messages import Commit, Export, Message, Refused, Returned, Scope, Thaw

logger = logging.getLogger("guestlib")

DECIDED = 65536
"""Final epochs remembered though they are over."""
MOST = 16
"""Times as many are remembered at most, if they are not over: some move is stuck."""
_AT_ONCE = 16
"""Most that are forgotten in one go: packets wait meanwhile."""


@dataclass(frozen=True, slots=True)
class Decided:
    """An epoch that needs nothing kept but its answer."""

    phase: Phase
    answer: Message | None = None
    staged: bool = False
    """Of a target: every part of a whole move had come (`TargetMove.complete`)."""


class Outcomes:
    """Epochs decided here. More than ``limit``, and the first that are over are forgotten, as the orchestrator says.

    What it may still ask about is remembered, however many others have been decided since.
    """

    def __init__(self, limit: int = DECIDED) -> None:
        self.limit = limit
        self.floor = 0
        """No epoch up to this one is asked about any more; one that is unknown may have been forgotten."""
        self._known: dict[int, Decided] = {}
        self._order: deque[int] = deque()
        self._over = 0

    def get(self, epoch: int) -> Decided | None:
        """How it was decided; None if it was not, or is forgotten."""
        return self._known.get(epoch)

    def __getitem__(self, epoch: int) -> Decided:
        return self._known[epoch]

    def put(self, epoch: int, outcome: Decided) -> None:
        """It is decided (anew)."""
        if epoch not in self._known:
            self._order.append(epoch)
        self._known[epoch] = outcome
        self._forget()

    def over(self, before: int) -> None:
        """Moves older than this epoch are over."""
        self._over = max(self._over, before)
        self._forget()

    def forgotten(self, epoch: int) -> str:
        """Why an epoch that is unknown here is not new; empty if it may be."""
        if epoch > self.floor:
            return ""
        return f"epoch {epoch} is not newer than {self.floor}, whose outcome is forgotten"

    def _forget(self) -> None:
        for _ in range(min(_AT_ONCE, len(self._order) - self.limit)):
            oldest = self._order[0]
            if oldest < self._over:
                self.floor = max(self.floor, oldest)
            elif len(self._order) <= MOST * self.limit:
                return
            del self._known[self._order.popleft()]


@dataclass(frozen=True, slots=True)
class Busy:
    """A decision being carried out in slices: ``more`` does one and says whether there are more, then ``end``."""

    phase: Phase
    more: Callable[[], bool]
    end: Callable[[], list[Instruction]]


@dataclass(frozen=True, slots=True)
class Armed:
    """An export that waits for its marker."""

    message: Export
    phase: Phase = Phase.ARMED


class TargetMove:
    """What is kept aside for one epoch: flows, and with a ``scope`` packets too."""

    def __init__(self, *, scope: Scope | None = None) -> None:
        self.phase = Phase.STAGED
        self.scope = scope or Scope()
        """What its packets are kept of."""
        self.prepared = scope is not None
        self.parts: set[int] = set()
        self.whole = 0
        """How many parts are all flows of the scope; 0: not known yet, or some stay at the source."""
        self.flows: dict[bytes, Flow] = {}
        self.answer: Returned | None = None
        self.dropped = 0
        """Packets that nobody has got, if the source died when it was to be given them back."""

    @property
    def complete(self) -> bool:
        """All flows of the scope are here."""
        return 0 < self.whole == len(self.parts)

    def overlaps(self, keys: frozenset[bytes], buckets: frozenset[int], within: frozenset[int]) -> bool:
        """Whether it is about any of these ``keys`` and ``buckets``. ``within``: the buckets that the keys are in."""
        mine = (*self.scope.keys, *self.flows)
        if not keys.isdisjoint(mine) or not (buckets | within).isdisjoint(self.scope.buckets):
            return True
        return bool(buckets) and any(bucket_of(key) in buckets for key in mine)


class Waiting(Protocol):
    """Where packets of flows on their way wait: `guestlib.packets.dataplane.DataPlane`."""

    def arriving(self, scope: Scope) -> int:
        """The epoch that still keeps packets of any of these back."""

    def met(self, epoch: int) -> bool:
        """Whether a MARKER of the epoch has been met, and all that came before it is processed."""

    def meet(self, epoch: int) -> None:
        """It has, and that is."""

    def expect(self, epoch: int) -> None:
        """Relayed packets of the epoch are to come."""

    def kept(self, epoch: int, now: float) -> Kept:
        """What the epoch's hold has done so far."""

    def take(self, epoch: int, packets: int, size: int) -> list[bytes]:
        """The oldest packets of the epoch's hold, out of it."""

    def drop(self, epoch: int) -> int:
        """Throw away what the epoch's hold has, and end it."""


def no_bucket(scope: Scope) -> str:
    """Which of its buckets there are none of, in words; empty if there are all."""
    bad = next((bucket for bucket in scope.buckets if not 0 <= bucket < BUCKETS), None)
    return "" if bad is None else f"bucket {bad}: buckets are 0 to {BUCKETS - 1}"


def too_old(table: FlowTable, epoch: int, scope: Scope) -> str:
    """Why an epoch must do nothing about these flows any more; empty if it may."""
    if bad := no_bucket(scope):
        return bad
    newest = table.fences.newest_epoch(scope.keys, scope.buckets)
    if newest > epoch:
        return f"epoch {newest} has decided about these flows already"
    newer = next((flow for flow in table.each_within(scope.keys, scope.buckets) if flow.epoch > epoch), None)
    return f"{newer.key}: brought here by epoch {newer.epoch}" if newer else ""


def refuse(message: Message, reason: str) -> ToOrchestrator:
    """Say no, and why."""
    name = type(message).__name__
    epoch = getattr(message, "epoch", 0)
    logger.warning("%s of epoch %d refused: %s", name, epoch, reason)
    return ToOrchestrator(Refused(epoch=epoch, request=name, reason=reason))


def hold(
    message: Commit | Thaw, aliases: tuple[bytes, ...], spared: frozenset[bytes] = frozenset()
) -> list[Instruction]:
    """Direct packets wait until END, if so asked; those of ``spared`` keys, whose flows do not move, never."""
    if not message.hold:
        return []
    return [Hold(message.epoch, (*message.scope.keys, *aliases), message.scope.buckets, spared)]


def keep_late(message: Export, flows: Iterable[Flow]) -> list[Instruction]:
    """What becomes of packets that still come for the scope's flows."""
    aliases = tuple(bytes(alias) for flow in flows for alias in flow.aliases)
    keys = (*message.scope.keys, *aliases)
    return [Keep(message.epoch, keys, message.scope.buckets, message.packets, message.bytes)]
