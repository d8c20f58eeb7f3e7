"""Delivery of buffered packets to a replica: numbered, acknowledged, what is lost sent again; without I/O.

The packets of one move, in order, are numbered 1, 2, … and END is numbered behind the last. At most ``window`` numbers
are on their way. The replica takes them in sequence only and acknowledges cumulatively ("next expected"), so
whatever the way does to frames and acknowledgements (loss, duplication, reordering, delay), every packet is accepted
once and in order. It keeps some that come early, and says which: so a number that is missing while one three or more
above it is there is sent again, alone (as in RFC 6675), and once more only when something that was first sent after
that is there. A timer sends everything unacknowledged again. Each time the window is halved: what was lost may have
been lost for want of room. Every acknowledgement that brings progress adds one.

The timer follows the way's round-trip time (RFC 6298): on a busy machine an answer may take longer than ``retry``, and
a sender that then repeats itself on every way and back only adds to what it waits for. A number that was sent more
than once times nothing (Karn's rule). A timeout was needless if what is acknowledged next is more than was sent again
since (as in RFC 3522): then the window is what it was, and the doubled interval is kept. The first interval is three
times what a marker has just taken (the deviation of a first measurement is half of it), so that a busy machine does not
begin with a timeout. A tick that comes late says that this process was busy, and acknowledgements may wait unread: it
is put off, once, so that they are read first.

A sender whose predecessor (before a restart of this process) may have begun the same epoch must not guess numbers: it
first asks with number 0, which no replica ever accepts and every replica answers with the number it expects. It must
not be handed acknowledgements from before: whoever uses it sends a MARKER to the replica first and waits for the echo.

A delivery as a whole is bounded too: what has not been sent `RelaySettings.total` seconds after it began is dropped and
counted, so that a way which is broken most of the time does not keep a flow's direct packets waiting for ever.

    sender = RelaySender(lane, settings, now)          lane: the packets, appended to by others
    sender.handle(Appended() | Closed() | Acked(n) | Tick(), now) -> [Transmit(...) …, Delivered() | GaveUp()]
    sender.timer                                        when to send Tick next, None = never
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from p4rt_controller.buffer import Lane
from splitmerge.tag import TagKind

_REORDERED = 3
"""A number that is missing while one so far above it is there has been lost rather than overtaken (RFC 6675 §2)."""
_PATIENCE = 4
"""The retry interval grows to the deadline divided by this."""


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """``window`` numbers; ``retry``, ``deadline`` (without any progress) and ``total`` in seconds."""

    window: int
    retry: float
    deadline: float
    total: float = math.inf


@dataclass(frozen=True, slots=True)
class Appended:
    """The lane has more packets."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The lane will get no more packets."""


@dataclass(frozen=True, slots=True)
class Acked:
    """The replica expects this number next; bit *i* of ``have``: it keeps the number *i* + 1 above that one."""

    expected: int
    have: int = 0


