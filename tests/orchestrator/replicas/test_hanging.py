"""Replicas that keep a move waiting: those that say nothing or that nothing reaches are ended, busy ones waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.migration import Options, Times
from p4rt_controller import SwitchUnavailable
from splitmerge import messages as m
from splitmerge.errors import SplitmergeError
from splitmerge.flowkey import BUCKETS
from tests.orchestrator.lab import FLOWS, Lab

SOON = Times(overdue=0.4, unreached=0.3, network_retry=0.05, retry=0.05)
DECIDED_WITHIN = 1.0
"""Seconds: a move is decided long before, also on a busy machine, unless its source keeps it waiting."""
ALL = {"all": True, "source": 1, "target": 2}
Make = Callable[..., Lab]


async def two(lab: Lab) -> None:
    """Two replicas; the first has the flows."""
    lab.give_flows(1, FLOWS)
    await lab.post("/scale-out", {"rebalance": False})


@pytest.mark.parametrize("options", [
    Options(), Options(buffer="cpu"), Options(guarantee="no-buffer"), Options(guarantee="none"),
], ids=lambda each: f"{each.guarantee} {each.buffer}")  # fmt: skip
@pytest.mark.parametrize("at", [m.Export, m.Release])
async def test_a_source_that_stops_holds_a_move_up_for_its_deadline_and_a_little(
    make_lab: Make,
    options: Options,
    at: type[m.Message],
) -> None:
    lab = make_lab(defaults=options, moves=SOON)
    async with lab.up():
        await two(lab)
        lab.agent.peers[1].stops_at = at
        loop = asyncio.get_running_loop()
        begin = loop.time()
        (move,) = (await lab.post("/moves", {**ALL, "deadline": DECIDED_WITHIN}))["moves"]
        assert loop.time() - begin < DECIDED_WITHIN + SOON.overdue + 1.5
        late = at is m.Export
        assert (move["step"], move["stateless"]) == ("done", late)
        assert move["reason"] == f"not decided within {DECIDED_WITHIN:g} s; " * late + "replica 1 is gone"
        await lab.until(lambda: lab.tables.buckets == dict.fromkeys(range(BUCKETS), 2))
        assert lab.orchestrator.replicas_died == 1


async def test_a_source_that_stops_before_a_move_begins_is_ended_a_little_after_its_deadline(make_lab: Make) -> None:
    lab = make_lab(moves=SOON)
    async with lab.up():
        await two(lab)
        lab.agent.peers[1].stopped = True
        loop = asyncio.get_running_loop()
        begin = loop.time()
        (move,) = (await lab.post("/moves", {**ALL, "deadline": 0.3}))["moves"]
        why = "replica 1 does not say what belongs to it; not decided within 0.3 s"
        assert (move["step"], move["reason"]) == ("undone", why)
        assert lab.orchestrator.replicas_died == 0
        await lab.until(lambda: lab.orchestrator.replicas_died == 1)
        assert 0.3 + SOON.overdue <= loop.time() - begin < 5, "it would be ended after 20 s of silence anyway"
        await lab.until(lambda: lab.tables.buckets == dict.fromkeys(range(BUCKETS), 2))


async def test_nor_is_it_ended_twice_or_though_it_is_heard_again(make_lab: Make) -> None:
    lab = make_lab(moves=SOON)
    async with lab.up():
        await two(lab)
        lab.agent.peers[1].stopped = True
        for _ in range(2):
            await lab.post("/moves", {**ALL, "deadline": 0.1})
        assert set(lab.orchestrator._doubts._watched) == {1}
        lab.agent.peers[1].go_on()
        await lab.until(lambda: not lab.orchestrator._doubts._watched)
        await asyncio.sleep(2 * SOON.overdue)
        assert lab.orchestrator.replicas_died == 0 and all(lab.holders(key) == [1] for key in FLOWS)


async def test_a_source_that_talks_and_does_not_say_what_belongs_to_a_move_is_not_ended(make_lab: Make) -> None:
    lab = make_lab(moves=replace(SOON, overdue=1.0))  # it talks four times a second
    async with lab.up():
        await two(lab)
        lab.agent.peers[1].deaf_to = m.Relate
        (move,) = (await lab.post("/moves", {**ALL, "deadline": 0.3}))["moves"]
        assert (move["step"], lab.orchestrator.replicas_died) == ("undone", 0)
        await asyncio.sleep(2.5)
        assert lab.orchestrator.replicas_died == 0 and all(lab.holders(key) == [1] for key in FLOWS)


async def test_a_source_that_waits_for_flows_in_use_is_not_ended(make_lab: Make) -> None:
    lab = make_lab(moves=replace(SOON, overdue=1.0))
    async with lab.up():
        await two(lab)
        guest = lab.agent.peers[1].guest
        guest.get_flow(FLOWS[0])
        key = str(FLOWS[0])
        (move,) = (await lab.post("/moves", {"keys": [key], "target": 2, "deadline": 0.5, "references": 30}))["moves"]
        why = "flows of it are in use at replica 1; not decided within 0.5 s"
        assert (move["step"], move["reason"]) == ("undone", why)
        await asyncio.sleep(2.5)
        guest.put_flow(FLOWS[0])
        assert lab.orchestrator.replicas_died == 0 and lab.holders(FLOWS[0]) == [1]


async def test_a_source_is_not_ended_for_a_stall_of_the_orchestrator(make_lab: Make) -> None:
    times = replace(SOON, overdue=0.6)
    lab = make_lab(moves=times)
    async with lab.up():
        await two(lab)
        lab.agent.peers[1].stopped = True
        (move,) = (await lab.post("/moves", {**ALL, "deadline": 0.1}))["moves"]
        assert move["step"] == "undone"
        lab.agent.peers[1].go_on()
        time.sleep(1.0)  # noqa: ASYNC251  # nobody gets a turn, and what was said lies unread
        await asyncio.sleep(2 * times.overdue)
        assert lab.orchestrator.replicas_died == 0


async def test_a_source_that_is_slow_but_talks_is_not_ended(make_lab: Make) -> None:
    times = replace(SOON, overdue=1.0)  # it talks four times a second
    lab = make_lab(moves=times)
    async with lab.up():
        await two(lab)
        lab.tables.stuck = "drain"
        await lab.post("/moves", {**ALL, "deadline": 0.1, "wait": False})
        await asyncio.sleep(0.1 + 2 * times.overdue)
        lab.tables.go_on()
        await lab.until(lambda: not lab.orchestrator.mover.running())
        newest = (await lab.get("/moves"))[0]
        assert (newest["step"], newest["reason"], newest["stateless"]) == ("undone", "not decided within 0.1 s", False)
        assert lab.orchestrator.replicas_died == 0 and all(lab.holders(key) == [1] for key in FLOWS)


@pytest.mark.parametrize("buffer", ["cpu", "replica"])
async def test_a_source_that_talks_but_takes_no_packets_does_not_keep_flows_suspended(
    make_lab: Make,
    buffer: str,
) -> None:
    lab = make_lab(moves=SOON)
    async with lab.up():
        await two(lab)
        lab.agent.peers[1].unreached = True
        (move,) = (await lab.post("/moves", {**ALL, "buffer": buffer}))["moves"]
        assert (move["step"], move["stateless"]) == ("done", True) and "replica 1 is gone" in move["reason"]


async def test_nor_after_the_orchestrator_was_killed(make_lab: Make) -> None:
    lab = make_lab(moves=SOON)
    async with lab.up():
        await two(lab)
        lab.tables.stuck = "drain"
        await lab.post("/moves", {**ALL, "wait": False})
        await lab.until(lambda: "drain" in lab.tables.calls)
    lab.tables.go_on()
    lab.agent.peers[1].unreached = True
    async with lab.up():
        await lab.until(lambda: not lab.orchestrator.mover.running() and lab.tables.ports == {2: 12})


BUSY = replace(SOON, overdue=1.0, unreached=0.6)
"""Far less than a busy replica lets a move wait here; it says four times a second how many packets it has taken."""


async def busy(lab: Lab) -> None:
    """Two replicas; the first has the flows, and far more packets than it can take."""
    await two(lab)
    lab.agent.peers[1].behind = True
    await lab.until(lambda: lab.orchestrator.fleet.replicas[1].took > 0)


@pytest.mark.parametrize("buffer", ["cpu", "replica"])
async def test_a_busy_source_is_waited_for_until_it_has_caught_up(make_lab: Make, buffer: str) -> None:
    lab = make_lab(moves=BUSY)
    async with lab.up():
        await busy(lab)
        await lab.post("/moves", {**ALL, "buffer": buffer, "wait": False})
        await asyncio.sleep(3 * BUSY.unreached)
        assert [each["step"] for each in (await lab.get("/moves"))] == ["draining"]
        lab.agent.peers[1].behind = False
        await lab.until(lambda: not lab.orchestrator.mover.running())
        newest = (await lab.get("/moves"))[0]
        assert (newest["step"], newest["reason"], newest["stateless"]) == ("done", "", False)
        assert lab.orchestrator.replicas_died == 0 and all(lab.holders(key) == [2] for key in FLOWS)


async def test_a_busy_source_past_the_deadline_keeps_its_flows_and_its_life(make_lab: Make) -> None:
    lab = make_lab(moves=BUSY)
    async with lab.up():
        await busy(lab)
        await lab.post("/moves", {**ALL, "deadline": 0.5, "wait": False})
        await asyncio.sleep(0.5 + 3 * BUSY.unreached)
        (move,) = await lab.get("/moves")
        assert move["step"] == "clearing", "what it was sent before stands in front of what was kept meanwhile"
        lab.agent.peers[1].behind = False
        await lab.until(lambda: not lab.orchestrator.mover.running())
        (move,) = await lab.get("/moves")
        assert (move["step"], move["stateless"]) == ("undone", False)
        assert move["reason"].startswith("not decided within 0.5 s: replica 1 is busy, ")
        assert lab.orchestrator.replicas_died == 0 and all(lab.holders(key) == [1] for key in FLOWS)


async def test_a_busy_source_is_waited_for_by_a_new_orchestrator_too(make_lab: Make) -> None:
    lab = make_lab(moves=BUSY)
    async with lab.up():
        await busy(lab)
        await lab.post("/moves", {**ALL, "wait": False})
        await lab.until(lambda: "drain" in lab.tables.calls)
    async with lab.up():
        await asyncio.sleep(3 * BUSY.unreached)
        assert len(lab.orchestrator.mover.running()) == 1
        lab.agent.peers[1].behind = False
        await lab.until(lambda: not lab.orchestrator.mover.running())
        assert lab.orchestrator.replicas_died == 0 and all(lab.holders(key) == [1] for key in FLOWS)


async def test_a_busy_source_that_then_stops_is_ended(make_lab: Make) -> None:
    lab = make_lab(moves=BUSY)
    async with lab.up():
        await busy(lab)
        await lab.post("/moves", {**ALL, "wait": False})
        await asyncio.sleep(2 * BUSY.unreached)
        lab.agent.peers[1].stopped = True
        await lab.until(lambda: not lab.orchestrator.mover.running())
        first = (await lab.get("/moves"))[-1]
        assert (first["step"], first["stateless"]) == ("done", True) and "replica 1 is gone" in first["reason"]


async def test_a_switch_that_is_away_is_no_reason_to_end_a_replica(make_lab: Make) -> None:
    lab = make_lab(moves=SOON)
    async with lab.up():
        await two(lab)
        away = SwitchUnavailable("drain", "away")
        lab.tables.fail = lambda name, what: away if name == "drain" else None
        await lab.post("/moves", {**ALL, "wait": False})
        await asyncio.sleep(3 * SOON.unreached)
        lab.tables.fail = lambda name, what: None
        await lab.until(lambda: not lab.orchestrator.mover.running())
        assert lab.orchestrator.replicas_died == 0 and all(lab.holders(key) == [1] for key in FLOWS)


async def test_a_slot_is_kept_until_a_replica_that_was_never_used_has_ended(make_lab: Make) -> None:
    lab = make_lab()
    async with lab.up():
        lab.tables.away, lab.agent.clings = True, "error"
        await lab.post("/scale-out", {}, status=503)
        lab.tables.away = False
        assert (await lab.post("/scale-out", {"rebalance": False}))["added"] == [3]
        assert lab.tables.ports == {1: 11, 3: 13}, "slot 2 may still have replica 2"
        lab.agent.clings = ""
        await lab.until(lambda: 2 not in lab.orchestrator.fleet.replicas)
        await lab.post("/scale-out", {"rebalance": False})
        assert lab.tables.ports == {1: 11, 3: 13, 4: 12}


async def test_a_replica_that_takes_long_to_come_back_does_not_keep_the_others(make_lab: Make) -> None:
    lab = make_lab()
    async with lab.up():
        lab.give_flows(1, FLOWS)
        await lab.post("/scale-out", {"count": 2, "rebalance": False})
        lab.tables.stuck = "resume"
        await lab.post("/moves", {**ALL, "buffer": "cpu", "wait": False})
        await lab.until(lambda: "resume" in lab.tables.calls)
    slow = True

    def fail(name: str, what: Any) -> SplitmergeError | None:
        return SwitchUnavailable("write", "one moment") if slow and (name, what) == ("register", 3) else None

    lab.tables.fail, lab.tables.stuck = fail, ""
    lab.agent.peers = dict(sorted(lab.agent.peers.items(), reverse=True))
    async with lab.up(wait=False):
        await lab.until(lambda: lab.orchestrator.started and not lab.orchestrator.mover.running())
        assert not lab.orchestrator.ready.is_set() and all(lab.holders(key) == [2] for key in FLOWS)
        slow = False
        await lab.until(lab.orchestrator.ready.is_set)
