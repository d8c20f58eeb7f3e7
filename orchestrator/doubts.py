"""Replicas that keep moves waiting: which of them hang, and which are only busy.

A replica that hangs is ended, since its flows would wait for ever; what it had in memory is lost. So nobody is ended
who may be at work. A marker that has not come back says nothing: it stands behind all that the replica was sent before,
at an overloaded one for minutes. What says something are its Stats: that they come, and that the packets in them rise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Set
from dataclasses import dataclass

from orchestrator.fleet import Fleet, Replica, ReplicaState
from orchestrator.health import Awake
from orchestrator.migration import Doubt

logger = logging.getLogger("orchestrator")

GAPS = 3
"""A replica says nothing while it works a batch of packets off: it is not silent before so many of its usual pauses."""


@dataclass(slots=True)
class Doubts:
    """``unreached``: as `migration.Times`. ``ending``: replicas that are being ended. ``end``: begin that with one."""

    fleet: Fleet
    awake: Awake
    unreached: float
    ending: Set[int]
    end: Callable[[int], None]

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
        if doubt.of == "packets" and not self._took(replica, doubt.seconds):
            logger.error("replica %d keeps a move waiting and takes no packets: it is ended", number)
            self.end(number)
        if doubt.of == "words" and self._silent(replica, doubt.seconds):
            logger.error("replica %d keeps a move waiting and says nothing: it hangs, and is ended", number)
            self.end(number)

    def _silent(self, replica: Replica, seconds: float) -> bool:
        if replica.session is None:
            return False  # one that is not connected is waited for, and ended, by `Undertaker.away`
        now = asyncio.get_running_loop().time()
        return self.awake.is_silent(replica, now, max(seconds, GAPS * replica.pause))
