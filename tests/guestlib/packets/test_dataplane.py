"""Reception of tagged and direct frames: instruction lists, and the order property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestlib import Guest
from guestlib.instructions import Instruction, Met, Process, ToOrchestrator, Transmit
from guestlib.packets.dataplane import EARLY_EPOCHS, DataPlane
from guestlib.packets.holds import Room
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Commit, HoldDropped, Scope
from splitmerge.tag import RELAY_AHEAD, Tag, TagKind, pop, relay_ahead
from tests.guestlib.conftest import frame_of, key_of, number_in

RELAYED, END, MARKER = TagKind.RELAYED, TagKind.END, TagKind.MARKER


def relayed(epoch: int, sequence: int, flow: int = 1, number: int = 0) -> bytes:
    return Tag(RELAYED, epoch, sequence).push(frame_of(flow, number))


def end(epoch: int, sequence: int) -> bytes:
    return Tag(END, epoch, sequence).push(frame_of(0))


def signals(steps: list[Instruction]) -> list[Tag]:
    tags = []
    for step in steps:
        assert isinstance(step, Transmit)
        popped = pop(step.frame)
        assert popped is not None
        assert len(popped[1]) == 60
        assert step.frame[:6] == frame_of(0)[6:12] and step.frame[6:12] == frame_of(0)[:6]
        tags.append(popped[0])
    return tags


def process(flow: int, number: int = 0) -> Process:
    return Process(frame_of(flow, number), key_of(flow))


@pytest.fixture
def plane() -> DataPlane:
    return DataPlane(hold_packets=8, hold_deadline=10.0)


def test_a_direct_packet_is_processed(plane: DataPlane) -> None:
    assert plane.quiet
    assert plane.handle(frame_of(1, 7), 0.0) == [process(1, 7)]
    assert plane.handle(b"\x00" * 60, 0.0) == [Process(b"\x00" * 60, None)]
    assert plane.flush() == []


def test_a_marker_is_echoed_behind_the_acknowledgements_due(plane: DataPlane) -> None:
    assert plane.handle(relayed(7, 1), 0.0) == [process(1)]
    steps = plane.handle(Tag(MARKER, 9, 3).push(frame_of(0)), 0.0)
    assert signals(steps[:-1]) == [Tag(TagKind.RELAY_ACK, 7, 2), Tag(TagKind.MARKER_ECHO, 9, 3)]
    assert steps[-1] == Met(9) and not plane.met(9), "what came before it is yet to be processed"
    plane.meet(9)
    assert plane.met(9) and not plane.met(7)


def test_held_packets_follow_the_relayed_ones(plane: DataPlane) -> None:
    assert plane.hold(5, [key_of(1)], [], 0.0) == []
    assert not plane.quiet
    assert plane.handle(frame_of(1, 3), 0.0) == []
    assert plane.handle(frame_of(2, 9), 0.0) == [process(2, 9)]
    assert plane.held == 1
    assert plane.handle(relayed(5, 1, 1, 1), 0.0) == [process(1, 1)]
    assert plane.handle(relayed(5, 2, 1, 2), 0.0) == [process(1, 2)]
    assert signals(plane.flush()) == [Tag(TagKind.RELAY_ACK, 5, 3)]
    assert plane.arriving(Scope(keys=(bytes(key_of(1)),))) == 5
    assert plane.arriving(Scope(buckets=(key_of(1).bucket,))) == 5
    assert plane.arriving(Scope(keys=(bytes(key_of(2)),), buckets=((key_of(1).bucket + 1) % 1024,))) == 0
    assert plane.handle(end(5, 3), 0.0) == [process(1, 3)]
    assert signals(plane.flush()) == [Tag(TagKind.RELAY_ACK, 5, 4)]
    assert plane.quiet and plane.held == 0 and plane.next_due() is None
    assert plane.arriving(Scope(keys=(bytes(key_of(1)),))) == 0
    assert plane.handle(frame_of(1, 4), 0.0) == [process(1, 4)]


def test_a_bucket_is_held(plane: DataPlane) -> None:
    plane.hold(5, [], [key_of(1).bucket], 0.0)
    assert plane.handle(frame_of(1, 1), 0.0) == []
    assert plane.arriving(Scope(buckets=(key_of(1).bucket,))) == 5
    assert plane.handle(end(5, 1), 0.0) == [process(1, 1)]


def ahead(steps: list[Instruction]) -> list[int]:
    """What acknowledgements say of numbers that came early."""
    return [relay_ahead(popped[1]) for step in steps if isinstance(step, Transmit) and (popped := pop(step.frame))]


def test_repeats_are_ignored_and_what_comes_early_waits_and_is_named(plane: DataPlane) -> None:
    assert plane.handle(relayed(5, 2, 1, 2), 0.0) == []
    assert plane.handle(relayed(5, 4, 1, 4), 0.0) == []
    steps = plane.flush()
    assert signals(steps) == [Tag(TagKind.RELAY_ACK, 5, 1)] and ahead(steps) == [0b101]
    assert plane.handle(relayed(5, 1, 1, 1), 0.0) == [process(1, 1), process(1, 2)]
    assert plane.handle(relayed(5, 1, 1, 1), 0.0) == []
    assert plane.handle(relayed(5, 4, 1, 4), 0.0) == []
    assert plane.handle(end(5, 5), 0.0) == []
    assert plane.handle(relayed(5, 3, 1, 3), 0.0) == [process(1, 3), process(1, 4)]
    assert plane.handle(end(5, 5), 0.0) == []
    steps = plane.flush()
    assert signals(steps) == [Tag(TagKind.RELAY_ACK, 5, 6)] and ahead(steps) == [0]
    assert plane.drops == {"relay_repeated": 3}


def test_an_end_that_comes_early_releases_in_its_turn(plane: DataPlane) -> None:
    plane.hold(5, [key_of(1)], [], 0.0)
    plane.handle(frame_of(1, 9), 0.0)
    assert plane.handle(end(5, 2), 0.0) == []
    assert plane.handle(relayed(5, 1, 1, 1), 0.0) == [process(1, 1), process(1, 9)] and plane.quiet


def test_what_comes_much_too_early_or_of_too_many_epochs_is_dropped_and_counted(plane: DataPlane) -> None:
    assert plane.handle(relayed(5, 2 + RELAY_AHEAD), 0.0) == []
    assert plane.drops == {"relay_gap": 1}
    for epoch in range(6, 6 + EARLY_EPOCHS + 1):
        plane.handle(relayed(epoch, 2), 0.0)
    assert plane.drops == {"relay_gap": 2}
    plane.flush()
    plane.handle(relayed(6, 1), 0.0)
    assert signals(plane.flush()) == [Tag(TagKind.RELAY_ACK, 6, 2)], "of the oldest one nothing is kept"


def test_what_a_controller_sent_early_before_it_restarted_is_not_taken_for_what_follows(plane: DataPlane) -> None:
    plane.handle(relayed(5, 2, 1, 77), 0.0)
    plane.handle(relayed(5, 0), 0.0)
    assert plane.handle(relayed(5, 1, 1, 1), 0.0) == [process(1, 1)]
    assert plane.handle(relayed(5, 2, 1, 2), 0.0) == [process(1, 2)]


def test_number_0_asks_what_is_expected(plane: DataPlane) -> None:
    plane.handle(relayed(5, 1), 0.0)
    plane.flush()
    assert plane.handle(relayed(5, 0), 0.0) == []
    assert signals(plane.flush()) == [Tag(TagKind.RELAY_ACK, 5, 2)]
    assert plane.drops == {}


def test_a_full_hold_drops_the_newest_and_counts(plane: DataPlane) -> None:
    plane.hold(5, [key_of(1)], [], 0.0)
    for number in range(6):
        assert plane.handle(frame_of(1, number), 0.0) == []
    assert plane.drops == {"hold_overflow": 2}
    told, *packets = plane.handle(end(5, 1), 0.0)
    assert told == ToOrchestrator(HoldDropped(epoch=5, dropped=2))
    assert packets == [process(1, number) for number in range(4)]
    by_bytes = DataPlane(hold_bytes=2 * len(frame_of(1)))
    by_bytes.hold(5, [key_of(1)], [], 0.0)
    by_bytes.handle(frame_of(1), 0.0)
    by_bytes.handle(frame_of(1), 0.0)
    assert by_bytes.held == 1


def test_a_hold_without_progress_gives_up_its_packets(plane: DataPlane) -> None:
    plane.hold(5, [key_of(1)], [], 0.0)
    plane.hold(6, [key_of(2)], [], 2.0)
    plane.handle(frame_of(1, 1), 0.0)
    plane.handle(frame_of(1, 2), 0.0)
    plane.handle(relayed(5, 1, 1, 0), 5.0)
    assert plane.next_due() == 10.0
    assert plane.poll(9.0) == []
    assert plane.poll(14.0) == []
    assert plane.next_due() == 15.0
    assert plane.poll(15.0) == [process(1, 1), process(1, 2)]
    assert plane.expired == 2
    assert plane.handle(end(5, 2), 16.0) == []
    assert signals(plane.flush()) == [Tag(TagKind.RELAY_ACK, 5, 3)]
    plane.handle(end(6, 1), 17.0)
    assert plane.quiet


def test_a_hold_waits_for_its_first_packet_however_long_that_takes(plane: DataPlane) -> None:
    """Its move may wait for another replica, and only then point the switch here: relayed packets come behind that."""
    plane.hold(5, [key_of(1)], [], 0.0)
    assert plane.next_due() is None and plane.poll(1000.0) == []
    assert plane.handle(frame_of(1, 3), 1000.0) == [], "it waits behind those that are relayed"
    assert plane.next_due() == 1010.0
    assert plane.handle(relayed(5, 1, 1, 1), 1001.0) == [process(1, 1)]
    assert plane.handle(end(5, 2), 1002.0) == [process(1, 3)]
    assert plane.expired == 0 and plane.quiet and plane.next_due() is None


def test_a_hold_that_gave_its_packets_to_a_newer_one_is_in_no_hurry_any_more(plane: DataPlane) -> None:
    plane.hold(5, [key_of(1), key_of(2)], [], 0.0)
    plane.handle(frame_of(1, 1), 0.0)
    plane.keep(6, [key_of(1)], [], Room(10, 10_000))
    assert plane.poll(11.0) == [] and plane.expired == 0 and plane.held == 1


def test_a_newer_hold_ends_an_older_one_and_not_the_other_way_round(plane: DataPlane) -> None:
    plane.hold(5, [key_of(1)], [3], 0.0)
    plane.handle(frame_of(1, 1), 0.0)
    assert plane.hold(6, [key_of(1)], [3], 0.0) == [process(1, 1)]
    plane.handle(frame_of(1, 2), 0.0)
    assert plane.hold(4, [key_of(1), key_of(2)], [3], 0.0) == []
    assert plane.handle(frame_of(2, 3), 0.0) == []
    assert plane.handle(end(4, 1), 0.0) == [process(2, 3)]
    assert plane.handle(end(6, 1), 0.0) == [process(1, 2)]
    assert plane.quiet


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (Tag(TagKind.FENCE, 1, 1).push(frame_of(1)), "unexpected_tag"),
        (Tag(TagKind.RELAY_ACK, 1, 1).push(frame_of(1)), "unexpected_tag"),
        (Tag(RELAYED, 1, 1).push(frame_of(1))[:20], "bad_tag"),
    ],
)
def test_other_tagged_frames_are_dropped_and_counted(plane: DataPlane, frame: bytes, reason: str) -> None:
    assert plane.handle(frame, 0.0) == []
    assert plane.drops == {reason: 1}


def test_forgotten_relays_stay_forgotten() -> None:
    plane = DataPlane(epochs=2)
    plane.hold(1, [key_of(1)], [], 0.0)  # open holds are never forgotten
    for epoch in (2, 3, 4):
        assert plane.handle(relayed(epoch, 1), 0.0) == [process(1)]
    plane.flush()
    assert plane.handle(relayed(2, 1), 0.0) == []
    assert plane.drops == {"relay_forgotten": 1}
    assert plane.flush() == []
    assert plane.handle(relayed(1, 1), 0.0) == [process(1)]


@given(data=st.data())
def test_whatever_the_interleaving_packets_come_out_in_the_order_sent(data: st.DataObject) -> None:
    """One move of two flows: numbers 0..n of each flow are relayed up to a point, and direct from there on.

    The relay channel loses, repeats and reorders, and sends again; the direct channel keeps its order.
    """
    plane = DataPlane()
    flows = (1, 2)
    sent = data.draw(st.lists(st.sampled_from(flows), max_size=24), label="packets sent")
    numbered = [(flow, number) for number, flow in enumerate(sent)]
    cut = data.draw(st.integers(0, len(numbered)), label="resumed at")
    relay = [Tag(RELAYED, 7, n + 1).push(frame_of(f, i)) for n, (f, i) in enumerate(numbered[:cut])]
    relay.append(Tag(END, 7, cut + 1).push(frame_of(0)))
    direct = [frame_of(f, i) for f, i in numbered[cut:]]
    by_bucket = data.draw(st.booleans(), label="held by bucket")
    scope = ((), {key_of(f).bucket for f in flows}) if by_bucket else ([key_of(f) for f in flows], ())
    plane.hold(7, *scope, 0.0)
    out: list[tuple[FlowKey | None, int]] = []

    def take(frame: bytes) -> None:
        for step in plane.handle(frame, 0.0):
            assert isinstance(step, Process)
            out.append((step.key, number_in(step.frame)))

    expected = 1
    for _ in range(30):
        choice = data.draw(st.sampled_from(["direct", "relay", "lost", "any", "ack"]))
        if choice == "direct" and direct:
            take(direct.pop(0))
        elif choice == "relay" and expected <= len(relay):
            take(relay[expected - 1])
        elif choice == "any":
            take(relay[data.draw(st.integers(0, len(relay) - 1))])
        elif choice == "ack":
            expected = max([expected, *(tag.sequence for tag in signals(plane.flush()))])
    for frame in relay:
        take(frame)
    for frame in direct:
        take(frame)
    for flow in flows:
        assert [n for key, n in out if key == key_of(flow)] == [n for f, n in numbered if f == flow]
    assert plane.quiet and plane.held == 0


def test_what_is_relayed_for_a_move_that_is_decided_is_expected_however_old_it_is() -> None:
    """Without a hold nothing else tells; as many younger ones as are remembered have begun."""
    plane = DataPlane(epochs=2)
    guest = Guest(plane=plane)
    guest.begin(2, "i2")
    for epoch in (2, 3, 4, 5):
        plane.handle(relayed(epoch, 1), 0.0)
    guest.handle(Commit(epoch=1, scope=Scope(keys=(key_of(1),)), hold=False), 0.0)
    assert plane.handle(relayed(1, 1), 0.0) == [process(1)]
    assert not plane.drops
