"""What the traffic interface has received, in order; but LOOPs out of turn, while frames wait for them.

A LOOP (`pace`) comes back behind all frames in the receive ring. Taken in its turn it says that the switch is
slow where only this replica is: with a thousand frames in the ring, 512 on their way are few. A TCP sender keeps as
many frames on their way as its window has, so those that a hold had released, and all that came after them, stood in
the sender's queue until the connection ended: each a tenth dearer, and everybody else's behind them. Nothing that comes
in depends on when a LOOP is met, so while frames wait the ring is searched for LOOPs first, and the others are kept.

Only where the switch has proved to be quick, though (`PacedSender.quick`): a slow one needs the rest that LOOPs in
their turn give it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from splitmerge.tag import TagKind, is_tagged, pop

LOOK = 1024
"""Most frames looked at before a batch of them is processed: under a millisecond."""
AHEAD = 8192
"""Most frames kept; others stay in the ring, as many again."""


class Receiver(Protocol):
    """`guestlib.shell.FrameSocket`, as far as it is used here."""

    def receive(self, limit: int) -> list[bytes]: ...


class Pacer(Protocol):
    """`guestlib.packets.pace.PacedSender`, as far as it is used here."""

    @property
    def waiting(self) -> int: ...

    @property
    def quick(self) -> bool: ...

    def looped(self, sequence: int) -> None: ...

    def came(self, frames: int) -> None: ...


class Intake:
    """Frames of one interface for one engine."""

    def __init__(self, packets: Receiver, pacer: Pacer) -> None:
        self._receive: Callable[[int], list[bytes]] = packets.receive
        self._pacer = pacer
        self._ahead: deque[bytes] = deque()

    @property
    def waiting(self) -> int:
        """Frames that are out of the ring and were not taken: `take` them, though the interface is not readable."""
        return len(self._ahead)

    def take(self, limit: int) -> list[bytes]:
        """Up to ``limit`` frames, oldest first; none only if there are none. The pacer is told how many."""
        if self._pacer.quick and self._pacer.waiting:
            self._look()
        if self._ahead:
            frames = [self._ahead.popleft() for _ in range(min(limit, len(self._ahead)))]
        else:
            frames = self._receive(limit)
        self._pacer.came(len(frames))
        return frames

    def _look(self) -> None:
        for frame in self._receive(min(LOOK, AHEAD - len(self._ahead))):
            number = _loop(frame)
            if number is None:
                self._ahead.append(frame)
            else:
                self._pacer.looped(number)


def _loop(frame: bytes) -> int | None:
    """The number of a LOOP; None for any other frame."""
    if not is_tagged(frame):
        return None
    popped = pop(frame)
    return popped[0].sequence if popped is not None and popped[0].kind is TagKind.LOOP else None
