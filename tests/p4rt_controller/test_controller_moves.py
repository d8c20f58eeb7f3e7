"""Whole moves on a real switch: numbered traffic, nothing lost, doubled or reordered."""

from __future__ import annotations

import asyncio

import pytest

from p4rt_controller import BufferFull, NewFlow, Room, SwitchReady, UnknownReplica
from splitmerge.errors import BadInput
from splitmerge.flowkey import BUCKETS, FlowKey
from splitmerge.messages import Scope

pytestmark = pytest.mark.timeout(120)  # the switch compiles the program, on however busy a machine

ALL = Scope(buckets=tuple(range(BUCKETS)))


def scope_of(*keys: FlowKey) -> Scope:
    return Scope(keys=tuple(bytes(key) for key in keys))


async def test_bucket_moves_under_load_lose_nothing(make_world, kit):
    async with make_world() as world:
        await world.controller.set_buckets(dict.fromkeys(range(BUCKETS), 101))
        sports = list(range(40000, 40020))
        async with kit.traffic(world.ledger, sports, 300):
            here, there = 101, 102
            for epoch in range(1, 11):
                await world.move(epoch, ALL, here, there)
                here, there = there, here
                await asyncio.sleep(0.02)
        await world.ledger.settled()
        assert world.ledger.problems() == {}
        assert all(replica.processed for replica in world.replicas.values())
        stats = world.controller.stats()
        assert stats.relayed == stats.suspended_packets > 0
        assert stats.buffered_packets == stats.moves == 0


async def test_moves_of_single_flows_leave_the_others_alone(make_world, kit):
    async with make_world() as world:
        await world.controller.set_buckets(dict.fromkeys(range(BUCKETS), 101))
        moved, stays = kit.flow_key(40001), kit.flow_key(40002)
        async with kit.traffic(world.ledger, [40001, 40002], 250):
            await kit.eventually(lambda: {key for key, _ in world.replicas[101].processed} == {moved, stays})
            resumed = await world.move(1, scope_of(moved), 101, 102)
            await kit.eventually(lambda: bool(world.replicas[102].processed))
        await world.ledger.settled()
        assert world.ledger.problems() == {}
        assert resumed.dropped == 0
        assert {key for key, _ in world.replicas[102].processed} == {moved}
        assert stays in {key for key, _ in world.replicas[101].processed}
        flows = await world.controller.flows()
        assert [(flow.key, flow.replica, flow.suspended) for flow in flows] == [(moved, 102, False)]
        assert flows[0].packets > 0 < flows[0].bytes


async def test_a_replica_that_loses_relayed_frames_gets_them_again(make_world, kit):
    async with make_world(loss=0.1, relay_retry=0.05) as world:
        await world.controller.set_buckets(dict.fromkeys(range(BUCKETS), 101))
        sports = [40001, 40002, 40003]
        async with kit.traffic(world.ledger, sports, 250):
            for epoch, (source, target) in enumerate([(101, 102), (102, 101)] * 3, 1):
                await world.controller.suspend(epoch, ALL, source)
                await world.controller.drain(epoch, source)
                await asyncio.sleep(0.05)
                world.replicas[target].commit(epoch, ALL)
                await world.controller.resume(epoch, ALL, target)
        await world.ledger.settled()
        assert world.ledger.problems() == {}
        assert world.controller.stats().retransmitted > 0


async def test_new_flows_are_announced_once_and_delivered_after_assignment(make_world, kit):
    async with make_world(assignment="least-loaded") as world:
        for _ in range(5):
            world.ledger.send(40001)
        event = await world.event(NewFlow)
        assert event == NewFlow(kit.flow_key(40001))
        await kit.eventually(lambda: world.controller.stats().new_flow_packets >= 5)
        async with kit.traffic(world.ledger, [40001], 200):
            await asyncio.sleep(0.1)
            scope = scope_of(event.key)
            world.replicas[102].commit(7, scope)
            resumed = await world.controller.resume(7, scope, 102)
        await world.ledger.settled()
        assert world.ledger.problems() == {}
        assert [event for event in world.events if isinstance(event, NewFlow)] == [event]
        assert resumed.relayed >= 5
        assert world.replicas[101].processed == []
        assert world.controller.stats().new_flows_waiting == 0
        assert await world.controller.resume(7, scope, 102) == resumed


async def test_a_new_flow_that_nobody_takes_is_announced_again(make_world, kit):
    async with make_world(assignment="least-loaded", orphan_seconds=2.0) as world:
        world.ledger.send(40001)
        event = await world.event(NewFlow)
        assert await world.event(NewFlow, after=world.events.index(event) + 1) == event
        world.replicas[102].commit(7, scope_of(event.key))
        await world.controller.resume(7, scope_of(event.key), 102)
        assert world.controller.waiting([event.key]) == []


