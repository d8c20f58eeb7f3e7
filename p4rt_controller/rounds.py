"""Markers that go somewhere and come back, without I/O: `drain` (MARKER, MARKER_ECHO) and the CPU loop (LOOP).

A round is one marker with a sequence number of its own. A marker may be lost (BMv2's queues), so after ``retry``
seconds the next round starts, with a new number, at doubled intervals. Whichever round comes back first is as good as
any other: each was sent after the table write that it is to prove. Numbers of other calls, earlier ones included,
are ignored.

A replica that is busy meets its marker when it has worked off what is in front of it, which may take far longer than
the deadline: whoever sent it says whether that is so (``busy``), and then it is waited for as long again. The numbers
stay, for an echo on its way is as good as ever; a new call would ignore it, and wait for all that has come since.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_BACKOFF_MAX = 8
"""The retry interval grows to this many times the first."""


def idle() -> bool:
    """``busy`` of a marker that nothing can keep: the deadline is the deadline."""
    return False


@dataclass(frozen=True, slots=True)
class Begin:
    """Send the first marker."""


@dataclass(frozen=True, slots=True)
class Returned:
    """A marker with this number came back."""

    sequence: int


@dataclass(frozen=True, slots=True)
class RoundTick:
    """The time of `Rounds.timer` has come (or has not: then nothing happens)."""


@dataclass(frozen=True, slots=True)
class SendMarker:
    """Send a marker with this number."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Proven:
    """A marker has come back."""


@dataclass(frozen=True, slots=True)
class Expired:
    """None came back within the deadline."""


RoundEvent = Begin | Returned | RoundTick
RoundInstruction = SendMarker | Proven | Expired


class Rounds:
    """Markers numbered from ``first`` on; ``retry`` and ``deadline`` in seconds."""

    def __init__(self, first: int, retry: float, deadline: float, now: float) -> None:
        self._first = first
        self._interval = retry
        self._interval_max = retry * _BACKOFF_MAX
        self._deadline = deadline
        self._give_up = now + deadline
        self._busy: Callable[[], bool] = idle
        self.sent = 0
        """Markers sent."""
        self.timer: float | None = None
        """When to hand in the next `RoundTick`, None if none is due."""
        self.finished = False

    def waited_for(self, busy: Callable[[], bool], now: float) -> None:
        """Somebody waits from now on, and the deadline begins. ``busy``: asked when it is over; while it says yes,
        another one does.
        """
        self._busy = busy
        self._give_up = now + self._deadline

    def handle(self, event: RoundEvent, now: float) -> list[RoundInstruction]:
        """What to do about an event. Events after the end change nothing."""
        if self.finished:
            return []
        match event:
            case Begin():
                return self._send(now) if self.sent == 0 else []
            case Returned(sequence):
                return self._returned(sequence)
            case RoundTick():
                return self._tick(now)

    def _send(self, now: float) -> list[RoundInstruction]:
        sequence = (self._first + self.sent) & 0xFFFFFFFF
        self.sent += 1
        self.timer = min(now + self._interval, self._give_up)
        return [SendMarker(sequence)]

    def _returned(self, sequence: int) -> list[RoundInstruction]:
        if (sequence - self._first) & 0xFFFFFFFF >= self.sent:
            return []
        self.finished, self.timer = True, None
        return [Proven()]

    def _tick(self, now: float) -> list[RoundInstruction]:
        if self.timer is None or now < self.timer:
            return []
        if now >= self._give_up:
            if not self._busy():
                self.finished, self.timer = True, None
                return [Expired()]
            self._give_up = now + self._deadline
        self._interval = min(self._interval * 2, self._interval_max)
        return self._send(now)
