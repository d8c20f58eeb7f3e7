"""Moves of partitioned state: which replica owns a flow, whatever happens to the messages on their way.

Each epoch is one move, and this replica has one role in it. What a message does depends only on where the epoch stands
here (`TRANSITIONS`; a pair that is not in the table is ignored):

    source   (none) -Export-> WAITING -refcounts 0 or deadline-> STAGING -all Staged-> EXPORTED -Release-> RELEASED
             any of these -Thaw-> THAWED             STAGING -Refused by the target-> REFUSED (flows active again)
             (none) -Export that may not be-> REFUSED          REFUSED -Thaw-> THAWED
    target   (none) -Stage-> STAGED -Commit-> COMMITTED        (none) or STAGED -Discard-> DISCARDED

RELEASED, THAWED, COMMITTED and DISCARDED are final: repeats are answered alike and change nothing, contradictions are
Refused, and a late Stage is ignored. What an export reports never changes: the orchestrator journals its decision on
the first Exported that reaches it, so a repeated Export gets the same answer, and flows that were pinned then are not
frozen later. Hence at most one replica has the flow in its table: the source until it freezes it, the target from
Commit; Commit follows Exported, and Thaw and Commit of one epoch are never both sent.

An epoch not met before is Refused if something newer has been decided about its flows. At most `DECIDED` final epochs
are remembered; an unknown epoch that is not newer than a forgotten one is Refused.

Many flows are frozen, thawed and taken over in slices, so that packets of others wait for milliseconds at most. A
decision is answered when all of it has been done; its repeats meanwhile (COMMITTING, THAWING) are ignored.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

from guestlib.errors import StateError
from guestlib.exports import SLICE, Phase, SourceMove
from guestlib.fences import Fate
from guestlib.flows import Flow, FlowTable
from guestlib.instructions import Hold, Instruction, Reply, ToOrchestrator
from guestlib.state import StateTypes
from guestlib.timers import Timer
from splitmerge.errors import BadInput
from splitmerge.flowkey import BUCKETS, FlowKey
from splitmerge.messages import (
    Commit,
    Committed,
    Discard,
    Discarded,
    Export,
    FlowRecord,
    Message,
    Refused,
    Release,
    Released,
    Scope,
    Stage,
    Staged,
    Thaw,
    Thawed,
)

logger = logging.getLogger("guestlib")

DECIDED = 65536
"""Final epochs remembered."""


@dataclass(frozen=True, slots=True)
class Decided:
    """An epoch that needs nothing kept. ``flows``: how many a Commit brought; ``reason``: why it was REFUSED."""

    phase: Phase
    flows: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Busy:
    """A decision being carried out in slices: ``more`` does one and says whether there are more, then ``end``."""

    phase: Phase
    more: Callable[[], bool]
    end: Callable[[], list[Instruction]]


class TargetMove:
    """What is kept aside for one epoch."""

    phase = Phase.STAGED

    def __init__(self) -> None:
        self.parts: set[int] = set()
        self.flows: dict[bytes, Flow] = {}


class Moves:
    """Every move this replica takes part in. ``arriving`` tells the epoch whose packets are still held for a scope."""

    def __init__(
        self,
        table: FlowTable,
        types: StateTypes,
        timer_names: Container[str],
        arriving: Callable[[Scope], int] = lambda scope: 0,
        decided_limit: int = DECIDED,
    ) -> None:
        self.replica = 0
        self.newest = 0
        """The newest epoch met."""
        self._table = table
        self._types = types
        self._timer_names = timer_names
        self._arriving = arriving
        self._limit = decided_limit
        self._sources: dict[int, SourceMove] = {}
        self._targets: dict[int, TargetMove] = {}
        self._busy: dict[int, Busy] = {}
        self._decided: dict[int, Decided] = {}
        self._floor = 0

    # -- stimuli -------------------------------------------------------------------------------------------

    def handle(self, message: Message, now: float) -> list[Instruction]:
        """Take one message of a move. Messages of other kinds are ignored."""
        epoch = getattr(message, "epoch", 0)
        action = TRANSITIONS.get((self.phase(epoch), type(message)))
        if action is None:
            logger.debug("%s of epoch %d ignored: %s here", type(message).__name__, epoch, self.phase(epoch))
            return []
        self.newest = max(self.newest, epoch)
        return action(self, message, now)

    def next_due(self) -> float | None:
        """When `poll` should be called; None if nothing is under way."""
        if self._busy:
            return 0.0
        dues = [due for move in self._sources.values() if (due := move.next_due()) is not None]
        return min(dues) if dues else None

    def poll(self, now: float) -> list[Instruction]:
        """Let exports go on whose references have gone, whose deadline passed, or whose parts need repeating."""
        out: list[Instruction] = []
        for epoch in list(self._busy):
            out += self._work(epoch)
        for move in list(self._sources.values()):
            out += self._settle(move, move.poll(now))
        return out

    def _work(self, epoch: int) -> list[Instruction]:
        """Do one slice of what has been decided; what there is to say when all is done."""
        busy = self._busy[epoch]
        if busy.more():
            return []
        del self._busy[epoch]
        return busy.end()

    def phase(self, epoch: int) -> Phase | None:
        """Where the epoch stands here; None if it has not been met."""
        known = (
            self._busy.get(epoch) or self._sources.get(epoch) or self._targets.get(epoch) or self._decided.get(epoch)
        )
        return known.phase if known else None

    # -- source --------------------------------------------------------------------------------------------

    def _export(self, message: Export, now: float) -> list[Instruction]:
        flows = self._table.within(message.scope.keys, message.scope.buckets)
        problem = self._too_old(message.epoch, message.scope, flows) or self._cannot_export(message, flows)
        if problem:
            if message.epoch > self._floor:  # what is older gets the same answer anyway
                self._decide(message.epoch, Decided(Phase.REFUSED, reason=problem))
            return [_refuse(message, problem)]
        move = SourceMove(message, flows, self.replica, self._table, self._types, now)
        self._sources[message.epoch] = move
        logger.info("export: %s", move.describe())
        return self._settle(move, move.poll(now))

    def _settle(self, move: SourceMove, instructions: list[Instruction]) -> list[Instruction]:
        """An export that has failed needs nothing kept but its answer."""
        if move.phase is Phase.REFUSED:
            del self._sources[move.epoch]
            self._decide(move.epoch, Decided(Phase.REFUSED, reason=move.reason))
        return instructions

    def _cannot_export(self, message: Export, flows: list[Flow]) -> str:
        scope = message.scope
        if message.target == self.replica:
            return f"replica {self.replica} is the target too"
        if other := self._table.fences.frozen(scope.keys, scope.buckets):
            return f"flows of the scope are moving in epoch {other}"
        if any(flow.on_unpinned for flow in flows):
            return "flows of the scope wait for another move"
        if other := self._arriving(scope):
            return f"flows of the scope are still arriving in epoch {other}"
        return ""

    def _export_again(self, message: Export, now: float) -> list[Instruction]:
        return self._sources[message.epoch].repeat(now)

    def _export_refused(self, message: Export, now: float) -> list[Instruction]:
        return [_refuse(message, self._decided[message.epoch].reason)]

    def _staged(self, message: Staged, now: float) -> list[Instruction]:
        move = self._sources[message.epoch]
        return self._settle(move, move.acknowledged(message.part, now))

    def _stage_refused(self, message: Refused, now: float) -> list[Instruction]:
        if message.request != "Stage":
            return []
        logger.warning("epoch %d: the target refuses the state: %s", message.epoch, message.reason)
        move = self._sources[message.epoch]
        return self._settle(move, move.fail(message.reason))

    def _release(self, message: Release, now: float) -> list[Instruction]:
        self._sources.pop(message.epoch).release()
        return self._released(message)

    def _release_unknown(self, message: Release, now: float) -> list[Instruction]:
        problem = self._too_old(message.epoch, message.scope)
        if not problem and self._table.within(message.scope.keys, message.scope.buckets):
            problem = "flows of the scope are active here and were not exported"
        if problem:
            return [_refuse(message, problem)]
        self._table.fences.set_buckets(message.scope.buckets, Fate.GONE, message.epoch)
        self._table.fences.set_keys(message.scope.keys, Fate.GONE, message.epoch)
        return self._released(message)

    def _released(self, message: Release) -> list[Instruction]:
        self._decide(message.epoch, Decided(Phase.RELEASED))
        return self._release_again(message, 0.0)

    def _release_again(self, message: Release, now: float) -> list[Instruction]:
        return [ToOrchestrator(Released(epoch=message.epoch))]

    def _thaw(self, message: Thaw, now: float) -> list[Instruction]:
        move = self._sources.pop(message.epoch)
        aliases = tuple(bytes(alias) for flow in move.frozen.values() for alias in flow.aliases)
        move.begin_thaw()
        self._busy[message.epoch] = Busy(Phase.THAWING, move.thaw_some, lambda: self._thawed(message, aliases))
        return self._work(message.epoch)

    def _thaw_unknown(self, message: Thaw, now: float) -> list[Instruction]:
        problem = self._too_old(message.epoch, message.scope)
        return [_refuse(message, problem)] if problem else self._thawed(message, ())

    def _thawed(self, message: Thaw, aliases: tuple[bytes, ...]) -> list[Instruction]:
        self._decide(message.epoch, Decided(Phase.THAWED))
        return [*_hold(message, aliases), *self._thaw_again(message, 0.0)]

    def _thaw_again(self, message: Thaw, now: float) -> list[Instruction]:
        return [ToOrchestrator(Thawed(epoch=message.epoch))]

    # -- target --------------------------------------------------------------------------------------------

    def _stage(self, message: Stage, now: float) -> list[Instruction]:
        move = self._targets.get(message.epoch)
        if move is not None and message.part in move.parts:
            return [Reply(Staged(epoch=message.epoch, part=message.part))]
        keys = [key for record in message.flows for key in (record.key, *record.aliases)]
        problem = self._too_old(message.epoch, Scope(keys=tuple(keys)))
        try:
            flows = [] if problem else [self._import(record, message.epoch, now) for record in message.flows]
        except (StateError, BadInput) as error:
            problem = str(error)
        if problem:
            return [Reply(Refused(epoch=message.epoch, request="Stage", reason=problem))]
        move = self._targets.setdefault(message.epoch, TargetMove())
        move.parts.add(message.part)
        move.flows.update((flow.key, flow) for flow in flows)
        return [Reply(Staged(epoch=message.epoch, part=message.part))]

    def _import(self, record: FlowRecord, epoch: int, now: float) -> Flow:
        flow = Flow(FlowKey.from_wire(record.key), None, tuple(map(FlowKey.from_wire, record.aliases)), epoch)
        for key in flow.keys:
            if key in self._table.active:
                raise StateError(f"{key}: a flow with this key is active at the target")
        flow.state = self._types.decode(record.kind, record.state)
        for timer in record.timers:
            if timer.name not in self._timer_names:
                raise StateError(f"{flow.key}: timer {timer.name!r} has no callback here: call on_timer in setup")
            flow.timers[timer.name] = Timer(flow, timer.name, now + timer.remaining)
        return flow

    def _commit(self, message: Commit, now: float) -> list[Instruction]:
        problem = self._too_old(message.epoch, message.scope)
        if problem:
            return [_refuse(message, problem)]
        move = self._targets.pop(message.epoch, None)
        flows = list(move.flows.values()) if move else []
        fences = self._table.fences
        fences.set_buckets(message.scope.buckets, Fate.HERE, message.epoch)
        fences.set_keys(message.scope.keys, Fate.HERE, message.epoch)
        left = deque(flows)
        self._busy[message.epoch] = Busy(
            Phase.COMMITTING, lambda: self._activate_some(left), lambda: self._committed(message, flows)
        )
        return self._work(message.epoch)

    def _activate_some(self, left: deque[Flow]) -> bool:
        for _ in range(min(SLICE, len(left))):
            self._activate(left.popleft())
        return bool(left)

    def _committed(self, message: Commit, flows: list[Flow]) -> list[Instruction]:
        self._decide(message.epoch, Decided(Phase.COMMITTED, len(flows)))
        logger.info("commit: epoch %d: %d flows live here now", message.epoch, len(flows))
        aliases = tuple(bytes(alias) for flow in flows for alias in flow.aliases)
        return [*_hold(message, aliases), *self._commit_again(message, 0.0)]

    def _activate(self, flow: Flow) -> None:
        for source in self._sources.values():
            source.superseded(flow.key)
        for other in self._table.within(flow.keys, ()):
            # Made here out of a stray packet while the real one was on its way; that one's owner had it all along.
            logger.warning("epoch %d: %s was created here meanwhile; the moved one replaces it", flow.epoch, other.key)
            self._table.conflicts += 1
            self._table.delete(other.key)
        self._table.fences.set_keys(flow.keys, Fate.HERE, flow.epoch)
        self._table.insert(flow)

    def _commit_again(self, message: Commit, now: float) -> list[Instruction]:
        return [ToOrchestrator(Committed(epoch=message.epoch, flows=self._decided[message.epoch].flows))]

    def _discard(self, message: Discard, now: float) -> list[Instruction]:
        self._targets.pop(message.epoch, None)
        self._decide(message.epoch, Decided(Phase.DISCARDED))
        return [ToOrchestrator(Discarded(epoch=message.epoch))]

    # -- epochs --------------------------------------------------------------------------------------------

    def _contradiction(self, message: Message, now: float) -> list[Instruction]:
        phase = self.phase(getattr(message, "epoch", 0))
        return [_refuse(message, f"this replica has the epoch as {phase.value if phase else 'unknown'}")]

    def _too_old(self, epoch: int, scope: Scope, flows: list[Flow] | None = None) -> str:
        """Why an epoch not met before must not be carried out; empty if it may. ``flows``: the scope's, if known."""
        if flows is None:
            flows = self._table.within(scope.keys, scope.buckets)
        if bad := next((bucket for bucket in scope.buckets if not 0 <= bucket < BUCKETS), None):
            return f"bucket {bad}: buckets are 0 to {BUCKETS - 1}"
        if epoch <= self._floor:
            return f"epoch {epoch} is not newer than {self._floor}, whose outcome is forgotten"
        newest = self._table.fences.newest_epoch(scope.keys, scope.buckets)
        if newest > epoch:
            return f"epoch {newest} has decided about these flows already"
        newer = next((flow for flow in flows if flow.epoch > epoch), None)
        return f"{newer.key}: brought here by epoch {newer.epoch}" if newer else ""

    def _decide(self, epoch: int, outcome: Decided) -> None:
        self._decided[epoch] = outcome
        if len(self._decided) > self._limit:
            oldest = next(iter(self._decided))
            del self._decided[oldest]
            self._floor = max(self._floor, oldest)


