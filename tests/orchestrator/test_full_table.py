"""A switch that has no room for flows' entries: who is left out, who goes on, and what an operator is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from orchestrator import assigning
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
