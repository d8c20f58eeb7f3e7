"""The packet buffer: bounds hold, order stays, every drop is counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from p4rt_controller.buffer import PacketBuffer, Room

FRAMES = st.binary(min_size=1, max_size=40)
LANES = st.integers(0, 3)


def test_a_lane_is_first_in_first_out():
    lane = PacketBuffer[str](10, 100).lane("a", 0.0)
    for frame in (b"1", b"2", b"3"):
        assert lane.append(frame)
    assert (list(lane), lane[1], len(lane), lane.peak_packets, lane.peak_bytes) == ([b"1", b"2", b"3"], b"2", 3, 3, 3)
    lane.drop_first(2)
    assert (list(lane), lane.peak_packets) == ([b"3"], 3)


def test_the_newest_is_dropped_when_either_bound_is_reached():
    buffer = PacketBuffer[str](2, 10)
    assert [buffer.append("a", b"12345678", 0.0), buffer.append("b", b"123", 0.0), buffer.append("b", b"12", 0.0)] == [
        True, False, True,
    ]  # fmt: skip
    assert not buffer.append("a", b"", 0.0)
    assert (buffer.budget.dropped, buffer.budget.packets, buffer.budget.peak_packets) == (2, 2, 2)
    assert buffer.get("a").dropped == 1


def test_one_lane_has_bounds_of_its_own():
    buffer = PacketBuffer[str](10, 100, lane_packets=2, lane_bytes=20)
    assert [buffer.append("a", frame, 0.0) for frame in (b"1", b"2", b"3")] == [True, True, False]
    assert [buffer.append("b", b"x" * size, 0.0) for size in (15, 6, 5)] == [True, False, True]
    assert (buffer.get("a").dropped, buffer.get("b").dropped, buffer.budget.dropped) == (1, 1, 2)
    buffer.get("a").drop_first(1)
    assert buffer.append("a", b"4", 0.0)


def test_a_lane_may_be_given_less_room_than_the_others_and_not_more():
    buffer = PacketBuffer[str](100, 1000, lane_packets=3, lane_bytes=30)
    less = buffer.lane("less", 0.0, Room(packets=2, bytes=20))
    more = buffer.lane("more", 0.0, Room(packets=9, bytes=90))
    assert [less.append(frame) for frame in (b"1", b"2", b"3")] == [True, True, False] and less.nearly_full
    assert [more.append(frame) for frame in (b"1", b"2", b"x" * 29, b"3", b"4")] == [True, True, False, True, False]
    assert (less.dropped, more.dropped, buffer.budget.dropped) == (1, 2, 3)
    assert not buffer.lane("another", 0.0).nearly_full


def test_a_lane_may_only_say_that_its_room_is_used_up_and_keep_more():
    buffer = PacketBuffer[str](100, 1000, lane_packets=5, lane_bytes=90)
    lane = buffer.lane("a", 0.0, Room(packets=2, drops=False))
    kept = [(lane.append(frame), lane.nearly_full) for frame in (b"1", b"2", b"3", b"4", b"5", b"6")]
    assert kept == [(True, False), *[(True, True)] * 4, (False, True)]
    assert (lane.dropped, len(lane)) == (1, 5)


def test_a_packet_without_room_makes_no_lane():
    buffer = PacketBuffer[str](1, 10)
    buffer.append("a", b"1", 0.0)
    assert not buffer.append("b", b"2", 0.0)
    assert buffer.get("b") is None


def test_adopted_packets_come_behind_with_their_drops():
    buffer, other = PacketBuffer[str](10, 100), PacketBuffer[str](2, 100)
    lane = buffer.lane("move", 0.0)
    lane.append(b"1")
    for frame in (b"2", b"3", b"4"):
        other.append("flow", frame, 0.0)
    lane.adopt(other.remove("flow"))
    assert (list(lane), lane.dropped, other.budget.packets) == ([b"1", b"2", b"3"], 1, 0)


def test_old_lanes_expire_and_are_counted():
    buffer = PacketBuffer[str](10, 100)
    buffer.append("old", b"1", 1.0)
    buffer.append("old", b"2", 9.0)
    buffer.append("new", b"3", 5.0)
    assert buffer.expire(5.0) == ["old"]
    assert (buffer.budget.expired, buffer.budget.packets, buffer.lane_keys()) == (2, 1, ["new"])


class BufferMachine(RuleBasedStateMachine):
    """Against plain lists."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = PacketBuffer[int](8, 120)
        self.model: dict[int, list[bytes]] = {}
        self.offered = self.kept = 0

    @rule(key=LANES, frame=FRAMES)
    def append(self, key: int, frame: bytes) -> None:
        self.offered += 1
        everything = [frame for frames in self.model.values() for frame in frames]
        fits = len(everything) < 8 and sum(map(len, everything)) + len(frame) <= 120
        assert self.buffer.append(key, frame, 0.0) == fits
        if fits:
            self.kept += 1
            self.model.setdefault(key, []).append(frame)

    @rule(key=LANES, count=st.integers(0, 8))
    def deliver(self, key: int, count: int) -> None:
        lane = self.buffer.get(key)
        if lane is not None:
            count = min(count, len(lane))
            lane.drop_first(count)
            del self.model.get(key, [])[:count]

    @rule(key=LANES)
    def clear(self, key: int) -> None:
        lane = self.buffer.remove(key)
        if lane is not None:
            assert lane.clear() == len(self.model.pop(key, []))

    @invariant()
    def same(self) -> None:
        self.buffer.validate()
        for key, frames in self.model.items():
            lane = self.buffer.get(key)
            assert list(lane if lane is not None else ()) == frames
        assert self.buffer.budget.dropped == self.offered - self.kept


TestBufferMachine = BufferMachine.TestCase


@given(st.lists(FRAMES, max_size=30))
def test_what_is_kept_is_a_prefix_until_the_first_drop(frames: list[bytes]):
    lane = PacketBuffer[int](5, 10_000).lane(1, 0.0)
    for frame in frames:
        lane.append(frame)
    assert list(lane) == frames[:5]
    assert lane.dropped == max(0, len(frames) - 5)
