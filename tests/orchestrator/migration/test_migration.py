"""The migration core: exact instructions at fixed times."""

from __future__ import annotations

import dataclasses
from itertools import product

import msgspec
import pytest

from orchestrator import migration as core
from orchestrator.errors import InvalidTransition
from orchestrator.migration.asks import ANSWERS, ASKS, Situation
from orchestrator.migration.paths import SUSPENDED, TRANSITIONS, diagram
from orchestrator.migration.steps import DECIDED, NETWORK, POINTED, TERMINAL, Path, Step, Trigger
from splitmerge import messages as m
from splitmerge.errors import BadInput

SCOPE = m.Scope(keys=(b"k" * 13,), buckets=(5,))
CPU = core.Options(buffer="cpu")
PLAN = core.Plan(7, SCOPE, source=1, target=2, address="unix:/two", home="unix:/one", options=CPU)
EXPORT = m.Export(epoch=7, scope=SCOPE, target=2, address="unix:/two", deadline=0.25, after=True)
COMMIT = m.Commit(epoch=7, scope=SCOPE)
RELEASE = m.Release(epoch=7, scope=SCOPE)
THAW = m.Thaw(epoch=7, scope=SCOPE)
DISCARD = m.Discard(epoch=7)
EXPORTED = core.Answer(1, m.Exported(epoch=7, staged=1))
PINNED = core.Answer(1, m.Exported(epoch=7, staged=0, pinned=(b"k" * 13,)))
COMMITTED = core.Answer(2, m.Committed(epoch=7, flows=1))
RELEASED = core.Answer(1, m.Released(epoch=7))
THAWED = core.Answer(1, m.Thawed(epoch=7))
DISCARDED = core.Answer(2, m.Discarded(epoch=7))
STEPS = [step for step in TRANSITIONS[Path.CPU] if step not in TERMINAL]
OK = core.NetworkDone()
FAILED = core.NetworkFailed("no switch")


def record(step: Step, relay: int = 7) -> core.Record:
    return core.Record(7, step, relay)


def behind(step: Step, relay: int = 7) -> core.Record:
    return core.Record(7, step, relay, later=True)


def refused(replica: int, request: str) -> core.Answer:
    return core.Answer(replica, m.Refused(epoch=7, request=request, reason="no"))


def at(step: Step, *, orphan: bool = False, plan: core.Plan = PLAN) -> core.Move:
    """A move that has come to this step the ordinary way."""
    move = core.Move(plan, orphan=orphan)
    ways: dict[Step, list[core.Event]] = {
        Step.PLANNED: [],
        Step.SUSPENDING: [core.Begin()],
        Step.DRAINING: [core.Begin(), OK],
        Step.EXPORTING: [core.Begin(), OK, OK],
        Step.COMMITTING: [core.Begin(), OK, OK, EXPORTED],
        Step.RESUMING: [core.Begin(), OK, OK, EXPORTED, COMMITTED],
        Step.RELEASING: [core.Begin(), OK, OK, EXPORTED, COMMITTED, OK],
        Step.CLEARING: [core.Begin(), FAILED],
        Step.THAWING: [core.Begin(), FAILED, OK],
        Step.RESTORING: [core.Begin(), FAILED, OK, THAWED],
        Step.DISCARDING: [core.Begin(), FAILED, OK, THAWED, OK],
    }
    for event in ways[step]:
        move.handle(event, 10.0)
    assert move.step is step
    return move


RENEWED = dataclasses.replace(PLAN, renewed=9)
"""It was overtaken while it waited."""


def test_replicas_and_switch_know_a_move_that_was_overtaken_by_the_epoch_that_it_begins_under() -> None:
    """The journal, and who asked for it, by its number."""
    move = core.Move(PLAN)
    export, commit, release = (msgspec.structs.replace(each, epoch=9) for each in (EXPORT, COMMIT, RELEASE))
    story: list[tuple[core.Event, list[core.Instruction]]] = [
        (core.Begin(RENEWED), [core.Replan(RENEWED), record(Step.SUSPENDING, 9), core.Suspend(9, SCOPE, 1)]),
        (OK, [core.Drain(9, 1), core.Send(1, export, later=True), behind(Step.DRAINING, 9)]),
        (OK, [record(Step.EXPORTING, 9)]),
        (EXPORTED, []),
        (core.Answer(1, m.Exported(epoch=9, staged=1)), [record(Step.COMMITTING, 9), core.Send(2, commit)]),
        (core.Answer(2, m.Committed(epoch=9, flows=1)), [core.Resume(9, SCOPE, 2), behind(Step.RESUMING, 9)]),
        (OK, [record(Step.RELEASING, 9), core.Send(1, release)]),
        (core.Answer(1, m.Released(epoch=9)), [record(Step.DONE, 9)]),
    ]
    for now, (event, expected) in enumerate(story):
        assert move.handle(event, float(now)) == expected
        move.validate()


