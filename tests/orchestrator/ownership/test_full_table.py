"""A switch that has no room for flows' entries: who is left out, who goes on, and what an operator is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from orchestrator.ownership import assigning
from p4rt_controller import NewFlow
from tests.orchestrator.lab import FLOWS, Lab


def announce(lab: Lab, *numbers: int) -> None:
    for number in numbers:
        lab.orchestrator.network_event(NewFlow(FLOWS[number]))


async def test_new_flows_without_room_leave_the_others_of_their_batch_alone(
    make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assigning, "RETRY", 0.2)
    lab = make_lab(assignment="round-robin")
    async with lab.up():
        placement = lab.orchestrator.placement
        lab.tables.no_room = frozenset(FLOWS[:2])
        announce(lab, 0, 1, 2, 3)
        await lab.until(lambda: lab.tables.flows == dict.fromkeys(FLOWS[2:4], 1))
        await lab.until(lambda: not lab.orchestrator.mover.running())
        assert [placement.entry(key) for key in FLOWS[:4]] == [None, None, 1, 1]
        (move,) = await lab.get("/moves")
        assert move["step"] == "done" and move["reason"].startswith("2 of its flows have no owner: the switch refused")
        (problem,) = (await lab.get("/status"))["problems"]
        assert problem.startswith("new flows get no entry in the switch, 2 times in the last 60 s: 2 of its flows")
        announce(lab, 0, 0)  # the next packets, at once
        await asyncio.sleep(0.1)
        assert len(await lab.get("/moves")) == 1, "it is not tried again with every packet"
        lab.tables.no_room = frozenset()
        await lab.until(lambda: placement.entry(FLOWS[0]) == 1)
        assert placement.entry(FLOWS[1]) is None, "it has not sent anything since"
        await asyncio.sleep(0.2)
        announce(lab, 1)
        await lab.until(lambda: placement.entry(FLOWS[1]) == 1)


async def test_a_flow_that_was_refused_twice_at_once_is_tried_again(
    make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sent while the first try was under way, and again before the second one had ended."""
    monkeypatch.setattr(assigning, "RETRY", 0.2)
    lab = make_lab(assignment="round-robin")
    async with lab.up():
        lab.tables.no_room, lab.tables.stuck = frozenset(FLOWS[:1]), "resume"
        for tries in (1, 2):
            announce(lab, 0)
            await lab.until(lambda tries=tries: len(lab.orchestrator.mover.running()) == tries)  # type: ignore[misc]
        await lab.until(lambda: lab.tables.calls.count("resume") == 1)
        lab.tables.go_on()
        lab.tables.stuck = "resume"
        await lab.until(lambda: lab.tables.calls.count("resume") == 2)
        announce(lab, 0)
        lab.tables.no_room = frozenset(FLOWS[:1])
        lab.tables.go_on()
        await lab.until(lambda: not lab.orchestrator.mover.running())
        lab.tables.no_room = frozenset()
        await lab.until(lambda: lab.orchestrator.placement.entry(FLOWS[0]) == 1)


@pytest.mark.parametrize("guarantee", ["none", "no-buffer", "loss-free"])
async def test_a_move_of_flows_that_there_is_no_room_for_is_undone_and_nothing_is_lost(
    lab: Lab, guarantee: str
) -> None:
    lab.give_flows(1, FLOWS[:2])
    await lab.post("/scale-out", {"rebalance": False})
    lab.tables.no_room = frozenset(FLOWS[:1])
    body = {"keys": [str(key) for key in FLOWS[:2]], "target": 2, "guarantee": guarantee}
    (move,) = (await lab.post("/moves", body))["moves"]
    assert move["step"] == "undone" and "the switch refused insert flow" in move["reason"]
    assert [lab.holders(key) for key in FLOWS[:2]] == [[1], [1]] and move["dropped"] == 0
    if guarantee != "loss-free":
        assert lab.tables.flows == {} and lab.orchestrator.placement.entry(FLOWS[1]) is None
    buckets = {"buckets": sorted({key.bucket for key in FLOWS[:2]}), "target": 2, "guarantee": guarantee}
    assert [each["step"] for each in (await lab.post("/moves", buckets))["moves"]] == ["done"], "buckets need none"


@pytest.mark.parametrize("guarantee", ["none", "no-buffer"])
async def test_a_new_process_keeps_the_room_of_moves_that_are_decided(
    make_lab: Callable[..., Lab], guarantee: str
) -> None:
    lab = make_lab()
    async with lab.up():
        lab.give_flows(1, FLOWS[:1])
        await lab.post("/scale-out", {"rebalance": False})
        lab.tables.stuck = "redirect"
        await lab.post("/moves", {"keys": [str(FLOWS[0])], "target": 2, "guarantee": guarantee, "wait": False})
        await lab.until(lambda: "redirect" in lab.tables.calls)
    lab.tables.stuck = ""
    lab.tables.no_room = frozenset(FLOWS[:1])
    async with lab.up():
        assert lab.tables.restored is not None and lab.tables.restored.flows == {FLOWS[0]: 1}
        await lab.until(lambda: not lab.orchestrator.mover.running())
        assert lab.holders(FLOWS[0]) == [2] and lab.tables.flows == {FLOWS[0]: 2}
