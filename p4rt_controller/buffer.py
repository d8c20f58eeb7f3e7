"""Bounded, ordered keeping of packets while nobody may process them.

A `PacketBuffer` is a set of lanes that share two bounds, packets and bytes, and each of which may have bounds of its
own, so that a flood in one leaves room to the others. A lane is first in, first out. When a bound is reached the newest
packet is dropped (tail drop), which keeps the order of those kept, and counted in its lane.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar


@dataclass(frozen=True, slots=True)
class Room:
    """Bounds of one lane, beside those of its buffer."""

    packets: int = sys.maxsize
    bytes: int = sys.maxsize
    drops: bool = True
    """What is beyond them is dropped; else it is only said that the lane is nearly full, and all lanes' bounds hold."""


@dataclass(slots=True)
class Budget:
    """Room shared by all lanes of one buffer."""

    max_packets: int
    max_bytes: int
    lane_packets: int = sys.maxsize
    """Packets in one lane at most."""
    lane_bytes: int = sys.maxsize
    packets: int = 0
    bytes: int = 0
    peak_packets: int = 0
    dropped: int = 0
    """Packets dropped for want of room, since the start."""
    expired: int = 0
    """Packets dropped because nobody wanted them in time."""

    def give(self, packets: int, size: int) -> None:
        """Room of packets that left."""
        self.packets -= packets
        self.bytes -= size
        assert self.packets >= 0 <= self.bytes


class Lane:
    """Packets of one move, or one flow, in order of arrival."""

    __slots__ = ("_budget", "_bytes", "_frames", "_room", "_told", "dropped", "opened", "peak_bytes", "peak_packets")

    def __init__(self, budget: Budget, opened: float, room: Room | None = None) -> None:
        self._budget = budget
        room, most = room or Room(), Room(budget.lane_packets, budget.lane_bytes)
        self._told = Room(min(room.packets, most.packets), min(room.bytes, most.bytes))
        self._room = self._told if room.drops else most
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self.opened = opened
        self.dropped = 0
        self.peak_packets = 0
        self.peak_bytes = 0

    def append(self, frame: bytes) -> bool:
        """Keep a packet; False, and counted, if there is no room. Every punted packet comes through here."""
        budget, room, count, size = self._budget, self._room, len(self._frames) + 1, self._bytes + len(frame)
        total = budget.bytes + len(frame)
        if (
            count > room.packets
            or size > room.bytes
            or budget.packets >= budget.max_packets
            or total > budget.max_bytes
        ):
            budget.dropped += 1
            self.dropped += 1
            return False
        self._frames.append(frame)
        self._bytes, budget.bytes = size, total
        budget.packets += 1
        if budget.packets > budget.peak_packets:
            budget.peak_packets = budget.packets
        if count > self.peak_packets:
            self.peak_packets = count
        if size > self.peak_bytes:
            self.peak_bytes = size
        return True

    @property
    def nearly_full(self) -> bool:
        """Nine tenths of the packets, or bytes, that this lane or all lanes may have are taken."""
        budget, room = self._budget, self._told
        return (
            len(self._frames) * 10 >= room.packets * 9
            or self._bytes * 10 >= room.bytes * 9
            or budget.packets * 10 >= budget.max_packets * 9
            or budget.bytes * 10 >= budget.max_bytes * 9
        )

    def drop_first(self, count: int) -> None:
        """Forget the first ``count`` packets: they have been delivered."""
        gone = sum(len(self._frames.popleft()) for _ in range(count))
        self._bytes -= gone
        self._budget.give(count, gone)

    def drop_last(self, count: int) -> None:
        """Forget the last ``count`` packets: they will not be delivered, and are counted as dropped."""
        gone = sum(len(self._frames.pop()) for _ in range(count))
        self._bytes -= gone
        self._budget.give(count, gone)
        self._budget.dropped += count
        self.dropped += count

    def drop_if(self, unwanted: Callable[[bytes], bool], after: int) -> int:
        """Forget those behind the first ``after`` that are unwanted, and count them as dropped here; how many."""
        frames = list(self._frames)
        kept = frames[:after] + [frame for frame in frames[after:] if not unwanted(frame)]
        count = len(frames) - len(kept)
        gone = self._bytes - sum(map(len, kept))
        self._frames = deque(kept)
        self._bytes -= gone
        self._budget.give(count, gone)
        self.dropped += count
        return count

    def clear(self) -> int:
        """Forget all; how many that were."""
        count = len(self._frames)
        self.drop_first(count)
        return count

    def adopt(self, other: Lane) -> None:
        """Take over another lane's packets behind this one's, its drops too."""
        frames = list(other)
        other.clear()
        self.dropped += other.dropped
        for frame in frames:
            self.append(frame)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> bytes:
        return self._frames[index]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._frames)


_K = TypeVar("_K", bound=Hashable)


class PacketBuffer(Generic[_K]):
    """Lanes by key, oldest first, with one budget. ``lane_packets``, ``lane_bytes``: bounds of each lane."""

    def __init__(
        self, max_packets: int, max_bytes: int, lane_packets: int = sys.maxsize, lane_bytes: int = sys.maxsize
    ) -> None:
        self.budget = Budget(max_packets, max_bytes, lane_packets, lane_bytes)
        self._lanes: dict[_K, Lane] = {}

    def lane(self, key: _K, now: float, room: Room | None = None) -> Lane:
        """The lane of this key; made if there is none, with no more ``room`` than this."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(self.budget, now, room)
        return lane

    def get(self, key: _K) -> Lane | None:
        """The lane of this key, if there is one."""
        return self._lanes.get(key)

    def append(self, key: _K, frame: bytes, now: float) -> bool:
        """Keep a packet in this key's lane; no lane is made for a packet without room."""
        lane = self.lane(key, now)
        kept = lane.append(frame)
        if not kept and not len(lane):
            del self._lanes[key]
        return kept

    def remove(self, key: _K) -> Lane | None:
        """Take a lane out; its packets count against the budget until they are adopted or cleared."""
        return self._lanes.pop(key, None)

    def expire(self, before: float) -> list[_K]:
        """Drop the lanes opened before this time; their keys."""
        old = self.older(before)
        for key in old:
            self.drop(key)
        return old

    def older(self, before: float) -> list[_K]:
        """The keys of the lanes opened before this time, oldest first."""
        return [key for key, lane in self._lanes.items() if lane.opened < before]

    def renew(self, key: _K, now: float) -> None:
        """This lane counts as opened now."""
        lane = self._lanes[key] = self._lanes.pop(key)
        lane.opened = now

    def drop(self, key: _K) -> int:
        """Drop this lane, whose packets nobody wants any more, and count them; how many."""
        count = self._lanes.pop(key).clear()
        self.budget.expired += count
        return count

    def lane_keys(self) -> list[_K]:
        """The keys with a lane, oldest first."""
        return list(self._lanes)

    def __len__(self) -> int:
        return len(self._lanes)

    def validate(self) -> None:
        """Check the budget against the lanes; for tests. Only right while no lane has been taken out uncleared."""
        assert self.budget.packets == sum(len(lane) for lane in self._lanes.values()) <= self.budget.max_packets
        assert self.budget.bytes == sum(len(frame) for lane in self._lanes.values() for frame in lane)
        assert self.budget.bytes <= self.budget.max_bytes
