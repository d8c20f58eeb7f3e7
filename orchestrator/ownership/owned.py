"""Tells replicas which buckets are theirs whole (`messages.Owns`)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.moves.mover import Mover
from orchestrator.moves.placement import Placement
from splitmerge.messages import Message, Owns, Scope


@dataclass(frozen=True, slots=True)
class Owned:
    """``send`` tells a replica, if it is connected."""

    placement: Placement
    mover: Mover
    send: Callable[[int, Message], object]
    _untold: dict[int, set[int]] = field(default_factory=dict)
    """By replica: buckets that were under way when it was told, and may be its own by the end of their moves."""

    def tell(self, replica: int) -> None:
        """Buckets that are under way are not among them: a move's own messages say what becomes of those.

        The replica may have had those messages before this one, which replaces all: `tell_the_rest` puts that right.
        """
        mine = self.placement.buckets_of(replica)
        coming = [move.plan.scope.buckets for move in self.mover.running() if move.plan.target == replica]
        untold = {bucket for bucket in itertools.chain(mine, *coming) if self._under_way(bucket)}
        if untold:
            self._untold[replica] = untold
        else:
            self._untold.pop(replica, None)
        self.send(replica, Owns(buckets=tuple(bucket for bucket in mine if bucket not in untold)))

    def tell_the_rest(self) -> None:
        """A move has ended: whoever could not be told of its buckets is told now."""
        for replica, untold in list(self._untold.items()):
            if not all(map(self._under_way, untold)):
                self.tell(replica)

    def forget(self, replica: int) -> None:
        """It has ended."""
        self._untold.pop(replica, None)

    def _under_way(self, bucket: int) -> bool:
        return self.mover.locks.holder(Scope(buckets=(bucket,))) is not None
