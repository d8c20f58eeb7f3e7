"""Ports of translated flows: no two replicas give out the same one, and replies come to the replica with the flow.

Whatever moves, and whatever is late. See `ports_world`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitmerge import messages as m
from splitmerge.flowkey import FlowKey
from tests.guestlib.conftest import Count
from tests.orchestrator.ports_world import World, flows_of_buckets

FLOWS = flows_of_buckets(3, 5)
B1, B2, B3 = FLOWS
WHAT = ("begin", "begin", "begin", "expect", "end", "flow", "bucket", "poll", "poll", "hear", "hear", "say", "say")
Step = tuple[str, int, int, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(WHAT), st.integers(0, 2), st.integers(0, 14), st.integers(0, 63)),
    min_size=30, max_size=150,
)  # fmt: skip


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has changed is told as soon as it has: that buckets are whole again, above all."""
    monkeypatch.setattr("orchestrator.ownership.owned.PAUSE", 0.0)


def take(world: World, step: Step) -> None:
    what, which, flow, number = step
    keys = [key for flows in FLOWS.values() for key in flows]
    replica, key, bucket = world.replicas[which], keys[flow], (B1, B2, B3)[flow % 3]
    match what:
        case "begin":
            world.begin(key, number, "g" if flow % 4 == 0 else "")
        case "expect":
            world.expect(replica, key, number, "g" if number % 4 else "", away=number % 3 == 0)
        case "end":
            world.end(replica, number)
        case "flow" if number >= 48:  # one that was expected, perhaps, and is not answered yet
            key = any_flow(world, flow, key)
            world.move(m.Scope(keys=(bytes(key),)), world.placement.owner(key), replica)
        case "flow":
            world.move(m.Scope(keys=(bytes(key),)), world.placement.owner(key), replica, commit=number % 4 > 0)
        case "bucket":
            world.move(m.Scope(buckets=(bucket,)), world.placement.bucket_owner(bucket), replica, commit=number % 4 > 0)
        case "poll":
            world.poll(replica)
        case "hear":
            world.hear(replica)
        case _:
            world.say(replica)


def any_flow(world: World, number: int, none: FlowKey) -> FlowKey:
    keys = sorted({flow.key for guest in world.guests.values() for flow in guest.table.flows()})
    return keys[number * 7 % len(keys)] if keys else none


async def go(steps: list[Step]) -> World:
    world = World(FLOWS)
    for step in steps:
        take(world, step)
        for _ in range(number_of_turns(step)):
            await asyncio.sleep(0)
        world.check()
    await world.settle()
    return world


def number_of_turns(step: Step) -> int:
    return step[3] % 8


@settings(max_examples=60, deadline=None)
@given(STEPS)
@pytest.mark.timeout(300)
def test_no_two_replicas_have_one_port(steps: list[Step]) -> None:
    asyncio.run(go(steps))


# -- what has gone wrong ------------------------------------------------------------------------------------------


def ports(world: World, replica: int, home: FlowKey) -> list[FlowKey]:
    """Where the flows outside are that the replica has let out, of the flow inside with this key."""
    flow = world.guests[replica].table.active[home]
    return [key for key in flow.aliases if key not in (flow.pending or ())]


