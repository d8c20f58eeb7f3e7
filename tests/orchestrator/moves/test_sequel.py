"""What follows from a move: the rest without flows in use, groups; one deadline, and off is off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from orchestrator.moves import sequel
from splitmerge.cli.judging import judge
from splitmerge.colocation import Outside, PortRange, choose
from tests.orchestrator.lab import Lab
from tests.orchestrator.wishes import (
    A,
    B,
    C,
    give_back,
    impatient,
    make,
    moved,
    use,
    use_late,
    waiting,
    where,
)


async def test_what_is_called_off_on_its_way_back_is_not_tried_again(three: Lab) -> None:
    lab = three
    make(lab, 1, A)
    make(lab, 1, B)
    lab.tables.stuck = "redirect"
    asked = asyncio.create_task(moved(lab, keys=[str(A), str(B)]))
    await use_late(lab, A)
    lab.tables.stuck = "resume"
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
    lab.tables.stuck = "redirect"
    asked = asyncio.create_task(moved(lab, keys=[str(A), str(B)]))
    await use_late(lab, A)
    lab.tables.stuck = "resume"
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
    lab.tables.stuck = "redirect"
    asked = asyncio.create_task(moved(lab, keys=[str(A), str(B)], deadline=30, references=30))
    await lab.until(lambda: "redirect" in lab.tables.calls)
    first, follower = lab.orchestrator.mover._running.values()
    lab.tables.go_on()
    second = await waiting(lab)
    assert second is follower and second.asked == first.asked
    refused = await lab.delete(f"/moves/{first.move.plan.epoch}", status=409)
    assert refused["error"] == "is over"
    assert refused["remedy"] == f"call off what follows from it: move {second.move.plan.epoch}"
    give_back(lab, A)
    assert [step for step, _ in await asked] == ["done", "done"]


@pytest.mark.parametrize("what", ["buckets", "keys"])
async def test_a_group_with_a_flow_in_use_stays_whole_and_the_others_move(three: Lab, what: str) -> None:
    lab = three
    make(lab, 1, A, "ftp")
    make(lab, 1, B, "ftp")
    make(lab, 1, C)
    use(lab, A)
    body = {"buckets": [key.bucket for key in (A, B, C)]} if what == "buckets" else {"keys": [str(B), str(C)]}
    assert await moved(lab, **body) == [("done", ""), ("undone", "1 of its flows is in use at the source")]
    assert where(lab, A, B, C) == [[1], [1], [2]]


async def test_where_all_that_was_named_stays_nothing_is_tried_again(three: Lab) -> None:
    lab = three
    make(lab, 1, A, "ftp")
    make(lab, 1, B, "ftp")
    use(lab, A)
    assert [step for step, _ in await moved(lab, keys=[str(B)])] == ["undone"]
    assert where(lab, A, B) == [[1], [1]]


async def test_groups_follow_from_elsewhere_and_do_not_wait_for_flows_in_use(three: Lab) -> None:
    lab = three
    await moved(lab, buckets=[C.bucket], target=3)
    make(lab, 1, A)
    make(lab, 1, B, "ftp")
    make(lab, 3, C, "ftp")
    use(lab, A)
    assert [step for step, _ in await moved(lab, keys=[str(A), str(B)])] == ["done", "undone", "done"]
    assert where(lab, A, B, C) == [[1], [2], [2]]


async def test_the_group_of_a_flow_in_use_is_not_gathered(three: Lab) -> None:
    lab = three
    await moved(lab, buckets=[C.bucket], target=3)
    make(lab, 1, A, "ftp")
    make(lab, 1, B, "sip")
    make(lab, 3, C, "ftp")
    use(lab, A)
    assert [step for step, _ in await moved(lab, keys=[str(A), str(B)])] == ["done", "undone"]
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


@pytest.fixture
def key_comes(three: Lab) -> Callable[..., Awaitable[asyncio.Task[Any]]]:
    """A move of A, B and C has begun, left C, which is in use, and lacks a key that A got meanwhile."""

    async def begun(**more: object) -> asyncio.Task[Any]:
        for key in (A, B, C):
            make(three, 1, key)
        use(three, C)
        outside = Outside(bytes((10, 0, 2, 1)), bytes((10, 0, 2, 2)), 9, 17)
        chosen = choose(outside, A.bucket, PortRange(), lambda key: False)
        assert chosen is not None
        guest = three.agent.peers[1].guest
        await three.until(lambda: guest.table.fences.owned)
        three.tables.stuck = "redirect"
        body = {"keys": [str(A), str(B), str(C)], "target": 2, "references": 60, **more}
        asked = asyncio.create_task(three.post("/moves", body))
        await three.until(lambda: "redirect" in three.tables.calls)
        guest.add_alias(A, chosen[1])
        return asked

    return begun


async def test_what_no_move_follows_for_is_told_where_another_one_follows_for_what_was_in_use(
    three: Lab, key_comes: Callable[..., Awaitable[asyncio.Task[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = three
    monkeypatch.setattr(sequel, "TRIES", 2)
    asked = await key_comes()
    lab.tables.go_on()
    await lab.until(lambda: len(lab.orchestrator.mover.reports._reports) == 1)
    give_back(lab, C)
    first, second = (await asked)["moves"]
    assert (second["step"], second["follows"], second["untaken"]) == ("done", first["epoch"], None)
    assert (first["step"], first["pinned"], first["untaken"]) == ("undone", [], {"keys": 2, "buckets": 0})
    assert first["reason"] == (
        "1 of its flows got another key meanwhile; the others stay as well: flows in use, or that got another key, "
        "were in the way too often"
    )
    assert where(lab, A, B, C) == [[1], [1], [2]]
    with pytest.raises(typer.Exit):
        judge([first, second], Path("anywhere"))
    assert (await lab.get(f"/moves/{first['epoch']}"))["untaken"] == first["untaken"], "later as well"


async def test_where_both_moves_follow_nothing_is_left(
    three: Lab, key_comes: Callable[..., Awaitable[asyncio.Task[Any]]]
) -> None:
    asked = await key_comes()
    three.tables.go_on()
    await three.until(lambda: where(three, A, B) == [[2], [2]])
    give_back(three, C)
    moves = (await asked)["moves"]
    assert [(each["step"], each["untaken"]) for each in moves] == [("undone", None), ("done", None), ("done", None)]
    judge(moves, Path("anywhere"))


async def gathering(lab: Lab, *, silent: int) -> asyncio.Task[list[tuple[str, str]]]:
    """A move that is done, left a flow in use, and looks for flows of its groups at a replica that does not answer."""
    make(lab, 1, A)
    make(lab, 1, B, "ftp")
    use(lab, A)
    lab.agent.peers[silent].stopped = True
    asked = asyncio.create_task(moved(lab, keys=[str(A), str(B)], references=60))
    await lab.until(lambda: any(each.gathers for each in lab.orchestrator.mover._leading.values()))
    return asked


async def test_what_is_left_does_not_wait_for_groups_from_elsewhere(three: Lab) -> None:
    lab = three
    asked = await gathering(lab, silent=3)
    give_back(lab, A)
    await lab.until(lambda: where(lab, A, B) == [[2], [2]])
    assert not asked.done()
    lab.agent.peers[3].go_on()
    assert await asked == [("done", ""), ("done", "")]


async def test_what_follows_from_a_move_that_is_done_is_called_off_while_groups_are_gathered(three: Lab) -> None:
    lab = three
    await moved(lab, buckets=[C.bucket], target=3)
    make(lab, 3, C, "ftp")
    asked = await gathering(lab, silent=3)
    await lab.until(lambda: len(lab.orchestrator.mover._leading) == 2)
    first, second = lab.orchestrator.mover._leading
    told = await lab.delete(f"/moves/{first}")
    why = "flows of its groups elsewhere stay: called off by request"
    assert (told["step"], told["reason"]) == ("done", why)
    lab.agent.peers[3].go_on()
    moves = await asked
    assert moves[0] == ("done", why) and [step for step, _ in moves] == ["done", "undone"]
    assert moves[1][1].endswith("called off by request") and second == first + 1
    assert where(lab, A, B, C) == [[1], [2], [3]]
