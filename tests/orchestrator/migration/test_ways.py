"""The ways that moves take beside the controller's buffer: exact instructions, step by step."""

from __future__ import annotations

import pytest

from orchestrator import migration as core
from orchestrator.migration import Abandon, Begin, Instruction, NetworkDone, NetworkFailed, Redirect, Send, Suspend
from orchestrator.migration.paths import TRANSITIONS
from orchestrator.migration.steps import NETWORK, TERMINAL, Path, Step
from splitmerge import messages as m

SCOPE = m.Scope(keys=(b"k" * 13,), buckets=(5,))
S = Step
OK, FAILED = NetworkDone(), NetworkFailed("no switch")
OPTIONS: dict[Path, core.Options] = {
    Path.CPU: core.Options(buffer="cpu"),
    Path.REPLICA: core.Options(buffer="replica"),
    Path.FORWARD: core.Options(guarantee="no-buffer"),
    Path.NONE: core.Options(guarantee="none"),
}
PACKETS, BYTES = core.Options().room


def plan(path: Path, **changes: object) -> core.Plan:
    chosen = core.Options(**{name: getattr(OPTIONS[path], name) for name in core.Options.__struct_fields__} | changes)  # type: ignore[arg-type]
    return core.Plan(7, SCOPE, 1, 2, "unix:/two", "unix:/one", chosen)


def record(step: Step, relay: int = 7) -> core.Record:
    return core.Record(7, step, relay)


def behind(step: Step, relay: int = 7) -> core.Record:
    return core.Record(7, step, relay, later=True)


def export(**fields: object) -> m.Export:
    return m.Export(epoch=7, scope=SCOPE, target=2, address="unix:/two", deadline=0.25, **fields)  # type: ignore[arg-type]


PREPARE = m.Prepare(epoch=7, scope=SCOPE, packets=PACKETS, bytes=BYTES)
EXPORT = export(after=True)
KEEPING = export(late="keep", packets=PACKETS, bytes=BYTES)
DROPPING = export(late="drop")
COMMIT = m.Commit(epoch=7, scope=SCOPE, hold=False)
RELEASE = m.Release(epoch=7, scope=SCOPE)
FORWARD = m.Forward(epoch=7, address="unix:/two")
THAW = m.Thaw(epoch=7, scope=SCOPE)
RETURN = m.Return(epoch=7, address="unix:/one")
DISCARD = m.Discard(epoch=7)
PREPARED = core.Answer(2, m.Prepared(epoch=7))
EXPORTED = core.Answer(1, m.Exported(epoch=7, staged=1))
PINNED = core.Answer(1, m.Exported(epoch=7, staged=0, pinned=(b"k" * 13,)))
COMMITTED = core.Answer(2, m.Committed(epoch=7, flows=1, held=3, held_seconds=0.002, dropped=1))
FORWARDING = core.Answer(1, m.Forwarding(epoch=7))
RELEASED = core.Answer(1, m.Released(epoch=7, carried=4, dropped=2))
THAWED = core.Answer(1, m.Thawed(epoch=7))
RETURNED = core.Answer(2, m.Returned(epoch=7, carried=5))
SEAL = m.Seal(epoch=7)
SEALED = core.Answer(1, m.Sealed(epoch=7, taken=5))
DISCARDED = core.Answer(2, m.Discarded(epoch=7))
REFUSED = core.Answer(2, m.Refused(epoch=7, request="Commit", reason="no"))

