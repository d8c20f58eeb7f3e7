"""Flows in use are left to a move of their own, and hold nobody up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.moves import turns
from orchestrator.moves.running import Running
from orchestrator.scaling.scaler import Wanted
from splitmerge.cli.judging import judge
from splitmerge.messages import Scope
from tests.orchestrator.lab import FLOWS, Lab
from tests.orchestrator.wishes import (
    NEAR,
    NOTHING,
    SOON,
    A,
    B,
    C,
    give_back,
    make,
    moved,
    use,
    use_late,
    waiting,
    where,
)


@pytest.mark.parametrize("what", ["buckets", "keys", "all"])
async def test_flows_in_use_hold_nobody_up(three: Lab, what: str) -> None:
    """They are waited for while the others have moved, and with nothing suspended."""
    lab = three
    for key in (A, B, C):
        make(lab, 1, key)
    use(lab, A)
    bodies: dict[str, dict[str, object]] = {
        "buckets": {"buckets": [key.bucket for key in (A, B, C)]},
        "keys": {"keys": [str(key) for key in (A, B, C)]},
        "all": {"all": True, "source": 1},
    }
    asked = asyncio.create_task(lab.post("/moves", bodies[what] | {"target": 2, "references": 60}))
    running = await waiting(lab)
    assert where(lab, A, B, C) == [[1], [2], [2]] and running.move.step.value == "planned"
    assert lab.tables.calls == ["redirect", "drain"], "of the first move"
    give_back(lab, A)
    first, second = (await asked)["moves"]
    assert [(each["step"], each["reason"], each["pinned"]) for each in (first, second)] == [("done", "", [])] * 2
    assert (second["follows"], second["epoch"]) == (first["epoch"], running.move.plan.epoch)
    assert where(lab, A, B, C) == [[2], [2], [2]]
    assert (second["keys"], second["buckets"]) == ((1, 0) if what == "keys" else (0, 1))


async def test_a_flow_in_use_that_is_moved_alone_is_waited_for_with_nothing_suspended(three: Lab) -> None:
    lab = three
    make(lab, 1, A)
    use(lab, A)
    (move,) = (await lab.post("/moves", {"keys": [str(A)], "target": 2, "references": 0.1}))["moves"]
    assert (move["step"], move["pinned"], move["suspended_ms"]) == ("undone", [str(A)], 0)
    assert lab.tables.calls == [] and lab.tables.flows == {} and list(move["steps_ms"]) == ["undone"]
    give_back(lab, A)
    assert await moved(lab, keys=[str(A)]) == [("done", "")] and where(lab, A) == [[2]]


async def test_references_0_waits_for_nothing(three: Lab) -> None:
    lab = three
    make(lab, 1, A)
    make(lab, 1, B)
    use(lab, A)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    moves = await moved(lab, buckets=[A.bucket, B.bucket], references=0)
    assert [step for step, _ in moves] == ["done", "undone"] and loop.time() - begun < 5
    assert where(lab, A, B) == [[1], [2]]


async def test_of_flows_that_were_in_use_those_that_were_given_back_move_at_last(three: Lab) -> None:
    lab = three
    for key in (A, B, C):
        make(lab, 1, key)
    use(lab, A)
    use(lab, B)
    asked = asyncio.create_task(moved(lab, keys=[str(A), str(B), str(C)], references=1))
    await waiting(lab)
    give_back(lab, B)
    assert await asked == [("done", ""), ("undone", "1 of its flows is in use at the source"), ("done", "")]
    assert where(lab, A, B, C) == [[1], [2], [2]]
    assert [each["follows"] for each in reversed(await lab.get("/moves"))] == [None, 1, 2]


async def test_a_short_transaction_parts_no_move(three: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is over before the source names it."""
    monkeypatch.setattr(turns, "BRIEF", 5.0)
    lab = three
    make(lab, 1, A)
    make(lab, 1, B)
    use(lab, A)
    asked = asyncio.create_task(moved(lab, keys=[str(A), str(B)], references=5))
    relations = lab.agent.peers[1].guest.relations
    await lab.until(lambda: relations.next_due() is not None)
    give_back(lab, A)
    assert await asked == [("done", "")] and where(lab, A, B) == [[2], [2]]


