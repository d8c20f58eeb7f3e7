"""Data-plane reception: markers, relayed packets, END, and the holds that keep direct packets behind them.

A flow that has just arrived gets its packets two ways: those that waited at the controller (RELAYED 1, 2, …, END), and
direct ones. The direct ones wait here until END, so the middlebox sees them in the order they were sent.

- RELAYED and END are accepted in sequence only (go-back-N); every batch is answered by RELAY_ACK with the number
  expected next, so that what was lost is sent again and what came twice is ignored.
- MARKER is answered by MARKER_ECHO: frames are processed in order, so everything before it is done.
- A hold without progress for ``hold_deadline`` seconds gives its packets up to the middlebox in order (``expired``);
  a full hold queue drops the newest packet (``hold_overflow``). Both are counted.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable

from guestlib.fences import bucket_of
from guestlib.instructions import Instruction, Process, Transmit
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope
from splitmerge.tag import ETHERTYPE_TAG, Tag, TagKind, pop

TAG_BYTES = ETHERTYPE_TAG.to_bytes(2, "big")
HOLD_PACKETS = 65536
"""Most packets held at a time, over all epochs."""
HOLD_BYTES = 64 * 1024 * 1024
HOLD_DEADLINE = 10.0
"""Seconds without progress after which held packets are given up to the middlebox."""
EPOCHS = 65536
"""Relays remembered, so that late repeats are recognised."""
_SHORTEST_FRAME = 60


class _Held:
    """One epoch's held packets, and what they wait for."""

    __slots__ = ("buckets", "deadline", "keys", "packets")

    def __init__(self, keys: Iterable[bytes], buckets: Iterable[int], deadline: float) -> None:
        self.keys = set(keys)
        self.buckets = set(buckets)
        self.packets: deque[tuple[bytes, FlowKey]] = deque()
        self.deadline = deadline


