"""Digests on their way to the control plane."""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Digest:
    """One message: the digest's name in the program, its elements' values in order."""

    name: str
    values: tuple[int, ...]


class DigestQueue:
    """Bounded; what does not fit is dropped and counted in ``dropped``."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: deque[Digest] = deque()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, digest: Digest) -> None:
        """Append, or count a drop."""
        if len(self._queue) >= self._limit:
            self.dropped += 1
            return
        self._queue.append(digest)

    def take(self) -> list[Digest]:
        """All that wait, oldest first; the queue is empty afterwards."""
        taken = list(self._queue)
        self._queue.clear()
        return taken
