"""A switch whose flow table is full, with the real program and a table of four entries."""

from __future__ import annotations

from pathlib import Path

import pytest

from p4rt_controller import NewFlow, WriteRejected
from p4src import P4BLOB, P4INFO
from splitmerge.flowkey import BUCKETS, FlowKey
from splitmerge.messages import Scope

pytestmark = pytest.mark.timeout(120)  # the switch compiles the program, on however busy a machine
ROOM = 4
"""Entries."""


def scope_of(*keys: FlowKey) -> Scope:
    return Scope(keys=tuple(bytes(key) for key in keys))


@pytest.fixture
def small(tmp_path: Path) -> dict[str, Path]:
    """The program with a small table of IPv4 flows."""
    texts = {"p4info": P4INFO.read_text(), "p4blob": P4BLOB.read_text()}
    sizes = {"p4info": "size: 262144", "p4blob": '"max_size" : 262144'}
    for name, text in texts.items():
        assert text.count(sizes[name]) == 1
        (tmp_path / name).write_text(text.replace(sizes[name], sizes[name].replace("262144", str(ROOM))))
    return {name: tmp_path / name for name in texts}


async def test_new_flows_that_have_room_are_delivered_though_others_have_none(make_world, kit, small):
    async with make_world(assignment="least-loaded", **small) as world:
        sports = range(40001, 40007)
        for sport in (*sports, *sports):
            world.ledger.send(sport)
        await kit.eventually(lambda: world.controller.stats().new_flow_packets >= 12)
        keys = [kit.flow_key(sport) for sport in sports]
        world.replicas[101].commit(7, scope_of(*keys))
        resumed = await world.controller.resume(7, scope_of(*keys), 101, new=True)
        assert (resumed.relayed, resumed.dropped, len(resumed.refused)) == (2 * ROOM, 4, len(keys) - ROOM)
        assert "insert flow" in resumed.refusal
        taken = {key for key, _ in world.replicas[101].processed}
        assert taken == set(keys).difference(resumed.refused)
        stats = world.controller.stats()
        assert (stats.dropped_table_full, stats.flows, stats.buffered_packets) == (4, ROOM, 0)
        told = len(world.events)
        world.ledger.send(next(sport for sport in sports if kit.flow_key(sport) in resumed.refused))
        again = await world.event(NewFlow, after=told)
        assert again.key in resumed.refused
        await world.controller.forget([next(iter(taken))])
        world.replicas[102].commit(8, scope_of(again.key))
        assert (await world.controller.resume(8, scope_of(again.key), 102, new=True)).refused == ()
        assert [key for key, _ in world.replicas[102].processed] == [again.key]


async def test_flows_that_are_not_new_wait_for_room_all_of_them(make_world, kit, small):
    async with make_world(assignment="least-loaded", **small) as world:
        keys = [kit.flow_key(sport) for sport in range(40001, 40007)]
        with pytest.raises(WriteRejected) as caught:
            await world.controller.resume(7, scope_of(*keys), 101)
        assert len(caught.value.flows) == len(keys) - ROOM and caught.value.flows < set(keys)


async def test_entries_are_reserved_for_all_flows_or_for_none(make_world, kit, small):
    async with make_world(**small) as world:
        await world.controller.set_buckets(dict.fromkeys(range(BUCKETS), 101))
        keys = [bytes(kit.flow_key(sport)) for sport in range(40001, 40007)]
        await world.controller.reserve(keys[:2], 101)
        with pytest.raises(WriteRejected):
            await world.controller.reserve(keys, 101)
        flows = {bytes(flow.key): flow.replica for flow in await world.controller.flows()}
        assert flows == dict.fromkeys(keys[:2], 101), "those that had one keep it"
        await world.controller.reserve(keys[:ROOM], 101)
        await world.controller.redirect(7, Scope(keys=tuple(keys[:ROOM])), 101, 102)
        assert {flow.replica for flow in await world.controller.flows()} == {102}
