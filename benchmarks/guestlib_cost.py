"""What the guest library costs beside a plain dict: make bench-guestlib

Time a transaction (get_flow and put_flow), moving a timer, creating and deleting a flow, and memory a flow at a million
flows; all in one run, each beside what a program without the library would do. The bars that the project sets itself
are printed with whether they are met. Figures: build/bench-guestlib.json. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from guestlib import Guest
from splitmerge.cli.output import make_console
from splitmerge.flowkey import UDP, FlowKey

BATCH = 20_000
"""Operations timed together."""
PAIR_BAR_NS, BYTES_BAR = 1_000.0, 400.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Count(msgspec.Struct):
    """A small state: what a counting middlebox keeps."""

    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Timing:
    """Nanoseconds each: the median of the rounds and the best."""

    what: str
    library_ns: float
    library_best_ns: float
    dict_ns: float
    bar_ns: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median is within the bar; None: there is none."""
        return None if self.bar_ns is None else self.library_ns <= self.bar_ns


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes a flow, as the resident set grew."""

    what: str
    flows: int
    all: float
    """With the flow's key and state."""
    beyond_state: float
    """Without them."""
    bar: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether it is within the bar; None: there is none."""
        return None if self.bar is None else self.beyond_state <= self.bar


def key_of(number: int) -> FlowKey:
    """A flow of its own for every number."""
    source = bytes((10, 1 + (number >> 30), number >> 22 & 255, number >> 14 & 255))
    return FlowKey.of(UDP, source, 1024 + (number & 0x3FFF), bytes((10, 0, 2, 2)), 53)


def prepared() -> Guest:
    """A library without sockets."""
    guest = Guest()
    guest.register_state(Count)
    guest.on_timer("idle", lambda guest, key: guest.delete_flow(key))
    guest.begin(1, "benchmark")
    return guest


def timed(
    rounds: int, operations: int, run: Callable[[], None], before: Callable[[], None] = lambda: None
) -> list[float]:
    """Nanoseconds of one operation, in each round; the collector is off, as its time depends on what else is alive."""
    found = []
    for _ in range(rounds):
        before()
        gc.collect()
        gc.disable()
        start = time.perf_counter_ns()
        run()
        found.append((time.perf_counter_ns() - start) / operations)
        gc.enable()
    return found


def timings(rounds: int, flows: int) -> list[Timing]:
    """Everything that takes time, with this many flows there."""
    guest, plain = prepared(), {}
    keys = [key_of(number) for number in range(flows)]
    for key in keys:
        guest.create_flow(key, Count())
        plain[key] = Count()
    some = keys[:: max(flows // BATCH, 1)][:BATCH]
    fresh = [key_of(flows + number) for number in range(BATCH)]
    clock = iter(range(1, 1 << 30))

    def pairs() -> None:
        get, put = guest.get_flow, guest.put_flow
        for key in some:
            get(key)
            put(key)

    def looked_up() -> None:
        for key in some:
            plain[key]

    def armed() -> None:
        arm, guest.now = guest.flow_timer, next(clock) * 1e-3
        for key in some:
            arm(key, 30.0, "idle")

    dues: dict[FlowKey, float] = {}

    def noted() -> None:
        due = next(clock) * 1e-3 + 30.0
        for key in some:
            dues[key] = due

    def created() -> None:
        create = guest.create_flow
        for key in fresh:
            create(key, Count())

    def inserted() -> None:
        for key in fresh:
            plain[key] = Count()

    def deleted() -> None:
        delete = guest.delete_flow
        for key in fresh:
            delete(key)

    def removed() -> None:
        for key in fresh:
            del plain[key]

    def both(what: str, ours: list[float], theirs: list[float], bar: float | None = None) -> Timing:
        return Timing(what, statistics.median(ours), min(ours), statistics.median(theirs), bar)

    count = len(some)
    table = [
        both("get_flow + put_flow", timed(rounds, count, pairs), timed(rounds, count, looked_up), PAIR_BAR_NS),
        both("flow_timer", timed(rounds, count, armed), timed(rounds, count, noted)),
    ]
    creating, deleting, inserting, removing = [], [], [], []
    for _ in range(rounds):
        creating += timed(1, BATCH, created)
        deleting += timed(1, BATCH, deleted)
        inserting += timed(1, BATCH, inserted)
        removing += timed(1, BATCH, removed)
    return [*table, both("create_flow", creating, inserting), both("delete_flow", deleting, removing)]


# -- memory: each in a process of its own, for what one frees the next would use again ------------------------------


def states(flows: int) -> object:
    """Keys and states and nothing else, in two lists made beforehand."""
    keys: list[object] = [None] * flows
    values: list[object] = [None] * flows
    for number in range(flows):
        keys[number], values[number] = key_of(number), Count(number, number)
    return keys, values


def plain_dict(flows: int) -> object:
    """State by key."""
    return {key_of(number): Count(number, number) for number in range(flows)}


def library(flows: int) -> object:
    """Flows."""
    guest = prepared()
    for number in range(flows):
        guest.create_flow(key_of(number), Count(number, number))
    return guest


def library_with_timers(flows: int) -> object:
    """Flows with an idle timer each."""
    guest = prepared()
    for number in range(flows):
        key = key_of(number)
        guest.create_flow(key, Count(number, number))
        guest.flow_timer(key, 30.0 + number * 1e-6, "idle")
    return guest


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def grown_by(build: Callable[[int], object], flows: int) -> float:
    """Bytes a flow by which a process grows that builds it."""
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(build, flows, there))
    process.start()
    there.close()
    try:
        if not here.poll(300):
            raise TimeoutError(f"{build.__name__} of {flows} flows took more than 300 s")
        return float(here.recv())
    finally:
        process.join(10)
        process.kill()


def _report(build: Callable[[int], object], flows: int, to: object) -> None:
    kept = [build(1_000)]  # what is made once is there before the first measurement
    gc.collect()
    gc.freeze()
    before = resident()
    kept.append(build(flows))
    grown = (resident() - before) / flows
    to.send(grown)  # type: ignore[attr-defined]


def memories(flows: int) -> list[Memory]:
    """Memory a flow of each."""
    # two lists of pointers are not the state's: 16 bytes a flow
    state = grown_by(states, flows) - 16
    rows = [("a plain dict", plain_dict, None), ("the library", library, BYTES_BAR)]
    rows += [("the library, a timer each", library_with_timers, BYTES_BAR)]
    found = [Memory("keys and states alone", flows, state, 0.0)]
    for what, build, bar in rows:
        grown = grown_by(build, flows)
        found.append(Memory(what, flows, grown, grown - state, bar))
    return found


# -- the report ------------------------------------------------------------------------------------------------------


def verdict(met: bool | None) -> str:
    """For people."""
    return "" if met is None else "met" if met else "NOT met"


def tables(times: list[Timing], memory: list[Memory], console: Console) -> None:
    """Print both."""
    table = Table("operation", "library, ns", "best, ns", "a second", "plain dict, ns", "bar, ns", "")
    for each in times:
        bar = f"{each.bar_ns:,.0f}" if each.bar_ns else ""
        table.add_row(
            each.what, f"{each.library_ns:,.0f}", f"{each.library_best_ns:,.0f}", f"{1e9 / each.library_ns:,.0f}",
            f"{each.dict_ns:,.0f}", bar, verdict(each.met),
        )  # fmt: skip
    console.print(table)
    table = Table(f"memory at {memory[0].flows:,} flows", "bytes a flow", "beyond its state", "bar", "")
    for row in memory:
        bar = f"{row.bar:,.0f}" if row.bar else ""
        table.add_row(row.what, f"{row.all:,.0f}", f"{row.beyond_state:,.0f}", bar, verdict(row.met))
    console.print(table)


def main(arguments: list[str]) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, default=1_000_000, help="flows whose memory is measured")
    parser.add_argument("--rounds", type=int, default=9, help="times that each operation's batch is run")
    parser.add_argument("--json", action="store_true", help="print the JSON instead of the tables")
    parser.add_argument("--output", type=Path, default=Path("build/bench-guestlib.json"))
    options = parser.parse_args(arguments)
    times, memory = timings(options.rounds, min(options.flows, 100_000)), memories(options.flows)
    report = {
        "python": sys.version.split()[0],
        "rounds": options.rounds,
        "times": [asdict(each) | {"met": each.met} for each in times],
        "memory": [asdict(row) | {"met": row.met} for row in memory],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    if options.json:
        print(json.dumps(report))
    else:
        tables(times, memory, make_console())
        print(f"written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
