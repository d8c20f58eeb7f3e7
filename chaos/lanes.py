"""Strike after strike, in one lab or in several at once, each of which has a process of its own.

A lane takes the next cell when it is done with one. A lab that does not come to rest is replaced.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from pathlib import Path

from chaos.cells import KINDS, Cell
from chaos.lab import ChaosLab, chaos_lab
from chaos.strike import Outcome, strike
from chaos.verdict import judge
from splitmerge.errors import BadInput, SplitmergeError
from topo.namespaces import die_with_parent

GROUPED = "chaos.grouped:Grouped"
"""The middlebox of labs in which moves by key are struck."""
TRIES = 5
"""Strikes at a cell whose step the move may go past: `cells.Kind.passes`."""
LOOK = 1.0
"""Seconds between two looks whether the lanes live."""
EMPTY_WITHIN = 1.0
"""Seconds in which what was put into a queue can be taken out of it: a thread of its own writes it."""
END_WITHIN = 60.0
"""Seconds for a lane to end its lab when nothing is left to strike."""

Name = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is the same for all strikes of a run."""

    target: str = "embedded"
    """Which switch."""
    topology: str = "one-switch"
    away: float = 0.0
    """Seconds for which a killed orchestrator is away."""
    tries: int = TRIES
    """Strikes at a cell whose step is passed, at most."""


@dataclass(slots=True)
class Lane:
    """One lab after the other. Close it."""

    conditions: Conditions
    _labs: ExitStack = field(default_factory=ExitStack)
    _lab: ChaosLab | None = None
    _by_key: bool = False
    """Its lab is one for moves by key: with another middlebox."""

    def strike(self, cell: Cell) -> Outcome:
        """The outcome of one cell, judged; struck again while the move goes past the step, as it may."""
        return until_struck(lambda: self._once(cell), self.conditions.tries)

    def _once(self, cell: Cell) -> Outcome:
        conditions = self.conditions
        try:
            outcome = strike(self._here(by_key=cell.kind.by_key), cell, conditions.away)
        except SplitmergeError as error:
            self.close()
            outcome = Outcome(
                target=conditions.target, topology=conditions.topology, kind=cell.kind.name, component=cell.component,
                step=cell.step, problem=str(error),
            )  # fmt: skip
        return judge(cell, outcome)

    def _here(self, *, by_key: bool) -> ChaosLab:
        if self._by_key != by_key:
            self.close()
        if self._lab is None:
            directory = Path(self._labs.enter_context(tempfile.TemporaryDirectory(prefix="chaos")))
            changes = {"middlebox": GROUPED} if by_key else {}
            lab = chaos_lab(directory, self.conditions.target, self.conditions.topology, **changes)
            self._lab, self._by_key = self._labs.enter_context(lab), by_key
        return self._lab

    def close(self) -> None:
        """End its lab; the next strike gets a new one."""
        self._lab = None
        self._labs.close()


def until_struck(once: Callable[[], Outcome], tries: int) -> Outcome:
    """The first outcome whose step was not passed, or that does not hold; else the last of so many."""
    outcome = once()
    for _ in range(tries - 1):
        if outcome.faults or not outcome.passed:
            break
        outcome = once()
    return outcome


def strikes(chosen: list[Cell], conditions: Conditions, jobs: int = 1) -> Iterator[Outcome]:
    """Outcomes as they come, with several lanes in any order.

    :raises BadInput: for less than one lane. :raises SplitmergeError: if a lane has ended; what came before was given.
    """
    if jobs < 1:
        raise BadInput("--jobs", f"{jobs}", "at least 1")
    if jobs > 1:
        yield from _beside(chosen, conditions, min(jobs, len(chosen)))
        return
    lane = Lane(conditions)
    try:
        for cell in chosen:
            yield lane.strike(cell)
    finally:
        lane.close()


def _beside(chosen: list[Cell], conditions: Conditions, jobs: int) -> Iterator[Outcome]:
    context = multiprocessing.get_context("spawn")
    wanted: Queue[Name | None] = context.Queue()
    found: Queue[Outcome] = context.Queue()
    for cell in chosen:
        wanted.put((cell.kind.name, cell.component, cell.step))
    for _ in range(jobs):
        wanted.put(None)
    # Not daemons: these would be killed at the end, and their labs left to the kernel.
    arguments = (conditions, wanted, found, os.getpid())
    lanes = [context.Process(target=_lane, args=arguments, name=f"lane {number}") for number in range(jobs)]
    try:
        for lane in lanes:
            lane.start()
        for _ in chosen:
            yield _next(found, lanes)
    finally:
        _empty(wanted, jobs)
        for lane in lanes:
            if lane.pid is not None:
                lane.join(END_WITHIN)
                lane.kill()


def _empty(wanted: Queue[Name | None], lanes: int) -> None:
    """Leave nothing to strike: each lane ends with the cell that it is at, and finds that there is no other."""
    with suppress(queue.Empty):
        while True:
            wanted.get(timeout=EMPTY_WITHIN)
    for _ in range(lanes):  # what was taken out above may have been the word to end that a lane has not read yet
        wanted.put(None)


def _next(found: Queue[Outcome], lanes: list[multiprocessing.context.SpawnProcess]) -> Outcome:
    while True:
        try:
            return found.get(timeout=LOOK)
        except queue.Empty:
            failed = [lane.name for lane in lanes if lane.exitcode]
            if failed:
                raise SplitmergeError(f"{', '.join(failed)} ended in the middle of a strike") from None


def _lane(conditions: Conditions, wanted: Queue[Name | None], found: Queue[Outcome], parent: int) -> None:
    die_with_parent(parent)  # however that ends; the lab dies with its lane
    lane = Lane(conditions)
    try:
        while (name := wanted.get()) is not None:
            kind, component, step = name
            found.put(lane.strike(Cell(KINDS[kind], component, step)))
    finally:
        lane.close()
