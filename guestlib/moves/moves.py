"""Moves of partitioned state: which replica owns a flow, whatever happens to the messages on their way.

Each epoch is one move, and this replica has one role in it. What a message does depends only on where the epoch stands
here (`TRANSITIONS`; a pair that is not in the table is ignored):

    source   (none) -Export-> WAITING -refcounts 0 or deadline-> STAGING -all Staged-> EXPORTED -Release-> RELEASED
             (none) -Export after a marker not yet met-> ARMED -marker-> WAITING
             STAGING or EXPORTED -Forward-> FORWARDING -Release-> RELEASING -all carried-> RELEASED
             STAGING -Release-> RELEASED: the target has told the orchestrator that it has all, before it told this one
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
target from Commit; Commit follows Exported, or the target's AllStaged, and Thaw and Commit of one epoch are never both
sent, unless the source is dead.

An epoch not met before is Refused if something newer has been decided about its flows; but not Thaw: a move that is
called off holds its flows' lock, so what is newer is older than its beginning, and its packets come back to a hold.
`epochs.DECIDED` final epochs are remembered, and all that are not over (`MovesOver`); an unknown epoch that is not
newer than a forgotten one is Refused.

Many flows are frozen, thawed, taken over and released in slices, so that packets of others wait for milliseconds at
most. A decision is answered when all of it has been done; its repeats meanwhile are ignored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from guestlib.instructions import Instruction, ToOrchestrator
from guestlib.moves.exports import Phase
from guestlib.moves.source import Source
from guestlib.moves.target import Target
from splitmerge.messages import (
    Carried,
    Carry,
    Commit,
    Discard,
    Export,
    Forward,
    Message,
    MovesOver,
    Prepare,
    Refused,
    Release,
    Return,
    Seal,
    Sealed,
    Stage,
    Staged,
    Thaw,
)

logger = logging.getLogger("guestlib")


class Moves(Source, Target):
    """Every move this replica takes part in."""

    @property
    def carrying(self) -> bool:
        """Packets may be waiting to be carried to another replica: call `pump` when there may be more."""
        return bool(self._carriers)

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
        """The data plane has met the epoch's MARKER, and the middlebox has had all that came before it."""
        self._plane.meet(epoch)
        armed = self._armed.pop(epoch, None)
        return [] if armed is None else self._begin_export(armed.message, now)

    def _over(self, message: MovesOver, now: float) -> list[Instruction]:
        self._decided.over(message.before)
        return []

    def _carry(self, message: Carry, now: float) -> list[Instruction]:
        return self._arrivals.take(message)

    def _seal(self, message: Seal, now: float) -> list[Instruction]:
        return [ToOrchestrator(Sealed(epoch=message.epoch, taken=self._arrivals.seal(message.epoch)))]

    def _carried(self, message: Carried, now: float) -> list[Instruction]:
        carrier = self._carriers.get(message.epoch)
        if carrier is None:
            return []
        return [*carrier.acknowledged(message.expected, now), *self._carried_all(message.epoch, now)]


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
    (Phase.REFUSED, Export): Moves._say_again,
    (Phase.RELEASED, Export): Moves._contradiction,
    (Phase.THAWED, Export): Moves._contradiction,
    (Phase.THAWING, Export): Moves._contradiction,
    (Phase.WAITING, Staged): Moves._staged,
    (Phase.STAGING, Staged): Moves._staged,
    (Phase.WAITING, Refused): Moves._stage_refused,
    (Phase.STAGING, Refused): Moves._stage_refused,
    **{(phase, Forward): Moves._contradiction for phase in (None, *Phase)},
    (Phase.STAGING, Forward): Moves._forward,
    (Phase.EXPORTED, Forward): Moves._forward,
    (Phase.FORWARDING, Forward): Moves._forward_again,
    (None, Release): Moves._release_unknown,
    **{(phase, Release): Moves._contradiction for phase in Phase},
    (Phase.STAGING, Release): Moves._release,
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
    (Phase.COMMITTED, Stage): Moves._had_part,
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
