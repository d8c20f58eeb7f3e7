"""Packets that go from one replica to another over the peer connection: numbered, acknowledged, each taken once.

The sender (`Carrier`) takes them from a hold of the data plane as its window opens; so what waits is bounded by the
hold's room, and no packet is in two places. The receiver (`Arrivals`) takes parts in sequence only and answers with the
number it expects next, so what a broken connection lost is sent again and what came twice is ignored. A part also says
which is the oldest that the sender still has: what was given up before it is not waited for.

While more may follow nothing is given up: what waits is bounded by the hold's room, and it may get there yet. From
`Carrier.close` on the sender gives up when it has had no answer for `DEADLINE` seconds. (Any will do: what is expected
comes with the next repetition.) It does not know then what the receiver took of what was on its way, and what it may
still take; `Arrivals.seal` is the end of that.

An answer that does not come has two reasons. The connection broke, or the receiver had no time: then all is in the
stream already, and a second copy of the window would only be in the way of the answer. So intervals double, and what
is said again is left out while bytes wait on the connection (`ToPeer.again`), but for the longest interval: by then a
part may never have been sent, because others filled the connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

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
"""Seconds without an answer after which what is left is dropped, and counted, if nothing more follows."""
EPOCHS = 65536
"""Epochs whose numbers are remembered."""

Take = Callable[[int, int, int], list[bytes]]
"""`DataPlane.take`: epoch, most packets, most bytes."""


class Carrier:
    """One epoch's packets on their way to ``address``. ``open``: more may follow, until `close`."""

    def __init__(self, epoch: int, address: str, take: Take, now: float, *, open: bool = False) -> None:
        self.carried = 0
        """Packets that have arrived."""
        self.dropped = 0
        """Packets given up."""
        self.unsure = 0
        """Of those, how many were on their way: the other side may have taken them."""
        self._open = open
        self._epoch = epoch
        self._address = address
        self._take = take
        self._next = 1
        self._unacked: deque[Carry] = deque()
        self._interval = RETRY
        self._sent_at = self._heard = now

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
            oldest = self._unacked[0].number if self._unacked else self._next
            part = Carry(epoch=self._epoch, number=self._next, frames=tuple(frames), oldest=oldest)
            self._next += 1
            self._unacked.append(part)
            out.append(ToPeer(self._address, part))
        return out

    def acknowledged(self, expected: int, now: float) -> list[Instruction]:
        """The other side has everything before this number."""
        self._heard = now
        while self._unacked and self._unacked[0].number < expected <= self._next:
            self.carried += len(self._unacked.popleft().frames)
            self._moves_on(now)
        return self.pump(now)

    def _moves_on(self, now: float) -> None:
        self._heard = self._sent_at = now
        self._interval = RETRY

    def next_due(self) -> float | None:
        """When `poll` has something to do."""
        return self._sent_at + self._interval if self._unacked else None

    def poll(self, now: float) -> list[Instruction]:
        """Say again what nobody has answered; give up when it has been too long, and nothing more follows."""
        if not self._unacked or now < self._sent_at + self._interval:
            return []
        if not self._open and now >= self._heard + DEADLINE:
            self.give_up()
            return []
        self._sent_at = now
        again = self._interval < RETRY_MOST
        self._interval = min(2 * self._interval, RETRY_MOST)
        return [ToPeer(self._address, part, again=again) for part in self._unacked]

    def close(self, now: float) -> None:
        """Nothing more follows: the time without an answer runs, from now on."""
        self._open = False
        self._heard = now

    def abandon(self) -> None:
        """The other side is gone: what was on its way to it died with it. What waits stays where it is."""
        packets = sum(len(part.frames) for part in self._unacked)
        self.unsure += packets
        self.dropped += packets
        self._unacked.clear()

    def give_up(self) -> None:
        """The other side does not answer: drop all."""
        self.abandon()
        while frames := self._take(self._epoch, PART_PACKETS, PART_BYTES):
            self.dropped += len(frames)


@dataclass(slots=True)
class _Arrived:
    expected: int = 1
    packets: int = 0
    sealed: bool = False


class Arrivals:
    """What other replicas have carried here, by epoch."""

    def __init__(self, limit: int = EPOCHS) -> None:
        self._arrived: dict[int, _Arrived] = {}
        self._limit = limit

    def take(self, message: Carry) -> list[Instruction]:
        """Process the part if it is the one expected; answer in any case, but when the epoch is sealed."""
        arrived = self._of(message.epoch)
        if arrived.sealed:
            return []
        out: list[Instruction] = []
        arrived.expected = max(arrived.expected, message.oldest)
        if message.number == arrived.expected:
            out += [Process(frame, FlowKey.from_frame(frame)) for frame in message.frames]
            arrived.expected += 1
            arrived.packets += len(message.frames)
        return [*out, Reply(Carried(epoch=message.epoch, expected=arrived.expected))]

    def seal(self, epoch: int) -> int:
        """Take no more of the epoch; the packets taken so far."""
        arrived = self._of(epoch)
        arrived.sealed = True
        return arrived.packets

    def _of(self, epoch: int) -> _Arrived:
        arrived = self._arrived.setdefault(epoch, _Arrived())
        if len(self._arrived) > self._limit:
            del self._arrived[next(iter(self._arrived))]
        return arrived
