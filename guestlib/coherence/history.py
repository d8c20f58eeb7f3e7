"""Histories: what transactions on coherent state did and saw, and whether one consistent store explains it.

Every process writes down what it does, each line before or after the thing itself, with a clock that all share:

    with Recorder(path, "replica 1") as recorder:          # one file for each process
        call = recorder.begin("limits")
        value = guest.get_shared("limits", SYNCH); call.read(value.count)
        value.count += 1; call.write(value.count)
        guest.put_shared("limits", SYNCH); call.end(Outcome.WRITTEN)

`load` makes operations of all files (a process that was killed simply stops), and `check_linearizable` finds an order
of them that every reader and writer agrees with: each operation takes effect at one moment between its beginning and
its end, and reads what was written last. That is the search of Wing and Gong (1993) with the cache of Lowe (2017):
among the operations that had begun before any other one ended, try each, and never try one set of operations with one
value twice. `check_counter` judges counters under LOCAL, PUSH and PULL, which promise less.
"""

from __future__ import annotations

import enum
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from guestlib.errors import GuestError

STEPS_MOST = 5_000_000
"""Steps of one search."""


class HistoryUndecided(GuestError):
    """The search took too many steps."""


class Outcome(enum.Enum):
    """How a transaction ended."""

    WRITTEN = "written"
    NOT_WRITTEN = "not written"
    """Lost, refused or dropped: certainly without effect."""
    UNKNOWN = "unknown"
    """No answer: it may have taken effect, or may still."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on one value. ``ended`` is infinite if nobody knows when, or whether, it took effect."""

    process: str
    begun: float
    ended: float
    read: Hashable
    """The value that it saw."""
    wrote: Hashable = None
    writes: bool = False

    @property
    def optional(self) -> bool:
        """Whether it may never have taken effect."""
        return math.isinf(self.ended)

    def __str__(self) -> str:
        change = f"{self.read!r} -> {self.wrote!r}" if self.writes else f"read {self.read!r}"
        return f"{self.process}: {change} in [{self.begun:.6f}, {self.ended:.6f}]"


# -- writing down ------------------------------------------------------------------------------------------


