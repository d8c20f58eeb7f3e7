"""Packets that wait until it is decided whose they are: kept, released, passed on, given back, dropped."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from guestlib.guest import Guest
from guestlib.instructions import Instruction, Met, Process, Reply, ToOrchestrator, ToPeer, Transmit
from guestlib.moves import carriers
from guestlib.moves.exports import Phase
from guestlib.packets.dataplane import DataPlane
from guestlib.packets.holds import SLICE, TOLD, Kept, Room
from splitmerge.messages import (
    Carried,
    Carry,
    Commit,
    Committed,
    Discard,
    Discarded,
    Export,
    Exported,
    Forward,
    Forwarding,
    HoldDropped,
    HoldFull,
    Message,
    Prepare,
    Prepared,
    Refused,
    Release,
    Released,
    Return,
    Returned,
    Scope,
    Stage,
    Staged,
    Thaw,
    Thawed,
)
from splitmerge.tag import Tag, TagKind
from tests.guestlib.conftest import Count, frame_of, key_of, number_in
from tests.guestlib.moves.replicas import K1, SCOPE

ROOM = Room(10, 10_000)
PREPARE = Prepare(epoch=5, scope=SCOPE, packets=10, bytes=10_000)


def marker(epoch: int) -> bytes:
    return Tag(TagKind.MARKER, epoch, 1).push(bytes(60))


def processed(steps: list[Instruction]) -> list[int]:
    """The numbers of the packets that go to the middlebox; nothing else may be among the steps."""
    assert all(isinstance(step, Process) for step in steps)
    return [number_in(step.frame) for step in steps if isinstance(step, Process)]


def said(steps: list[Instruction]) -> list[Message]:
    return [step.message for step in steps if isinstance(step, ToOrchestrator | ToPeer | Reply)]


def arrive(plane: DataPlane, *numbers: int, flow: int = 1, now: float = 0.0) -> list[Instruction]:
    return [step for number in numbers for step in plane.handle(frame_of(flow, number), now)]


# -- the data plane ----------------------------------------------------------------------------------------


@pytest.fixture
def plane() -> DataPlane:
    return DataPlane(hold_deadline=10.0)


def test_what_is_kept_waits_for_the_decision_and_never_expires(plane: DataPlane) -> None:
    assert plane.keep(5, [K1], [], ROOM) == []
    assert arrive(plane, 1, 2, now=3.0) == []
    assert processed(arrive(plane, 9, flow=2)) == [9]
    assert plane.poll(1e6) == [] and plane.next_due() is None
    assert plane.kept(5, 4.5) == Kept(packets=2, seconds=1.5)
    assert processed(plane.release(5)) == [1, 2]
    assert plane.quiet and plane.held == 0 and plane.kept(5, 9.0) == Kept()


def test_flows_that_are_here_already_are_spared(plane: DataPlane) -> None:
    plane.keep(5, [], [key_of(1).bucket], ROOM, spared=frozenset([K1]))
    assert processed(arrive(plane, 1)) == [1]


def test_many_are_released_in_slices_and_younger_ones_queue_behind(plane: DataPlane) -> None:
    plane.keep(5, [K1], [], Room(10_000, 10**7))
    arrive(plane, *range(SLICE + 3))
    assert processed(plane.release(5)) == list(range(SLICE))
    assert plane.release(5) == []
    assert arrive(plane, SLICE + 3) == [] and plane.next_due() == 0.0
    assert plane.arriving(SCOPE) == 0, "they are on their way to the middlebox: nothing keeps them"
    assert processed(plane.poll(0.0)) == [SLICE, SLICE + 1, SLICE + 2, SLICE + 3]
    assert plane.quiet and processed(arrive(plane, 7)) == [7]


def test_a_marker_follows_what_was_released(plane: DataPlane) -> None:
    plane.keep(5, [K1], [], Room(10_000, 10**7))
    arrive(plane, *range(SLICE + 2))
    plane.release(5)
    *packets, echo, met = plane.handle(marker(6), 0.0)
    assert processed(packets) == [SLICE, SLICE + 1]
    assert isinstance(echo, Transmit) and met == Met(6)


def test_a_full_hold_drops_the_newest_and_says_so_once_before_it_must(plane: DataPlane) -> None:
    plane.keep(5, [K1], [], ROOM)
    steps = arrive(plane, *range(12))
    assert steps == [ToOrchestrator(HoldFull(epoch=5))]
    assert plane.kept(5, 0.0).dropped == 2 and plane.drops["hold_overflow"] == 2
    assert processed(plane.release(5)) == list(range(10))


def test_room_that_other_holds_have_used_is_reported_by_each_undecided_one_that_gets_packets() -> None:
    plane = DataPlane(hold_packets=20, hold_deadline=10.0)
    plane.hold(6, [key_of(2)], [], 0.0)
    plane.hold(8, [key_of(4)], [], 0.0)
    plane.keep(5, [K1], [], ROOM)
    plane.keep(7, [key_of(3)], [], ROOM)
    assert arrive(plane, *range(10), flow=2) == [], "behind relayed packets: nobody can decide otherwise"
    assert arrive(plane, *range(8), flow=4) == []
    assert arrive(plane, 1, 2) == [ToOrchestrator(HoldFull(epoch=5))]
    assert arrive(plane, 1, 2, flow=3) == [ToOrchestrator(HoldFull(epoch=7))], "none of its packets had room"
    assert [plane.kept(epoch, 0.0).dropped for epoch in (5, 6, 7, 8)] == [0, 0, 2, 0]


def test_bytes_that_other_holds_have_used_count_too() -> None:
    plane = DataPlane(hold_bytes=20 * len(frame_of(1, 0)), hold_deadline=10.0)
    plane.hold(6, [key_of(2)], [], 0.0)
    plane.hold(7, [key_of(3)], [], 0.0)
    plane.keep(5, [K1], [], ROOM)
    arrive(plane, *range(10), flow=2)
    arrive(plane, *range(7), flow=3)
    assert arrive(plane, 1, 2) == [ToOrchestrator(HoldFull(epoch=5))]


def test_a_hold_without_room_counts_what_comes_late(plane: DataPlane) -> None:
    plane.keep(5, [K1], [], Room(0, 0))
    assert arrive(plane, 1, 2) == []
    assert plane.kept(5, 0.0).dropped == plane.drops["late_dropped"] == 2
    assert plane.drop(5) == 0 and plane.quiet


def test_packets_are_taken_out_in_order_and_bounded(plane: DataPlane) -> None:
    plane.keep(5, [K1], [], ROOM)
    arrive(plane, 1, 2, 3)
    assert [number_in(frame) for frame in plane.take(5, 2, 10**6)] == [1, 2]
    assert [number_in(frame) for frame in plane.take(5, 9, 1)] == [3]
    assert plane.take(5, 9, 10**6) == [] and plane.held == 0
    assert plane.take(99, 9, 10**6) == []


def test_a_new_hold_takes_over_what_an_older_one_has_released_and_not_processed(plane: DataPlane) -> None:
    plane.keep(5, [K1], [], Room(10_000, 10**7))
    arrive(plane, *range(SLICE + 2))
    plane.release(5)
    assert plane.keep(6, [K1], [], Room(10_000, 10**7)) == []
    arrive(plane, SLICE + 2)
    assert processed(plane.release(6)) == [SLICE, SLICE + 1, SLICE + 2]
    assert plane.poll(0.0) == [] and plane.quiet


def test_a_hold_until_end_releases_what_was_kept_for_the_same_epoch_first(plane: DataPlane) -> None:
    plane.keep(5, [K1], [], ROOM)
    arrive(plane, 1)
    assert processed(plane.hold(5, [K1], [], 0.0)) == [1]
    assert arrive(plane, 2) == []
    assert processed(plane.handle(Tag(TagKind.END, 5, 1).push(frame_of(0)), 0.0)) == [2]


def test_at_the_end_of_the_replica_only_what_is_its_own_is_processed(plane: DataPlane) -> None:
    plane.keep(5, [K1], [], ROOM)
    plane.hold(6, [key_of(2)], [], 0.0)
    arrive(plane, 1)
    arrive(plane, 2, flow=2)
    assert processed(plane.finish()) == [2]
    assert plane.drops["hold_discarded"] == 1 and plane.quiet


def end(epoch: int, sequence: int = 1) -> bytes:
    return Tag(TagKind.END, epoch, sequence).push(frame_of(0))


def told(steps: list[Instruction]) -> list[Message]:
    return [message for message in said(steps) if isinstance(message, HoldDropped)]


def test_what_a_hold_until_end_had_no_room_for_is_told_at_end_and_later_ones_when_its_last_packet_goes() -> None:
    plane = DataPlane(hold_packets=2 * (SLICE + 1), hold_deadline=10.0)
    plane.hold(5, [K1], [], 0.0)
    assert arrive(plane, *range(SLICE + 4)) == []
    steps = plane.handle(end(5), 0.0)
    assert told(steps) == [HoldDropped(epoch=5, dropped=3)] and len(steps) == SLICE + 1
    arrive(plane, *range(SLICE + 2))
    rest = plane.poll(0.0) + plane.poll(0.0)
    assert told(rest) == [HoldDropped(epoch=5, dropped=5)] and plane.quiet and plane.told_dropped == {5: 5}


def test_of_the_newest_epochs_it_is_said_again_and_again_what_was_dropped() -> None:
    plane = DataPlane(hold_packets=1, hold_deadline=10.0)
    for epoch in range(1, TOLD + 2):
        plane.hold(epoch, [K1], [], 0.0)
        arrive(plane, 1, 2)
        plane.handle(end(epoch), 0.0)
    assert plane.told_dropped == dict.fromkeys(range(2, TOLD + 2), 1)


@pytest.mark.parametrize(
    "over",
    [
        pytest.param(lambda plane: plane.poll(99.0), id="it runs out"),
        pytest.param(lambda plane: plane.hold(6, [K1], [], 0.0), id="a newer move holds"),
        pytest.param(lambda plane: plane.keep(6, [K1], [], ROOM), id="a newer move keeps"),
        pytest.param(lambda plane: plane.finish(), id="the replica ends"),
    ],
)
def test_a_hold_that_ends_otherwise_tells_what_it_dropped_too(over: Callable[[DataPlane], list[Instruction]]) -> None:
    plane = DataPlane(hold_packets=4, hold_deadline=10.0)
    plane.hold(5, [K1], [], 0.0)
    arrive(plane, 1, 2, 3)
    assert told(over(plane)) == [HoldDropped(epoch=5, dropped=1)]


def test_what_the_answer_to_a_decision_says_is_not_told_twice(target: Guest) -> None:
    target.handle(Prepare(epoch=5, scope=SCOPE, packets=1, bytes=10_000), 0.0)
    arrive(target.plane, 1, 2)
    steps = target.handle(Commit(epoch=5, scope=SCOPE, hold=False), 0.0)
    assert said([step for step in steps if isinstance(step, ToOrchestrator)]) == [
        Committed(epoch=5, flows=0, held=1, held_seconds=0.0, dropped=1)
    ]
    assert target.plane.quiet


def test_a_marker_follows_all_packets_of_several_holds_that_have_something_to_tell() -> None:
    plane = DataPlane(hold_packets=4 * SLICE, hold_deadline=10.0)
    for epoch, flow in ((5, 1), (6, 2)):
        plane.keep(epoch, [bytes(key_of(flow))], [], Room(2 * SLICE, 10**7))
        arrive(plane, *range(2 * SLICE), flow=flow)
        plane.release(epoch)
        arrive(plane, *range(2 * SLICE), flow=flow)
    steps = plane.handle(marker(9), 0.0)
    assert plane.held == 0 and isinstance(steps[-2], Transmit) and steps[-1] == Met(9)
    assert {message.epoch for message in told(steps[:-2])} == {5, 6}


# -- carrying ----------------------------------------------------------------------------------------------


class Queue:
    """A hold of one epoch."""

    def __init__(self, count: int) -> None:
        self.frames = [frame_of(1, number) for number in range(count)]

    def take(self, epoch: int, packets: int, size: int) -> list[bytes]:
        taken, self.frames = self.frames[:packets], self.frames[packets:]
        return taken


def test_packets_are_carried_in_numbered_parts_through_a_window() -> None:
    queue = Queue(carriers.PART_PACKETS * (carriers.WINDOW + 1))
    carrier = carriers.Carrier(5, "unix:/t", queue.take, 0.0)
    parts = said(carrier.pump(0.0))
    assert [part.number for part in parts] == list(range(1, carriers.WINDOW + 1))
    assert len(queue.frames) == carriers.PART_PACKETS, "what is not on its way stays in the hold"
    (more,) = said(carrier.acknowledged(3, 0.1))
    assert more.number == carriers.WINDOW + 1
    assert carrier.acknowledged(3, 0.1) == [] and carrier.acknowledged(99, 0.1) == []
    assert carrier.acknowledged(carriers.WINDOW + 2, 0.2) == [] and carrier.idle
    assert carrier.carried == carriers.PART_PACKETS * (carriers.WINDOW + 1)


def test_what_nobody_answers_is_said_again_and_given_up_in_the_end() -> None:
    queue = Queue(3)
    carrier = carriers.Carrier(5, "unix:/t", queue.take, 0.0)
    first = carrier.pump(0.0)
    assert carrier.next_due() == carriers.RETRY
    assert carrier.poll(carriers.RETRY - 0.01) == []
    assert said(carrier.poll(carriers.RETRY)) == said(first)
    queue.frames = [frame_of(1, 9)]
    assert carrier.poll(carriers.DEADLINE) == []
    assert carrier.idle and carrier.dropped == 4 and queue.frames == [] and carrier.next_due() is None


def test_repeats_come_at_doubled_intervals_and_while_the_connection_is_idle_until_there_is_progress() -> None:
    carrier = carriers.Carrier(5, "unix:/t", Queue(2 * carriers.PART_PACKETS).take, 0.0)
    carrier.pump(0.0)
    repeats = []
    for _ in range(6):
        now = carrier.next_due()
        assert now is not None
        steps = [step for step in carrier.poll(now) if isinstance(step, ToPeer)]
        repeats.append((round(now, 3), len(steps), steps[0].again))
    assert repeats == [
        (0.2, 2, True), (0.6, 2, True), (1.4, 2, True), (3.0, 2, True), (5.0, 2, False), (7.0, 2, False),
    ]  # fmt: skip
    carrier.acknowledged(2, 7.5)
    assert carrier.next_due() == 7.5 + carriers.RETRY


def test_parts_are_taken_once_and_in_sequence() -> None:
    arrivals = carriers.Arrivals()
    first, second = (Carry(epoch=5, number=n, frames=(frame_of(1, n),)) for n in (1, 2))
    assert arrivals.take(second) == [Reply(Carried(epoch=5, expected=1))]
    for expected in ([1], []):
        *packets, reply = arrivals.take(first)
        assert processed(packets) == expected and reply == Reply(Carried(epoch=5, expected=2))
    assert processed(arrivals.take(second)[:-1]) == [2]


# -- moves -------------------------------------------------------------------------------------------------


def make(replica: int) -> Guest:
    guest = Guest()
    guest.register_state(Count)
    guest.begin(replica, f"i{replica}")
    return guest


@pytest.fixture
def source() -> Guest:
    guest = make(1)
    guest.create_flow(key_of(1), Count(7))
    return guest


@pytest.fixture
def target() -> Guest:
    return make(2)


def stage_of(source: Guest, export: Export) -> Stage:
    """What the export stages; acknowledged."""
    (stage,) = [message for message in said(source.handle(export, 0.0)) if isinstance(message, Stage)]
    assert said(source.handle(Staged(epoch=export.epoch, part=0), 0.0)) == [Exported(epoch=5, staged=1)]
    return stage


def export(**fields: object) -> Export:
    return Export(epoch=5, scope=SCOPE, target=2, address="unix:/t", deadline=1.0, **fields)  # type: ignore[arg-type]


def test_the_target_keeps_adopts_and_releases(source: Guest, target: Guest) -> None:
    assert said(target.handle(PREPARE, 0.0)) == [Prepared(epoch=5)]
    assert said(target.handle(PREPARE, 0.0)) == [Prepared(epoch=5)]
    arrive(target.plane, 1, 2, now=1.0)
    target.handle(stage_of(source, export()), 1.5)
    *packets, answer = target.handle(Commit(epoch=5, scope=SCOPE, hold=False), 3.0)
    assert processed(packets) == [1, 2] and target.has_flow(key_of(1))
    committed = Committed(epoch=5, flows=1, held=2, held_seconds=2.0)
    assert answer == ToOrchestrator(committed)
    assert target.handle(Commit(epoch=5, scope=SCOPE, hold=False), 9.0) == [answer]
    assert target.handle(PREPARE, 9.0) == [] and target.plane.quiet


def test_a_bucket_is_kept_but_for_the_flows_that_are_the_targets_own(target: Guest) -> None:
    target.create_flow(key_of(1), Count(1))
    scope = Scope(buckets=(key_of(1).bucket,))
    target.handle(Prepare(epoch=5, scope=scope, packets=10, bytes=10_000), 0.0)
    assert processed(arrive(target.plane, 1)) == [1]
    (refused,) = said(target.handle(Prepare(epoch=6, scope=SCOPE, packets=1, bytes=1), 0.0))
    assert isinstance(refused, Refused) and "active at the target" in refused.reason


def test_what_the_target_kept_goes_back_and_is_processed_once(source: Guest, target: Guest) -> None:
    target.handle(PREPARE, 0.0)
    arrive(target.plane, 1, 2)
    source.handle(Thaw(epoch=5, scope=SCOPE), 0.0)
    (carry,) = said(target.handle(Return(epoch=5, address="unix:/s"), 0.0))
    assert target.handle(Return(epoch=5, address="unix:/s"), 0.1) == []
    for expected in ([1, 2], []):
        *packets, reply = source.handle(carry, 0.2)
        assert processed(packets) == expected
    assert said(target.handle(reply.message, 0.3)) == [Returned(epoch=5, carried=2)]
    assert said(target.handle(Return(epoch=5, address="unix:/s"), 0.4)) == [Returned(epoch=5, carried=2)]
    assert target.plane.quiet
    assert said(target.handle(Discard(epoch=5), 0.5)) == [Discarded(epoch=5)]
    assert target.moves.phase(5) is Phase.DISCARDED


def test_a_target_that_was_giving_packets_back_when_the_source_died_takes_over(source: Guest, target: Guest) -> None:
    """What it had not sent yet is its own; what was on its way died with the source, and is counted."""
    prepare = Prepare(epoch=5, scope=SCOPE, packets=10_000, bytes=10_000_000)
    target.handle(prepare, 0.0)
    on_their_way = carriers.PART_PACKETS * carriers.WINDOW
    arrive(target.plane, *range(on_their_way + 3))
    target.handle(stage_of(source, export()), 0.1)
    assert len(said(target.handle(Return(epoch=5, address="unix:/s"), 0.2))) == carriers.WINDOW
    commit = Commit(epoch=5, scope=SCOPE, hold=False)
    *packets, answer = target.handle(commit, 0.3)
    assert processed(packets) == [on_their_way, on_their_way + 1, on_their_way + 2]
    assert target.get_flow(key_of(1)) == Count(7)
    (committed,) = said([answer])
    assert isinstance(committed, Committed) and committed.dropped == on_their_way
    assert target.handle(commit, 0.4) == [answer] and not target.moves.carrying and target.plane.quiet


def test_a_target_that_had_given_all_back_when_the_source_died_takes_over(source: Guest, target: Guest) -> None:
    target.handle(PREPARE, 0.0)
    target.handle(stage_of(source, export()), 0.1)
    assert said(target.handle(Return(epoch=5, address="unix:/s"), 0.2)) == [Returned(epoch=5, carried=0)]
    (committed,) = said(target.handle(Commit(epoch=5, scope=SCOPE, hold=False), 0.3))
    assert isinstance(committed, Committed) and (committed.flows, committed.dropped) == (1, 0)
    assert target.has_flow(key_of(1))


def test_a_source_takes_nothing_back_before_its_flows_are_active_again(source: Guest) -> None:
    carry = Carry(epoch=5, number=1, frames=(frame_of(1, 1),))
    assert source.handle(carry, 0.0) == []
    source.handle(Thaw(epoch=5, scope=SCOPE), 0.0)
    assert len(source.handle(carry, 0.0)) == 2


def test_what_is_discarded_is_counted(target: Guest) -> None:
    target.handle(PREPARE, 0.0)
    arrive(target.plane, 1, 2)
    arrive(target.plane, *range(3, 12))  # room for ten
    assert said(target.handle(Discard(epoch=5), 0.0)) == [Discarded(epoch=5, dropped=11)]
    assert said(target.handle(Discard(epoch=5), 0.0)) == [Discarded(epoch=5, dropped=11)]
    assert said(target.handle(Return(epoch=5, address="x"), 0.0))[0].request == "Return"


BUCKET = Scope(buckets=(key_of(1).bucket,))


@pytest.mark.parametrize("kept", [SCOPE, BUCKET], ids=["flow", "bucket"])
@pytest.mark.parametrize("scope", [SCOPE, BUCKET], ids=["flow", "bucket"])
@pytest.mark.parametrize("prepared", [True, False], ids=["replica", "no buffer"])
def test_what_an_older_move_keeps_ends_with_a_newer_move_of_its_flows(
    target: Guest, kept: Scope, scope: Scope, prepared: bool
) -> None:
    target.handle(Prepare(epoch=5, scope=kept, packets=10, bytes=10_000), 0.0)
    arrive(target.plane, 1)
    if prepared:  # epoch 5 was undone, and its Discard has not come
        target.handle(Prepare(epoch=6, scope=scope, packets=10, bytes=10_000), 1.0)
        arrive(target.plane, 2)
    steps = target.handle(Commit(epoch=6, scope=scope, hold=False), 2.0)
    assert [number_in(step.frame) for step in steps if isinstance(step, Process)] == ([2] if prepared else [])
    assert processed(arrive(target.plane, 3)) == [3]
    assert target.plane.quiet and target.plane.held == 0 and target.plane.drops == {"hold_discarded": 1}
    assert target.moves.phase(5) is Phase.DISCARDED


def test_what_an_older_move_staged_ends_with_a_newer_one_and_what_others_keep_stays(
    source: Guest, target: Guest
) -> None:
    target.handle(stage_of(source, export()), 0.0)
    other = Scope(keys=(bytes(key_of(2)),))
    target.handle(Prepare(epoch=6, scope=other, packets=10, bytes=10_000), 0.0)
    target.handle(Commit(epoch=7, scope=BUCKET, hold=False), 1.0)
    assert target.moves.phase(5) is Phase.DISCARDED and not target.has_flow(key_of(1))
    assert target.moves.phase(6) is Phase.STAGED


def test_an_export_waits_for_its_marker(source: Guest) -> None:
    assert source.handle(export(after=True), 0.0) == [] and source.moves.phase(5) is Phase.ARMED
    assert source.handle(export(after=True), 0.1) == []
    source.plane.handle(marker(4), 0.2)
    assert source.marker_met(4) == [] and source.has_flow(key_of(1))
    source.plane.handle(marker(5), 0.3)
    assert [type(message) for message in said(source.marker_met(5))] == [Stage]


def test_a_marker_met_before_the_export_counts(source: Guest) -> None:
    source.plane.handle(marker(5), 0.0)
    assert source.marker_met(5) == []
    assert [type(message) for message in said(source.handle(export(after=True), 0.1))] == [Stage]


def test_an_export_that_waits_can_be_called_off(source: Guest) -> None:
    source.handle(export(after=True), 0.0)
    assert said(source.handle(Thaw(epoch=5, scope=SCOPE), 0.1)) == [Thawed(epoch=5)]
    assert source.marker_met(5) == [] and source.has_flow(key_of(1))


def test_late_packets_wait_at_the_source_and_are_passed_on(source: Guest, target: Guest) -> None:
    stage = stage_of(source, export(late="keep", packets=10, bytes=10_000))
    arrive(source.plane, 1)
    target.handle(stage, 0.0)
    target.handle(Commit(epoch=5, scope=SCOPE, hold=False), 0.0)
    answer, first = said(source.handle(Forward(epoch=5, address="unix:/t"), 0.0))
    assert answer == Forwarding(epoch=5)
    assert said(source.handle(Forward(epoch=5, address="unix:/t"), 0.0)) == [Forwarding(epoch=5)]
    arrive(source.plane, 2)
    (second,) = said(source.flush(0.1))
    assert source.handle(Release(epoch=5, scope=SCOPE), 0.2) == [], "not before all has arrived"
    assert source.moves.phase(5) is Phase.RELEASING
    numbers, answers = [], []
    for carry in (first, second):
        *packets, reply = target.handle(carry, 0.3)
        numbers += processed(packets)
        answers += said(source.handle(reply.message, 0.4))
    assert numbers == [1, 2] and answers == [Released(epoch=5, carried=2)]
    assert source.plane.quiet and not source.moves.carrying
    assert said(source.handle(Release(epoch=5, scope=SCOPE), 0.5)) == [Released(epoch=5, carried=2)]


def test_late_packets_are_the_sources_own_if_the_move_is_off(source: Guest) -> None:
    stage_of(source, export(late="keep", packets=10, bytes=10_000))
    arrive(source.plane, 1, 2)
    *packets, answer = source.handle(Thaw(epoch=5, scope=SCOPE, hold=False), 0.0)
    assert processed(packets) == [1, 2] and answer == ToOrchestrator(Thawed(epoch=5))
    assert source.plane.quiet and source.has_flow(key_of(1))


def test_late_packets_of_a_refused_export_are_processed(source: Guest) -> None:
    source.handle(export(late="keep", packets=10, bytes=10_000), 0.0)
    arrive(source.plane, 1)
    steps = source.handle(Refused(epoch=5, request="Stage", reason="no"), 0.0)
    assert [number_in(step.frame) for step in steps if isinstance(step, Process)] == [1]


def test_without_a_guarantee_late_packets_are_dropped_and_reported(source: Guest) -> None:
    stage_of(source, export(late="drop"))
    arrive(source.plane, 1, 2, 3)
    assert said(source.handle(Release(epoch=5, scope=SCOPE), 0.0)) == [Released(epoch=5, dropped=3)]
    assert source.plane.quiet


def test_a_target_that_does_not_answer_holds_the_release_up_only_so_long(source: Guest) -> None:
    stage_of(source, export(late="keep", packets=10, bytes=10_000))
    arrive(source.plane, 1)
    source.handle(Forward(epoch=5, address="unix:/t"), 0.0)
    source.handle(Release(epoch=5, scope=SCOPE), 0.0)
    assert said(source.poll(carriers.DEADLINE)) == [Released(epoch=5, dropped=1)]


@pytest.mark.parametrize("known", [True, False], ids=["known before", "known later"])
def test_a_target_that_died_does_not_hold_the_release_up(source: Guest, known: bool) -> None:
    stage_of(source, export(late="keep", packets=10, bytes=10_000))
    arrive(source.plane, 1)
    source.handle(Forward(epoch=5, address="unix:/t"), 0.0)
    arrive(source.plane, 2)
    if not known:
        assert Released not in map(type, said(source.handle(Release(epoch=5, scope=SCOPE), 0.0)))
    steps = source.handle(Release(epoch=5, scope=SCOPE, carry=False), 0.1)
    assert said(steps) == [Released(epoch=5, dropped=2)] and source.plane.quiet and not source.moves.carrying
    assert said(source.handle(Release(epoch=5, scope=SCOPE, carry=False), 0.2)) == [Released(epoch=5, dropped=2)]


def test_a_source_whose_target_died_goes_on_with_what_was_not_sent_yet(
    source: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carriers, "WINDOW", 1)
    stage_of(source, export(late="keep", packets=10, bytes=10_000))
    arrive(source.plane, 1)
    source.handle(Forward(epoch=5, address="unix:/t"), 0.0)
    arrive(source.plane, 2)
    *packets, answer = source.handle(Thaw(epoch=5, scope=SCOPE, hold=False), 0.1)
    assert processed(packets) == [2] and answer == ToOrchestrator(Thawed(epoch=5, dropped=1))
    assert source.has_flow(key_of(1)) and not source.moves.carrying and source.plane.quiet


# -- flows that were here before their bucket ------------------------------------------------------------------


def together() -> tuple[int, int]:
    """Two flows of one bucket, and neither is the first."""
    numbers = iter(range(2, 100_000))
    return next((1, other) for other in numbers if key_of(other).bucket == key_of(1).bucket)


@pytest.mark.parametrize("way", ["cpu", "replica", "cpu, and a new orchestrator"])
def test_packets_of_a_flow_that_was_here_before_its_bucket_wait_for_no_move_of_it(target: Guest, way: str) -> None:
    """An entry of its own leads here; the flow that comes with the bucket waits as it should."""
    moved, apart = together()
    target.create_flow(key_of(apart), Count())
    source = Guest()
    source.register_state(Count)
    source.begin(1, "i1")
    source.create_flow(key_of(moved), Count())
    scope = Scope(buckets=(key_of(1).bucket,))
    if way == "replica":
        target.handle(Prepare(epoch=5, scope=scope, packets=10, bytes=10_000), 0.0)
        assert processed(target.plane.handle(frame_of(apart, 1), 0.0)) == [1]
        assert processed(target.plane.handle(frame_of(moved, 2), 0.0)) == []
    move = Export(epoch=5, scope=scope, target=2, address="unix:/t", deadline=1.0)
    target.handle(stage_of(source, move), 0.0)
    *packets, _ = target.handle(Commit(epoch=5, scope=scope, hold=way == "cpu"), 0.1)
    assert processed(packets) == ([2] if way == "replica" else [])
    if way.endswith("orchestrator"):  # holds and relays under an epoch of its own
        target.handle(Commit(epoch=6, scope=scope, hold=True), 0.2)
    if way != "replica":
        assert processed(target.plane.handle(frame_of(moved, 3), 0.3)) == [] and target.plane.held == 1
    assert processed(target.plane.handle(frame_of(apart, 4), 0.3)) == [4]
