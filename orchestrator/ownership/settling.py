"""Putting things right: everything has a living owner."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from orchestrator.errors import OrchestratorError
from orchestrator.journal import Journal
from orchestrator.migration import NOBODY
from orchestrator.moves.mover import Mover
from orchestrator.moves.placement import Placement
from orchestrator.network import Network
from orchestrator.ownership.endings import Endings
from orchestrator.ownership.owned import Owned
from orchestrator.replicas.fleet import Fleet, Replica
from orchestrator.scaling import planning
from orchestrator.scaling.replacing import Replacer
from orchestrator.scaling.scaler import Scaler
from splitmerge.errors import SplitmergeError
from splitmerge.flowkey import BUCKETS

logger = logging.getLogger("orchestrator")

RETRY = 1.0
"""Seconds until what failed is tried again."""


@dataclass(slots=True)
class Settler:
    """``wanted`` is set when something may need an owner, and when a replica came or is not to come."""

    journal: Journal
    fleet: Fleet
    placement: Placement
    mover: Mover
    network: Network
    scaler: Scaler
    endings: Endings
    owned: Owned
    by_hash: bool
    replacer: Replacer
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
                if await self._settle_once():
                    self.ready.set()
            except (OrchestratorError, SplitmergeError) as error:
                logger.error("cannot put things right yet: %s", error)
                await asyncio.sleep(RETRY)
                self.wanted.set()

    async def _settle_once(self) -> bool:
        """Whether all is as right as it gets by itself; else ``wanted`` is set when there is more to do."""
        if not self.fleet.live():
            await self._make_room()
        if not self.fleet.live():  # else one that was to be scaled in stays, and takes over
            await self.fleet.agents.here.wait()
            return not self.replacer.nobody()
        for replica in self.fleet.gone():
            await self.endings.forget_second(replica.number)
            await self.scaler.adopt_orphans(replica)
            await self._forget_replica(replica)
        await self._give_out_buckets()
        return True

    async def _make_room(self) -> None:
        """Nobody lives: a slot for who is owed; where nobody is, all slots of the dead, for whoever is asked for."""
        async with self.scaler.scaling:
            for replica in self.fleet.gone():
                if self.fleet.live() or (self.fleet.free_slots() and self.replacer.core.owed):
                    return
                if not self.mover.touches(replica.number):
                    await self._free_slot(replica)

    async def _free_slot(self, replica: Replica) -> None:
        """It is dead, and there is no survivor: what it owned becomes nobody's.

        The next replica gets it, as at the very first start; it comes without state either way.
        """
        left = self.placement.scope_of_replica(replica.number)
        logger.warning("replica %d is dead: what it owned is nobody's until another lives", replica.number)
        self.journal.own(dict.fromkeys(left.buckets, NOBODY))
        self.placement.own(left.buckets, NOBODY)
        self.journal.forget(left.keys)
        self.placement.forget(left.keys)
        await self.network.forget(left.keys)
        await self._forget_replica(replica)

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
        """At the very first start, and after all died, buckets go to who lives, or to the controller to assign from."""
        unowned = [bucket for bucket, owner in self.placement.buckets().items() if owner == NOBODY]
        if not unowned:
            return
        if not self.by_hash:
            await self.network.set_buckets(dict.fromkeys(unowned, None))
            return
        survivors = {each.number: each.flows for each in self.fleet.live()}
        if not survivors:  # the last one has died meanwhile: whoever comes next gets them
            return
        for share in planning.merge(NOBODY, dict.fromkeys(unowned, 0), survivors):
            owners = dict.fromkeys((unit for unit in share.units if isinstance(unit, int)), share.target)
            logger.info("%d buckets that nobody has (of %d) go to replica %d", len(owners), BUCKETS, share.target)
            await self.network.set_buckets(dict(owners))
            self.journal.own(owners)
            self.placement.own(owners, share.target)
            self.owned.tell(share.target)
