"""The book of moves: every punted packet goes to exactly one place, in order."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from p4rt_controller.errors import ScopeConflict
from p4rt_controller.moves import Kept, MoveBook
from p4rt_controller.packets import Punted
from p4rt_controller.relay import Acked, Appended, RelaySender, RelaySettings
from splitmerge.flowkey import FlowKey

ROOM = (100, 100_000)
KEYS = [FlowKey.parse(f"udp,10.0.0.1:{port},10.0.0.2:9") for port in range(1, 9)]
A, B, C = KEYS[:3]


def book(**changes: object) -> MoveBook:
    return MoveBook(ROOM, ROOM, ROOM, **changes)  # type: ignore[arg-type]


def suspended(key: FlowKey, frame: bytes) -> Punted:
    return Punted(key, frame, new=False)


def new(key: FlowKey, frame: bytes) -> Punted:
    return Punted(key, frame, new=True)


def test_packets_go_to_the_move_of_their_key_or_bucket():
    b = book()
    by_key = b.open(1, [A], [], [], 0.0)
    by_bucket = b.open(2, [], [B.bucket], [], 0.0)
    assert b.punted(suspended(A, b"1"), 0.0) == (Kept.MOVE, by_key)
    assert b.punted(suspended(B, b"2"), 0.0) == (Kept.MOVE, by_bucket)
    assert b.punted(suspended(C, b"3"), 0.0) == (Kept.ORPHAN, None)
    assert (list(by_key.lane), list(by_bucket.lane)) == ([b"1"], [b"2"])
    b.validate()


def test_a_new_flow_is_announced_once_and_its_packets_join_its_move_in_order():
    b = book()
    assert [b.punted(new(A, frame), 0.0)[0] for frame in (b"1", b"2")] == [Kept.NEW, Kept.WAITING]
    move = b.open(1, [A], [], [], 1.0)
    assert b.punted(new(A, b"3"), 1.0) == (Kept.MOVE, move)
    assert list(move.lane) == [b"1", b"2", b"3"]
    assert len(b.new_flows) == 0


def udp(key: FlowKey, number: int) -> bytes:
    ports = key.low_port.to_bytes(2, "big") + key.high_port.to_bytes(2, "big")
    ip = bytes((0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2))
    return bytes(12) + b"\x08\x00" + ip + ports + bytes((0, 12, 0, 0)) + number.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("window", "acknowledged", "left"),
    [
        pytest.param(0, 0, 3, id="nothing was sent"),
        pytest.param(2, 0, 1, id="two of three were sent"),
        pytest.param(1, 1, 1, id="one was acknowledged and the next one sent"),
        pytest.param(3, 3, 0, id="all were acknowledged"),
    ],
)
def test_an_abandoned_moves_packets_wait_for_the_next_but_for_those_that_a_replica_may_have(
    window: int, acknowledged: int, left: int
) -> None:
    b = book()
    move = b.open(1, [A], [], [], 0.0)
    frames = [udp(A, number) for number in range(3)]
    for frame in frames:
        b.punted(suspended(A, frame), 0.0)
    if window:
        move.relay = RelaySender(move.lane, RelaySettings(window, 1.0, 10.0), 0.0)
        move.relay.handle(Appended(), 0.0)
        move.relay.handle(Acked(acknowledged + 1), 0.0)
    assert b.abandon(move, 1.0) == (left, 3 - acknowledged - left)
    b.punted(suspended(A, udp(A, 3)), 1.0)
    assert list(b.open(2, [A], [], [], 2.0).lane) == [*frames[3 - left :], udp(A, 3)]
    b.validate()


def test_what_an_abandoned_move_had_and_there_is_no_room_for_counts_once() -> None:
    b = MoveBook(ROOM, ROOM, (2, 1000))
    move = b.open(1, [A], [], [], 0.0)
    for number in range(5):
        b.punted(suspended(A, udp(A, number)), 0.0)
    assert b.abandon(move, 1.0) == (2, 3)
    assert (b.dropped_abandoned, b.orphans.budget.dropped) == (3, 0)
    b.validate()


def test_a_new_flow_is_announced_though_its_orphans_take_all_the_room() -> None:
    """Nobody would learn of it: with packets there it is no new flow's first one any more."""
    b = MoveBook(ROOM, (2, 1000), ROOM)
    for frame in (b"1", b"2"):
        b.punted(suspended(A, frame), 0.0)
    assert b.punted(new(A, b"3"), 0.0) == (Kept.NEW, None)
    assert b.punted(new(B, b"4"), 0.0) == (Kept.DROPPED, None), "and of this one nothing is there"
    assert list(b.open(1, [A], [], [], 0.0).lane) == [b"1", b"2"]
    b.validate()