Story = list[tuple[core.Event, list[Instruction]]]
FORTH: dict[Path, Story] = {
    Path.REPLICA: [
        (Begin(), [record(S.PREPARING), Send(2, PREPARE)]),
        (PREPARED, [record(S.REDIRECTING), Redirect(7, SCOPE, 1, 2)]),
        (OK, [core.Drain(7, 1), Send(1, EXPORT, later=True), behind(S.DRAINING)]),
        (EXPORTED, []),
        (OK, [record(S.COMMITTING), Send(2, COMMIT)]),
        (COMMITTED, [record(S.RELEASING), Send(1, RELEASE)]),
        (RELEASED, [record(S.DONE)]),
    ],
    Path.FORWARD: [
        (Begin(), [record(S.RESERVING), core.Reserve(7, SCOPE.keys, 1)]),
        (OK, [record(S.EXPORTING), Send(1, KEEPING)]),
        (EXPORTED, [record(S.COMMITTING), Send(2, COMMIT)]),
        (COMMITTED, [record(S.FORWARDING), Send(1, FORWARD)]),
        (FORWARDING, [record(S.SWITCHING), Redirect(7, SCOPE, 1, 2)]),
        (OK, [record(S.SETTLING), core.Drain(7, 1)]),
        (OK, [record(S.RELEASING), Send(1, RELEASE)]),
        (RELEASED, [record(S.DONE)]),
    ],
    Path.NONE: [
        (Begin(), [record(S.RESERVING), core.Reserve(7, SCOPE.keys, 1)]),
        (OK, [record(S.EXPORTING), Send(1, DROPPING)]),
        (EXPORTED, [record(S.COMMITTING), Send(2, COMMIT)]),
        (COMMITTED, [record(S.SWITCHING), Redirect(7, SCOPE, 1, 2)]),
        (OK, [record(S.SETTLING), core.Drain(7, 1)]),
        (OK, [record(S.RELEASING), Send(1, RELEASE)]),
        (RELEASED, [record(S.DONE)]),
    ],
}
BACK: Story = [
    (OK, [record(S.CLEARING), core.Drain(7, 1)]),
    (OK, [record(S.THAWING), Send(1, THAW)]),
    (THAWED, [record(S.GATHERING), core.Drain(7, 2)]),
    (OK, [record(S.RETURNING), Send(2, RETURN)]),
    (RETURNED, [record(S.SEALING), Send(1, SEAL)]),
    (SEALED, [record(S.RESTORING), core.Resume(7, SCOPE, 1)]),
    (OK, [record(S.DISCARDING), Send(2, DISCARD)]),
    (DISCARDED, [record(S.UNDONE)]),
]
RECALL: list[Instruction] = [record(S.RECALLING), Suspend(7, SCOPE, 1)]


def told(move: core.Move, story: Story) -> None:
    for now, (event, expected) in enumerate(story, 10):
        assert move.handle(event, float(now)) == expected
        move.validate()


def at(path: Path, step: Step, **changes: object) -> core.Move:
    """A move that has come to this step the ordinary way, forth or back."""
    move = core.Move(plan(path, **changes))
    for event, _ in FORTH[path]:
        if move.step is step:
            return move
        move.handle(event, 10.0)
    if move.step is step:
        return move
    move = at(path, S.REDIRECTING)
    for event, _ in [(FAILED, []), *BACK]:
        if move.step is step:
            return move
        move.handle(event, 10.0)
    raise AssertionError(step)


@pytest.mark.parametrize("path", FORTH, ids=str)
def test_from_plan_to_done(path: Path) -> None:
    move = core.Move(plan(path))
    told(move, FORTH[path])
    assert move.ended and move.owners() == ({5: 2}, {b"k" * 13: 2})
    figures = move.figures
    assert (figures.held, figures.held_seconds, figures.carried, figures.dropped) == (3, 0.002, 4, 3)
    assert figures.suspended == {Path.REPLICA: 4.0, Path.FORWARD: 3.0}.get(path, 0.0)


def test_an_export_that_comes_after_the_echo_is_waited_for() -> None:
    move = at(Path.REPLICA, S.DRAINING)
    assert move.handle(OK, 11.0) == [record(S.EXPORTING)]
    assert move.handle(EXPORTED, 11.1) == [record(S.COMMITTING), Send(2, COMMIT)]


OFF: list[tuple[str, Step, list[core.Event], list[Instruction]]] = [
    ("the redirection fails", S.REDIRECTING, [FAILED], RECALL),
    ("cancelled while redirecting", S.REDIRECTING, [core.Cancel("off"), OK], RECALL),
    ("cancelled while draining", S.DRAINING, [core.Cancel("off"), FAILED], [Abandon(7), *RECALL]),
    ("flows in use, told early", S.DRAINING, [PINNED, OK], RECALL),
    ("flows in use, told late", S.EXPORTING, [PINNED], RECALL),
    ("the export takes too long", S.EXPORTING, [core.Tick()], RECALL),
    ("the buffer is nearly full", S.EXPORTING, [core.BufferFull("replica 2")], RECALL),
    (
        "the commit is refused",
        S.COMMITTING,
        [core.Answer(2, m.Refused(epoch=7, request="Commit", reason="no"))],
        RECALL,
    ),
]


