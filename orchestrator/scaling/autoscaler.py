"""The shell around `orchestrator.elasticity`: looks at the replicas, asks the policy, and does what comes through."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from orchestrator.elasticity import (
    POLICIES,
    Add,
    Change,
    Damper,
    ElasticityConfig,
    Keep,
    Merge,
    Observation,
    Rebalance,
    Recommendation,
    Sample,
    Split,
)
from orchestrator.moves.reports import Report
from orchestrator.replicas.fleet import Fleet, Replica
from orchestrator.scaling.asking import Asker
from orchestrator.scaling.replacements import Replacements
from orchestrator.scaling.scaler import Scaler
from splitmerge.errors import BadInput, SplitmergeError, first_of

logger = logging.getLogger("orchestrator.elasticity")

ACTIONS = 200
"""Actions that are remembered."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that the policy brought about."""

    at: float
    """Seconds since 1970."""
    wanted: Change
    seconds: float
    """How long it took."""
    outcome: str
    """``done``, or which moves are late and go on, or what went wrong."""


class Autoscaler:
    """See the module's text. ``later`` runs work in a task of the orchestrator's."""

    def __init__(
        self,
        config: ElasticityConfig,
        fleet: Fleet,
        scaler: Scaler,
        replacements: Replacements,
        later: Callable[[Coroutine[Any, Any, None], str], None],
    ) -> None:
        self.fleet = fleet
        self.scaler = scaler
        self.actions: deque[Action] = deque(maxlen=ACTIONS)
        self.seen = Observation({})
        """The newest look."""
        self.problem: str
        """What the policy failed with at the newest look, or why not all that it wants is done; else empty."""
        self._told: str
        """What was said of what cannot be added; empty once something wanted has found room."""
        self._replacements = replacements
        self._late: list[int] = []
        """Moves that were late at the newest look."""
        self._later = later
        self._changed = asyncio.Event()
        self.configure(config)

    def configure(self, config: ElasticityConfig, damper: Damper | None = None) -> None:
        """Another policy from now on, or the same with other figures. :raises BadInput: and nothing has changed.

        :param damper: its own, where that is made already: to make it may take as long as somebody's class likes.
        """
        damper, meter = damper or config.damper(), config.meter()
        self.config, self._damper, self._meter, self.problem = config, damper, meter, ""
        self._told = ""
        self._asker = None if config.policy in POLICIES else Asker(config.policy)
        self._changed.set()

    def acted(self, now: float) -> None:
        """Something was done, by the policy or on request."""
        self._damper.acted(now)
        self._meter.settle()

    async def run(self) -> None:
        """Look again and again."""
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout(self.config.interval):
                    await self._changed.wait()
            except TimeoutError:
                await self._look()

    async def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        self.seen = self._observe(now)
        if self._others_act() or not self.config.acts or self._held_up(now):
            return
        try:
            wanted = await self._recommendation(self._damper, now)
        except BadInput as error:
            if str(error) != self.problem:
                logger.error("%s", error)
            self.problem = str(error)
            return
        self.problem = ""
        wanted = self._possible(wanted)
        if not isinstance(wanted, Keep):
            await self._act(wanted)

    def _others_act(self) -> bool:
        """Whether somebody adds or removes replicas, or some are to come in place of dead ones: judged is after it."""
        return self.scaler.scaling.locked() or bool(self._replacements.owed)

    def _held_up(self, now: float) -> bool:
        """Whether a move is late: loads are not as they will be, so whatever was done might be done again and again.

        The pause after acting begins when the last of them is over.
        """
        before, self._late = self._late, self.scaler.mover.late()
        if not self._late:
            if before:
                self.acted(now)
            return False
        self.problem = (
            f"elasticity: nothing is done before the end of {_moves(self._late)}, late: see `splitmerge moves`"
        )
        if self._late != before:
            logger.warning("%s", self.problem)
        return True

    async def _recommendation(self, damper: Damper, now: float) -> Recommendation:
        """What comes through now. :raises BadInput: what the policy fails with."""
        seen, asker = self.seen, self._asker
        if asker is None:
            return damper.recommendations(seen, now)
        if (made_up := damper.made_up(seen, now)) is not None:
            return made_up
        try:
            wanted = await asker.ask(lambda: damper.asked(seen))
        except BadInput:
            if asker is self._asker:
                raise
            return Keep()
        if asker is not self._asker or self._others_act() or self.scaler.mover.late():
            return Keep()  # meanwhile there is another one, or somebody acts
        return damper.comes_through(wanted, seen, now)

    def _possible(self, wanted: Recommendation) -> Recommendation:
        """As much of it as may be added; why not the rest is told once."""
        count = wanted.count if isinstance(wanted, Add) else int(isinstance(wanted, Split))
        if count and (why := self._replacements.barred(self.fleet.next_kind())):
            self._tell(f"elasticity: no replica is added: {why}")
            return Keep()
        free, there, beyond = self.fleet.free_slots(), self.seen.count, self._damper.beyond
        if count > free or beyond:
            self._tell(f"elasticity: {there + count + beyond} replicas wanted, {self._bound(there + free)}")
        elif not isinstance(wanted, Keep):
            self._told = ""
        if count <= free:
            return wanted
        return Add(free, wanted.why) if isinstance(wanted, Add) and free else Keep()

    def _bound(self, slots: int) -> str:
        """How many replicas there may be, by whatever allows the fewest, and what to do."""
        most = self.config.max_replicas
        if most < slots:
            return f"max_replicas allows {most}; raise it, or want fewer"
        return f"there are slots for {slots}; start with more slots, or want fewer"

    def _tell(self, problem: str) -> None:
        self.problem = problem
        if problem != self._told:
            logger.warning("%s", problem)
        self._told = problem

    def _observe(self, now: float) -> Observation:
        samples = {each.number: _sample(each) for each in self.fleet.live()}
        start_up = self.scaler.start_ups.get(self.fleet.next_kind(), self.config.start_up)
        seen = self._meter.observe(samples, now, start_up, self._replacements.absent)
        for number, load in seen.replicas.items():
            self.fleet.replicas[number].load = load
        return seen

    async def _act(self, wanted: Change) -> None:
        logger.info("%s: %s", type(wanted).__name__.lower(), wanted.why)
        work = self._record(wanted)
        if not isinstance(wanted, Merge):
            await work
            return
        # It takes as long as flows live (drained), or as the agent needs to end it: load may rise meanwhile.
        self._later(work, f"end replica {wanted.replica}")
        await asyncio.sleep(0)
        self.acted(asyncio.get_running_loop().time())

    async def _record(self, wanted: Change) -> None:
        at, begun, outcome = time.time(), time.monotonic(), "done"
        try:
            late = [each.epoch for each in await self._enact(wanted) if not each.over]
            if late:
                outcome = f"late: {_moves(late)} not over yet"
        except* SplitmergeError as group:
            error = first_of(group)
            outcome = str(error)
            logger.warning("elasticity: %s", error)
        self.actions.append(Action(at, wanted, time.monotonic() - begun, outcome))
        self.acted(asyncio.get_running_loop().time())

    async def _enact(self, wanted: Change) -> list[Report]:
        """Do it; the moves that it took, of which some may be late. Replicas that are to go are waited for."""
        rebalance = self.config.rebalance
        match wanted:
            case Split(replica):
                return (await self.scaler.scale_out(split=replica if rebalance else None, rebalance=rebalance)).moves
            case Add(count):
                return (await self.scaler.scale_out(count, rebalance=rebalance)).moves
            case Rebalance(by):
                return await self.scaler.rebalance(by, self.config.even_moves)
            case Merge(replica) if self.config.scale_in == "drain":
                await self.scaler.drain(replica)
            case Merge(replica):
                await self.scaler.scale_in(replica)
        return []


def _moves(epochs: list[int]) -> str:
    return f"move {', '.join(map(str, epochs))}"


def _sample(replica: Replica) -> Sample | None:
    stats = replica.stats
    return None if stats is None else Sample(replica.told, stats.flows, stats.packets, stats.cpu_seconds)
