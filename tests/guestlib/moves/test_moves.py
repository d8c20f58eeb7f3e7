"""Moves message by message: the exact instructions, and what is refused or ignored."""

from __future__ import annotations

import msgspec
import pytest

from guestlib import FlowMigrated, Guest
from guestlib.instructions import Process, Reply, ToOrchestrator, ToPeer
from guestlib.moves.epochs import MOST, Decided, Outcomes
from guestlib.moves.exports import (
    LARGEST_STATE,
    PART_BYTES,
    PART_FLOWS,
    SLICE,
    STAGE_RETRY,
    WINDOW,
    WINDOW_BYTES,
    Phase,
)
from splitmerge.messages import (
    AllStaged,
    Carried,
    Carry,
    Commit,
    Committed,
    Discard,
    Discarded,
    Exported,
    FlowRecord,
    Forward,
    Forwarding,
    Message,
    MovesOver,
    Prepare,
    Prepared,
    Refused,
    Release,
    Released,
    Scope,
    Stage,
    Staged,
    Thaw,
    Thawed,
    TimerRecord,
)
from splitmerge.tag import Tag, TagKind
from tests.guestlib.conftest import Count, frame_of, key_of, number_in
from tests.guestlib.moves.replicas import K1, K2, SCOPE, Blob, export, refused, said, stage


def test_a_whole_move(source: Guest, target: Guest) -> None:
    source.create_flow(key_of(1), Count(7), aliases=[key_of(9)])
    source.flow_timer(key_of(1), 30.0, "idle")
    (step,) = source.handle(export(), 10.0)
    timers = (TimerRecord(name="idle", remaining=20.0),)
    state = msgspec.msgpack.encode(Count(7))
    record = FlowRecord(key=K1, kind="Count", state=state, timers=timers, aliases=(bytes(key_of(9)),))
    assert step == ToPeer("unix:/t", Stage(epoch=5, source=1, part=0, parts=1, flows=(record,), whole=True))
    with pytest.raises(FlowMigrated):
        source.get_flow(key_of(1))
    staged = Reply(Staged(epoch=5, part=0))
    assert target.handle(step.message, 11.0) == [ToOrchestrator(AllStaged(epoch=5, staged=1)), staged]
    assert target.handle(step.message, 11.0) == [staged], "it is said once"
    assert not target.has_flow(key_of(1))
    exported = ToOrchestrator(Exported(epoch=5, staged=1))
    assert source.handle(Staged(epoch=5, part=0), 12.0) == [exported]
    assert source.handle(export(), 12.0) == [exported]
    assert target.handle(Commit(epoch=5, scope=SCOPE), 13.0) == [ToOrchestrator(Committed(epoch=5, flows=1))]
    assert target.table.find(key_of(9)).state == Count(7)
    assert target.timers.next_due() == 31.0
    assert target.plane.arriving(SCOPE) == 5
    assert target.plane.arriving(Scope(keys=(bytes(key_of(9)),))) == 5
    assert source.handle(Release(epoch=5, scope=SCOPE), 14.0) == [ToOrchestrator(Released(epoch=5))]
    for key in (key_of(1), key_of(9)):
        with pytest.raises(FlowMigrated, match="migrated in epoch 5"):
            source.create_flow(key, Count())
    assert source.table.fences.refused == 3
    # repeats are answered alike and change nothing, nor is the hold, once over, begun again
    target.plane.handle(Tag(TagKind.END, 5, 1).push(frame_of(0)), 100.0)
    assert target.handle(Commit(epoch=5, scope=SCOPE), 101.0) == [ToOrchestrator(Committed(epoch=5, flows=1))]
    assert target.plane.quiet
    assert source.handle(Release(epoch=5, scope=SCOPE), 15.0) == [ToOrchestrator(Released(epoch=5))]
    assert target.handle(step.message, 16.0) == [staged], "a source that has not heard that it is there repeats it"
    assert "has the epoch as released" in refused(source.handle(export(), 17.0))


