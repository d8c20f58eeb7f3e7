"""Frames leave no faster than the switch takes them, and in order."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestlib.packets import pace
from guestlib.packets.pace import AGAIN, MARK, PATIENCE, PROOF, WINDOW, PacedSender
from splitmerge.tag import TagKind, pop


class Wire:
    """What a sender has sent: numbers of frames, and of LOOPs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[tuple[str, int]] = []
        self.sender = PacedSender(self._sent, lambda: self.now)
        self._next = 0

    def _sent(self, frame: bytes) -> None:
        popped = pop(frame)
        if popped is None:
            self.order.append(("frame", int.from_bytes(frame[14:18], "big")))
            return
        assert popped[0].kind is TagKind.LOOP and popped[0].epoch == 0
        self.order.append(("loop", popped[0].sequence))

    def send(self, count: int) -> None:
        for _ in range(count):
            self.sender.send(bytes(14) + self._next.to_bytes(4, "big"))
            self._next += 1

    @property
    def frames(self) -> list[int]:
        return [number for kind, number in self.order if kind == "frame"]

    @property
    def loops(self) -> list[int]:
        return [number for kind, number in self.order if kind == "loop"]


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_what_passes_through_is_not_counted(wire: Wire) -> None:
    for _ in range(100):
        wire.sender.came(64)
        wire.send(64)
    assert len(wire.frames) == 6400 and wire.loops == [] and wire.sender.next_due() == math.inf


def test_credit_of_one_batch_is_not_saved_for_later(wire: Wire) -> None:
    wire.sender.came(10_000)
    wire.sender.came(0)
    wire.send(MARK)
    assert wire.loops == [MARK]


def test_a_burst_waits_for_the_switch_to_take_what_has_gone(wire: Wire) -> None:
    wire.send(4 * WINDOW)
    assert len(wire.frames) == WINDOW and wire.loops == [MARK, 2 * MARK, 3 * MARK, 4 * MARK]
    assert wire.order[MARK] == ("loop", MARK), "behind what it counts"
    wire.sender.looped(MARK)
    assert len(wire.frames) == WINDOW + MARK
    wire.sender.looped(4 * MARK)
    assert len(wire.frames) == 2 * WINDOW
    for loop in wire.loops[5:]:
        wire.sender.looped(loop)
    while wire.sender.waiting:
        wire.sender.looped(wire.loops[-1])
    assert wire.frames == list(range(4 * WINDOW)) and wire.sender.dropped == 0


def test_what_passes_through_queues_behind_what_waits(wire: Wire) -> None:
    wire.send(WINDOW + 1)
    wire.sender.came(5)
    wire.send(5)
    assert len(wire.frames) == WINDOW and wire.sender.waiting == 6
    wire.sender.looped(MARK)
    assert wire.frames == list(range(WINDOW + 6))


def test_a_lost_loop_is_sent_again_and_counts_for_all_before_it(wire: Wire) -> None:
    wire.send(2 * WINDOW)
    assert wire.sender.next_due() == AGAIN
    wire.sender.tick(AGAIN / 2)
    assert wire.loops[-1] == WINDOW and len(wire.loops) == WINDOW // MARK
    wire.sender.tick(AGAIN)
    assert wire.loops[-2:] == [WINDOW, WINDOW]
    wire.sender.looped(99_999)  # of a predecessor on this port
    wire.sender.looped(WINDOW)
    wire.sender.looped(MARK)  # late
    assert len(wire.frames) == 2 * WINDOW


def test_where_no_loop_comes_back_frames_leave_all_the_same_in_the_end(wire: Wire) -> None:
    wire.send(3 * WINDOW)
    while wire.now < PATIENCE:
        wire.sender.tick(wire.now)
        assert len(wire.frames) == WINDOW
        wire.now += AGAIN
    wire.sender.tick(wire.now)
    assert wire.frames == list(range(3 * WINDOW))
    wire.sender.looped(3 * WINDOW)
    wire.send(2 * WINDOW)
    assert len(wire.frames) == 4 * WINDOW, "an answer: paced again"


