"""What is remembered of an epoch by a replica that takes part in it, and what it says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from guestlib.exports import Phase
from guestlib.fences import bucket_of
from guestlib.flows import Flow
from guestlib.holds import Kept
from guestlib.instructions import Hold, Instruction, Keep, ToOrchestrator
from splitmerge.messages import Commit, Export, Message, Refused, Returned, Scope, Thaw

logger = logging.getLogger("guestlib")


@dataclass(frozen=True, slots=True)
class Decided:
    """An epoch that needs nothing kept but its answer."""

    phase: Phase
    answer: Message | None = None


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
        self.flows: dict[bytes, Flow] = {}
        self.answer: Returned | None = None
        self.dropped = 0
        """Packets that died with the source, on their way back to it."""

    def overlaps(self, keys: frozenset[bytes], buckets: frozenset[int], within: frozenset[int]) -> bool:
        """Whether it is about any of these ``keys`` and ``buckets``. ``within``: the buckets that the keys are in."""
        mine = (*self.scope.keys, *self.flows)
        if not keys.isdisjoint(mine) or not (buckets | within).isdisjoint(self.scope.buckets):
            return True
        return bool(buckets) and any(bucket_of(key) in buckets for key in mine)


class Waiting(Protocol):
    """Where packets of flows on their way wait: `guestlib.holds.Holds`."""

    def arriving(self, scope: Scope) -> int:
        """The epoch that still keeps packets of any of these back."""

    def met(self, epoch: int) -> bool:
        """Whether a MARKER of the epoch has been met."""

    def kept(self, epoch: int, now: float) -> Kept:
        """What the epoch's hold has done so far."""

    def take(self, epoch: int, packets: int, size: int) -> list[bytes]:
        """The oldest packets of the epoch's hold, out of it."""

    def drop(self, epoch: int) -> int:
        """Throw away what the epoch's hold has, and end it."""


def refuse(message: Message, reason: str) -> ToOrchestrator:
    """Say no, and why."""
    name = type(message).__name__
    epoch = getattr(message, "epoch", 0)
    logger.warning("%s of epoch %d refused: %s", name, epoch, reason)
    return ToOrchestrator(Refused(epoch=epoch, request=name, reason=reason))


def hold(message: Commit | Thaw, aliases: tuple[bytes, ...]) -> list[Instruction]:
    """Direct packets wait until END, if so asked."""
    if not message.hold:
        return []
    return [Hold(message.epoch, (*message.scope.keys, *aliases), message.scope.buckets)]


def keep_late(message: Export, flows: Iterable[Flow]) -> list[Instruction]:
    """What becomes of packets that still come for the scope's flows."""
    aliases = tuple(bytes(alias) for flow in flows for alias in flow.aliases)
    keys = (*message.scope.keys, *aliases)
    return [Keep(message.epoch, keys, message.scope.buckets, message.packets, message.bytes)]