def test_a_move_that_is_called_off(source: Guest, target: Guest) -> None:
    source.create_flow(key_of(1), Count(7), aliases=[key_of(9)])
    source.flow_timer(key_of(1), 5.0, "idle")
    (step,) = source.handle(export(), 0.0)
    target.handle(step.message, 0.0)
    assert target.handle(Discard(epoch=5), 0.0) == [ToOrchestrator(Discarded(epoch=5))]
    assert target.handle(Discard(epoch=5), 0.0) == [ToOrchestrator(Discarded(epoch=5))]
    assert target.handle(step.message, 0.0) == []
    assert "discarded" in refused(target.handle(Commit(epoch=5, scope=SCOPE), 0.0))
    assert source.handle(Thaw(epoch=5, scope=SCOPE), 9.0) == [ToOrchestrator(Thawed(epoch=5))]
    assert source.get_flow(key_of(9)) == Count(7)
    assert source.plane.arriving(Scope(keys=(bytes(key_of(9)),))) == 5
    assert source.timers.next_due() == 5.0
    assert source.handle(Thaw(epoch=5, scope=SCOPE), 9.0) == [ToOrchestrator(Thawed(epoch=5))]
    assert "thawed" in refused(source.handle(Release(epoch=5, scope=SCOPE), 9.0))
    assert source.handle(Staged(epoch=5, part=0), 9.0) == []


def test_decisions_about_epochs_not_met_before(source: Guest) -> None:
    assert source.handle(Thaw(epoch=4, scope=SCOPE, hold=False), 0.0) == [ToOrchestrator(Thawed(epoch=4))]
    assert source.plane.quiet
    assert "thawed" in refused(source.handle(export(4), 0.0))
    assert source.handle(Discard(epoch=6), 0.0) == [ToOrchestrator(Discarded(epoch=6))]
    assert source.handle(Release(epoch=7, scope=Scope(keys=(K1,), buckets=(3,))), 0.0) == [
        ToOrchestrator(Released(epoch=7))
    ]
    with pytest.raises(FlowMigrated):
        source.create_flow(key_of(1), Count())
    source.create_flow(key_of(2), Count())
    assert "not exported" in refused(source.handle(Release(epoch=8, scope=Scope(keys=(K2,))), 0.0))
    assert source.handle(Commit(epoch=9, scope=SCOPE), 0.0) == [ToOrchestrator(Committed(epoch=9, flows=0))]
    source.create_flow(key_of(1), Count())


@pytest.mark.parametrize(
    "message",
    [export(3), Commit(epoch=3, scope=SCOPE), Release(epoch=3, scope=SCOPE), stage(3)],
    ids=lambda message: type(message).__name__,
)
@pytest.mark.parametrize("by", ["flow", "fence", "bucket"])
def test_an_older_epoch_is_refused_and_changes_nothing(target: Guest, message: Message, by: str) -> None:
    if by == "flow":
        target.handle(stage(5), 0.0)
        target.handle(Commit(epoch=5, scope=SCOPE), 0.0)
    elif by == "fence":
        target.handle(Release(epoch=5, scope=SCOPE), 0.0)
    else:
        target.handle(Release(epoch=5, scope=Scope(buckets=(key_of(1).bucket,))), 0.0)
    assert "5" in refused(target.handle(message, 0.0))
    assert target.moves.phase(3) in (None, Phase.REFUSED)
    assert target.has_flow(key_of(1)) == (by == "flow")


@pytest.mark.parametrize("met", [True, False], ids=["Export was refused", "Export never came"])
def test_what_is_undone_is_never_too_old_and_its_packets_come_back(source: Guest, met: bool) -> None:
    """Moves of a flow never overlap: whatever came here since was over when the one that is undone began."""
    source.handle(stage(8), 0.0)
    source.handle(Commit(epoch=8, scope=SCOPE, hold=False), 0.0)
    if met:
        assert "brought here by epoch 8" in refused(source.handle(export(), 0.0))
    assert said(source.handle(Thaw(epoch=5, scope=SCOPE), 0.0)) == [Thawed(epoch=5)]
    assert source.plane.handle(frame_of(1, 3), 0.0) == [], "it is younger than those at the target and the controller"
    steps = source.handle(Carry(epoch=5, number=1, frames=(frame_of(1, 0),)), 0.0)
    assert [number_in(step.frame) for step in steps if isinstance(step, Process)] == [0]
    assert Reply(Carried(epoch=5, expected=2)) in steps
    released = source.plane.handle(Tag(TagKind.END, 5, 1).push(frame_of(0)), 0.0)
    assert [number_in(step.frame) for step in released if isinstance(step, Process)] == [3]