@pytest.mark.parametrize(
    ("step", "replica", "request_", "answer"),
    [(Step.EXPORTING, 1, m.Thaw, m.Thawed(epoch=9)), (Step.COMMITTING, 2, m.Commit, m.Committed(epoch=9, flows=1))],
    ids=["undone", "decided"],
)
def test_a_new_process_asks_by_the_epoch_that_it_began_under_and_then_by_a_fresh_one(
    step: Step, replica: int, request_: type[m.Thaw | m.Commit], answer: m.Message
) -> None:
    move = core.Move(RENEWED, step=step)
    move.relay = 12
    out = move.handle(core.Recover(12), 1.0)
    assert out[1:] == [core.Send(replica, request_(epoch=9, scope=SCOPE, hold=True))] and out[0].relay == 12  # type: ignore[union-attr]
    fresh = move.handle(core.Answer(replica, answer), 2.0)
    assert fresh == [core.Send(replica, request_(epoch=12, scope=SCOPE, hold=True))]
    move.validate()


def test_a_move_from_plan_to_done() -> None:
    move = core.Move(PLAN)
    story: list[tuple[core.Event, list[core.Instruction]]] = [
        (core.Begin(), [record(Step.SUSPENDING), core.Suspend(7, SCOPE, 1)]),
        (OK, [core.Drain(7, 1), core.Send(1, EXPORT, later=True), behind(Step.DRAINING)]),
        (OK, [record(Step.EXPORTING)]),
        (EXPORTED, [record(Step.COMMITTING), core.Send(2, COMMIT)]),
        (COMMITTED, [core.Resume(7, SCOPE, 2), behind(Step.RESUMING)]),
        (core.NetworkDone(relayed=9, dropped=1, peak=5), [record(Step.RELEASING), core.Send(1, RELEASE)]),
        (RELEASED, [record(Step.DONE)]),
    ]
    for now, (event, expected) in enumerate(story):
        assert move.handle(event, float(now)) == expected
        move.validate()
    assert move.ended and move.owners() == ({5: 2}, {b"k" * 13: 2})
    assert (move.figures.staged, move.figures.relayed, move.figures.dropped, move.figures.peak) == (1, 9, 1, 5)
    assert move.figures.suspended == 5.0


def test_new_flows_are_committed_at_once() -> None:
    scope = m.Scope(keys=(b"k" * 13,))
    move = core.Move(core.Plan(7, scope, core.NOBODY, 2))
    assert move.handle(core.Begin(), 0.0) == [
        record(Step.COMMITTING), core.Send(2, m.Commit(epoch=7, scope=scope)),
    ]  # fmt: skip
    assert move.handle(COMMITTED, 0.1) == [core.Resume(7, scope, 2, new=True), behind(Step.RESUMING)]
    assert move.handle(OK, 0.2) == [record(Step.DONE)]
    assert move.owners() == ({}, {b"k" * 13: 2})


def test_new_flows_that_the_switch_refuses_have_no_owner() -> None:
    scope = m.Scope(keys=(b"a" * 13, b"b" * 13))
    move = core.Move(core.Plan(7, scope, core.NOBODY, 2))
    for event in (core.Begin(), COMMITTED):
        move.handle(event, 0.1)
    assert move.handle(core.NetworkDone(1, 5, 6, (b"a" * 13,), "full"), 0.2) == [record(Step.DONE)]
    assert move.owners() == ({}, {b"b" * 13: 2}) and move.figures.dropped == 5
    assert move.reason == "1 of its flows has no owner: full"