@pytest.mark.parametrize(("step", "events", "expected"), [off[1:] for off in OFF], ids=[off[0] for off in OFF])
def test_what_the_target_kept_goes_back_to_the_source(
    step: Step, events: list[core.Event], expected: list[Instruction]
) -> None:
    move = at(Path.REPLICA, S.DRAINING if step is S.EXPORTING else step)
    if step is S.EXPORTING:
        move.handle(OK, 11.0)
    assert [out for event in events for out in move.handle(event, 50.0)] == expected
    told(move, BACK)
    assert move.step is S.UNDONE and move.reason and move.owners() == ({}, {b"k" * 13: 1})
    assert move.figures.carried == 5


def test_before_the_switch_is_touched_there_is_nothing_to_give_back() -> None:
    move = at(Path.REPLICA, S.PREPARING)
    assert move.handle(core.Cancel("off"), 11.0) == [record(S.DISCARDING), Send(2, DISCARD)]
    assert move.handle(DISCARDED, 11.1) == [record(S.UNDONE)]
    assert move.owners() == ({}, {})


@pytest.mark.parametrize("path", [Path.FORWARD, Path.NONE])
def test_without_a_buffer_the_source_just_goes_on(path: Path) -> None:
    move = at(path, S.EXPORTING)
    thaw = m.Thaw(epoch=7, scope=SCOPE, hold=False)
    assert move.handle(PINNED, 11.0) == [record(S.THAWING), Send(1, thaw)]
    assert move.handle(THAWED, 11.1) == [record(S.DISCARDING), Send(2, DISCARD)]
    assert move.handle(DISCARDED, 11.2) == [record(S.UNDONE)]
    assert move.pinned and move.owners() == ({}, {b"k" * 13: 1}), "there is an entry, which leads where it led"


def test_a_deadline_calls_off_what_is_not_decided() -> None:
    move = at(Path.REPLICA, S.PREPARING, deadline=0.1)
    assert move.timer == pytest.approx(10.1)
    assert move.handle(core.Tick(), 10.1) == [record(S.DISCARDING), Send(2, DISCARD)]
    assert move.reason == "not decided within 0.1 s"
    decided = at(Path.REPLICA, S.COMMITTING, deadline=0.1)
    assert decided.handle(core.Tick(), 10.1) == [] and decided.step is S.COMMITTING


def test_a_full_buffer_is_left_to_drop_if_the_plan_says_so() -> None:
    move = at(Path.REPLICA, S.REDIRECTING, when_full="drop")
    assert move.handle(core.BufferFull("replica 2"), 11.0) == []
    assert move.handle(OK, 11.1)[-1] == behind(S.DRAINING)


