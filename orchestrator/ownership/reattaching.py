"""Takes up what an earlier process of the orchestrator left: its replicas, and the drains that it had begun."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from orchestrator.config import Deadlines
from orchestrator.journal import JournalState
from orchestrator.migration.steps import POINTED, RESERVED, Path
from orchestrator.moves.mover import Mover
from orchestrator.moves.placement import Placement
from orchestrator.network import Network
from orchestrator.ownership.owned import Owned
from orchestrator.replicas.fleet import Fleet, Replica, ReplicaState
from orchestrator.replicas.undertaker import Undertaker
from orchestrator.scaling.scaler import Scaler
from p4rt_controller import RestoredState
from splitmerge.errors import SplitmergeError

logger = logging.getLogger("orchestrator")

RETRY = 1.0
"""Seconds until the switch is told again of a replica that it could not be told of."""


def restored_state(journalled: JournalState, fleet: Fleet, placement: Placement) -> RestoredState:
    """What the switch is to hold, unfinished moves at the steps in which the earlier process left them."""
    owners = placement.buckets()
    flows = dict(placement.flows())
    for row in journalled.moves:
        scope = row.plan.scope
        if row.step in RESERVED and row.plan.path in (Path.FORWARD, Path.NONE):  # their entries stay: room must not go
            flows.update(dict.fromkeys(scope.keys, row.plan.source))
        if row.step in POINTED:  # the switch points to the target already
            owners.update(dict.fromkeys(scope.buckets, row.plan.target))
            flows.update(dict.fromkeys(scope.keys, row.plan.target))
    return RestoredState(
        replicas={each.number: each.port for each in fleet.replicas.values()},
        buckets={bucket: owner or None for bucket, owner in owners.items()},
        flows=flows,
        second=placement.second,
        newest_epoch=journalled.epoch,
    )


@dataclass(frozen=True, slots=True)
class Reattacher:
    """``ready`` is set once everything is in its place."""

    fleet: Fleet
    mover: Mover
    network: Network
    owned: Owned
    scaler: Scaler
    undertaker: Undertaker
    deadlines: Deadlines
    tasks: asyncio.TaskGroup
    ready: asyncio.Event

    async def reattach(self) -> None:
        """Bring in the replicas that lived when an earlier process ended, each by itself; then end what it left.

        Returns when all that came are in. One that its agent does not manage to end holds up the moves that name it,
        and no others.
        """
        expected = [each for each in self.fleet.replicas.values() if each.state is not ReplicaState.GONE]
        unknown = {each.number for each in expected}
        self.mover.resume_recovered([each.number for each in self.fleet.gone()], unknown)
        if not expected:
            return
        tasks = [self.tasks.create_task(self._admit_or_bury(each, unknown)) for each in expected]
        await asyncio.wait(tasks, timeout=self.deadlines.reattach + self.deadlines.destroy + RETRY)
        coming = [task for each, task in zip(expected, tasks, strict=True) if each.heard.is_set()]
        if coming:  # the switch is away
            await asyncio.wait(coming)

    async def _admit_or_bury(self, replica: Replica, unknown: set[int]) -> None:
        await self.fleet.settle(replica, self.deadlines.reattach)
        if replica.heard.is_set():
            await self._admit(replica)
        else:
            if not replica.ended.is_set():
                logger.warning("replica %d did not come back", replica.number)
            await self.undertaker.bury(replica)
        unknown.discard(replica.number)
        self.mover.resume_recovered([], unknown)

    async def _admit(self, replica: Replica) -> None:
        """A replica of an earlier process takes part again, unless it dies before the switch knows it."""
        if replica.state is ReplicaState.STARTING:
            self.fleet.set_state(replica, ReplicaState.LIVE)  # from here on its death is noticed
        while replica.state is not ReplicaState.GONE:
            try:
                await self.network.register_replica(replica.number, replica.port)
                break
            except SplitmergeError as error:
                logger.warning("replica %d: %s", replica.number, error)
            await asyncio.sleep(RETRY)
        if replica.state is not ReplicaState.GONE:
            self.owned.tell(replica.number)

    async def go_on_draining(self, replica: Replica) -> None:
        """What an earlier process began; its flows say how far it is once everything is in its place again."""
        await self.ready.wait()
        if replica.state is not ReplicaState.FINISHING:  # it has died meanwhile
            return
        logger.info("replica %d: its drain goes on", replica.number)
        await self.scaler.go_on_draining(replica)
