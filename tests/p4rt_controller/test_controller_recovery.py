"""The switch dies, another client takes over, the controller itself starts again: the tables are right afterwards."""

from __future__ import annotations

import asyncio

import finsy
import pytest
from finsy import P4CloneSessionEntry, P4TableAction, P4TableEntry, P4TableMatch

from p4rt_controller import Controller, RestoredState, SwitchLost, SwitchReady, SwitchUnavailable
from p4rt_controller.errors import ScopeConflict, StaleEpoch, UnknownReplica
from p4src import P4BLOB, P4INFO
from splitmerge.errors import BadInput, Timeout
from splitmerge.flowkey import BUCKETS, FlowKey
from splitmerge.messages import Scope

pytestmark = pytest.mark.timeout(120)  # a switch that starts again compiles the program, on however busy a machine

ALL = Scope(buckets=tuple(range(BUCKETS)))
TO_101 = dict.fromkeys(range(BUCKETS), 101)
RIVAL_HAS = 5.0
"""Seconds until mastership is won back: what a rival does as primary takes it less, also on a busy machine."""


def scope_of(*keys: FlowKey) -> Scope:
    return Scope(keys=tuple(bytes(key) for key in keys))


def rival_of(world, election_id: int) -> finsy.Switch:
    """Another P4Runtime client, finsy's own."""
    options = finsy.SwitchOptions(p4info=P4INFO, p4blob=P4BLOB, initial_election_id=election_id)
    return finsy.Switch("rival", world.switch.grpc, options)


async def test_a_switch_that_starts_again_gets_its_tables_back(make_world, kit):
    async with make_world() as world:
        await world.controller.set_buckets(TO_101)
        await world.move(1, scope_of(kit.flow_key(40001)), 101, 102)
        before = len(world.events)
        world.switch.kill()
        await world.event(SwitchLost)
        world.switch.start()
        ready = await world.event(SwitchReady, after=before)
        assert ready.pipeline_loaded
        assert ready.inserted == 1 + BUCKETS + 2 + 2 + 2 + 3 + 2  # flow, buckets, replicas, ports ×2, routes, addresses
        world.ledger.send(40001)
        world.ledger.send(40002)
        await world.ledger.settled()
        assert world.ledger.problems() == {}
        assert world.replicas[102].processed == [(kit.flow_key(40001), 0)]
        assert (await world.controller.reconcile()).inserted == 0
        assert await clone_sessions(world) == [1]


async def clone_sessions(world) -> list[int]:
    async with rival_of(world, 1) as rival:
        entries = [entry async for entry in rival.read([P4CloneSessionEntry()])]
    return [entry.session_id for entry in entries]


async def test_a_move_interrupted_by_a_restart_of_the_switch_is_resumed(make_world, kit):
    async with make_world() as world:
        await world.controller.set_buckets(TO_101)
        await world.controller.suspend(1, ALL, 101)
        await world.controller.drain(1, 101)
        for _ in range(20):
            world.ledger.send(40001)
        await kit.eventually(lambda: world.controller.stats().buffered_packets >= 20)
        before = len(world.events)
        world.replicas[102].deaf = True
        resuming = asyncio.create_task(world.controller.resume(1, ALL, 102), name="resume")
        await kit.eventually(lambda: world.controller.stats().loops != 0)
        world.switch.kill()
        with pytest.raises(SwitchUnavailable):
            await resuming
        world.switch.start()
        await world.event(SwitchReady, after=before)
        assert world.controller.state().restarts == 1
        assert (await world.controller.switch_drops())["switch"].loads == 2
        world.replicas[102].deaf = False
        world.replicas[102].commit(1, ALL)
        resumed = await world.controller.resume(1, ALL, 102)
        world.ledger.send(40001)
        await world.ledger.settled()
        assert world.ledger.problems() == {}
        assert resumed.relayed == 20
        with pytest.raises(StaleEpoch):
            await world.controller.suspend(1, ALL, 101)