HOLDING = m.Commit(epoch=7, scope=SCOPE, hold=True)
DEATHS: list[tuple[Path, Step, int, list[Instruction]]] = [
    (Path.REPLICA, S.PREPARING, 2, [record(S.UNDONE)]),
    (Path.REPLICA, S.PREPARING, 1, []),
    (Path.REPLICA, S.REDIRECTING, 1, []),
    (Path.REPLICA, S.DRAINING, 1, [Abandon(7)]),
    (Path.REPLICA, S.DRAINING, 2, []),
    (Path.REPLICA, S.COMMITTING, 2, RECALL),
    (Path.REPLICA, S.RELEASING, 1, [record(S.DONE)]),
    (Path.REPLICA, S.RECALLING, 1, []),
    (Path.REPLICA, S.CLEARING, 1, [Abandon(7)]),
    (Path.REPLICA, S.THAWING, 1, [record(S.GATHERING), core.Drain(7, 2)]),
    (Path.REPLICA, S.THAWING, 2, []),
    (Path.REPLICA, S.GATHERING, 2, [Abandon(7)]),
    (Path.REPLICA, S.GATHERING, 1, []),
    (Path.REPLICA, S.RETURNING, 1, [record(S.COMMITTING), Send(2, HOLDING)]),
    (Path.REPLICA, S.RETURNING, 2, [record(S.SEALING), Send(1, SEAL)]),
    (Path.REPLICA, S.SEALING, 1, [record(S.COMMITTING), Send(2, HOLDING)]),
    (Path.REPLICA, S.SEALING, 2, []),
    (Path.FORWARD, S.EXPORTING, 1, [record(S.COMMITTING), Send(2, COMMIT)]),
    (Path.FORWARD, S.COMMITTING, 1, []),
    (Path.FORWARD, S.FORWARDING, 1, [record(S.SWITCHING), Redirect(7, SCOPE, 1, 2)]),
    (Path.FORWARD, S.FORWARDING, 2, [record(S.THAWING), Send(1, m.Thaw(epoch=7, scope=SCOPE, hold=False))]),
    (Path.FORWARD, S.SWITCHING, 1, []),
    (Path.FORWARD, S.SWITCHING, 2, []),
    (Path.FORWARD, S.SETTLING, 1, [Abandon(7)]),
    (Path.FORWARD, S.SETTLING, 2, []),
    (Path.FORWARD, S.RELEASING, 2, [Send(1, m.Release(epoch=7, scope=SCOPE, carry=False))]),
    (Path.NONE, S.RELEASING, 1, [record(S.DONE)]),
]


@pytest.mark.parametrize(("path", "step", "replica", "expected"), DEATHS, ids=str)
def test_a_replica_dies(path: Path, step: Step, replica: int, expected: list[Instruction]) -> None:
    move = at(path, step)
    assert move.handle(core.ReplicaLost(replica), 11.0) == expected
    move.validate()


def test_the_target_takes_over_from_a_source_that_dies_though_the_move_was_off() -> None:
    move = at(Path.REPLICA, S.THAWING)
    move.handle(core.ReplicaLost(1), 11.0)
    assert move.handle(OK, 11.1) == [record(S.COMMITTING), Send(2, HOLDING)]
    assert move.handle(COMMITTED, 11.2) == [core.Resume(7, SCOPE, 2, new=True), behind(S.RESUMING)]
    assert move.handle(OK, 11.3) == [record(S.DONE)]


def test_the_target_takes_over_from_a_source_that_dies_while_it_is_given_its_packets_back() -> None:
    move = at(Path.REPLICA, S.RETURNING)
    move.handle(core.ReplicaLost(1), 11.0)
    assert move.handle(COMMITTED, 11.2) == [core.Resume(7, SCOPE, 2, new=True), behind(S.RESUMING)]
    assert move.handle(OK, 11.3) == [record(S.DONE)]


def test_giving_packets_back_takes_as_long_as_it_takes() -> None:
    """A slow source would get what is younger before it had what the target still sends."""
    move = at(Path.REPLICA, S.RETURNING)
    for second in range(11, 100):
        assert move.handle(core.Tick(), float(second)) in ([], [Send(2, RETURN)]) and move.step is S.RETURNING
    assert move.handle(RETURNED, 100.0) == [record(S.SEALING), Send(1, SEAL)]


TAKEN = [
    ("all", RETURNED, 5, (5, 0)),
    ("all but what was given up", core.Answer(2, m.Returned(epoch=7, carried=5, dropped=2)), 3, (3, 4)),
    ("more than was acknowledged", core.Answer(2, m.Returned(epoch=7, carried=5, dropped=2)), 5, (5, 2)),
    ("what a target sent before it died", core.ReplicaLost(2), 4, (4, 0)),
]


@pytest.mark.parametrize(("end", "taken", "figures"), [each[1:] for each in TAKEN], ids=[each[0] for each in TAKEN])
def test_what_came_back_is_what_the_source_says_that_it_has_taken(
    end: core.Event, taken: int, figures: tuple[int, int]
) -> None:
    move = at(Path.REPLICA, S.RETURNING)
    assert move.handle(end, 11.0) == [record(S.SEALING), Send(1, SEAL)]
    assert (move.figures.carried, move.figures.dropped) == (0, 0)
    sealed = core.Answer(1, m.Sealed(epoch=7, taken=taken))
    assert move.handle(sealed, 11.1) == [record(S.RESTORING), core.Resume(7, SCOPE, 1)]
    assert (move.figures.carried, move.figures.dropped) == figures


