"""What the engine needs of packet I/O, and what it keeps for each port."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import NamedTuple, Protocol


class Sent(Enum):
    """What became of a frame."""

    YES = "yes"
    LATER = "later"
    """No room now; the same frame may be tried again."""
    NEVER = "never"
    """This frame cannot be sent here."""


class Received(NamedTuple):
    """A frame and the switch port it came in on."""

    port: int
    frame: bytes


class Numbered(bytes):
    """A frame with a number, which the frames that it leads to have too."""

    number: int

    @classmethod
    def of(cls, frame: bytes, number: int) -> Numbered:
        """The same frame, with this number."""
        made = cls(frame)
        made.number = number
        return made


class PacketIo(Protocol):
    """One or more ports behind one file descriptor. Used by the data thread alone, never blocking."""

    def fileno(self) -> int:
        """Readable when `receive` has something."""

    def ports(self) -> Mapping[int, str]:
        """Names of its ports now, by number."""

    def receive(self, limit: int) -> list[Received]:
        """Up to ``limit`` frames, oldest first."""

    def send(self, port: int, frame: bytes) -> Sent:
        """Send one frame."""

    def drops(self) -> Mapping[str, int]:
        """Frames lost below the switch, by reason, since it was opened."""

    def close(self) -> None:
        """Give everything back; again is harmless."""


class DropReason(StrEnum):
    """Why a frame was lost between the wire and the pipeline, or between the pipeline and the wire."""

    NO_PIPELINE = "no_pipeline"
    """Received before a program was loaded (--no-p4)."""
    PIPELINE_ERROR = "pipeline_error"
    """The back end failed on it: a bug; the log has the traceback."""
    NO_SUCH_PORT = "no_such_port"
    """The program sent it to a port that the switch does not have."""
    OUTPUT_QUEUE_FULL = "output_queue_full"
    SEND_FAILED = "send_failed"
    """The kernel or the peer did not take it within the retry time."""
    TOO_LONG = "too_long"
    """Longer than the interface's MTU."""
    PORT_REMOVED = "port_removed"
    """It waited in front of or behind the program when its port was removed."""
    NO_CPU_PORT = "no_cpu_port"
    """A packet-out, but the switch was started without --cpu-port."""
    NO_PRIMARY = "no_primary"
    """A packet-in, but no client is primary."""
    STREAM_QUEUE_FULL = "stream_queue_full"
    """A packet-in for a client that reads too slowly."""
    SHORTER_THAN_HEADER = "shorter_than_packet_in_header"
    """A packet-in without room for the header that P4Info promises."""


class Drops:
    """Counts of lost frames by reason and port; written by several threads, each count by one of them."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[DropReason, int]] = Counter()

    def add(self, reason: DropReason, port: int, frames: int = 1) -> None:
        """Count ``frames`` lost at ``port``."""
        self._counts[reason, port] += frames

    def by_reason_and_port(self) -> dict[tuple[DropReason, int], int]:
        """A copy."""
        return dict(self._counts)

    def total(self, reason: DropReason) -> int:
        """All ports' count of one reason."""
        return sum(count for (what, _), count in self.by_reason_and_port().items() if what is reason)


class OutputQueue:
    """Frames that wait for one port, in order. Bounded: a full queue drops the new frame, counted."""

    __slots__ = (
        "_drops",
        "_frames",
        "_io",
        "_limit",
        "_patience",
        "_standing",
        "_stuck_since",
        "bytes",
        "packets",
        "port",
    )

    def __init__(self, port: int, io: PacketIo, drops: Drops, *, limit: int, patience: float) -> None:
        self.port = port
        self.packets = 0
        """Frames sent."""
        self.bytes = 0
        """Bytes sent."""
        self._io = io
        self._drops = drops
        self._limit = limit
        self._patience = patience
        self._frames: deque[bytes] = deque()
        self._stuck_since: float | None = None
        self._standing = False

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: bytes, queue: int = 0) -> None:
        """Append a frame, or count its drop; ``queue`` is for ports that have several."""
        if len(self._frames) >= self._limit:
            self._drops.add(DropReason.OUTPUT_QUEUE_FULL, self.port)
        else:
            self._frames.append(frame)

    def flush(self, now: float) -> bool:
        """Send what can be sent at ``now`` (seconds); False if frames still wait.

        Where nothing was taken for longer than the patience, the port is down or its peer gone: what waits is dropped
        and counted, and so is every frame after it until one is taken.
        """
        done = self._send(self._frames, now)
        self._standing = not done
        return done

    def depth(self, queue: int) -> int:
        """Frames that the port has not taken yet; those of a batch that it was not yet offered do not count."""
        return len(self) if self._standing else 0

    def _send(self, frames: deque[bytes], now: float) -> bool:
        send, port = self._io.send, self.port
        while frames:
            frame = frames[0]
            result = send(port, frame)
            if result is Sent.YES:
                self.packets += 1
                self.bytes += len(frame)
                self._stuck_since = None
            elif result is Sent.NEVER:
                self._drops.add(DropReason.TOO_LONG, port)
            elif not self._gave_up(now):
                return False
            frames.popleft()
        return True

    def _gave_up(self, now: float) -> bool:
        if self._stuck_since is None:
            self._stuck_since = now
        if now - self._stuck_since < self._patience:
            return False
        self._drops.add(DropReason.SEND_FAILED, self.port)
        return True