@pytest.mark.parametrize("how", ["called off", "deadline", "target", "source"])
async def test_a_move_that_waits_for_flows_in_use_can_end_otherwise(three: Lab, how: str) -> None:
    lab = three
    make(lab, 1, A)
    make(lab, 1, B)
    use(lab, A)
    deadline = {"deadline": 0.5} if how == "deadline" else {}
    asked = asyncio.create_task(moved(lab, keys=[str(A), str(B)], references=60, **deadline))
    running = await waiting(lab)
    if how == "called off":
        await lab.delete(f"/moves/{running.move.plan.epoch}")
    elif how in ("target", "source"):
        lab.agent.kill(2 if how == "target" else 1)
    first, (step, reason) = await asked
    assert first == ("done", "")
    if how == "source":  # nobody has the flow any more
        assert (step, "replica 1 is gone" in reason) == ("done", True)
        return
    said = {
        "called off": "called off by request",
        "deadline": "not decided within 0.5 s",
        "target": "replica 2 is gone",
    }
    assert (step, reason) == ("undone", f"flows of it are in use at replica 1; {said[how]}")
    assert where(lab, A) == [[1]]


async def test_new_keys_do_not_wait_while_a_move_waits_for_flows_in_use(three: Lab) -> None:
    """Replies of translated connections would wait with them."""
    lab = three
    make(lab, 1, A)
    guest = lab.agent.peers[1].guest
    await lab.until(lambda: guest.table.fences.owned)
    use(lab, A)
    asked = asyncio.create_task(moved(lab, buckets=[A.bucket], references=60))
    await waiting(lab, after=0)
    guest.add_alias(A, B)
    await lab.until(lambda: guest.table.find(A).pending is None)
    give_back(lab, A)
    assert await asked == [("done", "")] and where(lab, A, B) == [[2], [2]]


async def test_what_was_left_is_told_if_nobody_can_take_it_any_more(three: Lab) -> None:
    lab = three
    make(lab, 1, A)
    make(lab, 1, B)
    use(lab, A)
    asked = asyncio.create_task(lab.post("/moves", {"keys": [str(A), str(B)], "target": 2, "references": 60}))
    second = await waiting(lab)
    ending = asyncio.create_task(lab.post("/scale-in", {"replica": 2, "wait": False}))
    await lab.until(lambda: lab.orchestrator.fleet.replicas[2].state.value == "finishing")
    give_back(lab, A)
    await ending
    moves = (await asked)["moves"]
    assert [each["step"] for each in moves] == ["done", "undone"] and moves[1]["epoch"] == second.move.plan.epoch
    assert moves[1]["reason"] == "replica 2 takes no flows any more" and where(lab, A) == [[1]]


async def test_what_was_left_is_called_off_with_the_move_that_left_it(three: Lab) -> None:
    lab = three
    make(lab, 1, A)
    make(lab, 1, B)
    use(lab, A)
    lab.tables.stuck = "redirect"
    asked = asyncio.create_task(moved(lab, keys=[str(A), str(B)]))
    await lab.until(lambda: "redirect" in lab.tables.calls)
    move, follower = lab.orchestrator.mover.running()
    assert follower.follows == move.plan.epoch
    call_off = asyncio.create_task(lab.delete(f"/moves/{move.plan.epoch}"))
    await lab.until(lambda: move.called_off)
    lab.tables.go_on()
    await call_off
    why = f"move {move.plan.epoch}, which left it these flows, was not done"
    assert await asked == [("undone", "called off by request"), ("undone", why)]
    assert where(lab, A, B) == [[1], [1]]