def test_flows_with_packets_waiting_outside_of_moves_are_named() -> None:
    b = book()
    b.punted(new(A, b"1"), 0.0)
    b.punted(suspended(B, b"2"), 0.0)
    assert b.waiting([C, B, A]) == [B, A]
    b.open(1, [A, B, C], [], [], 0.0)
    b.punted(suspended(C, b"3"), 0.0)
    assert b.waiting([C, B, A]) == []


def test_orphans_wait_for_the_move_that_takes_their_flow_or_bucket():
    b = book()
    for key, frame in ((A, b"1"), (B, b"2"), (A, b"3")):
        b.punted(suspended(key, frame), 0.0)
    assert list(b.open(1, [A], [], [], 0.0).lane) == [b"1", b"3"]
    assert list(b.open(2, [], [B.bucket], [], 0.0).lane) == [b"2"]
    assert b.orphans.budget.packets == 0


def test_a_buckets_move_leaves_what_waits_for_flows_with_entries_that_lead_elsewhere() -> None:
    """Their replica died, say: whoever gets them gets their packets, and not who gets the bucket."""
    b = book()
    b.abandon(b.open(1, [A], [], [], 0.0), 0.0)
    b.punted(suspended(A, b"1"), 0.0)
    bucket = b.open(2, [], [A.bucket, B.bucket], [B], 0.0, apart=[A, B])
    assert b.punted(suspended(A, b"2"), 0.0) == (Kept.ORPHAN, None)
    assert b.punted(suspended(B, b"3"), 0.0) == (Kept.MOVE, bucket)
    assert list(bucket.lane) == [b"3"]
    b.seal(bucket)
    assert list(b.open(3, [A], [], [], 0.0).lane) == [b"1", b"2"]
    b.validate()


def test_a_flow_that_loses_its_entry_goes_with_its_bucket_again() -> None:
    b = book()
    move = b.open(1, [], [A.bucket], [], 0.0, apart=[A])
    b.joined(A)
    b.joined(B)
    assert b.punted(suspended(A, b"1"), 0.0) == (Kept.MOVE, move)


def test_orphans_of_buckets_that_somebody_gets_without_a_move_are_dropped_and_counted():
    b = book()
    for key, frame in ((A, b"1"), (B, b"2"), (A, b"3")):
        b.punted(suspended(key, frame), 0.0)
    assert b.forsake({A.bucket}) == 2
    assert (b.orphans.budget.expired, b.orphans.budget.packets) == (2, 1)
    assert list(b.open(1, [], [A.bucket, B.bucket], [], 0.0).lane) == [b"2"]
    b.validate()


def test_a_bucket_move_leaves_announced_new_flows_waiting():
    b = book()
    b.punted(new(A, b"1"), 0.0)
    assert len(b.open(1, [], [A.bucket], [], 0.0).lane) == 0
    assert b.punted(new(A, b"2"), 0.0) == (Kept.WAITING, None)


@pytest.mark.parametrize(
    ("keys", "buckets"), [([A], []), ([], [B.bucket]), ([B], []), ([C, A], [])], ids=["key", "bucket", "in", "one of"]
)
def test_a_scope_in_another_move_is_refused_and_nothing_changes(keys: list[FlowKey], buckets: list[int]):
    b = book()
    first = b.open(1, [A], [B.bucket], [], 0.0)
    with pytest.raises(ScopeConflict) as caught:
        b.open(2, keys, buckets, [], 0.0)
    assert caught.value.other == 1
    assert b.moves() == [first]
    assert b.owner_of(C) is None
    b.validate()


def test_the_same_epoch_may_be_opened_again_and_widened():
    b = book()
    move = b.open(1, [A], [], [], 0.0)
    assert b.open(1, [A, B], [C.bucket], [], 5.0) is move
    assert (move.keys, move.buckets, move.opened) == ({A, B}, {C.bucket}, 0.0)