def test_what_an_ended_replica_had_is_taken_over_without_export() -> None:
    move = core.Move(PLAN, orphan=True)
    assert move.handle(core.Begin(), 0.0) == [record(Step.SUSPENDING), core.Suspend(7, SCOPE, 1)]
    assert move.handle(OK, 0.1) == [record(Step.COMMITTING), core.Send(2, COMMIT)]


FULL = "the room for its packets at replica 2 is nearly used up"
BEHIND = ": replica 1 is busy, 0.3 s behind at least; wait until it has caught up"


@pytest.mark.parametrize(("seconds", "says"), [(0.04, ""), (0.3, BEHIND)])
@pytest.mark.parametrize("event", [core.BufferFull("replica 2", busy=True), core.Tick(busy=True)])
def test_a_replica_is_said_to_be_behind_where_that_says_something(event: core.Event, seconds: float, says: str) -> None:
    move = core.Move(dataclasses.replace(PLAN, options=core.Options(buffer="cpu", deadline=seconds)))
    for earlier in (core.Begin(), OK):
        move.handle(earlier, 10.0)
    assert move.step is Step.DRAINING
    assert move.handle(event, 10.0 + seconds) == [core.Abandon(7)]
    why = f"not decided within {seconds:g} s" if isinstance(event, core.Tick) else FULL
    assert move.reason == why + says


ASKED: list[tuple[str, tuple[int, float] | None, str, list[core.Instruction]]] = [
    ("its source, for long", (1, 0.0), f"{core.unanswered(1)}; ", [core.Doubt(1, 2.0, later=True)]),
    ("its source, just now", (1, 0.99), "", [core.Doubt(1, 2.0, later=True)]),
    ("another move", None, "", []),
]


@pytest.mark.parametrize(("asked", "why", "doubts"), [each[1:] for each in ASKED], ids=[each[0] for each in ASKED])
def test_a_move_that_has_not_begun_by_its_deadline_says_whom_it_waited_for(
    asked: tuple[int, float] | None, why: str, doubts: list[core.Instruction]
) -> None:
    move = core.Move(dataclasses.replace(PLAN, options=core.Options(deadline=1.0)))
    move.handle(core.Accepted(), 0.0)
    move.asked = asked
    assert move.handle(core.Tick(), 1.0) == [record(Step.UNDONE), *doubts]
    move.validate()
    assert move.reason == f"{why}not decided within 1 s"


UNDO = [record(Step.THAWING), core.Send(1, THAW)]
ABORTS: list[tuple[str, Step, list[core.Event]]] = [
    ("suspend fails", Step.SUSPENDING, [FAILED]),
    ("drain fails", Step.DRAINING, [FAILED]),
    ("target dies in suspend", Step.SUSPENDING, [core.ReplicaLost(2), OK]),
    ("export refused", Step.EXPORTING, [refused(1, "Export")]),
    ("flows in use", Step.EXPORTING, [PINNED]),
    ("target dies in export", Step.EXPORTING, [core.ReplicaLost(2)]),
    ("cancelled in export", Step.EXPORTING, [core.Cancel("off")]),
    ("cancelled in suspend", Step.SUSPENDING, [core.Cancel("off"), OK]),
    ("commit refused", Step.COMMITTING, [refused(2, "Commit")]),
    ("target dies before it works", Step.COMMITTING, [core.ReplicaLost(2)]),
]


@pytest.mark.parametrize(("step", "events"), [abort[1:] for abort in ABORTS], ids=[abort[0] for abort in ABORTS])
def test_before_the_decision_everything_leads_back(step: Step, events: list[core.Event]) -> None:
    move = at(step)
    out = [instruction for event in events for instruction in move.handle(event, 11.0)]
    if step in (Step.SUSPENDING, Step.DRAINING):
        assert out == [record(Step.CLEARING), core.Drain(7, 1)]
        out = move.handle(OK, 11.5)
    assert out == UNDO and move.reason
    assert move.handle(THAWED, 12.0) == [record(Step.RESTORING), core.Resume(7, SCOPE, 1)]
    after = move.handle(OK, 13.0)
    if not move.ended:
        assert after == [record(Step.DISCARDING), core.Send(2, DISCARD)]
        assert move.handle(DISCARDED, 14.0) == [record(Step.UNDONE)]
    assert move.step is Step.UNDONE and move.owners() == ({}, {b"k" * 13: 1})