def test_what_may_wait_is_bounded_and_counted(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FRAMES", 10)
    wire.send(WINDOW + 13)
    assert wire.sender.waiting == 10 and wire.sender.dropped == 3
    monkeypatch.setattr(pace, "FRAMES", 100)
    monkeypatch.setattr(pace, "BYTES", 11 * 18)
    wire.send(3)
    assert wire.sender.waiting == 11 and wire.sender.dropped == 5


def test_a_switch_that_keeps_more_is_sent_more_at_once(wire: Wire) -> None:
    """So a stream's whole window fits, and what comes after it passes through uncounted."""
    wire.sender.window = 3072
    wire.send(3000)
    assert len(wire.frames) == 3000 and wire.sender.waiting == 0
    wire.sender.came(64)
    wire.send(64)
    assert wire.sender.waiting == 0 and wire.loops[-1] == 3000 // MARK * MARK
    wire.sender.came(0)
    wire.send(100)
    assert len(wire.frames) == 64 + 3072 and wire.sender.waiting == 28
    wire.sender.looped(wire.loops[-1])
    assert wire.frames == list(range(3164))


def answer(wire: Wire, windows: int, takes: float) -> None:
    """The switch takes so many windows, each in so many seconds."""
    for _ in range(windows):
        wire.now += takes
        wire.sender.looped(wire.loops[-1])


@pytest.mark.parametrize(("window_takes", "quick"), [(0.002, True), (0.016, True), (0.018, False), (0.052, False)])
def test_a_switch_proves_that_it_is_quick(wire: Wire, window_takes: float, quick: bool) -> None:
    """BMv2 takes 10,000 frames a second: 51 ms a window."""
    wire.send(PROOF + 8 * WINDOW)
    answer(wire, PROOF // WINDOW - 1, window_takes)
    assert not wire.sender.quick
    answer(wire, 1, window_takes)
    assert wire.sender.quick is quick


def test_a_switch_that_has_lost_thousands_of_frames_is_not_quick(wire: Wire) -> None:
    """It says that it has taken what was before the LOOP; as it has, in a way."""
    wire.send(4 * PROOF)
    for _ in range(3):
        answer(wire, 8, 0.001)
        answer(wire, 8, 0.052)
        assert not wire.sender.quick


def test_every_burst_begins_with_a_switch_that_has_proved_nothing(wire: Wire) -> None:
    wire.send(PROOF + 2 * WINDOW)
    while wire.sender.waiting:
        answer(wire, 1, 0.002)
    answer(wire, 1, 0.002)
    assert wire.sender.quick
    wire.send(MARK)
    assert not wire.sender.quick


def test_at_the_end_nothing_stays(wire: Wire) -> None:
    wire.send(2 * WINDOW)
    wire.sender.finish()
    assert wire.frames == list(range(2 * WINDOW)) and wire.sender.waiting == 0


@given(st.lists(st.one_of(st.integers(1, 700), st.sampled_from(["loop", "lose", "came"])), max_size=60))
def test_whatever_happens_the_order_stays_and_nothing_is_missing(steps: list[int | str]) -> None:
    wire, taken = Wire(), 0
    for step in steps:
        unanswered = wire.loops[taken:]
        match step:
            case "loop" if unanswered:
                taken += 1
                wire.sender.looped(unanswered[0])
            case "lose" if unanswered:
                taken += 1
            case "came":
                wire.sender.came(3)
            case int():
                wire.send(step)
        wire.sender.tick(wire.now)
        wire.now += AGAIN
        assert wire.frames == list(range(len(wire.frames)))
    assert len(wire.frames) + wire.sender.waiting == sum(step for step in steps if isinstance(step, int))


@pytest.mark.parametrize("wrong", ["text", None, 7])
def test_what_is_no_frame_fails_where_it_is_sent_and_not_when_it_is_its_turn(wire: Wire, wrong: object) -> None:
    wire.send(WINDOW)
    with pytest.raises(TypeError):
        wire.sender.send(wrong)  # type: ignore[arg-type]
    assert wire.sender.waiting == 0


def test_a_frame_that_waits_leaves_as_it_was_sent(wire: Wire) -> None:
    wire.send(WINDOW)
    frame = bytearray(bytes(14) + (WINDOW).to_bytes(4, "big"))
    wire.sender.send(frame)  # type: ignore[arg-type]
    frame[14:] = bytes(4)
    wire.sender.looped(WINDOW)
    assert wire.frames == list(range(WINDOW + 1))
