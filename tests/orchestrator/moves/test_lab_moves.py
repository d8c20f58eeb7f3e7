"""Moves in the whole orchestrator: every guarantee, called off, one after the other, after a crash."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.errors import JournalError
from orchestrator.migration import Options
from orchestrator.migration.steps import Step
from p4rt_controller import NewFlow, Room, SwitchUnavailable
from splitmerge import messages as m
from splitmerge.flowkey import BUCKETS
from splitmerge.tag import Tag, TagKind
from tests.orchestrator.lab import FLOWS, Lab
from tests.orchestrator.world import frame_of


async def test_single_flows_move_and_come_home_when_they_end(lab: Lab) -> None:
    lab.give_flows(1, FLOWS[:3])
    await lab.post("/scale-out", {"rebalance": False})
    body = {"keys": [str(FLOWS[0]), str(FLOWS[1])], "target": 2}
    (move,) = (await lab.post("/migrate", body))["moves"]
    assert (move["step"], move["source"], move["target"], move["staged"]) == ("done", 1, 2, 2)
    assert lab.holders(FLOWS[0]) == [2] and lab.tables.flows == {bytes(key): 2 for key in FLOWS[:2]}
    flows = await lab.get("/flows?replica=2")
    assert {each["flow"] for each in flows} == {str(key) for key in FLOWS[:2]} and flows[0]["entry"] == 2
    lab.agent.peers[2].guest.delete_flow(FLOWS[0])
    await lab.until(lambda: bytes(FLOWS[0]) not in lab.tables.flows)
    assert lab.orchestrator.placement.entry(FLOWS[0]) is None
    assert (await lab.get(f"/moves/{move['epoch']}"))["epoch"] == move["epoch"]
    assert (await lab.get("/moves?limit=1"))[0]["keys"] == 1


async def test_flows_in_use_stay_and_the_rest_moves(lab: Lab) -> None:
    lab.give_flows(1, FLOWS[:3])
    await lab.post("/scale-out", {"rebalance": False})
    lab.agent.peers[1].guest.get_flow(FLOWS[0])
    first, second = (await lab.post("/migrate", {"keys": [str(key) for key in FLOWS[:3]], "target": 2}))["moves"]
    assert (first["step"], second["step"], second["pinned"]) == ("done", "undone", [str(FLOWS[0])])
    assert (first["keys"], second["keys"], second["reason"]) == (2, 1, "1 of its flows is in use at the source")
    assert [lab.holders(key) for key in FLOWS[:3]] == [[1], [2], [2]]
    assert (first["follows"], second["follows"]) == (None, first["epoch"])
    listed = {each["epoch"]: each["follows"] for each in await lab.get("/moves")}
    assert listed[second["epoch"]] == first["epoch"]


async def test_one_move_is_shown_with_its_flows_and_buckets_and_while_it_runs_with_its_history(lab: Lab) -> None:
    lab.give_flows(1, FLOWS[:2])
    await lab.post("/scale-out", {"rebalance": False})
    lab.tables.stuck = "drain"
    body = {"keys": [str(FLOWS[0])], "buckets": [FLOWS[1].bucket], "target": 2, "wait": False}
    assert FLOWS[0].bucket != FLOWS[1].bucket
    ((planned,), _) = (await lab.post("/moves", body)).values()
    await lab.until(lambda: "drain" in lab.tables.calls)
    path = f"/moves/{planned['epoch']}"
    shown = await lab.get(path)
    assert shown["scope"] == {"keys": [str(FLOWS[0])], "buckets": [FLOWS[1].bucket]} and shown["history"]
    lab.tables.go_on()
    await lab.until(lambda: not lab.orchestrator.mover.running())
    after = await lab.get(path)
    assert (after["scope"], after["history"], after["step"]) == (shown["scope"], None, "done")


async def test_moves_that_only_the_journal_knows_have_the_same_fields(lab: Lab) -> None:
    await lab.post("/scale-out")
    (known,) = await lab.get("/moves")
    lab.orchestrator.mover.reports._reports.clear()
    (row,) = await lab.get("/moves")
    assert list(row) == list(known) and (row["epoch"], row["step"], row["keys"]) == (known["epoch"], "done", 0)
    assert (row["staged"], row["steps_ms"], row["pinned"]) == (None, None, None)
    assert (row["planned_at"], row["follows"]) == (known["planned_at"], None) and row["planned_at"]
    assert time.time() - 60 < known["planned_at"] <= time.time()
    assert (await lab.get(f"/moves/{row['epoch']}"))["scope"]["buckets"]


async def test_flows_and_buckets_move_together(lab: Lab) -> None:
    lab.give_flows(1, FLOWS)
    await lab.post("/scale-out", {"rebalance": False})
    inside = FLOWS[0]
    outside = next(key for key in FLOWS if key.bucket != inside.bucket)
    body = {"keys": [str(inside), str(outside)], "buckets": [inside.bucket], "target": 2}
    (move,) = (await lab.post("/moves", body))["moves"]
    assert (move["step"], move["source"], move["keys"], move["buckets"]) == ("done", 1, 1, 1)
    assert lab.tables.flows == {bytes(outside): 2}, "the other one goes with its bucket, without an entry of its own"
    assert {key for key in FLOWS if lab.holders(key) == [2]} == {
        key for key in FLOWS if key == outside or key.bucket == inside.bucket
    }


async def test_flows_and_buckets_of_several_replicas_move_together(lab: Lab) -> None:
    """A flow that lives elsewhere than its bucket comes from there, though the bucket is named too."""
    lab.give_flows(1, FLOWS[:2])
    await lab.post("/scale-out", {"count": 2, "rebalance": False})
    strayed, other = FLOWS[:2]
    assert strayed.bucket != other.bucket
    await lab.post("/moves", {"keys": [str(strayed)], "target": 2})
    body = {"keys": [str(strayed), str(other)], "buckets": [strayed.bucket], "target": 3}
    moves = (await lab.post("/moves", body))["moves"]
    assert [(each["source"], each["keys"], each["buckets"], each["step"]) for each in moves] == [
        (1, 1, 1, "done"), (2, 1, 0, "done"),
    ]  # fmt: skip
    assert lab.holders(strayed) == lab.holders(other) == [3] and lab.tables.buckets[strayed.bucket] == 3


async def test_all_of_a_replica_that_has_nothing_is_said_to_be_nothing(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": False})
    error = await lab.post("/moves", {"all": True, "source": 2, "target": 1}, 409)
    assert (error["where"], error["error"]) == ("replica 2", "has nothing to move")


@pytest.mark.parametrize("source", [None, 1])
async def test_a_bucket_that_no_replica_owns_is_told_from_flows_that_nobody_has(
    make_lab: Callable[..., Lab], source: int | None
) -> None:
    lab = make_lab(assignment="least-loaded")
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": False})
        error = await lab.post("/moves", {"buckets": [17], "target": 2, "source": source}, 409)
        assert (error["where"], error["remedy"]) == ("buckets", "name flows, or move all of a replica")
        error = await lab.post("/moves", {"keys": [str(FLOWS[0])], "target": 2, "source": source}, 409)
        assert error["error"] == "nobody has some of these flows yet"


async def test_overlapping_moves_wait_for_each_other(lab: Lab) -> None:
    lab.give_flows(1, FLOWS)
    await lab.post("/scale-out", {"rebalance": False})
    bodies = [{"all": True, "source": 1, "target": 2}, {"buckets": [FLOWS[0].bucket], "target": 2}]
    both = await asyncio.gather(*(lab.post("/migrate", body) for body in bodies))
    (first,), (second,) = [each["moves"] for each in both]
    assert (first["step"], second["step"]) == ("done", "undone") and first["epoch"] < second["epoch"]
    assert second["reason"] == "nothing of it was replica 1's any more when its turn came"
    assert all(lab.holders(key) == [2] for key in FLOWS)


async def test_a_replica_that_dies_while_its_move_waits_to_be_taken_up_again(make_lab: Callable[..., Lab]) -> None:
    """The move must learn of it, or it asks the dead for ever and the flows stay suspended."""
    lab = make_lab()
    async with lab.up():
        lab.give_flows(1, FLOWS)
        await lab.post("/scale-out", {"rebalance": False})
        lab.tables.stuck = "drain"
        await lab.post("/migrate", {"all": True, "source": 1, "target": 2, "wait": False})
        await lab.until(lambda: "drain" in lab.tables.calls)
    lab.tables.calls.clear()
    async with lab.up(wait=False):  # the owner's drain is stuck, so the move waits to be taken up
        await lab.until(lambda: "drain" in lab.tables.calls)
        lab.agent.kill(1)
        await lab.until(lambda: lab.orchestrator.replicas_died == 1)
        lab.tables.go_on()
        await lab.until(lambda: lab.orchestrator.ready.is_set() and not lab.orchestrator.mover.running())
        await lab.until(lambda: set(lab.tables.buckets.values()) == {2})


async def test_a_move_is_called_off_and_its_flows_stay(lab: Lab) -> None:
    lab.give_flows(1, FLOWS)
    await lab.post("/scale-out", {"rebalance": False})
    lab.tables.stuck = "redirect"
    await lab.post("/moves", {"all": True, "source": 1, "target": 2, "wait": False, "deadline": 30})
    await lab.until(lambda: "redirect" in lab.tables.calls)
    (move,) = lab.orchestrator.mover.running()
    call_off = asyncio.create_task(lab.delete(f"/moves/{move.plan.epoch}"))
    await asyncio.sleep(0)
    await lab.until(lambda: move.reason != "")
    lab.tables.go_on()
    ended = await call_off
    assert (ended["step"], ended["reason"]) == ("undone", "called off by request")
    assert (ended["guarantee"], ended["buffer"]) == ("order-preserving", "replica")
    assert all(lab.holders(key) == [1] for key in FLOWS)
    assert (await lab.delete(f"/moves/{move.plan.epoch}", status=409))["error"] == "is over"
    assert (await lab.delete("/moves/999", status=404))["error"] == "there is no move 999"


async def test_who_calls_a_move_off_waits_for_its_end_only_so_long(lab: Lab) -> None:
    lab.give_flows(1, FLOWS)
    await lab.post("/scale-out", {"rebalance": False})
    lab.tables.stuck = "redirect"
    await lab.post("/moves", {"all": True, "source": 1, "target": 2, "wait": False})
    await lab.until(lambda: "redirect" in lab.tables.calls)
    (move,) = lab.orchestrator.mover.running()
    for _ in range(2):  # nothing changes by being asked again
        response = await lab.http.delete(f"/moves/{move.plan.epoch}?wait=1")
        assert (response.status_code, response.json()["step"]) == (202, "redirecting")
    lab.tables.go_on()
    await lab.until(lambda: move.ended)
    assert (await lab.get(f"/moves/{move.plan.epoch}"))["reason"] == "called off by request"
    assert all(lab.holders(key) == [1] for key in FLOWS)
    assert "wait" in (await lab.delete(f"/moves/{move.plan.epoch}?wait=soon", status=400))["where"]


async def test_a_move_that_went_forward_all_the_same_was_not_called_off(lab: Lab) -> None:
    """Its source dies before the switch has answered: the target takes over, and whoever asked must hear of it."""
    await lab.post("/scale-out", {"rebalance": False})
    lab.tables.stuck = "redirect"
    await lab.post("/moves", {"all": True, "source": 1, "target": 2, "wait": False})
    await lab.until(lambda: "redirect" in lab.tables.calls)
    (move,) = lab.orchestrator.mover.running()
    call_off = asyncio.create_task(lab.delete(f"/moves/{move.plan.epoch}", status=409))
    await lab.until(lambda: move.reason != "")
    lab.agent.kill(1)
    await lab.until(lambda: move.source_gone)
    lab.tables.go_on()
    assert "is decided (done)" in (await call_off)["error"]


async def test_who_connects_again_during_a_move_knows_its_buckets_when_it_is_over(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(defaults=Options(guarantee="none"))
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": False})
        lab.tables.stuck = "drain"  # the target has adopted the flows, and owns the buckets
        await lab.post("/migrate", {"buckets": [1, 2, 3], "source": 1, "target": 2, "wait": False})
        await lab.until(lambda: "drain" in lab.tables.calls)
        fleet = lab.orchestrator.fleet
        sessions = {replica: fleet.replicas[replica].session for replica in (1, 2)}
        for session in sessions.values():
            assert session is not None
            session.close("test")
        await lab.until(lambda: all(fleet.replicas[each].session not in (None, sessions[each]) for each in sessions))
        lab.tables.go_on()
        await lab.until(lambda: not lab.orchestrator.mover.running())
        owned = {1: set(range(BUCKETS)) - {1, 2, 3}, 2: {1, 2, 3}}
        for replica, buckets in owned.items():
            fences = lab.agent.peers[replica].guest.table.fences
            await lab.until(lambda fences=fences, buckets=buckets: fences.owned == buckets)  # type: ignore[misc]


async def test_what_a_replica_had_no_room_for_after_its_answer_is_in_the_moves_figures(lab: Lab) -> None:
    lab.give_flows(1, FLOWS)
    await lab.post("/scale-out", {"rebalance": False})
    lab.tables.stuck = "resume"
    body = {"all": True, "source": 1, "target": 2, "buffer": "cpu", "wait": False}
    await lab.post("/moves", body)
    await lab.until(lambda: "resume" in lab.tables.calls)
    (move,) = lab.orchestrator.mover.running()
    epoch = move.plan.epoch
    lab.agent.peers[2].to_orchestrator(m.HoldDropped(epoch=epoch, dropped=3))
    await lab.until(lambda: move.figures.dropped == 3)
    lab.tables.go_on()
    await lab.until(lambda: move.ended)
    assert (await lab.get(f"/moves/{epoch}"))["dropped"] == 3
    lab.agent.peers[2].to_orchestrator(m.HoldDropped(epoch=epoch, dropped=3))  # again: nothing new
    stats = m.Stats(replica=2, flows=0, packets=0, bytes=0, cpu_seconds=0, held=0, drops={}, hold_dropped={epoch: 5})
    lab.agent.peers[2].to_orchestrator(stats)  # what was told meanwhile has not arrived
    await lab.until(lambda: list(lab.orchestrator.mover.reports)[-1].dropped == 5)
    lab.agent.peers[1].to_orchestrator(m.HoldDropped(epoch=epoch, dropped=1))
    await lab.until(lambda: list(lab.orchestrator.mover.reports)[-1].dropped == 6)
    lab.agent.peers[1].to_orchestrator(m.HoldDropped(epoch=epoch, dropped=0))
    assert (await lab.get(f"/moves/{epoch}"))["dropped"] == 6


async def test_a_room_that_is_nearly_used_up_calls_its_move_off_though_the_word_of_it_was_lost(lab: Lab) -> None:
    lab.give_flows(1, FLOWS[:1])
    await lab.post("/scale-out", {"rebalance": False})
    source, target = lab.agent.peers[1], lab.agent.peers[2]
    came: list[bytes] = []
    source.engine._on_packet = lambda guest, packet: came.append(packet.frame)
    lab.tables.stuck = "drain"
    await lab.post("/moves", {"keys": [str(FLOWS[0])], "target": 2, "packets": 10, "wait": False})
    await lab.until(lambda: "drain" in lab.tables.calls)
    (move,) = lab.orchestrator.mover.running()
    frames = [frame_of(FLOWS[0], number) for number in range(9)]
    connection, target.orchestrator = target.orchestrator, None  # the control network is cut in just that moment
    target.engine.frames(frames, asyncio.get_running_loop().time())
    target.orchestrator = connection
    await lab.until(lambda: "nearly used up" in move.reason)
    await asyncio.sleep(0.6)  # it is said again and again
    lab.tables.go_on()
    await lab.until(lambda: move.ended)
    ended = await lab.get(f"/moves/{move.plan.epoch}")
    assert (ended["step"], ended["carried"], ended["dropped"]) == ("undone", 9, 0) and came == frames
    assert sum("BufferFull" in event for event in move.history) == 1, "once will do"
    assert target.engine.stats().hold_full == ()


@pytest.mark.parametrize("guarantee", ["none", "loss-free", "order-preserving", "no-buffer"])
@pytest.mark.parametrize("buffer", ["cpu", "replica"])
async def test_every_guarantee_moves_the_flows(lab: Lab, guarantee: str, buffer: str) -> None:
    lab.give_flows(1, FLOWS)
    await lab.post("/scale-out", {"rebalance": False})
    body = {"all": True, "source": 1, "target": 2, "guarantee": guarantee, "buffer": buffer}
    if guarantee in ("none", "no-buffer"):
        assert (await lab.post("/moves", body, 400))["where"] == "body.buffer"
        del body["buffer"]
    (move,) = (await lab.post("/moves", body))["moves"]
    assert (move["step"], move["guarantee"], move["dropped"]) == ("done", guarantee, 0)
    assert move["buffer"] == (buffer if guarantee in ("loss-free", "order-preserving") else "")
    assert all(lab.holders(key) == [2] for key in FLOWS)
    assert set(lab.tables.buckets.values()) == {2}
    assert lab.tables.marked == {move["epoch"]: [True]}  # one write each, told that the source is drained next


@pytest.mark.parametrize(
    ("said", "room"),
    [
        ({}, None),
        ({"when_full": "drop"}, None),
        ({"packets": 500}, Room(packets=500, drops=False)),
        ({"bytes": 70_000, "when_full": "abort"}, Room(bytes=70_000, drops=False)),
        ({"packets": 500, "bytes": 70_000, "when_full": "drop"}, Room(500, 70_000)),
    ],
    ids=str,
)
async def test_the_room_that_is_asked_for_is_the_controllers_where_packets_wait_there(
    lab: Lab, said: dict[str, Any], room: Room | None
) -> None:
    await lab.post("/scale-out", {"rebalance": False})
    (move,) = (await lab.post("/moves", {"buckets": [1], "target": 2, "buffer": "cpu", **said}))["moves"]
    assert lab.tables.rooms == {move["epoch"]: room}


@pytest.mark.parametrize(
    ("before", "path", "body"),
    [
        (None, "/scale-out", {}),
        ({"rebalance": False}, "/rebalance", {}),
        ({"rebalance": True}, "/scale-in", {"replica": 2}),
    ],
    ids=["out", "even", "in"],
)
async def test_scaling_moves_flows_as_it_is_told_to(
    lab: Lab, before: dict[str, bool] | None, path: str, body: dict[str, int]
) -> None:
    lab.give_flows(1, FLOWS)
    if before is not None:
        await lab.post("/scale-out", before)
    old = {each["epoch"] for each in await lab.get("/moves")}
    how = {"guarantee": "loss-free", "buffer": "cpu", "deadline": 30, "packets": 500, "when_full": "drop"}
    await lab.post(path, body | how)
    made = [each for each in await lab.get("/moves") if each["epoch"] not in old]
    assert {(each["guarantee"], each["buffer"], each["step"]) for each in made} == {("loss-free", "cpu", "done")}
    assert lab.tables.rooms == {each["epoch"]: Room(packets=500) for each in made}


async def test_the_way_back_has_all_the_room_that_the_controller_has(lab: Lab) -> None:
    """What a replica was allowed to keep says nothing about what waits while the flows go back."""
    await lab.post("/scale-out", {"rebalance": False})
    lab.tables.stuck = "redirect"
    await lab.post("/moves", {"buckets": [1], "target": 2, "packets": 500, "wait": False})
    await lab.until(lambda: "redirect" in lab.tables.calls)
    (move,) = lab.orchestrator.mover.running()
    lab.orchestrator.mover.cancel(move.plan.epoch, "off")
    lab.tables.go_on()
    await lab.until(lambda: move.ended)
    assert lab.tables.rooms == {move.plan.epoch: None}


async def test_flows_in_use_are_reported_soon_and_the_others_move(lab: Lab) -> None:
    lab.give_flows(1, FLOWS)
    await lab.post("/scale-out", {"rebalance": False})
    source = lab.agent.peers[1].guest
    source.get_flow(FLOWS[0])
    body = {"keys": [str(key) for key in FLOWS], "target": 2, "references": 0.05}
    first, second = (await lab.post("/moves", body))["moves"]
    assert (first["step"], second["step"], second["pinned"]) == ("done", "undone", [str(FLOWS[0])])
    assert lab.holders(FLOWS[0]) == [1] and all(lab.holders(key) == [2] for key in FLOWS[1:])
    source.put_flow(FLOWS[0])


CPU, REPLICA = Options(buffer="cpu"), Options(buffer="replica")


FORWARD, NONE = Options(guarantee="no-buffer"), Options(guarantee="none")


@pytest.mark.parametrize(
    ("options", "step", "owner"),
    [
        (CPU, "suspend", 1), (CPU, "drain", 1), (CPU, "resume", 2), (REPLICA, "redirect", 1), (REPLICA, "drain", 1),
        (FORWARD, "redirect", 2), (FORWARD, "drain", 2), (NONE, "redirect", 2), (NONE, "drain", 2),
    ],
    ids=str,
)  # fmt: skip
async def test_a_killed_orchestrator_is_followed_by_one_that_puts_everything_right(
    make_lab: Callable[..., Lab], options: Options, step: str, owner: int
) -> None:
    lab = make_lab(defaults=options)
    async with lab.up():
        lab.give_flows(1, FLOWS)
        await lab.post("/scale-out", {"rebalance": False})
        lab.tables.stuck = step
        await lab.post("/migrate", {"all": True, "source": 1, "target": 2, "wait": False})
        await lab.until(lambda: step in lab.tables.calls)
    lab.tables.stuck = ""
    async with lab.up():
        await lab.until(lambda: not lab.orchestrator.mover.running())
        assert set(lab.tables.buckets.values()) == {owner}
        assert all(lab.holders(key) == [owner] for key in FLOWS)
        newest = (await lab.get("/moves"))[0]
        assert newest["step"] == ("done" if owner == 2 else "undone")
        await lab.post("/migrate", {"all": True, "source": owner, "target": 3 - owner})
        assert all(lab.holders(key) == [3 - owner] for key in FLOWS)


@pytest.mark.parametrize("stimulus", ["timer", "callback"])
async def test_a_fault_while_a_move_goes_on_ends_the_process_and_the_next_one_puts_it_right(
    make_lab: Callable[..., Lab], stimulus: str
) -> None:
    lab = make_lab()

    def fail(*arguments: Any, **named: Any) -> Any:
        raise JournalError("journal", "the disk is full")

    async with lab.up(dies=True):
        lab.give_flows(1, FLOWS)
        await lab.post("/scale-out", {"rebalance": False})
        guest = lab.agent.peers[1].guest
        lab.tables.stuck = "drain" if stimulus == "callback" else "reserve"
        deadline = 1.5 if stimulus == "timer" else None
        body = {"keys": [str(key) for key in FLOWS], "target": 2, "wait": False, "references": 9}
        await lab.post("/moves", body | ({"deadline": deadline, "guarantee": "no-buffer"} if deadline else {}))
        await lab.until(lambda: lab.tables.stuck in lab.tables.calls)
        guest.get_flow(FLOWS[0])
        if stimulus == "timer":
            lab.tables.go_on()
        (move,) = lab.orchestrator.mover.running()
        await lab.until(lambda: move.step.value == ("exporting" if stimulus == "timer" else "draining"))
        lab.orchestrator.journal.record = fail  # type: ignore[method-assign]
        if stimulus == "callback":
            lab.orchestrator.mover.cancel(move.plan.epoch, "off")
        await lab.until(lab.life.done)
    lab.tables.stuck = ""
    async with lab.up():
        await lab.until(lambda: not lab.orchestrator.mover.running())
        assert all(lab.holders(key) == [1] for key in FLOWS)
        guest.put_flow(FLOWS[0])


async def begun_so(lab: Lab, at_once: Callable[[], None], step: str = "drain", buffer: str = "replica") -> None:
    """A move of a flow, by key, comes to this step of the network's; then this happens, before anything else does."""
    do = lab.tables._do

    async def first(name: str, what: m.Scope | int = 0) -> None:
        if name == step:
            lab.tables._do = do  # type: ignore[method-assign]
            at_once()
        await do(name, what)

    lab.tables._do = first  # type: ignore[method-assign]
    lab.give_flows(1, FLOWS[:1])
    await lab.post("/scale-out", {"rebalance": False})
    await lab.post("/migrate", {"keys": [str(FLOWS[0])], "target": 2, "wait": False, "buffer": buffer})


