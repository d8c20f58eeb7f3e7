"""The real cores in every order in which things can happen: one flow, one move, a crash or a call-off.

The world is that of `tests/orchestrator/world.py`: real migration core, real guest libraries, a switch with
FIFO queues. There hypothesis chooses what happens; here all that can happen next is tried, depth first, and a state
that was met before is not gone into again. Control messages keep their order within a connection, as TCP's do.
"""

from __future__ import annotations

import enum
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import migration as core
from orchestrator.journal import JournalState, MoveRow
from splitmerge import messages as m
from splitmerge.flowkey import BUCKETS
from tests.orchestrator import world as ownership
from tests.orchestrator.world import FLOWS, Crash, World

FLOW = FLOWS[0]
SOURCE, TARGET = 1, 2
LIMIT = 60_000
"""States of one search; more would be a search that does not end."""
WAYS = {
    "cpu": core.Options(buffer="cpu"),
    "replica": core.Options(buffer="replica"),
    "cpu, loss-free": core.Options(buffer="cpu", guarantee="loss-free"),
    "no-buffer": core.Options(guarantee="no-buffer"),
    "none": core.Options(guarantee="none"),
}
_NUMBERS = itertools.count()
"""Each world has a disk of its own."""
_IGNORED = {
    "history",
    "figures",
    "world",
    "reason",
    "packets",
    "bytes",
    "_frames",
    "_frame_bytes",
    "refused",
    "middlebox",
    "_packets",
}
_IGNORED |= {"_table", "_types", "types", "times", "coherent", "uncounted", "uncounted_bytes", "_figures"}
"""What a state's future does not depend on."""


class Disk:
    """What a journal has written. (The real one, which is slower, is driven in test_ownership.)"""

    def __init__(self) -> None:
        self.epoch = 0
        self.moves: dict[int, MoveRow] = {}
        self.flows: dict[bytes, int] = {}


class MemoryJournal:
    """As `orchestrator.journal.Journal`, for one process."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def next_epoch(self) -> int:
        self.disk.epoch += 1
        return self.disk.epoch

    def plan(self, plan: core.Plan) -> None:
        self.disk.moves[plan.epoch] = MoveRow(plan, core.Move(plan).step, plan.epoch, "")

    def replan(self, plan: core.Plan) -> None:
        self.disk.moves[plan.epoch] = MoveRow(plan, core.Move(plan).step, plan.epoch, "")

    def record(self, epoch: int, step: Any, relay: int) -> None:
        self.disk.moves[epoch] = MoveRow(self.disk.moves[epoch].plan, step, relay, "")

    def end(self, move: MoveRow, owners: dict[int, int], flows: dict[bytes, int]) -> None:
        del self.disk.moves[move.plan.epoch]
        self.disk.flows.update(flows)

    def own(self, owners: dict[int, int]) -> None:
        """Buckets do not move here."""

    def load(self) -> JournalState:
        moves = tuple(self.disk.moves[epoch] for epoch in sorted(self.disk.moves))
        return JournalState(
            epoch=self.disk.epoch,
            buckets=dict.fromkeys(range(BUCKETS), SOURCE),
            flows=dict(self.disk.flows),
            moves=moves,
        )

    def close(self) -> None:
        """Nothing to do."""


class Run:
    """A world and what was done to it."""

    def __init__(self, options: core.Options, faults: tuple[str, ...]) -> None:
        self.packets = 1 if faults else 2
        self.world = World(Path(f"/{next(_NUMBERS)}"), (options,))
        self.faults = list(faults)
        self.world.inject(FLOW)
        self.world.pump(SOURCE, 1)
        self.world.begin(m.Scope(keys=(bytes(FLOW),)), SOURCE, TARGET)

    def actions(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What can happen next; each name stands for one thing."""
        world = self.world
        if world.sent[FLOW] <= self.packets:
            yield "packet", lambda: world.inject(FLOW)
        for number in (SOURCE, TARGET):
            if world.replicas[number].queue:
                yield f"replica {number} reads", lambda number=number: world.pump(number, 1)
        met: set[tuple[int, int]] = set()
        for index, (sender, to, message) in enumerate(world.wire.flying):
            if (sender, to) not in met:
                met.add((sender, to))
                name = f"{type(message).__name__} {sender} to {to}"
                yield name, lambda index=index: world.deliver(index)
        if not world.alive:
            yield "restart", world.start
            return
        for operation in world.operations:
            if not operation.begun:
                yield f"network {operation.instruction!r}", lambda operation=operation: world.progress(operation)
        yield from self._faults()

    def _faults(self) -> Iterator[tuple[str, Callable[[], object]]]:
        world = self.world
        if "crash" in self.faults:
            yield "crash", lambda: (self.faults.remove("crash"), world.crash())
            yield "crash within", lambda: (self.faults.remove("crash"), setattr(world, "fuel", 1))
        for epoch, move in world.moves.items():
            if "cancel" in self.faults and not move.decided and epoch not in world.recovering:
                yield "cancel", lambda epoch=epoch: (self.faults.remove("cancel"), world.feed(epoch, core.Cancel("")))

    def do(self, name: str) -> None:
        """One of `actions`."""
        action = dict(self.actions())[name]
        try:
            action()
        except Crash:
            self.world.crash()
        self.world.check_owners()

    def state(self) -> int:
        """Equal for runs that can go on alike."""
        world = self.world
        replicas = [(world.replicas[each].queue, world.replicas[each].guest) for each in (SOURCE, TARGET)]
        rest = (
            world.wire.flying,
            world.operations,
            world.unwritten,
            world.moves,
            world.buffers,
            world.flows,
            world.lost,
            world.sent[FLOW],
        )
        more = (world.seen[FLOW], world.alive, world.recovering, world.fuel, world.journal.disk.__dict__, self.faults)
        return hash(frozen((replicas, rest, more), {}))

    def check_end(self) -> None:
        """Nothing more can happen."""
        world = self.world
        assert world.alive and not world.moves, [list(move.history) for move in world.moves.values()]
        arrived = set(world.seen[FLOW]) | {number for _, number in world.lost}
        assert arrived == set(range(world.sent[FLOW])), "packets are missing"
        owner, suspended = world.flows.get(FLOW) or world.buckets[FLOW.bucket]
        assert not suspended and FLOW in world.replicas[owner].guest.table.active
        assert owner == world.placement.owner(FLOW)
        assert not any(each.guest.plane.held for each in world.replicas.values())


