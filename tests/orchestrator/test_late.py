"""A switch that stays away: nobody waits for it without a bound, and what was begun goes on when it is back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.elasticity import ElasticityConfig
from orchestrator.migration import Times
from p4rt_controller import SwitchUnavailable
from splitmerge import messages as m
from splitmerge.cli import moves, scaling
from splitmerge.cli.app import app
from splitmerge.client import OrchestratorClient
from splitmerge.errors import SplitmergeError
from tests.orchestrator.lab import FLOWS, WITHIN, Lab
from tests.orchestrator.moves.test_second_keys import begin, confirmed, inner
from tests.orchestrator.scaling.test_drain_command import served

Make = Callable[..., Lab]
SOON = Times(network_retry=0.02, stuck=1.0)


def away(lab: Lab, *names: str) -> None:
    """From now on these operations fail, as with a switch that is away."""

    def fail(name: str, what: m.Scope | int) -> SplitmergeError | None:
        return SwitchUnavailable(name, "the switch is away") if name in names else None

    lab.tables.fail = fail


async def moving(lab: Lab, **options: Any) -> dict[str, Any]:
    """A move of everything from replica 1 to 2, which is late."""
    body = {"all": True, "source": 1, "target": 2} | options
    (move,) = (await lab.post("/moves", body, status=202))["moves"]
    assert isinstance(move, dict)
    return move


@pytest.mark.parametrize(
    ("options", "stuck", "step", "end"),
    [
        ({"buffer": "cpu"}, ("resume",), "resuming", "done"),
        ({"guarantee": "none"}, ("redirect",), "switching", "done"),
        ({"guarantee": "no-buffer"}, ("redirect",), "switching", "done"),
        ({"guarantee": "no-buffer"}, ("drain",), "settling", "done"),
        ({"buffer": "cpu"}, ("drain", "resume"), "clearing", "undone"),
        ({"buffer": "replica"}, ("redirect", "suspend"), "recalling", "undone"),
        ({"buffer": "replica"}, ("redirect", "resume"), "restoring", "undone"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_who_waits_for_a_move_is_told_how_it_stands(
    make_lab: Make, options: dict[str, str], stuck: tuple[str, ...], step: str, end: str
) -> None:
    lab = make_lab(moves=SOON)
    async with lab.up():
        lab.give_flows(1, FLOWS)
        await lab.post("/scale-out", {"rebalance": False})
        away(lab, *stuck)
        move = await moving(lab, **options)
        assert move["step"] == step and "the switch is away" in move["reason"]
        assert [each["epoch"] for each in (await lab.get("/status"))["moves_running"]] == [move["epoch"]]
        away(lab)
        await lab.until(lambda: not lab.orchestrator.mover.running())
        owner = 2 if end == "done" else 1
        assert (await lab.get(f"/moves/{move['epoch']}"))["step"] == end
        assert [lab.holders(key) for key in FLOWS] == [[owner]] * len(FLOWS)


async def test_who_waits_is_told_of_the_late_one_that_follows_too(make_lab: Make) -> None:
    """The one that was asked for is over: what was in use has been left to another."""
    lab = make_lab(moves=SOON)
    async with lab.up():
        lab.give_flows(1, FLOWS[:2])
        source = lab.agent.peers[1].guest
        source.get_flow(FLOWS[0])
        await lab.post("/scale-out", {"rebalance": False})
        body = {"keys": [str(key) for key in FLOWS[:2]], "target": 2, "guarantee": "none", "references": 60}
        asked = asyncio.create_task(lab.post("/moves", body, status=202))
        await lab.until(lambda: lab.holders(FLOWS[1]) == [2] and len(lab.orchestrator.mover.reports.outcomes) == 1)
        away(lab, "redirect")
        source.put_flow(FLOWS[0])
        first, second = (await asked)["moves"]
        assert (first["step"], second["step"], second["follows"]) == ("done", "switching", first["epoch"])
        away(lab)
        await lab.until(lambda: not lab.orchestrator.mover.running())
        assert [lab.holders(key) for key in FLOWS[:2]] == [[2], [2]]


async def test_a_deadline_counts_from_when_the_move_was_asked_for(make_lab: Make) -> None:
    lab = make_lab(moves=Times(network_retry=0.02, late=0.1))
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": False})
        away(lab, "resume")
        loop = asyncio.get_running_loop()
        begin = loop.time()
        move = await moving(lab, buffer="cpu", deadline=2.0)
        assert move["step"] == "resuming" and 2.0 < loop.time() - begin < Times().late
        away(lab)
        await lab.until(lambda: not lab.orchestrator.mover.running())
        assert (await lab.get(f"/moves/{move['epoch']}"))["step"] == "done"


async def test_scaling_does_not_hang_on_it(make_lab: Make) -> None:
    lab = make_lab(moves=SOON)
    async with lab.up():
        lab.give_flows(1, FLOWS)
        away(lab, "redirect", "suspend")
        answer = await lab.post("/scale-out", {}, status=202)
        assert answer["added"] == [2] and [move["step"] for move in answer["moves"]] == ["recalling"]
        assert lab.orchestrator.mover.late() == [answer["moves"][0]["epoch"]]
        assert (await lab.post("/scale-out", {"rebalance": False}))["added"] == [3], "one at a time: it is over"
        assert lab.orchestrator.mover.running()
        away(lab)
        await lab.until(lambda: not lab.orchestrator.mover.running())
        assert [lab.holders(key) for key in FLOWS] == [[1]] * len(FLOWS)


async def test_a_policy_does_nothing_more_before_the_end_of_what_is_late(
    make_lab: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The loads are as they were before: it would add a replica each time."""
    quick = ElasticityConfig(
        policy="flow-count", settings={"split_above": 30, "merge_below": 0}, interval=0.05, consecutive=2, cool_down=0.3
    )
    lab = make_lab(moves=SOON, elasticity=quick)
    async with lab.up():
        away(lab, "redirect", "suspend")
        lab.give_flows(1, FLOWS)
        autoscaler = lab.orchestrator.autoscaler
        await lab.until(lambda: autoscaler.actions)
        (epoch,) = lab.orchestrator.mover.late()
        assert [each.outcome for each in autoscaler.actions] == [f"late: move {epoch} not over yet"]
        await asyncio.sleep(1.0)  # three cool-downs
        assert len(autoscaler.actions) == 1 and len(lab.tables.ports) == 2
        told = await lab.get("/elasticity")
        assert told["replicas"]["1"]["flows"] > 30 and f"before the end of move {epoch}" in told["problem"]
        assert caplog.text.count("nothing is done before") == 1
        away(lab)
        await lab.until(lambda: len(autoscaler.actions) == 2)
        assert autoscaler.actions[1].outcome == "done" and autoscaler.problem == "", "it was undone: once more"
        assert (await lab.get(f"/moves/{epoch}"))["step"] == "undone" and len(lab.tables.ports) == 3