async def test_a_rival_takes_mastership_and_it_is_won_back(make_world, kit):
    async with make_world(mastership_retry=RIVAL_HAS) as world:
        await world.controller.set_buckets(TO_101)
        before = len(world.events)
        async with rival_of(world, 5000) as rival:
            assert rival.is_primary
            await world.event(SwitchLost, after=before)
            vandalism = [
                -P4TableEntry("bucket", match=P4TableMatch(bucket=7)),
                ~P4TableEntry(
                    "bucket", match=P4TableMatch(bucket=8), action=P4TableAction("steer_bucket", replica=9, suspend=0)
                ),
                +P4TableEntry("replica", match=P4TableMatch(replica=999), action=P4TableAction("to_replica", port=99)),
            ]
            await rival.write(vandalism)
            ready = await world.event(SwitchReady, after=before)
        assert not ready.pipeline_loaded
        assert (ready.inserted, ready.modified, ready.deleted) == (1, 1, 1)
        assert world.controller.stats().election_id > 5000
        world.ledger.send(40001)
        await world.ledger.settled()
        assert world.ledger.problems() == {}


async def test_without_reclaim_it_waits_until_the_rival_leaves(make_world):
    async with make_world(reclaim=False, ready_deadline=0.5) as world:
        before = len(world.events)
        async with rival_of(world, 5000):
            await world.event(SwitchLost, after=before)
            with pytest.raises(SwitchUnavailable, match=r"another client is primary|not ready"):
                await world.controller.set_buckets({1: 101})
        await world.event(SwitchReady, after=before)
        await world.controller.set_buckets({1: 101})


async def test_entries_that_others_wrote_are_no_obstacle(make_world, kit):
    async with make_world() as world:
        await world.controller.wait_ready()
        schema = finsy.P4Schema(P4INFO, P4BLOB)
        link = world.controller._session.link
        entry = P4TableEntry("bucket", match=P4TableMatch(bucket=5), action=P4TableAction("ask_controller"))
        await link.write([(+entry).encode_update(schema)])
        await world.controller.set_buckets({5: 101, 6: 101})
        await link.write([(-P4TableEntry("bucket", match=P4TableMatch(bucket=6))).encode_update(schema)])
        await world.controller.set_buckets({6: 102})
        assert world.controller.stats().updates_repaired == 2
        changes = await world.controller.reconcile()
        assert (changes.inserted, changes.modified, changes.deleted) == (0, 0, 0)


async def test_a_successor_finishes_the_move_of_a_crashed_controller(make_world, kit):
    async with make_world() as world:
        await world.controller.set_buckets(TO_101)
        key = kit.flow_key(40001)
        await world.controller.suspend(5, scope_of(key), 101)
        await world.controller.drain(5, 101)
        world.replicas[102].commit(5, scope_of(key))
        world.replicas[102].expected[5] = 4  # the predecessor had relayed three packets
        await world.controller.aclose()
        events: list[object] = []
        options = kit.options_for(world.switch, election_id=500)
        async with Controller(options, events.append) as successor:
            successor.restore(RestoredState(replicas={101: 11, 102: 12}, newest_epoch=5))
            await successor.wait_ready()
            assert successor.buckets() == TO_101
            assert [(f.key, f.replica, f.suspended) for f in await successor.flows()] == [(key, 101, True)]
            for _ in range(5):
                world.ledger.send(40001)
            await kit.eventually(lambda: successor.stats().orphan_packets >= 5)
            resumed = await successor.resume(5, scope_of(key), 102)
            assert resumed.relayed == 5
            world.ledger.send(40001)
            await world.ledger.settled()
            assert world.ledger.problems() == {}
            assert world.replicas[102].expected[5] == 4 + 5 + 1


async def test_a_dead_target_is_given_up_and_another_gets_what_is_left(make_world, kit):
    async with make_world(replicas=3, relay_deadline=2.0, relay_retry=0.05) as world:
        await world.controller.set_buckets(TO_101)
        await world.controller.suspend(1, ALL, 101)
        await world.controller.drain(1, 101)
        for _ in range(10):
            world.ledger.send(40001)
        world.replicas[102].deaf = True
        await kit.eventually(lambda: world.controller.stats().buffered_packets >= 10)
        with pytest.raises(Timeout, match="replica 102"):
            await world.controller.resume(1, ALL, 102)
        world.replicas[103].commit(1, ALL)
        resumed = await world.controller.resume(1, ALL, 103)
        assert (resumed.target, resumed.relayed) == (103, 10)
        await world.ledger.settled()
        assert world.ledger.problems() == {}


