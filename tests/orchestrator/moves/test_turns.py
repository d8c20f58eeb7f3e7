"""Moves that wait: they have their numbers, are listed, can be called off, and begin in the order of their numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.migration import Options
from orchestrator.moves.placement import Locks
from splitmerge.messages import Related, Scope
from tests.orchestrator.lab import FLOWS, Lab

KEYS = {"keys": [str(FLOWS[0])], "target": 2}


async def planned(lab: Lab, **more: Any) -> int:
    """The number of a move of one flow from a replica that does not answer."""
    (move,) = (await lab.post("/moves", {**KEYS, "wait": False, **more}))["moves"]
    assert move["step"] == "planned"
    return int(move["epoch"])


@pytest.fixture
async def hanging(lab: Lab) -> Lab:
    """Two replicas; the first, which has the flows, is stopped."""
    lab.give_flows(1, FLOWS)
    await lab.post("/scale-out", {"rebalance": False})
    lab.agent.peers[1].stopped = True
    return lab


async def test_a_move_is_listed_and_called_off_before_its_source_has_answered(hanging: Lab) -> None:
    epoch = await planned(hanging)
    assert (await hanging.get("/moves"))[0] | {"epoch": epoch, "step": "planned"} == (await hanging.get("/moves"))[0]
    assert [each["epoch"] for each in (await hanging.get("/status"))["moves_running"]] == [epoch]
    ended = await hanging.delete(f"/moves/{epoch}")
    assert (ended["step"], ended["reason"]) == ("undone", "called off by request")
    hanging.agent.peers[1].go_on()
    assert hanging.holders(FLOWS[0]) == [1] and "redirect" not in hanging.tables.calls


async def test_a_deadline_runs_from_the_moment_that_the_move_is_asked_for(hanging: Lab) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    (move,) = (await hanging.post("/moves", {**KEYS, "deadline": 0.3}))["moves"]
    why = "replica 1 does not say what belongs to it; not decided within 0.3 s"
    assert (move["step"], move["reason"]) == ("undone", why)
    assert 0.3 <= loop.time() - begun < 5, "the source would be given ten seconds to answer"


async def test_whom_a_move_waits_for_is_told_before_that_one_has_had_its_time_to_answer(hanging: Lab) -> None:
    epoch = await planned(hanging)
    (move,) = hanging.orchestrator.mover.running()
    begun = asyncio.get_running_loop().time()
    await hanging.until(lambda: move.reason)
    assert asyncio.get_running_loop().time() - begun < hanging.config().deadlines.list / 2
    assert (await hanging.get(f"/moves/{epoch}"))["reason"] == "replica 1 does not say what belongs to it"
    hanging.agent.peers[1].go_on()
    await hanging.until(lambda: not hanging.orchestrator.mover.running())
    move_over = await hanging.get(f"/moves/{epoch}")
    assert (move_over["step"], move_over["reason"]) == ("done", ""), "it has said it after all"


async def test_a_refusal_is_heard_though_nobody_waits_for_the_move(lab: Lab) -> None:
    await lab.post("/moves", {**KEYS, "target": 9, "wait": False}, status=404)


async def test_moves_of_the_same_flows_begin_in_the_order_of_their_numbers(hanging: Lab) -> None:
    """The second waits for the first though that has not begun: replicas take nothing from an older move later."""
    await hanging.post("/scale-out", {"rebalance": False})
    first = await planned(hanging)
    second = await planned(hanging, target=3)
    other = (await hanging.post("/moves", {"keys": [str(FLOWS[1])], "target": 3, "wait": False}))["moves"][0]["epoch"]
    hanging.agent.peers[1].go_on()
    await hanging.until(lambda: not hanging.orchestrator.mover.running())
    ends = {each["epoch"]: (each["step"], each["target"]) for each in await hanging.get("/moves")}
    assert [ends[each] for each in (first, second, other)] == [("done", 2), ("undone", 3), ("done", 3)]
    assert hanging.holders(FLOWS[0]) == [2] and hanging.holders(FLOWS[1]) == [3]


async def test_who_waits_for_a_move_that_is_called_off_has_its_turn(hanging: Lab) -> None:
    await hanging.post("/scale-out", {"rebalance": False})
    first, second = await planned(hanging), await planned(hanging, target=3)
    await hanging.delete(f"/moves/{first}")
    hanging.agent.peers[1].go_on()
    await hanging.until(lambda: not hanging.orchestrator.mover.running())
    assert (await hanging.get(f"/moves/{second}"))["step"] == "done" and hanging.holders(FLOWS[0]) == [3]


async def test_a_source_that_ends_before_it_has_answered_is_not_waited_for(hanging: Lab) -> None:
    epoch = await planned(hanging)
    hanging.agent.kill(1)
    await hanging.until(lambda: not hanging.orchestrator.mover.running())
    move = await hanging.get(f"/moves/{epoch}")
    assert (move["step"], move["buffer"], move["reason"]) == ("done", "cpu", "replica 1 is gone")


async def test_a_flow_that_nobody_has_ever_seen_is_said_so(lab: Lab) -> None:
    """Its packets, if there are any, go by its bucket: the middlebox keeps nothing for it that could move."""
    lab.give_flows(1, FLOWS[:1])
    await lab.post("/scale-out", {"rebalance": False})
    (move,) = (await lab.post("/moves", {"keys": [str(FLOWS[1])], "target": 2}))["moves"]
    assert move["step"] == "undone" and move["reason"].startswith("no such flow: replica 1 has none")
    assert not lab.tables.flows and "redirect" not in lab.tables.calls
    (move,) = (await lab.post("/moves", {"keys": [str(key) for key in FLOWS[:2]], "target": 2}))["moves"]
    assert (move["step"], move["staged"], move["keys"]) == ("done", 1, 1)
    assert move["unknown"] == {"keys": 1, "flows": [str(FLOWS[1])]}
    assert dict(lab.tables.flows) == {FLOWS[0]: 2}, "nor does it get an entry with flows that there are: none would end"


async def test_a_target_that_is_removed_meanwhile_gets_nothing(hanging: Lab) -> None:
    epoch = await planned(hanging)
    ending = asyncio.create_task(hanging.post("/scale-in", {"replica": 2}))
    await hanging.until(lambda: hanging.orchestrator.fleet.replicas[2].state.value == "finishing")
    hanging.agent.peers[1].go_on()
    await ending
    move = await hanging.get(f"/moves/{epoch}")
    assert (move["step"], move["reason"]) == ("undone", "replica 2 takes no flows any more")


async def test_a_move_that_waited_when_the_process_ended_is_undone(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(defaults=Options(deadline=60))
    async with lab.up():
        lab.give_flows(1, FLOWS)
        await lab.post("/scale-out", {"rebalance": False})
        lab.agent.peers[1].stopped = True
        first, second = await planned(lab), await planned(lab)
    await lab.until(lambda: lab.agent.peers[1].orchestrator is None)
    lab.agent.peers[1].go_on()
    async with lab.up():
        await lab.until(lambda: not lab.orchestrator.mover.running())
        for epoch in (first, second):
            assert (await lab.get(f"/moves/{epoch}"))["step"] == "undone"
        await lab.post("/moves", KEYS)
        assert lab.holders(FLOWS[0]) == [2]


KEY = bytes(FLOWS[0])
BUCKET = FLOWS[0].bucket
AHEAD = [
    ("the same flow", Scope(keys=(KEY,)), Scope(keys=(KEY,)), True),
    ("another flow", Scope(keys=(KEY,)), Scope(keys=(bytes(FLOWS[1]),)), False),
    ("the flow's bucket", Scope(keys=(KEY,)), Scope(buckets=(BUCKET,)), True),
    ("a flow of the bucket", Scope(buckets=(BUCKET,)), Scope(keys=(KEY,)), True),
    ("another bucket", Scope(buckets=(BUCKET,)), Scope(buckets=(BUCKET + 1,)), False),
]


@pytest.mark.parametrize(("first", "second", "waits"), [each[1:] for each in AHEAD], ids=[each[0] for each in AHEAD])
def test_a_later_move_waits_for_an_earlier_one_that_waits(first: Scope, second: Scope, waits: bool) -> None:
    locks = Locks()
    locks.wait(1, first)
    locks.wait(2, second)
    assert locks.ahead(1, first) is None and locks.ahead(2, second) == (1 if waits else None)
    assert locks.holder(second) is None, "nobody has begun"
    locks.free(1)
    assert locks.ahead(2, second) is None


async def test_an_answer_counts_from_who_was_asked_alone(hanging: Lab) -> None:
    """Others may still answer an orchestrator that was before this one, and numbered its questions too."""
    fleet = hanging.orchestrator.fleet
    asked = asyncio.create_task(fleet.related(1, Scope(keys=(bytes(FLOWS[0]),)), (), 5.0))
    await hanging.until(lambda: bool(fleet._answers))
    (number,) = fleet._answers
    fleet.answered(2, Related(request=number, keys=(bytes(FLOWS[1]),)))
    await asyncio.sleep(0)
    assert not asked.done()
    hanging.agent.peers[1].go_on()
    assert (await asked).keys == ()
