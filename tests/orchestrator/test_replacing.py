"""Replicas that died are replaced one for one: what is owed and when, and the whole service doing it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest

from orchestrator.config import ElasticityConfig, ReplacementConfig
from orchestrator.elasticity import Add, Observation, Recommendation
from orchestrator.errors import ReplicaEnded
from orchestrator.fleet import ReplicaState
from orchestrator.replacements import Owed, Replacements
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


@pytest.mark.parametrize(
    ("age", "ended"), [(0.1, 3), (3600.0, 2)], ids=["the first one too", "the first one had lived long"]
)
def test_replicas_that_end_by_themselves_are_counted_apart_from_other_failures(
    core: Replacements, age: float, ended: int
) -> None:
    core.lost(1, "process", 1, 0.0, age=age)
    owed = due(core, 1.0)
    core.failed(owed, "no agent", 1.0)
    core.failed(owed, "replica 2: ended before its Hello", 5.0, ended=True)
    core._settings = PATIENT
    core.came(owed, 3, 10.0)
    core.lost(3, "process", 1, 10.1, age=0.1)
    (given_up,) = core.given_up
    assert (given_up.failures, given_up.ended) == (3, ended)


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


@pytest.mark.parametrize(("kind", "timer"), [("vm", 2.5), ("process", 3.0)], ids=["its kind", "another"])
def test_what_failed_without_an_agent_is_not_paused_for_when_one_connects(
    core: Replacements, kind: str, timer: float
) -> None:
    core.lost(7, "vm", 2, 0.0)
    owed = due(core, 1.0)
    core.failed(owed, "no agent", 1.0)
    core.agent_here(kind, 1.5)
    assert core.timer == timer and owed.failures == 1


def test_there_is_no_more_owed_than_there_are_slots(core: Replacements) -> None:
    for replica in range(1, 9):
        core.lost(replica, "vm", 2, float(replica))
    assert [each.replica for each in core.owed] == [5, 6, 7, 8]


def off() -> Replacements:
    return Replacements(ReplacementConfig(enabled=False, young=10.0), most=4)


def test_switched_off_nothing_is_owed_and_the_place_stays_empty() -> None:
    core = off()
    core.lost(1, "vm", 2, 0.0, how="exit status 70")
    assert core.owed == [] and core.timer is None and core.absent == 1
    core.agent_here("vm", 1.0)
    assert core.owed == [] and core.absent == 1
    told = "replica 1 died (exit status 70); replacing is switched off: `splitmerge scale-out` adds one"
    assert core.problems(2.0) == [told]


@pytest.mark.parametrize(
    ("age", "barred"), [(3600.0, False), (0.3, True)], ids=["after long", "young: the next one would too"]
)
def test_switched_off_one_that_died_bars_policies(age: float, barred: bool) -> None:
    core = off()
    core.lost(1, "process", 2, 0.0, age=age)
    assert bool(core.barred("process")) is barred


def give_up(core: Replacements, replica: int, kind: str, lived: int) -> Owed:
    core.lost(replica, kind, lived, 0.0)
    owed = core.owed[-1]
    for _ in range(SETTINGS.tries):
        core.failed(owed, "no memory", 0.0)
    return owed


@pytest.mark.parametrize(
    ("kind", "barred"), [("vm", True), ("process", False), ("", True)], ids=["its kind", "another", "any"]
)
def test_what_was_given_up_is_not_made_by_a_policy_either(core: Replacements, kind: str, barred: bool) -> None:
    assert core.barred(kind) == ""
    give_up(core, 7, "vm", 2)
    assert core.absent == 1 and bool(core.barred(kind)) is barred


@pytest.mark.parametrize(
    ("alive", "fewer", "absent"),
    [(1, 0, 2), (2, 0, 1), (3, 0, 0), (1, 1, 1), (1, 2, 0)],
    ids=["nobody came", "one came", "both came", "one less is wanted", "two less"],
)
def test_a_place_that_somebody_fills_or_nobody_wants_is_forgotten(
    core: Replacements, alive: int, fewer: int, absent: int
) -> None:
    """Of three replicas two died and were given up."""
    give_up(core, 7, "vm", 3)
    give_up(core, 8, "vm", 2)
    core.there_are(alive, fewer=fewer)
    assert core.absent == absent


def test_one_that_dies_young_is_owed_as_many_as_there_were_then(core: Replacements) -> None:
    """Somebody has scaled in since."""
    core.lost(7, "vm", 3, 0.0)
    core.came(due(core, 1.0), 9, 1.0)
    core.lost(9, "vm", 2, 2.0)
    assert [each.lived for each in core.owed] == [2]


def test_of_two_of_which_one_was_given_up_the_other_has_a_place_of_its_own(core: Replacements) -> None:
    """Who scales out by one fills the other place."""
    give_up(core, 7, "vm", 2)
    core.lost(8, "vm", 1, 0.0)
    assert [each.lived for each in core.owed] == [2]


def test_what_an_earlier_process_left_dead_stays_so_where_replacing_is_switched_off(core: Replacements) -> None:
    dead = Owed(1, "vm", 2, 0.0, 0, "signal SIGKILL")
    without = off()
    without.left_dead([dead])
    without.lost(1, "vm", 2, 5.0)  # its end was not written down before
    assert without.absent == 1 and not without.nobody(6.0)
    core.left_dead([dead])
    assert core.absent == 0 and core.nobody(6.0), "tries begin anew"


def test_one_that_nobody_wants_any_more_is_not_owed(core: Replacements) -> None:
    core.lost(7, "vm", 3, 0.0)
    core.there_are(1, fewer=1)
    assert [each.lived for each in core.owed] == [2]


@pytest.mark.parametrize("enabled", [True, False], ids=["replacing", "switched off"])
def test_the_first_replica_is_owed_though_nobody_died_and_is_no_replacement(enabled: bool) -> None:
    core = Replacements(ReplacementConfig(enabled=enabled, tries=2, first_wait=1.0), most=4)
    assert core.nobody(5.0) and core.nobody(5.0)
    owed = due(core, 5.0)
    core.failed(owed, "no image", 5.0)
    assert core.timer == 7.0
    assert core.problems(6.0) == ["the first replica: 1 of 2 tries failed, the next in 1.0 s; the last: no image"]
    core.failed(owed, "no image", 7.0)
    assert not core.nobody(8.0) and "there is no first replica: 2 tries failed" in core.problems(8.0)[0]
    core.agent_here("process", 9.0)
    core.came(due(core, 10.0), 1, 10.0)
    assert core.made == 0 and core.tries_failed == 2 and core.problems(15.1) == []


@pytest.mark.parametrize("first", [False, True], ids=["a replacement", "the first one"])
def test_a_problem_is_told_of_all_the_way_until_somebody_has_really_lived(core: Replacements, first: bool) -> None:
    """Of a middlebox that ends 4 s after its start, say: also while it lives."""
    if first:
        core.nobody(0.0)
    else:
        core.lost(1, "process", 1, 0.0)
    owed = due(core, 1.0)
    core.failed(owed, "no memory", 1.0)
    assert core.problems(3.5)[0].endswith("1 of 3 tries failed, the next is being made; the last: no memory")
    core.came(owed, 2, 4.0)
    (told,) = core.problems(8.0)
    assert told.endswith(
        "1 of 3 tries failed; replica 2 has come, and all is well if it lives for 1.0 s more; the last: no memory"
    )
    core.lost(2, "process", 1, 8.0, age=4.0)
    (told,) = core.problems(8.0)
    assert "2 of 3 tries failed, the next in 3.0 s; the last: replica 2 died 4.0 s after it came" in told
    core.came(due(core, 11.0), 3, 11.0)
    assert [bool(core.problems(now)) for now in (11.0, 18.9, 19.1)] == [True, True, False], "twice as long as the last"
    assert core.on_trial(18.9) and not core.on_trial(19.1)


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
    assert await live(lab) == [1, 3]


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


# -- a middlebox that ends at once ---------------------------------------------------------------------------------

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
    assert (await lab.get("/status"))["problems"] == [] and len(await live(lab)) == replicas


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
        assert await live(lab) == [1]
    lab.agent.peers[1].control = "unix:/nowhere"  # it does not come back
    async with lab.up():
        assert await live(lab) == []
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
        assert (await lab.get("/status"))["problems"] == [] and len(await live(lab)) == replicas


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
        assert lab.orchestrator.replacements.absent == 1 and await live(lab) == [1]


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
        assert caplog.text.count("no replica is added") == 1 and await live(lab) == [1]