@pytest.mark.parametrize("step", [S.GATHERING, S.THAWING])
def test_a_new_process_does_not_know_whether_a_target_that_is_dead_gave_anything_back(step: Step) -> None:
    move = core.Move(plan(Path.REPLICA), step=S.RETURNING)
    move.target_gone = step is S.THAWING
    move.handle(core.Recover(99), 0.0)
    assert move.handle(THAWED, 0.1) == [Send(1, m.Thaw(epoch=99, scope=SCOPE))]
    out = move.handle(core.Answer(1, m.Thawed(epoch=99)), 0.2)
    if step is S.GATHERING:
        assert out == [record(S.GATHERING, 99), core.Drain(99, 2)]
        move.handle(core.ReplicaLost(2), 0.3)
        out = move.handle(FAILED, 0.4)
    assert out == [record(S.SEALING, 99), Send(1, SEAL)]
    assert move.handle(SEALED, 0.5) == [record(S.RESTORING, 99), core.Resume(99, SCOPE, 1)]


def test_a_source_that_dies_when_it_has_its_packets_back_is_followed_by_the_target() -> None:
    """What the target answers to Commit counts all that nobody has got; so what it said before does not."""
    move = at(Path.REPLICA, S.RETURNING)
    move.handle(core.Answer(2, m.Returned(epoch=7, carried=5, dropped=2)), 11.0)
    assert move.handle(core.ReplicaLost(1), 11.1) == [record(S.COMMITTING), Send(2, HOLDING)]
    move.handle(core.Answer(2, m.Committed(epoch=7, flows=1, dropped=7)), 11.2)
    assert (move.figures.carried, move.figures.dropped) == (0, 7)


def test_a_source_that_dies_while_flows_are_thawed_without_a_buffer_is_followed_by_the_target() -> None:
    move = at(Path.FORWARD, S.EXPORTING)
    move.handle(core.Cancel("off"), 11.0)
    assert move.handle(core.ReplicaLost(1), 11.1) == [record(S.COMMITTING), Send(2, COMMIT)]
    assert move.handle(COMMITTED, 11.2) == [record(S.SWITCHING), Redirect(7, SCOPE, 1, 2)]


def test_where_the_switch_points_must_be_known_before_the_target_takes_over() -> None:
    move = at(Path.REPLICA, S.REDIRECTING)
    assert move.handle(core.ReplicaLost(1), 11.0) == []
    assert move.handle(FAILED, 11.1) == RECALL
    assert move.handle(OK, 11.2) == [record(S.GATHERING), core.Drain(7, 2)]


def test_entries_that_the_switch_has_no_room_for_do_not_stop_the_way_back() -> None:
    move = at(Path.REPLICA, S.REDIRECTING)
    assert move.handle(NetworkFailed("full", refused=True), 11.0) == RECALL
    assert move.handle(NetworkFailed("full", refused=True), 11.1) == [record(S.CLEARING), core.Drain(7, 1)]


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize(
    ("path", "step"), [(path, step) for path in FORTH for step in TRANSITIONS[path] if step not in TERMINAL], ids=str
)
def test_with_both_replicas_dead_a_move_ends(path: Path, step: Step, first: int) -> None:
    back = path is not Path.REPLICA and step in (S.THAWING, S.DISCARDING, S.RESTORING)
    if back or step in (S.PLANNED, S.RESUMING, S.EXPORTING):
        return  # on the ordinary way of this test's helper there is no such step
    move = at(path, step)
    events: list[core.Event] = [core.ReplicaLost(first), core.ReplicaLost(3 - first)]
    for event in events:
        events += [FAILED for each in move.handle(event, 11.0) if isinstance(each, Abandon)]
    if not move.ended and move.step in NETWORK:
        move.handle(OK, 12.0)
    assert move.ended, move.step
    move.validate()


