"""All targets side by side: running at once, each between its own cables, measured in turn, several times.

A machine that others use as well, or whose clock follows its heat, changes within minutes by more than the targets
differ. So the targets take turns within a round, in one order and the next time in the other, and what is compared are
medians and the ratios of each round.
"""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.switch import measures, pipeline
from benchmarks.switch.bars import Rounds, bars
from benchmarks.switch.client import Client
from benchmarks.switch.targets import TARGETS, Running, running
from benchmarks.switch.traffic import FLOWS
from benchmarks.switch.wires import Wires
from p4src import P4BLOB, P4INFO

KEYS = (
    "forwarding_pps",
    "latency_us",
    "inserts_per_s",
    "modify_us",
    "packet_in_per_s",
    "packet_in_lost",
    "pipeline_pps",
    "compile_s",
)
GROWTH_SECONDS = 150.0
"""For the growing tables of one target; what is not reached is null."""
_GROWTH = {"native": 1_000_000, "interpreter": 0, "simple_switch_grpc": 100_000}
"""The largest table that a target is asked for."""


@dataclass
class Side:
    """A target, its client where it has tables, and what is known of it so far."""

    target: Running
    client: Client | None
    loss_free: float = 0.0


class Bench:
    """``say`` is told of progress."""

    def __init__(self, names: tuple[str, ...], count: int, say: Any) -> None:
        self._names = names
        self._count = count
        self._say = say
        self.rounds: Rounds = {key: [] for key in KEYS}

    def run(self, entries: tuple[int, ...]) -> dict[str, Any]:
        """Everything; the result as it is written to the file."""
        machine = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
        for number in range(len(TARGETS)):
            Wires.of(number).build()
        with ExitStack() as stack:
            sides = [side for name in self._names if (side := _open(name, stack)) is not None]
            for number in range(self._count):
                self._forwarding(sides, number)
            for side in sides:
                side.loss_free = median(
                    one[side.target.name]["loss_free"]["64"] for one in self.rounds["forwarding_pps"] if one
                )
            for number in range(self._count):
                self._rest(sides, number)
        result: dict[str, Any] = {key: _medians(values) for key, values in self.rounds.items()}
        result["growth"] = {name: self._growth(name, entries) for name in TARGETS}
        machine["load_after"] = os.getloadavg()[0]
        return {
            **result,
            "machine": machine,
            "bars": bars(result, self.rounds),
            "rounds": self.rounds,
        }

    def _forwarding(self, sides: list[Side], number: int) -> None:
        self._say(f"round {number + 1} of {self._count}: packets …")
        order = sides[::-1] if number % 2 else sides
        self.rounds["forwarding_pps"].append({side.target.name: measures.forwarding(side.target) for side in order})

    def _rest(self, sides: list[Side], number: int) -> None:
        self._say(f"round {number + 1} of {self._count}: latency, tables, packet-ins …")
        order = sides[::-1] if number % 2 else sides
        found: dict[str, dict[str, Any]] = {key: {} for key in KEYS if key != "forwarding_pps"}
        for side in order:
            name = side.target.name
            found["latency_us"][name] = measures.latency(side.target, side.loss_free / 2, writes_first=bool(number % 2))
        programmable = [(side, side.client) for side in order if side.client is not None]
        for side, client in programmable:
            found["modify_us"][side.target.name] = measures.modify(client)
        for side, client in programmable:
            found["inserts_per_s"][side.target.name] = measures.inserts(client)
        for side, client in programmable:
            name = side.target.name
            rate, lost = measures.packet_ins(side.target, client)
            found["packet_in_per_s"][name], found["packet_in_lost"][name] = rate, lost
        if "native" in self._names:
            found["pipeline_pps"]["native"], found["compile_s"]["native"] = (
                pipeline.native(),
                pipeline.compile_seconds(),
            )
        if "interpreter" in self._names:
            found["pipeline_pps"]["interpreter"] = pipeline.interpreter()
        for key, values in found.items():
            self.rounds[key].append(values)

    def _growth(self, name: str, entries: tuple[int, ...]) -> dict[str, Any] | None:
        counts = tuple(count for count in entries if count <= _GROWTH.get(name, 0))
        if name not in self._names or not counts:
            return None
        with running(name) as target:
            if target is None:
                return None
            self._say(f"{name}: growing tables …")
            client = Client(target.address, 9)
            client.configure(P4INFO, P4BLOB, flow_size=max(counts) + FLOWS)
            client.prepare()
            found = measures.growth(target, client, counts, time.monotonic() + GROWTH_SECONDS)
            client.close()
            return found


def _open(name: str, stack: ExitStack) -> Side | None:
    target = stack.enter_context(running(name))
    if target is None:
        return None
    if not target.programmable:
        return Side(target, None)
    client = Client(target.address, measures.ELECTION)
    stack.callback(client.close)
    client.configure(P4INFO, P4BLOB)
    client.prepare()
    client.fill()
    return Side(target, client)


def _medians(values: list[dict[str, Any] | None]) -> dict[str, Any]:
    """By target, null where there is none; within an object, of each number by itself."""
    return {name: _median([one[name] for one in values if one and name in one]) for name in TARGETS}


def _median(values: list[Any]) -> Any:
    values = [value for value in values if value is not None]
    if not values:
        return None
    if isinstance(values[0], dict):
        return {key: _median([value.get(key) for value in values]) for key in values[0]}
    middle = median(values)
    return int(middle) if all(isinstance(value, int) for value in values) else round(middle, 3)