class DataPlane:
    """Give every frame to `handle` while `quiet` is False or the frame is tagged; `flush` after each batch."""

    def __init__(
        self,
        *,
        hold_packets: int = HOLD_PACKETS,
        hold_bytes: int = HOLD_BYTES,
        hold_deadline: float = HOLD_DEADLINE,
        epochs: int = EPOCHS,
    ) -> None:
        self.drops: Counter[str] = Counter()
        self.expired = 0
        """Packets processed because their hold ran out."""
        self.held = 0
        """Packets held now."""
        self.quiet = True
        """No hold is open: untagged frames may go straight to the middlebox."""
        self._hold_packets, self._hold_bytes, self._hold_deadline = hold_packets, hold_bytes, hold_deadline
        self._held_bytes = 0
        self._holds: dict[int, _Held] = {}
        self._keys: dict[bytes, int] = {}
        self._buckets: dict[int, int] = {}
        self._expected: dict[int, int] = {}
        self._epochs = epochs
        self._floor = 0
        self._acks: dict[int, bytes] = {}
        self._check_at = math.inf  # no hold's deadline is earlier

    # -- frames --------------------------------------------------------------------------------------------

    def handle(self, frame: bytes, now: float) -> list[Instruction]:
        """Take one frame from the traffic interface."""
        if frame[12:14] != TAG_BYTES:
            return self._direct(frame)
        popped = pop(frame)
        if popped is None:
            self.drops["bad_tag"] += 1
            return []
        tag, inner = popped
        match tag.kind:
            case TagKind.RELAYED | TagKind.END:
                return self._relayed(tag, inner, now)
            case TagKind.MARKER:
                return [*self.flush(), Transmit(_signal(inner, Tag(TagKind.MARKER_ECHO, tag.epoch, tag.sequence)))]
            case _:
                self.drops["unexpected_tag"] += 1
                return []

    def flush(self) -> list[Instruction]:
        """What is due after a batch of frames: one RELAY_ACK for each epoch that had relayed frames in it."""
        if not self._acks:
            return []
        acks = [
            Transmit(_signal(inner, Tag(TagKind.RELAY_ACK, epoch, self._expected.get(epoch, 1))))
            for epoch, inner in self._acks.items()
        ]
        self._acks.clear()
        return list(acks)

    def _direct(self, frame: bytes) -> list[Instruction]:
        key = FlowKey.from_frame(frame)
        epoch = self._epoch_holding(key) if key is not None else None
        if key is None or epoch is None:
            return [Process(frame, key)]
        if self.held >= self._hold_packets or self._held_bytes + len(frame) > self._hold_bytes:
            self.drops["hold_overflow"] += 1
            return []
        self._holds[epoch].packets.append((frame, key))
        self.held += 1
        self._held_bytes += len(frame)
        return []

    def _epoch_holding(self, key: bytes) -> int | None:
        epoch = self._keys.get(key)
        return self._buckets.get(bucket_of(key)) if epoch is None else epoch

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
        if tag.sequence == 0:  # a controller that restarted asks where it stands
            return []
        if tag.sequence != expected:
            self.drops["relay_repeated" if tag.sequence < expected else "relay_gap"] += 1
            return []
        self._expected[epoch] = expected + 1
        if tag.kind is TagKind.END:
            return self._release(epoch)
        if epoch in self._holds:
            self._holds[epoch].deadline = now + self._hold_deadline
        return [Process(inner, FlowKey.from_frame(inner))]

    def _start(self, epoch: int) -> None:
        self._expected[epoch] = 1
        if len(self._expected) > self._epochs + len(self._holds):
            oldest = next(old for old in self._expected if old not in self._holds)
            del self._expected[oldest]
            self._floor = max(self._floor, oldest)

    # -- holds ---------------------------------------------------------------------------------------------

    def hold(self, epoch: int, keys: Iterable[bytes], buckets: Iterable[int], now: float) -> list[Instruction]:
        """Keep direct packets of these keys and buckets until END of the epoch.

        An older hold of any of them is over: its packets are processed first. What a newer epoch holds it keeps.
        """
        held = _Held(
            (key for key in keys if self._keys.get(key, 0) <= epoch),
            (bucket for bucket in buckets if self._buckets.get(bucket, 0) <= epoch),
            now + self._hold_deadline,
        )
        older = {self._keys[key] for key in held.keys & self._keys.keys()}
        older |= {self._buckets[bucket] for bucket in held.buckets & self._buckets.keys()}
        out = [instruction for old in sorted(older) for instruction in self._release(old)]
        self._holds[epoch] = held
        self._keys.update(dict.fromkeys(held.keys, epoch))
        self._buckets.update(dict.fromkeys(held.buckets, epoch))
        self._check_at = min(self._check_at, held.deadline)
        if epoch not in self._expected:
            self._start(epoch)
        self.quiet = False
        return out

    def arriving(self, scope: Scope) -> int:
        """The epoch whose END is still awaited for any of these; 0 if there is none."""
        if self.quiet:
            return 0
        epochs = [self._epoch_holding(key) for key in scope.keys]
        epochs += [self._buckets.get(bucket) for bucket in scope.buckets]
        if scope.buckets:
            wanted = set(scope.buckets)
            epochs += [epoch for key, epoch in self._keys.items() if bucket_of(key) in wanted]
        return max((epoch for epoch in epochs if epoch is not None), default=0)

    def next_due(self) -> float | None:
        """When `poll` should be called; None without holds. May be early, never late."""
        return self._check_at if self._holds else None

    def poll(self, now: float) -> list[Instruction]:
        """Give up the packets of holds that have waited too long."""
        if now < self._check_at:
            return []
        out: list[Instruction] = []
        for epoch in [epoch for epoch, held in self._holds.items() if held.deadline <= now]:
            packets = self._release(epoch)
            self.expired += len(packets)
            out += packets
        self._check_at = min((held.deadline for held in self._holds.values()), default=math.inf)
        return out

    def _release(self, epoch: int) -> list[Instruction]:
        held = self._holds.pop(epoch, None)
        if held is None:
            return []
        for key in held.keys:
            del self._keys[key]
        for bucket in held.buckets:
            del self._buckets[bucket]
        self.held -= len(held.packets)
        self._held_bytes -= sum(len(frame) for frame, _ in held.packets)
        self.quiet = not self._holds
        return [Process(frame, key) for frame, key in held.packets]


def _signal(inner: bytes, tag: Tag) -> bytes:
    """A shortest frame back to where ``inner`` came from, with nothing in it but the tag."""
    return tag.push(inner[6:12] + inner[:6] + b"\x00\x00" + bytes(_SHORTEST_FRAME - 14))