async def test_a_new_flow_whose_move_is_planned_does_not_expire(make_world, kit):
    """Its move may wait for others for longer than packets that nobody wants are kept."""
    async with make_world(assignment="least-loaded", orphan_seconds=0.4) as world:
        wanted = kit.flow_key(40001)
        world.controller.keep_for(lambda keys: [key for key in keys if key == wanted])
        world.ledger.send(40001)
        world.ledger.send(40002)
        await kit.eventually(lambda: world.controller.stats().dropped_expired == 1)
        await asyncio.sleep(0.6)
        assert (world.controller.stats().dropped_expired, world.controller.waiting([wanted])) == (1, [wanted])
        world.replicas[102].commit(7, scope_of(wanted))
        assert (await world.controller.resume(7, scope_of(wanted), 102)).relayed == 1


async def test_bucket_moves_bring_flow_entries_of_the_source_along(make_world, kit):
    async with make_world(replicas=3) as world:
        await world.controller.set_buckets(dict.fromkeys(range(BUCKETS), 101))
        ours, others = kit.flow_key(40001), kit.flow_key(40002)
        await world.move(1, scope_of(others), 101, 103)
        await world.move(2, scope_of(ours), 101, 102)
        await world.controller.set_buckets(dict.fromkeys(range(BUCKETS), 102))
        await world.move(3, ALL, 102, 101)
        flows = {flow.key: (flow.replica, flow.suspended) for flow in await world.controller.flows()}
        assert flows == {ours: (101, False), others: (103, False)}
        assert set(world.controller.buckets().values()) == {101}
        assert await world.controller.forget([ours]) == 1
        assert [flow.key for flow in await world.controller.flows()] == [others]


async def test_second_keys_stay_when_their_bucket_moves_and_move_when_named(make_world, kit):
    async with make_world() as world:
        await world.controller.set_buckets(dict.fromkeys(range(BUCKETS), 101))
        second, along = kit.flow_key(40001), kit.flow_key(40002)
        await world.controller.steer({second: 101, along: 101}, [second])
        async with kit.traffic(world.ledger, [40001], 200):
            await world.move(1, ALL, 101, 102)
            flows = {flow.key: flow.replica for flow in await world.controller.flows()}
            assert flows == {second: 101, along: 102}
            await world.move(2, scope_of(second), 101, 102)
        await world.ledger.settled()
        assert world.ledger.problems() == {}
        assert {flow.key: flow.replica for flow in await world.controller.flows()} == {second: 102, along: 102}
        await world.controller.suspend(3, scope_of(second), 102)
        with pytest.raises(BadInput, match="being moved"):
            await world.controller.steer({second: 101}, [second])
        with pytest.raises(UnknownReplica):
            await world.controller.steer({along: 109}, [])
        await world.move(3, scope_of(second), 102, 102)
        assert await world.controller.forget([second, along]) == 2


async def test_an_unfinished_move_goes_back_to_the_source(make_world, kit):
    async with make_world() as world:
        await world.controller.set_buckets(dict.fromkeys(range(BUCKETS), 101))
        async with kit.traffic(world.ledger, [40001, 40002], 200):
            await world.controller.suspend(1, ALL, 101)
            await world.controller.drain(1, 101)
            await kit.eventually(lambda: world.controller.stats().buffered_packets > 0)
            world.replicas[101].commit(1, ALL)
            resumed = await world.controller.resume(1, ALL, 101)
        await world.ledger.settled()
        assert world.ledger.problems() == {}
        assert resumed.target == 101
        assert resumed.relayed > 0


async def test_two_moves_at_once_keep_apart(make_world, kit):
    async with make_world(replicas=3) as world:
        await world.controller.set_buckets(dict.fromkeys(range(BUCKETS), 101))
        first, second = kit.flow_key(40001), kit.flow_key(40002)
        async with kit.traffic(world.ledger, [40001, 40002, 40003], 250):
            await asyncio.gather(world.move(1, scope_of(first), 101, 102), world.move(2, scope_of(second), 101, 103))
        await world.ledger.settled()
        assert world.ledger.problems() == {}
        flows = {flow.key: flow.replica for flow in await world.controller.flows()}
        assert flows == {first: 102, second: 103}


async def test_ready_says_what_was_written(make_world):
    async with make_world() as world:
        ready = await world.event(SwitchReady)
        assert ready.pipeline_loaded
        assert ready.inserted >= 2 + 3 + 2