class Recorder:
    """Writes one process's history. ``clock``: seconds; the default is one for all processes of a machine."""

    def __init__(self, path: Path, process: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._file: TextIO = path.open("a", encoding="utf-8")
        self._process = process
        self._clock = clock
        self._calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def begin(self, key: str) -> Call:
        """A transaction on this object is about to be asked for."""
        self._calls += 1
        self.note(self._calls, "begin", key)
        return Call(self, self._calls)

    def note(self, call: int, event: str, value: Hashable) -> None:
        """One line, in the hands of the kernel when this returns: it outlives a process that is killed."""
        line = {"process": self._process, "call": call, "at": self._clock(), "event": event, "value": value}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


@dataclass(frozen=True, slots=True)
class Call:
    """One transaction being written down."""

    recorder: Recorder
    number: int

    def read(self, value: Hashable) -> None:
        """It has begun, with this value."""
        self.recorder.note(self.number, "read", value)

    def write(self, value: Hashable) -> None:
        """This is about to be written."""
        self.recorder.note(self.number, "write", value)

    def end(self, outcome: Outcome) -> None:
        """It is over."""
        self.recorder.note(self.number, "end", outcome.value)


def load(paths: Iterable[Path]) -> dict[str, list[Operation]]:
    """The operations on each object. A last line that is not whole was being written by a process that was killed."""
    calls: dict[tuple[str, int], dict[str, tuple[float, Any]]] = defaultdict(dict)
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                found = json.loads(line)
                calls[found["process"], found["call"]][found["event"]] = (found["at"], found["value"])
    operations: dict[str, list[Operation]] = defaultdict(list)
    for (process, _), events in calls.items():
        operations[events["begin"][1]] += operations_of(process, events)
    return dict(operations)


def operations_of(process: str, events: dict[str, tuple[float, Any]]) -> list[Operation]:
    """What one transaction did: nothing, a read, an update, or a read and perhaps an update."""
    if "read" not in events:
        return []
    (begun, _), (got, value) = events["begin"], events["read"]
    seen = Operation(process, begun, got, value)
    if "write" not in events:
        return [seen]
    wrote = events["write"][1]
    ended, outcome = events.get("end", (math.inf, Outcome.UNKNOWN.value))
    match Outcome(outcome):
        case Outcome.WRITTEN:
            return [Operation(process, begun, ended, value, wrote, True)]
        case Outcome.NOT_WRITTEN:
            return [seen]
        case Outcome.UNKNOWN:
            return [seen, Operation(process, begun, math.inf, value, wrote, True)]


# -- one value ---------------------------------------------------------------------------------------------


class _Event:
    """A beginning or an end, in a list from which operations are taken and put back."""

    __slots__ = ("begins", "end", "index", "next", "prev")

    def __init__(self, index: int, begins: bool) -> None:
        self.index = index
        self.begins = begins
        self.end: _Event | None = None
        self.prev: _Event
        self.next: _Event | None = None

    def take(self) -> None:
        self.prev.next = self.next
        if self.next is not None:
            self.next.prev = self.prev

    def put_back(self) -> None:
        self.prev.next = self
        if self.next is not None:
            self.next.prev = self


def check_linearizable(operations: Sequence[Operation], initial: Hashable) -> list[Operation] | None:
    """An order of the operations that explains all they saw, if there is one. Optional ones may be missing in it.

    :raises HistoryUndecided: after `STEPS_MOST` steps.
    """
    head = _timeline(operations)
    value, done = initial, 0
    tried: set[tuple[int, Hashable]] = set()
    taken: list[tuple[_Event, Hashable]] = []
    left = sum(not operation.optional for operation in operations)
    event = head.next
    for _ in range(STEPS_MOST):
        if not left:
            return [operations[taken_event.index] for taken_event, _ in taken]
        if event is None or not event.begins:  # nothing else had begun before this end: go back
            if not taken:
                return None
            event, value = taken.pop()
            done &= ~(1 << event.index)
            left += not operations[event.index].optional
            if event.end is not None:
                event.end.put_back()
            event.put_back()
            event = event.next
            continue
        operation = operations[event.index]
        state = (done | 1 << event.index, operation.wrote if operation.writes else value)
        if operation.read != value or state in tried:
            event = event.next
            continue
        tried.add(state)
        taken.append((event, value))
        done, value = state
        left -= not operation.optional
        event.take()
        if event.end is not None:
            event.end.take()
        event = head.next
    raise HistoryUndecided(f"{len(operations)} operations: no answer after {STEPS_MOST} steps")


def _timeline(operations: Sequence[Operation]) -> _Event:
    """The head of the list of beginnings and ends in order; at one moment beginnings come first."""
    moments: list[tuple[float, int, _Event]] = []
    for index, operation in enumerate(operations):
        begin = _Event(index, True)
        moments.append((operation.begun, 0, begin))
        if not operation.optional:
            begin.end = _Event(index, False)
            moments.append((operation.ended, 1, begin.end))
    head = last = _Event(-1, False)
    for _, _, event in sorted(moments, key=lambda moment: moment[:2]):
        last.next, event.prev = event, last
        last = event
    return head


# -- counters ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Add:
    """A replica added to its own element."""

    process: str
    amount: int
    begun: float
    ended: float
    safe: float = math.inf
    """When a PUSH (or the last one of an ending replica) that has it was confirmed."""


@dataclass(frozen=True, slots=True)
class Pull:
    """A replica pulled this value of the whole counter."""

    process: str
    value: int
    begun: float
    ended: float


def check_counter(adds: Sequence[Add], pulls: Sequence[Pull], died: Iterable[str] = ()) -> list[str]:
    """What is wrong with a counter that only grows; nothing if it is right. ``died``: processes that did not end well.

    - A pull has everything that was added before it began, but what died with its replica before it was safe.
    - It has nothing that was added after it ended, and nothing twice.
    - It is never less than a pull that ended before it began.
    """
    dead = frozenset(died)
    wrong = [found for pull in pulls if (found := _misses(pull, adds, dead))]
    highest: Pull | None = None
    by_end = sorted(pulls, key=lambda pull: pull.ended)
    ended = 0
    for pull in sorted(pulls, key=lambda pull: pull.begun):
        while ended < len(by_end) and by_end[ended].ended < pull.begun:
            highest = max(highest or by_end[ended], by_end[ended], key=lambda one: one.value)
            ended += 1
        if highest is not None and highest.value > pull.value:
            wrong.append(f"{pull.process} pulled {pull.value} after {highest.process} had pulled {highest.value}")
    return wrong


def _misses(pull: Pull, adds: Sequence[Add], dead: frozenset[str]) -> str:
    sure = sum(
        add.amount
        for add in adds
        if add.ended < pull.begun and (add.process not in dead or add.safe < pull.begun)
    )  # fmt: skip
    most = sum(add.amount for add in adds if add.begun <= pull.ended)
    if sure <= pull.value <= most:
        return ""
    return f"{pull.process} pulled {pull.value} at {pull.ended:.6f}; it should be {sure} to {most}"