RECOVERIES: list[tuple[Path, Step, list[Instruction]]] = [
    (Path.REPLICA, S.PREPARING, [record(S.DISCARDING, 99), Send(2, DISCARD)]),
    *[
        (Path.REPLICA, step, [record(S.THAWING, 99), Send(1, THAW)])
        for step in (
            S.REDIRECTING,
            S.DRAINING,
            S.RECALLING,
            S.CLEARING,
            S.GATHERING,
            S.RETURNING,
            S.SEALING,
            S.RESTORING,
        )
    ],
    *[(Path.REPLICA, step, [record(S.COMMITTING, 99), Send(2, COMMIT)]) for step in (S.COMMITTING, S.RESUMING)],
    (Path.REPLICA, S.RELEASING, [record(S.RELEASING, 99), Send(1, RELEASE)]),
    (Path.FORWARD, S.EXPORTING, [record(S.THAWING, 99), Send(1, m.Thaw(epoch=7, scope=SCOPE, hold=False))]),
    (Path.FORWARD, S.COMMITTING, [record(S.COMMITTING, 99), Send(2, COMMIT)]),
    (Path.FORWARD, S.FORWARDING, [record(S.FORWARDING, 99), Send(1, FORWARD)]),
    (Path.FORWARD, S.SWITCHING, [record(S.SWITCHING, 99), Redirect(99, SCOPE, 1, 2)]),
    (Path.NONE, S.SETTLING, [record(S.SETTLING, 99), core.Drain(99, 1)]),
]


@pytest.mark.parametrize(("path", "step", "expected"), RECOVERIES, ids=str)
def test_a_new_process_takes_up_each_step(path: Path, step: Step, expected: list[Instruction]) -> None:
    move = core.Move(plan(path), step=step)
    assert move.handle(core.Recover(99), 0.0) == expected


def test_after_recovery_the_controllers_buffer_is_delivered_behind_what_the_target_kept() -> None:
    move = core.Move(plan(Path.REPLICA), step=S.COMMITTING)
    move.handle(core.Recover(99), 0.0)
    assert move.handle(COMMITTED, 0.1) == [Send(2, m.Commit(epoch=99, scope=SCOPE))]
    holding = core.Answer(2, m.Committed(epoch=99, flows=0))
    assert move.handle(holding, 0.2) == [core.Resume(99, SCOPE, 2), behind(S.RESUMING, 99)]


THAW_NOW = m.Thaw(epoch=7, scope=SCOPE, hold=False)


@pytest.mark.parametrize("path", [Path.FORWARD, Path.NONE])
def test_a_new_process_points_the_switch_to_the_target_though_the_source_is_dead(path: Path) -> None:
    move = core.Move(plan(path), step=S.SWITCHING)
    move.source_gone = True
    assert move.handle(core.Recover(99), 0.0) == [record(S.SWITCHING, 99), Redirect(99, SCOPE, 1, 2)]
    assert move.handle(FAILED, 0.1) == []
    assert move.handle(core.Tick(), 0.6) == [Redirect(99, SCOPE, 1, 2)]
    assert move.handle(OK, 0.7) == [record(S.DONE, 99)]
    assert move.owners() == ({5: 2}, {b"k" * 13: 2})


@pytest.mark.parametrize("path", [Path.FORWARD, Path.NONE])
def test_a_new_process_leaves_the_flows_at_the_source_if_the_target_died_before_the_switch_pointed_to_it(
    path: Path,
) -> None:
    move = core.Move(plan(path), step=S.SWITCHING)
    move.target_gone = True
    assert move.handle(core.Recover(99), 0.0) == [record(S.THAWING, 99), Send(1, THAW_NOW)]
    assert move.handle(THAWED, 0.1) == [record(S.UNDONE, 99)]


@pytest.mark.parametrize("path", [Path.FORWARD, Path.NONE])
def test_a_target_that_dies_before_the_switch_points_to_it_leaves_the_flows_at_the_source(path: Path) -> None:
    move = at(path, S.SWITCHING)
    told(move, [
        (core.ReplicaLost(2), []),
        (FAILED, [record(S.THAWING), Send(1, THAW_NOW)]),
        (THAWED, [record(S.RESTORING), Redirect(7, SCOPE, 1, 1)]),
        (FAILED, []),
        (core.Tick(), [Redirect(7, SCOPE, 1, 1)]),
        (OK, [record(S.UNDONE)]),
    ])  # fmt: skip
    assert move.owners() == ({}, {b"k" * 13: 1})


