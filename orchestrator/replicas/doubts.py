"""Replicas that keep moves waiting: which of them hang, and which are only busy.

A replica that hangs is ended, since its flows would wait for ever; what it had in memory is lost. So nobody is ended
who may be at work. A marker that has not come back says nothing: it stands behind all that the replica was sent before,
at an overloaded one for minutes. What says something are its Stats: that they come, and that the packets in them rise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Set
from dataclasses import dataclass, field
from typing import Any

from orchestrator.migration import Doubt
from orchestrator.replicas.fleet import Fleet, Replica, ReplicaState
from orchestrator.replicas.health import Awake

logger = logging.getLogger("orchestrator")

GAPS = 3
"""A replica says nothing while it works a batch of packets off: it is not silent before so many of its usual pauses."""
LOOK = 0.1
"""Seconds between two looks at a replica that an ended move has waited for."""


@dataclass(slots=True)
class Doubts:
    """``unreached``: as `migration.Times`. ``ending``: replicas that are being ended. ``end``: begin that with one.

    ``later``: do this beside everything else, under this name.
    """

    fleet: Fleet
    awake: Awake
    unreached: float
    ending: Set[int]
    end: Callable[[int], None]
    later: Callable[[Coroutine[Any, Any, None], str], None]
    _watched: dict[int, float] = field(default_factory=dict)
    """Replicas that ended moves have waited for, and since when they must say something."""

    def works(self, number: int) -> bool:
        """Whether the replica works its packets off: its Stats say that it has taken some lately.

        That is well within ``unreached`` seconds: time is left for whoever waits in vain to find out.
        """
        replica = self._living(number)
        return replica is not None and self._took(replica, self.unreached / 2)

    def _living(self, number: int) -> Replica | None:
        """The replica of this number, unless it has ended."""
        replica = self.fleet.replicas.get(number)
        return None if replica is None or replica.state is ReplicaState.GONE else replica

    def _took(self, replica: Replica, seconds: float) -> bool:
        now = asyncio.get_running_loop().time()
        within = max(seconds, GAPS * replica.pause)
        return replica.took > 0 and now <= self.awake.until(replica.took, now, within)

    def doubt(self, doubt: Doubt) -> None:
        """A move has waited too long for this replica: it is ended if it was silent, or took nothing, for so long."""
        number = doubt.replica
        replica = self._living(number)
        if replica is None or number in self.ending:
            return
        if doubt.later:
            self._watch(replica, doubt.seconds)
            return
        if doubt.of == "packets" and not self._took(replica, doubt.seconds):
            logger.error("replica %d keeps a move waiting and takes no packets: it is ended", number)
            self.end(number)
        if doubt.of == "words" and self._silent(replica, doubt.seconds):
            self._end_silent(number)

    def _end_silent(self, number: int) -> None:
        logger.error("replica %d keeps a move waiting and says nothing: it hangs, and is ended", number)
        self.end(number)

    def _watch(self, replica: Replica, seconds: float) -> None:
        watched = replica.number in self._watched
        self._watched[replica.number] = asyncio.get_running_loop().time()
        if not watched:
            self.later(self._until_heard(replica, seconds), f"doubt replica {replica.number}")

    async def _until_heard(self, replica: Replica, seconds: float) -> None:
        """End it if it is silent, so many seconds from now at the earliest; not if it says a word until then.

        One that loses its connection is no matter of this any more, though it may have a new one soon: see `_silent`.
        """
        number, session, begun = replica.number, replica.session, asyncio.get_running_loop().time()
        try:
            await asyncio.sleep(seconds)
            while session is not None and replica.session is session and self._says_nothing(replica):
                if self._silent(replica, seconds, begun):
                    self._end_silent(number)
                    return
                await asyncio.sleep(LOOK)
        finally:
            del self._watched[number]

    def _says_nothing(self, replica: Replica) -> bool:
        """Whether it has said nothing since the last move ended that waited for it, and nobody ends it."""
        there = self._living(replica.number) is replica and replica.number not in self.ending
        return there and replica.told <= self._watched[replica.number]

    def _silent(self, replica: Replica, seconds: float, since: float = 0.0) -> bool:
        """Whether it is connected and has said nothing for so many seconds, counted from ``since`` at the earliest."""
        if replica.session is None:
            return False  # one that is not connected is waited for, and ended, by `Undertaker.away`
        now = asyncio.get_running_loop().time()
        return self.awake.is_silent(replica, now, max(seconds, GAPS * replica.pause), since)