def test_flows_in_use_are_reported() -> None:
    move = at(Step.EXPORTING)
    move.handle(PINNED, 11.0)
    assert move.pinned == (b"k" * 13,)


def test_nothing_calls_a_decided_move_off() -> None:
    for step in DECIDED.intersection(STEPS):
        assert at(step).handle(core.Cancel("too late"), 11.0) == []


DEATHS: list[tuple[Step, int, list[core.Instruction]]] = [
    (Step.SUSPENDING, 1, []),
    (Step.DRAINING, 1, [core.Abandon(7)]),
    (Step.EXPORTING, 1, [record(Step.COMMITTING), core.Send(2, COMMIT)]),
    (Step.COMMITTING, 1, []),
    (Step.RESUMING, 1, []),
    (Step.RELEASING, 1, [record(Step.DONE)]),
    (Step.CLEARING, 1, [core.Abandon(7)]),
    (Step.CLEARING, 2, []),
    (Step.THAWING, 1, [record(Step.COMMITTING), core.Send(2, COMMIT)]),
    (Step.RESTORING, 1, [core.Abandon(7)]),
    (Step.DISCARDING, 1, []),
    (Step.PLANNED, 2, [record(Step.UNDONE)]),
    (Step.RESUMING, 2, [core.Abandon(7)]),
    (Step.RELEASING, 2, []),
    (Step.THAWING, 2, []),
    (Step.DISCARDING, 2, [record(Step.UNDONE)]),
]


@pytest.mark.parametrize(("step", "replica", "expected"), DEATHS, ids=[f"{s.value}-{r}" for s, r, _ in DEATHS])
def test_a_replica_dies(step: Step, replica: int, expected: list[core.Instruction]) -> None:
    move = at(step)
    assert move.handle(core.ReplicaLost(replica), 11.0) == expected
    move.validate()


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("step", STEPS)
def test_with_both_replicas_dead_a_move_ends(step: Step, first: int) -> None:
    move = at(step)
    events: list[core.Event] = [core.ReplicaLost(first), core.ReplicaLost(3 - first)]
    for event in events:
        out = move.handle(event, 11.0)
        events += [FAILED for instruction in out if isinstance(instruction, core.Abandon)]
    if not move.ended and move.step in NETWORK:
        move.handle(OK, 12.0)
    assert move.ended, move.step
    move.validate()


RECOVERIES = [
    (Step.PLANNED, [record(Step.UNDONE, 99)]),
    *[
        (step, [record(Step.THAWING, 99), core.Send(1, THAW)])
        for step in (Step.SUSPENDING, Step.DRAINING, Step.EXPORTING, Step.CLEARING, Step.THAWING, Step.RESTORING)
    ],
    *[(step, [record(Step.COMMITTING, 99), core.Send(2, COMMIT)]) for step in (Step.COMMITTING, Step.RESUMING)],
    (Step.RELEASING, [record(Step.RELEASING, 99), core.Send(1, RELEASE)]),
    (Step.DISCARDING, [record(Step.DISCARDING, 99), core.Send(2, DISCARD)]),
]


@pytest.mark.parametrize(("step", "expected"), RECOVERIES, ids=[step.value for step, _ in RECOVERIES])
def test_a_new_process_takes_up_each_step(step: Step, expected: list[core.Instruction]) -> None:
    move = core.Move(PLAN, step=step)
    assert move.handle(core.Recover(99), 0.0) == expected


def test_after_recovery_the_target_holds_under_the_fresh_epoch() -> None:
    move = core.Move(PLAN, step=Step.RESUMING)
    move.handle(core.Recover(99), 0.0)
    again = m.Commit(epoch=99, scope=SCOPE)
    assert move.handle(COMMITTED, 0.1) == [core.Send(2, again)]
    holding = core.Answer(2, m.Committed(epoch=99, flows=0))
    assert move.handle(holding, 0.2) == [core.Resume(99, SCOPE, 2), behind(Step.RESUMING, 99)]


def test_recovery_without_the_source_takes_over() -> None:
    move = core.Move(PLAN, step=Step.EXPORTING, orphan=True)
    assert move.handle(core.Recover(99), 0.0) == [record(Step.COMMITTING, 99), core.Send(2, COMMIT)]


