"""What is not well though all runs: a middlebox that fails, flows that lost their state, parts that restarted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.journal import DeathRow
from orchestrator.replicas import noticed
from orchestrator.replicas.noticed import APART, TOLD_FOR, WINDOW, Deaths, Failures, Recent
from splitmerge.messages import Stats
from tests.orchestrator.lab import FLOWS, Lab


def stats(packets: int, errors: int) -> Stats:
    return Stats(replica=1, flows=0, packets=packets, bytes=0, cpu_seconds=0, held=0, drops={"middlebox_error": errors})


@pytest.mark.parametrize(
    ("told", "now", "failed"),
    [
        ([], 1.0, (0, 0)),
        ([(0.0, 100, 90)], 1.0, (0, 0)),  # before this process, say
        ([(0.0, 0, 0), (0.25, 20, 20)], 1.0, (20, 20)),
        ([(0.0, 0, 0), (5.0, 20, 20), (50.0, 20, 20)], 50.0, (20, 20)),  # nothing has come since
        ([(0.0, 0, 0), (5.0, 20, 20), (30.0, 90, 20), (WINDOW + 5.0, 95, 20)], WINDOW + 5.0, (0, 75)),
        ([(0.0, 0, 0), (1.0, 20, 20)], WINDOW + 2.0, (0, 0)),
        ([(0.0, 0, 0), (5.0, 3, 9)], 6.0, (9, 9)),  # six of them had waited
    ],
)
def test_what_a_middlebox_failed_on_lately(
    told: list[tuple[float, int, int]], now: float, failed: tuple[int, int]
) -> None:
    recent = Recent()
    for at, packets, errors in told:
        recent.take(stats(packets, errors), at)
    assert recent.failed(now) == failed


def test_what_is_kept_of_it_is_bounded() -> None:
    recent = Recent()
    for number in range(10_000):
        recent.take(stats(number, number // 2), number * 0.25)
    assert len(recent._past) <= WINDOW / APART + 2
    failed, packets = recent.failed(10_000 * 0.25)
    assert packets == pytest.approx(WINDOW * 4, abs=5) and failed == pytest.approx(packets / 2, abs=1)


def test_deaths_are_told_for_a_while_also_those_before_this_process() -> None:
    deaths = Deaths([DeathRow(9, 2, 9.0)])
    deaths.take(DeathRow(1, 0, 10.0))  # it had nothing to lose
    deaths.take(DeathRow(2, 1, 10.0))
    assert [line.split()[1] for line in deaths.told(11.0)] == ["9", "2"]
    (line,) = deaths.told(10.0 + TOLD_FOR)
    assert line.startswith("replica 2 died at ") and " with 1 flow: " in line
    assert list(deaths.told(10.1 + TOLD_FOR)) == []


def test_failures_are_told_for_a_while() -> None:
    failures = Failures()
    failures.take("scale-in failed: replica 1: busy", 10.0)
    (line,) = failures.told(10.0 + TOLD_FOR)
    assert line.startswith("scale-in failed: replica 1: busy, at ")
    assert list(failures.told(10.1 + TOLD_FOR)) == []


async def problems(lab: Lab) -> list[str]:
    found = (await lab.get("/status"))["problems"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(("errors", "told"), [(20, True), (10, True), (9, False)])
async def test_a_middlebox_that_fails_on_most_packets_is_a_problem(lab: Lab, errors: int, told: bool) -> None:
    engine = lab.agent.peers[1].engine
    replica = lab.orchestrator.fleet.get(1)
    await lab.until(lambda: replica.stats is not None)
    engine._frames += 20
    engine.drops["middlebox_error"] += errors
    await lab.until(lambda: replica.stats is not None and replica.stats.packets == 20)
    line = f"the middlebox of replica 1 fails on packets: {errors} of 20 in the last 60 s; see the agent's log"
    assert await problems(lab) == [line] * told


async def test_flows_that_lost_their_state_are_told_of_and_their_moves_say_why(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.post("/scale-out", {"rebalance": False})
    lab.give_flows(1, FLOWS)
    await lab.until(lambda: lab.orchestrator.fleet.get(1).flows == len(FLOWS))
    lab.agent.kill(1)
    await lab.until(lambda: 1 not in lab.orchestrator.fleet.replicas)
    moves = await lab.get("/moves")
    assert {(each["stateless"], each["reason"]) for each in moves} == {(True, "without state: replica 1 had died")}
    (line,) = [each for each in await problems(lab) if each.startswith("replica 1 died at")]
    assert f" with {len(FLOWS)} flows: what state was nowhere else is lost" in line
    monkeypatch.setattr(noticed, "TOLD_FOR", 0.0)
    assert not [each for each in await problems(lab) if each.startswith("replica 1 died at")]


async def test_restarts_of_the_orchestrator_are_counted(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    for restarts in range(3):
        async with lab.up():
            status = await lab.get("/status")
            assert (status["orchestrator_restarts"], status["agent_connections"]) == (restarts, 1)
            text = (await lab.http.get("/metrics")).text
            assert f"splitmerge_orchestrator_restarts_total {restarts}.0" in text
            assert 'splitmerge_switch_restarts_total{switch="switch"} 0.0' in text
