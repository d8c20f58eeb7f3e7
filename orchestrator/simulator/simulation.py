"""A load trace, a policy, and what would come of it: the policy's own code, the damper's and the planner's, no packets.

Each step of an action takes the time that the model says: a replica starts, then its share of the flows moves. While
one is under way the policy is not asked, as in the orchestrator. The same arguments always give the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from orchestrator.elasticity import (
    POLICIES,
    Add,
    Change,
    ElasticityConfig,
    Figure,
    Keep,
    Merge,
    Observation,
    Rebalance,
    Recommendation,
    Split,
)
from orchestrator.scaling import planning
from orchestrator.scaling.asking import WaitingAsker
from orchestrator.simulator.trace import RATE_MOST, TIME_MOST
from orchestrator.simulator.trace import Change as LoadChange
from orchestrator.simulator.world import Replica, World
from splitmerge.errors import BadInput

LOOKS_MOST = 250_000
"""Almost three days at one a second."""
CAPACITY_LEAST = 1e-6
"""Packets per second: what is offered as a multiple of it stays a number."""
Choose = Callable[[dict[int, int]], int]


@dataclass(frozen=True, slots=True)
class Model:
    """What a replica is taken to be."""

    capacity: float = 1000.0
    """Packets per second that it can process; they take it one processor."""
    start_up: float = 1.0
    """Seconds from asking for it until it takes flows."""
    move_time: float = 0.1
    """Seconds that the moves of one action take."""
    replicas: int = 1
    """How many there are at the beginning."""

    def __post_init__(self) -> None:
        if not CAPACITY_LEAST <= self.capacity <= RATE_MOST:
            remedy = f"{CAPACITY_LEAST:g} to {RATE_MOST:g} packets per second"
            raise BadInput("--capacity", f"{self.capacity:g}", remedy)
        if not (0 <= self.start_up <= TIME_MOST and 0 <= self.move_time <= TIME_MOST):
            problem = f"--start-up {self.start_up:g}, --move-time {self.move_time:g}"
            raise BadInput("model", problem, f"0 to {TIME_MOST:g} seconds")
        if self.replicas < 1:
            raise BadInput("--replicas", f"{self.replicas}", "at least 1")


@dataclass(frozen=True, slots=True)
class Look:
    """One line of the timeline."""

    time: float
    replicas: int
    """That take flows."""
    ending: int
    """That still have flows, and get no new ones."""
    flows: int
    packets: float
    """Per second, offered to all of them."""
    utilisation: float
    """Offered load as a part of all replicas' capacity; above 1: more than they can do."""
    highest: float
    """The same of the busiest one."""


@dataclass(frozen=True, slots=True)
class Action:
    """Something that the policy brought about."""

    time: float
    action: str
    why: str
    seconds: float
    """How long it took; for what is not over at the end of the trace, until then."""
    moved: int
    """Flows that changed their replica."""


@dataclass(frozen=True, slots=True)
class Result:
    """What would have come of it."""

    seconds: float
    rows: int
    looks: list[Look]
    actions: list[Action]
    most_replicas: int
    replica_seconds: float
    """What the replicas cost."""
    utilisation: float
    """Packets processed as a part of what all replicas could have processed in their lives."""
    overload_seconds: float
    """Added up over the replicas: time in which one was offered more than its capacity."""
    excess_packets: float
    """Offered beyond the capacity of their replicas: late, or lost."""
    moved: int


@dataclass(slots=True)
class _Work:
    """An action under way."""

    wanted: Change
    begun: float
    steps: Iterator[float]
    due: float = 0.0
    moved: int = 0


