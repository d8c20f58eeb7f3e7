"""Whatever the control network does and whenever the orchestrator dies, every flow has exactly one owner.

Three real replicas (`guestlib.engine.Engine` with a counting middlebox), the real migration core and the real journal
are joined by a fake control network that loses, doubles, delays and reorders messages, and by a fake switch with the
semantics of the real one: FIFO queues to the replicas, packets of suspended flows buffered at the controller, which
dies with the orchestrator. After every step: at most one replica has a flow active, and if none has, one has it frozen.
Each packet carries its number within its flow; the state that moves carries the numbers processed. Every guarantee,
with every buffer, is tried for what it promises.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from guestlib.moves import carriers, source, target
from guestlib.packets import holds
from orchestrator import migration as core
from splitmerge import messages as m
from splitmerge.flowkey import FlowKey
from tests.orchestrator.world import BRIEF, FLOWS, ORDERED, REPLICAS, SEEDS, Crash, WatchedCarrier, World


def _watch_carriers(patch: pytest.MonkeyPatch) -> None:
    for role in (source, target):
        patch.setattr(role, "Carrier", WatchedCarrier)


class Moving(RuleBasedStateMachine):
    """What may happen, in any order."""

    options: ClassVar[tuple[core.Options, ...]] = ORDERED
    brisk: ClassVar[bool] = False
    """Many moves follow one another, and released packets are processed one at a time."""
    waits: ClassVar[bool] = False
    """Moves are planned and wait, while others begin and end."""

    @initialize(patience=st.sampled_from((BRIEF, 1e10)))
    def begin(self, patience: float) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(carriers, "DEADLINE", patience)
        _watch_carriers(self.patch)
        self.world = World(Path(self.directory.name), self.options)

    def _try(self, what: object, *arguments: object) -> None:
        assert callable(what)
        try:
            what(*arguments)
        except Crash:
            self.world.crash()

    def _go_on(self, choices: list[int]) -> None:
        """Things take their course: traffic, and one thing after the other gets its turn, in this order."""
        world = self.world
        for choice in choices:
            world.inject(FLOWS[choice % len(FLOWS)])
            if choice % 2 and world.wire.flying:
                self._try(world.deliver, choice % len(world.wire.flying))
            if choice % 3 and world.alive and world.operations:
                self._try(world.progress, world.operations[choice % len(world.operations)])
            self._try(world.pump, REPLICAS[choice % len(REPLICAS)], 1 + choice % 4)
            self._try(world.tick, 0.02 * (choice % 7))
            world.check_owners()

    # Three names for one rule: hypothesis gives every rule the same chance, and moves must get somewhere.
    @rule(choices=st.lists(st.integers(0, 255), min_size=1, max_size=25))
    def goes_on(self, choices: list[int]) -> None:
        self._go_on(choices)

    @rule(choices=st.lists(st.integers(0, 255), min_size=5, max_size=25))
    def goes_on_and_on(self, choices: list[int]) -> None:
        self._go_on(choices)

    @rule(choices=st.lists(st.integers(0, 255), min_size=15, max_size=40))
    def goes_on_for_long(self, choices: list[int]) -> None:
        self._go_on(choices)

    @rule(flow=st.sampled_from(FLOWS), count=st.integers(1, 3))
    def packets(self, flow: FlowKey, count: int) -> None:
        for _ in range(count):
            self.world.inject(flow)

    @rule(replica=st.sampled_from(REPLICAS), count=st.integers(1, 4))
    def replica_reads(self, replica: int, count: int) -> None:
        self._try(self.world.pump, replica, count)

    @precondition(lambda self: self.world.alive)
    @rule(flows=st.sets(st.sampled_from(FLOWS[:4]), min_size=1), to=st.sampled_from(REPLICAS), way=st.integers(0, 1))
    def move_flows(self, flows: set[FlowKey], to: int, way: int) -> None:
        world = self.world
        owners = {world.placement.owner(flow) for flow in flows}
        source = min(owners)
        keys = tuple(sorted(flow for flow in flows if world.placement.owner(flow) == source))
        if source != to:
            self._try(world.begin, m.Scope(keys=keys), source, to, way)

    @precondition(lambda self: self.world.alive)
    @rule(
        buckets=st.sets(st.sampled_from((1, 2, 3)), min_size=1),
        source=st.sampled_from(REPLICAS),
        step=st.sampled_from((1, 2)),
        way=st.integers(0, 1),
    )
    def move_buckets(self, buckets: set[int], source: int, step: int, way: int) -> None:
        target = (source + step - 1) % len(REPLICAS) + 1
        self._try(self.world.begin, self.world.placement.scope_of_buckets(buckets, source), source, target, way)

    @precondition(lambda self: self.world.alive)
    @rule(to=st.sampled_from(REPLICAS))
    def assign_new_flows(self, to: int) -> None:
        self._try(self.world.assign, to)

    @precondition(lambda self: self.world.wire.flying)
    @rule(data=st.data(), fate=st.sampled_from(("first", "any", "any", "twice", "lost")))
    def control_message(self, data: st.DataObject, fate: str) -> None:
        flying = self.world.wire.flying
        index = 0 if fate == "first" else data.draw(st.integers(0, len(flying) - 1))
        if fate == "lost":
            del flying[index]
            return
        self._try(lambda: self.world.deliver(index, keep=fate == "twice"))

    @precondition(lambda self: self.world.alive and self.world.operations)
    @rule(data=st.data(), fails=st.sampled_from((False, False, False, True)), late=st.booleans())
    def network(self, data: st.DataObject, fails: bool, late: bool) -> None:
        operation = data.draw(st.sampled_from(self.world.operations))
        if not fails:
            self._try(self.world.progress, operation)
        elif not (operation.begun or operation.turned or self.world.recovering):
            self.world.operations.remove(operation)
            if late and isinstance(operation.instruction, core.Redirect):
                self.world.late.append(operation.instruction)
            self._try(self.world.feed, operation.epoch, core.NetworkFailed("it failed"))

    @precondition(lambda self: self.world.late)
    @rule()
    def a_write_takes_effect_though_its_answer_was_lost(self) -> None:
        write = self.world.late.pop()
        self.world.steer(write.scope, write.target, False)

    @rule(seconds=st.sampled_from((0.01, 0.3, 1.0, 3.0)))
    def time_passes(self, seconds: float) -> None:
        self._try(self.world.tick, seconds)

    @rule()
    def ages_pass(self) -> None:
        self._try(self.world.ages_pass)

    @precondition(lambda self: self.world.alive and self.world.moves)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        epoch = data.draw(st.sampled_from(sorted(self.world.moves)))
        self._try(self.world.feed, epoch, core.Cancel("somebody wants it off"))

    @rule(flow=st.sampled_from(FLOWS))
    def transaction_begins_or_ends(self, flow: FlowKey) -> None:
        world = self.world
        if flow in world.pinned:
            world.replicas[world.pinned.pop(flow)].guest.put_flow(flow)
            return
        for number, replica in world.replicas.items():
            if flow in replica.guest.table.active:
                replica.guest.get_flow(flow)
                world.pinned[flow] = number

    @precondition(lambda self: self.world.alive)
    @rule(after=st.integers(0, 6))
    def die_after_instructions(self, after: int) -> None:
        self.world.fuel = after

    @precondition(lambda self: self.world.alive)
    @rule()
    def die(self) -> None:
        self.world.crash()

    @precondition(lambda self: not self.world.alive)
    @rule()
    def restart(self) -> None:
        self._try(self.world.start)

    @invariant()
    def one_owner(self) -> None:
        if hasattr(self, "world"):
            self.world.check_owners()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.end()
            self.directory.cleanup()
            self.patch.undo()


class LossFree(Moving):
    """Nothing is lost or doubled; order is not promised."""

    options = (core.Options(guarantee="loss-free", buffer="cpu"), core.Options(guarantee="loss-free", buffer="replica"))


class NoBuffer(Moving):
    """Nothing is lost or doubled though nothing waits in the network."""

    options = (core.Options(guarantee="no-buffer"),)


class NoGuarantee(Moving):
    """Late packets are dropped, and each is counted; state is never lost or doubled."""

    options = (core.Options(guarantee="none"),)


class Mixed(Moving):
    """One after the other: what one way leaves behind does not harm the next."""

    options = (core.Options(guarantee="no-buffer"), core.Options(guarantee="none"))


class Behind(Moving):
    """A flow moves on before the packets that its bucket's move, or its own, released are through."""

    options = (core.Options(buffer="replica"), core.Options(guarantee="no-buffer"))
    brisk = True


