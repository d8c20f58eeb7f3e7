"""Ends replicas that are away or hang: nobody may take over from one that might still work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from orchestrator.background import Background
from orchestrator.config import Deadlines
from orchestrator.errors import JournalError
from orchestrator.replicas import health
from orchestrator.replicas.fleet import Fleet, Replica, ReplicaState

logger = logging.getLogger("orchestrator")

LOOK = 1.0
"""Seconds between two looks for replicas that hang."""


class Undertaker:
    """``died`` is told of each that has ended (`Fleet.end`). If it raises `JournalError`, the process ends."""

    def __init__(
        self,
        fleet: Fleet,
        awake: health.Awake,
        deadlines: Deadlines,
        background: Background,
        died: Callable[[Replica], None],
    ) -> None:
        self.ending: set[int] = set()
        """Replicas that are being ended, or have been."""
        self._fleet = fleet
        self._awake = awake
        self._deadlines = deadlines
        self._background = background
        self._died = died

    async def watch(self) -> None:
        """A replica that hangs is ended, as one that died; until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK)
            for replica in health.hanging(self._fleet, self._awake, loop.time(), self._deadlines.silent):
                if replica.number in self.ending:
                    continue
                logger.error("replica %d has said nothing for long: it hangs, and is ended", replica.number)
                self.end_hanging(replica.number)

    def end_hanging(self, number: int) -> None:
        """Begin to end this replica, by force."""
        self._background.later(self.bury(self._fleet.replicas[number], hangs=True), f"end replica {number}")

    def ended(self, replica: Replica) -> None:
        """Its agent says that it has."""
        self._background.later(self.bury(replica), f"end replica {replica.number}")

    def away(self, replica: Replica) -> None:
        """Its connection has ended: it may come back; if not, make sure that it has ended before others take over."""
        self._background.later(self._missed(replica), f"replica {replica.number} is away")

    async def _missed(self, replica: Replica) -> None:
        await self._awake.wait(replica, self._deadlines.reconnect)
        alive = replica.state in (ReplicaState.LIVE, ReplicaState.FINISHING)
        if alive and not (replica.leaving or replica.heard.is_set()):
            await self.bury(replica)

    async def bury(self, replica: Replica, *, hangs: bool = False) -> None:
        """Have its agent end it, if it has not ended, and tell of its death; once. ``hangs``: by force at once."""
        if replica.number in self.ending:
            return
        self.ending.add(replica.number)
        await self._fleet.end(replica, self._deadlines.destroy, hangs=hangs)
        try:
            self._died(replica)
        except JournalError as fault:  # nobody would come back to it, and its moves would wait for ever
            logger.critical("replica %d has ended, which cannot be written down", replica.number)
            self._background.end_with(fault)

    def unused(self, replica: Replica) -> None:
        """It was made and never used: its slot is free when it has ended."""
        self._background.later(self._free(replica), f"end replica {replica.number}")

    async def _free(self, replica: Replica) -> None:
        await self._fleet.end(replica, self._deadlines.destroy)
        self._fleet.forget(replica)