def run(story: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def told() -> None:
        world = World(FLOWS)
        await world.settle()
        await story(world)
        world.check()

    asyncio.run(told())


def test_a_flow_moves_alone_and_then_its_bucket_elsewhere() -> None:
    async def story(world: World) -> None:
        flow, other = FLOWS[B1][:2]
        world.begin(flow, 0)
        for scope, target in ((m.Scope(keys=(bytes(flow),)), 3), (m.Scope(buckets=(B1,)), 2)):
            world.move(scope, 1, target)
            await world.settle()
        assert world.guests[2].table.fences.mixed == {B1} and B1 in (world.guests[2].table.fences.owned or ())
        world.begin(other, 0)
        await world.settle()
        assert world.refused == 1 and not world.guests[2].has_flow(other)
        world.begin(other, 0)
        await world.settle()
        (port,) = ports(world, 2, other)
        assert port not in ports(world, 3, flow) and world.leads(port) == 2 and port not in world.entries
        # … and once it has ended, nobody is asked any more.
        world.end(3, 0)
        await world.settle()
        assert not world.guests[2].table.fences.mixed and not world.entries

    run(story)


def test_a_port_in_a_bucket_that_is_moved_later_stays_with_its_flow() -> None:
    async def story(world: World) -> None:
        flow = FLOWS[B1][0]
        world.begin(flow, 0)
        world.move(m.Scope(keys=(bytes(flow),)), 1, 2)
        await world.settle()
        world.begin(flow, 0)  # one more port: its bucket is not here
        await world.settle()
        assert [port.bucket for port in ports(world, 2, flow)] == [B1, B2]
        world.move(m.Scope(buckets=(B2,)), 2, 3)
        await world.settle()
        world.begin(FLOWS[B2][0], 0)
        await world.settle()
        assert world.refused == 1 and world.leads(ports(world, 2, flow)[1]) == 2

    run(story)


@pytest.mark.parametrize("asked", [False, True], ids=["as the bucket leaves", "before"])
def test_a_port_is_asked_of_who_has_its_bucket_by_then(asked: bool) -> None:
    """It was chosen in a bucket that was here, and the orchestrator hears of it when it is not any more."""

    async def story(world: World) -> None:
        flow, other = FLOWS[B1][0], FLOWS[B2][0]
        world.begin(flow, 0)
        world.move(m.Scope(keys=(bytes(flow),)), 1, 2)
        await world.settle()
        world.begin(flow, 0)
        if asked:
            world.poll(2)
        world.move(m.Scope(buckets=(B2,)), 2, 3)
        while world.buckets[B2] != 3:
            for replica in world.replicas:
                world.hear(replica)
                if replica != 2 or not isinstance(world.up[2][0] if world.up[2] else None, m.AddKeys):
                    world.say(replica)
                else:
                    world.up[2].rotate(-1)  # the question is slow
            await asyncio.sleep(0)
        world.begin(other, 0)
        await world.settle()
        assert world.refused == 1

    run(story)


def test_who_is_asked_for_a_key_asks_itself_from_then_on() -> None:
    async def story(world: World) -> None:
        world.move(m.Scope(buckets=(B2,)), 2, 3)
        await world.settle()
        world.expect(2, FLOWS[B1][0], 0)  # in a bucket of replica 1's, as none is here
        await world.settle()
        assert world.guests[1].table.fences.mixed == {B1}
        world.begin(FLOWS[B1][1], 0)
        await world.settle()
        assert world.refused == 1
        world.end(2, 0)
        await world.settle()
        assert not world.guests[1].table.fences.mixed

    run(story)


def test_a_flow_that_comes_back_leaves_its_bucket_whole_and_so_does_a_move_undone() -> None:
    async def story(world: World) -> None:
        flow, other = FLOWS[B1][:2]
        scope = m.Scope(keys=(bytes(flow),))
        world.begin(flow, 0)
        for source, target, commit in ((1, 2, True), (2, 1, True), (1, 2, False)):
            world.move(scope, source, target, commit=commit)
            await world.settle()
            assert world.guests[1].table.fences.mixed == ({B1} if (target, commit) == (2, True) else set())
        world.begin(other, 1)
        assert len(ports(world, 1, other)) == 1, "nobody is asked"

    run(story)


@pytest.mark.parametrize("over", [False, True], ids=["that lives", "that is over"])
def test_a_group_does_not_take_the_key_of_another_replicas_flow_along(over: bool) -> None:
    """The first expects a flow with a key that it found itself; the move begins before anybody is asked for it."""

    async def story(world: World) -> None:
        world.move(m.Scope(buckets=(B1,)), 1, 2)  # the first has no bucket left
        await world.settle()
        group, theirs = FLOWS[B1][:2]
        world.move(m.Scope(keys=(bytes(group),)), 2, 1)
        await world.settle()
        world.guests[1].create_flow(group, Count(), group="g")
        world.expect(2, theirs, 0, away=True)
        await world.settle()
        (port,) = (flow.key for flow in world.guests[2].table.flows())
        world.expect(1, group, 0, "g")
        assert world.guests[1].has_flow(port)
        if over:
            world.end(2, 0)
        world.move(m.Scope(keys=(bytes(group),)), 1, 3)
        await world.settle()
        assert world.guests[3].has_flow(group) and world.entries[group] == 3
        assert (world.leads(port), world.refused) == ((3, 0) if over else (2, 1))
        assert [replica for replica in world.replicas if world.guests[replica].has_flow(port)] == [3 if over else 2]

    run(story)
