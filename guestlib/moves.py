"""Moves of partitioned state: which replica owns a flow, whatever happens to the messages on their way.

Each epoch is one move, and this replica has one role in it. What a message does depends only on where the epoch stands
here (`TRANSITIONS`; a pair that is not in the table is ignored):

    source   (none) -Export-> WAITING -refcounts 0 or deadline-> STAGING -all Staged-> EXPORTED -Release-> RELEASED
             (none) -Export after a marker not yet met-> ARMED -marker-> WAITING
             EXPORTED -Forward-> FORWARDING -Release-> RELEASING -all carried-> RELEASED
             any of these before Release -Thaw-> THAWED     STAGING -Refused by the target-> REFUSED (active again)
             (none) -Export that may not be-> REFUSED       REFUSED -Thaw-> THAWED
    target   (none) -Prepare or Stage-> STAGED -Commit-> COMMITTED        (none) or STAGED -Discard-> DISCARDED
             STAGED -Return-> RETURNING -all carried-> RETURNED -Discard-> DISCARDED
             RETURNING or RETURNED -Commit-> COMMITTED, if the source has died meanwhile

A source that is THAWED takes what the target gives back, until Seal.

RELEASED, THAWED, COMMITTED and DISCARDED are final: repeats are answered alike and change nothing, contradictions are
Refused, and a late Stage or Prepare is ignored. What an export reports never changes: the orchestrator journals its
decision on the first Exported that reaches it, so a repeated Export gets the same answer, and flows that were pinned
then are not frozen later. Hence at most one replica has the flow in its table: the source until it freezes it, the
target from Commit; Commit follows Exported, and Thaw and Commit of one epoch are never both sent, unless the source is
dead.

An epoch not met before is Refused if something newer has been decided about its flows; but not Thaw: a move that is
called off holds its flows' lock, so what is newer is older than its beginning, and its packets come back to a hold.
`epochs.DECIDED` final epochs are remembered, and all that are not over (`MovesOver`); an unknown epoch that is not
newer than a forgotten one is Refused.

Many flows are frozen, thawed, taken over and released in slices, so that packets of others wait for milliseconds at
most. A decision is answered when all of it has been done; its repeats meanwhile are ignored.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Container
from typing import Any

from guestlib.apart import Apart
from guestlib.carriers import Arrivals, Carrier
from guestlib.epochs import (
    Armed,
    Busy,
    Decided,
    Outcomes,
    TargetMove,
    Waiting,
    hold,
    keep_late,
    no_bucket,
    refuse,
    too_old,
)
from guestlib.errors import StateError
from guestlib.exports import SLICE, Phase, SourceMove
from guestlib.fences import Fate, bucket_of
from guestlib.flows import Flow, FlowTable
from guestlib.holds import Kept
from guestlib.imports import flow_of
from guestlib.instructions import Instruction, Keep, Reply, ToOrchestrator, Unhold
from guestlib.state import StateTypes
from splitmerge.errors import BadInput
from splitmerge.flowkey import FlowKey
from splitmerge.messages import (
    Carried,
    Carry,
    Commit,
    Committed,
    Discard,
    Discarded,
    Export,
    Forward,
    Forwarding,
    Message,
    MovesOver,
    Prepare,
    Prepared,
    Refused,
    Release,
    Released,
    Return,
    Returned,
    Scope,
    Seal,
    Sealed,
    Stage,
    Staged,
    Thaw,
    Thawed,
)

logger = logging.getLogger("guestlib")


class Moves:
    """Every move this replica takes part in. ``plane`` keeps the packets of the flows on their way."""

    def __init__(
        self,
        table: FlowTable,
        types: StateTypes,
        timer_names: Container[str],
        plane: Waiting,
    ) -> None:
        self.replica = 0
        self.newest = 0
        """The newest epoch met."""
        self._table = table
        self._types = types
        self._timer_names = timer_names
        self._plane = plane
        self._armed: dict[int, Armed] = {}
        self._sources: dict[int, SourceMove] = {}
        self._targets: dict[int, TargetMove] = {}
        self._busy: dict[int, Busy] = {}
        self._carriers: dict[int, Carrier] = {}
        self._closing: dict[int, Message] = {}
        self._arrivals = Arrivals()
        self._apart = Apart(table)
        self._decided = Outcomes()
        self._now = 0.0

    @property
    def carrying(self) -> bool:
        """Packets may be waiting to be carried to another replica: call `pump` when there may be more."""
        return bool(self._carriers)

    # -- stimuli -------------------------------------------------------------------------------------------

    def handle(self, message: Message, now: float) -> list[Instruction]:
        """Take one message of a move. Messages of other kinds are ignored."""
        self._now = now
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
        dues += [due for carrier in self._carriers.values() if (due := carrier.next_due()) is not None]
        return min(dues, default=None)

    def poll(self, now: float) -> list[Instruction]:
        """Let exports go on whose references have gone, whose deadline passed, or whose parts need repeating."""
        self._now = now
        out: list[Instruction] = []
        for epoch in list(self._busy):
            out += self._work(epoch)
        for move in list(self._sources.values()):
            out += self._settle(move, move.poll(now))
        for epoch, carrier in list(self._carriers.items()):
            out += carrier.poll(now)
            out += self._carried_all(epoch, now)
        return out

    def pump(self, now: float) -> list[Instruction]:
        """Carry on what waits for it."""
        return [step for carrier in self._carriers.values() for step in carrier.pump(now)]

    def marker_met(self, epoch: int, now: float) -> list[Instruction]:
        """The data plane has met the epoch's MARKER."""
        armed = self._armed.pop(epoch, None)
        return [] if armed is None else self._begin_export(armed.message, now)

    def _over(self, message: MovesOver, now: float) -> list[Instruction]:
        self._decided.over(message.before)
        return []

    def _work(self, epoch: int) -> list[Instruction]:
        """Do one slice of what has been decided; what there is to say when all is done."""
        busy = self._busy[epoch]
        if busy.more():
            return []
        del self._busy[epoch]
        return busy.end()

    def phase(self, epoch: int) -> Phase | None:
        """Where the epoch stands here; None if it has not been met."""
        for known in (self._busy, self._sources, self._targets, self._armed):
            if (found := known.get(epoch)) is not None:
                phase: Phase = found.phase
                return phase
        decided = self._decided.get(epoch)
        return None if decided is None else decided.phase

    # -- source --------------------------------------------------------------------------------------------

    def _export(self, message: Export, now: float) -> list[Instruction]:
        if problem := self._forgotten(message.epoch):
            return [refuse(message, problem)]
        if message.after and not self._plane.met(message.epoch):
            self._armed[message.epoch] = Armed(message)
            return []
        return self._begin_export(message, now)

    def _begin_export(self, message: Export, now: float) -> list[Instruction]:
        problem = too_old(self._table, message.epoch, message.scope) or self._cannot_export(message)
        if problem:
            refusal = Refused(epoch=message.epoch, request="Export", reason=problem)
            self._decided.put(message.epoch, Decided(Phase.REFUSED, refusal))
            return [refuse(message, problem)]
        move = SourceMove(message, self.replica, self._table, self._types, now)
        self._sources[message.epoch] = move
        logger.info("export: %s", move.describe())
        return [*self._keep_late(message), *self._settle(move, move.poll(now))]

    def _settle(self, move: SourceMove, instructions: list[Instruction]) -> list[Instruction]:
        """An export that has failed needs nothing kept but its answer."""
        if move.phase is not Phase.REFUSED:
            return instructions
        del self._sources[move.epoch]
        self._decided.put(move.epoch, Decided(Phase.REFUSED, move.refusal))
        return [*instructions, *self._let_go(move)]

    @staticmethod
    def _let_go(move: SourceMove) -> list[Instruction]:
        """Packets that came while the flows were frozen are this replica's again."""
        return [] if move.late == "never" else [Unhold(move.epoch)]

    def _keep_late(self, message: Export) -> list[Instruction]:
        if message.late == "never":
            return []
        return keep_late(message, self._table.each_within(message.scope.keys, message.scope.buckets))

    def _cannot_export(self, message: Export) -> str:
        scope = message.scope
        if message.target == self.replica:
            return f"replica {self.replica} is the target too"
        if other := self._table.fences.frozen(scope.keys, scope.buckets):
            return f"flows of the scope are moving in epoch {other}"
        waiting = [move.waiting for move in self._sources.values() if move.waiting]
        flows = self._table.each_within(scope.keys, scope.buckets) if waiting else ()
        if any(flow.key in keys for flow in flows for keys in waiting):
            return "flows of the scope wait for another move"
        if other := self._plane.arriving(scope):
            return f"flows of the scope are still arriving in epoch {other}"
        return ""

    def _export_again(self, message: Export, now: float) -> list[Instruction]:
        return self._sources[message.epoch].repeat(now)

    def _export_refused(self, message: Export, now: float) -> list[Instruction]:
        answer = self._decided[message.epoch].answer
        return [] if answer is None else [ToOrchestrator(answer)]

    def _staged(self, message: Staged, now: float) -> list[Instruction]:
        move = self._sources[message.epoch]
        return self._settle(move, move.acknowledged(message.part, now))

    def _stage_refused(self, message: Refused, now: float) -> list[Instruction]:
        if message.request != "Stage":
            return []
        logger.warning("epoch %d: the target refuses the state: %s", message.epoch, message.reason)
        move = self._sources[message.epoch]
        return self._settle(move, move.fail(message.reason))

    def _forward(self, message: Forward, now: float) -> list[Instruction]:
        self._sources[message.epoch].phase = Phase.FORWARDING
        carrier = Carrier(message.epoch, message.address, self._plane.take, now, open=True)
        self._carriers[message.epoch] = carrier
        return [*self._forward_again(message, now), *carrier.pump(now)]

    def _forward_again(self, message: Forward, now: float) -> list[Instruction]:
        return [ToOrchestrator(Forwarding(epoch=message.epoch))]

    def _release(self, message: Release, now: float) -> list[Instruction]:
        carrier = self._carriers.get(message.epoch)
        if carrier is None:
            return self._release_now(message, 0, 0, now)
        self._sources[message.epoch].phase = Phase.RELEASING
        carrier.close(now)
        return self._release_again(message, now)

    def _release_again(self, message: Release, now: float) -> list[Instruction]:
        carrier = self._carriers.get(message.epoch)
        if carrier is None:
            return []
        self._closing[message.epoch] = message
        if not message.carry:
            carrier.give_up()
        return [*carrier.pump(now), *self._carried_all(message.epoch, now)]

    def _release_now(self, message: Release, carried: int, lost: int, now: float) -> list[Instruction]:
        epoch = message.epoch
        move = self._sources.pop(epoch)
        dropped = self._plane.kept(epoch, now).dropped + lost
        if move.late != "never":
            dropped += self._plane.drop(epoch)
        answer = Released(epoch=epoch, carried=carried, dropped=dropped)
        move.begin_release()
        self._busy[epoch] = Busy(Phase.RELEASING, move.release_some, lambda: self._released(answer))
        return self._work(epoch)

    def _release_unknown(self, message: Release, now: float) -> list[Instruction]:
        problem = self._refusal(message.epoch, message.scope)
        if not problem and self._table.within(message.scope.keys, message.scope.buckets):
            problem = "flows of the scope are active here and were not exported"
        if problem:
            return [refuse(message, problem)]
        self._table.fences.set_buckets(message.scope.buckets, Fate.GONE, message.epoch)
        self._table.fences.set_keys(message.scope.keys, Fate.GONE, message.epoch)
        return self._released(Released(epoch=message.epoch))

    def _released(self, answer: Released) -> list[Instruction]:
        self._decided.put(answer.epoch, Decided(Phase.RELEASED, answer))
        return [ToOrchestrator(answer)]

    def _thaw(self, message: Thaw, now: float) -> list[Instruction]:
        move = self._sources.pop(message.epoch)
        carrier = self._carriers.pop(message.epoch, None)
        lost = 0
        if carrier is not None:
            carrier.abandon()
            lost = carrier.dropped
        aliases = tuple(bytes(alias) for flow in move.frozen.values() for alias in flow.aliases)
        answer = Thawed(epoch=message.epoch, dropped=self._plane.kept(message.epoch, now).dropped + lost)
        move.begin_thaw()
        self._busy[message.epoch] = Busy(
            Phase.THAWING, move.thaw_some, lambda: [*self._let_go(move), *self._thawed(message, answer, aliases)]
        )
        return self._work(message.epoch)

    def _thaw_armed(self, message: Thaw, now: float) -> list[Instruction]:
        del self._armed[message.epoch]
        return self._thaw_unknown(message, now)

    def _thaw_unknown(self, message: Thaw, now: float) -> list[Instruction]:
        problem = self._forgotten(message.epoch) or no_bucket(message.scope)
        return [refuse(message, problem)] if problem else self._thawed(message, Thawed(epoch=message.epoch), ())

    def _thawed(self, message: Thaw, answer: Thawed, aliases: tuple[bytes, ...]) -> list[Instruction]:
        self._decided.put(message.epoch, Decided(Phase.THAWED, answer))
        return [*hold(message, aliases), ToOrchestrator(answer)]

    # -- packets from replica to replica -------------------------------------------------------------------

    def _carry(self, message: Carry, now: float) -> list[Instruction]:
        return self._arrivals.take(message)

    def _seal(self, message: Seal, now: float) -> list[Instruction]:
        return [ToOrchestrator(Sealed(epoch=message.epoch, taken=self._arrivals.seal(message.epoch)))]

    def _carried(self, message: Carried, now: float) -> list[Instruction]:
        carrier = self._carriers.get(message.epoch)
        if carrier is None:
            return []
        return [*carrier.acknowledged(message.expected, now), *self._carried_all(message.epoch, now)]

    def _carried_all(self, epoch: int, now: float) -> list[Instruction]:
        """Answer what waits for the last packet to arrive, if it has."""
        carrier, closing = self._carriers.get(epoch), self._closing.get(epoch)
        if carrier is None or closing is None or not carrier.idle:
            return []
        del self._carriers[epoch], self._closing[epoch]
        if isinstance(closing, Release):
            return self._release_now(closing, carrier.carried, carrier.dropped, now)
        return self._returned(epoch, carrier, now)

    # -- target --------------------------------------------------------------------------------------------

    def _prepare(self, message: Prepare, now: float) -> list[Instruction]:
        scope = message.scope
        problem = self._refusal(message.epoch, Scope(keys=scope.keys))
        if not problem and (both := next((key for key in scope.keys if key in self._table.active), None)):
            problem = f"{FlowKey(both)}: a flow with this key is active at the target"
        if problem:
            return [refuse(message, problem)]
        self._forget_older(message)
        self._targets[message.epoch] = TargetMove(scope=scope)
        here = self._apart.before(scope.buckets)
        keep = Keep(message.epoch, scope.keys, scope.buckets, message.packets, message.bytes, here)
        return [keep, *self._prepare_again(message, now)]

    def _prepare_again(self, message: Prepare, now: float) -> list[Instruction]:
        return [ToOrchestrator(Prepared(epoch=message.epoch))]

    def _forget_older(self, message: Prepare | Commit) -> None:
        """Discard what older moves of any of these flows left undecided.

        Moves do not overlap, so they are over, and their Discard has not come; what they keep packets of would
        swallow these flows' as soon as the newer move keeps none.
        """
        older = [epoch for epoch in self._targets if epoch < message.epoch]
        if not older:
            return
        keys, buckets = frozenset(message.scope.keys), frozenset(message.scope.buckets)
        within = frozenset(map(bucket_of, keys))
        for epoch in older:
            if self._targets[epoch].overlaps(keys, buckets, within):
                logger.warning("epoch %d: was never discarded, and epoch %d is about its flows", epoch, message.epoch)
                self._discard(Discard(epoch=epoch), self._now)

    def _return(self, message: Return, now: float) -> list[Instruction]:
        self._targets[message.epoch].phase = Phase.RETURNING
        carrier = Carrier(message.epoch, message.address, self._plane.take, now)
        self._carriers[message.epoch] = carrier
        self._closing[message.epoch] = message
        return [*carrier.pump(now), *self._carried_all(message.epoch, now)]

    def _returned(self, epoch: int, carrier: Carrier, now: float) -> list[Instruction]:
        move = self._targets[epoch]
        move.phase = Phase.RETURNED
        sent = carrier.carried + carrier.unsure
        dropped = self._plane.kept(epoch, now).dropped + carrier.dropped + self._plane.drop(epoch)
        move.dropped = dropped  # should the source die: what it may have taken of them died with it
        move.answer = Returned(epoch=epoch, carried=sent, dropped=dropped - carrier.unsure)
        return [ToOrchestrator(move.answer)]

    def _return_again(self, message: Return, now: float) -> list[Instruction]:
        answer = self._targets[message.epoch].answer
        return [ToOrchestrator(answer)] if answer is not None else []

    def _stage(self, message: Stage, now: float) -> list[Instruction]:
        move = self._targets.get(message.epoch)
        if move is not None and message.part in move.parts:
            return [Reply(Staged(epoch=message.epoch, part=message.part))]
        keys = [key for record in message.flows for key in (record.key, *record.aliases)]
        problem = self._refusal(message.epoch, Scope(keys=tuple(keys)))
        try:
            here = (message.epoch, self._table, self._types, self._timer_names, now)
            flows = [] if problem else [flow_of(record, *here) for record in message.flows]
        except (StateError, BadInput) as error:
            problem = str(error)
        if problem:
            return [Reply(Refused(epoch=message.epoch, request="Stage", reason=problem))]
        move = self._targets.setdefault(message.epoch, TargetMove())
        move.parts.add(message.part)
        move.flows.update((flow.key, flow) for flow in flows)
        return [Reply(Staged(epoch=message.epoch, part=message.part))]

    def _commit(self, message: Commit, now: float) -> list[Instruction]:
        problem = self._refusal(message.epoch, message.scope)
        if problem:
            return [refuse(message, problem)]
        self._forget_older(message)
        move = self._targets.pop(message.epoch, None) or TargetMove()
        flows = list(move.flows.values())
        spared = self._apart.arriving(message.scope.buckets, flows)
        fences = self._table.fences
        fences.get(message.scope.buckets, message.whole)
        fences.set_buckets(message.scope.buckets, Fate.HERE, message.epoch)
        fences.set_keys(message.scope.keys, Fate.HERE, message.epoch)
        left = deque(flows)
        self._busy[message.epoch] = Busy(
            Phase.COMMITTING,
            lambda: self._activate_some(left),
            lambda: self._committed(message, flows, move, spared),
        )
        return self._work(message.epoch)

    def _commit_after_return(self, message: Commit, now: float) -> list[Instruction]:
        """The source died while it was given its packets: what has not been sent to it is this replica's again."""
        move = self._targets[message.epoch]
        carrier = self._carriers.pop(message.epoch, None)
        self._closing.pop(message.epoch, None)
        if carrier is not None:
            carrier.abandon()
            move.dropped += carrier.dropped
        return self._commit(message, now)

    def _activate_some(self, left: deque[Flow]) -> bool:
        for _ in range(min(SLICE, len(left))):
            self._activate(left.popleft())
        return bool(left)

    def _committed(
        self, message: Commit, flows: list[Flow], move: TargetMove, spared: frozenset[bytes]
    ) -> list[Instruction]:
        epoch = message.epoch
        kept = self._plane.kept(epoch, self._now) if move.prepared else Kept()
        dropped = kept.dropped + move.dropped
        answer = Committed(epoch=epoch, flows=len(flows), held=kept.packets, held_seconds=kept.seconds, dropped=dropped)
        self._decided.put(epoch, Decided(Phase.COMMITTED, answer))
        self._plane.expect(epoch)
        logger.info("commit: epoch %d: %d flows live here now", epoch, len(flows))
        aliases = tuple(bytes(alias) for flow in flows for alias in flow.aliases)
        release: list[Instruction] = [Unhold(epoch)] if move.prepared else []
        return [*release, *hold(message, aliases, spared), ToOrchestrator(answer)]

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

    def _say_again(self, message: Message, now: float) -> list[Instruction]:
        answer = self._decided[getattr(message, "epoch", 0)].answer
        return [] if answer is None else [ToOrchestrator(answer)]

    def _discard(self, message: Discard, now: float) -> list[Instruction]:
        epoch = message.epoch
        move = self._targets.pop(epoch, None)
        carrier = self._carriers.pop(epoch, None)
        self._closing.pop(epoch, None)
        dropped = 0
        if carrier is not None:
            carrier.give_up()
            dropped += carrier.dropped
        if move is not None and move.prepared:
            dropped += self._plane.kept(epoch, self._now).dropped + self._plane.drop(epoch)
        answer = Discarded(epoch=epoch, dropped=dropped)
        self._decided.put(epoch, Decided(Phase.DISCARDED, answer))
        return [ToOrchestrator(answer)]

    # -- epochs --------------------------------------------------------------------------------------------

    def _contradiction(self, message: Message, now: float) -> list[Instruction]:
        phase = self.phase(getattr(message, "epoch", 0))
        return [refuse(message, f"this replica has the epoch as {phase.value if phase else 'unknown'}")]

    def _forgotten(self, epoch: int) -> str:
        """Why an epoch that is unknown here must not be met any more; empty if it is known, or may be new."""
        return "" if self.phase(epoch) is not None else self._decided.forgotten(epoch)

    def _refusal(self, epoch: int, scope: Scope) -> str:
        """Why this must not be done in that epoch; empty if it may."""
        return self._forgotten(epoch) or too_old(self._table, epoch, scope)


