"""Data-plane reception: markers, relayed packets, END; what waits meanwhile is in `guestlib.packets.holds`.

- RELAYED and END are taken in sequence only; every batch is answered by RELAY_ACK with the number expected next, so
  that what was lost is sent again and what came twice is ignored. A few that come early are kept, and named in it.
- MARKER is answered by MARKER_ECHO: frames are processed in order, so everything before it is done.
- LOOP comes back from the switch: see `guestlib.packets.pace`.
"""

from __future__ import annotations

from collections.abc import Iterable

from guestlib.instructions import Instruction, Looped, Met, Process, Transmit
from guestlib.packets.holds import HOLD_BYTES, HOLD_DEADLINE, HOLD_PACKETS, Holds
from splitmerge.flowkey import FlowKey
from splitmerge.tag import ETHERTYPE_TAG, RELAY_AHEAD, Tag, TagKind, pop, with_relay_ahead

TAG_BYTES = ETHERTYPE_TAG.to_bytes(2, "big")
EPOCHS = 65536
"""Relays, and markers, remembered, so that late repeats are recognised."""
EARLY_EPOCHS = 64
"""Epochs of which relayed frames that came early are kept, `RELAY_AHEAD` each: those with the newest gaps."""
_SHORTEST_FRAME = 60


class DataPlane(Holds):
    """Give every frame to `handle` while `quiet` is False or the frame is tagged; `flush` after each batch."""

    def __init__(
        self,
        *,
        hold_packets: int = HOLD_PACKETS,
        hold_bytes: int = HOLD_BYTES,
        hold_deadline: float = HOLD_DEADLINE,
        epochs: int = EPOCHS,
    ) -> None:
        super().__init__(hold_packets=hold_packets, hold_bytes=hold_bytes, hold_deadline=hold_deadline)
        self.uncounted = 0
        """Of the tagged frames given to `handle`, those that are no traffic (our own signals, and what came twice): a
        relayed packet is traffic once, when it is its turn. An early one is counted here until then."""
        self.uncounted_bytes = 0
        """Their bytes, with those of relayed packets' tags."""
        self._expected: dict[int, int] = {}
        self._epochs = epochs
        self._floor = 0
        self._early: dict[int, dict[int, tuple[TagKind, bytes]]] = {}
        self._acks: dict[int, bytes] = {}
        self._met: dict[int, None] = {}

    # -- frames --------------------------------------------------------------------------------------------

    def handle(self, frame: bytes, now: float) -> list[Instruction]:
        """Take one frame from the traffic interface."""
        if frame[12:14] != TAG_BYTES:
            return self._direct(frame, now)
        self.uncounted += 1
        self.uncounted_bytes += len(frame)
        popped = pop(frame)
        if popped is None:
            self.drops["bad_tag"] += 1
            return []
        tag, inner = popped
        match tag.kind:
            case TagKind.RELAYED | TagKind.END:
                return self._relayed(tag, inner, now)
            case TagKind.MARKER:
                return self._marker(tag, inner)
            case TagKind.LOOP:
                return [Looped(tag.sequence)]
            case _:
                self.drops["unexpected_tag"] += 1
                return []

    def flush(self) -> list[Instruction]:
        """What is due after a batch of frames: one RELAY_ACK for each epoch that had relayed frames in it."""
        if not self._acks:
            return []
        acks = [
            Transmit(_signal(inner, Tag(TagKind.RELAY_ACK, epoch, self._expected.get(epoch, 1)), self._ahead(epoch)))
            for epoch, inner in self._acks.items()
        ]
        self._acks.clear()
        return list(acks)

    def met(self, epoch: int) -> bool:
        """Whether a MARKER of this epoch has been met, and all that came before it is processed (`meet`)."""
        return epoch in self._met

    def meet(self, epoch: int) -> None:
        """`Met` is carried out: the middlebox has had all that came before the epoch's MARKER."""
        self._met[epoch] = None
        if len(self._met) > self._epochs:
            del self._met[next(iter(self._met))]

    def _marker(self, tag: Tag, inner: bytes) -> list[Instruction]:
        """Everything released before is processed before the echo."""
        out = self._leave(self.held + 1) if self._leaving else []
        echo = Transmit(_signal(inner, Tag(TagKind.MARKER_ECHO, tag.epoch, tag.sequence)))
        return [*out, *self.flush(), echo, Met(tag.epoch)]

    def hold(
        self,
        epoch: int,
        keys: Iterable[bytes],
        buckets: Iterable[int],
        now: float,
        spared: frozenset[bytes] = frozenset(),
    ) -> list[Instruction]:
        """As `Holds.hold`; relayed packets of the epoch are expected."""
        out = super().hold(epoch, keys, buckets, now, spared)
        self.expect(epoch)
        return out

    def expect(self, epoch: int) -> None:
        """Relayed packets of this epoch are to come, however many younger ones have begun."""
        if epoch not in self._expected:
            self._start(epoch)

    def _relayed(self, tag: Tag, inner: bytes, now: float) -> list[Instruction]:
        epoch = tag.epoch
        expected = self._expected.get(epoch)
        if expected is None:
            if epoch <= self._floor:
                self.drops["relay_forgotten"] += 1
                return []
            self._start(epoch)
            expected = 1
        self._acks[epoch] = inner
        if tag.sequence == 0:  # a controller that restarted asks where it stands: what follows may be other packets
            self._early.pop(epoch, None)
            return []
        if tag.sequence != expected:
            self._keep_early(tag, inner, expected)
            return []
        out = self._take_relayed(epoch, tag.kind, inner, now)
        early = self._early.get(epoch, {})
        while (next_one := early.pop(self._expected[epoch], None)) is not None:
            out += self._take_relayed(epoch, *next_one, now)
        if not early:
            self._early.pop(epoch, None)
        return out

    def _take_relayed(self, epoch: int, kind: TagKind, inner: bytes, now: float) -> list[Instruction]:
        self._expected[epoch] += 1
        if kind is TagKind.END:
            return self.release(epoch)
        self.uncounted -= 1
        self.uncounted_bytes -= len(inner)
        self.progress(epoch, now)
        return [Process(inner, FlowKey.from_frame(inner))]

    def _keep_early(self, tag: Tag, inner: bytes, expected: int) -> None:
        """One is missing before it. What nobody goes on with makes room for others: its sender sends it again."""
        if not expected < tag.sequence <= expected + RELAY_AHEAD:
            self.drops["relay_repeated" if tag.sequence < expected else "relay_gap"] += 1
            return
        early = self._early.setdefault(tag.epoch, {})
        if tag.sequence in early:
            self.drops["relay_repeated"] += 1
        early[tag.sequence] = tag.kind, inner
        if len(self._early) > EARLY_EPOCHS:
            forgotten = self._early.pop(next(iter(self._early)))
            self.drops["relay_gap"] += len(forgotten)

    def _ahead(self, epoch: int) -> int:
        expected = self._expected.get(epoch, 1)
        return sum(1 << (number - expected - 1) for number in self._early.get(epoch, ()))

    def _start(self, epoch: int) -> None:
        self._expected[epoch] = 1
        if len(self._expected) > self._epochs + len(self._holds):
            oldest = next(old for old in self._expected if old not in self._holds)
            del self._expected[oldest]
            self._early.pop(oldest, None)
            self._floor = max(self._floor, oldest)


def _signal(inner: bytes, tag: Tag, ahead: int = 0) -> bytes:
    """A shortest frame back to where ``inner`` came from, with nothing in it but the tag, and what came early."""
    frame = inner[6:12] + inner[:6] + b"\x00\x00" + bytes(_SHORTEST_FRAME - 14)
    return tag.push(with_relay_ahead(frame, ahead))
