"""A younger move takes a flow before an older one, which waits, finds that it goes along.

Replicas see the two in the order in which they begin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.moves import mover as mover_module
from splitmerge import messages as m
from tests.orchestrator.lab import Lab
from tests.orchestrator.wishes import A, B, C, give_back, make, use, where

GUARANTEES: list[dict[str, Any]] = [
    {"buffer": "replica"},
    {"buffer": "cpu"},
    {"guarantee": "no-buffer"},
    {"guarantee": "none"},
]


async def overtaken(lab: Lab, **options: Any) -> tuple[int, int]:
    """The numbers of a move of A from replica 1 to 3, which waits for A, and of one that has brought B to 1 since.

    Both are of one group, and B was at 1 before.
    """
    for _ in range(2):
        await lab.post("/scale-out", {"rebalance": False})
    make(lab, 1, A, "g")
    make(lab, 1, B)
    await lab.post("/moves", {"keys": [str(B)], "target": 2})
    lab.agent.peers[2].guest.group(B, "g")
    use(lab, A)
    body = {"keys": [str(A)], "target": 3, "references": 5, "wait": False, **options}
    (first,) = (await lab.post("/moves", body))["moves"]
    await lab.until(lambda: [each for each in lab.orchestrator.mover.running() if "in use" in each.reason])
    (second,) = (await lab.post("/moves", {"keys": [str(B)], "target": 1}))["moves"]
    assert second["step"] == "done" and second["epoch"] > first["epoch"]
    return first["epoch"], second["epoch"]


@pytest.mark.parametrize("options", GUARANTEES, ids=lambda each: "-".join(each.values()))
async def test_what_a_younger_move_has_brought_goes_along_with_an_older_one(lab: Lab, options: dict[str, Any]) -> None:
    first, second = await overtaken(lab, **options)
    give_back(lab, A)
    await lab.until(lambda: not lab.orchestrator.mover.running())
    told = await lab.get(f"/moves/{first}")
    assert (told["epoch"], told["step"], told["reason"], told["keys"]) == (first, "done", "", 2)
    assert where(lab, A, B) == [[3], [3]]
    (epoch,) = (epoch for epoch, move in lab.orchestrator.mover.relays.items() if move == first)
    assert epoch > second and lab.agent.peers[3].guest.table.active[bytes(A)].epoch == epoch
    assert [each["epoch"] for each in await lab.get("/moves")][:2] == [second, first], "it keeps its number"


async def test_what_follows_from_a_move_that_was_overtaken_has_its_number(lab: Lab) -> None:
    """C is of their group, and at 2: it is brought from there."""
    first, _ = await overtaken(lab)
    make(lab, 1, C)
    await lab.post("/moves", {"keys": [str(C)], "target": 2})
    lab.agent.peers[2].guest.group(C, "g")
    give_back(lab, A)
    await lab.until(lambda: where(lab, A, B, C) == [[3], [3], [3]] and not lab.orchestrator.mover.running())
    (after,) = [each for each in await lab.get("/moves") if each["follows"]]
    assert (after["follows"], after["source"], after["step"]) == (first, 2, "done")


async def test_late_figures_of_its_epoch_are_the_moves(lab: Lab) -> None:
    first, _ = await overtaken(lab)
    give_back(lab, A)
    await lab.until(lambda: not lab.orchestrator.mover.running())
    (epoch,) = (epoch for epoch, move in lab.orchestrator.mover.relays.items() if move == first)
    lab.agent.peers[3].to_orchestrator(m.HoldDropped(epoch=epoch, dropped=4))
    await lab.get("/flows?replica=3")  # behind it on the connection
    assert (await lab.get(f"/moves/{first}"))["dropped"] == 4


@pytest.mark.parametrize(
    ("stuck", "at"),
    [("redirect", 1), ("drain", 1), ("", 3)],
    ids=["redirecting", "draining", "committing"],
)
@pytest.mark.parametrize("buffer", ["replica", "cpu"])
async def test_a_new_process_takes_it_up_under_the_epoch_that_it_began_with(
    make_lab: Callable[..., Lab], stuck: str, at: int, buffer: str
) -> None:
    lab = make_lab()
    stuck = "suspend" if (stuck, buffer) == ("redirect", "cpu") else stuck
    async with lab.up():
        first, second = await overtaken(lab, buffer=buffer)
        lab.tables.calls.clear()
        lab.tables.stuck = stuck
        if not stuck:
            lab.agent.peers[3].stops_at = m.Commit
        give_back(lab, A)
        await lab.until(lambda: stuck in lab.tables.calls if stuck else lab.orchestrator.mover.running()[0].decided)
        (move,) = lab.orchestrator.mover.running()
        assert move.plan.fence > second > move.plan.epoch == first
    lab.tables.go_on()
    lab.agent.peers[3].stops_at = None
    lab.agent.peers[3].go_on()
    async with lab.up():
        await lab.until(lambda: not lab.orchestrator.mover.running())
        told = await lab.get(f"/moves/{first}")
        assert (told["step"], where(lab, A, B)) == ("done" if at == 3 else "undone", [[at], [at]])
        for replica in (1, 3):
            guest = lab.agent.peers[replica].guest
            assert not guest.moves._sources and not guest.moves._targets and not guest.moves._armed
        body = {"keys": [str(A), str(B)], "target": 2}
        assert [each["step"] for each in (await lab.post("/moves", body))["moves"]] == ["done"]


async def test_one_that_waits_when_the_process_ends_is_undone_as_ever(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    async with lab.up():
        first, _ = await overtaken(lab)
    async with lab.up():
        await lab.until(lambda: not lab.orchestrator.mover.running())
        assert (await lab.get(f"/moves/{first}"))["step"] == "undone"
        give_back(lab, A)
        await lab.post("/moves", {"keys": [str(A)], "target": 3})
        assert where(lab, A, B) == [[3], [3]]


async def test_one_that_was_not_overtaken_begins_under_its_number(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": False})
    make(lab, 1, A)
    (move,) = (await lab.post("/moves", {"keys": [str(A)], "target": 2}))["moves"]
    assert lab.agent.peers[2].guest.table.active[bytes(A)].epoch == move["epoch"]
    assert not lab.orchestrator.mover.relays


async def test_epochs_beside_the_numbers_are_not_remembered_for_ever(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mover_module, "RELAYS", 2)
    await lab.post("/scale-out", {"rebalance": False})
    make(lab, 1, A)
    mover = lab.orchestrator.mover
    mover.relays |= {900 + number: 800 + number for number in range(5)}
    mover.locks.take(5000, m.Scope(buckets=(B.bucket,)))
    mover.locks.free(5000)
    await lab.post("/moves", {"keys": [str(A)], "target": 2})
    assert list(mover.relays)[:2] == [903, 904] and len(mover.relays) == 3


async def test_replicas_are_told_now_and_then_which_moves_are_over(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what is older than a move that is under way: that may be asked about yet."""
    monkeypatch.setattr(mover_module, "OVER_EVERY", 1)
    await lab.post("/scale-out", {"rebalance": False})
    make(lab, 1, A)
    make(lab, 1, B)
    outcomes = [lab.agent.peers[number].guest.moves._decided for number in (1, 2)]
    await lab.post("/moves", {"keys": [str(A)], "target": 2})
    await lab.post("/moves", {"keys": [str(A)], "target": 1})
    (back,) = (await lab.post("/moves", {"keys": [str(A)], "target": 2}))["moves"]
    await lab.until(lambda: [each._over for each in outcomes] == [back["epoch"]] * 2)
    lab.tables.calls.clear()
    lab.tables.stuck = "redirect"
    (open_one,) = (await lab.post("/moves", {"keys": [str(B)], "target": 2, "wait": False}))["moves"]
    await lab.until(lambda: "redirect" in lab.tables.calls)
    lab.tables.stuck = ""
    for target in (1, 2):
        await lab.post("/moves", {"keys": [str(A)], "target": target})
    await lab.until(lambda: [each._over for each in outcomes] == [open_one["epoch"]] * 2)
    lab.tables.go_on()