def test_requests_are_repeated_at_growing_intervals_until_answered() -> None:
    move = at(Step.COMMITTING)
    sent_at = []
    now = 10.0
    for _ in range(6):
        assert move.timer is not None
        now = move.timer
        assert move.handle(core.Tick(), now) == [core.Send(2, COMMIT)]
        sent_at.append(now - 10.0)
    assert sent_at == [0.25, 0.75, 1.75, 3.75, 5.75, 7.75]
    assert move.handle(core.Tick(), now) == []


def test_a_replica_that_is_back_is_asked_at_once() -> None:
    move = at(Step.COMMITTING)
    assert move.handle(core.ReplicaBack(1), 10.1) == []
    assert move.handle(core.ReplicaBack(2), 10.1) == [core.Send(2, COMMIT)]


def test_a_source_that_is_back_before_its_marker_is_asked_to_export_again() -> None:
    """What it was asked may have been lost with its connection."""
    move = at(Step.DRAINING)
    assert move.handle(core.ReplicaBack(2), 10.1) == []
    assert move.handle(core.ReplicaBack(1), 10.1) == [core.Send(1, EXPORT)]
    assert move.handle(OK, 10.2) == [record(Step.EXPORTING)], "asked already"
    assert move.handle(core.Tick(), 10.44) == []
    assert move.handle(core.Tick(), 10.45) == [core.Send(1, EXPORT)]
    assert move.handle(core.ReplicaBack(1), 10.5) == [core.Send(1, EXPORT)]


@pytest.mark.parametrize("path", [Path.CPU, Path.REPLICA])
def test_from_draining_a_new_process_does_what_it_would_from_the_step_before(path: Path) -> None:
    """So its record need not be on disk before its marker."""
    rows = TRANSITIONS[path]
    before = next(step for step in rows if rows[step].get(Trigger.OK) is Step.DRAINING)
    assert rows[before][Trigger.RECOVER] is rows[Step.DRAINING][Trigger.RECOVER]
    assert {before, Step.DRAINING} <= SUSPENDED[path]
    assert not {before, Step.DRAINING} & (DECIDED | POINTED)
    plan = PLAN if path is Path.CPU else dataclasses.replace(PLAN, options=core.Options(buffer="replica"))
    for gone in ((), (1,), (2,), (1, 2)):
        taken_up = []
        for step in (before, Step.DRAINING):
            move = core.Move(plan, step=step)
            for replica in gone:
                move.source_gone |= replica == 1
                move.target_gone |= replica == 2
            taken_up.append((move.handle(core.Recover(9), 10.0), move.fenced, move.step))
        assert taken_up[0] == taken_up[1]


def test_an_export_that_takes_too_long_is_called_off() -> None:
    move = at(Step.EXPORTING)
    assert move.handle(core.Tick(), 40.2) == [core.Send(1, EXPORT)], "30 s, behind 0.25 for flows in use"
    assert move.handle(core.Tick(), 40.25) == UNDO
    assert "no answer" in move.reason


def test_a_source_that_may_wait_for_long_is_given_the_time() -> None:
    waits = core.Options(buffer="cpu", references=60)
    move = at(Step.EXPORTING, plan=dataclasses.replace(PLAN, options=waits))
    assert isinstance(move.handle(core.Tick(), 99.9)[0], core.Send)
    assert move.handle(core.Tick(), 100.0) == UNDO


def test_a_deadline_runs_from_when_the_whole_was_asked_for() -> None:
    move = core.Move(dataclasses.replace(PLAN, options=core.Options(deadline=3.0)))
    move.handle(core.Accepted(5.0), 7.0)
    assert move.timer == 8.0


def test_flows_in_use_end_a_move_that_has_not_begun() -> None:
    move = core.Move(PLAN)
    assert move.handle(core.InUse((b"u", b"ua"), (b"ua",)), 1.0) == [core.Record(7, Step.UNDONE, 7)]
    assert (move.pinned, move.pinned_keys, move.stays, move.called_off) == ((b"u",), (b"u", b"ua"), True, False)
    assert (move.reason, move.owners()) == ("1 of its flows is in use at the source", ({}, {}))
    move.validate()


LEADING = [
    ((b"k",), (2,), "1 key that goes along leads to replica 2, and may"),
    ((b"k", b"l"), (2, 5), "2 keys that go along lead to replicas 2, 5, and may"),
]


