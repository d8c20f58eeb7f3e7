"""The server's end of one StreamChannel: what waits to be sent to the client, bounded.

The data plane puts, the client's thread takes; a client that reads slowly fills its queue and then loses packet-ins,
counted, and never stalls the data plane. Arbitration messages and stream errors are few and are never dropped.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from finsy.proto import p4r

from p4switch.p4runtime.status import Code

Answer: TypeAlias = p4r.StreamMessageResponse | bytes
"""A message to the client; bytes are one serialized."""
Source: TypeAlias = Callable[[bytes], bytes]
"""Makes the message of a queued frame, on the client's thread."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of one client's queue."""

    packets: int = 65_536
    """Packet-ins that may wait."""
    octets: int = 64 << 20
    """Bytes of packet-ins that may wait."""
    notifications: int = 4096
    """Digest lists and idle-timeout notifications that may wait."""


@dataclass(frozen=True, slots=True)
class End:
    """The stream ends with this status."""

    code: Code
    message: str


class ClientStream:
    """One client. ``id`` names it to the arbitration."""

    def __init__(self, stream: int, limits: StreamLimits) -> None:
        self.id = stream
        self.dropped_packets = 0
        self.dropped_notifications = 0
        self.sent_packets = 0
        self._limits = limits
        self._ready = threading.Condition()
        self._queue: deque[p4r.StreamMessageResponse | tuple[Source, bytes]] = deque()
        self._packets = 0
        self._octets = 0
        self._notifications = 0
        self._end: End | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, message: p4r.StreamMessageResponse) -> None:
        """Queue a message that must not be lost."""
        with self._ready:
            if self._end is None:
                self._queue.append(message)
                self._ready.notify()

    def put_notification(self, message: p4r.StreamMessageResponse) -> bool:
        """Queue a digest list or idle notification; False, and counted, if too many wait."""
        with self._ready:
            if self._end is not None or self._notifications >= self._limits.notifications:
                self.dropped_notifications += 1
                return False
            self._notifications += 1
            self._queue.append(message)
            self._ready.notify()
        return True

    def put_packets(self, source: Source, frames: Sequence[bytes]) -> int:
        """Queue packet-ins in order; how many did not fit (counted)."""
        with self._ready:
            for position, frame in enumerate(frames):
                full = self._packets >= self._limits.packets or self._octets + len(frame) > self._limits.octets
                if full or self._end is not None:
                    lost = len(frames) - position
                    self.dropped_packets += lost
                    break
                self._packets += 1
                self._octets += len(frame)
                self._queue.append((source, frame))
            else:
                lost = 0
            self._ready.notify()
        return lost

    def take(self, limit: int = 256) -> list[Answer] | End:
        """Up to ``limit`` messages, waiting for the first; `End` once all before the end were taken."""
        with self._ready:
            while not self._queue and self._end is None:
                self._ready.wait()
            if not self._queue:
                assert self._end is not None
                return self._end
            taken = [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]
            packets = [item[1] for item in taken if isinstance(item, tuple)]
            self._packets -= len(packets)
            self._octets -= sum(map(len, packets))
            if not self._queue:
                self._notifications = 0
        self.sent_packets += len(packets)
        return [item[0](item[1]) if isinstance(item, tuple) else item for item in taken]

    def end(self, code: Code = Code.OK, message: str = "") -> None:
        """End the stream after what waits; only the first end counts."""
        with self._ready:
            if self._end is None:
                self._end = End(code, message)
                if code is Code.CANCELLED:
                    self._queue.clear()
            self._ready.notify()