FULL = NetworkFailed("full", refused=True)
RESERVED: list[tuple[str, Story, Step, dict[bytes, int]]] = [
    ("the switch has no room", [(FULL, [record(S.UNDONE)])], S.UNDONE, {}),
    ("called off meanwhile", [(core.Cancel("off"), []), (OK, [record(S.UNDONE)])], S.UNDONE, {b"k" * 13: 1}),
    (
        "the switch does not answer: what was written is written again, to the source, until it does",
        [
            (FAILED, [record(S.RESTORING), Redirect(7, SCOPE, 1, 1)]),
            (FAILED, []),
            (core.Tick(), [Redirect(7, SCOPE, 1, 1)]),
            (OK, [record(S.DISCARDING), Send(2, DISCARD)]),
            (DISCARDED, [record(S.UNDONE)]),
        ],
        S.UNDONE, {b"k" * 13: 1},
    ),
    (
        "nor does it when the target dies",
        [
            (core.ReplicaLost(2), []),
            (FAILED, [record(S.RESTORING), Redirect(7, SCOPE, 1, 1)]),
            (OK, [record(S.UNDONE)]),
        ],
        S.UNDONE, {b"k" * 13: 1},
    ),
    ("the target dies", [(core.ReplicaLost(2), []), (OK, [record(S.UNDONE)])], S.UNDONE, {b"k" * 13: 1}),
    (
        "the source dies",
        [(core.ReplicaLost(1), []), (OK, [record(S.COMMITTING), Send(2, COMMIT)])], S.COMMITTING, {b"k" * 13: 1},
    ),
]  # fmt: skip


@pytest.mark.parametrize("path", [Path.FORWARD, Path.NONE])
@pytest.mark.parametrize(("story", "ends", "flows"), [row[1:] for row in RESERVED], ids=[row[0] for row in RESERVED])
def test_without_a_buffer_there_is_room_before_the_decision_or_no_move(
    path: Path, story: Story, ends: Step, flows: dict[bytes, int]
) -> None:
    move = at(path, S.RESERVING)
    told(move, story)
    assert move.step is ends and move.owners() == ({}, flows)


def test_buckets_need_no_room() -> None:
    move = core.Move(core.Plan(7, m.Scope(buckets=(5,)), 1, 2, options=OPTIONS[Path.NONE]))
    assert move.handle(Begin(), 1.0)[0] == record(S.EXPORTING)


def test_entries_that_were_never_made_need_not_be_pointed_back() -> None:
    full = NetworkFailed("full", refused=True)
    told(at(Path.FORWARD, S.SWITCHING), [
        (full, []),
        (core.ReplicaLost(2), [record(S.THAWING), Send(1, THAW_NOW)]),
        (THAWED, [record(S.RESTORING), Redirect(7, SCOPE, 1, 1)]),
        (full, [record(S.UNDONE)]),
    ])  # fmt: skip


@pytest.mark.parametrize("path", [Path.FORWARD, Path.NONE])
def test_between_two_tries_too(path: Path) -> None:
    move = at(path, S.SWITCHING)
    assert move.handle(FAILED, 11.0) == []
    assert move.handle(core.ReplicaLost(2), 11.1) == [record(S.THAWING), Send(1, THAW_NOW)]


@pytest.mark.parametrize("path", [Path.FORWARD, Path.NONE])
def test_a_target_that_dies_as_the_switch_points_to_it_is_a_dead_owner(path: Path) -> None:
    move = at(path, S.SWITCHING)
    told(move, [
        (core.ReplicaLost(2), []),
        (OK, [record(S.SETTLING), core.Drain(7, 1)]),
        (OK, [record(S.RELEASING), Send(1, m.Release(epoch=7, scope=SCOPE, carry=False))]),
        (RELEASED, [record(S.DONE)]),
    ])  # fmt: skip


