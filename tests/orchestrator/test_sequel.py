"""What follows from a move: the rest without flows in use, groups from elsewhere; one deadline, and off is off."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.sequel import without
from splitmerge.colocation import Outside, PortRange, choose
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope
from tests.orchestrator.lab import FLOWS, Lab, State

A, B, C = FLOWS[0], *[key for key in FLOWS if key.bucket != FLOWS[0].bucket][:2]
assert len({key.bucket for key in (A, B, C)}) == 3
SOON = {"references": 0.05}


@pytest.fixture
async def three(lab: Lab) -> Lab:
    """Three replicas; the first has all buckets."""
    for _ in range(2):
        await lab.post("/scale-out", {"rebalance": False})
    return lab


def make(lab: Lab, replica: int, key: FlowKey, group: str = "") -> None:
    lab.agent.peers[replica].guest.create_flow(key, State(1), group=group)


def use(lab: Lab, key: FlowKey) -> None:
    """A transaction on the flow begins and does not end."""
    lab.agent.peers[lab.holders(key)[0]].guest.get_flow(key)


def impatient(lab: Lab) -> None:
    """Who does not answer Relate is given up, or asked again, soon."""
    scaler = lab.orchestrator.scaler
    scaler.turns = replace(scaler.turns, deadline=0.1)
    scaler.sequel = replace(scaler.sequel, turns=scaler.turns, deadline=0.1)


async def moved(lab: Lab, **body: object) -> list[tuple[str, str]]:
    moves = (await lab.post("/moves", {"target": 2, **SOON, **body}))["moves"]
    return [(move["step"], move["reason"]) for move in moves]


def where(lab: Lab, *keys: FlowKey) -> list[list[int]]:
    return [lab.holders(key) for key in keys]


async def test_what_is_called_off_on_its_way_back_is_not_tried_again(three: Lab) -> None:
    lab = three
    make(lab, 1, A)
    make(lab, 1, B)
    use(lab, A)
    lab.tables.stuck = "resume"
    asked = asyncio.create_task(moved(lab, keys=[str(A), str(B)]))
    await lab.until(lambda: "resume" in lab.tables.calls)
    (move,) = lab.orchestrator.mover.running()
    call_off = asyncio.create_task(lab.delete(f"/moves/{move.plan.epoch}"))
    await lab.until(lambda: move.called_off)
    lab.tables.go_on()
    assert (await call_off)["step"] == "undone"
    why = "1 of its flows is in use at the source; called off by request"
    assert await asked == [("undone", why)] and where(lab, A, B) == [[1], [1]]


async def test_what_is_to_follow_is_called_off_while_the_source_is_asked_what_that_is(three: Lab) -> None:
    lab = three
    make(lab, 1, A)
    make(lab, 1, B)
    use(lab, A)
    lab.tables.stuck = "resume"
    asked = asyncio.create_task(moved(lab, keys=[str(A), str(B)]))
    await lab.until(lambda: "resume" in lab.tables.calls)
    (move,) = lab.orchestrator.mover.running()
    lab.agent.peers[1].stopped = True  # it does not say what belongs to the flow in use
    lab.tables.go_on()
    await lab.until(lambda: move.ended)
    why = "1 of its flows is in use at the source; the others stay as well: called off by request"
    for _ in range(2):
        told = await lab.delete(f"/moves/{move.plan.epoch}")
        assert (told["step"], told["reason"]) == ("undone", why)
    lab.agent.peers[1].go_on()
    assert await asked == [("undone", why)] and where(lab, A, B) == [[1], [1]]
    refused = await lab.delete(f"/moves/{move.plan.epoch}", status=409)
    assert (refused["error"], refused["remedy"]) == ("is over", "move its flows again if they should be elsewhere")


async def test_a_deadline_runs_once_for_all_that_follows(three: Lab) -> None:
    lab = three
    make(lab, 1, A)
    make(lab, 1, B)
    use(lab, A)
    lab.tables.stuck = "suspend"
    asked = asyncio.create_task(moved(lab, keys=[str(A), str(B)], deadline=30))
    await lab.until(lambda: "suspend" in lab.tables.calls)
    (first,) = lab.orchestrator.mover._running.values()
    lab.tables.go_on()
    lab.tables.stuck = "redirect"
    await lab.until(lambda: lab.tables.calls.count("redirect") == 2)
    (second,) = lab.orchestrator.mover._running.values()
    assert second is not first and second.asked == first.asked
    refused = await lab.delete(f"/moves/{first.move.plan.epoch}", status=409)
    assert refused["error"] == "is over"
    assert refused["remedy"] == f"call off what follows from it: move {second.move.plan.epoch}"
    lab.tables.go_on()
    assert [step for step, _ in await asked] == ["undone", "done"]


@pytest.mark.parametrize("what", ["buckets", "keys"])
async def test_a_group_with_a_flow_in_use_stays_whole_and_the_others_move(three: Lab, what: str) -> None:
    lab = three
    make(lab, 1, A, "ftp")
    make(lab, 1, B, "ftp")
    make(lab, 1, C)
    use(lab, A)
    body = {"buckets": [key.bucket for key in (A, B, C)]} if what == "buckets" else {"keys": [str(B), str(C)]}
    assert [step for step, _ in await moved(lab, **body)] == ["undone", "done"]
    assert where(lab, A, B, C) == [[1], [1], [2]]


async def test_where_all_that_was_named_stays_nothing_is_tried_again(three: Lab) -> None:
    lab = three
    make(lab, 1, A, "ftp")
    make(lab, 1, B, "ftp")
    use(lab, A)
    assert [step for step, _ in await moved(lab, keys=[str(B)])] == ["undone"]
    assert where(lab, A, B) == [[1], [1]]


async def test_groups_follow_from_elsewhere_also_after_a_second_try(three: Lab) -> None:
    lab = three
    await moved(lab, buckets=[C.bucket], target=3)
    make(lab, 1, A)
    make(lab, 1, B, "ftp")
    make(lab, 3, C, "ftp")
    use(lab, A)
    assert [step for step, _ in await moved(lab, keys=[str(A), str(B)])] == ["undone", "done", "done"]
    assert where(lab, A, B, C) == [[1], [2], [2]]


async def test_the_group_of_a_flow_in_use_is_not_gathered(three: Lab) -> None:
    lab = three
    await moved(lab, buckets=[C.bucket], target=3)
    make(lab, 1, A, "ftp")
    make(lab, 1, B, "sip")
    make(lab, 3, C, "ftp")
    use(lab, A)
    assert [step for step, _ in await moved(lab, keys=[str(A), str(B)])] == ["undone", "done"]
    assert where(lab, A, B, C) == [[1], [2], [3]]


async def test_who_does_not_say_what_it_has_of_a_group_makes_no_move_fail(three: Lab) -> None:
    """What has been moved has been moved, and so have other moves of the same request."""
    lab = three
    await lab.post("/scale-out", {"rebalance": False})
    await moved(lab, buckets=[C.bucket], target=3)
    make(lab, 1, A, "ftp")
    make(lab, 3, C)
    impatient(lab)
    lab.agent.peers[4].stopped = True
    first, second = await moved(lab, keys=[str(A), str(C)])
    why = "flows of its groups at replica 4, if any, stay there: replica 4 did not answer Relate within 0.1 s"
    assert (first, second) == (("done", why), ("done", ""))
    assert where(lab, A, C) == [[2], [2]]
    told = [move["reason"] for move in await lab.get("/moves")]
    assert told.count(why) == 1, "later as well"
    lab.agent.peers[4].go_on()


async def test_a_source_that_does_not_say_what_belongs_to_a_scope_is_asked_again(three: Lab) -> None:
    """Without that its groups would be torn."""
    lab = three
    make(lab, 1, A, "ftp")
    make(lab, 1, B, "ftp")
    impatient(lab)
    lab.agent.peers[1].stopped = True
    asked = asyncio.create_task(moved(lab, keys=[str(A)]))
    await asyncio.sleep(0.5)
    (move,) = lab.orchestrator.mover.running()
    assert move.step.value == "planned" and lab.tables.calls == []
    await lab.until(lambda: move.reason == "replica 1 does not say what belongs to it")
    lab.agent.peers[1].go_on()
    assert await asked == [("done", "")] and where(lab, A, B) == [[2], [2]]


async def test_a_flow_that_got_a_key_while_its_move_began_moves_with_the_next_one(three: Lab) -> None:
    lab = three
    make(lab, 1, A)
    make(lab, 1, B)
    outside = Outside(bytes((10, 0, 2, 1)), bytes((10, 0, 2, 2)), 9, 17)
    chosen = choose(outside, A.bucket, PortRange(), lambda key: False)
    assert chosen is not None
    guest = lab.agent.peers[1].guest
    await lab.until(lambda: guest.table.fences.owned)
    lab.tables.stuck = "redirect"
    asked = asyncio.create_task(moved(lab, keys=[str(A), str(B)]))
    await lab.until(lambda: "redirect" in lab.tables.calls)
    guest.add_alias(A, chosen[1])
    lab.tables.go_on()
    assert await asked == [("undone", "1 of its flows got another key meanwhile"), ("done", "")]
    assert where(lab, A, chosen[1], B) == [[2], [2], [2]]


async def test_one_flow_in_use_holds_the_others_up_for_as_long_as_it_is_waited_for(three: Lab) -> None:
    lab = three
    make(lab, 1, A)
    make(lab, 1, B)
    use(lab, A)
    body = {"keys": [str(A), str(B)], "target": 2, "references": 0.2}
    first, second = (await lab.post("/moves", body))["moves"]
    assert 200 <= first["suspended_ms"] < 1200 and second["suspended_ms"] < 200


KEYS = {name: bytes(key) for name, key in zip("ABC", (A, B, C), strict=True)}
LEFT = [
    ("a flow", Scope(keys=(KEYS["A"], KEYS["B"])), "A", "", Scope(keys=(KEYS["B"],))),
    ("a flow's bucket", Scope(buckets=(A.bucket, B.bucket)), "A", "", Scope(buckets=(B.bucket,))),
    (
        "a bucket, but not entries elsewhere",
        Scope(keys=(KEYS["A"], KEYS["B"]), buckets=(A.bucket, C.bucket)), "A", "",
        Scope(keys=(KEYS["B"],), buckets=(C.bucket,)),
    ),
    ("entries in its bucket", Scope(keys=(KEYS["A"],), buckets=(A.bucket,)), "A", "", Scope()),
    ("its second key has a bucket, too", Scope(buckets=(A.bucket, B.bucket)), "AB", "B", Scope(buckets=(B.bucket,))),
    (
        "second keys come with their flows",
        Scope(keys=(KEYS["B"], KEYS["C"]), buckets=(A.bucket,)), "A", "C", Scope(keys=(KEYS["B"],)),
    ),
    ("unless they were named", Scope(keys=(KEYS["B"], KEYS["C"])), "A", "C", Scope(keys=(KEYS["B"], KEYS["C"]))),
]  # fmt: skip


@pytest.mark.parametrize(("scope", "stay", "second", "left"), [row[1:] for row in LEFT], ids=[row[0] for row in LEFT])
def test_what_is_left_without(scope: Scope, stay: str, second: str, left: Scope) -> None:
    seconds = {KEYS[name] for name in second}
    assert without(scope, [KEYS[name] for name in stay], seconds.__contains__) == left