async def test_a_redirected_move_keeps_nothing_here(make_world, kit):
    """The target keeps the packets: the order is right without any of them passing the controller."""
    async with make_world() as world:
        await world.controller.set_buckets(dict.fromkeys(range(BUCKETS), 101))
        async with kit.traffic(world.ledger, list(range(40000, 40010)), 300):
            here, there = 101, 102
            for epoch in range(1, 11):
                world.replicas[there].commit(epoch, ALL)
                await world.controller.redirect(epoch, ALL, here, there, mark=True)
                await world.controller.drain(epoch, here)
                world.replicas[there].release(epoch)
                assert world.controller.abandon(epoch) == 0
                here, there = there, here
                await asyncio.sleep(0.02)
        await world.ledger.settled()
        assert world.ledger.problems() == {}
        assert all(replica.processed for replica in world.replicas.values())
        assert world.controller.stats().suspended_packets == 0


async def test_a_redirected_move_is_fenced_off_and_given_back_in_order(make_world, kit):
    async with make_world() as world:
        await world.controller.set_buckets(dict.fromkeys(range(BUCKETS), 101))
        await world.controller.redirect(1, scope_of(kit.flow_key(40000)), 101, 102)  # stays, with its own entry
        source, target = world.replicas[101], world.replicas[102]
        async with kit.traffic(world.ledger, list(range(40000, 40010)), 300):
            for epoch in range(2, 7):
                target.commit(epoch, ALL)
                await world.controller.redirect(epoch, ALL, 101, 102, mark=True)
                await asyncio.sleep(0.02)
                await world.controller.suspend(epoch, ALL, 101, mark=True)
                await world.controller.drain(epoch, 101)
                source.commit(epoch, ALL)
                await world.controller.drain(epoch, 102)
                target.give_back(epoch, source)
                await world.controller.resume(epoch, ALL, 101)
        await world.ledger.settled()
        assert world.ledger.problems() == {}
        assert {key for key, _ in target.processed} <= {kit.flow_key(40000)}


@pytest.mark.parametrize("mark", [False, True])
async def test_the_sources_marker_is_on_its_way_when_the_write_is_answered_if_that_is_wanted(make_world, mark: bool):
    """And `drain` waits for that one: each move sends one marker."""
    async with make_world() as world:
        await world.controller.set_buckets(dict.fromkeys(range(BUCKETS), 101))
        await world.controller.suspend(1, Scope(buckets=(0,)), 101, mark=mark)
        assert world.controller.stats().packet_outs == mark
        await world.controller.drain(1, 101)
        assert world.controller.stats().packet_outs == 1
        await world.controller.redirect(2, Scope(buckets=(1,)), 101, 102, mark=mark)
        assert world.controller.stats().packet_outs == 1 + mark
        await world.controller.drain(2, 101)
        assert world.controller.stats().packet_outs == 2


async def test_loss_free_delivery_begins_before_all_is_collected(make_world, kit):
    async with make_world() as world:
        await world.controller.set_buckets(dict.fromkeys(range(BUCKETS), 101))
        async with kit.traffic(world.ledger, [40001, 40002], 300):
            for epoch, (source, target) in enumerate([(101, 102), (102, 101)] * 3, 1):
                await world.controller.suspend(epoch, ALL, source)
                await world.controller.drain(epoch, source)
                await asyncio.sleep(0.02)
                await world.controller.resume(epoch, ALL, target, ordered=False)
        await world.ledger.settled()
        assert world.ledger.lost_or_doubled() == {}
        stats = world.controller.stats()
        assert stats.relayed == stats.suspended_packets > 0


async def test_a_move_is_given_less_room_than_others_and_says_that_it_is_full(make_world, kit):
    async with make_world() as world:
        await world.controller.set_buckets(dict.fromkeys(range(BUCKETS), 101))
        small, other = kit.flow_key(40001), kit.flow_key(40002)
        await world.controller.suspend(1, scope_of(small), 101, Room(packets=4))
        await world.controller.suspend(2, scope_of(other), 101)
        for _ in range(7):
            world.ledger.send(40001)
            world.ledger.send(40002)
        await kit.eventually(lambda: world.controller.stats().suspended_packets == 14)
        resumed = []
        for epoch, key in ((1, small), (2, other)):
            await world.controller.drain(epoch, 101)
            world.replicas[102].commit(epoch, scope_of(key))
            resumed.append(await world.controller.resume(epoch, scope_of(key), 102))
        assert [(each.relayed, each.dropped, each.peak_packets) for each in resumed] == [(4, 3, 4), (7, 0, 7)]
        assert [event for event in world.events if isinstance(event, BufferFull)] == [BufferFull(1)]
