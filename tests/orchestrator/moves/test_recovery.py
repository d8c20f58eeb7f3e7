"""A new process takes up the moves that an earlier one left: each by itself, none before its replicas are drained."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from orchestrator.migration import Doubt, Times
from orchestrator.moves.recovery import Recovery
from p4rt_controller import Refusal, SwitchUnavailable, WriteRejected
from splitmerge import messages as m
from splitmerge.errors import SplitmergeError, Timeout
from tests.orchestrator.lab import FLOWS, Lab, Tables

HERE, THERE = FLOWS[0], next(key for key in FLOWS if key.bucket != FLOWS[0].bucket)
FULL = WriteRejected([Refusal("insert", "RESOURCE_EXHAUSTED", "table full")])
AWAY = SwitchUnavailable("write", "away")
MUTE = Timeout("MARKER", 10.0)


@pytest.fixture
async def left(make_lab: Callable[..., Lab]) -> Lab:
    """Two moves from replica 1 to 2, of a bucket with one flow each, left in REDIRECTING."""
    lab = make_lab(moves=Times(network_retry=0.02))
    async with lab.up():
        lab.give_flows(1, [HERE, THERE])
        await lab.post("/scale-out", {"rebalance": False})
        lab.tables.stuck = "redirect"
        for key in (HERE, THERE):
            await lab.post("/migrate", {"buckets": [key.bucket], "target": 2, "wait": False})
        await lab.until(lambda: lab.tables.calls.count("redirect") == 2)
    lab.tables.go_on()
    lab.tables.calls.clear()
    return lab


def under_way(lab: Lab) -> list[int]:
    """The buckets of the moves under way."""
    return [bucket for move in lab.orchestrator.mover.running() for bucket in move.plan.scope.buckets]


async def test_what_the_switch_refuses_to_suspend_keeps_no_move_waiting(left: Lab) -> None:
    left.tables.fail = lambda name, what: FULL if name == "suspend" else None
    async with left.up():
        await left.until(lambda: not under_way(left))
        assert [left.holders(key) for key in (HERE, THERE)] == [[1], [1]]


async def test_a_move_that_cannot_be_suspended_yet_keeps_no_other_waiting(left: Lab) -> None:
    def fail(name: str, what: m.Scope | int) -> SplitmergeError | None:
        return AWAY if isinstance(what, m.Scope) and HERE.bucket in what.buckets else None

    left.tables.fail = fail
    async with left.up():
        await left.until(lambda: under_way(left) == [HERE.bucket])
        await left.post("/migrate", {"buckets": [THERE.bucket], "target": 2})
        assert left.holders(THERE) == [2]
        left.tables.fail = lambda name, what: None
        await left.until(lambda: not under_way(left))
        assert left.holders(HERE) == [1]


async def test_one_that_had_a_deadline_is_late_when_it_has_been_in_one_step_for_long(
    make_lab: Callable[..., Lab],
) -> None:
    """Nobody knows any more how much of the deadline had passed."""
    lab = make_lab()
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": False})
        lab.tables.stuck = "redirect"
        body = {"buckets": [HERE.bucket], "target": 2, "wait": False, "deadline": 600}
        await lab.post("/migrate", body)
        await lab.until(lambda: "redirect" in lab.tables.calls)
    lab.tables.go_on()
    lab.tables.stuck = "suspend"
    async with lab.up(wait=False):
        await lab.until(lambda: lab.tables.calls[-1] == "suspend")
        (running,) = lab.orchestrator.mover._running.values()
        due = running.late_at
        assert 0 < due - asyncio.get_running_loop().time() <= Times().stuck
        assert running.watch is not None and running.watch.when() <= due, "somebody looks by then"
        lab.tables.go_on()
        lab.tables.stuck = "resume"
        await lab.until(lambda: lab.tables.calls[-1] == "resume")
        assert running.late_at > due and not running.watch.cancelled(), "it has entered another step since"
        lab.tables.go_on()


async def test_the_next_process_knows_when_a_move_was_asked_for_and_what_it_follows(
    make_lab: Callable[..., Lab],
) -> None:
    def known(moves: list[dict[str, Any]]) -> list[tuple[int, int | None, float]]:
        return [(move["epoch"], move["follows"], move["planned_at"]) for move in moves]

    lab = make_lab(moves=Times(network_retry=0.02))
    async with lab.up():
        lab.give_flows(1, [HERE, THERE])
        source = lab.agent.peers[1].guest
        source.get_flow(HERE)
        await lab.post("/scale-out", {"rebalance": False})
        body = {"keys": [str(HERE), str(THERE)], "target": 2, "guarantee": "none", "references": 60, "wait": False}
        (first,) = (await lab.post("/moves", body))["moves"]
        await lab.until(lambda: lab.orchestrator.mover.reports.get(first["epoch"]) is not None)
        lab.tables.stuck = "redirect"
        source.put_flow(HERE)
        await lab.until(lambda: lab.tables.calls.count("redirect") == 2)
        before = known(await lab.get("/moves"))
        assert [follows for _, follows, _ in before] == [first["epoch"], None]
        assert all(time.time() - 60 < planned <= time.time() for _, _, planned in before)
    async with lab.up():
        assert known(await lab.get("/moves")) == before
        lab.tables.go_on()
        await lab.until(lambda: not lab.orchestrator.mover.running())
        assert known(await lab.get("/moves")) == before and lab.holders(THERE) == [2]


async def test_no_move_is_taken_up_before_its_replicas_echo(left: Lab) -> None:
    left.tables.fail = lambda name, what: MUTE if (name, what) == ("drain", 2) else None
    async with left.up():
        moves = left.orchestrator.mover.running()
        await left.until(lambda: left.tables.calls.count("drain") > 4)
        assert {move.step.name for move in moves} == {"REDIRECTING"}
        left.tables.fail = lambda name, what: None
        await left.until(lambda: not under_way(left))
        assert [left.holders(key) for key in (HERE, THERE)] == [[1], [1]]


async def test_a_replica_that_dies_instead_of_echoing_is_waited_for_no_longer(left: Lab) -> None:
    left.tables.fail = lambda name, what: MUTE if (name, what) == ("drain", 2) else None
    async with left.up():
        await left.until(lambda: left.tables.calls.count("drain") > 4)
        left.agent.kill(2)
        await left.until(lambda: not under_way(left))
        assert [left.holders(key) for key in (HERE, THERE)] == [[1], [1]]


async def test_a_move_whose_replicas_are_here_does_not_wait_for_those_that_are_not(left: Lab) -> None:
    """Nobody confirms the end of replica 3, which does not come back: the agent is away."""
    async with left.up():
        await left.until(lambda: not under_way(left))
        await left.post("/scale-out", {"rebalance": False})
        left.tables.stuck = "redirect"
        left.tables.calls.clear()
        await left.post("/migrate", {"buckets": [HERE.bucket], "target": 2, "wait": False})
        await left.until(lambda: "redirect" in left.tables.calls)
    left.tables.go_on()
    left.agent.tasks[3].cancel()
    async with left.up(wait=False):
        await left.until(lambda: left.orchestrator.started and len(under_way(left)) == 1)
        buried = left.orchestrator.fleet.destroy
        gate = asyncio.Event()

        async def late(*arguments: object, **named: object) -> bool:
            await gate.wait()
            return await buried(*arguments, **named)  # type: ignore[arg-type]

        left.orchestrator.fleet.destroy = late  # type: ignore[method-assign]
        await left.until(lambda: not under_way(left))
        assert not left.orchestrator.ready.is_set()
        gate.set()
        await left.until(left.orchestrator.ready.is_set)


# -- drains ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def recovery(tables: Tables) -> AsyncIterator[Recovery]:
    doubted: list[int] = []

    def doubt(doubt: Doubt) -> None:
        doubted.append(doubt.replica)

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        yield Recovery(tables, tasks, 0.01, 60, doubt, lambda replica: False)
    assert not doubted


async def test_moves_that_ask_about_a_replica_at_once_share_its_marker() -> None:
    tables = Tables()
    async with recovery(tables) as it:
        for drained in [it.drained(relay, replica) for relay in range(1, 9) for replica in (1, 2)]:
            await drained
    assert tables.calls == ["drain", "drain"]


async def test_a_marker_sent_earlier_proves_nothing() -> None:
    tables = Tables()
    tables.stuck = "drain"
    async with recovery(tables) as it:
        first = it.drained(1, 1)
        while not tables.calls:  # noqa: ASYNC110
            await asyncio.sleep(0)
        second = it.drained(2, 1)
        tables.go_on()
        await first
        assert not second.done()
        await second
    assert tables.calls == ["drain", "drain"]


async def test_nothing_is_in_the_queue_of_a_replica_that_is_gone() -> None:
    tables = Tables()
    tables.stuck = "drain"
    async with recovery(tables) as it:
        waiting = it.drained(1, 1)
        it.lost(1)
        await waiting
        await it.drained(2, 1)


async def test_a_replica_that_is_known_to_have_ended_is_not_waited_for(left: Lab) -> None:
    """It died with the orchestrator: its agent says so as soon as it is there."""
    left.agent.peers.pop(2)
    left.agent.tasks.pop(2).cancel()
    former = left.agent.writer
    async with left.up(wait=False):
        await left.until(lambda: left.agent.writer is not former)
        began = time.monotonic()
        left.agent.kill(2)
        await left.until(lambda: not under_way(left))
        assert time.monotonic() - began < left.orchestrator.config.deadlines.reattach / 2
        assert [left.holders(key) for key in (HERE, THERE)] == [[1], [1]]
