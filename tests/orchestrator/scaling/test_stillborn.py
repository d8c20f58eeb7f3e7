"""A middlebox that ends at once: its replicas are made so often and no more, by nobody, also over a restart."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from orchestrator.config import ElasticityConfig, ReplacementConfig
from orchestrator.elasticity import Add, Observation, Recommendation
from tests.orchestrator.lab import Lab

QUICK = ReplacementConfig(tries=3, first_wait=0.02, longest_wait=0.1, young=30.0)
STILLBORN = [
    (ElasticityConfig(), 1),
    (ElasticityConfig(min_replicas=2, interval=0.02, cool_down=0.05), 2),
    (ElasticityConfig(policy="static", settings={"replicas": 2}, interval=0.02, consecutive=1, cool_down=0.05), 2),
]
IDS = ["the sole one", "a minimum of two", "always two"]


def owners(lab: Lab) -> set[int | None]:
    return set(lab.tables.buckets.values())


class Killer:
    """Ends every replica as soon as it takes flows."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.killed: set[int] = set()

    def strike(self) -> set[int]:
        fleet = self.lab.orchestrator.fleet
        for number in [each.number for each in fleet.live() if each.number not in self.killed]:
            self.killed.add(number)
            self.lab.agent.kill(number)
        return self.killed

    async def rest(self, seconds: float) -> None:
        """Go on; nobody comes any more."""
        before = set(self.killed)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.lab.until(lambda: self.strike() != before)
        assert self.killed == before


async def scale_out_of_it(lab: Lab, replicas: int) -> None:
    """Somebody adds as many as there were: they have everything, and all is well again."""
    await lab.post("/scale-out", {"count": replicas})
    await lab.until(lambda: owners(lab) == {each.number for each in lab.orchestrator.fleet.live()})
    assert (await lab.get("/status"))["problems"] == [] and len(await lab.live()) == replicas


@pytest.mark.parametrize(("elasticity", "replicas"), STILLBORN, ids=IDS)
async def test_replicas_that_die_at_once_are_made_so_often_and_no_more_by_nobody(
    make_lab: Callable[..., Lab], elasticity: ElasticityConfig, replicas: int
) -> None:
    lab = make_lab(replacement=QUICK, elasticity=elasticity)
    async with lab.up():
        killer, replacements = Killer(lab), lab.orchestrator.replacements
        await lab.until(lambda: len(lab.orchestrator.fleet.live()) == replicas)
        await lab.until(lambda: killer.strike() and len(replacements.given_up) == replicas)
        assert len(killer.killed) == replicas * (1 + QUICK.tries)
        await killer.rest(1.0)
        status = await lab.get("/status")
        assert status["replacements"]["failed"] == replicas * QUICK.tries and not status["replacements"]["owed"]
        told = [each for each in status["problems"] if "is not replaced: 3 tries failed, the last: replica" in each]
        assert len(told) == replicas and all("`splitmerge scale-out` tries again" in each for each in told)
        metrics = (await lab.http.get("/metrics")).text
        assert f"splitmerge_replacements_given_up {replicas}.0" in metrics
        assert f"splitmerge_replacement_tries_failed_total {replicas * QUICK.tries}.0" in metrics
        await scale_out_of_it(lab, replicas)


@pytest.mark.parametrize(("elasticity", "replicas"), STILLBORN, ids=IDS)
async def test_switched_off_nothing_dead_is_made_again_by_nobody(
    make_lab: Callable[..., Lab], elasticity: ElasticityConfig, replicas: int
) -> None:
    lab = make_lab(replacement=ReplacementConfig(enabled=False), elasticity=elasticity)
    async with lab.up():
        killer = Killer(lab)
        await lab.until(lambda: len(lab.orchestrator.fleet.live()) == replicas)
        killer.strike()
        await lab.until(lambda: not lab.orchestrator.fleet.live())
        await killer.rest(0.7)
        status = await lab.get("/status")
        assert [each.split(" died")[0] for each in status["problems"]][:replicas] == [
            f"replica {number}" for number in sorted(killer.killed)
        ]
        await scale_out_of_it(lab, replicas)


