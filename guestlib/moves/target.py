"""A replica as the target of moves: it stages flows, and commits or discards them; or gives packets back."""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from itertools import islice

from guestlib.errors import StateError
from guestlib.instructions import Instruction, Keep, Reply, ToOrchestrator, Unhold
from guestlib.moves.carriers import Carrier
from guestlib.moves.epochs import (
    Busy,
    Decided,
    TargetMove,
    hold,
    refuse,
)
from guestlib.moves.exports import SLICE, Phase
from guestlib.moves.imports import flow_of
from guestlib.moves.known import Known
from guestlib.packets.holds import Kept
from guestlib.partitioned.fences import Fate, bucket_of
from guestlib.partitioned.flows import Flow
from splitmerge.errors import BadInput
from splitmerge.flowkey import FlowKey
from splitmerge.messages import (
    AllStaged,
    Commit,
    Committed,
    Discard,
    Discarded,
    Prepare,
    Prepared,
    Refused,
    Return,
    Returned,
    Scope,
    Stage,
    Staged,
)

logger = logging.getLogger("guestlib")

UNSTAGED = 4096
"""Epochs of which a part was refused that are remembered until they are decided."""


class Target(Known):
    """What a target does with each message of a move; when it may is in `guestlib.moves.moves.TRANSITIONS`."""

    def _prepare(self, message: Prepare, now: float) -> list[Instruction]:
        scope = message.scope
        problem = self._refusal(message.epoch, Scope(keys=scope.keys))
        if not problem and (both := next(filter(self._table.active.__contains__, scope.keys), None)):
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
        self._closing[message.epoch] = partial(self._returned, message.epoch)
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
            return self._has_part(message)
        keys = [record.key for record in message.flows]
        keys += [alias for record in message.flows for alias in record.aliases]
        problem = self._unstaged.get(message.epoch) or self._refusal(message.epoch, Scope(keys=tuple(keys)))
        try:
            here = (message.epoch, self._table, self._types, self._timer_names, now)
            flows = [] if problem else [flow_of(record, *here) for record in message.flows]
        except (StateError, BadInput) as error:
            problem = str(error)
        if problem:
            return self._refuse_part(message, problem)
        move = self._targets.setdefault(message.epoch, TargetMove())
        move.parts.add(message.part)
        move.flows.update({flow.key: flow for flow in flows})
        if message.whole:
            move.whole = message.parts
        told = [ToOrchestrator(AllStaged(epoch=message.epoch, staged=len(move.flows)))] if move.complete else []
        return [*told, *self._has_part(message)]

    def _refuse_part(self, message: Stage, problem: str) -> list[Instruction]:
        """For good: the source ends its move for that, though the part may come again before it has heard."""
        self._unstaged[message.epoch] = problem
        if len(self._unstaged) > UNSTAGED:
            del self._unstaged[next(iter(self._unstaged))]
        return [Reply(Refused(epoch=message.epoch, request="Stage", reason=problem))]

    def _has_part(self, message: Stage) -> list[Instruction]:
        return [Reply(Staged(epoch=message.epoch, part=message.part))]

    def _had_part(self, message: Stage, now: float) -> list[Instruction]:
        """Committed before the source has heard that all is here: it may stop repeating it."""
        return self._has_part(message) if self._decided[message.epoch].staged else []

    def _commit(self, message: Commit, now: float) -> list[Instruction]:
        problem = self._refusal(message.epoch, message.scope)
        if problem:
            return [refuse(message, problem)]
        self._forget_older(message)
        self._unstaged.pop(message.epoch, None)
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
        """Make a slice of the flows active; whether there are more. Most have no fences: the scope has them set."""
        flows, fences = list(islice(left, SLICE)), self._table.fences
        fenced = [flow for flow in flows if flow.aliases or flow.key in fences or fences.is_elsewhere(flow.key)]
        if keys := [key for flow in fenced for key in flow.keys]:
            fences.set_keys(keys, Fate.HERE, flows[0].epoch)
        for _ in flows:
            self._activate(left.popleft())
        return bool(left)

    def _committed(
        self, message: Commit, flows: list[Flow], move: TargetMove, spared: frozenset[bytes]
    ) -> list[Instruction]:
        epoch = message.epoch
        kept = self._plane.kept(epoch, self._now) if move.prepared else Kept()
        dropped = kept.dropped + move.dropped
        answer = Committed(epoch=epoch, flows=len(flows), held=kept.packets, held_seconds=kept.seconds, dropped=dropped)
        self._decided.put(epoch, Decided(Phase.COMMITTED, answer, staged=move.complete))
        self._plane.expect(epoch)
        logger.debug("commit: epoch %d: %d flows live here now", epoch, len(flows))
        aliases = tuple(bytes(alias) for flow in flows for alias in flow.aliases)
        release: list[Instruction] = [Unhold(epoch)] if move.prepared else []
        return [*release, *hold(message, aliases, spared), ToOrchestrator(answer)]

    def _activate(self, flow: Flow) -> None:
        for source in self._sources.values():
            source.superseded(flow.key)
        if flow.aliases or flow.key in self._table.active:
            self._replace(flow)
        self._table.insert(flow)

    def _replace(self, flow: Flow) -> None:
        """End those that have a key of this flow."""
        for other in self._table.within(flow.keys, ()):
            # Made here out of a stray packet while the real one was on its way; that one's owner had it all along.
            logger.warning("epoch %d: %s was created here meanwhile; the moved one replaces it", flow.epoch, other.key)
            self._table.conflicts += 1
            self._table.delete(other.key)

    def _discard(self, message: Discard, now: float) -> list[Instruction]:
        epoch = message.epoch
        self._unstaged.pop(epoch, None)
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