def _refuse(message: Message, reason: str) -> ToOrchestrator:
    name = type(message).__name__
    epoch = getattr(message, "epoch", 0)
    logger.warning("%s of epoch %d refused: %s", name, epoch, reason)
    return ToOrchestrator(Refused(epoch=epoch, request=name, reason=reason))


def _hold(message: Commit | Thaw, aliases: tuple[bytes, ...]) -> list[Instruction]:
    if not message.hold:
        return []
    return [Hold(message.epoch, (*message.scope.keys, *aliases), message.scope.buckets)]


_SOURCE_OPEN = (Phase.WAITING, Phase.STAGING, Phase.EXPORTED)
Action = Callable[[Moves, Any, float], list[Instruction]]
TRANSITIONS: dict[tuple[Phase | None, type[Message]], Action] = {
    (None, Export): Moves._export,
    (Phase.WAITING, Export): lambda moves, message, now: [],
    (Phase.STAGING, Export): Moves._export_again,
    (Phase.EXPORTED, Export): Moves._export_again,
    (Phase.REFUSED, Export): Moves._export_refused,
    (Phase.RELEASED, Export): Moves._contradiction,
    (Phase.THAWED, Export): Moves._contradiction,
    (Phase.THAWING, Export): Moves._contradiction,
    (Phase.STAGING, Staged): Moves._staged,
    (Phase.STAGING, Refused): Moves._stage_refused,
    (None, Release): Moves._release_unknown,
    (Phase.EXPORTED, Release): Moves._release,
    (Phase.RELEASED, Release): Moves._release_again,
    **{(phase, Release): Moves._contradiction for phase in Phase if phase not in (Phase.EXPORTED, Phase.RELEASED)},
    (None, Thaw): Moves._thaw_unknown,
    **{(phase, Thaw): Moves._contradiction for phase in Phase},
    **{(phase, Thaw): Moves._thaw for phase in _SOURCE_OPEN},
    (Phase.REFUSED, Thaw): Moves._thaw_unknown,
    (Phase.THAWING, Thaw): lambda moves, message, now: [],
    (Phase.THAWED, Thaw): Moves._thaw_again,
    (None, Stage): Moves._stage,
    (Phase.STAGED, Stage): Moves._stage,
    **{(phase, Commit): Moves._contradiction for phase in Phase},
    (None, Commit): Moves._commit,
    (Phase.STAGED, Commit): Moves._commit,
    (Phase.COMMITTING, Commit): lambda moves, message, now: [],
    (Phase.COMMITTED, Commit): Moves._commit_again,
    **{(phase, Discard): Moves._contradiction for phase in Phase},
    (None, Discard): Moves._discard,
    (Phase.STAGED, Discard): Moves._discard,
    (Phase.DISCARDED, Discard): Moves._discard,
}