class Simulation:
    """See the module's text. ``choose``: the replica for a new flow; None: by hash."""

    def __init__(self, config: ElasticityConfig, model: Model, choose: Choose | None) -> None:
        self._config = config
        self._model = model
        self._damper, self._meter = config.damper(), config.meter()
        self._asker = None if config.policy in POLICIES else WaitingAsker(config.policy)
        self._world = World(model.capacity, choose)
        self._work: _Work | None = None
        self._draining: dict[int, _Work] = {}
        self._looks: list[Look] = []
        self._actions: list[Action] = []
        self._seen = Observation({})
        self._begin = 0.0

    def run(self, changes: Iterable[LoadChange]) -> Result:
        """Replay the trace to its last row. Once only.

        :raises BadInput: of the trace, or if it is too long; what the policy fails with.
        """
        try:
            return self._replayed(changes)
        finally:
            if self._asker is not None:
                self._asker.close()

    def _replayed(self, changes: Iterable[LoadChange]) -> Result:
        rows, time, due = 0, 0.0, math.inf
        change = self._world.change
        for time, flow, rate in changes:
            if not rows:
                self._start(time)
                due = self._next()
            while time >= due:
                self._check_length(time)
                self._tick(due)
                due = self._next()
            change(flow, rate, time)
            rows += 1
        return self._result(time, rows)

    # -- time --------------------------------------------------------------------------------------------------

    def _start(self, time: float) -> None:
        self._begin = time
        for number in range(max(self._model.replicas, self._config.min_replicas)):
            made = self._world.add(time)
            if number:
                self._world.move(self._share_of(made), time)

    def _look_due(self) -> float:
        return self._begin + (len(self._looks) + 1) * self._config.interval

    def _next(self) -> float:
        look = self._look_due()
        return look if self._work is None else min(look, self._work.due)

    def _tick(self, now: float) -> None:
        while self._work is not None and self._work.due <= now:
            self._go_on(self._work)
        if now >= self._look_due():
            self._look(now)

    def _go_on(self, work: _Work) -> None:
        now = work.due
        step = next(work.steps, None)
        if step is not None:
            work.due = now + step
            return
        self._work = None
        self._over(work, now)

    def _over(self, work: _Work, now: float) -> None:
        self._actions.append(_action(work, now))
        self._damper.acted(now)
        self._meter.settle()

    def _check_length(self, time: float) -> None:
        """Before it takes for ever: times that are no seconds show so."""
        if time - self._begin > LOOKS_MOST * self._config.interval:
            problem = f"{time - self._begin:g} s are more than {LOOKS_MOST:,} looks of {self._config.interval:g} s"
            raise BadInput("trace", problem, "times are in seconds; or --set interval to something longer")

    def _look(self, now: float) -> None:
        self._end_drained(now)
        world = self._world
        samples = {each.number: each.sample(now) for each in world.live()}
        self._seen = self._meter.observe(samples, now, self._model.start_up)
        self._looks.append(self._line(now))
        if self._work is not None:
            return
        wanted = self._recommendation(now)
        if not isinstance(wanted, Keep):
            self._act(wanted, now)

    def _recommendation(self, now: float) -> Recommendation:
        """As the orchestrator asks. :raises BadInput: what the policy fails with; also that it is too slow."""
        damper, seen, asker = self._damper, self._seen, self._asker
        if asker is None:
            return damper.recommendations(seen, now)
        return damper.made_up(seen, now) or damper.comes_through(asker.ask(lambda: damper.asked(seen)), seen, now)

    def _line(self, now: float) -> Look:
        replicas = list(self._world.replicas.values())
        packets = sum(each.rate for each in replicas)
        capacity = self._model.capacity
        return Look(
            time=now - self._begin,
            replicas=sum(not each.finishing for each in replicas),
            ending=sum(each.finishing for each in replicas),
            flows=len(self._world.flows),
            packets=packets,
            utilisation=packets / (capacity * len(replicas)),
            highest=max(each.rate for each in replicas) / capacity,
        )

    # -- actions: each yields the seconds of its steps -----------------------------------------------------------

    def _act(self, wanted: Change, now: float) -> None:
        if isinstance(wanted, Merge) and self._config.scale_in == "drain":
            self._world.replicas[wanted.replica].finishing = True
            self._draining[wanted.replica] = _Work(wanted, now, iter(()))
            self._damper.acted(now)
            return
        work = _Work(wanted, now, iter(()), now)
        work.steps = self._steps(wanted, work)
        self._work = work
        while self._work is work and work.due <= now:
            self._go_on(work)

    def _steps(self, wanted: Change, work: _Work) -> Iterator[float]:
        match wanted:
            case Split(replica):
                yield from self._grow(1, work, replica)
            case Add(count):
                yield from self._grow(count, work)
            case Merge(replica):
                yield from self._shrink(self._world.replicas[replica], work)
            case Rebalance(by):
                loads = {each.number: self._weighed(each, by) for each in self._world.live()}
                yield from self._move(planning.even(loads, self._config.even_moves), work)

    def _weighed(self, replica: Replica, by: Figure) -> dict[planning.Unit, float]:
        if by == "flows":
            return dict(self._world.loads(replica))
        return self._world.weighed(replica, self._seen.replicas[replica.number].of(by))

    def _grow(self, count: int, work: _Work, split: int | None = None) -> Iterator[float]:
        for _ in range(count):
            yield self._model.start_up
            made = self._world.add(work.due)
            if self._config.rebalance:
                yield from self._move(self._share_of(made, split), work)

    def _shrink(self, victim: Replica, work: _Work) -> Iterator[float]:
        victim.finishing = True
        while victim.units:
            yield from self._move(self._away(victim), work)
        self._world.end(victim, work.due)

    def _move(self, shares: list[planning.Share], work: _Work) -> Iterator[float]:
        if shares:
            yield self._model.move_time
            work.moved += self._world.move(shares, work.due)

    def _share_of(self, newcomer: Replica, split: int | None = None) -> list[planning.Share]:
        world = self._world
        if split is not None:
            units = planning.half(world.loads(world.replicas[split]))
            return [planning.Share(split, newcomer.number, units)] if units else []
        return planning.rebalance({each.number: world.loads(each) for each in world.live()}, newcomer.number)

    def _away(self, victim: Replica) -> list[planning.Share]:
        survivors = {each.number: each.flows for each in self._world.live()}
        return planning.merge(victim.number, self._world.loads(victim), survivors)

    def _end_drained(self, now: float) -> None:
        for number in list(self._draining):
            replica = self._world.replicas[number]
            if not replica.flows:
                self._world.end(replica, now)
                self._actions.append(_action(self._draining.pop(number), now))

    # -- the end -----------------------------------------------------------------------------------------------

    def _result(self, now: float, rows: int) -> Result:
        unfinished = [work for work in (self._work, *self._draining.values()) if work is not None]
        actions = self._actions + [_action(work, now) for work in unfinished]
        for each in self._world.replicas.values():
            each.account(now)
        lives = [(each, each.since - each.born) for each in (*self._world.ended, *self._world.replicas.values())]
        seconds = sum(life for _, life in lives)
        could = seconds * self._model.capacity
        return Result(
            seconds=now - self._begin,
            rows=rows,
            looks=self._looks,
            actions=[
                Action(each.time - self._begin, each.action, each.why, each.seconds, each.moved)
                for each in sorted(actions, key=lambda each: each.time)
            ],
            most_replicas=max((look.replicas + look.ending for look in self._looks), default=0),
            replica_seconds=seconds,
            utilisation=sum(each.served for each, _ in lives) / could if could else 0.0,
            overload_seconds=sum(each.overloaded for each, _ in lives),
            excess_packets=sum(each.excess for each, _ in lives),
            moved=sum(each.moved for each in actions),
        )


def _action(work: _Work, now: float) -> Action:
    wanted = work.wanted
    return Action(work.begun, type(wanted).__name__.lower(), wanted.why, now - work.begun, work.moved)
