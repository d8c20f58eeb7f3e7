"""What follows from a move: flows in use, the rest without them, groups; one deadline, and off is off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import turns
from orchestrator.apart import apart, without
from orchestrator.mover import Running
from orchestrator.scaling import Wanted
from splitmerge.cli.judging import judge
from splitmerge.colocation import Outside, PortRange, choose
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope
from tests.orchestrator.lab import FLOWS, Lab, State

A, B, C = FLOWS[0], *[key for key in FLOWS if key.bucket != FLOWS[0].bucket][:2]
assert len({key.bucket for key in (A, B, C)}) == 3
OTHERS = [FlowKey.of(17, bytes((10, 0, 1, 2)), port, bytes((10, 0, 2, 2)), 9) for port in range(4000, 60000)]
NEAR = next(key for key in OTHERS if key.bucket == A.bucket)
"""Another flow of A's bucket."""
SOON = {"references": 0.05}
NOTHING = "nothing of it was replica 1's any more when its turn came"


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


def give_back(lab: Lab, key: FlowKey) -> None:
    """It ends."""
    lab.agent.peers[lab.holders(key)[0]].guest.put_flow(key)


async def use_late(lab: Lab, key: FlowKey) -> None:
    """A transaction on the flow begins when its move has begun."""
    await lab.until(lambda: "redirect" in lab.tables.calls)
    use(lab, key)
    lab.tables.go_on()


def impatient(lab: Lab) -> None:
    """Who does not answer Relate is given up, or asked again, soon."""
    scaler = lab.orchestrator.scaler
    scaler.turns = replace(scaler.turns, deadline=0.1)
    scaler.sequel = replace(scaler.sequel, turns=scaler.turns, deadline=0.1)


async def moved(lab: Lab, **body: object) -> list[tuple[str, str]]:
    moves = (await lab.post("/moves", {"target": 2, **SOON, **body}))["moves"]
    return [(move["step"], move["reason"]) for move in moves]


async def waiting(lab: Lab, *, after: int = 1) -> Running:
    """A move that waits for flows in use, when so many have been planned before it."""
    await lab.until(lambda: [each for each in lab.orchestrator.mover._running.values() if "in use" in each.move.reason])
    (running,) = lab.orchestrator.mover._running.values()
    assert len(lab.orchestrator.mover.reports._reports) == after
    return running


def where(lab: Lab, *keys: FlowKey) -> list[list[int]]:
    return [lab.holders(key) for key in keys]


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
    first, second = lab.orchestrator.mover._leading
    told = await lab.delete(f"/moves/{first}")
    why = "flows of its groups elsewhere stay: called off by request"
    assert (told["step"], told["reason"]) == ("done", why)
    lab.agent.peers[3].go_on()
    moves = await asked
    assert moves[0] == ("done", why) and [step for step, _ in moves] == ["done", "undone"]
    assert moves[1][1].endswith("called off by request") and second == first + 1
    assert where(lab, A, B, C) == [[1], [2], [3]]


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
        "second keys go with flows that do not stay",
        Scope(keys=(KEYS["B"], KEYS["C"]), buckets=(A.bucket,)), "A", "C", Scope(keys=(KEYS["B"], KEYS["C"])),
    ),
    (
        "wherever their own buckets are",
        Scope(keys=(KEYS["B"],), buckets=(A.bucket, B.bucket)), "A", "B", Scope(keys=(KEYS["B"],), buckets=(B.bucket,)),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("scope", "stay", "second", "left"), [row[1:] for row in LEFT], ids=[row[0] for row in LEFT])
def test_what_is_left_without(scope: Scope, stay: str, second: str, left: Scope) -> None:
    seconds = {KEYS[name] for name in second}
    assert without(scope, [KEYS[name] for name in stay], seconds.__contains__) == left


APART = [
    ("a flow", Scope(keys=(KEYS["A"], KEYS["B"])), "A", "", Scope(keys=(KEYS["A"],))),
    ("a bucket, by its flow", Scope(buckets=(A.bucket, B.bucket)), "A", "", Scope(buckets=(A.bucket,))),
    (
        "a flow away from its bucket", Scope(keys=(KEYS["A"],), buckets=(B.bucket,)), "A", "",
        Scope(keys=(KEYS["A"],)),
    ),
    (
        "a second key, by itself", Scope(buckets=(A.bucket, B.bucket)), "AB", "B",
        Scope(keys=(KEYS["B"],), buckets=(A.bucket,)),
    ),
    (
        "a flow of its group, from outside", Scope(buckets=(A.bucket,)), "AC", "",
        Scope(keys=(KEYS["C"],), buckets=(A.bucket,)),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("scope", "stay", "second", "other"), [row[1:] for row in APART], ids=[row[0] for row in APART]
)
def test_what_is_set_apart(scope: Scope, stay: str, second: str, other: Scope) -> None:
    seconds = {KEYS[name] for name in second}
    assert apart(scope, [KEYS[name] for name in stay], seconds.__contains__) == other


KEY = st.sampled_from([bytes(key) for key in FLOWS])


@given(
    st.sets(KEY),
    st.sets(st.sampled_from(sorted({key.bucket for key in FLOWS}))),
    st.sets(KEY, min_size=1),
    st.sets(KEY),
)
def test_no_bucket_and_no_flow_is_in_both_parts_or_in_none(
    keys: set[bytes], buckets: set[int], stay: set[bytes], seconds: set[bytes]
) -> None:
    scope = Scope(keys=tuple(sorted(keys)), buckets=tuple(sorted(buckets)))
    rest, other = without(scope, stay, seconds.__contains__), apart(scope, stay, seconds.__contains__)
    assert sorted((*rest.buckets, *other.buckets)) == list(scope.buckets)
    own = set(rest.keys) - seconds
    assert not set(rest.keys) & stay and not {FlowKey(key).bucket for key in own} & set(other.buckets)
    homes = {FlowKey(key).bucket for key in stay - seconds}
    assert homes.isdisjoint(rest.buckets)
    assert all(key in other.keys or FlowKey(key).bucket in other.buckets for key in stay)
    for key in keys - stay:
        assert key in rest.keys or (key not in seconds and FlowKey(key).bucket in other.buckets)
