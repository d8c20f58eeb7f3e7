"""A replica as the source of moves: it exports flows, and releases or thaws them."""

from __future__ import annotations

import logging
from functools import partial

from guestlib.instructions import Instruction, ToOrchestrator, Unhold
from guestlib.moves.carriers import Carrier
from guestlib.moves.epochs import (
    Armed,
    Busy,
    Decided,
    hold,
    keep_late,
    no_bucket,
    refuse,
    too_old,
)
from guestlib.moves.exports import Phase, SourceMove
from guestlib.moves.known import Known
from guestlib.partitioned.fences import Fate
from splitmerge.messages import (
    Export,
    Forward,
    Forwarding,
    Refused,
    Release,
    Released,
    Staged,
    Thaw,
    Thawed,
)

logger = logging.getLogger("guestlib")


class Source(Known):
    """What a source does with each message of a move; when it may is in `guestlib.moves.moves.TRANSITIONS`."""

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
        # Not at level INFO: the flows' packets would wait for a line to be written. The orchestrator writes one a move.
        sizes = len(message.scope.keys), len(message.scope.buckets)
        logger.debug("export: epoch %d: %d flows and %d buckets to %s", message.epoch, *sizes, message.address)
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
        self._sources[message.epoch].begin_forward()
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
        self._closing[message.epoch] = partial(self._carried_on, message)
        if not message.carry:
            carrier.give_up()
        return [*carrier.pump(now), *self._carried_all(message.epoch, now)]

    def _carried_on(self, message: Release, carrier: Carrier, now: float) -> list[Instruction]:
        return self._release_now(message, carrier.carried, carrier.dropped, now)

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
