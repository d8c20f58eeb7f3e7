"""Putting things right: somebody lives, and everything has a living owner."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from orchestrator.endings import Endings
from orchestrator.errors import OrchestratorError
from orchestrator.fleet import Fleet, Replica
from orchestrator.journal import Journal
from orchestrator.migration import NOBODY
from orchestrator.mover import Mover
from orchestrator.network import Network
from orchestrator.owned import Owned
from orchestrator.placement import Placement
from orchestrator.scaling import Scaler
from splitmerge.errors import SplitmergeError
from splitmerge.flowkey import BUCKETS

logger = logging.getLogger("orchestrator")

RETRY = 1.0
"""Seconds until what failed is tried again."""


@dataclass(slots=True)
class Settler:
    """``wanted`` is set when something may need an owner."""

    journal: Journal
    fleet: Fleet
    placement: Placement
    mover: Mover
    network: Network
    scaler: Scaler
    endings: Endings
    owned: Owned
    by_hash: bool
    wanted: asyncio.Event
    ready: asyncio.Event
    """Set as soon as everything is right for the first time."""
    said: set[int] = field(default_factory=set)
    """Ended replicas of which the log says that they still own buckets."""

    async def run(self) -> None:
        """Put right what is not, until cancelled."""
        while True:
            await self.wanted.wait()
            self.wanted.clear()
            try:
                await self._settle_once()
                self.ready.set()
            except (OrchestratorError, SplitmergeError) as error:
                logger.error("cannot put things right yet: %s", error)
                await asyncio.sleep(RETRY)
                self.wanted.set()

    async def _settle_once(self) -> None:
        if not self.fleet.live():
            await self.fleet.agent_here.wait()
            await self._begin_with_one()
        for replica in self.fleet.gone():
            await self.endings.forget_second(replica.number)
            await self.scaler.adopt_orphans(replica)
            await self._forget_replica(replica)
        await self._give_out_buckets()

    async def _begin_with_one(self) -> None:
        async with self.scaler.scaling:
            if self.fleet.live():
                return
            if not self.fleet.free_slots():
                await self._free_a_slot()
            await self.scaler.add()

    async def _free_a_slot(self) -> None:
        """All slots are the dead's, and there is no survivor: what one of them owned becomes nobody's.

        The next replica gets it, as at the very first start; it comes without state either way.
        """
        for replica in self.fleet.gone():
            left = self.placement.scope_of_replica(replica.number)
            if self.mover.touches(replica.number):
                continue
            logger.warning("replica %d was the last one: what it owned is nobody's until another lives", replica.number)
            self.journal.own(dict.fromkeys(left.buckets, NOBODY))
            self.placement.own(left.buckets, NOBODY)
            self.journal.forget(left.keys)
            self.placement.forget(left.keys)
            await self.network.forget(left.keys)
            await self._forget_replica(replica)
            return

    async def _forget_replica(self, replica: Replica) -> None:
        left = self.placement.scope_of_replica(replica.number)
        if left.keys or left.buckets or self.mover.touches(replica.number):
            if left.buckets and replica.number not in self.said:
                self.said.add(replica.number)
                logger.warning("replica %d has ended and still owns %d buckets", replica.number, len(left.buckets))
            return
        self.said.discard(replica.number)
        await self.network.unregister_replica(replica.number)
        self.fleet.forget(replica)

    async def _give_out_buckets(self) -> None:
        """At the very first start all buckets go to the first replica, or to the controller to assign from."""
        unowned = [bucket for bucket, owner in self.placement.buckets().items() if owner == NOBODY]
        if not unowned:
            return
        if not self.by_hash:
            await self.network.set_buckets(dict.fromkeys(unowned, None))
            return
        first = self.fleet.live()[0].number
        logger.info("all %d buckets that nobody has (of %d) go to replica %d", len(unowned), BUCKETS, first)
        await self.network.set_buckets(dict.fromkeys(unowned, first))
        self.journal.own(dict.fromkeys(unowned, first))
        self.placement.own(unowned, first)
        self.owned.tell(first)