async def test_what_a_move_leaves_is_planned_before_it_begins_and_told_after_a_restart(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab()
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": False})
        make(lab, 1, A)
        make(lab, 1, B)
        use(lab, A)
        lab.tables.stuck = "redirect"
        await lab.post("/moves", {"keys": [str(A), str(B)], "target": 2, "references": 60, "wait": False})
        await lab.until(lambda: "redirect" in lab.tables.calls)
        first, second = lab.orchestrator.mover.running()
        assert second.step.value == "planned" and second.plan.scope == Scope(keys=(bytes(A),))
    lab.tables.go_on()
    async with lab.up():
        await lab.until(lambda: not lab.orchestrator.mover.running())
        told = await lab.get(f"/moves/{second.plan.epoch}")
        assert (told["step"], told["follows"]) == ("undone", first.plan.epoch)
        assert told["scope"]["keys"] == [str(A)] and told["reason"] == "the orchestrator ended in step PLANNED"


@pytest.mark.parametrize("first", ["done", "undone"])
async def test_nobody_waits_for_what_is_left_to_a_move_that_is_not_taken(three: Lab, first: str) -> None:
    """Who asked for it has gone away while the first move was under way: a later move of the same flow has its turn."""
    lab = three
    make(lab, 1, A)
    make(lab, 1, B)
    use(lab, A)
    lab.tables.stuck = "redirect"
    scaler = lab.orchestrator.scaler
    planned = scaler.plan(Wanted(keys=(A, B)), 2)
    asked = asyncio.create_task(scaler.carry_out(planned))
    await lab.until(lambda: "redirect" in lab.tables.calls)
    _, follower = lab.orchestrator.mover.running()
    if first == "undone":
        lab.orchestrator.mover.cancel(planned[0].move.plan.epoch, "off")
    asked.cancel()
    await asyncio.wait((asked,))
    assert (follower.step.value, follower.reason) == ("undone", "who asked for it has failed")
    lab.tables.go_on()
    give_back(lab, A)
    assert await moved(lab, keys=[str(A)], target=3) == [("done", "")]
    assert where(lab, A, B) == [[3], [2 if first == "done" else 1]]


async def test_what_was_left_moves_where_flows_in_use_undo_the_move_that_left_it(three: Lab) -> None:
    lab = three
    for key in (A, B, C):
        make(lab, 1, key)
    use(lab, A)
    lab.tables.stuck = "redirect"
    asked = asyncio.create_task(
        lab.post("/moves", {"keys": [str(key) for key in (A, B, C)], "target": 2, "references": 1})
    )
    await use_late(lab, B)
    give_back(lab, A)
    moves = (await asked)["moves"]
    assert [(each["step"], each["follows"], each["keys"]) for each in moves] == [
        ("undone", None, 2), ("done", 1, 1), ("done", 1, 1),
    ]  # fmt: skip
    assert moves[0]["pinned"] == [str(B)] and where(lab, A, B, C) == [[2], [1], [2]]


async def test_flows_that_nobody_has_do_not_part_a_move_of_flows_in_use(three: Lab) -> None:
    lab = three
    make(lab, 1, A)
    use(lab, A)
    asked = asyncio.create_task(moved(lab, keys=[str(A), str(B)], references=60))
    await waiting(lab, after=0)
    give_back(lab, A)
    assert await asked == [("done", "")] and where(lab, A, B) == [[2], []]


async def test_what_was_left_moves_though_the_others_have_moved_elsewhere_meanwhile(
    three: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has called it off."""
    monkeypatch.setattr(turns, "BRIEF", 0.5)
    lab = three
    make(lab, 1, A)
    make(lab, 1, B)
    use(lab, A)
    asked = asyncio.create_task(moved(lab, keys=[str(A), str(B)], references=60))
    relations = lab.agent.peers[1].guest.relations
    await lab.until(lambda: relations.next_due() is not None)
    lab.orchestrator.placement.place({bytes(B): 3})  # as by a move that was ahead
    await waiting(lab)
    give_back(lab, A)
    (step, why), second = await asked
    assert (step, second) == ("undone", ("done", "")) and why == NOTHING and where(lab, A) == [[2]]


async def test_flows_that_end_while_their_move_waits_for_them_are_no_failure(three: Lab) -> None:
    lab = three
    make(lab, 1, A)
    make(lab, 1, B)
    use(lab, A)
    asked = asyncio.create_task(lab.post("/moves", {"keys": [str(A), str(B)], "target": 2, "references": 60}))
    await waiting(lab)
    give_back(lab, A)
    lab.agent.peers[1].guest.delete_flow(A)
    moves = (await asked)["moves"]
    assert [(each["step"], each["reason"], each["moot"]) for each in moves] == [
        ("done", "", False), ("undone", "its flows have ended", True),
    ]  # fmt: skip
    judge(moves, Path("anywhere"))  # nothing that a command would end with status 1 for


async def test_what_was_left_has_its_move_also_where_the_rest_gets_in_use_before_it_begins(
    three: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = three
    make(lab, 1, A)
    make(lab, 1, C)
    guest = lab.agent.peers[1].guest
    await lab.until(lambda: guest.table.fences.owned)
    guest.add_alias(C, B)
    await lab.until(lambda: guest.table.find(C).pending is None)
    use(lab, A)
    minds, others = turns.Turns._mind, []

    async def mind(self: turns.Turns, running: Running, *of: Any) -> bool:
        """Another move comes in between, which the rest waits for."""
        goes_on = await minds(self, running, *of)
        if not others:
            lab.tables.stuck = "redirect"
            others.append(asyncio.create_task(moved(lab, buckets=[B.bucket], target=3)))
            await lab.until(lambda: "redirect" in lab.tables.calls)
            asyncio.get_running_loop().call_later(0.2, lambda: (use(lab, C), give_back(lab, A), lab.tables.go_on()))
        return goes_on

    monkeypatch.setattr(turns.Turns, "_mind", mind)
    moves = (await lab.post("/moves", {"keys": [str(A), str(C)], "target": 2, **SOON}))["moves"]
    assert await others[0] == [("done", "")]
    assert [(each["step"], each["pinned"]) for each in moves] == [("undone", [str(C)]), ("done", [])]
    assert moves[1]["follows"] == moves[0]["epoch"] and where(lab, A, C) == [[2], [1]]


async def test_flows_in_use_again_hold_nobody_up_after_another_move_was_waited_for(three: Lab) -> None:
    lab = three
    make(lab, 1, A)
    make(lab, 1, C)
    guest = lab.agent.peers[1].guest
    await lab.until(lambda: guest.table.fences.owned)
    use(lab, A)
    use(lab, C)
    asked = asyncio.create_task(moved(lab, keys=[str(A), str(C)], references=60))
    await waiting(lab, after=0)
    guest.add_alias(A, B)
    await lab.until(lambda: guest.table.find(A).pending is None)
    lab.tables.stuck = "redirect"
    between = asyncio.create_task(moved(lab, buckets=[B.bucket], target=3))
    await lab.until(lambda: "redirect" in lab.tables.calls)
    give_back(lab, A)
    give_back(lab, C)
    waits = lab.orchestrator.mover.running()[0]
    await lab.until(lambda: not waits.reason and guest.relations.next_due() is None)
    await asyncio.sleep(0.1)  # its source has answered, and it waits for the other move now
    use(lab, A)
    lab.tables.go_on()
    assert await between == [("done", "")]
    await lab.until(lambda: where(lab, C) == [[2]])
    give_back(lab, A)
    assert await asked == [("done", ""), ("done", "")] and where(lab, A, B, C) == [[2], [2], [2]]


@pytest.mark.parametrize("within", [False, True], ids=["its bucket moves not", "its bucket stays"])
async def test_a_flow_that_is_named_by_its_second_key_is_in_one_of_the_parts(three: Lab, within: bool) -> None:
    lab = three
    for key in (A, C):
        make(lab, 1, key)
    used = NEAR if within else next(key for key in FLOWS if key.bucket not in (A.bucket, B.bucket, C.bucket))
    make(lab, 1, used)
    guest = lab.agent.peers[1].guest
    await lab.until(lambda: guest.table.fences.owned)
    guest.add_alias(A, B)
    await lab.until(lambda: guest.table.find(A).pending is None)
    use(lab, used)
    body = {"keys": [str(B)], "buckets": sorted({used.bucket, C.bucket})}
    asked = asyncio.create_task(moved(lab, references=60, **body))
    await waiting(lab)
    assert where(lab, A, used, C) == [[1] if within else [2], [1], [2]]
    give_back(lab, used)
    assert [step for step, _ in await asked] == ["done", "done"] and where(lab, A, B, used, C) == [[2]] * 4


async def test_a_flow_that_gets_in_use_when_its_move_has_begun_holds_the_others_up(three: Lab) -> None:
    """For as long as it is waited for."""
    lab = three
    make(lab, 1, A)
    make(lab, 1, B)
    lab.tables.stuck = "redirect"
    asked = asyncio.create_task(lab.post("/moves", {"keys": [str(A), str(B)], "target": 2, "references": 0.2}))
    await use_late(lab, A)
    first, second = (await asked)["moves"]
    assert 200 <= first["suspended_ms"] < 1200 and second["suspended_ms"] < 200
    assert [each["step"] for each in (first, second)] == ["undone", "done"] and first["pinned"] == [str(A)]
    assert where(lab, A, B) == [[1], [2]]


async def test_what_was_waited_for_in_vain_is_not_tried_again_when_others_get_in_use(three: Lab) -> None:
    lab = three
    for key in (A, B, C):
        make(lab, 1, key)
    lab.tables.stuck = "redirect"
    asked = asyncio.create_task(lab.post("/moves", {"keys": [str(A), str(B), str(C)], "target": 2, **SOON}))
    await use_late(lab, A)
    lab.tables.stuck = "redirect"
    await lab.until(lambda: lab.tables.calls.count("redirect") == 2)
    use(lab, B)
    lab.tables.go_on()
    moves = (await asked)["moves"]
    assert [(each["step"], each["keys"]) for each in moves] == [("undone", 3), ("undone", 2), ("done", 1)]
    assert [each["pinned"] for each in moves] == [[str(A)], [str(B)], []] and where(lab, A, B, C) == [[1], [1], [2]]
