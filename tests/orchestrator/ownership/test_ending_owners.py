"""New flows whose entries lead to a replica that is to end; and how long a flow that gets no owner is tried."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import pytest

from orchestrator.errors import NoSuchReplica
from orchestrator.ownership.assigning import Assigner
from orchestrator.replicas.fleet import ReplicaState
from p4rt_controller import policy
from splitmerge.flowkey import UDP, FlowKey
from splitmerge.messages import Scope
from tests.orchestrator.lab import Lab, State
from tests.orchestrator.ownership.test_new_flows import CLIENT, INNER, OUTER, SERVER, announce, delivered, frame, lab

__all__ = ["lab"]

OTHER = FlowKey.of(UDP, CLIENT, 4000, SERVER, 9)


@asynccontextmanager
async def draining(lab: Lab) -> AsyncIterator[None]:
    """Inside, the second replica, which has a flow, keeps it until it ends."""
    guest = lab.agent.peers[2].guest
    guest.create_flow(INNER, State())
    replica = lab.orchestrator.fleet.replicas[2]
    await lab.until(lambda: replica.flows)
    ending = asyncio.create_task(lab.post("/scale-in", {"replica": 2, "drain": True}))
    await lab.until(lambda: replica.state is ReplicaState.FINISHING)
    yield
    assert not ending.done() and replica.draining
    guest.delete_flow(INNER)
    await ending
    assert 2 not in lab.orchestrator.fleet.replicas


async def test_who_drains_gets_what_waits_for_a_key_that_it_asks_for(lab: Lab) -> None:
    async with draining(lab):
        lab.agent.peers[2].guest.add_alias(INNER, OUTER)
        await delivered(lab, 2)


async def test_who_drains_gets_packets_that_were_on_their_way_when_it_asked_for_their_key(lab: Lab) -> None:
    waits, lab.tables.waits = lab.tables.waits, {}
    async with draining(lab):
        lab.agent.peers[2].guest.add_alias(INNER, OUTER)
        await lab.until(lambda: lab.tables.flows.get(OUTER) == 2)
        lab.tables.waits = waits
        announce(lab, OUTER)
        await delivered(lab, 2)


async def test_who_drains_gets_no_new_flow(lab: Lab) -> None:
    lab.tables.waits = {}
    async with draining(lab):
        with pytest.raises(NoSuchReplica):
            await lab.orchestrator.scaler.adopt_new(2, [OTHER])
        with pytest.raises(NoSuchReplica):
            await lab.orchestrator.scaler.adopt_new(2, [INNER, OTHER])
        (first, *_) = lab.orchestrator.placement.flows_of(1)
        with pytest.raises(NoSuchReplica):
            lab.orchestrator.scaler.turns.plan(1, 2, Scope(keys=(first,)))
        announce(lab, OTHER)
        await lab.until(lambda: lab.tables.flows.get(OTHER) in (1, 3))


async def test_a_new_flow_whose_replica_began_to_drain_before_its_turn_goes_elsewhere(lab: Lab) -> None:
    lab.tables.waits = {OTHER: [frame(0), frame(1)]}
    lab.agent.peers[2].guest.create_flow(INNER, State())
    replica = lab.orchestrator.fleet.replicas[2]
    await lab.until(lambda: replica.flows)
    running = lab.orchestrator.scaler.turns.plan(0, 2, Scope(keys=(OTHER,)))
    assert running is not None
    lab.orchestrator.fleet.set_state(replica, ReplicaState.FINISHING, draining=True)
    ended = await lab.orchestrator.scaler.turns.take(running)
    assert (ended.step.value, ended.reason) == ("undone", "replica 2 takes no flows any more")
    announce(lab, OTHER)
    await lab.until(lambda: not lab.tables.waits)
    assert lab.tables.flows[OTHER] in (1, 3)


class Refusing:
    """Moves that end at once: nobody takes a flow. ``tries``: for which they were asked for."""

    def __init__(self, lab: Lab, waiting: set[FlowKey]) -> None:
        self.mover = lab.orchestrator.mover
        self.tries: list[list[FlowKey]] = []
        self.waiting = waiting
        self.tasks: set[asyncio.Task[None]] = set()
        fleet, placement = lab.orchestrator.fleet, lab.orchestrator.placement
        self.assigner = Assigner(policy("round-robin"), fleet, placement, self, self.later, self.still)  # type: ignore[arg-type]

    def later(self, work: object, name: str) -> None:
        async def tried() -> None:
            with pytest.raises(NoSuchReplica):
                await work  # type: ignore[misc]

        self.tasks.add(asyncio.create_task(tried(), name=name))

    def still(self, keys: Iterable[bytes]) -> list[bytes]:
        return [key for key in keys if key in self.waiting]

    async def adopt_new(self, target: int, keys: list[FlowKey]) -> None:
        self.tries.append(keys)
        raise NoSuchReplica(target, [])


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_flow_is_tried_again_as_long_as_packets_of_it_wait(lab: Lab) -> None:
    refusing = Refusing(lab, {OUTER})
    running = asyncio.create_task(refusing.assigner.run())
    refusing.assigner.announced(OUTER)
    await until(lambda: len(refusing.tries) >= 3)
    refusing.waiting.clear()
    await asyncio.sleep(0.2)
    tries = len(refusing.tries)
    await asyncio.sleep(0.3)
    assert len(refusing.tries) == tries, "nothing of it waits, and it was tried for ever"
    refusing.assigner.announced(OUTER)
    await until(lambda: len(refusing.tries) > tries)
    running.cancel()


async def test_a_flow_whose_packets_another_move_has_is_looked_at_again_when_that_is_over(lab: Lab) -> None:
    """They wait again if that move leaves them behind, and nobody would announce them."""
    refusing = Refusing(lab, set())
    running = asyncio.create_task(refusing.assigner.run())
    locks = lab.orchestrator.mover.locks
    locks.take(99, Scope(keys=(OUTER,)))
    refusing.assigner.announced(OUTER)
    await until(lambda: refusing.tries)
    await asyncio.sleep(0.3)
    assert len(refusing.tries) == 1
    refusing.waiting.add(OUTER)
    locks.free(99)
    await until(lambda: len(refusing.tries) == 2)
    running.cancel()