def test_a_refused_export_keeps_its_answer_until_it_is_thawed(source: Guest) -> None:
    source.create_flow(key_of(1), Count())
    source.plane.hold(3, [key_of(1)], [], 0.0)
    assert "still arriving in epoch 3" in refused(source.handle(export(), 0.0))
    source.plane.poll(99.0)
    assert "still arriving in epoch 3" in refused(source.handle(export(), 99.0))
    assert "refused" in refused(source.handle(Release(epoch=5, scope=SCOPE), 99.0))
    assert source.handle(Thaw(epoch=5, scope=SCOPE), 99.0) == [ToOrchestrator(Thawed(epoch=5))]
    assert "thawed" in refused(source.handle(export(), 99.0))


def test_exports_that_may_not_be(source: Guest) -> None:
    source.create_flow(key_of(1), Count())
    assert "target too" in refused(source.handle(export(5, target=1), 0.0))
    assert "bucket 1024" in refused(source.handle(export(6, Scope(buckets=(1024,))), 0.0))
    source.get_flow(key_of(1))
    assert source.handle(export(7), 0.0) == []
    assert source.handle(export(7), 0.0) == []
    assert "epoch 7" in refused(source.handle(export(8), 0.0))
    assert "another move" in refused(source.handle(export(9, Scope(buckets=(key_of(1).bucket,))), 0.0))


def test_pinned_flows_are_reported_and_stay(source: Guest) -> None:
    scope = Scope(keys=(K1, K2), buckets=())
    for number in (1, 2):
        source.create_flow(key_of(number), Count(number))
    source.get_flow(key_of(2))
    assert source.handle(export(5, scope, deadline=2.0), 10.0) == []
    assert source.get_flow(key_of(2)) == Count(2)  # a transaction may nest
    with pytest.raises(FlowMigrated):
        source.get_flow(key_of(1))
    assert source.next_due() == 12.0
    assert source.poll(11.9) == []
    (step,) = source.poll(12.0)
    assert [record.key for record in step.message.flows] == [K1]
    assert said(source.handle(Staged(epoch=5, part=0), 12.0)) == [Exported(epoch=5, staged=1, pinned=(K2,))]
    source.put_flow(key_of(2))
    source.put_flow(key_of(2))
    assert source.has_flow(key_of(2))
    source.handle(Release(epoch=5, scope=scope), 13.0)
    assert source.has_flow(key_of(2))
    source.delete_flow(key_of(2))
    source.create_flow(key_of(2), Count())


def test_a_pinned_flow_of_a_bucket_keeps_its_key(source: Guest) -> None:
    scope = Scope(buckets=(key_of(1).bucket,))
    source.create_flow(key_of(1), Count())
    source.get_flow(key_of(1))
    source.handle(export(5, scope, deadline=0.0), 0.0)
    assert source.moves.phase(5) is Phase.EXPORTED
    source.handle(Release(epoch=5, scope=scope), 0.0)
    source.put_flow(key_of(1))
    source.delete_flow(key_of(1))
    source.create_flow(key_of(1), Count())


def test_the_last_put_freezes_and_stages(source: Guest) -> None:
    source.create_flow(key_of(1), Count())
    source.get_flow(key_of(1))
    source.get_flow(key_of(1))
    assert source.handle(export(), 0.0) == []
    source.put_flow(key_of(1))
    assert source.poll(0.1) == []
    source.put_flow(key_of(1))
    with pytest.raises(FlowMigrated):
        source.get_flow(key_of(1))
    assert source.next_due() == 0.0
    assert [type(message) for message in said(source.poll(0.1))] == [Stage]


def test_a_flow_deleted_inside_its_transaction_pins_nothing(source: Guest) -> None:
    source.create_flow(key_of(1), Count())
    with source.flow(key_of(1)):
        assert source.handle(export(), 0.0) == []
        source.delete_flow(key_of(1))
        assert said(source.poll(0.0)) == [Exported(epoch=5, staged=0)]
        with pytest.raises(FlowMigrated):
            source.create_flow(key_of(1), Count())