def frozen(value: Any, met: dict[int, int]) -> Any:
    """A hashable picture of an object and all that it refers to."""
    match value:
        case None | bool() | int() | float() | str() | bytes() | enum.Enum():
            return value
        case tuple() | list() | deque():
            return tuple(frozen(each, met) for each in value)
        case dict():
            return tuple(
                sorted(((repr(key), frozen(each, met)) for key, each in value.items()), key=lambda each: each[0])
            )
        case set() | frozenset():
            return tuple(sorted(map(repr, value)))
    if isinstance(value, m.Message | m.Scope | core.Plan):
        return repr(value)
    if id(value) in met or callable(value):
        return met.get(id(value), -1)
    met[id(value)] = len(met)
    names = [
        *getattr(value, "__dict__", ()),
        *(name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())),
    ]
    chosen = ((name, getattr(value, name, None)) for name in dict.fromkeys(names) if name not in _IGNORED)
    return type(value).__name__, tuple((name, frozen(each, met)) for name, each in chosen)


def search(options: core.Options, faults: tuple[str, ...]) -> tuple[int, int]:
    """States and ends visited. :raises AssertionError: with what was done, if something is not as it should be."""
    met: set[int] = set()
    ends = 0
    left: list[tuple[str, ...]] = [()]
    while left:
        done = left.pop()
        run = Run(options, faults)
        try:
            for name in done:
                run.do(name)
            while (state := run.state()) not in met:
                met.add(state)
                assert len(met) < LIMIT, "the search does not end"
                names = [name for name, _ in run.actions()]
                if not [name for name in names if name not in ("crash", "crash within", "cancel")]:
                    ends += 1
                    run.check_end()
                if not names:
                    break
                left.extend((*done, name) for name in names[1:])
                done = (*done, names[0])
                run.do(names[0])
        except AssertionError as error:
            raise AssertionError("\n  ".join((str(error), *done))) from None
    return len(met), ends


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two replicas, and a disk that outlives the world's processes but not the world."""
    disks: dict[Path, Disk] = {}

    def journal_of(path: Path) -> MemoryJournal:
        return MemoryJournal(disks.setdefault(path, Disk()))

    monkeypatch.setattr(ownership, "REPLICAS", (SOURCE, TARGET))
    monkeypatch.setattr(ownership, "Journal", journal_of)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("faults", [(), ("cancel",), ("crash",)], ids=["nothing", "cancel", "crash"])
@pytest.mark.parametrize("way", WAYS)
def test_every_order_of_events_keeps_the_promises(way: str, faults: tuple[str, ...]) -> None:
    states, ends = search(WAYS[way], faults)
    print(f"{way} {faults}: {states} states, {ends} ends")
    assert states > 50 and ends


@pytest.mark.parametrize(("way", "name"), [("cpu", "hold"), ("replica", "keep")])
def test_without_holding_the_search_finds_a_way_to_break_it(
    monkeypatch: pytest.MonkeyPatch, way: str, name: str
) -> None:
    monkeypatch.setattr(ownership.DataPlane, name, lambda *arguments: [])
    with pytest.raises(AssertionError) as found:
        search(WAYS[way], ())
    print(found.value)