async def test_a_replica_that_does_not_echo_is_reported(make_world):
    async with make_world(marker_deadline=0.4, marker_retry=0.05) as world:
        world.replicas[101].deaf = True
        with pytest.raises(Timeout, match="MARKER of move 3, replica 101"):
            await world.controller.drain(3, 101)


async def test_a_full_buffer_drops_the_newest_and_counts(make_world, kit):
    async with make_world(buffer_packets=10) as world:
        await world.controller.set_buckets(TO_101)
        await world.controller.suspend(1, ALL, 101)
        await world.controller.drain(1, 101)
        for _ in range(25):
            world.ledger.send(40001)
        await kit.eventually(lambda: world.controller.stats().suspended_packets >= 25)
        world.replicas[102].commit(1, ALL)
        resumed = await world.controller.resume(1, ALL, 102)
        assert (resumed.relayed, resumed.dropped, resumed.peak_packets) == (10, 15, 10)
        assert [sequence for _, sequence in world.replicas[102].processed] == list(range(10))
        assert world.controller.stats().dropped_buffer_full == 15


async def test_wrong_arguments_change_nothing(make_world, kit):
    async with make_world() as world:
        controller = world.controller
        await controller.set_buckets(TO_101)
        with pytest.raises(UnknownReplica):
            await controller.suspend(1, ALL, 55)
        with pytest.raises(UnknownReplica):
            await controller.resume(1, ALL, 55)
        with pytest.raises(UnknownReplica):
            await controller.set_buckets({1: 55})
        for epoch, scope in ((0, ALL), (1 << 32, ALL), (1, Scope(buckets=(1024,))), (1, Scope(keys=(b"short",)))):
            with pytest.raises(BadInput):
                await controller.suspend(epoch, scope, 101)
        for replica, port in ((0, 13), (70000, 13), (103, 0), (103, 510), (103, 1), (103, 11), (101, 13)):
            with pytest.raises(BadInput):
                await controller.register_replica(replica, port)
        await controller.suspend(1, Scope(buckets=(3,)), 101)
        with pytest.raises(ScopeConflict):
            await controller.suspend(2, Scope(buckets=(3, 4)), 101)
        with pytest.raises(BadInput, match="being moved"):
            await controller.set_buckets({3: 102})
        assert controller.abandon(1) == 0
        assert controller.abandon(1) == 0
        await controller.set_buckets(TO_101)
        await controller.unregister_replica(102)
        await controller.unregister_replica(102)
        assert controller.replicas() == {101: 11}
        changes = await controller.reconcile()
        assert (changes.inserted, changes.modified, changes.deleted) == (0, 0, 0)


async def test_switch_drops_are_named(make_world):
    async with make_world(marker_retry=5.0) as world:  # one marker: the echo of each is counted
        world.ledger.send(40001)
        await world.controller.drain(1, 101)  # the echo enters the switch behind the packet
        counted = (await world.controller.switch_drops())["switch"]
        drops = counted.packets
        assert counted.loads == 1
        assert {reason.name: count for reason, count in drops.items() if count} == {"NO_BUCKET": 1, "PUNTED": 1}


async def test_a_pipeline_that_a_rival_loaded_again_doubles_no_clones(make_world, kit):
    async with make_world(mastership_retry=RIVAL_HAS) as world:
        await world.controller.set_buckets(TO_101)
        before = len(world.events)
        options = finsy.SwitchOptions(p4info=P4INFO, p4blob=P4BLOB, initial_election_id=5000, p4force=True)
        async with finsy.Switch("rival", world.switch.grpc, options):
            await world.event(SwitchReady, after=before)
        await world.controller.suspend(1, ALL, 101)
        await world.controller.drain(1, 101)
        for _ in range(10):
            world.ledger.send(40001)
        await kit.eventually(lambda: world.controller.stats().suspended_packets >= 10)
        world.replicas[102].commit(1, ALL)
        resumed = await world.controller.resume(1, ALL, 102)
        assert resumed.relayed == 10
        await world.ledger.settled()
        assert world.ledger.problems() == {}
