"""Which buckets packets come in, counted while somebody asks: a `CountBuckets` begins it, a `BucketCounts` ends it.

Nothing is counted otherwise, and of a busy interface no more than `MOST` packets: finding a packet's bucket costs more
than many a middlebox.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from guestlib.packets.dataplane import TAG_BYTES
from splitmerge.flowkey import FlowKey
from splitmerge.messages import BucketCounts, CountBuckets

MOST = 20_000
"""Packets that one census counts."""
LONGEST = 10.0
"""Seconds that one takes, whatever is asked for."""


class Census:
    """One count. Times in seconds."""

    def __init__(self, asked: CountBuckets, now: float) -> None:
        self.request = asked.request
        self.answer: BucketCounts | None = None
        """Once it has ended."""
        self._begun = now
        self._until = now + min(max(asked.seconds, 0.0), LONGEST)
        self._counts: Counter[int] = Counter()
        self._left = MOST
        self._told = False

    def add(self, frames: Iterable[bytes], now: float) -> None:
        """Packets that have come. Tagged ones do not count: other replicas and the controller sent them."""
        if self.answer is not None:
            return
        for frame in frames:
            key = None if frame[12:14] == TAG_BYTES else FlowKey.from_frame(frame)
            if key is not None:
                self._counts[key.bucket] += 1
                self._left -= 1
        if self._left <= 0:
            self._end(now)

    def poll(self, now: float) -> BucketCounts | None:
        """The answer, when the time is over or enough has been counted; once."""
        if self.answer is None and now >= self._until:
            self._end(now)
        if self._told or self.answer is None:
            return None
        self._told = True
        return self.answer

    def _end(self, now: float) -> None:
        # More than 0, for whoever divides by it: the first batch may be enough.
        seconds = max(now - self._begun, 0.001)
        self.answer = BucketCounts(request=self.request, seconds=seconds, packets=dict(self._counts))
