"""What a replica sends, no faster than the switch takes it.

A hold can release thousands of packets at once, where others come one by one. A switch keeps what it has no time for in
a queue of some length, and what does not fit is lost, uncounted even: behind each of BMv2's ports that is some 1,200
frames (libpcap's ring of 2 MiB), which a middlebox overruns in a tenth of a second. So frames that are more than those
that have just come in are counted. After every `MARK` of them a LOOP goes out, which the switch sends back behind them;
at most `PacedSender.window` may be on their way without one, and what comes then waits, in order, here: output of the
middlebox, echoes and acknowledgements alike, so an echo still follows all output that was due before it.

The window is `WINDOW` unless the orchestrator knows what the switch keeps. It is what a TCP stream's pause ends with: a
sender has as many frames on their way as its window, whatever they wait for; where they do not fit this one, some stand
here until the connection pauses, and those behind them are counted one by one.

Traffic that just passes through has as many frames going out as coming in: it costs no LOOP, and nothing waits. A
switch that is faster than the middlebox answers before the window is used up. Once a switch has proved to be
`QUICK`, a LOOP is met as soon as it is in the receive ring (`intake`), not behind the frames before it there.

A LOOP may be lost, with the switch or by it: it is sent again. If nothing comes back for `PATIENCE` seconds, frames
leave unpaced until something does: to keep them longer would help nobody.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from splitmerge.tag import Tag, TagKind

MARK = 128
"""Counted frames between two LOOPs."""
WINDOW = 512
"""Most counted frames behind the last LOOP that has come back, unless told: less than half of what BMv2 keeps."""
QUICK = 30_000.0
"""Frames a second that a switch must have taken to be quick: three times BMv2's best."""
PROOF = 16 * WINDOW
"""Counted frames on end that prove it. A switch that loses frames has taken them quickly: it lost 4,000 at most."""
AGAIN = 0.2
"""Seconds without an answer after which a LOOP is sent again."""
PATIENCE = 30.0
FRAMES, BYTES = 65536, 64 * 1024 * 1024
"""Most that may wait; the newest beyond are dropped, and counted. As much as holds may keep."""
_NUMBERS = 1 << 32
_FRAME = bytes.fromhex("0200000000fe 0200000000fe 0000") + bytes(46)
"""What a LOOP carries: from the middlebox's MAC, to it."""


class PacedSender:
    """One replica's way out. ``send`` puts a frame on the wire; ``clock`` tells seconds."""

    def __init__(self, send: Callable[[bytes], object], clock: Callable[[], float]) -> None:
        self.dropped = 0
        """Frames for which there was no room."""
        self.window = WINDOW
        """Most counted frames behind the last LOOP that has come back: what the switch's port surely keeps."""
        self.quick = False
        """The switch has just proved to be `QUICK`. Each burst begins without."""
        self._send = send
        self._clock = clock
        self._passing = 0
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._went = 0
        self._marked = 0
        self._back = 0
        self._marked_at = 0.0
        self._progress = 0.0
        self._blind = False
        self._timed = 0
        self._timed_at = 0.0

    def came(self, frames: int) -> None:
        """So many frames have just come in: as many may go out uncounted."""
        self._passing = frames

    def send(self, frame: bytes) -> None:
        """Send, or keep until the switch has room."""
        if self._queue or (not self._passing and not self._free):
            self._keep(frame)
        elif self._passing:
            self._passing -= 1
            self._send(frame)
        else:
            self._count(frame)

    @property
    def _free(self) -> bool:
        return self._blind or self._went - self._back < self.window

    @property
    def waiting(self) -> int:
        """Frames that wait."""
        return len(self._queue)

    def _keep(self, frame: bytes) -> None:
        # A copy of what may change until it is sent; for bytes that is none. What is no frame fails here, where whoever
        # sends it is told, and not when it is its turn.
        frame = bytes(memoryview(frame)) if type(frame) is not bytes else frame
        if len(self._queue) >= FRAMES or self._bytes + len(frame) > BYTES:
            self.dropped += 1
            return
        self._queue.append(frame)
        self._bytes += len(frame)

    def _count(self, frame: bytes) -> None:
        self._send(frame)
        self._went += 1
        if self._went - self._marked >= MARK:
            now = self._clock()
            if self._marked == self._back:
                self._progress = now  # nothing was awaited
                if not self._queue:
                    self._timed, self._timed_at, self.quick = self._back, now, False
            self._mark(now)

    def _mark(self, now: float) -> None:
        self._marked, self._marked_at = self._went, now
        self._send(Tag(TagKind.LOOP, 0, self._went % _NUMBERS).push(_FRAME))

    def looped(self, sequence: int) -> None:
        """A LOOP has come back. One that cannot be one of these (a predecessor's on the same port) says nothing."""
        ahead = (sequence - self._back) % _NUMBERS
        if ahead <= self._marked - self._back:
            self._back += ahead
            self._progress, self._blind = self._clock(), False
            self._time()
            self._flush()

    def _time(self) -> None:
        frames = self._back - self._timed
        if frames >= PROOF:
            self.quick = frames > QUICK * (self._progress - self._timed_at)
            self._timed, self._timed_at = self._back, self._progress

    def _flush(self) -> None:
        while self._queue and self._free:
            frame = self._queue.popleft()
            self._bytes -= len(frame)
            self._count(frame)

    def next_due(self) -> float:
        """When to `tick`."""
        return self._marked_at + AGAIN if self._queue else math.inf

    def tick(self, now: float) -> None:
        """Frames wait, and no LOOP has come back for too long: send it again, or give up waiting."""
        if not self._queue or now < self._marked_at + AGAIN:
            return
        self._blind = now >= self._progress + PATIENCE
        self._mark(now)
        self._flush()

    def finish(self) -> None:
        """The end: what waits leaves now."""
        while self._queue:
            self._send(self._queue.popleft())
