"""Moves between replicas behind different switches: nothing lost, doubled or reordered, in either direction."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from p4rt_controller import NewFlow, Room, SwitchLost, SwitchReady, SwitchUnavailable, UnknownReplica
from p4src.reasons import DropReason
from splitmerge.errors import BadInput, Timeout
from splitmerge.flowkey import BUCKETS, FlowKey
from splitmerge.messages import Scope
from splitmerge.trunks import place_of
from tests.fabric.world import LINE, FabricWorld, drops_of, traffic
from tests.p4rt_controller.conftest import eventually, flow_key

pytestmark = pytest.mark.timeout(120)  # three switches compile the program, on however busy a machine

ALL = Scope(buckets=tuple(range(BUCKETS)))
PLACES = {101: ("s1", 11), 102: ("s2", 11), 103: ("s3", 11)}
"""Behind the client's switch, behind one without hosts, behind the server's."""


def scope_of(*keys: FlowKey) -> Scope:
    return Scope(keys=tuple(bytes(key) for key in keys))


async def populate(world: FabricWorld, owner: int = 101) -> None:
    for number, (switch, port) in PLACES.items():
        await world.add_replica(number, switch, port)
    await world.fabric.set_buckets(dict.fromkeys(range(BUCKETS), owner))


async def assert_whole(world: FabricWorld) -> None:
    await world.books.settled()
    assert world.books.problems() == {}
    assert world.books.tagged == 0
    drops = await drops_of(world.fabric)
    assert {reason for reason, count in drops.items() if count > world.dropped[reason]} <= {DropReason.PUNTED}


@pytest.mark.parametrize("trunks", [None, LINE], ids=["ring", "line"])
async def test_packets_find_every_replica_and_their_way_back(make_fabric, trunks):
    async with make_fabric(**({} if trunks is None else {"trunks": trunks})) as world:
        await populate(world)
        for number in PLACES:
            await world.fabric.set_buckets(dict.fromkeys(range(BUCKETS), number))
            for way in ("there", "back"):
                world.books.send(way, 40000 + number)
            await world.books.settled()
            assert len(world.replicas[number].processed) == 2
        await assert_whole(world)


async def test_a_frame_crosses_no_more_trunks_than_its_way_has(make_fabric):
    async with make_fabric(trunks=LINE) as world:
        await populate(world, owner=103)
        world.books.send("there", 40001)
        await assert_whole(world)
        crossed = {ends: line.frames for ends, line in world.trunks.items() if line.frames}
        assert crossed == {("s1", "s2"): 1, ("s2", "s3"): 1}


async def test_bucket_moves_around_the_ring_lose_nothing(make_fabric):
    async with make_fabric() as world:
        await populate(world)
        circle = itertools.pairwise([101, 102, 103, 101, 103, 102, 101] * 4)
        async with traffic(world.books, range(40000, 40010), 120):
            for epoch, (source, target) in enumerate(circle, 1):
                await world.move(epoch, ALL, source, target)
                await asyncio.sleep(0.01)
        await assert_whole(world)
        assert all(replica.processed for replica in world.replicas.values())


@pytest.mark.parametrize("slow", [None, ("s1", "s2"), ("s2", "s3"), ("s3", "s1")], ids=str)
async def test_redirected_moves_around_the_ring_lose_nothing(make_fabric, slow):
    async with make_fabric() as world:
        await populate(world)
        if slow is not None:
            world.trunks[slow].delay = 0.08
        async with traffic(world.books, range(40000, 40004), 100):
            for epoch, (source, target) in enumerate(itertools.pairwise([101, 102, 103, 101, 103, 102, 101]), 1):
                await world.redirect(epoch, ALL, source, target)
        await assert_whole(world)
        assert all(replica.processed for replica in world.replicas.values())


async def test_redirected_entries_of_single_flows_come_back_with_their_buckets(make_fabric):
    async with make_fabric() as world:
        await populate(world)
        await world.redirect(1, scope_of(flow_key(40001)), 101, 102)
        await world.fabric.set_buckets(dict.fromkeys(range(BUCKETS), 102))
        await world.redirect(2, ALL, 102, 103)
        assert [(flow.key, flow.replica) for flow in await world.fabric.flows()] == [(flow_key(40001), 103)]
        await world.fabric.suspend(2, ALL, 102)
        assert [(flow.replica, flow.suspended) for flow in await world.fabric.flows()] == [(102, True)]
        world.replicas[102].commit(2, ALL)
        await world.fabric.resume(2, ALL, 102)
        assert [(flow.replica, flow.suspended) for flow in await world.fabric.flows()] == [(102, False)]
        assert set(world.fabric.buckets().values()) == {102}


async def test_keys_are_steered_at_every_edge(make_fabric):
    async with make_fabric() as world:
        await populate(world)
        await world.fabric.steer({bytes(flow_key(40001)): 102}, ())
        for way in ("there", "back"):
            world.books.send(way, 40001)
        await assert_whole(world)
        assert len(world.replicas[102].processed) == 2
        with pytest.raises(UnknownReplica):
            await world.fabric.steer({bytes(flow_key(40002)): 109}, ())


async def test_without_order_nothing_is_lost_either(make_fabric):
    async with make_fabric() as world:
        await populate(world)
        async with traffic(world.books, range(40000, 40004), 100):
            for epoch, (source, target) in enumerate([(101, 103), (103, 102), (102, 101)], 1):
                await world.fabric.suspend(epoch, ALL, source)
                await world.fabric.drain(epoch, source)
                await world.buffered(1)
                assert (await world.fabric.resume(epoch, ALL, target, ordered=False)).relayed > 0
        await world.books.settled()
        assert {flow: sorted(got) for flow, got in world.books.got.items()} == {
            flow: list(range(count)) for flow, count in world.books.sent.items()
        }


ON_THE_WAY = [
    ("s1", "s2", "there", 0),
    ("s3", "s2", "back", 0),
    ("s2", "s3", "there", 1),
    ("s2", "s1", "back", 1),
]
"""Trunk, direction of a packet that is on it, whether the source has processed it."""


@pytest.mark.parametrize(("here", "there", "way", "processed"), ON_THE_WAY, ids=["in", "in back", "out", "out back"])
async def test_drain_waits_for_what_is_still_on_a_trunk(make_fabric, here, there, way, processed):
    """On its way to the source, or from it: the target, whose way is another, must not begin before it has arrived."""
    async with make_fabric() as world:
        await populate(world, owner=102)
        trunk = world.trunks[here, there]
        trunk.open.clear()
        world.books.send(way, 40001)
        async with asyncio.timeout(10):
            while not trunk.frames:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert len(world.replicas[102].processed) == processed
        await world.fabric.suspend(1, ALL, 102)
        world.books.send(way, 40001)
        draining = asyncio.create_task(world.fabric.drain(1, 102))
        await asyncio.sleep(0.3)
        assert not draining.done()
        trunk.open.set()
        await draining
        target = {"there": 103, "back": 101}[way]
        world.replicas[target].commit(1, ALL)
        await world.fabric.resume(1, ALL, target)
        await assert_whole(world)


SLOW = [("s1", "s2"), ("s2", "s3"), ("s3", "s1")]


@pytest.mark.parametrize("slow", SLOW, ids=lambda ends: "-".join(ends))
async def test_a_slow_trunk_changes_no_order(make_fabric, slow):
    async with make_fabric() as world:
        await populate(world)
        world.trunks[slow].delay = 0.08
        pairs = itertools.pairwise([101, 102, 103, 101, 103, 102, 101])
        async with traffic(world.books, range(40000, 40003), 100):
            for epoch, (source, target) in enumerate(pairs, 1):
                await world.move(epoch, ALL, source, target)
        await assert_whole(world)


async def test_single_flows_move_and_the_others_stay(make_fabric):
    async with make_fabric() as world:
        await populate(world)
        moved, stays = flow_key(40001), flow_key(40002)
        async with traffic(world.books, [40001, 40002], 100):
            await eventually(lambda: {key for key, _ in world.replicas[101].processed} == {moved, stays})
            resumed = await world.move(1, scope_of(moved), 101, 102)
            await eventually(lambda: bool(world.replicas[102].processed))
        await assert_whole(world)
        assert resumed.dropped == 0 and resumed.target == 102
        assert {key for key, _ in world.replicas[102].processed} == {moved}
        assert stays in {key for key, _ in world.replicas[101].processed}
        flows = await world.fabric.flows()
        assert [(flow.key, flow.replica, flow.suspended) for flow in flows] == [(moved, 102, False)]
        assert await world.fabric.forget([moved]) == 1
        assert await world.fabric.flows() == []


async def test_what_waits_for_a_planned_move_does_not_expire_at_any_switch(make_fabric):
    async with make_fabric(assignment="least-loaded", orphan_seconds=0.4) as world:
        for number, (switch, port) in PLACES.items():
            await world.add_replica(number, switch, port)
        wanted = flow_key(40001)
        world.fabric.keep_for(lambda keys: [key for key in keys if key == wanted])
        world.books.send("there", 40001)
        assert await world.event(NewFlow) == NewFlow(wanted)
        await asyncio.sleep(1)
        assert world.fabric.waiting([wanted]) == [wanted]
        world.replicas[102].commit(7, scope_of(wanted))
        assert (await world.fabric.resume(7, scope_of(wanted), 102)).relayed == 1


async def test_new_flows_are_announced_once_though_both_ends_begin(make_fabric):
    async with make_fabric(assignment="least-loaded") as world:
        for number, (switch, port) in PLACES.items():
            await world.add_replica(number, switch, port)
        for _ in range(4):
            world.books.send("there", 40001)
            world.books.send("back", 40001)
        event = await world.event(NewFlow)
        await eventually(lambda: world.fabric.packet_figures().passed["new_flows"] >= 8)
        async with traffic(world.books, [40001], 100):
            await asyncio.sleep(0.1)
            scope = scope_of(event.key)
            world.replicas[102].commit(7, scope)
            resumed = await world.fabric.resume(7, scope, 102)
        await assert_whole(world)
        assert [each for each in world.events if isinstance(each, NewFlow)] == [event]
        assert resumed.relayed >= 8
        assert await world.fabric.resume(7, scope, 102) == resumed


async def test_an_unfinished_move_goes_back_to_the_source(make_fabric):
    async with make_fabric() as world:
        await populate(world)
        async with traffic(world.books, [40001, 40002], 100):
            await world.fabric.suspend(1, ALL, 101)
            await world.fabric.drain(1, 101)
            await world.buffered(1)
            world.replicas[101].commit(1, ALL)
            resumed = await world.fabric.resume(1, ALL, 101)
        await assert_whole(world)
        assert resumed.target == 101 and resumed.relayed > 0


@pytest.mark.parametrize("name", ["s1", "s2", "s3"])
async def test_a_switch_that_starts_again_gets_its_tables_back(make_fabric, name):
    async with make_fabric() as world:
        await populate(world)
        await world.move(1, scope_of(flow_key(40001)), 101, 102)
        before = len(world.events)
        world.processes[name].kill()
        lost = await world.event(SwitchLost, after=before)
        assert lost.reason.startswith(f"switch {name}: ")
        assert [each for each, state in world.fabric.switches().items() if not state.ready] == [name]
        await asyncio.to_thread(world.processes[name].start)
        await world.event(SwitchReady, after=before)
        for way in ("there", "back"):
            world.books.send(way, 40001)
            world.books.send(way, 40002)
        await assert_whole(world)
        assert len(world.replicas[102].processed) == 2 == len(world.replicas[101].processed)


async def test_a_move_waits_for_an_edge_and_fails_in_time_without_it(make_fabric):
    async with make_fabric(ready_deadline=1.0) as world:
        await populate(world)
        world.processes["s3"].kill()
        await world.event(SwitchLost)
        with pytest.raises(SwitchUnavailable, match=world.processes["s3"].grpc):
            await world.fabric.suspend(1, ALL, 101)
        before = len(world.events)  # it may be ready before `start` returns
        await asyncio.to_thread(world.processes["s3"].start)
        await world.event(SwitchReady, after=before)
        world.replicas[101].commit(1, ALL)
        assert (await world.fabric.resume(1, ALL, 101)).dropped == 0


async def test_a_cut_trunk_lets_a_drain_time_out(make_fabric):
    async with make_fabric(marker_deadline=3.0, marker_retry=3.0) as world:  # one marker each, and time to come back
        await populate(world)
        world.trunks["s3", "s1"].cut = True
        with pytest.raises(Timeout, match="MARKER of move 0, replica 101"):
            await world.fabric.drain(1, 101)
        world.trunks["s3", "s1"].cut = False
        world.trunks["s1", "s3"].cut = True
        with pytest.raises(Timeout, match="FENCE of move 1"):
            await world.fabric.drain(1, 101)
        world.trunks["s1", "s3"].cut = False
        assert (await world.fabric.drain(1, 101)).rounds == 3


async def test_places_and_replicas_that_there_are_not_are_refused(make_fabric):
    async with make_fabric() as world:
        await populate(world)
        with pytest.raises(BadInput, match="there is no switch 4"):
            await world.fabric.register_replica(104, place_of(3, 11))
        with pytest.raises(BadInput, match="port 21 belongs to a trunk"):
            await world.fabric.register_replica(104, place_of(0, 21))
        with pytest.raises(BadInput, match="registered at another place"):
            await world.fabric.register_replica(101, place_of(1, 14))
        with pytest.raises(UnknownReplica):
            await world.fabric.suspend(1, ALL, 104)
        assert sorted(world.fabric.replicas()) == [101, 102, 103]
        await world.fabric.unregister_replica(103)
        with pytest.raises(UnknownReplica):
            await world.fabric.drain(1, 103)


async def test_a_move_is_given_less_room_at_all_edges_together(make_fabric):
    async with make_fabric() as world:
        await populate(world)
        await world.fabric.suspend(1, ALL, 101, Room(packets=4))
        for way in ("there", "back") * 4:
            world.books.send(way, 40001)
        await eventually(lambda: world.fabric.packet_figures().drops["buffer_full"] == 4)
        await world.fabric.drain(1, 101)
        world.replicas[102].commit(1, ALL)
        resumed = await world.fabric.resume(1, ALL, 102)
        assert (resumed.relayed, resumed.dropped) == (4, 4)