def on_disk(lab: Lab) -> Step:
    (row,) = lab.orchestrator.journal.load().moves
    return row.step


@pytest.mark.parametrize(
    ("buffer", "step", "found"),
    [
        ("replica", "drain", (Step.REDIRECTING, Step.DRAINING)),
        ("cpu", "drain", (Step.SUSPENDING, Step.DRAINING)),
        ("cpu", "resume", (Step.COMMITTING, Step.RESUMING)),
    ],
)
async def test_steps_for_which_packets_wait_begin_before_they_are_journalled(
    lab: Lab, buffer: str, step: str, found: tuple[Step, Step]
) -> None:
    """``found``: what is on disk when the network begins, and a moment later."""
    steps: list[Step] = []
    lab.tables.stuck = step
    await begun_so(lab, lambda: steps.append(on_disk(lab)), step, buffer)
    await lab.until(lambda: on_disk(lab) is found[1])
    assert steps == [found[0]]
    lab.tables.go_on()
    await lab.until(lambda: lab.holders(FLOWS[0]) == [2] and not lab.orchestrator.mover.running())


async def test_the_request_to_export_leaves_behind_the_marker(lab: Lab) -> None:
    """The marker has the longer way."""
    sent: list[type[m.Message]] = []
    send = lab.orchestrator.mover.send

    def noting(replica: int, message: m.Message) -> object:
        sent.append(type(message))
        return send(replica, message)

    lab.orchestrator.mover.send = noting
    before: list[bool] = []
    await begun_so(lab, lambda: before.append(m.Export in sent))
    await lab.until(lambda: lab.holders(FLOWS[0]) == [2] and not lab.orchestrator.mover.running())
    assert before == [False] and sent.count(m.Export) == 1


