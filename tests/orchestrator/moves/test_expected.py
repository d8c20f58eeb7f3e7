"""Flows that are expected, in groups that move before it is known whether others have their keys."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from guestlib import Guest
from splitmerge import messages as m
from splitmerge.flowkey import TCP, UDP, FlowKey
from tests.orchestrator.lab import Lab, State
from tests.orchestrator.wishes import A, B, C, make, where

CLIENT, SERVER = bytes((10, 0, 1, 2)), bytes((10, 0, 2, 2))
K = next(
    key
    for port in range(41_000, 42_000)
    if (key := FlowKey.of(UDP, bytes((10, 0, 2, 1)), port, SERVER, 9)).bucket not in (A.bucket, B.bucket, C.bucket)
)
CONTROL = FlowKey.of(TCP, CLIENT, 2000, SERVER, 21)
PATIENT = {"references": 10}


def frame(number: int) -> bytes:
    """A packet of the control connection."""
    tcp = struct.pack("!HHIIHHHH", 2000, 21, number, 0, 0x5018, 0, 0, 0)
    return bytes(12) + b"\x08\x00" + struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, TCP, 0) + CLIENT + SERVER + tcp


@pytest.fixture
async def lab(three: Lab) -> Lab:
    """The second has a flow K, by an entry in the first's bucket, and does not answer whether it still has it; the
    first expects one of the same key, in a group with A.
    """
    lab = three
    away, home = (lab.agent.peers[number].guest for number in (2, 1))
    away.create_flow(K, State(7), expected=True)
    await lab.until(lambda: away.table.find(K).pending is None)
    assert lab.tables.flows == {K: 2}
    lab.agent.peers[2].deaf_to = m.Claim
    make(lab, 1, A, "ftp")
    home.create_flow(K, State(8), expected=True, group="ftp")
    await lab.until(lambda: lab.orchestrator.registrar._claims)
    return lab


async def says(lab: Lab) -> None:
    """The second answers after all."""
    lab.agent.peers[2].deaf_to = None
    await lab.until(lambda: not lab.orchestrator.registrar._claims)


def ended(lab: Lab) -> None:
    """The second's flow has, and is kept for its time-out only."""
    lab.agent.peers[2].guest.on_wanted(lambda guest, key, wanted: guest.delete_flow(key))


def delete_refused(lab: Lab) -> None:
    lab.agent.peers[1].guest.on_refused(lambda guest, key, second: guest.delete_flow(key))


def begun(lab: Lab, **body: Any) -> asyncio.Task[list[dict[str, Any]]]:
    async def moves() -> list[dict[str, Any]]:
        moves: list[dict[str, Any]] = (await lab.post("/moves", {"target": 3, **body}))["moves"]
        return moves

    return asyncio.create_task(moves())


async def waits(lab: Lab) -> None:
    await lab.until(lambda: any("in use" in each.reason for each in lab.orchestrator.mover.running()))


def is_the_seconds(lab: Lab) -> None:
    """The flow with that key, its entry and what is known of it."""
    guest = lab.agent.peers[2].guest
    assert guest.get_flow(K).number == 7
    guest.put_flow(K)
    assert lab.tables.flows[K] == lab.orchestrator.placement.entry(K) == 2 and not lab.agent.peers[3].guest.has_flow(K)


@pytest.mark.parametrize("deletes", [True, False], ids=["that deletes it", "that leaves it to the library"])
async def test_a_group_does_not_take_the_key_of_another_replicas_flow(lab: Lab, deletes: bool) -> None:
    """… whatever the middlebox makes of the answer."""
    if deletes:
        delete_refused(lab)
    (move,) = await begun(lab, keys=[str(A)], references=0.1)
    assert (move["step"], move["reason"]) == ("undone", "1 of its flows is in use at the source")
    assert move["pinned"] == [str(K)] and where(lab, A) == [[1]] and "redirect" not in lab.tables.calls
    is_the_seconds(lab)
    await says(lab)
    (move,) = await begun(lab, keys=[str(A)], references=0.1)
    assert (move["step"], move["staged"]) == ("done", 1)
    assert where(lab, A, K) == [[3], [2]]
    is_the_seconds(lab)