def test_after_the_seal_packets_are_orphans_again():
    b = book()
    move = b.open(1, [A], [B.bucket], [], 0.0)
    b.punted(suspended(A, b"1"), 0.0)
    b.seal(move)
    assert b.punted(suspended(A, b"2"), 0.0) == (Kept.ORPHAN, None)
    assert b.open(2, [A], [B.bucket], [], 0.0) is not move
    assert b.close(move) == 1
    assert b.owner_of(A) is not None
    b.validate()


def test_epochs_of_a_predecessor_are_known_as_such():
    b = book(newest_epoch=7)
    assert not b.open(7, [A], [], [], 0.0).known
    assert b.open(8, [B], [], [], 0.0).known


def test_flows_that_nobody_has_taken_for_long_are_named() -> None:
    b = book()
    b.punted(new(A, b"1"), 0.0)
    b.punted(new(B, b"2"), 5.0)
    assert b.unassigned(5.0) == [A] and b.unassigned(0.0) == []
    b.open(1, [A], [], [], 0.0)
    assert b.unassigned(9.0) == [B]


def test_what_nobody_takes_expires():
    b = book()
    b.punted(new(A, b"1"), 0.0)
    b.punted(suspended(B, b"2"), 5.0)
    assert b.expire(3.0) == [A]
    assert b.expire(9.0) == [B]
    assert b.punted(new(A, b"3"), 10.0) == (Kept.NEW, None)


def test_what_a_planned_move_is_to_take_waits_as_long_as_that_does():
    b = book()
    awaited = {A, B}
    b.awaited = lambda keys: [key for key in keys if key in awaited]
    b.punted(new(A, b"1"), 0.0)
    b.punted(suspended(B, b"2"), 0.0)
    b.punted(new(C, b"3"), 0.0)
    for now in (7.5, 15.0, 22.5, 30.5):
        b.renew(now - 15, now)
        assert b.expire(now - 30) == ([] if now < 30 else [C])
    assert b.unassigned(15.0) == [], "it would be announced, and get one more move, for as long as it waits"
    b.punted(new(A, b"4"), 31.0)
    assert b.expire(50.0 - 30) == [] and b.unassigned(50.0 - 15) == [A], "it has had no more than its time once more"
    awaited.clear()
    b.renew(60.0 - 15, 60.0)
    assert sorted(b.expire(60.0 - 30)) == sorted([A, B])
    assert (b.new_flows.budget.expired, b.orphans.budget.expired) == (3, 1)
    b.validate()


class BookMachine(RuleBasedStateMachine):
    """Every packet of a flow is in one place, and those in one place are in order."""

    def __init__(self) -> None:
        super().__init__()
        self.book = MoveBook((12, 1000), (6, 1000), (6, 1000))
        self.sequence = 0
        self.delivered: dict[FlowKey, list[int]] = {key: [] for key in KEYS}

    @rule(key=st.sampled_from(KEYS), fresh=st.booleans())
    def punt(self, key: FlowKey, fresh: bool) -> None:
        self.sequence += 1
        self.book.punted(Punted(key, bytes([KEYS.index(key)]) + self.sequence.to_bytes(4, "big"), fresh), 0.0)

    @rule(epoch=st.integers(1, 4), keys=st.sets(st.sampled_from(KEYS)), of=st.sets(st.sampled_from(KEYS), max_size=2))
    def open(self, epoch: int, keys: set[FlowKey], of: set[FlowKey]) -> None:
        before = [(m.epoch, set(m.keys), set(m.buckets)) for m in self.book.moves()]
        try:
            self.book.open(epoch, keys, {key.bucket for key in of}, [], 0.0)
        except ScopeConflict:
            assert [(m.epoch, set(m.keys), set(m.buckets)) for m in self.book.moves()] == before

    @rule(epoch=st.integers(1, 4), finish=st.booleans())
    def seal(self, epoch: int, finish: bool) -> None:
        move = self.book.get(epoch)
        if move is None:
            return
        self.book.seal(move)
        if finish:
            for frame in list(move.lane):
                self.delivered[KEYS[frame[0]]].append(int.from_bytes(frame[1:], "big"))
            self.book.close(move)

    @invariant()
    def valid(self) -> None:
        self.book.validate()
        for move in self.book.moves():
            for key in KEYS:
                mine = [frame for frame in move.lane if frame[0] == KEYS.index(key)]
                assert mine == sorted(mine)


TestBookMachine = BookMachine.TestCase
TestBookMachine.settings = settings(max_examples=40, stateful_step_count=30)