@pytest.mark.parametrize(("keys", "owners", "why"), LEADING, ids=["one", "several"])
def test_keys_that_lead_elsewhere_end_a_move_that_has_not_begun_and_it_says_where_they_lead(
    keys: tuple[bytes, ...], owners: tuple[int, ...], why: str
) -> None:
    move = core.Move(PLAN)
    assert move.handle(core.InUse(keys, owners=owners), 1.0) == [core.Record(7, Step.UNDONE, 7)]
    assert (move.pinned, move.stays, move.called_off, move.owners()) == (keys, True, False, ({}, {}))
    assert move.reason == f"{why} have a flow there; try again, or wait longer for it (references)"
    move.validate()


def test_flows_are_counted_and_not_their_keys() -> None:
    """``u``, ``t``: a flow in use and one that would be torn, with a second key each."""
    move = at(Step.EXPORTING)
    pinned, torn, aliases = (b"u", b"ua", b"t", b"ta"), (b"t", b"ta"), (b"ua", b"ta")
    move.handle(core.Answer(1, m.Exported(epoch=7, staged=0, pinned=pinned, torn=torn, aliases=aliases)), 11.0)
    assert (move.pinned, move.pinned_keys, move.torn) == ((b"u",), (b"u", b"ua"), 1)
    assert move.reason == "1 of its flows is in use at the source, 1 of its flows got another key meanwhile"


DIED = [
    (Step.RELEASING, False, False), (Step.RESUMING, False, False), (Step.COMMITTING, False, False),
    (Step.RESUMING, True, True), (Step.COMMITTING, True, True), (Step.EXPORTING, False, True),
]  # fmt: skip


@pytest.mark.parametrize(("step", "known", "stateless"), DIED, ids=str)
def test_a_new_process_knows_whether_all_state_had_arrived(step: Step, known: bool, stateless: bool) -> None:
    """``known``: the earlier process knew that the source was dead: it may have decided for that."""
    move = core.Move(PLAN, step=step, orphan=known)
    events: list[core.Event] = [core.Recover(99, known)]
    events += [] if known else [core.ReplicaLost(1)]
    events += [COMMITTED, core.Answer(2, m.Committed(epoch=99, flows=0)), OK]
    for event in events:
        if not move.ended:
            move.handle(event, 1.0)
    assert move.step is Step.DONE and move.stateless is stateless


@pytest.mark.parametrize("step", ASKS)
def test_replicas_are_asked_under_the_epoch_that_the_move_begins_under(step: Step) -> None:
    asks = ASKS[step](Situation(RENEWED, RENEWED.fence, fenced=True, references=1.0))
    assert {(ask.epoch, getattr(ask.message, "epoch", None)) for ask in asks} == {(9, 9)}


def test_answers_are_all_that_is_asked_for() -> None:
    asked = {ask.answer for asks in ASKS.values() for ask in asks(Situation(PLAN, 7, fenced=True, references=1.0))}
    assert asked | {m.AllStaged, m.Refused} == set(ANSWERS)


RETRIED = [
    (Step.RESUMING, core.Resume(7, SCOPE, 2)), (Step.RESTORING, core.Resume(7, SCOPE, 1)),
    (Step.CLEARING, core.Drain(7, 1)),
]  # fmt: skip


def test_a_failure_that_passed_is_no_reason_of_a_move_that_is_done() -> None:
    move = at(Step.RESUMING)
    for now in (11.0, 12.0):
        move.handle(core.NetworkFailed(f"write: UNAVAILABLE at {now}"), now)
        assert move.reason == "write: UNAVAILABLE at 11.0", "as long as that is what it waits for"
        move.handle(core.Tick(), now + 0.5)
    move.handle(OK, 13.0)
    move.handle(RELEASED, 13.1)
    assert move.step is Step.DONE and move.reason == ""


def test_a_failure_that_ended_a_move_stays_its_reason_whatever_passed_later() -> None:
    move = at(Step.RESTORING)
    move.handle(FAILED, 11.0)
    move.handle(core.Tick(), 11.5)
    move.handle(OK, 12.0)
    assert move.reason == "no switch"


@pytest.mark.parametrize(("step", "again"), RETRIED, ids=[step.value for step, _ in RETRIED])
def test_what_must_work_is_tried_until_it_does(step: Step, again: core.Instruction) -> None:
    move = at(step)
    assert move.handle(FAILED, 11.0) == []
    assert move.timer == 11.5
    assert move.handle(core.Tick(), 11.5) == [again]
    move.validate()


