"""The service replaces replicas that died or hang, one for one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from orchestrator import journal
from orchestrator.config import ElasticityConfig, ReplacementConfig
from orchestrator.errors import ReplicaEnded
from orchestrator.replicas.fleet import ReplicaState
from orchestrator.scaling import replacing
from splitmerge.flowkey import BUCKETS
from tests.orchestrator.lab import FLOWS, Lab

QUICK = ReplacementConfig(tries=3, first_wait=0.02, longest_wait=0.1, young=30.0)
PATIENT = ReplacementConfig(tries=3, first_wait=2.0, longest_wait=2.0, young=30.0)


@pytest.fixture
async def lab(make_lab: Callable[..., Lab]) -> AsyncIterator[Lab]:
    made = make_lab(replacement=QUICK)
    async with made.up():
        await made.post("/scale-out", {"rebalance": True})
        yield made


async def test_a_dead_replica_is_replaced_and_the_new_one_gets_its_share(lab: Lab) -> None:
    lab.agent.kill(1)
    await lab.until(lambda: sorted(lab.tables.ports) == [2, 3] and lab.orchestrator.replacements.made == 1)
    await lab.until(lambda: sorted(set(lab.tables.buckets.values()), key=str) == [2, 3])
    assert list(lab.tables.buckets.values()).count(3) == BUCKETS // 2
    status = await lab.get("/status")
    assert status["replacements"] == {
        "enabled": True,
        "made": 1,
        "failed": 0,
        "owed": [],
        "given_up": [],
        "on_trial": [],
    }
    assert status["problems"] == []


async def test_a_replica_that_hangs_is_ended_and_replaced(lab: Lab) -> None:
    replica = lab.orchestrator.fleet.get(2)

    def mute() -> bool:
        replica.told = -3600.0  # as if it had not spoken, whatever it says
        return lab.orchestrator.replacements.made == 1

    await lab.until(mute)
    assert await lab.live() == [1, 3]


async def test_a_replica_that_ends_as_it_starts_is_not_waited_for(lab: Lab) -> None:
    lab.agent.stillborn = True
    begun = time.monotonic()
    with pytest.raises(ReplicaEnded, match=r"replica 3: ended before its Hello: exit 1 \(see the agent's log\)"):
        await lab.orchestrator.fleet.create(60.0)
    assert time.monotonic() - begun < 30 and 3 not in lab.orchestrator.fleet.replicas
    lab.agent.stillborn = False
    assert (await lab.post("/scale-out", {}))["added"] == [4]


async def test_the_last_of_a_lab_with_one_slot_is_replaced_on_that_slot(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(replacement=QUICK, slots=1)
    async with lab.up():
        lab.give_flows(1, FLOWS[:3])
        lab.agent.kill(1)
        await lab.until(lambda: lab.tables.ports == {2: 11} and set(lab.tables.buckets.values()) == {2})
        await lab.until(lambda: not lab.orchestrator.replacements.owed)
        assert await lab.live() == [2] and lab.orchestrator.placement.owners() == {2}


async def test_slots_of_replicas_that_are_being_ended_are_waited_for(
    make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More tries would fail, for want of a slot, than there are; an agent that was killed leaves as many to end."""
    monkeypatch.setattr(replacing, "SETTLED_WITHIN", 0.0)
    lab = make_lab(replacement=QUICK, slots=1)
    async with lab.up():
        fleet, core = lab.orchestrator.fleet, lab.orchestrator.replacements
        monkeypatch.setattr(fleet, "forget", lambda replica: None)
        lab.agent.kill(1)
        told = "waits for a slot: scale-out: all 1 slots are used; replicas on slots 1 are being ended (wait for that)"
        await lab.until(lambda: bool(core.owed and core.owed[0].waits))
        assert (await lab.get("/status"))["problems"][-1] == f"a replica in place of replica 1 {told}"
        await asyncio.sleep(1.0)
        assert core.tries_failed == 0 and not core.given_up
        monkeypatch.undo()
        fleet.forget(fleet.replicas[1])
        await lab.until(lambda: core.made == 1)


async def test_all_dead_as_many_come_again_and_not_one_more(lab: Lab) -> None:
    lab.agent.kill(1)
    lab.agent.kill(2)
    await lab.until(lambda: set(lab.tables.ports) == {3, 4} and not lab.orchestrator.replacements.owed)
    assert len(await lab.live()) == 2


@pytest.mark.parametrize("dead", [(1, 2), (2, 3, 4), (1, 2, 3, 4)], ids=str)
async def test_several_that_die_at_once_are_all_replaced(make_lab: Callable[..., Lab], dead: tuple[int, ...]) -> None:
    lab = make_lab(replacement=QUICK)
    async with lab.up():
        await lab.post("/scale-out", {"count": 3, "rebalance": False})
        for replica in dead:
            lab.agent.kill(replica)
        await lab.until(lambda: lab.orchestrator.replicas_died == len(dead))
        await lab.until(lambda: not (lab.orchestrator.replacements.owed or lab.orchestrator.fleet.gone()))
        assert len(await lab.live()) == 4


