"""Packets that go from one replica to another over the peer connection: numbered, acknowledged, each taken once.

The sender (`Carrier`) takes them from a hold of the data plane as its window opens; so what waits is bounded by the
hold's room, and no packet is in two places. The receiver (`Arrivals`) takes parts in sequence only and answers with the
number it expects next, so what a broken connection lost is sent again and what came twice is ignored.

An answer that does not come has two reasons. The connection broke, or the receiver had no time: then all is in the
stream already, and a second copy of the window would only be in the way of the answer. So intervals double, and what
is said again is left out while bytes wait on the connection (`ToPeer.again`), but for the longest interval: by then a
part may never have been sent, because others filled the connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from guestlib.instructions import Instruction, Process, Reply, ToPeer
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Carried, Carry

PART_PACKETS = 64
"""Most packets in one Carry."""
PART_BYTES = 64 * 1024
"""A Carry with this many bytes takes no further packet."""
WINDOW = 16
"""Parts on their way at a time."""
RETRY = 0.2
"""Seconds without an answer after which parts are sent again; doubled each time, up to `RETRY_MOST`."""
RETRY_MOST = 2.0
DEADLINE = 10.0
"""Seconds without progress after which what is left is dropped, and counted."""
EPOCHS = 65536
"""Epochs whose numbers are remembered."""

Take = Callable[[int, int, int], list[bytes]]
"""`DataPlane.take`: epoch, most packets, most bytes."""


class Carrier:
    """One epoch's packets on their way to ``address``."""

    def __init__(self, epoch: int, address: str, take: Take, now: float) -> None:
        self.carried = 0
        """Packets that have arrived."""
        self.dropped = 0
        """Packets given up."""
        self._epoch = epoch
        self._address = address
        self._take = take
        self._next = 1
        self._unacked: deque[Carry] = deque()
        self._interval = RETRY
        self._sent_at = self._progress = now

    @property
    def idle(self) -> bool:
        """Nothing is on its way. (After `pump`: nothing waits either.)"""
        return not self._unacked

    def pump(self, now: float) -> list[Instruction]:
        """Send what the window allows."""
        out: list[Instruction] = []
        while len(self._unacked) < WINDOW and (frames := self._take(self._epoch, PART_PACKETS, PART_BYTES)):
            if not self._unacked:
                self._moves_on(now)
            part = Carry(epoch=self._epoch, number=self._next, frames=tuple(frames))
            self._next += 1
            self._unacked.append(part)
            out.append(ToPeer(self._address, part))
        return out

    def acknowledged(self, expected: int, now: float) -> list[Instruction]:
        """The other side has everything before this number."""
        while self._unacked and self._unacked[0].number < expected <= self._next:
            self.carried += len(self._unacked.popleft().frames)
            self._moves_on(now)
        return self.pump(now)

    def _moves_on(self, now: float) -> None:
        self._progress = self._sent_at = now
        self._interval = RETRY

    def next_due(self) -> float | None:
        """When `poll` has something to do."""
        return self._sent_at + self._interval if self._unacked else None

    def poll(self, now: float) -> list[Instruction]:
        """Say again what nobody has answered; give up when it has been too long."""
        if not self._unacked or now < self._sent_at + self._interval:
            return []
        if now >= self._progress + DEADLINE:
            self.give_up()
            return []
        self._sent_at = now
        again = self._interval < RETRY_MOST
        self._interval = min(2 * self._interval, RETRY_MOST)
        return [ToPeer(self._address, part, again=again) for part in self._unacked]

    def abandon(self) -> None:
        """The other side is gone: what was on its way to it died with it. What waits stays where it is."""
        self.dropped += sum(len(part.frames) for part in self._unacked)
        self._unacked.clear()

    def give_up(self) -> None:
        """The other side does not answer: drop all."""
        self.abandon()
        while frames := self._take(self._epoch, PART_PACKETS, PART_BYTES):
            self.dropped += len(frames)


class Arrivals:
    """What other replicas have carried here, by epoch."""

    def __init__(self, limit: int = EPOCHS) -> None:
        self._expected: dict[int, int] = {}
        self._limit = limit

    def take(self, message: Carry) -> list[Instruction]:
        """Process the part if it is the one expected; answer in any case."""
        expected = self._expected.get(message.epoch, 1)
        out: list[Instruction] = []
        if message.number == expected:
            out += [Process(frame, FlowKey.from_frame(frame)) for frame in message.frames]
            expected += 1
            self._expected[message.epoch] = expected
            if len(self._expected) > self._limit:
                del self._expected[next(iter(self._expected))]
        return [*out, Reply(Carried(epoch=message.epoch, expected=expected))]