def connect_to(socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands talk to the orchestrator behind this socket."""
    for module in (moves, scaling):
        monkeypatch.setattr(module, "connect", lambda *where: OrchestratorClient(socket, WITHIN))


@pytest.mark.parametrize("output", [[], ["--json"]], ids=["for people", "as JSON"])
@pytest.mark.parametrize(
    "command",
    [["migrate", "--all", "--source", "1", "--target", "2"], ["rebalance"], ["scale-out"]],
    ids=lambda command: command[0],
)
async def test_commands_whose_moves_are_late_end_with_status_1(
    make_lab: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], output: list[str]
) -> None:
    socket = tmp_path / "api.sock"
    connect_to(socket, monkeypatch)
    lab = make_lab(moves=SOON)
    async with lab.up():
        lab.give_flows(1, FLOWS)
        await lab.post("/scale-out", {"rebalance": False})
        api = await served(lab, socket)
        away(lab, "redirect", "suspend")
        late = await asyncio.to_thread(CliRunner().invoke, app, [*command, *output])
        assert late.exit_code == 1, late.output
        assert not output or [move["step"] for move in json.loads(late.stdout)["moves"]] == ["recalling"]
        away(lab)
        await lab.until(lambda: not lab.orchestrator.mover.running())
        done = await asyncio.to_thread(CliRunner().invoke, app, [*command, *output])
        assert done.exit_code == 0, done.output
        api.cancel()
        await asyncio.wait([api])


@pytest.mark.parametrize("output", [[], ["--json"]], ids=["for people", "as JSON"])
async def test_a_scale_out_whose_moves_were_undone_ends_with_status_1_and_says_so(
    make_lab: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: list[str]
) -> None:
    socket = tmp_path / "api.sock"
    connect_to(socket, monkeypatch)
    lab = make_lab()
    async with lab.up():
        lab.give_flows(1, FLOWS)
        api = await served(lab, socket)
        away(lab, "redirect")
        undone = await asyncio.to_thread(CliRunner().invoke, app, ["scale-out", *output])
        assert undone.exit_code == 1, undone.output
        assert "move 1 was undone, its flows stay at replica 1: redirect: the switch is away" in undone.stderr
        assert not output or [move["step"] for move in json.loads(undone.stdout)["moves"]] == ["undone"]
        api.cancel()
        await asyncio.wait([api])


async def test_a_replica_that_dies_meanwhile_is_seen_to_though_another_ones_flows_are_late(make_lab: Make) -> None:
    """With several switches only one may be away."""
    lab = make_lab(moves=SOON)
    async with lab.up():
        for _ in range(2):
            await lab.post("/scale-out", {"rebalance": False})
        await lab.post("/moves", {"buckets": [1], "source": 1, "target": 2})
        await lab.post("/moves", {"buckets": [2], "source": 1, "target": 3})

        def fail(name: str, what: m.Scope | int) -> SplitmergeError | None:
            named = isinstance(what, m.Scope) and 1 in what.buckets
            return SwitchUnavailable(name, "the switch is away") if named else None

        lab.tables.fail = fail
        placement = lab.orchestrator.placement
        lab.agent.kill(2)
        await lab.until(lambda: lab.orchestrator.mover.running())
        lab.agent.kill(3)
        await lab.until(lambda: placement.bucket_owner(2) == 1)
        assert placement.bucket_owner(1) == 2
        away(lab)
        await lab.until(lambda: placement.bucket_owner(1) == 1)
        await lab.until(lambda: set(lab.orchestrator.fleet.replicas) == {1})


async def test_what_follows_from_a_late_move_is_done_when_it_is_over(make_lab: Make) -> None:
    lab = make_lab(moves=SOON)
    async with lab.up():
        for _ in range(2):
            await lab.post("/scale-out", {"rebalance": False})
        await lab.post("/moves", {"all": True, "source": 1, "target": 2, "deadline": 5})
        control, data = inner(0), inner(1)
        await lab.post("/moves", {"buckets": [data.bucket], "source": 2, "target": 3})
        for number, replica in enumerate((2, 3)):
            begin(lab, replica, number, group="ftp")
        await lab.until(lambda: confirmed(lab, 0, 1))
        away(lab, "resume")
        (move,) = (await lab.post("/moves", {"all": True, "source": 2, "target": 1, "buffer": "cpu"}, 202))["moves"]
        assert move["step"] == "resuming" and lab.holders(data) == [3]
        away(lab)
        await lab.until(lambda: [lab.holders(key) for key in (control, data)] == [[1], [1]])


async def test_who_stops_waiting_early_still_calls_off_what_has_not_begun(make_lab: Make) -> None:
    lab = make_lab(moves=SOON)
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": False})
        lab.tables.stuck = "redirect"
        first = asyncio.create_task(lab.post("/moves", {"all": True, "source": 1, "target": 2}))
        await lab.until(lambda: "redirect" in lab.tables.calls)
        scaler = lab.orchestrator.scaler
        planned = scaler._planned([(1, 2, m.Scope(buckets=(7,)))])
        waiting = asyncio.create_task(scaler.carry_out(planned))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert planned[0].move.step.value == "undone" and planned[0].move.reason == "who asked for it has failed"
        lab.tables.go_on()
        assert [move["step"] for move in (await first)["moves"]] == ["done"]
