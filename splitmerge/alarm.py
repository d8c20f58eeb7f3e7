"""One timer of the event loop for a core that says when it is due (sans-IO cores have no clock of their own)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """``due``: when the core is to be told of the time next, in the loop's clock; None: never. ``ring`` tells it, and
    calls `follow` if it goes on.

    A core's due changes with nearly every event, and hardly ever comes: so a timer that is set too early stays, and
    looks again when it runs out.
    """

    __slots__ = ("_due", "_ring", "_timer")

    def __init__(self, due: Callable[[], float | None], ring: Callable[[], object]) -> None:
        self._due = due
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def follow(self) -> None:
        """Call this when the core may have another due: see that there is a timer that is due no later."""
        due = self._due()
        if due is None or (self._timer is not None and self._timer.when() <= due):
            return
        self.stop()
        self._timer = asyncio.get_running_loop().call_at(due, self._look)

    def stop(self) -> None:
        """No timer is left, until `follow` is called again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        due = self._due()
        if due is not None and due <= asyncio.get_running_loop().time():
            self._ring()
        else:
            self.follow()