class BehindNone(Behind):
    """The same without a guarantee: what waits then is late, and counted."""

    options = (core.Options(buffer="replica"), core.Options(guarantee="none"))


class Overtaken(Moving):
    """Moves wait, and find flows that go along when their turn comes: younger moves had those meanwhile."""

    brisk = True
    waits = True

    @precondition(lambda self: self.world.alive and len(self.world.waiting()) < 3)
    @rule(flow=st.sampled_from(FLOWS[:4]), whole=st.booleans(), step=st.sampled_from((1, 2)), way=st.integers(0, 1))
    def plan(self, flow: FlowKey, whole: bool, step: int, way: int) -> None:
        scope, source = _wanted(self.world, flow, whole=whole)
        self._try(self.world.plan, scope, source, (source + step - 1) % len(REPLICAS) + 1, way)

    @precondition(lambda self: self.world.alive and self.world.waiting())
    @rule(data=st.data(), along=st.sets(st.sampled_from(FLOWS[:4])))
    def a_turn_comes(self, data: st.DataObject, along: set[FlowKey]) -> None:
        self._try(self.world.take_turn, data.draw(st.sampled_from(self.world.waiting())), along)


class OvertakenAnyhow(Overtaken):
    """The same without a buffer."""

    options = (core.Options(guarantee="no-buffer"), core.Options(guarantee="none"))


