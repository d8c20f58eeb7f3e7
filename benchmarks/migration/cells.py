"""Time from suspend to resume, and throughput, by number of flows, state, guarantee, buffer and load."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.migration.bed import MODES, Bed, Mode, keys, ledger
from benchmarks.migration.population import CLASSES
from benchmarks.switch.traffic import percentile

REPETITIONS = {1: 200, 500: 8, 5000: 5, 100_000: 3}
"""Flows → moves that are measured."""
LOAD_PPS = 2_000.0
"""Frames a second to the flows that are moved, while they are."""
BY_BUCKET = 100_000
"""From so many flows on they are moved by their buckets, all of them."""
_LARGE = 2**30
"""From so many bytes of state on two moves a cell are enough, of ten seconds each."""
_COPIES = 3.0
"""Memory that a population needs, in its state's size: at the source, at the target, and room."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of the result."""

    flows: int
    state: int
    mode: Mode
    loaded: bool

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.flows} flows of {self.state} B, {self.mode.name}, {'under load' if self.loaded else 'idle'}"

    @property
    def repetitions(self) -> int:
        """Moves that are measured."""
        return 2 if self.flows * self.state >= _LARGE else REPETITIONS[self.flows]


def cells(counts: tuple[int, ...]) -> Iterator[Cell]:
    """All that are measured, grouped by the population that they need."""
    for state, flows in itertools.product(CLASSES, counts):
        for mode, loaded in itertools.product(MODES, (False, True)):
            yield Cell(flows, state, mode, loaded)


def lacking(flows: int, state: int, available: int) -> int:
    """Bytes of memory that a machine with so many available lacks to move such a population; 0: none."""
    return max(0, int(flows * state * _COPIES) - available)


def measure(bed: Bed, cell: Cell, say: Callable[[str], None]) -> dict[str, Any]:
    """Moves to and fro; their times, and what the middlebox saw of the frames meanwhile."""
    say(cell.name)
    first, second = (int(each["replica"]) for each in bed.live())
    what: dict[str, Any] = {"all": True} if cell.flows >= BY_BUCKET else {"keys": keys(cell.state, cell.flows)}
    before = ledger(bed)
    generator = bed.generate(cell.state, cell.flows, LOAD_PPS) if cell.loaded else None
    try:
        moves = []
        for number in range(cell.repetitions):
            source, target = (first, second) if number % 2 == 0 else (second, first)
            moves.append(bed.move(what, source, target, cell.mode))
        if len(moves) % 2:
            bed.move(what, second, first, cell.mode)
    finally:
        if generator is not None:
            bed.take(generator)
    after = ledger(bed)
    return {
        "flows": cell.flows,
        "state_bytes": cell.state,
        "guarantee": cell.mode.guarantee,
        "buffer": cell.mode.buffer,
        "loaded": cell.loaded,
        "by": "bucket" if "all" in what else "flow",
        "held_ms": spread([move["suspended_ms"] for move in moves]),
        "waited_ms": spread([move["waited_ms"] for move in moves if move["waited_ms"]]),
        "call_ms": spread([move["call_ms"] for move in moves]),
        "flows_per_s": int(sum(move["staged"] for move in moves) / (sum(move["call_ms"] for move in moves) / 1000)),
        "moves": sum(move["moves"] for move in moves),
        "relayed": sum(move["relayed"] for move in moves),
        "dropped": sum(move["dropped"] for move in moves),
        "peak_buffer": max(move["peak_buffer"] for move in moves),
        "packets": {name: after[name] - before[name] for name in after},
    }


def spread(values: list[float]) -> dict[str, float | None]:
    """p50, p99, max, to the microsecond."""
    found = {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99), "max": max(values, default=None)}
    return {name: None if value is None else round(value, 3) for name, value in found.items()}
