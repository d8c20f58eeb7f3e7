"""Replicas that died are replaced one for one: what is owed and when, and the whole service doing it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from orchestrator.config import ElasticityConfig, ReplacementConfig
from orchestrator.fleet import ReplicaState
from orchestrator.replacing import Owed, Replacements
from splitmerge.errors import BadInput
from splitmerge.flowkey import BUCKETS
from tests.orchestrator.lab import FLOWS, Lab

SETTINGS = ReplacementConfig(tries=3, first_wait=1.0, longest_wait=3.0, young=10.0)
QUICK = ReplacementConfig(tries=3, first_wait=0.02, longest_wait=0.1, young=30.0)
PATIENT = ReplacementConfig(tries=3, first_wait=2.0, longest_wait=2.0, young=30.0)


@pytest.fixture
def core() -> Replacements:
    return Replacements(SETTINGS, most=4)


def due(core: Replacements, now: float) -> Owed:
    found = core.due(now)
    assert found is not None
    return found


def test_a_death_owes_one_replica_of_its_kind_after_a_moment(core: Replacements) -> None:
    core.lost(7, "vm", 2, 100.0)
    assert core.due(100.9) is None and core.timer == 101.0
    owed = due(core, 101.0)
    assert (owed.replica, owed.kind) == (7, "vm")
    core.came(owed, 9, 103.0)
    assert core.made == 1 and core.owed == [] and core.timer is None


def test_failures_pause_longer_and_longer_and_then_it_is_given_up(
    core: Replacements, caplog: pytest.LogCaptureFixture
) -> None:
    core.lost(7, "vm", 2, 0.0)
    owed = due(core, 1.0)
    for at, timer in ((1.0, 3.0), (3.0, 6.0)):
        core.failed(owed, "no memory", at)
        assert core.timer == timer
    core.failed(owed, "no memory at all", 6.0)
    assert core.owed == [] and core.given_up == [owed] and core.timer is None
    assert "replica 7 is not replaced: 3 tries failed, the last: no memory at all" in caplog.text


@pytest.mark.parametrize(
    ("lived", "failures"), [(9.9, 1), (10.1, 0)], ids=["young: one more failed try", "grown up: a death of its own"]
)
def test_a_replacement_that_dies(core: Replacements, lived: float, failures: int) -> None:
    core.lost(7, "vm", 2, 0.0)
    core.came(due(core, 1.0), 8, 1.0)
    core.lost(8, "vm", 2, 1.0 + lived)
    (owed,) = core.owed
    assert owed.failures == failures and owed.replica == (7 if failures else 8)


def test_a_middlebox_that_ends_at_once_is_not_started_for_ever(core: Replacements) -> None:
    core.lost(1, "process", 2, 0.0)
    born, now = 1, 0.0
    while (timer := core.timer) is not None:
        now = timer
        born += 1
        core.came(due(core, now), born, now)
        core.lost(born, "process", 2, now + 0.1)
    assert born == 4 and [each.replica for each in core.given_up] == [1] and core.owed == []


@pytest.mark.parametrize(
    ("kind", "again"), [("vm", True), ("process", False), ("", True)], ids=["its kind", "another", "any"]
)
def test_an_agent_that_connects_has_what_was_given_up_tried_again(core: Replacements, kind: str, again: bool) -> None:
    core.lost(7, "vm", 2, 0.0)
    owed = due(core, 1.0)
    for _ in range(3):
        core.failed(owed, "no agent", 1.0)
    core.agent_here(kind, 50.0)
    assert (core.timer == 51.0 and owed.failures == 0 and not core.given_up) is again


def test_there_is_no_more_owed_than_there_are_slots(core: Replacements) -> None:
    for replica in range(1, 9):
        core.lost(replica, "vm", 2, float(replica))
    assert [each.replica for each in core.owed] == [5, 6, 7, 8]


def test_switched_off_nothing_is_owed() -> None:
    core = Replacements(ReplacementConfig(enabled=False), most=4)
    core.lost(1, "vm", 2, 0.0)
    assert core.owed == []


@pytest.mark.parametrize(
    ("wrong", "name"),
    [(ReplacementConfig(tries=0), "tries"), (ReplacementConfig(first_wait=0), "first_wait")],
    ids=["no tries", "no pause"],
)
def test_settings_that_make_no_sense(wrong: ReplacementConfig, name: str) -> None:
    with pytest.raises(BadInput, match=f"replacement.{name}"):
        wrong.check()


# -- the service ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def lab(make_lab: Callable[..., Lab]) -> AsyncIterator[Lab]:
    made = make_lab(replacement=QUICK)
    async with made.up():
        await made.post("/scale-out", {"rebalance": True})
        yield made


async def live(lab: Lab) -> list[int]:
    return [each["replica"] for each in await lab.get("/replicas") if each["state"] == "live"]


async def test_a_dead_replica_is_replaced_and_the_new_one_gets_its_share(lab: Lab) -> None:
    lab.agent.kill(1)
    await lab.until(lambda: sorted(lab.tables.ports) == [2, 3] and lab.orchestrator.replacements.made == 1)
    await lab.until(lambda: sorted(set(lab.tables.buckets.values()), key=str) == [2, 3])
    assert list(lab.tables.buckets.values()).count(3) == BUCKETS // 2
    status = await lab.get("/status")
    assert status["replacements"] == {"enabled": True, "made": 1, "owed": [], "given_up": []}


async def test_a_replica_that_hangs_is_ended_and_replaced(lab: Lab) -> None:
    replica = lab.orchestrator.fleet.get(2)

    def mute() -> bool:
        replica.told = -3600.0  # as if it had not spoken, whatever it says
        return lab.orchestrator.replacements.made == 1

    await lab.until(mute)
    assert await live(lab) == [1, 3]


async def test_the_last_of_a_lab_with_one_slot_is_replaced_on_that_slot(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(replacement=QUICK, slots=1)
    async with lab.up():
        lab.give_flows(1, FLOWS[:3])
        lab.agent.kill(1)
        await lab.until(lambda: lab.tables.ports == {2: 11} and set(lab.tables.buckets.values()) == {2})
        await lab.until(lambda: not lab.orchestrator.replacements.owed)
        assert await live(lab) == [2] and lab.orchestrator.placement.owners() == {2}


async def test_all_dead_as_many_come_again_and_not_one_more(lab: Lab) -> None:
    lab.agent.kill(1)
    lab.agent.kill(2)
    await lab.until(lambda: set(lab.tables.ports) == {3, 4} and not lab.orchestrator.replacements.owed)
    assert len(await live(lab)) == 2


@pytest.mark.parametrize("dead", [(1, 2), (2, 3, 4), (1, 2, 3, 4)], ids=str)
async def test_several_that_die_at_once_are_all_replaced(make_lab: Callable[..., Lab], dead: tuple[int, ...]) -> None:
    lab = make_lab(replacement=QUICK)
    async with lab.up():
        await lab.post("/scale-out", {"count": 3, "rebalance": False})
        for replica in dead:
            lab.agent.kill(replica)
        await lab.until(lambda: lab.orchestrator.replicas_died == len(dead))
        await lab.until(lambda: not (lab.orchestrator.replacements.owed or lab.orchestrator.fleet.gone()))
        assert len(await live(lab)) == 4


async def test_what_the_agent_refuses_is_given_up_and_tried_again_with_another_agent(lab: Lab) -> None:
    lab.agent.refuses = True
    lab.agent.kill(1)
    await lab.until(lambda: lab.orchestrator.replacements.given_up)
    (report,) = (await lab.get("/status"))["replacements"]["given_up"]
    assert (report["replica"], report["failures"]) == (1, 3) and "no memory" in report["reason"]
    assert await live(lab) == [2]
    lab.agent.refuses = False
    lab.orchestrator.fleet.agents[0].close("test")  # it connects again
    await lab.until(lambda: lab.orchestrator.replacements.made == 1)
    assert len(await live(lab)) == 2


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
    lab.orchestrator.fleet.agents[0].close("test")  # it connects again: what was given up is looked at anew
    await lab.until(lambda: not (replacements.given_up or replacements.owed))
    assert len(await live(lab)) == 2


async def test_no_more_than_the_policys_limit(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(replacement=QUICK, elasticity=ElasticityConfig(policy="flow-count", interval=60, max_replicas=2))
    async with lab.up():
        await lab.post("/scale-out", {"count": 2, "rebalance": False})
        lab.agent.kill(1)
        await lab.until(lambda: lab.orchestrator.replacements.owed)
        await lab.until(lambda: not lab.orchestrator.replacements.owed)
        assert len(await live(lab)) == 2 and lab.orchestrator.replacements.made == 0


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
    assert lab.orchestrator.replacements.owed == [] and await live(lab) == [1]


async def test_one_found_dead_after_a_restart_is_replaced(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(replacement=QUICK)
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": True})
    lab.agent.peers[2].control = "unix:/nowhere"  # it does not come back
    async with lab.up():
        await lab.until(lambda: lab.orchestrator.replacements.made == 1)
        assert await live(lab) == [1, 3]


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
        assert await live(lab) == [1, 3]
        await lab.until(lambda: set(lab.tables.buckets.values()) == {1, 3})
    async with lab.up():
        assert (await lab.get("/status"))["replacements"]["made"] == 1, "it is counted for good"