def _tried(machine: type[Moving], examples: int) -> type:
    case: type = machine.TestCase
    case.settings = settings(  # type: ignore[attr-defined]
        max_examples=examples, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
    )
    return case


def _drive(world: World, random: Random, steps: int, *, brisk: bool = False, waits: bool = False) -> None:
    """One move after the other, packets all the while, each thing in its turn or late; calls off, fails, dies.

    Each replica, the control network, and what replicas carry to one another, is fast in one run and slow in another.
    ``brisk``: all but the middleboxes are fast, so that many moves follow one another. ``waits``: as `Moving.waits`.
    """
    speeds = {
        "packet": 3,
        "message": random.choice((1, 3, 6)),
        "carried": random.choice((0.03, 6)),
        "network": random.choice((1, 3)),
        "tick": 0.5,
        "move": 0.5,
        "cancel": 0.15,
        "crash": 0.03,
        "ages": 0.1,
    }
    replicas = {f"replica {each}": random.choice((0.1, 0.5, 2)) for each in REPLICAS}
    if brisk:
        speeds = {
            "packet": 12,
            "message": 8,
            "carried": 8,
            "network": 6,
            "tick": 0.3,
            "move": 8,
            "cancel": 0.05,
            "crash": 0.01,
            "ages": 0.02,
        }
        replicas = dict.fromkeys(replicas, 6)
    weights = speeds | replicas | ({"plan": 3, "turn": 1} if waits else {})
    for what in random.choices(list(weights), list(weights.values()), k=steps):
        match what:
            case "packet":
                world.inject(random.choice(FLOWS[:4]))
            case "message" | "carried" if flying := world.wire.of(carried=what == "carried"):
                world.deliver(random.choice(flying) if random.random() < 0.3 else flying[0])
            case "network" if world.operations:
                _go_on_or_fail(world, random)
            case "tick":
                world.tick(random.choice((0.01, 0.01, 0.3)))
            case "ages":
                world.ages_pass()
            case "move" if not world.moves or waits:
                _move(world, random)
            case "plan" if not world.waiting():
                _move(world, random, waits=True)
            case "turn" if waiting := world.waiting():
                world.take_turn(random.choice(waiting), random.sample(FLOWS[:4], random.randint(1, 3)))
            case "cancel" if world.moves:
                world.feed(next(iter(world.moves)), core.Cancel("off"))
            case "crash":
                world.crash()
                world.start()
            case _ if what in replicas:
                world.pump(int(what[-1]), random.randint(1, 3))
        world.check_owners()


def _move(world: World, random: Random, *, waits: bool = False) -> None:
    flow, way = random.choice(FLOWS[:4]), random.randint(0, 1)
    scope, source = _wanted(world, flow, whole=random.random() < 0.5)
    target = random.choice([each for each in REPLICAS if each != source])
    (world.plan if waits else world.begin)(scope, source, target, way)


def _wanted(world: World, flow: FlowKey, *, whole: bool) -> tuple[m.Scope, int]:
    """A flow, or its bucket, and whose it is."""
    if not whole:
        return m.Scope(keys=(bytes(flow),)), world.placement.owner(flow)
    source = world.placement.bucket_owner(flow.bucket)
    return world.placement.scope_of_buckets((flow.bucket,), source), source


def _go_on_or_fail(world: World, random: Random) -> None:
    operation = random.choice(world.operations)
    if random.random() > 0.1 or operation.begun or operation.turned or world.recovering:
        world.progress(operation)
        return
    world.operations.remove(operation)
    if random.random() < 0.5 and isinstance(operation.instruction, core.Redirect):
        world.steer(operation.instruction.scope, operation.instruction.target, False)
    world.feed(operation.epoch, core.NetworkFailed("it failed"))


@pytest.mark.parametrize(
    "kind",
    [Moving, LossFree, NoBuffer, NoGuarantee, Mixed, Behind, BehindNone, Overtaken, OvertakenAnyhow],
    ids=lambda kind: kind.__name__,
)
def test_move_after_move_under_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Moving]) -> None:
    _watch_carriers(monkeypatch)
    monkeypatch.setattr(holds, "SLICE", 1 if kind.brisk else holds.SLICE)
    for seed in range(SEEDS):
        monkeypatch.setattr(carriers, "DEADLINE", BRIEF if seed % 2 else 1e10)
        directory = tmp_path / str(seed)
        directory.mkdir()
        world = World(directory, kind.options)
        _drive(world, Random(seed), 2000 if kind.brisk else 1000, brisk=kind.brisk, waits=kind.waits)
        world.end()


TestOrderPreserving = _tried(Moving, 80)
TestLossFree = _tried(LossFree, 25)
TestNoBuffer = _tried(NoBuffer, 30)
TestNone = _tried(NoGuarantee, 20)
TestMixed = _tried(Mixed, 20)
TestOvertaken = _tried(Overtaken, 40)
TestOvertakenAnyhow = _tried(OvertakenAnyhow, 20)
