"""A port with several queues, of which the one with the larger number always goes first."""

from __future__ import annotations

from collections import deque

from p4switch.ports.base import DropReason, Drops, OutputQueue, PacketIo


class PriorityQueues(OutputQueue):
    """As `OutputQueue`, ``queues`` of them in front of one port, each with the same limit; 0 goes last."""

    __slots__ = ("_queues",)

    def __init__(self, port: int, io: PacketIo, drops: Drops, *, limit: int, patience: float, queues: int) -> None:
        super().__init__(port, io, drops, limit=limit, patience=patience)
        self._queues: tuple[deque[bytes], ...] = tuple(deque() for _ in range(queues))

    def __len__(self) -> int:
        return sum(map(len, self._queues))

    def put(self, frame: bytes, queue: int = 0) -> None:
        """As `OutputQueue.put`, to this queue."""
        if len(self._queues[queue]) >= self._limit:
            self._drops.add(DropReason.OUTPUT_QUEUE_FULL, self.port)
        else:
            self._queues[queue].append(frame)

    def flush(self, now: float) -> bool:
        """As `OutputQueue.flush`: a queue is looked at once those before it are empty."""
        done = all(self._send(frames, now) for frames in reversed(self._queues))
        self._standing = not done
        return done

    def depth(self, queue: int) -> int:
        """As `OutputQueue.depth`."""
        return len(self._queues[queue]) if self._standing else 0
