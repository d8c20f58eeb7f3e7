"""What both roles of a replica in moves share: where every epoch stands here, and what may not be done any more."""

from __future__ import annotations

from collections.abc import Callable, Container

from guestlib.instructions import Instruction, ToOrchestrator
from guestlib.moves.apart import Apart
from guestlib.moves.carriers import Arrivals, Carrier
from guestlib.moves.epochs import Armed, Busy, Outcomes, TargetMove, Waiting, refuse, too_old
from guestlib.moves.exports import Phase, SourceMove
from guestlib.partitioned.flows import FlowTable
from guestlib.state import StateTypes
from splitmerge.messages import Message, Scope


class Known:
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
        self._unstaged: dict[int, str] = {}
        """Epoch → why a part of its flows was refused here."""
        self._busy: dict[int, Busy] = {}
        self._carriers: dict[int, Carrier] = {}
        self._closing: dict[int, Callable[[Carrier, float], list[Instruction]]] = {}
        """What is done when the last packet has been carried."""
        self._arrivals = Arrivals()
        self._apart = Apart(table)
        self._decided = Outcomes()
        self._now = 0.0

    def phase(self, epoch: int) -> Phase | None:
        """Where the epoch stands here; None if it has not been met."""
        for known in (self._busy, self._sources, self._targets, self._armed):
            if (found := known.get(epoch)) is not None:
                phase: Phase = found.phase
                return phase
        decided = self._decided.get(epoch)
        return None if decided is None else decided.phase

    def _work(self, epoch: int) -> list[Instruction]:
        """Do one slice of what has been decided; what there is to say when all is done."""
        busy = self._busy[epoch]
        if busy.more():
            return []
        del self._busy[epoch]
        return busy.end()

    def _carried_all(self, epoch: int, now: float) -> list[Instruction]:
        """Answer what waits for the last packet to arrive, if it has."""
        carrier, closing = self._carriers.get(epoch), self._closing.get(epoch)
        if carrier is None or closing is None or not carrier.idle:
            return []
        del self._carriers[epoch], self._closing[epoch]
        return closing(carrier, now)

    def _say_again(self, message: Message, now: float) -> list[Instruction]:
        answer = self._decided[getattr(message, "epoch", 0)].answer
        return [] if answer is None else [ToOrchestrator(answer)]

    def _contradiction(self, message: Message, now: float) -> list[Instruction]:
        phase = self.phase(getattr(message, "epoch", 0))
        return [refuse(message, f"this replica has the epoch as {phase.value if phase else 'unknown'}")]

    def _forgotten(self, epoch: int) -> str:
        """Why an epoch that is unknown here must not be met any more; empty if it is known, or may be new."""
        return "" if self.phase(epoch) is not None else self._decided.forgotten(epoch)

    def _refusal(self, epoch: int, scope: Scope) -> str:
        """Why this must not be done in that epoch; empty if it may."""
        return self._forgotten(epoch) or too_old(self._table, epoch, scope)