def test_thaw_while_waiting_for_references(source: Guest) -> None:
    source.create_flow(key_of(1), Count())
    source.create_flow(key_of(2), Count())
    source.get_flow(key_of(1))
    source.handle(export(5, Scope(keys=(K1, K2))), 0.0)
    assert said(source.handle(Thaw(epoch=5, scope=Scope(keys=(K1, K2))), 0.0)) == [Thawed(epoch=5)]
    source.put_flow(key_of(1))
    assert source.has_flow(key_of(1)) and source.has_flow(key_of(2))


def test_parts_are_bounded_windowed_and_repeated(source: Guest, target: Guest) -> None:
    flows = PART_FLOWS * (WINDOW + 1) + 1
    keys = tuple(bytes(key_of(number)) for number in range(flows))
    for number in range(flows):
        source.create_flow(key_of(number), Count(number))
    steps = source.handle(export(5, Scope(keys=keys)), 0.0)
    assert (len(steps), source.table.count, source.next_due()) == (SLICE // PART_FLOWS, flows - SLICE, 0.0)
    assert source.get_flow(key_of(flows - 1)) == Count(flows - 1)  # its turn has not come
    source.put_flow(key_of(flows - 1))
    while source.next_due() == 0.0:
        steps += source.poll(0.0)
    stages = said(steps)
    assert [(s.part, s.parts, len(s.flows)) for s in stages] == [(n, 0, PART_FLOWS) for n in range(WINDOW)]
    assert source.handle(export(5, Scope(keys=keys)), 0.0) == []  # they are on their way
    assert source.next_due() == STAGE_RETRY
    assert source.poll(STAGE_RETRY - 0.01) == []
    assert said(source.poll(STAGE_RETRY)) == stages
    for message in stages:
        target.handle(message, 0.0)
    assert said(source.handle(Staged(epoch=5, part=3), 1.0))[0].part == WINDOW
    assert source.handle(Staged(epoch=5, part=3), 1.0) == []
    (last,) = said(source.handle(Staged(epoch=5, part=0), 1.0))
    assert (last.part, last.parts, len(last.flows)) == (WINDOW + 1, WINDOW + 2, 1)
    for part in range(WINDOW + 2):
        answer = source.handle(Staged(epoch=5, part=part), 1.0)
    assert said(answer) == [Exported(epoch=5, staged=flows)]
    assert source.next_due() is None
    assert source.poll(99.0) == []


def test_the_target_says_that_all_is_there_when_every_part_is_whichever_comes_last(
    source: Guest, target: Guest
) -> None:
    keys = tuple(bytes(key_of(number)) for number in range(PART_FLOWS + 1))
    for number in range(PART_FLOWS + 1):
        source.create_flow(key_of(number), Count(number))
    first, last = said(source.handle(export(5, Scope(keys=keys)), 0.0))
    assert (first.whole, last.whole, last.parts) == (False, True, 2)
    assert said(target.handle(last, 0.0)) == [Staged(epoch=5, part=1)]
    assert said(target.handle(first, 0.0)) == [AllStaged(epoch=5, staged=PART_FLOWS + 1), Staged(epoch=5, part=0)]
    assert said(target.handle(first, 0.0)) == [Staged(epoch=5, part=0)]


def test_the_target_does_not_say_so_of_a_move_that_leaves_flows_at_the_source(source: Guest, target: Guest) -> None:
    source.create_flow(key_of(1), Count(1))
    source.create_flow(key_of(2), Count(2))
    source.get_flow(key_of(2))  # in use for longer than the move waits
    source.handle(export(5, Scope(keys=(K1, K2))), 0.0)
    (part,) = said(source.poll(1.0))
    assert not part.whole
    assert said(target.handle(part, 1.0)) == [Staged(epoch=5, part=0)]
    assert said(source.handle(Staged(epoch=5, part=0), 1.0)) == [Exported(epoch=5, staged=1, pinned=(K2,))]


def test_a_source_is_released_whose_acknowledgement_is_on_its_way(source: Guest, target: Guest) -> None:
    """The target has told the orchestrator that it has all: the decision may be here before the target's answer."""
    source.create_flow(key_of(1), Count(1))
    (part,) = said(source.handle(export(), 0.0))
    target.handle(part, 0.0)
    target.handle(Commit(epoch=5, scope=SCOPE), 0.0)
    assert said(source.handle(Release(epoch=5, scope=SCOPE), 0.0)) == [Released(epoch=5)]
    assert source.handle(Staged(epoch=5, part=0), 0.0) == []
    assert source.next_due() is None and source.poll(99.0) == []
    with pytest.raises(FlowMigrated):
        source.create_flow(key_of(1), Count())


def test_a_source_passes_on_whose_acknowledgement_is_on_its_way(source: Guest, target: Guest) -> None:
    """The same of a move without a buffer; the parts need not be kept."""
    source.create_flow(key_of(1), Count(1))
    late = msgspec.structs.replace(export(), late="keep", packets=9, bytes=9999)
    (part,) = [step.message for step in source.handle(late, 0.0) if isinstance(step, ToPeer)]
    target.handle(part, 0.0)
    target.handle(Commit(epoch=5, scope=SCOPE, hold=False), 0.0)
    assert said(source.handle(Forward(epoch=5, address="unix:/t"), 0.0)) == [Forwarding(epoch=5)]
    assert source.handle(Staged(epoch=5, part=0), 0.0) == []
    assert said(source.handle(Release(epoch=5, scope=SCOPE), 0.0)) == [Released(epoch=5)]


def test_a_target_that_has_refused_a_part_never_has_all(source: Guest, target: Guest) -> None:
    """The source ends its move for the refusal, which may be on its way while the part comes again."""
    target.create_flow(key_of(1), Count(0), aliases=[key_of(2)])
    source.create_flow(key_of(1), Count(1), aliases=[key_of(2)])
    for flow in target.table.within((K1,), ()):
        flow.epoch = 6  # brought by a newer move, which had it end here
    (part,) = said(source.handle(export(), 0.0))
    reason = refused(target.handle(part, 0.0))
    target.delete_flow(key_of(1))
    assert refused(target.handle(part, 0.6)) == reason
    assert said(target.handle(Discard(epoch=5), 1.0)) == [Discarded(epoch=5)]


def test_parts_on_their_way_are_bounded_in_bytes(source: Guest) -> None:
    size = WINDOW_BYTES // 4
    keys = tuple(bytes(key_of(number)) for number in range(8))
    for number in range(8):
        source.create_flow(key_of(number), Blob(bytes(size)))
    stages = said(source.handle(export(5, Scope(keys=keys)), 0.0))
    assert [stage.part for stage in stages] == [0, 1, 2, 3]
    for part in range(4):
        assert [stage.part for stage in said(source.handle(Staged(epoch=5, part=part), 0.1))] == [part + 4]


def test_parts_are_repeated_at_doubled_intervals_and_while_the_connection_is_idle(source: Guest) -> None:
    source.create_flow(key_of(1), Count(1))
    source.handle(export(), 0.0)
    repeats = []
    for _ in range(6):
        now = source.moves.next_due()
        assert now is not None
        (step,) = source.poll(now)
        assert isinstance(step, ToPeer)
        repeats.append((now, step.again))
    assert repeats == [(0.5, True), (1.5, True), (3.5, True), (7.5, False), (11.5, False), (15.5, False)]


def test_decisions_about_many_flows_are_carried_out_in_slices(source: Guest, target: Guest) -> None:
    flows = 2 * SLICE + 1
    scope = Scope(buckets=tuple(range(1024)))
    for number in range(flows):
        source.create_flow(key_of(number), Count(number))
    last = max(range(flows), key=lambda number: key_of(number).bucket)  # its bucket's turn has not come
    steps = source.handle(export(5, scope, deadline=9.0), 0.0)
    source.delete_flow(key_of(last))
    while not any(isinstance(message, Exported) for message in said(steps)):
        answers = [answer for step in steps for answer in target.handle(step.message, 0.0)]
        steps = [step for answer in answers for step in source.handle(answer.message, 0.0)] + source.poll(0.0)
    assert target.handle(Commit(epoch=5, scope=scope), 0.0) == []
    assert (target.table.count, target.next_due()) == (SLICE, 0.0)
    assert target.handle(Commit(epoch=5, scope=scope), 0.0) == []
    assert "committing" in refused(target.handle(Discard(epoch=5), 0.0))
    assert said(target.poll(0.0)) == [Committed(epoch=5, flows=2 * SLICE)]
    assert target.plane.arriving(scope) == 5
    # as if the target had died: back to the source
    assert source.handle(Thaw(epoch=5, scope=scope), 0.0) == []
    assert source.handle(Thaw(epoch=5, scope=scope), 0.0) == []
    assert "thawing" in refused(source.handle(export(5, scope), 0.0))
    kept = next(number for number in range(flows) if not source.has_flow(key_of(number)))
    back = stage(6, key=bytes(key_of(kept)))
    source.handle(back, 0.0)
    source.handle(Commit(epoch=6, scope=Scope(keys=(bytes(key_of(kept)),)), hold=False), 0.0)
    assert said(source.poll(0.0)) == [Thawed(epoch=5)]
    assert source.table.count == 2 * SLICE
    assert source.get_flow(key_of(kept)) == Count(3)


def test_a_part_is_full_when_its_bytes_are(source: Guest) -> None:
    for number in range(5):
        source.create_flow(key_of(number), Blob(bytes(PART_BYTES // 2)))
    keys = tuple(bytes(key_of(number)) for number in range(5))
    stages = said(source.handle(export(5, Scope(keys=keys)), 0.0))
    assert [len(s.flows) for s in stages] == [2, 2, 1]


def test_a_large_state_travels_alone(source: Guest) -> None:
    source.create_flow(key_of(1), Blob(b"small"))
    source.create_flow(key_of(2), Blob(bytes(LARGEST_STATE - 1000)))
    source.create_flow(key_of(3), Blob(bytes(LARGEST_STATE - 1000)))
    stages = said(source.handle(export(5, Scope(keys=(K1, K2, bytes(key_of(3))))), 0.0))
    assert [len(s.flows) for s in stages] == [2], "so many bytes are enough on their way at a time"
    stages = said(source.handle(Staged(epoch=5, part=0), 0.1))
    assert [(s.part, s.parts, len(s.flows)) for s in stages] == [(1, 2, 1)]
    source.create_flow(key_of(4), Blob(b"small"))
    source.create_flow(key_of(5), Blob(bytes(LARGEST_STATE - 12)))
    stages = said(source.handle(export(6, Scope(keys=(bytes(key_of(4)), bytes(key_of(5))))), 0.0))
    assert [len(s.flows) for s in stages] == [1, 1]


@pytest.mark.parametrize(
    ("state", "reason"),
    [(Blob(bytes(LARGEST_STATE)), "the most that can move"), (Blob(object()), "cannot be encoded")],
    ids=["too large", "not encodable"],
)
def test_state_that_cannot_travel_refuses_the_export(source: Guest, state: Blob, reason: str) -> None:
    source.create_flow(key_of(1), state)
    assert reason in refused(source.handle(export(), 0.0))
    assert source.get_flow(key_of(1)) is state
    assert reason in refused(source.handle(export(), 0.0))


def test_a_refused_export_of_many_flows_leaves_all_of_them(source: Guest) -> None:
    flows = SLICE + 1
    for number in range(flows):
        source.create_flow(key_of(number), Blob(object()))
    steps = source.handle(export(5, Scope(buckets=tuple(range(1024)))), 0.0)
    while not steps:
        steps = source.poll(0.0)
    assert "cannot be encoded" in refused(steps)
    assert source.table.count == flows


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (stage(kind="Unheard"), "'Unheard' is not registered here"),
        (stage(kind="Blob"), "bytes are no Blob"),
        (stage(key=b"short"), "5 bytes"),
        (stage(key=K2), "is active at the target"),
        (stage(aliases=(K2,)), "is active at the target"),
        (stage(timers=(TimerRecord(name="other", remaining=1.0),)), "timer 'other' has no callback"),
    ],
    ids=["kind", "type", "key", "active", "alias", "timer"],
)
def test_what_does_not_fit_the_target_is_refused_and_thaws_the_source(
    source: Guest, target: Guest, message: Stage, reason: str
) -> None:
    target.create_flow(key_of(2), Count())
    (reply,) = target.handle(message, 0.0)
    assert isinstance(reply, Reply) and isinstance(reply.message, Refused) and reason in reply.message.reason
    assert reply.message.request == "Stage"
    assert target.moves.phase(5) is None and target.table.count == 1
    source.create_flow(key_of(1), Count(1))
    source.handle(export(), 0.0)
    assert source.handle(Refused(epoch=5, request="Other", reason=""), 0.0) == []
    assert reason in refused(source.handle(reply.message, 0.0))
    assert source.get_flow(key_of(1)) == Count(1)
    assert source.poll(99.0) == []


def test_staging_a_part_twice_keeps_it_once(target: Guest) -> None:
    assert said(target.handle(stage(), 0.0)) == [Staged(epoch=5, part=0)]
    assert said(target.handle(stage(), 0.0)) == [Staged(epoch=5, part=0)]
    assert said(target.handle(stage(part=1, key=K2), 0.0)) == [Staged(epoch=5, part=1)]
    scope = Scope(keys=(K1, K2))
    assert said(target.handle(Commit(epoch=5, scope=scope, hold=False), 0.0)) == [Committed(epoch=5, flows=2)]
    assert target.plane.quiet
    assert "committed" in refused(target.handle(Discard(epoch=5), 0.0))
    assert "committed" in refused(target.handle(Thaw(epoch=5, scope=scope), 0.0))
    assert "committed" in refused(target.handle(Release(epoch=5, scope=scope), 0.0))


def test_a_flow_made_of_a_stray_packet_is_replaced_by_the_one_moved(target: Guest) -> None:
    target.handle(stage(), 0.0)
    target.create_flow(key_of(1), Count())
    target.get_flow(key_of(1))
    target.handle(Commit(epoch=5, scope=SCOPE), 0.0)
    assert target.table.conflicts == 1
    assert target.get_flow(key_of(1)) == Count(3)
    target.put_flow(key_of(1))
    target.put_flow(key_of(1))  # the transaction on the one replaced


def test_a_flow_that_comes_back_before_its_release(source: Guest, target: Guest) -> None:
    """Release of epoch 5 is late: the copy frozen for it is void once epoch 6 has brought the flow back."""
    source.create_flow(key_of(1), Count(7))
    source.handle(export(), 0.0)
    source.handle(Staged(epoch=5, part=0), 0.0)
    assert said(source.handle(stage(6), 0.0)) == [Staged(epoch=6, part=0)]
    assert said(source.handle(Commit(epoch=6, scope=SCOPE, hold=False), 0.0)) == [Committed(epoch=6, flows=1)]
    assert source.get_flow(key_of(1)) == Count(3)
    assert said(source.handle(Release(epoch=5, scope=SCOPE), 0.0)) == [Released(epoch=5)]
    source.put_flow(key_of(1))
    assert source.get_flow(key_of(1)) == Count(3)


def test_late_packets_and_timers_of_a_frozen_flow(source: Guest) -> None:
    fired: list[bytes] = []
    source.on_timer("count", lambda guest, key: fired.append(key))
    source.create_flow(key_of(1), Count())
    source.flow_timer(key_of(1), 1.0, "count")
    source.handle(export(), 0.5)
    assert source.fire_timers(5.0) == 0
    for use in (source.get_flow, source.delete_flow, lambda key: source.flow_timer(key, 1.0, "count")):
        with pytest.raises(FlowMigrated):
            use(key_of(1))
    source.handle(Thaw(epoch=5, scope=SCOPE), 6.0)
    assert source.fire_timers(6.0) == 1 and fired == [key_of(1)]
    assert source.fire_timers(99.0) == 0


def decide(guest: Guest, *epochs: int) -> None:
    """Other flows begin here."""
    for epoch in epochs:
        guest.handle(Commit(epoch=epoch, scope=Scope(keys=(bytes(key_of(100 + epoch)),)), hold=False), 0.0)


def test_forgotten_epochs_are_refused(target: Guest) -> None:
    target.moves._decided.limit = 2
    assert target.handle(MovesOver(before=5), 0.0) == []
    decide(target, 4, 5, 6)
    assert "is forgotten" in refused(target.handle(Thaw(epoch=4, scope=SCOPE), 0.0)) and target.plane.quiet
    assert "is forgotten" in refused(target.handle(Commit(epoch=4, scope=SCOPE), 0.0))
    assert "is forgotten" in refused(target.handle(export(3), 0.0))
    assert said(target.handle(Commit(epoch=5, scope=SCOPE), 0.0)) == [Committed(epoch=5, flows=0)]
    decide(target, 7)
    assert said(target.handle(Commit(epoch=5, scope=SCOPE), 0.0)) == [Committed(epoch=5, flows=0)], "it is not over"
    target.handle(MovesOver(before=4), 0.0)  # late
    target.handle(MovesOver(before=6), 0.0)
    assert "is forgotten" in refused(target.handle(Commit(epoch=5, scope=SCOPE), 0.0))


STAGES: list[tuple[list[Message], Message, Message]] = [
    ([], Prepare(epoch=2, scope=SCOPE, packets=9, bytes=9999), Prepared(epoch=2)),
    ([], stage(2), Staged(epoch=2, part=0)),
    ([stage(2)], Commit(epoch=2, scope=SCOPE, hold=False), Committed(epoch=2, flows=1)),
    ([], Commit(epoch=2, scope=SCOPE, hold=False), Committed(epoch=2, flows=0)),
    ([], Thaw(epoch=2, scope=SCOPE, hold=False), Thawed(epoch=2)),
    ([], Release(epoch=2, scope=SCOPE), Released(epoch=2)),
    ([stage(2)], Discard(epoch=2), Discarded(epoch=2)),
    ([Commit(epoch=2, scope=SCOPE, hold=False)], Commit(epoch=2, scope=SCOPE), Committed(epoch=2, flows=0)),
]


@pytest.mark.parametrize(
    ("before", "message", "answer"),
    STAGES,
    ids=[f"{len(each[0])}-{type(each[1]).__name__}" for each in STAGES[:-1]] + ["again"],
)
def test_a_move_that_is_not_over_goes_on_however_many_others_were_decided_meanwhile(
    target: Guest, before: list[Message], message: Message, answer: Message
) -> None:
    target.moves._decided.limit = 3
    for each in before:
        target.handle(each, 0.0)
    decide(target, *range(3, 30))
    target.handle(MovesOver(before=2), 0.0)
    decide(target, *range(30, 40))
    assert said(target.handle(message, 0.0)) == [answer]


def test_a_move_that_is_stuck_does_not_let_what_is_remembered_grow_without_end() -> None:
    outcomes = Outcomes(limit=2)
    outcomes.over(5)
    for epoch in range(5, 200):
        outcomes.put(epoch, Decided(Phase.COMMITTED))
    assert outcomes.floor == 0, "none of those forgotten is known to be over"
    assert [epoch for epoch in range(200) if outcomes.get(epoch)] == list(range(200 - 2 * MOST, 200))
    outcomes.over(190)
    for epoch in range(200, 220):
        outcomes.put(epoch, Decided(Phase.THAWED))
    assert outcomes.floor == 189 and outcomes.get(190) is not None and outcomes.get(189) is None


def test_tombstones_are_bounded_and_frozen_keys_stay(source: Guest) -> None:
    guest = Guest(tombstones=2)
    guest.register_state(Count)
    guest.begin(1, "i")
    guest.create_flow(key_of(1), Count())
    guest.handle(export(), 0.0)
    for epoch in (6, 7, 8):
        guest.handle(Release(epoch=epoch, scope=Scope(keys=(bytes(key_of(epoch)),))), 0.0)
    assert len(guest.table.fences) == 2
    guest.create_flow(key_of(6), Count())
    for number in (1, 8):
        with pytest.raises(FlowMigrated):
            guest.create_flow(key_of(number), Count())


def test_messages_of_other_kinds_are_ignored(source: Guest) -> None:
    assert source.handle(Released(epoch=3), 0.0) == []
    assert source.plane.handle(frame_of(1), 0.0)
    assert source.moves.newest == 0