async def test_a_move_of_the_group_waits_for_the_answer_and_the_answer_not_for_the_move(lab: Lab) -> None:
    delete_refused(lab)
    asked = begun(lab, keys=[str(A)], **PATIENT)
    await waits(lab)
    await says(lab)
    (move,) = await asked
    assert (move["step"], move["reason"], where(lab, A)) == ("done", "", [[3]])
    is_the_seconds(lab)


async def test_what_was_only_in_the_way_goes_along(lab: Lab) -> None:
    ended(lab)
    asked = begun(lab, keys=[str(A)], **PATIENT)
    await waits(lab)
    await says(lab)
    (move,) = await asked
    assert (move["step"], move["staged"], where(lab, A, K)) == ("done", 2, [[3], [3]])
    await lab.until(lambda: not lab.orchestrator.mover.running() and lab.agent.peers[3].guest.has_flow(K))
    assert lab.tables.flows[K] == lab.orchestrator.placement.entry(K) == 3
    assert lab.agent.peers[3].guest.get_flow(K).number == 8


async def test_others_do_not_wait_for_the_group(lab: Lab) -> None:
    ended(lab)
    for key in (B, C):
        make(lab, 1, key)
    asked = begun(lab, keys=[str(key) for key in (A, B, C)], **PATIENT)
    await lab.until(lambda: where(lab, A, B, C) == [[1], [3], [3]])
    await waits(lab)
    await says(lab)
    first, second = await asked
    assert [(each["step"], each["reason"]) for each in (first, second)] == [("done", "")] * 2
    assert second["follows"] == first["epoch"] and where(lab, A, B, C, K) == [[3]] * 4


@pytest.mark.parametrize("kept", [True, False], ids=["refused", "granted"])
async def test_what_announces_the_flow_waits_with_it(lab: Lab, kept: bool) -> None:
    """It goes out once, where the answer comes, and in order; or it is dropped, and counted."""
    if not kept:
        ended(lab)
    peer, other = lab.agent.peers[1], lab.agent.peers[3]
    make(lab, 1, CONTROL, "ftp")
    peer.guest.send_after(frame(1), K)
    peer.guest.send(frame(2))
    asked = begun(lab, keys=[str(A)], **PATIENT)
    await waits(lab)
    assert peer.sent == []
    await says(lab)
    (move,) = await asked
    assert move["step"] == "done" and where(lab, A, CONTROL) == [[3], [3]]
    assert peer.sent + other.sent == ([frame(2)] if kept else [frame(1), frame(2)])
    assert peer.guest.table.steering.drops == ({"second_key_refused": 1} if kept else {})


async def test_a_move_of_the_keys_bucket_leaves_the_key_where_it_leads(lab: Lab) -> None:
    """What expects it goes with the bucket, and is asked for, and refused, where it arrives."""
    lab.agent.peers[3].guest.on_refused(lambda guest, key, second: guest.delete_flow(key))
    (move,) = await begun(lab, buckets=[K.bucket, A.bucket], **PATIENT)
    assert (move["step"], where(lab, A)) == ("done", [[3]]) and K in lab.agent.peers[3].guest.table.active
    assert lab.tables.flows[K] == lab.orchestrator.placement.entry(K) == 2
    await says(lab)
    await lab.until(lambda: not lab.agent.peers[3].guest.has_flow(K))
    is_the_seconds(lab)


async def test_a_move_of_the_key_is_one_of_the_flow_that_has_it(lab: Lab) -> None:
    """A move of the group meanwhile waits for the answer, which waits for that move."""
    delete_refused(lab)
    lab.agent.peers[2].deaf_to = None
    lab.tables.stuck = "drain"
    first = begun(lab, keys=[str(K)])
    await lab.until(lambda: "drain" in lab.tables.calls)
    second = begun(lab, keys=[str(A)], **PATIENT)
    await asyncio.sleep(0.1)
    assert lab.orchestrator.mover.running()[-1].step.value == "planned"
    lab.tables.go_on()
    for asked in (first, second):
        assert [each["step"] for each in await asked] == ["done"]
    assert where(lab, A, K) == [[3], [3]] and lab.agent.peers[3].guest.get_flow(K).number == 7
    assert lab.tables.flows[K] == lab.orchestrator.placement.entry(K) == 3


