"""Frames come in order, and LOOPs before their turn where frames wait for them."""

from __future__ import annotations

from collections import deque

import pytest

from guestlib.packets import intake
from guestlib.packets.intake import LOOK, Intake
from guestlib.packets.pace import MARK, WINDOW, PacedSender
from splitmerge.tag import Tag, TagKind, pop

BATCH = 64


def frame(number: int) -> bytes:
    return bytes(12) + b"\x08\x00" + number.to_bytes(4, "big") + bytes(42)


def number_of(data: bytes) -> int:
    return int.from_bytes(data[14:18], "big")


class Ring:
    """A receive ring, and a switch that has taken all that is sent at once: a LOOP is in the ring's end immediately."""

    def __init__(self, *frames: bytes) -> None:
        self.frames = deque(frames)
        self.sent: list[int] = []
        self.loops = 0
        self.answers = False
        """Whether each frame that leaves brings another (TCP with a full window)."""
        self.now = 0.0
        self.turn_takes = 0.001
        self.sender = PacedSender(self._sent, lambda: self.now)
        self.intake = Intake(self, self.sender)
        self._next = 1_000_000

    def receive(self, limit: int) -> list[bytes]:
        return [self.frames.popleft() for _ in range(min(limit, len(self.frames)))]

    def _sent(self, data: bytes) -> None:
        if pop(data) is not None:
            self.loops += 1
            self.frames.append(data)
            return
        self.sent.append(number_of(data))
        if self.answers:
            self.frames.append(frame(self._next))
            self._next += 1

    def turn(self) -> list[bytes]:
        """What the shell does with a batch, and a middlebox that forwards; the frames of the batch."""
        self.now += self.turn_takes
        batch = self.intake.take(BATCH)
        for each in batch:
            popped = pop(each)
            if popped is None:
                self.sender.send(each)
            elif popped[0].kind is TagKind.LOOP:
                self.sender.looped(popped[0].sequence)
        return batch

    def release(self, count: int) -> None:
        """A hold is released: frames go out of which none has just come in."""
        self.sender.came(0)
        for number in range(count):
            self.sender.send(frame(number))


def test_while_nothing_waits_frames_are_left_in_the_ring() -> None:
    ring = Ring(*map(frame, range(200)))
    assert list(map(number_of, ring.intake.take(BATCH))) == list(range(64))
    assert len(ring.frames) == 136 and ring.intake.waiting == 0


def test_what_was_looked_at_is_taken_in_order_before_what_the_ring_has() -> None:
    ring = Ring(*map(frame, range(100)))
    ring.release(WINDOW + 1)
    ring.sender.quick = True
    assert list(map(number_of, ring.intake.take(BATCH))) == list(range(64))
    assert ring.intake.waiting == 36 and ring.sender.waiting == 0, "a LOOP was met, and all may go"
    ring.frames.extend(map(frame, range(100, 110)))
    assert list(map(number_of, ring.intake.take(BATCH))) == list(range(64, 100))
    assert list(map(number_of, ring.intake.take(BATCH))) == list(range(100, 110))
    assert ring.intake.take(BATCH) == []


def test_other_tagged_frames_keep_their_place() -> None:
    marker = Tag(TagKind.MARKER, 7, 1).push(frame(1))
    ring = Ring(frame(0), marker, frame(2))
    ring.release(WINDOW + 1)
    ring.sender.quick = True
    assert ring.intake.take(BATCH) == [frame(0), marker, frame(2)]


def test_a_switch_that_is_not_known_to_be_quick_is_given_its_time() -> None:
    ring = Ring(*map(frame, range(100)))
    ring.release(WINDOW + 1)
    assert len(ring.intake.take(BATCH)) == BATCH and ring.intake.waiting == 0 and ring.sender.waiting == 1


def test_a_stream_with_a_full_window_does_not_stay_in_the_queue_of_a_hold() -> None:
    """Hundreds of frames in the ring, and one more for each that leaves: LOOPs in their turn would never catch up."""
    ring = Ring(*map(frame, range(10_000, 10_500)))
    ring.answers = True
    ring.release(2500)
    turns = 0
    while ring.sender.waiting:
        ring.turn()
        turns += 1
        assert turns < 500, ring.sender.waiting
    for _ in range(200):
        ring.turn()
    loops = ring.loops
    for _ in range(100):
        ring.turn()
    assert ring.loops == loops and not ring.sender.waiting, "nothing is counted any more"
    assert ring.sent[:3000] == [*range(2500), *range(10_000, 10_500)]


def test_in_turn_the_queue_would_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why there is an `Intake`."""
    monkeypatch.setattr(Intake, "_look", lambda self: None)
    ring = Ring(*map(frame, range(10_000, 13_000)))
    ring.answers = True
    ring.release(2500)
    for _ in range(1000):
        ring.turn()
    assert ring.sender.waiting > 1000


def test_how_many_frames_are_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "AHEAD", 2 * LOOK)
    ring = Ring(*map(frame, range(10 * LOOK)))
    ring.release(WINDOW + 1)
    ring.sender.quick = True
    ring.frames.extend(ring.frames.popleft() for _ in range(len(ring.frames) - WINDOW // MARK))  # LOOPs last
    taken: list[bytes] = []
    for _ in range(10):
        taken += ring.intake.take(1)
        assert ring.intake.waiting <= 2 * LOOK
    assert len(taken) == 10 and len(ring.frames) > 0