async def test_what_the_agent_refuses_is_given_up_and_tried_again_with_another_agent(lab: Lab) -> None:
    lab.agent.refuses = True
    lab.agent.kill(1)
    await lab.until(lambda: lab.orchestrator.replacements.given_up)
    (report,) = (await lab.get("/status"))["replacements"]["given_up"]
    assert (report["replica"], report["failures"]) == (1, 3) and "no memory" in report["reason"]
    assert await lab.live() == [2]
    lab.agent.refuses = False
    lab.orchestrator.fleet.agents.connected[0].close("test")  # it connects again
    await lab.until(lambda: lab.orchestrator.replacements.made == 1)
    assert len(await lab.live()) == 2


@pytest.mark.parametrize("given_up", [False, True], ids=["while it is tried", "after it was given up"])
async def test_what_somebody_else_has_added_meanwhile_is_enough(lab: Lab, given_up: bool) -> None:
    replacements = lab.orchestrator.replacements
    if not given_up:  # the first try comes long after somebody else's
        replacements._settings = PATIENT
    lab.agent.refuses = True
    lab.agent.kill(1)
    await lab.until(lambda: replacements.given_up if given_up else replacements.owed)
    lab.agent.refuses = False
    await lab.post("/scale-out", {"rebalance": False})
    lab.orchestrator.fleet.agents.connected[0].close("test")  # it connects again: what was given up is looked at anew
    await lab.until(lambda: not (replacements.given_up or replacements.owed))
    assert len(await lab.live()) == 2


async def test_no_more_than_the_policys_limit(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(replacement=QUICK, elasticity=ElasticityConfig(policy="flow-count", interval=60, max_replicas=2))
    async with lab.up():
        await lab.post("/scale-out", {"count": 2, "rebalance": False})
        lab.agent.kill(1)
        await lab.until(lambda: lab.orchestrator.replacements.owed)
        await lab.until(lambda: not lab.orchestrator.replacements.owed)
        assert len(await lab.live()) == 2 and lab.orchestrator.replacements.made == 0


async def test_one_that_is_drained_takes_nobodys_place(make_lab: Callable[..., Lab]) -> None:
    settings = ElasticityConfig(policy="flow-count", interval=60, max_replicas=2)
    lab = make_lab(replacement=QUICK, elasticity=settings)
    async with lab.up():
        await lab.post("/scale-out", {"count": 2, "rebalance": False})
        fleet = lab.orchestrator.fleet
        fleet.set_state(fleet.replicas[3], ReplicaState.FINISHING)
        lab.agent.kill(1)
        await lab.until(lambda: lab.orchestrator.replacements.made == 1)
        assert [each.number for each in fleet.live()] == [2, 4]


async def test_one_that_dies_while_it_is_scaled_in_is_not_replaced(lab: Lab) -> None:
    fleet = lab.orchestrator.fleet
    fleet.set_state(fleet.replicas[2], ReplicaState.FINISHING)
    lab.agent.clings = ""
    session = fleet.replicas[2].session
    assert session is not None
    lab.agent.peers[2].control = "unix:/nowhere"
    session.close("test")
    await lab.until(lambda: 2 not in fleet.replicas)
    assert lab.orchestrator.replacements.owed == [] and await lab.live() == [1]


async def test_one_found_dead_after_a_restart_is_replaced(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(replacement=QUICK)
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": True})
    lab.agent.peers[2].control = "unix:/nowhere"  # it does not come back
    async with lab.up():
        await lab.until(lambda: lab.orchestrator.replacements.made == 1)
        assert await lab.live() == [1, 3]


async def test_one_that_died_as_the_orchestrator_did_is_replaced_by_the_next(make_lab: Callable[..., Lab]) -> None:
    """Its death is journalled, and what it owned nobody has taken yet."""
    lab = make_lab(replacement=QUICK)
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": True})
        lab.tables.stuck = "suspend"
        lab.agent.kill(2)
        await lab.until(lambda: "suspend" in lab.tables.calls and lab.orchestrator.fleet.gone())
    lab.tables.go_on()
    async with lab.up():
        await lab.until(lambda: lab.orchestrator.replacements.made == 1)
        assert await lab.live() == [1, 3]
        await lab.until(lambda: set(lab.tables.buckets.values()) == {1, 3})
    async with lab.up():
        assert (await lab.get("/status"))["replacements"]["made"] == 1, "it is counted for good"


async def test_a_journal_without_numbers_left_does_not_end_those_that_live(
    make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next process would find none either, nor the one after that: a lab ends with an orchestrator that does so."""
    monkeypatch.setattr(journal, "LAST_REPLICA", 2)
    lab = make_lab(replacement=QUICK)
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": True})
        lab.agent.kill(1)
        await lab.until(lambda: lab.orchestrator.replacements.given_up)
        await lab.until(lambda: set(lab.tables.buckets.values()) == {2})
        assert "no replica is left of 2" in (await lab.get("/status"))["problems"][-1] and not lab.life.done()
        refused = await lab.post("/scale-out", {}, status=503)
        assert refused["remedy"] == "remove the journal while nothing runs"