STRAYS = [EXPORTED, COMMITTED, RELEASED, THAWED, DISCARDED, refused(1, "Stage"), refused(3, "Commit")]


@pytest.mark.parametrize(("step", "stray"), list(product(STEPS, STRAYS)))
def test_late_and_strange_answers_change_nothing(step: Step, stray: core.Answer) -> None:
    """Answers are taken only in the step that asked, from the replica that was asked, under the epoch asked."""
    expected = {
        Step.EXPORTING: EXPORTED, Step.COMMITTING: COMMITTED, Step.RELEASING: RELEASED,
        Step.THAWING: THAWED, Step.DISCARDING: DISCARDED,
    }  # fmt: skip
    if expected.get(step) is stray:
        return
    move = at(step)
    assert move.handle(stray, 11.0) == []
    assert move.step is step


def test_events_that_make_no_sense_raise_with_the_story() -> None:
    move = at(Step.EXPORTING)
    with pytest.raises(InvalidTransition) as caught:
        move.handle(OK, 11.0)
    assert caught.value.epoch == 7 and len(caught.value.story) == 4
    with pytest.raises(InvalidTransition):
        at(Step.RESUMING).handle(core.Begin(), 11.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"source": 2}, {"target": 0}, {"scope": m.Scope()}, {"options": core.Options(deadline=-1.0)},
        {"options": core.Options(packets=0)},
    ],
    ids=str,
)  # fmt: skip
def test_plans_that_make_no_sense_are_refused(fields: dict[str, object]) -> None:
    good: dict[str, object] = {"epoch": 7, "scope": SCOPE, "source": 1, "target": 2}
    with pytest.raises(BadInput):
        core.Plan(**(good | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("path", Path)
def test_the_table_is_whole(path: Path) -> None:
    table = TRANSITIONS[path]
    reachable = {Step.PLANNED}
    for _ in Step:
        reachable |= {following for step in reachable for following in table[step].values()}
    assert reachable == set(table)
    for step in reachable - TERMINAL:
        assert Trigger.RECOVER in table[step], "a process may die in every step"
        assert Trigger.BOTH_GONE in table[step]
        assert (Trigger.OK in table[step]) == (step in NETWORK)
    assert {step for step, rows in table.items() if not rows} == TERMINAL
    assert SUSPENDED[path].isdisjoint(TERMINAL | POINTED | {Step.PLANNED, Step.PREPARING, Step.DISCARDING})


@pytest.mark.parametrize("path", Path)
def test_only_the_decision_and_a_replicas_death_cross_the_line(path: Path) -> None:
    table = TRANSITIONS[path]
    forward = {(s, t) for s, rows in table.items() for t, f in rows.items() if s not in DECIDED and f in DECIDED}
    allowed = {Trigger.NEW, Trigger.ANSWERED, Trigger.EXPORTED, Trigger.SOURCE_GONE}
    assert {trigger for _, trigger in forward} <= allowed
    back = {(s, t) for s, rows in table.items() for t, f in rows.items() if s in DECIDED and f not in DECIDED}
    turned = {(Step.COMMITTING, why) for why in (Trigger.REFUSED, Trigger.TARGET_GONE, Trigger.BOTH_GONE)}
    unswitched = {Path.FORWARD: {Step.FORWARDING, Step.SWITCHING}, Path.NONE: {Step.SWITCHING}}.get(path, set())
    assert back == turned | {(step, Trigger.TARGET_GONE) for step in unswitched}


def test_every_step_is_on_some_way() -> None:
    assert {step for table in TRANSITIONS.values() for step in table} == set(Step)


@pytest.mark.parametrize("path", Path)
def test_the_diagram_has_every_step_and_no_row_that_stays(path: Path) -> None:
    text = diagram(path)
    assert all(step.name in text for step in TRANSITIONS[path])
    assert "THAWING --> THAWING" not in text and "RELEASING --> RELEASING" not in text


def test_the_history_is_bounded() -> None:
    move = at(Step.COMMITTING)
    for number in range(1000):
        move.handle(core.ReplicaBack(1), float(number))
    assert len(move.history) == core.HISTORY