@dataclass(frozen=True, slots=True)
class Tick:
    """The time of `RelaySender.timer` has come (or has not: then nothing happens)."""


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send this to the replica. ``frame`` is None for END and for the question."""

    kind: TagKind
    sequence: int
    frame: bytes | None


@dataclass(frozen=True, slots=True)
class Delivered:
    """Everything, END included, has been accepted."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """No progress within the deadline."""


RelayEvent = Appended | Closed | Acked | Tick
RelayInstruction = Transmit | Delivered | GaveUp


class RelaySender:
    """One delivery.

    ``asking`` starts with the question for the number expected. ``round_trip``: what some other way and back has just
    taken, in seconds; 0 if nobody knows.
    """

    def __init__(
        self, lane: Lane, settings: RelaySettings, now: float, *, asking: bool = False, round_trip: float = 0.0
    ) -> None:
        self._lane = lane
        self._settings = settings
        self._base = 1
        self._next = 1
        self._highest = 1
        self._window = settings.window
        self._closed = False
        self._recover = 0
        self._repaired: dict[int, int] = {}  # number → the first one not sent yet when it was sent again
        self._first_interval = min(max(settings.retry, 3 * round_trip), self._interval_most)
        self._interval = self._least = self._first_interval
        self._timeout: tuple[int, int] | None = None  # window before it, and the number behind what was sent again
        self._put_off = False
        self._round_trip: tuple[float, float] | None = None  # smoothed, and its mean deviation, in seconds
        self._timed: tuple[int, float] | None = None  # a number that was sent once, and when
        self._progress = now
        self._expires = now + settings.total
        self._last = now
        self.timer: float | None = None
        """When to hand in the next `Tick`, None if nothing is on its way."""
        self.finished = False
        """Delivered, or given up."""
        self.gave_up = False
        """`resume_at` goes on: the replica may have accepted more than it has said, and its numbers tell which."""
        self.asking = asking
        """It does not know the number to begin with."""
        self.delivered = 0
        """Packets accepted by the replica."""
        self.retransmitted = 0
        """Frames sent more than once."""

    def handle(self, event: RelayEvent, now: float) -> list[RelayInstruction]:
        """What to do about an event. Events after the end change nothing."""
        if self.finished:
            return []
        self._last = now
        if now >= self._expires and not self.asking:
            self._lane.drop_last(len(self._lane) - self.outstanding)
        match event:
            case Appended():
                return self._pump(now)
            case Closed():
                self._closed = True
                return self._pump(now)
            case Acked(expected, have):
                return self._acked(expected, have, now)
            case Tick():
                return self._tick(now)

    @property
    def outstanding(self) -> int:
        """Packets at the head of the lane that were sent, once at least, and not acknowledged."""
        return min(max(self._highest - self._base, 0), len(self._lane))

    def _pump(self, now: float) -> list[RelayInstruction]:
        """Send what the window allows."""
        if self.asking:
            return self._ask(now)
        if self._next == self._base:
            self._progress = now  # nothing was on its way: the deadline counts from here
        out: list[RelayInstruction] = []
        limit = min(self._base + self._window, self._end + self._closed)
        while self._next < limit:
            if self._timed is None and self._next >= self._highest:
                self._timed = self._next, now
            out.append(self._transmit(self._next))
            self._next += 1
        self._highest = max(self._highest, self._next)
        if self.timer is None and self._next > self._base:
            self.timer = now + self._interval
        return out

    def _ask(self, now: float) -> list[RelayInstruction]:
        if self.timer is not None:
            return []
        self._progress = now
        self.timer = now + self._interval
        return [Transmit(TagKind.RELAYED, 0, None)]

    @property
    def _end(self) -> int:
        """The number of END, as far as packets have come."""
        return self._base + len(self._lane)

    def _transmit(self, sequence: int) -> Transmit:
        index = sequence - self._base
        if index < len(self._lane):
            return Transmit(TagKind.RELAYED, sequence, self._lane[index])
        return Transmit(TagKind.END, sequence, None)

    def _acked(self, expected: int, have: int, now: float) -> list[RelayInstruction]:
        if self.asking:
            return self._answered(expected, now)
        if expected == self._base:
            return self._repair(have, now)
        if not self._base < expected <= self._highest:
            return []  # older than what is known, or about numbers never sent: nothing to learn
        packets = min(expected - self._base, len(self._lane))
        all_accepted = self._closed and expected > self._end
        self._lane.drop_first(packets)
        self.delivered += packets
        self._base = expected
        self._next = max(self._next, expected)
        self._judge_timeout(expected)
        self._window = min(self._window + 1, self._settings.window)
        self._put_off = False
        self._time(expected, now)
        self._progress = now
        self.timer = now + self._interval if self._next > self._base else None
        if all_accepted:
            self.finished, self.timer = True, None
            return [Delivered()]
        self._repaired = {number: sent for number, sent in self._repaired.items() if number >= expected}
        return self._repair(have, now) + self._pump(now)

    def _repair(self, have: int, now: float) -> list[RelayInstruction]:
        """Send again what is missing although later numbers are there."""
        top = self._base + have.bit_length()  # the highest number that is there
        if not have or top >= self._highest:
            return []
        lost = [
            number
            for number in range(self._base, min(top - _REORDERED + 1, self._next))
            if not (number > self._base and have >> (number - self._base - 1) & 1)
            and self._repaired.get(number, 0) <= top - _REORDERED + 1
        ]
        if not lost:
            return []
        if self._base >= self._recover:
            self._recover = self._highest
            self._window = max(1, self._window // 2)
        self._repaired.update(dict.fromkeys(lost, self._highest))
        self._timed = None
        self.retransmitted += len(lost)
        self.timer = now + self._interval
        return [self._transmit(number) for number in lost]

    def _judge_timeout(self, expected: int) -> None:
        """There is progress: was the timeout before it needless, or was something lost?"""
        if self._timeout is None:
            return
        window, resent = self._timeout
        self._timeout = None
        if expected > resent:
            self._window, self._least = window, self._interval
        self._interval = self._least

    def _time(self, expected: int, now: float) -> None:
        """Learn from the number that is being timed, if it has been acknowledged (RFC 6298 §2)."""
        if self._timed is None or expected <= self._timed[0]:
            return
        sample, self._timed = now - self._timed[1], None
        if self._round_trip is None:
            smoothed, deviation = sample, sample / 2
        else:
            smoothed, deviation = self._round_trip
            deviation = 0.75 * deviation + 0.25 * abs(smoothed - sample)
            smoothed = 0.875 * smoothed + 0.125 * sample
        self._round_trip = smoothed, deviation
        self._least = min(max(self._settings.retry, smoothed + 4 * deviation), self._interval_most)
        self._interval = self._least

    @property
    def _interval_most(self) -> float:
        return max(self._settings.retry, self._settings.deadline / _PATIENCE)

    def _answered(self, expected: int, now: float) -> list[RelayInstruction]:
        self.asking = False
        self._base = self._next = self._highest = expected
        self._progress = now
        self.timer = None
        return self._pump(now)

    def _go_back(self, now: float) -> list[RelayInstruction]:
        # Every number sent so far may still be answered by a repeated acknowledgement, and those mean no new loss.
        self._recover = self._highest
        self._repaired.clear()
        self._timed = self._timeout = None
        self._window = max(1, self._window // 2)
        self._next = self._base
        progress = self._progress
        out = self._pump(now)
        self.retransmitted += len(out)
        self._progress = progress
        self.timer = now + self._interval
        return out

    def _tick(self, now: float) -> list[RelayInstruction]:
        if self.timer is None or now < self.timer:
            return []
        if now - self.timer > self._interval / 2 and not self._put_off:
            self._put_off = True
            self.timer = now + self._interval / 2
            return []
        self._put_off = False
        if now - self._progress >= self._settings.deadline:
            self.finished, self.gave_up, self.timer = True, True, None
            return [GaveUp()]
        self._interval = min(self._interval * 2, self._interval_most)
        self.timer = now + self._interval
        if self.asking:
            return [Transmit(TagKind.RELAYED, 0, None)]
        window = self._window if self._timeout is None else self._timeout[0]
        out = self._go_back(now)
        self._timeout = window, self._next
        return out

    def resume_at(self, now: float) -> None:
        """Continue after an interruption, or after it was given up: what was on its way is taken for lost.

        The deadline counts anew. So does the bound of the whole if it was given up; else it counts on, without the
        interruption.
        """
        if self.gave_up:
            self.finished = self.gave_up = False
            self._expires, self._last = now + self._settings.total, now
        self._next = self._base
        self._recover = self._highest
        self._repaired.clear()
        self._timed = self._timeout = None
        self._put_off = False
        self._interval = self._first_interval
        self._expires += now - self._last
        self._last = self._progress = now
        self.timer = None

    def validate(self) -> None:
        """Check the invariants; for tests."""
        assert self._base <= self._next <= self._base + self._settings.window
        assert self._next <= self._highest
        assert self._next <= self._end + self._closed
        assert self.finished or (self.timer is not None) == (self._next > self._base or self._question_out)

    @property
    def _question_out(self) -> bool:
        return self.asking and self.timer is not None
