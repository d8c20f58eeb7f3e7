"""Second keys and groups, in the whole orchestrator with real replicas: they lead where their flow is, always."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import pytest

from splitmerge.colocation import Outside, PortRange, choose
from splitmerge.flowkey import BUCKETS, UDP, FlowKey
from tests.orchestrator.lab import Lab, State

INSIDE = bytes((10, 0, 1, 2))
SERVER = bytes((10, 0, 2, 2))
OUTSIDE = bytes((10, 0, 2, 1))


def inner(number: int) -> FlowKey:
    return FlowKey.of(UDP, INSIDE, 3000 + number, SERVER, 9)


def outer(number: int) -> FlowKey:
    """A translated key, in whatever bucket it happens to be."""
    return FlowKey.of(UDP, OUTSIDE, 40_000 + number, SERVER, 9)


def frame(number: int) -> bytes:
    """The translated packet."""
    udp = struct.pack("!HHHH", 40_000 + number, 9, 8, 0)
    return bytes(12) + b"\x08\x00" + struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, UDP, 0) + OUTSIDE + SERVER + udp


def begin(lab: Lab, replica: int, number: int, **more: object) -> None:
    lab.agent.peers[replica].guest.create_flow(inner(number), State(number), aliases=[outer(number)], **more)


def leads(lab: Lab, key: FlowKey) -> int | None:
    """Where the switch sends a packet of this key."""
    return lab.tables.flows.get(key, lab.tables.buckets[key.bucket])


def confirmed(lab: Lab, *numbers: int) -> bool:
    return all(
        (holders := lab.holders(outer(number)))
        and lab.agent.peers[holders[0]].guest.table.find(outer(number)).pending is None
        for number in numbers
    )


def consistent(lab: Lab, *numbers: int) -> None:
    for number in numbers:
        (holder,) = lab.holders(inner(number))
        assert lab.holders(outer(number)) == [holder]
        assert (leads(lab, inner(number)), leads(lab, outer(number))) == (holder, holder)


async def test_the_entry_is_there_before_the_first_translated_packet_leaves(lab: Lab) -> None:
    lab.tables.stuck = "steer"
    begin(lab, 1, 0)
    peer = lab.agent.peers[1]
    peer.guest.send(frame(0))
    await lab.until(lambda: "steer" in lab.tables.calls)
    assert peer.sent == [] and outer(0) not in lab.tables.flows
    lab.tables.go_on()
    await lab.until(lambda: peer.sent)
    assert peer.sent == [frame(0)] and lab.tables.flows == {outer(0): 1}


@pytest.mark.parametrize("way", ["by buckets", "by key", "by second key"])
async def test_both_keys_move_however_the_flow_is_named(lab: Lab, way: str) -> None:
    for number in range(6):
        begin(lab, 1, number)
    await lab.until(lambda: confirmed(lab, *range(6)))
    await lab.post("/scale-out", {"rebalance": False})
    what = {
        "by buckets": {"buckets": [inner(number).bucket for number in range(3)]},
        "by key": {"keys": [str(inner(number)) for number in range(3)]},
        "by second key": {"keys": [str(outer(number)) for number in range(3)]},
    }[way]
    for target in (2, 1, 2):
        moves = (await lab.post("/migrate", {"target": target, **what}))["moves"]
        assert [move["step"] for move in moves] == ["done"]
        assert [lab.holders(outer(number)) for number in range(6)] == [[target]] * 3 + [[1]] * 3
        consistent(lab, *range(6))


async def test_splitting_and_merging_keep_them_together(lab: Lab) -> None:
    for number in range(30):
        begin(lab, 1, number)
    await lab.until(lambda: confirmed(lab, *range(30)))
    for _ in range(2):
        await lab.post("/scale-out", {})
        consistent(lab, *range(30))
    assert len({lab.holders(inner(number))[0] for number in range(30)}) == 3
    for replica in (1, 2):
        await lab.post("/scale-in", {"replica": replica})
        consistent(lab, *range(30))


async def test_new_flows_may_have_second_keys_in_buckets_that_have_left(lab: Lab) -> None:
    await lab.post("/scale-out", {})
    mine = [number for number in range(100) if lab.tables.buckets[inner(number).bucket] == 1]
    theirs = [number for number in mine if lab.tables.buckets[outer(number).bucket] == 2]
    assert theirs
    for number in theirs:
        begin(lab, 1, number)
    await lab.until(lambda: confirmed(lab, *theirs))
    consistent(lab, *theirs)
    moves = (await lab.post("/migrate", {"target": 1, "all": True, "source": 2}))["moves"]
    assert [move["step"] for move in moves] == ["done"]
    consistent(lab, *theirs)


async def test_entries_go_with_their_flow(lab: Lab) -> None:
    for number in range(4):
        begin(lab, 1, number)
    await lab.until(lambda: confirmed(lab, *range(4)))
    await lab.post("/scale-out", {})
    for number in range(4):
        lab.agent.peers[lab.holders(inner(number))[0]].guest.delete_flow(inner(number))
    await lab.until(lambda: not lab.tables.flows)
    begin(lab, lab.tables.buckets[inner(0).bucket] or 0, 0)
    await lab.until(lambda: confirmed(lab, 0))
    consistent(lab, 0)


async def test_a_flow_under_way_is_asked_for_by_where_it_arrives(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": False})
    lab.tables.stuck = "drain"
    move = asyncio.create_task(lab.post("/migrate", {"target": 2, "buckets": [inner(0).bucket]}))
    await lab.until(lambda: "drain" in lab.tables.calls)
    begin(lab, 1, 0)  # by a packet that was on its way when the bucket was suspended
    lab.agent.peers[1].guest.send(frame(0))
    await asyncio.sleep(0.3)
    assert lab.tables.flows == {}, "nothing is added to what is being moved"
    lab.tables.go_on()
    assert [each["step"] for each in (await move)["moves"]] == ["done"]
    await lab.until(lambda: lab.agent.peers[2].sent)
    assert lab.agent.peers[2].sent == [frame(0)] and lab.agent.peers[1].sent == []
    consistent(lab, 0)


async def test_a_key_that_another_flow_has_is_refused(lab: Lab) -> None:
    await lab.post("/scale-out", {})
    holder = lab.tables.buckets[inner(0).bucket] or 0
    other = 3 - holder
    begin(lab, holder, 0)
    await lab.until(lambda: confirmed(lab, 0))
    guest = lab.agent.peers[other].guest
    mine = next(number for number in range(100, 200) if lab.tables.buckets[inner(number).bucket] == other)
    guest.create_flow(inner(mine), State(), aliases=[outer(0)])
    guest.send(frame(0))
    await lab.until(lambda: guest.table.steering.refused)
    assert guest.table.steering.drops == {"second_key_refused": 1}
    assert leads(lab, outer(0)) == holder and lab.orchestrator.registrar.refused == 1


async def test_an_expected_flow_of_a_replica_without_buckets_has_entries_unless_its_keys_are_taken(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": False})
    begin(lab, 1, 0)
    for number in (0, 1):
        key, second = FlowKey(outer(number)), inner(number)
        lab.agent.peers[2].guest.create_flow(second if number else key, State(number), expected=True)
    lone = lab.agent.peers[2].guest.table.steering
    await lab.until(lambda: lone.refused and leads(lab, inner(1)) == 2)
    assert (lone.refused, leads(lab, outer(0))) == (1, 1)
    await lab.post("/migrate", {"all": True, "source": 2, "target": 1})
    assert (lab.holders(inner(1)), leads(lab, inner(1))) == ([1], 1)


async def test_a_flow_that_is_over_gives_its_key_up_to_a_new_one_elsewhere(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": False})
    earlier, later = (lab.agent.peers[number].guest for number in (1, 2))
    earlier.on_wanted(lambda guest, key, wanted: guest.delete_flow(key))
    begin(lab, 1, 0)
    await lab.until(lambda: confirmed(lab, 0))
    later.create_flow(FlowKey(inner(1)), State(), aliases=[outer(0)], expected=True)
    await lab.until(lambda: later.table.find(inner(1)).pending is None)
    assert later.table.steering.refused == 0 and not earlier.has_flow(inner(0))
    await lab.until(lambda: not earlier._gone)
    await lab.get("/flows")  # what the first one said of its end has been read
    await lab.until(lambda: not lab.orchestrator.mover.running())
    assert (leads(lab, outer(0)), lab.holders(outer(0))) == (2, [2])


async def test_what_a_replica_away_from_the_bucket_expected_is_in_nobodys_way_when_it_is_over(lab: Lab) -> None:
    """Its entry is still there when the bucket's own replica expects the same: that one knows nothing of it."""
    await lab.post("/scale-out", {"rebalance": False})
    home, away = (lab.agent.peers[number].guest for number in (1, 2))
    away.create_flow(FlowKey(outer(0)), State(), aliases=[inner(0)], expected=True)
    await lab.until(lambda: away.table.find(outer(0)).pending is None)
    assert leads(lab, outer(0)) == 2
    away.delete_flow(outer(0))
    home.create_flow(FlowKey(outer(0)), State(), aliases=[inner(1)], expected=True)
    await lab.until(lambda: home.table.find(outer(0)).pending is None)
    assert (leads(lab, outer(0)), leads(lab, inner(1))) == (1, 1)
    await lab.until(lambda: inner(0) not in lab.tables.flows and not lab.orchestrator.mover.running())
    assert (leads(lab, outer(0)), leads(lab, inner(1)), lab.holders(outer(0))) == (1, 1, [1])


