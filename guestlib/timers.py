"""Timers of flows: a heap with lazy deletion.

A flow has at most one timer of a name; setting it again moves it. Moving a timer to a *later* time (what every packet
does with an idle timer) only writes its ``due``: the heap entry, then early, puts itself back when it comes up.
An entry whose number is no longer its timer's is dead and is dropped when it comes up, or all at once when the dead are
more than half of the heap. Times are seconds on the caller's clock.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guestlib.flows import Flow

_COMPACT_ABOVE = 256
"""Entries under which a heap is never compacted."""


class Timer:
    """One timer of one flow. ``entry`` is the number of its heap entry, 0 if it has none (then it does not run)."""

    __slots__ = ("due", "entry", "flow", "name", "queued")

    def __init__(self, flow: Flow, name: str, due: float) -> None:
        self.flow = flow
        self.name = name
        self.due = due
        self.queued = due
        self.entry = 0


class TimerQueue:
    """All timers that run here."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = 0
        self._running = 0

    def __len__(self) -> int:
        return self._running

    def arm(self, flow: Flow, name: str, due: float) -> None:
        """Set or move the timer of this name."""
        timer = flow.timers.get(name)
        if timer is None:
            timer = flow.timers[name] = Timer(flow, name, due)
        timer.due = due
        if not timer.entry:
            self._running += 1
            self._push(timer)
        elif due < timer.queued:
            self._push(timer)

    def cancel(self, flow: Flow, name: str) -> bool:
        """Forget the timer; whether there was one."""
        timer = flow.timers.pop(name, None)
        if timer is None:
            return False
        self._stop(timer)
        return True

    def detach(self, flow: Flow) -> None:
        """Stop the flow's timers and let them keep their times (the flow freezes, or is deleted)."""
        for timer in flow.timers.values():
            self._stop(timer)

    def attach(self, flow: Flow) -> None:
        """Run the flow's timers (it is active here from now); those overdue come up at once."""
        for timer in flow.timers.values():
            self._running += 1
            self._push(timer)

    def next_due(self) -> float | None:
        """When the earliest timer comes up; None without timers. May be early, never late."""
        heap = self._heap
        while heap and heap[0][2].entry != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def pop_due(self, now: float) -> Timer | None:
        """One timer that is due, which then is the flow's no longer; None if none is due."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, entry, timer = heapq.heappop(heap)
            if timer.entry != entry:
                continue
            if timer.due > now:
                self._push(timer)
                continue
            self._stop(timer)
            del timer.flow.timers[timer.name]
            return timer
        return None

    def _push(self, timer: Timer) -> None:
        self._numbers += 1
        timer.entry = self._numbers
        timer.queued = timer.due
        heapq.heappush(self._heap, (timer.due, timer.entry, timer))
        if len(self._heap) > _COMPACT_ABOVE and len(self._heap) > 2 * self._running:
            # In place: pop_due holds the same list.
            self._heap[:] = [item for item in self._heap if item[2].entry == item[1]]
            heapq.heapify(self._heap)

    def _stop(self, timer: Timer) -> None:
        if timer.entry:
            timer.entry = 0
            self._running -= 1
