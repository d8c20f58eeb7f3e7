"""Holds: where packets of flows on their way wait.

A hold keeps direct packets of some keys and buckets for one epoch, in order. There are two kinds:

- `Holds.hold`: behind relayed packets. A flow that has just arrived gets its packets two ways: those that waited
  at the controller (RELAYED 1, 2, …, END), and direct ones. The direct ones wait here until END, so the middlebox sees
  them in the order they were sent. Without progress for ``hold_deadline`` seconds they are given up to the middlebox in
  order (``expired``): they are this replica's in any case. That is counted from the first of them. Before one has come
  nobody waits, and the hold stays, however long its move takes until the network points here: it ends with END, with a
  newer hold of its flows, or with the replica.
- `Holds.keep`: until it is decided whose they are. It never expires: before the decision the middlebox must not
  see them. They are released, taken out to be carried to another replica, or dropped.

What is released goes to the middlebox in slices; packets of the hold that come meanwhile queue behind. So a flow may be
on its way again before the last of its packets is out. **A flow's packets are in one hold**: a newer one takes out of
older ones what they still have of its flows, whether it names them by key or by bucket, and whichever way they do.

A full hold drops the newest packet (``hold_overflow``). One hold has at most half of the room for all, so that a flood
at one move leaves room to the others. At nine tenths of a hold's own room or of the room for all, each undecided hold
that gets a packet says HoldFull, and `Holds.full` says it again as long as it is true that somebody can decide. One
without room at all is there to count what comes late (``late_dropped``).
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Container, Iterable
from dataclasses import dataclass

from guestlib.instructions import Instruction, Process, ToOrchestrator
from guestlib.partitioned.fences import bucket_of
from splitmerge.flowkey import FlowKey
from splitmerge.messages import HoldDropped, HoldFull, Scope

HOLD_PACKETS = 131072
"""Most packets held at a time, over all epochs."""
HOLD_BYTES = 128 * 1024 * 1024
SHARE = 2
"""One hold has at most the room for all divided by this."""
HOLD_DEADLINE = 30.0
"""Seconds, since the first of them or without progress, after which held packets are given up to the middlebox."""
SLICE = 256
"""Most released packets processed before other packets get their turn."""
TOLD = 64
"""Epochs whose drops are told again and again, the newest: what was told may not have arrived."""

Packet = tuple[bytes, FlowKey]


@dataclass(frozen=True, slots=True)
class Room:
    """Most packets and bytes that one hold may keep."""

    packets: int
    bytes: int

    def within(self, most: Room) -> Room:
        """As much as this, but no more than that."""
        return Room(min(self.packets, most.packets), min(self.bytes, most.bytes))


ROOM_LEAST = Room(2, 128 * 1024)
"""For all holds: one has half of it, which must take any frame."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a hold has done so far. ``seconds``: since the first packet that came to it."""

    packets: int = 0
    seconds: float = 0.0
    dropped: int = 0


class _Held:
    """One epoch's held packets, and what they wait for."""

    __slots__ = (
        "buckets",
        "bytes",
        "deadline",
        "dropped",
        "first_at",
        "kept",
        "keys",
        "leaving",
        "packets",
        "patience",
        "room",
        "said",
        "spared",
        "told_full",
    )  # fmt: skip

    def __init__(
        self,
        keys: Iterable[bytes],
        buckets: Iterable[int],
        patience: float,
        room: Room,
        spared: frozenset[bytes] = frozenset(),
    ) -> None:
        self.keys = set(keys)
        self.buckets = set(buckets)
        self.spared = spared
        self.packets: deque[Packet] = deque()
        self.bytes = 0
        self.patience = patience  # seconds that packets wait for END; inf: for a decision
        self.deadline = math.inf  # as long as no packet waits for END
        self.room = room
        self.kept = 0
        self.dropped = 0
        self.said = 0  # of them, how many the orchestrator has been told of
        self.first_at = math.inf
        self.leaving = False
        self.told_full = False

    @property
    def nearly_full(self) -> bool:
        return len(self.packets) * 10 >= self.room.packets * 9 or self.bytes * 10 >= self.room.bytes * 9

    @property
    def undecided(self) -> bool:
        """Whether it is open still whose the packets are."""
        return self.patience == math.inf and not self.leaving