async def test_a_replica_that_does_not_say_what_it_has_holds_nobody_elses_keys_up(lab: Lab) -> None:
    await lab.post("/scale-out", {})
    theirs = next(number for number in range(100) if lab.tables.buckets[inner(number).bucket] == 2)
    mine = next(number for number in range(100) if lab.tables.buckets[inner(number).bucket] == 1)
    lab.agent.peers[2].stopped = True
    guest = lab.agent.peers[1].guest
    guest.create_flow(FlowKey(inner(theirs)), State(), expected=True)  # a key that the other one may have chosen
    guest.create_flow(FlowKey(inner(mine)), State(), aliases=[outer(mine)])
    await lab.until(lambda: guest.table.find(inner(mine)).pending is None)
    assert leads(lab, outer(mine)) == 1 and guest.table.find(inner(theirs)).pending
    lab.agent.peers[2].go_on()
    await lab.until(lambda: guest.table.find(inner(theirs)).pending is None)


async def test_after_a_restart_of_the_orchestrator_it_is_known_what_goes_with_what(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab()
    async with lab.up():
        begin(lab, 1, 0)
        await lab.until(lambda: confirmed(lab, 0))
    async with lab.up():
        restored = lab.tables.restored
        assert restored is not None and restored.second == {outer(0)} and restored.flows == {outer(0): 1}
        await lab.post("/scale-out", {"rebalance": False})
        moves = (await lab.post("/migrate", {"target": 2, "buckets": [outer(0).bucket]}))["moves"]
        assert [move["step"] for move in moves] == ["done"]
        consistent(lab, 0)
        assert lab.holders(inner(0)) == [1], "its second key's bucket is not its own"


async def test_a_dead_replicas_second_keys_mean_nothing(lab: Lab) -> None:
    await lab.post("/scale-out", {})
    numbers = [number for number in range(40) if lab.tables.buckets[inner(number).bucket] == 2][:5]
    for number in numbers:
        begin(lab, 2, number)
    await lab.until(lambda: confirmed(lab, *numbers))
    lab.agent.kill(2)
    await lab.until(lambda: set(lab.tables.buckets.values()) == {1} and not lab.tables.flows)
    await lab.until(lambda: not lab.orchestrator.mover.running())
    begin(lab, 1, numbers[0])
    await lab.until(lambda: confirmed(lab, numbers[0]))
    consistent(lab, numbers[0])


async def test_groups_move_together_also_from_several_replicas(lab: Lab) -> None:
    await lab.post("/scale-out", {})
    here = {owner: number for number in range(60) if (owner := lab.tables.buckets[inner(number).bucket])}
    for replica, number in here.items():
        begin(lab, replica, number, group="ftp")
    await lab.until(lambda: confirmed(lab, *here.values()))
    for target in (1, 2):
        moves = (await lab.post("/migrate", {"target": target, "keys": [str(inner(here[3 - target]))]}))["moves"]
        assert all(move["step"] == "done" for move in moves)
        assert [lab.holders(inner(number)) for number in here.values()] == [[target]] * 2
        consistent(lab, *here.values())


async def test_who_brings_the_rest_of_a_group_names_the_move_that_it_was_made_for(lab: Lab) -> None:
    await lab.post("/scale-out", {"count": 2})
    here = {owner: number for number in range(60) if (owner := lab.tables.buckets[inner(number).bucket])}
    assert set(here) == {1, 2, 3}
    for replica, number in here.items():
        begin(lab, replica, number, group="ftp")
    await lab.until(lambda: confirmed(lab, *here.values()))
    first, second = (await lab.post("/migrate", {"target": 3, "keys": [str(inner(here[1]))]}))["moves"]
    assert [(each["source"], each["follows"]) for each in (first, second)] == [(1, None), (2, first["epoch"])]


async def test_a_colocated_key_costs_no_entry_by_hash_and_one_otherwise(make_lab: Callable[..., Lab]) -> None:
    outside = Outside(OUTSIDE, SERVER, 9, UDP)
    chosen = choose(outside, inner(0).bucket, PortRange(), lambda key: False)
    assert chosen is not None
    lab = make_lab()
    async with lab.up():
        guest = lab.agent.peers[1].guest
        await lab.until(lambda: len(guest.table.fences.owned or ()) == BUCKETS)
        guest.create_flow(inner(0), State(), aliases=[chosen[1]])
        assert guest.table.find(inner(0)).pending is None
        await lab.post("/scale-out", {"rebalance": False})
        for target in (2, 1):  # by key, it needs entries for both; so it does while it is away from its bucket
            await lab.post("/migrate", {"target": target, "keys": [str(inner(0))]})
            assert lab.holders(chosen[1]) == [target]
            assert (leads(lab, inner(0)), leads(lab, chosen[1])) == (target, target)


async def test_the_controller_assigns_and_every_second_key_has_an_entry(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(assignment="round-robin")
    chosen = choose(Outside(OUTSIDE, SERVER, 9, UDP), inner(0).bucket, PortRange(), lambda key: False)
    assert chosen is not None
    async with lab.up():
        await lab.post("/scale-out", {})
        await lab.orchestrator.scaler.adopt_new(2, [inner(0)])
        guest = lab.agent.peers[2].guest
        guest.create_flow(inner(0), State(), aliases=[chosen[1], outer(0)])
        await lab.until(lambda: guest.table.find(inner(0)).pending is None)
        assert lab.tables.flows == {inner(0): 2, chosen[1]: 2, outer(0): 2}
        await lab.post("/scale-in", {"replica": 2})
        assert lab.holders(inner(0)) == [1] and lab.tables.flows == {inner(0): 1, chosen[1]: 1, outer(0): 1}


async def test_a_switch_that_is_away_is_asked_again(lab: Lab) -> None:
    lab.tables.away = True
    begin(lab, 1, 0)
    await lab.until(lambda: "steer" in lab.tables.calls)
    assert lab.tables.flows == {}
    lab.tables.away = False
    await lab.until(lambda: confirmed(lab, 0))
    consistent(lab, 0)