async def test_two_groups_that_expect_each_others_keys_do_not_wait_for_each_other(lab: Lab) -> None:
    """A question for a key waits while a move of that key is planned; while such a move waits, it goes on."""
    one, two = (lab.agent.peers[number] for number in (1, 2))
    other = FlowKey.of(UDP, bytes((10, 0, 2, 1)), 42_000, SERVER, 9)
    one.guest.create_flow(other, State(1), expected=True, group="ftp")
    await lab.until(lambda: one.guest.table.find(other).pending is None)
    one.deaf_to = m.Claim
    two.guest.group(K, "h")
    two.guest.create_flow(other, State(2), expected=True, group="h")
    await lab.until(lambda: len(lab.orchestrator.registrar._claims) == 2)
    for peer in (one, two):
        peer.guest.on_refused(lambda guest, key, second: guest.delete_flow(key))
    moves = [begun(lab, keys=[str(key)], **PATIENT) for key in (other, K)]
    await waits(lab)
    await asyncio.sleep(0.1)
    assert [each.step.value for each in lab.orchestrator.mover.running()] == ["planned", "planned"]
    one.deaf_to = two.deaf_to = None
    assert [each["step"] for asked in moves for each in await asked] == ["done", "done"]
    assert where(lab, A, other, K) == [[3], [3], [3]] and lab.agent.peers[3].guest.get_flow(K).number == 7


async def test_what_is_expected_again_and_again_does_not_hold_a_move_up_for_ever(lab: Lab) -> None:
    """Each one is answered soon, and then there is another."""

    def again(guest: Guest, key: FlowKey, second: FlowKey) -> None:
        guest.delete_flow(key)
        guest.create_flow(K, State(8), expected=True, group="ftp")

    lab.agent.peers[1].guest.on_refused(again)
    lab.agent.peers[2].deaf_to = None
    await lab.until(lambda: lab.orchestrator.registrar.refused)
    (move,) = await begun(lab, keys=[str(A)], references=0.3)
    why = "1 key that goes along leads to replica 2, and may have a flow there; try again, or wait longer for it"
    assert (move["step"], move["reason"], move["pinned"]) == ("undone", f"{why} (references)", [str(K)])
    assert where(lab, A) == [[1]] and lab.orchestrator.registrar.refused > 2
    is_the_seconds(lab)


@pytest.mark.parametrize("what", ["key", "bucket", "replica"])
async def test_a_flow_that_was_refused_a_second_key_moves_on_without_it(lab: Lab, what: str) -> None:
    """As the middlebox without a callback has it; in a group, or not, it is none of the flow's keys any more."""
    await says(lab)
    lab.agent.peers[1].guest.add_alias(A, K)
    await lab.until(lambda: lab.orchestrator.registrar.refused == 2)
    await lab.until(lambda: not lab.agent.peers[1].guest.has_flow(K))
    if what == "replica":
        await lab.post("/scale-in", {"replica": 1})
        assert len(where(lab, A)[0]) == 1 and 1 not in where(lab, A)[0]
        leads = lab.tables.flows.get(K, lab.tables.buckets[K.bucket])  # no entry if its bucket came to 2
        assert leads == lab.orchestrator.placement.owner(K) == 2 and where(lab, K) == [[2]]
        assert lab.agent.peers[2].guest.get_flow(K).number == 7
        return
    (move,) = await begun(lab, **({"keys": [str(A)]} if what == "key" else {"buckets": [A.bucket]}))
    assert (move["step"], where(lab, A)) == ("done", [[3]])
    is_the_seconds(lab)