class Holds:
    """All holds of one replica. Packets of no hold are none of its business (`DataPlane`)."""

    def __init__(
        self,
        *,
        hold_packets: int = HOLD_PACKETS,
        hold_bytes: int = HOLD_BYTES,
        hold_deadline: float = HOLD_DEADLINE,
    ) -> None:
        self.drops: Counter[str] = Counter()
        self.expired = 0
        """Packets processed because their hold ran out."""
        self.held = 0
        """Packets held now."""
        self.told_dropped: dict[int, int] = {}
        """Epoch → packets that its holds had no room for, after its move's answer."""
        self.quiet = True
        """No hold is open: untagged frames may go straight to the middlebox."""
        self.strays: Container[bytes] = ()
        """Keys of flows here that do not go with their bucket: holds of the bucket are not theirs."""
        self._room = Room(hold_packets, hold_bytes)
        self._share = Room(max(1, hold_packets // SHARE), max(1, hold_bytes // SHARE))
        self._hold_deadline = hold_deadline
        self._held_bytes = 0
        self._holds: dict[int, _Held] = {}
        self._keys: dict[bytes, int] = {}
        self._buckets: dict[int, int] = {}
        self._leaving: deque[int] = deque()
        self._check_at = math.inf  # no hold's deadline is earlier

    @property
    def full(self) -> tuple[int, ...]:
        """Epochs of which HoldFull was said, and nothing is decided yet: it may not have arrived."""
        return tuple(epoch for epoch, held in self._holds.items() if held.told_full and held.undecided)

    # -- packets -------------------------------------------------------------------------------------------

    def _direct(self, frame: bytes, now: float) -> list[Instruction]:
        key = FlowKey.from_frame(frame)
        epoch = self._epoch_holding(key) if key is not None else 0
        if key is None or not epoch:
            return [Process(frame, key)]
        return self._append(epoch, self._holds[epoch], frame, key, now)

    def _append(self, epoch: int, held: _Held, frame: bytes, key: FlowKey, now: float) -> list[Instruction]:
        size = len(frame)
        own = len(held.packets) < held.room.packets and held.bytes + size <= held.room.bytes
        if not own or self.held >= self._room.packets or self._held_bytes + size > self._room.bytes:
            held.dropped += 1
            self.drops["hold_overflow" if held.room.packets else "late_dropped"] += 1
            return self._room_short(epoch, held)
        if held.first_at == math.inf:
            held.first_at = now
        if not held.packets and not held.leaving:
            self._await_end(held, now)
        self._put(held, (frame, key))
        return self._room_short(epoch, held) if held.nearly_full or self._nearly_full else []

    def _await_end(self, held: _Held, now: float) -> None:
        held.deadline = now + held.patience
        self._check_at = min(self._check_at, held.deadline)

    def _put(self, held: _Held, packet: Packet) -> None:
        size = len(packet[0])
        held.packets.append(packet)
        held.kept += 1
        held.bytes += size
        self.held += 1
        self._held_bytes += size

    @property
    def _nearly_full(self) -> bool:
        """Nine tenths of what all holds together may keep are used."""
        return self.held * 10 >= self._room.packets * 9 or self._held_bytes * 10 >= self._room.bytes * 9

    @staticmethod
    def _room_short(epoch: int, held: _Held) -> list[Instruction]:
        """Say so if the orchestrator can still decide otherwise about these packets; at once only once (`full`)."""
        if held.told_full or not held.undecided or not held.room.packets:
            return []
        held.told_full = True
        return [ToOrchestrator(HoldFull(epoch=epoch))]

    def _epoch_holding(self, key: bytes) -> int:
        """The newest hold that has the key, by itself or with its bucket; 0 if none has."""
        own = self._keys.get(key, 0)
        shared = self._buckets.get(bucket_of(key), 0) if self._buckets and key not in self.strays else 0
        return shared if shared > own and key not in self._holds[shared].spared else own

    # -- holds ---------------------------------------------------------------------------------------------

    def hold(
        self,
        epoch: int,
        keys: Iterable[bytes],
        buckets: Iterable[int],
        now: float,
        spared: frozenset[bytes] = frozenset(),
    ) -> list[Instruction]:
        """Keep direct packets of these keys and buckets, but for keys ``spared``, until END of the epoch.

        An older hold of any of them is over. What it has of them is processed first, all at once: the relayed packets
        may be next. What a newer epoch holds it keeps.
        """
        out = self._release(epoch)  # what was kept for the same epoch
        held = self._new(epoch, keys, buckets, self._hold_deadline, self._share, spared)
        older = self._open(epoch, held)
        for old in older:
            out += [Process(*packet) for packet in self._take_over(old, epoch, held)]
        return out + [step for old in older for step in self._end_older(old)]

    def keep(
        self,
        epoch: int,
        keys: Iterable[bytes],
        buckets: Iterable[int],
        room: Room,
        spared: frozenset[bytes] = frozenset(),
    ) -> list[Instruction]:
        """Keep packets of these keys and buckets, but for keys ``spared``, until the epoch is released or taken.

        What older holds still have of them is kept as well, in front: those may be released and not be processed yet.
        """
        held = self._new(epoch, keys, buckets, math.inf, room.within(self._share), spared)
        before = list(self._pop(epoch).packets)
        older = self._open(epoch, held)
        for old in older:
            before += self._take_over(old, epoch, held)
        # Only now: what leaves with the first must be nothing that the others had to give.
        ends = [step for old in older for step in self._end_older(old)]
        return [*self._adopt(epoch, held, before), *ends]

    def _adopt(self, epoch: int, held: _Held, packets: list[Packet]) -> list[Instruction]:
        """These have had room already, and have it here, too. A hold without any drops them: they come late."""
        if not held.room.packets:
            return [step for frame, key in packets for step in self._append(epoch, held, frame, key, math.inf)]
        for packet in packets:
            self._put(held, packet)
        return self._room_short(epoch, held) if packets and (held.nearly_full or self._nearly_full) else []

    def _new(
        self,
        epoch: int,
        keys: Iterable[bytes],
        buckets: Iterable[int],
        patience: float,
        room: Room,
        spared: frozenset[bytes] = frozenset(),
    ) -> _Held:
        mine = (key for key in keys if self._keys.get(key, 0) <= epoch)
        classes = (bucket for bucket in buckets if self._buckets.get(bucket, 0) <= epoch)
        return _Held(mine, classes, patience, room, spared)

    def _open(self, epoch: int, held: _Held) -> list[int]:
        """Begin a hold; the older ones that may have packets of its flows, oldest first."""
        older = self._older(epoch, held) if self._holds else []
        self._holds[epoch] = held
        self._keys.update(dict.fromkeys(held.keys, epoch))
        self._buckets.update(dict.fromkeys(held.buckets, epoch))
        self.quiet = False
        return older

    def _older(self, epoch: int, held: _Held) -> list[int]:
        older = {self._keys[key] for key in held.keys & self._keys.keys()}
        older |= {self._buckets[bucket] for bucket in held.buckets & self._buckets.keys()}
        if self._buckets:
            older |= {self._buckets.get(bucket_of(key), 0) for key in held.keys}
        if held.buckets:
            older |= {other for key, other in self._keys.items() if bucket_of(key) in held.buckets}
        return sorted(old for old in older if 0 < old < epoch)

    def _take_over(self, old: int, epoch: int, held: _Held) -> list[Packet]:
        """What an older hold has of this new one's flows, out of it, in order; it gets no more of them."""
        over = self._holds[old]
        over.buckets -= held.buckets
        for key in [key for key in over.keys if self._epoch_holding(key) == epoch]:
            over.keys.discard(key)
            if self._keys.get(key) == old:
                del self._keys[key]
        holding: dict[bytes, int] = {}
        taken: list[Packet] = []
        left: deque[Packet] = deque()
        for packet in over.packets:
            key = packet[1]
            if (found := holding.get(key)) is None:
                found = holding[key] = self._epoch_holding(key)
            (taken if found == epoch else left).append(packet)
        size = sum(len(frame) for frame, _ in taken)
        over.packets = left
        over.bytes -= size
        over.deadline = over.deadline if left else math.inf
        self.held -= len(taken)
        self._held_bytes -= size
        if not over.undecided:  # keys that the new one spares: what comes for them queues behind what is here
            unheld = [key for key, found in holding.items() if not found]
            over.keys.update(unheld)
            self._keys.update(dict.fromkeys(unheld, old))
        return taken

    def _end_older(self, old: int) -> list[Instruction]:
        """Moves do not overlap: an older hold of a newer one's flows is over, but not what is undecided of others."""
        over = self._holds[old]
        if over.undecided and (over.packets or over.keys or over.buckets):
            return []
        return self.release(old) if over.packets else self._say_dropped(old, self._pop(old))

    def kept(self, epoch: int, now: float) -> Kept:
        """What the epoch's hold has done so far."""
        held = self._holds.get(epoch)
        if held is None:
            return Kept()
        return Kept(held.kept, max(0.0, now - held.first_at), held.dropped)

    def take(self, epoch: int, packets: int, size: int) -> list[bytes]:
        """The oldest packets of the epoch's hold, out of it: at most so many, and about so many bytes."""
        held = self._holds.get(epoch)
        taken: list[bytes] = []
        while held is not None and held.packets and len(taken) < packets and size > 0:
            frame, _ = self._pop_first(held)
            taken.append(frame)
            size -= len(frame)
        return taken

    def drop(self, epoch: int) -> int:
        """Throw away what the epoch's hold has, and end it; the number of packets."""
        held = self._pop(epoch)
        if held.packets:
            self.drops["hold_discarded"] += len(held.packets)
        return len(held.packets)

    def release(self, epoch: int) -> list[Instruction]:
        """The epoch's packets go to the middlebox: some now, more on every `poll`. Its hold ends with the last."""
        held = self._holds.get(epoch)
        if held is None or held.leaving:
            return []
        if held.undecided:
            held.said = held.dropped  # the answer to the decision says so
        held.deadline = math.inf  # it is over: nothing is awaited any more
        held.leaving = True
        self._leaving.append(epoch)
        return [*self._say_dropped(epoch, held), *self._leave(SLICE)]

    def _say_dropped(self, epoch: int, held: _Held) -> list[Instruction]:
        """Tell what has been dropped, if that is news."""
        dropped, held.said = held.dropped - held.said, held.dropped
        if not dropped:
            return []
        total = self.told_dropped.pop(epoch, 0) + dropped
        self.told_dropped[epoch] = total
        if len(self.told_dropped) > TOLD:
            del self.told_dropped[next(iter(self.told_dropped))]
        return [ToOrchestrator(HoldDropped(epoch=epoch, dropped=total))]

    def _leave(self, count: int) -> list[Instruction]:
        """Process the oldest ``count`` packets of holds that are over."""
        out: list[Instruction] = []
        told: list[Instruction] = []
        while self._leaving and len(out) < count:
            held = self._holds.get(self._leaving[0])
            if held is None or not held.leaving:  # over already, or begun anew
                self._leaving.popleft()
                continue
            while held.packets and len(out) < count:
                out.append(Process(*self._pop_first(held)))
            if not held.packets:
                epoch = self._leaving.popleft()
                told += self._say_dropped(epoch, self._pop(epoch))
        return out + told

    def _pop_first(self, held: _Held) -> Packet:
        frame, key = held.packets.popleft()
        held.bytes -= len(frame)
        self.held -= 1
        self._held_bytes -= len(frame)
        return frame, key

    def arriving(self, scope: Scope) -> int:
        """The epoch that still keeps packets of any of these back; 0 if there is none."""
        if self.quiet:
            return 0
        epochs = [self._epoch_holding(key) for key in scope.keys]
        epochs += [self._buckets.get(bucket, 0) for bucket in scope.buckets]
        if scope.buckets:
            wanted = set(scope.buckets)
            epochs += [epoch for key, epoch in self._keys.items() if bucket_of(key) in wanted]
        return max((epoch for epoch in epochs if epoch and not self._holds[epoch].leaving), default=0)

    def progress(self, epoch: int, now: float) -> None:
        """A relayed packet of the epoch has come: what waits for its END waits from now on."""
        held = self._holds.get(epoch)
        if held is not None and held.deadline < math.inf:
            held.deadline = now + self._hold_deadline

    def next_due(self) -> float | None:
        """When `poll` should be called; None without holds. May be early, never late."""
        if self._leaving:
            return 0.0
        return self._check_at if self._holds and self._check_at < math.inf else None

    def poll(self, now: float) -> list[Instruction]:
        """Process released packets, and give up those of holds that have waited too long."""
        out = self._leave(SLICE) if self._leaving else []
        if now < self._check_at:
            return out
        for epoch in [epoch for epoch, held in self._holds.items() if held.deadline <= now]:
            self.expired += len(self._holds[epoch].packets)
            out += self._release(epoch)
        self._check_at = min((held.deadline for held in self._holds.values()), default=math.inf)
        return out

    def finish(self) -> list[Instruction]:
        """No END will come any more: give up what waits for one, drop what nobody has decided about."""
        for epoch in [epoch for epoch, held in self._holds.items() if held.undecided]:
            self.drop(epoch)
        return [step for epoch in tuple(self._holds) for step in self._release(epoch)]

    def _release(self, epoch: int) -> list[Instruction]:
        held = self._pop(epoch)
        return [*self._say_dropped(epoch, held), *(Process(frame, key) for frame, key in held.packets)]

    def _pop(self, epoch: int) -> _Held:
        held = self._holds.pop(epoch, None)
        if held is None:
            return _Held((), (), math.inf, self._room)
        for key in held.keys:
            if self._keys.get(key) == epoch:
                del self._keys[key]
        for bucket in held.buckets:
            if self._buckets.get(bucket) == epoch:
                del self._buckets[bucket]
        self.held -= len(held.packets)
        self._held_bytes -= held.bytes
        self.quiet = not self._holds
        return held
