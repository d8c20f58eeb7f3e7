"""What is owed for replicas that died, and when; what of it is given up."""

from __future__ import annotations

import pytest

from orchestrator.config import ReplacementConfig
from orchestrator.scaling.replacements import Owed, Replacements
from splitmerge.errors import BadInput

SETTINGS = ReplacementConfig(tries=3, first_wait=1.0, longest_wait=3.0, young=10.0)
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


def test_waiting_for_a_slot_is_no_failed_try(core: Replacements, caplog: pytest.LogCaptureFixture) -> None:
    core.lost(1, "process", 1, 0.0)
    owed = due(core, 1.0)
    for now in range(1, 9):  # more often than it may fail
        core.waits(owed, "slots 2, 3 leave", now)
        assert core.timer == now + 1.0 and core.tries_failed == owed.failures == 0
    assert core.problems(9.0) == ["a replica in place of replica 1 waits for a slot: slots 2, 3 leave"]
    assert caplog.text.count("slots 2, 3 leave") == 1
    core.failed(owed, "no memory", 9.0)
    assert "1 of 3 tries failed, the next in 2.0 s; the last: no memory" in core.problems(9.0)[0]
    core.waits(owed, "slot 2 leaves", 11.0)
    assert core.problems(11.0)[0].endswith("1 of 3 tries failed, waits for a slot: slot 2 leaves; the last: no memory")
    core.came(owed, 2, 12.0)
    assert not owed.waits


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
