"""Timers of flows: a heap with lazy deletion.

A flow has at most one timer of a name; setting it again moves it. Moving a timer to a *later* time (what every packet
does with an idle timer) only writes its ``due``: the heap entry, then early, puts itself back when it comes up.
An entry that is no longer its timer's is dead and is dropped when it comes up, or all at once when the dead are
more than half of the heap. Times are seconds on the caller's clock.

There may be millions, so a timer is small: a flow's are a chain (`Flow.timers` is the first), not a dictionary.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from guestlib.partitioned.flows import Flow

_COMPACT_ABOVE = 256
"""Entries under which a heap is never compacted."""


class Due(NamedTuple):
    """A timer that came up."""

    flow: Flow
    name: str


class Timer:
    """One timer of one flow. ``entry`` is its heap entry, None if it has none (then it does not run)."""

    __slots__ = ("due", "entry", "name", "next")

    def __init__(self, name: str, due: float, following: Timer | None) -> None:
        self.name = name
        self.due = due
        self.entry: Entry | None = None
        self.next = following

    def __lt__(self, other: Timer) -> bool:
        """Of two that are due at the same moment, any comes up first."""
        return False


Entry = tuple[float, Timer, "Flow"]


def add_timer(flow: Flow, name: str, due: float) -> Timer:
    """A timer that does not run yet, of a flow that has none of this name."""
    flow.timers = Timer(name, due, flow.timers)
    return flow.timers


def timers_of(flow: Flow) -> Iterator[Timer]:
    """All of a flow's."""
    timer = flow.timers
    while timer is not None:
        yield timer
        timer = timer.next


def find(flow: Flow, name: str) -> Timer | None:
    """The flow's timer of this name."""
    timer = flow.timers
    while timer is not None and timer.name != name:
        timer = timer.next
    return timer


def _unchain(flow: Flow, timer: Timer) -> None:
    """It is the flow's no longer."""
    before = flow.timers
    if before is timer:
        flow.timers = timer.next
        return
    while before is not None and before.next is not timer:
        before = before.next
    assert before is not None
    before.next = timer.next


class TimerQueue:
    """All timers that run here."""

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._running = 0

    def __len__(self) -> int:
        return self._running

    def arm(self, flow: Flow, name: str, due: float) -> None:
        """Set or move the timer of this name."""
        timer = flow.timers
        while timer is not None and timer.name != name:
            timer = timer.next
        if timer is None:
            timer = add_timer(flow, name, due)
        timer.due = due
        if timer.entry is None:
            self._running += 1
            self._push(flow, timer)
        elif due < timer.entry[0]:
            self._push(flow, timer)

    def cancel(self, flow: Flow, name: str) -> bool:
        """Forget the timer; whether there was one."""
        timer = find(flow, name)
        if timer is None:
            return False
        self._stop(timer)
        _unchain(flow, timer)
        return True

    def detach(self, flow: Flow) -> None:
        """Stop the flow's timers and let them keep their times (the flow freezes, or is deleted)."""
        for timer in timers_of(flow):
            self._stop(timer)

    def attach(self, flow: Flow) -> None:
        """Run the flow's timers (it is active here from now); those overdue come up at once."""
        for timer in timers_of(flow):
            self._running += 1
            self._push(flow, timer)

    def next_due(self) -> float | None:
        """When the earliest timer comes up; None without timers. May be early, never late."""
        heap = self._heap
        while heap and heap[0][1].entry is not heap[0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def pop_due(self, now: float) -> Due | None:
        """One timer that is due, which then is the flow's no longer; None if none is due."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            entry = heapq.heappop(heap)
            _, timer, flow = entry
            if timer.entry is not entry:
                continue
            if timer.due > now:
                self._push(flow, timer)
                continue
            self._stop(timer)
            _unchain(flow, timer)
            return Due(flow, timer.name)
        return None

    def _push(self, flow: Flow, timer: Timer) -> None:
        timer.entry = entry = (timer.due, timer, flow)
        heapq.heappush(self._heap, entry)
        if len(self._heap) > _COMPACT_ABOVE and len(self._heap) > 2 * self._running:
            # In place: pop_due holds the same list.
            self._heap[:] = [item for item in self._heap if item[1].entry is item]
            heapq.heapify(self._heap)

    def _stop(self, timer: Timer) -> None:
        if timer.entry is not None:
            timer.entry = None
            self._running -= 1