async def test_switched_off_a_lab_all_of_whose_replicas_are_dead_starts_and_takes_what_is_asked_for(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab(replacement=ReplacementConfig(enabled=False))
    async with lab.up():
        assert await lab.live() == [1]
    lab.agent.peers[1].control = "unix:/nowhere"  # it does not come back
    async with lab.up():
        assert await lab.live() == []
        assert (await lab.post("/scale-out"))["added"] == [2]
        await lab.until(lambda: set(lab.tables.buckets.values()) == {2})


@pytest.mark.parametrize(("elasticity", "replicas"), STILLBORN, ids=IDS)
async def test_switched_off_what_is_dead_stays_dead_over_a_restart(
    make_lab: Callable[..., Lab], elasticity: ElasticityConfig, replicas: int
) -> None:
    lab = make_lab(replacement=ReplacementConfig(enabled=False), elasticity=elasticity)
    async with lab.up():
        killer = Killer(lab)
        await lab.until(lambda: len(lab.orchestrator.fleet.live()) == replicas)
        killer.strike()
        await lab.until(lambda: not lab.orchestrator.fleet.replicas)  # all are forgotten, with what they owned
        before = (await lab.get("/status"))["problems"]
        assert sum(" died (" in each for each in before) == replicas
    async with lab.up():
        assert (await lab.get("/status"))["problems"] == before
        await Killer(lab).rest(0.7)
        await lab.post("/scale-out", {"count": replicas})
        assert (await lab.get("/status"))["replacements"]["given_up"] == []
    async with lab.up():
        assert (await lab.get("/status"))["problems"] == [] and len(await lab.live()) == replicas


async def test_switched_off_one_of_two_that_died_is_missed_after_a_restart_too(make_lab: Callable[..., Lab]) -> None:
    elasticity, _ = STILLBORN[2]
    lab = make_lab(replacement=ReplacementConfig(enabled=False), elasticity=elasticity)
    async with lab.up():
        await lab.until(lambda: len(lab.orchestrator.fleet.live()) == 2)
        lab.agent.kill(2)
        await lab.until(lambda: 2 not in lab.orchestrator.fleet.replicas)
    async with lab.up():
        killer = Killer(lab)
        killer.killed.add(1)  # it alone lives
        await killer.rest(0.7)
        assert lab.orchestrator.replacements.absent == 1 and await lab.live() == [1]


async def test_whoever_is_added_where_all_are_dead_has_everything_without_anybody_who_says_so(
    make_lab: Callable[..., Lab],
) -> None:
    """The first of two, say, of which the second cannot be made; or one that a policy adds."""
    lab = make_lab(replacement=ReplacementConfig(enabled=False))
    async with lab.up():
        lab.agent.kill(1)
        await lab.until(lambda: not lab.orchestrator.fleet.replicas)
        newcomer = await lab.orchestrator.scaler.add()
        await lab.until(lambda: owners(lab) == {newcomer.number})


class Greedy:
    """A policy that always wants more."""

    def recommend(self, seen: Observation) -> Recommendation:
        return Add()


async def test_a_policy_goes_on_asking_where_replicas_cannot_live_and_adds_none(
    make_lab: Callable[..., Lab], caplog: pytest.LogCaptureFixture
) -> None:
    elasticity = ElasticityConfig(
        policy=f"{__name__}:Greedy", interval=0.02, consecutive=1, cool_down=0.05, max_replicas=2
    )
    lab = make_lab(replacement=QUICK, elasticity=elasticity)
    async with lab.up():
        killer = Killer(lab)
        killer.killed.add(1)  # it alone lives
        scaler = lab.orchestrator.autoscaler
        await lab.until(lambda: killer.strike() and "no replica is added: replica 2 is not replaced" in scaler.problem)
        assert len(killer.killed) == 2 + QUICK.tries
        await killer.rest(0.7)
        assert caplog.text.count("no replica is added") == 1 and await lab.live() == [1]
