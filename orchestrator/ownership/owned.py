"""Tells replicas which buckets are theirs, and which of them whole (`messages.Owns`).

In a bucket that is not whole (*mixed*: an entry leads from it to another replica) a replica asks for each port that it
chooses; so it may take a bucket for mixed that is not, never the other way round. It hears of what makes buckets mixed
from what makes them so: an Export takes keys out of a bucket, a Commit brings it and says whether it is whole, a Claim
is answered for a key that is to lead elsewhere. That a bucket is whole again nobody is in a hurry to know: `PAUSE`
seconds after it may have become so all replicas for which it has are told at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.moves.mover import Mover
from orchestrator.moves.placement import Placement
from splitmerge.messages import Message, Owns

PAUSE = 1.0
"""Seconds until what has changed is told; more changes meanwhile are told with it."""


@dataclass(slots=True)
class Owned:
    """``send`` tells a replica, if it is connected."""

    placement: Placement
    mover: Mover
    send: Callable[[int, Message], object]
    _untold: dict[int, frozenset[int]] = field(default_factory=dict)
    """By replica: buckets that were under way when it was told, and may be its own by the end of their moves."""
    _told: dict[int, Owns | None] = field(default_factory=dict)
    """By replica: what it was told last; None: it has taken buckets for mixed since, which may be whole."""
    _timer: asyncio.TimerHandle | None = None

    def tell(self, replica: int) -> None:
        """Buckets that are under way are not among them: a move's own messages say what becomes of those.

        The replica may have had those messages before this one, which replaces all: `tell_the_rest` puts that right.
        """
        mine = self.placement.buckets_of(replica)
        coming = [move.plan.scope.buckets for move in self.mover.running() if move.plan.target == replica]
        untold = self.mover.locks.touched.intersection(itertools.chain(mine, *coming))
        if untold:
            self._untold[replica] = untold
        else:
            self._untold.pop(replica, None)
        self._told[replica] = message = self._owns(replica, mine)
        self.send(replica, message)

    def tell_the_rest(self) -> None:
        """A move has ended: whoever could not be told of its buckets is told now."""
        for replica, untold in list(self._untold.items()):
            if not untold <= self.mover.locks.touched:
                self.tell(replica)

    def may_be_mixed(self, *replicas: int) -> None:
        """These have taken buckets for mixed, in a move or when they were asked for keys, and will hear which are."""
        for replica in replicas:
            if replica in self._told and self.placement.buckets_of(replica):
                self._told[replica] = None
                self.may_be_whole()

    def may_be_whole(self) -> None:
        """Entries have gone, or lead elsewhere."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PAUSE, self._tell_changed)

    def forget(self, replica: int) -> None:
        """It has ended."""
        self._untold.pop(replica, None)
        self._told.pop(replica, None)

    def _tell_changed(self) -> None:
        self._timer = None
        for replica, told in list(self._told.items()):
            if told != self._owns(replica, self.placement.buckets_of(replica)):
                self.tell(replica)

    def _owns(self, replica: int, mine: tuple[int, ...]) -> Owns:
        """Keys of a bucket that are under way may be about to lead elsewhere."""
        locks = self.mover.locks
        moved, mixed = locks.buckets, locks.touched | self.placement.mixed(replica)
        here = mine if not moved else tuple(bucket for bucket in mine if bucket not in moved)
        whole = tuple(bucket for bucket in here if bucket not in mixed)
        return Owns(buckets=whole, mixed=tuple(sorted(mixed.intersection(here))))
