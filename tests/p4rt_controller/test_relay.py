"""The relay: over links that lose, double, reorder and delay, everything is accepted once and in order."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p4rt_controller.buffer import Budget, Lane
from p4rt_controller.relay import (
    Acked,
    Appended,
    Closed,
    Delivered,
    GaveUp,
    RelaySender,
    RelaySettings,
    Tick,
    Transmit,
)
from splitmerge.tag import TagKind

SETTINGS = RelaySettings(window=4, retry=0.1, deadline=60.0)


def lane_of(*frames: bytes) -> Lane:
    lane = Lane(Budget(1000, 1_000_000), 0.0)
    for frame in frames:
        lane.append(frame)
    return lane


def numbered(count: int) -> list[bytes]:
    return [bytes((number // 256, number % 256)) for number in range(count)]


class Receiver:
    """A replica, as the contract has it."""

    def __init__(self, expected: int = 1) -> None:
        self.expected = expected
        self.accepted: list[bytes | None] = []
        self.early: dict[int, bytes | None] = {}

    def receive(self, message: Transmit) -> int:
        if message.sequence == 0:
            self.early.clear()
        elif message.sequence >= self.expected:
            self.early[message.sequence] = message.frame if message.kind is TagKind.RELAYED else None
        while self.expected in self.early:
            self.accepted.append(self.early.pop(self.expected))
            self.expected += 1
        return self.expected

    @property
    def answer(self) -> Acked:
        return Acked(self.expected, sum(1 << (number - self.expected - 1) for number in self.early))


def test_a_delivery_as_a_whole_is_bounded_and_what_it_leaves_out_is_counted():
    lane = lane_of(*numbered(10))
    sender = RelaySender(lane, RelaySettings(window=4, retry=0.1, deadline=60.0, total=5.0), 0.0)
    sender.handle(Closed(), 0.0)
    assert len(sender.handle(Acked(2), 4.9)) == 1
    assert sender.handle(Acked(3), 5.0) == [Transmit(TagKind.END, 6, None)], "numbers 1 to 5 were sent"
    assert (len(lane), lane.dropped) == (3, 5)
    assert sender.handle(Acked(7), 5.1) == [Delivered()]
    assert sender.delivered == 5 and len(lane) == 0
    sender.validate()


def test_time_without_a_switch_does_not_count():
    lane = lane_of(*numbered(10))
    sender = RelaySender(lane, RelaySettings(window=4, retry=0.1, deadline=60.0, total=5.0), 0.0)
    sender.handle(Closed(), 1.0)
    sender.resume_at(100.0)
    sender.handle(Closed(), 100.0)
    sender.handle(Acked(2), 103.9)
    assert lane.dropped == 0
    sender.handle(Acked(3), 104.0)
    assert lane.dropped == 5


def test_a_window_goes_out_and_acknowledgements_let_the_rest_follow():
    sender = RelaySender(lane_of(b"a", b"b", b"c", b"d", b"e"), SETTINGS, 0.0)
    first = sender.handle(Closed(), 0.0)
    assert first == [Transmit(TagKind.RELAYED, n, f) for n, f in enumerate([b"a", b"b", b"c", b"d"], 1)]
    assert sender.handle(Acked(3), 0.01) == [Transmit(TagKind.RELAYED, 5, b"e"), Transmit(TagKind.END, 6, None)]
    assert sender.handle(Acked(6), 0.02) == []
    assert sender.handle(Acked(7), 0.03) == [Delivered()]
    assert (sender.finished, sender.delivered, sender.retransmitted, sender.timer) == (True, 5, 0, None)


def test_an_empty_move_is_an_end():
    sender = RelaySender(lane_of(), SETTINGS, 0.0)
    assert sender.handle(Closed(), 0.0) == [Transmit(TagKind.END, 1, None)]
    assert sender.handle(Acked(2), 0.1) == [Delivered()]


def test_packets_that_come_late_are_sent_when_they_come():
    lane = lane_of()
    sender = RelaySender(lane, SETTINGS, 0.0)
    assert sender.handle(Appended(), 0.0) == []
    lane.append(b"a")
    assert sender.handle(Appended(), 1.0) == [Transmit(TagKind.RELAYED, 1, b"a")]
    assert sender.handle(Acked(2), 1.1) == []
    assert sender.timer is None
    assert sender.handle(Closed(), 2.0) == [Transmit(TagKind.END, 2, None)]


def test_the_timer_sends_again_half_as_much_at_doubled_intervals():
    sender = RelaySender(lane_of(b"a", b"b"), SETTINGS, 0.0)
    sent = sender.handle(Closed(), 0.0)
    assert sender.handle(Tick(), 0.05) == []
    assert sender.handle(Tick(), 0.1) == sent[:2]
    assert sender.timer == pytest.approx(0.3)
    assert sender.handle(Tick(), 0.31) == sent[:1]
    assert sender.timer == pytest.approx(0.71)
    assert sender.retransmitted == 3


def test_repeated_acknowledgements_that_name_nothing_are_no_news():
    sender = RelaySender(lane_of(b"a", b"b", b"c", b"d"), SETTINGS, 0.0)
    sender.handle(Appended(), 0.0)
    assert [sender.handle(Acked(1), 0.01) for _ in range(9)] == [[]] * 9


def test_it_gives_up_without_progress_only():
    settings = RelaySettings(window=4, retry=1.0, deadline=5.0)
    sender = RelaySender(lane_of(b"a", b"b"), settings, 0.0)
    sender.handle(Closed(), 0.0)
    sender.handle(Acked(2), 4.0)
    assert GaveUp() not in sender.handle(Tick(), 8.0)
    assert sender.handle(Tick(), 20.0) == [GaveUp()]
    assert sender.finished
    assert sender.handle(Acked(3), 20.0) == []


def test_acknowledgements_of_numbers_never_sent_teach_nothing():
    sender = RelaySender(lane_of(b"a"), SETTINGS, 0.0)
    sender.handle(Appended(), 0.0)
    assert sender.handle(Acked(9), 0.0) == []
    assert sender.handle(Acked(0), 0.0) == []
    assert sender.delivered == 0


@pytest.mark.parametrize("before", [1, 2, 17])
def test_a_successor_asks_for_the_number_expected(before: int):
    sender = RelaySender(lane_of(b"a", b"b"), SETTINGS, 0.0, asking=True)
    question = Transmit(TagKind.RELAYED, 0, None)
    assert sender.handle(Closed(), 0.0) == [question]
    assert sender.handle(Tick(), 0.1) == [question]
    receiver = Receiver(before)
    assert sender.handle(Acked(receiver.receive(question)), 0.2) == [
        Transmit(TagKind.RELAYED, before, b"a"),
        Transmit(TagKind.RELAYED, before + 1, b"b"),
        Transmit(TagKind.END, before + 2, None),
    ]


def test_an_interrupted_delivery_continues_with_its_numbers():
    sender = RelaySender(lane_of(b"a", b"b", b"c"), SETTINGS, 0.0)
    sender.handle(Closed(), 0.0)
    sender.handle(Acked(2), 0.1)
    sender.resume_at(100.0)
    assert sender.handle(Closed(), 100.0) == [
        Transmit(TagKind.RELAYED, 2, b"b"),
        Transmit(TagKind.RELAYED, 3, b"c"),
        Transmit(TagKind.END, 4, None),
    ]


def test_a_delivery_that_was_given_up_goes_on_with_its_numbers():
    """The replica has accepted two of which it could not tell."""
    settings = RelaySettings(window=4, retry=1.0, deadline=5.0, total=60.0)
    sender = RelaySender(lane_of(b"a", b"b", b"c"), settings, 0.0)
    sender.handle(Closed(), 0.0)
    while not sender.gave_up:
        assert sender.timer is not None
        sender.handle(Tick(), sender.timer)
    sender.resume_at(100.0)
    assert sender.handle(Closed(), 100.0) == [Transmit(TagKind.RELAYED, 1, b"a")]
    assert sender.handle(Acked(3), 100.1) == [Transmit(TagKind.RELAYED, 3, b"c"), Transmit(TagKind.END, 4, None)]
    assert sender.handle(Acked(5), 100.2) == [Delivered()]
    assert (sender.delivered, sender.gave_up, sender.finished) == (3, False, True)
    sender.resume_at(200.0)
    assert sender.handle(Closed(), 200.0) == [], "it is over"


class Simulation:
    """Sender, receiver and two links. Each transmission draws: lost, or delays of one or two copies."""

    def __init__(self, frames: list[bytes], draw: st.DataObject, *, asking_from: int = 0) -> None:
        self.draw = draw
        self.frames = frames
        self.lane = lane_of()
        asking = asking_from > 0
        self.sender = RelaySender(self.lane, SETTINGS, 0.0, asking=asking)
        self.receiver = Receiver(asking_from or 1)
        self.queue: list[tuple[float, int, object]] = []
        self.count = 0
        self.faults = 60
        self.timeouts = 0
        self.progress: object = None
        self.outcome: object = None

    def transmit(self, now: float, message: object) -> None:
        fates = ["ok", "ok", "lost", "twice", "late"]
        fate = self.draw.draw(st.sampled_from(fates)) if self.faults > 0 and self.timeouts < 2 else "ok"
        self.faults -= 1
        delays = {"ok": [0.01], "lost": [], "twice": [0.01, 0.05], "late": [0.15]}[fate]
        for delay in delays:
            self.count += 1
            heapq.heappush(self.queue, (now + delay, self.count, message))

    def feed(self, event: object, now: float) -> None:
        for instruction in self.sender.handle(event, now):  # type: ignore[arg-type]
            if isinstance(instruction, Transmit):
                self.transmit(now, instruction)
            else:
                self.outcome = instruction
        self.sender.validate()
        self.timeouts += isinstance(event, Tick)
        progress = self.sender.delivered, self.sender.asking
        if progress != self.progress:  # more timeouts without any, at the longest interval, would rightly be given up
            self.progress, self.timeouts = progress, 0

    def run(self) -> None:
        now = 0.0
        for frame in self.frames:
            self.lane.append(frame)
            self.feed(Appended(), now)
        self.feed(Closed(), now)
        for _ in range(5000):
            if self.outcome is not None:
                return
            due = [self.queue[0][0]] if self.queue else []
            due += [self.sender.timer] if self.sender.timer is not None else []
            now = max(now, min(due))
            if self.queue and self.queue[0][0] <= now:
                self.arrive(heapq.heappop(self.queue)[2], now)
            else:
                self.feed(Tick(), now)
        raise AssertionError("no end in sight")

    def arrive(self, message: object, now: float) -> None:
        if isinstance(message, Transmit):
            self.receiver.receive(message)
            self.transmit(now, self.receiver.answer)
        else:
            self.feed(message, now)


@given(st.integers(0, 30), st.data())
def test_delivered_once_and_in_order_whatever_the_links_do(count: int, draw: st.DataObject):
    simulation = Simulation(numbered(count), draw)
    simulation.run()
    assert simulation.outcome == Delivered()
    assert simulation.receiver.accepted == [*numbered(count), None]
    assert simulation.sender.delivered == count
    assert len(simulation.lane) == 0


@given(st.integers(0, 12), st.integers(1, 50), st.data())
def test_a_successor_delivers_the_rest_once(count: int, expected: int, draw: st.DataObject):
    simulation = Simulation(numbered(count), draw, asking_from=expected)
    simulation.run()
    assert simulation.outcome == Delivered()
    assert simulation.receiver.accepted == [*numbered(count), None]


@pytest.mark.parametrize("round_trip", [0.01, 0.3, 1.0, 2.0])
def test_a_way_slower_than_the_timer_is_learned_and_not_flooded(round_trip):
    """Nothing is lost, but answers take longer than ``retry``: few frames go twice, and it takes some round trips."""
    count = 192
    sender = RelaySender(lane_of(*numbered(count)), RelaySettings(window=32, retry=0.1, deadline=10.0), 0.0)
    receiver, ways, order, now = Receiver(), [], 0, 0.0

    def leave(instructions, at):
        nonlocal order
        for each in instructions:
            if isinstance(each, Transmit):
                order += 1
                heapq.heappush(ways, (at + round_trip / 2, order, each))

    leave(sender.handle(Closed(), now), now)
    while not sender.finished:
        due = ways[0][0] if ways else float("inf")
        if sender.timer is not None and sender.timer <= due:
            now = sender.timer
            leave(sender.handle(Tick(), now), now)
            continue
        now, _, message = heapq.heappop(ways)
        if isinstance(message, Acked):
            leave(sender.handle(message, now), now)
            continue
        receiver.receive(message)
        if not any(at == now and isinstance(other, Transmit) for at, _, other in ways):  # one answer to each batch
            order += 1
            heapq.heappush(ways, (now + round_trip / 2, order, receiver.answer))
    assert receiver.accepted == [*numbered(count), None]
    assert now <= 30 * round_trip
    assert sender.retransmitted <= count


def test_what_is_missing_is_sent_again_alone_once_and_again_only_when_something_younger_is_there():
    sender = RelaySender(lane_of(*numbered(40)), RelaySettings(window=8, retry=0.1, deadline=60.0), 0.0)
    assert len(sender.handle(Appended(), 0.0)) == 8
    again = Transmit(TagKind.RELAYED, 1, numbered(1)[0])
    assert sender.handle(Acked(1, 0b11), 0.01) == [], "2 and 3: it may be late"
    assert sender.handle(Acked(1, 0b111), 0.01) == [again]
    assert sender.handle(Acked(1, 0b1111111), 0.02) == []
    sent = sender.handle(Acked(4, 0b1110), 0.03)  # 6 to 8 are there; the window is half of what it was, and one more
    assert sent == [Transmit(TagKind.RELAYED, number, numbered(number)[-1]) for number in (4, 5)]
    assert sender.retransmitted == 3
    sender.validate()


def test_what_was_sent_again_and_lost_again_is_sent_once_more():
    sender = RelaySender(lane_of(*numbered(40)), RelaySettings(window=8, retry=9.0, deadline=60.0), 0.0)
    sender.handle(Appended(), 0.0)
    assert [each.sequence for each in sender.handle(Acked(3, 0b111), 0.01)][:1] == [3]
    sender.handle(Acked(3, 0b111111), 0.02)
    assert sender.handle(Acked(3, 0b1111111), 0.02) == [], "9 and 10 left before"
    sender.validate()


def test_nonsense_about_what_came_early_is_ignored():
    sender = RelaySender(lane_of(*numbered(8)), SETTINGS, 0.0)
    sender.handle(Appended(), 0.0)
    assert sender.handle(Acked(1, 1 << 63), 0.01) == []
    assert sender.handle(Acked(1, 0b1111), 0.01) == []


@pytest.mark.parametrize(("loss", "least", "most"), [(0.0, 13_900, 1.001), (0.01, 6_000, 1.05), (0.05, 1_500, 1.15)])
def test_losses_cost_what_is_lost_and_little_more(loss: float, least: float, most: float):
    """20,000 packets over a way of 1 ms and back that takes 14,000/s: packets/s, and frames sent for each."""
    chance, count, busy, now, sent = random.Random(1), 20_000, 0.0, 0.0, 0
    lane = Lane(Budget(count, 10**9), 0.0)
    for _ in range(count):
        lane.append(b"x")
    sender = RelaySender(lane, RelaySettings(window=32, retry=0.1, deadline=10.0), 0.0)
    receiver, ways = Receiver(), []

    def leave(instructions):
        nonlocal busy, sent
        for each in instructions:
            if isinstance(each, Transmit):
                busy, sent = max(busy, now) + 1 / 14_000, sent + 1
                if chance.random() >= loss:
                    heapq.heappush(ways, (busy + 0.0005, sent, each))

    leave(sender.handle(Closed(), now))
    while not sender.finished:
        if not ways or (sender.timer is not None and sender.timer < ways[0][0]):
            now = sender.timer
            leave(sender.handle(Tick(), now))
            continue
        now, order, message = heapq.heappop(ways)
        if isinstance(message, Acked):
            leave(sender.handle(message, now))
            continue
        receiver.receive(message)
        if chance.random() >= loss:
            heapq.heappush(ways, (now + 0.0005, order, receiver.answer))
    assert len(receiver.accepted) == count + 1
    assert count / now >= least and sent / count <= most, (count / now, sent / count)


def test_answers_to_an_earlier_flight_are_no_news_of_a_loss_however_small_the_window_has_become():
    """Eight numbers leave, the window shrinks to two and to one: the eight may still be answered, each by a repeat."""
    sender = RelaySender(lane_of(*numbered(8)), RelaySettings(window=8, retry=0.1, deadline=60.0), 0.0)
    sender.handle(Acked(1), 0.0)
    assert len(sender.handle(Appended(), 0.0)) == 8
    for _ in range(3):
        assert sender.timer is not None
        sender.handle(Tick(), sender.timer)
    assert sender.handle(Acked(3), 1.0)  # the first answer is late; the repeats of 3 to 8 follow it
    assert [sender.handle(Acked(3), 1.0) for _ in range(6)] == [[]] * 6


def test_after_an_interruption_late_answers_are_no_news_of_a_loss():
    sender = RelaySender(lane_of(*numbered(4)), SETTINGS, 0.0)
    sender.handle(Appended(), 0.0)
    sender.resume_at(1.0)
    assert len(sender.handle(Appended(), 1.0)) == 4
    assert [sender.handle(Acked(1), 1.0) for _ in range(6)] == [[]] * 6


@pytest.mark.parametrize(("round_trip", "interval"), [(0.0, 0.1), (0.01, 0.1), (0.2, 0.6), (99.0, 15.0)])
def test_the_first_interval_follows_what_a_marker_took(round_trip: float, interval: float):
    sender = RelaySender(lane_of(b"a"), SETTINGS, 0.0, round_trip=round_trip)
    sender.handle(Appended(), 0.0)
    assert sender.timer == pytest.approx(interval)
    sender.resume_at(5.0)
    sender.handle(Appended(), 5.0)
    assert sender.timer == pytest.approx(5.0 + interval)


def test_a_late_tick_lets_answers_that_wait_be_read_first_but_only_once():
    sender = RelaySender(lane_of(b"a", b"b"), SETTINGS, 0.0)
    sent = sender.handle(Appended(), 0.0)
    assert sender.handle(Tick(), 0.9) == []
    assert sender.timer == pytest.approx(0.95)
    assert sender.handle(Tick(), 2.0) == sent


def test_a_process_that_stood_still_for_longer_than_the_deadline_reads_what_has_come_before_it_gives_up():
    sender = RelaySender(lane_of(b"a"), SETTINGS, 0.0)
    sender.handle(Closed(), 0.0)
    assert sender.handle(Tick(), 100.0) == []
    assert sender.handle(Acked(3), 100.0) == [Delivered()]