def test_what_is_staged_is_discarded_however_long_that_takes() -> None:
    move = at(Path.REPLICA, S.PREPARING)
    move.handle(core.Cancel("off"), 11.0)
    for second in range(12, 60):
        assert move.handle(core.Tick(), float(second)) in ([], [Send(2, DISCARD)]) and not move.ended
    assert move.handle(core.ReplicaBack(2), 60.0) == [Send(2, DISCARD)]
    assert move.handle(DISCARDED, 60.1) == [record(S.UNDONE)]


@pytest.mark.parametrize(("step", "gone", "ends"), [(S.RELEASING, {"source"}, True), (S.DISCARDING, {"target"}, True)])
def test_a_recovered_move_waits_for_nobody_who_is_gone(step: Step, gone: set[str], ends: bool) -> None:
    move = core.Move(plan(Path.REPLICA), step=step)
    move.source_gone, move.target_gone = "source" in gone, "target" in gone
    move.handle(core.Recover(99), 0.0)
    assert move.ended is ends


@pytest.mark.parametrize(
    ("path", "step"),
    [
        *((Path.CPU, step) for step in (S.SUSPENDING, S.COMMITTING, S.THAWING, S.RELEASING)),
        (Path.FORWARD, S.EXPORTING), (Path.FORWARD, S.SWITCHING),
    ],
)  # fmt: skip
def test_how_long_packets_waited_in_an_earlier_process_is_not_known(path: Path, step: Step) -> None:
    """And not "0 ms", which a move that held nothing back has."""
    move = core.Move(plan(path), step=step)
    move.handle(core.Recover(99), 0.0)
    assert move.figures.suspended is None


@pytest.mark.parametrize(
    ("path", "step"), [(Path.REPLICA, S.PREPARING), (Path.FORWARD, S.RESERVING), (Path.NONE, S.EXPORTING)]
)
def test_a_recovered_move_that_held_nothing_back_says_so(path: Path, step: Step) -> None:
    move = core.Move(plan(path), step=step)
    move.handle(core.Recover(99), 0.0)
    assert move.figures.suspended == 0


@pytest.mark.parametrize("step", [S.EXPORTING, S.COMMITTING, S.RELEASING])
def test_a_recovered_move_says_that_its_target_is_gone(step: Step) -> None:
    """Also behind the decision, where the end of the orchestrator alone would not have undone it."""
    move = core.Move(plan(Path.REPLICA), step=step)
    move.target_gone = True
    move.handle(core.Recover(99), 0.0)
    assert move.reason.endswith("replica 2 is gone")


def test_loss_free_through_the_controller_holds_nothing_and_delivers_at_once() -> None:
    move = core.Move(plan(Path.CPU, guarantee="loss-free"))
    story: Story = [
        (Begin(), [record(S.SUSPENDING), Suspend(7, SCOPE, 1)]),
        (OK, [core.Drain(7, 1), Send(1, EXPORT, later=True), behind(S.DRAINING)]),
        (EXPORTED, []),
        (OK, [record(S.COMMITTING), Send(2, COMMIT)]),
        (COMMITTED, [core.Resume(7, SCOPE, 2, ordered=False), behind(S.RESUMING)]),
    ]
    told(move, story)


@pytest.mark.parametrize(
    ("path", "step", "follows"),
    [
        (Path.CPU, S.SUSPENDING, True),
        (Path.CPU, S.RESUMING, False),
        (Path.REPLICA, S.REDIRECTING, True),
        (Path.REPLICA, S.RECALLING, True),
        (Path.REPLICA, S.RESTORING, False),
        (Path.FORWARD, S.SWITCHING, True),
        (Path.FORWARD, S.RESERVING, False),
        (Path.FORWARD, S.RESTORING, False),
        (Path.NONE, S.SWITCHING, True),
    ],
)
def test_the_network_is_told_if_a_marker_for_the_source_is_to_follow(path: Path, step: Step, follows: bool):
    """It may send it at once; but to nobody who has died, and for flows that nobody has had there is no source."""
    assert core.Move(plan(path), step=step).drains_next is follows
    assert not core.Move(plan(path), step=step, orphan=True).drains_next