def _nothing(moves: Moves, message: Message, now: float) -> list[Instruction]:
    return []


_SOURCE_OPEN = (Phase.WAITING, Phase.STAGING, Phase.EXPORTED)
Action = Callable[[Moves, Any, float], list[Instruction]]
TRANSITIONS: dict[tuple[Phase | None, type[Message]], Action] = {
    (None, MovesOver): Moves._over,
    (None, Export): Moves._export,
    (Phase.ARMED, Export): _nothing,
    (Phase.WAITING, Export): _nothing,
    (Phase.STAGING, Export): Moves._export_again,
    (Phase.EXPORTED, Export): Moves._export_again,
    (Phase.REFUSED, Export): Moves._export_refused,
    (Phase.RELEASED, Export): Moves._contradiction,
    (Phase.THAWED, Export): Moves._contradiction,
    (Phase.THAWING, Export): Moves._contradiction,
    (Phase.WAITING, Staged): Moves._staged,
    (Phase.STAGING, Staged): Moves._staged,
    (Phase.WAITING, Refused): Moves._stage_refused,
    (Phase.STAGING, Refused): Moves._stage_refused,
    **{(phase, Forward): Moves._contradiction for phase in (None, *Phase)},
    (Phase.EXPORTED, Forward): Moves._forward,
    (Phase.FORWARDING, Forward): Moves._forward_again,
    (None, Release): Moves._release_unknown,
    **{(phase, Release): Moves._contradiction for phase in Phase},
    (Phase.EXPORTED, Release): Moves._release,
    (Phase.FORWARDING, Release): Moves._release,
    (Phase.RELEASING, Release): Moves._release_again,
    (Phase.RELEASED, Release): Moves._say_again,
    (None, Thaw): Moves._thaw_unknown,
    **{(phase, Thaw): Moves._contradiction for phase in Phase},
    **{(phase, Thaw): Moves._thaw for phase in _SOURCE_OPEN},
    (Phase.FORWARDING, Thaw): Moves._thaw,
    (Phase.ARMED, Thaw): Moves._thaw_armed,
    (Phase.REFUSED, Thaw): Moves._thaw_unknown,
    (Phase.THAWING, Thaw): _nothing,
    (Phase.THAWED, Thaw): Moves._say_again,
    (Phase.THAWED, Carry): Moves._carry,
    (Phase.COMMITTED, Carry): Moves._carry,
    **{(phase, Seal): Moves._contradiction for phase in (None, *Phase)},
    (Phase.THAWED, Seal): Moves._seal,
    (Phase.FORWARDING, Carried): Moves._carried,
    (Phase.RELEASING, Carried): Moves._carried,
    (Phase.RETURNING, Carried): Moves._carried,
    (None, Prepare): Moves._prepare,
    (Phase.STAGED, Prepare): Moves._prepare_again,
    (None, Stage): Moves._stage,
    (Phase.STAGED, Stage): Moves._stage,
    **{(phase, Commit): Moves._contradiction for phase in Phase},
    (None, Commit): Moves._commit,
    (Phase.STAGED, Commit): Moves._commit,
    (Phase.RETURNING, Commit): Moves._commit_after_return,
    (Phase.RETURNED, Commit): Moves._commit_after_return,
    (Phase.COMMITTING, Commit): _nothing,
    (Phase.COMMITTED, Commit): Moves._say_again,
    **{(phase, Return): Moves._contradiction for phase in (None, *Phase)},
    (Phase.STAGED, Return): Moves._return,
    (Phase.RETURNING, Return): _nothing,
    (Phase.RETURNED, Return): Moves._return_again,
    **{(phase, Discard): Moves._contradiction for phase in Phase},
    (None, Discard): Moves._discard,
    (Phase.STAGED, Discard): Moves._discard,
    (Phase.RETURNING, Discard): Moves._discard,
    (Phase.RETURNED, Discard): Moves._discard,
    (Phase.DISCARDED, Discard): Moves._say_again,
}