async def test_the_request_to_export_goes_out_though_the_marker_is_back_already(lab: Lab) -> None:
    """It is not left to the repetition that is due if no answer comes."""

    async def drain(epoch: int, replica: int, busy: Callable[[], bool]) -> None:
        marker = Tag(TagKind.MARKER, epoch, 1).push(bytes(60))
        lab.tables.peers[replica].engine.frames([marker], asyncio.get_running_loop().time())

    lab.tables.drain = drain  # type: ignore[method-assign]
    lab.orchestrator.mover.times = replace(lab.orchestrator.mover.times, retry=4.0)
    lab.give_flows(1, FLOWS[:1])
    await lab.post("/scale-out", {"rebalance": False})
    (move,) = (await lab.post("/migrate", {"keys": [str(FLOWS[0])], "target": 2}))["moves"]
    assert move["steps_ms"]["done"] < 4000


async def test_nothing_is_journalled_behind_a_marker_when_the_process_is_to_end(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()

    def ends() -> None:
        lab.orchestrator.mover.stopping = True

    async with lab.up():
        lab.tables.stuck = "drain"
        await begun_so(lab, ends)
        await lab.until(lambda: lab.orchestrator.mover.stopping)
        await asyncio.sleep(0.01)
        assert on_disk(lab) is Step.REDIRECTING
        lab.tables.go_on()


async def test_a_marker_that_fails_at_once_leaves_nothing_to_be_journalled(lab: Lab) -> None:
    def away() -> None:
        raise SwitchUnavailable("packet-out", "away")

    lab.tables.stuck = "suspend"
    await begun_so(lab, away)
    await lab.until(lambda: "suspend" in lab.tables.calls)
    await asyncio.sleep(0)
    assert on_disk(lab) is Step.RECALLING
    lab.tables.go_on()


async def test_a_fault_of_the_journal_behind_a_marker_ends_the_process_and_the_next_one_puts_it_right(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab()

    def fail(*arguments: Any) -> Any:
        raise JournalError("journal", "the disk is full")

    def full() -> None:
        lab.orchestrator.journal.record = fail  # type: ignore[method-assign]

    lab.tables.stuck = "drain"
    async with lab.up(dies=True):
        await begun_so(lab, full)
        await lab.until(lab.life.done)
    lab.tables.go_on()
    async with lab.up():
        await lab.until(lambda: not lab.orchestrator.mover.running())
        assert lab.holders(FLOWS[0]) == [1]


@pytest.mark.parametrize(("options", "step"), [(CPU, "suspend"), (CPU, "resume"), (REPLICA, "redirect")], ids=str)
async def test_a_flow_that_ends_during_its_move_leaves_no_entry(
    make_lab: Callable[..., Lab], options: Options, step: str
) -> None:
    lab = make_lab(assignment="round-robin", defaults=options)
    async with lab.up():
        lab.orchestrator.network_event(NewFlow(FLOWS[0]))
        await lab.until(lambda: lab.orchestrator.placement.entry(FLOWS[0]) == 1)
        lab.give_flows(1, FLOWS[:1])
        await lab.post("/scale-out", {"rebalance": False})
        lab.tables.calls.clear()
        lab.tables.stuck = step
        await lab.post("/migrate", {"keys": [str(FLOWS[0])], "target": 2, "wait": False})
        await lab.until(lambda: step in lab.tables.calls)
        lab.agent.peers[2 if step == "resume" else 1].guest.delete_flow(FLOWS[0])
        await asyncio.sleep(0.2)  # FlowsGone comes meanwhile
        lab.tables.go_on()
        await lab.until(lambda: not lab.orchestrator.mover.running() and not lab.tables.flows)
        assert lab.orchestrator.placement.entry(FLOWS[0]) is None


async def test_a_step_that_is_abandoned_before_its_task_began_leaves_no_coroutine(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.give_flows(1, FLOWS[:1])
    await lab.post("/scale-out", {"rebalance": False})
    drain, works = lab.tables.drain, []

    def lost_at_once(epoch: int, replica: int, busy: Callable[[], bool]) -> Coroutine[Any, Any, None]:
        works.append(drain(epoch, replica, busy))
        asyncio.get_running_loop().call_soon(lab.orchestrator.mover.lost, replica)
        return works[-1]

    monkeypatch.setattr(lab.tables, "drain", lost_at_once)
    (move,) = (await lab.post("/moves", {"keys": [str(FLOWS[0])], "target": 2}))["moves"]
    assert (move["step"], move["reason"], "drain" in lab.tables.calls) == ("done", "replica 1 is gone", False)
    assert [inspect.getcoroutinestate(each) for each in works] == [inspect.CORO_CLOSED]
