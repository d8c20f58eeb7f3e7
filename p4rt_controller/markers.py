"""Markers on their way: who waits for which, and those that are sent before anybody does.

A move waits for its marker while its packets are held, and the marker for the answer to the table write. So it is sent
as soon as whoever wrote the tables has that answer (`Markers.mark`), before the orchestrator takes note of it;
`Markers.round_trip` finds it on its way.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from p4rt_controller.errors import ReplicaSilent, SwitchUnavailable
from p4rt_controller.moves import MoveBook
from p4rt_controller.operation import Operation
from p4rt_controller.options import ControllerOptions
from p4rt_controller.path import PacketPath
from p4rt_controller.rounds import (
    Begin,
    Expired,
    Proven,
    Returned,
    RoundEvent,
    RoundInstruction,
    Rounds,
    RoundTick,
    SendMarker,
    idle,
)
from splitmerge.errors import Timeout
from splitmerge.tag import TagKind

_Operation = Operation[RoundEvent, RoundInstruction]
_Key = tuple[TagKind, int, int]
"""MARKER, LOOP or FENCE; epoch; replica, or 0."""
_NUMBERS = 1 << 16
"""Sequence numbers that one trip may use; so no two share any."""
_AHEAD = 4096
"""Markers that are kept for who asks next; with more, the oldest are forgotten, and who asks sends his own."""


@dataclass(slots=True)
class _Trip:
    """A marker on its way, and further ones if that is lost."""

    key: _Key
    port: int
    rounds: Rounds
    operation: _Operation
    took: float = 0.0
    """Seconds until one was back."""


class Markers:
    """All markers of one switch. ``path`` raises `SwitchUnavailable` without a way there."""

    def __init__(self, options: ControllerOptions, book: MoveBook, path: PacketPath) -> None:
        self._options = options
        self._book = book
        self._path = path
        self._underway: dict[_Key, list[_Operation]] = {}
        self._ahead: dict[int, _Trip] = {}
        """Epoch → what was sent for whoever asks next, until `unmark`."""
        # Starting anywhere, so that a marker of a predecessor of this process, late, is not taken for one of ours.
        self._next_sequence = secrets.randbits(32)

    def fail(self, reason: str) -> None:
        """The way to the switch is broken: everything under way ends with `SwitchUnavailable`.

        What was sent ahead is forgotten, back or not: tables may be others when the switch is there again.
        """
        for epoch in list(self._ahead):
            self.unmark(epoch)
        for operations in self._underway.values():
            for operation in operations:
                operation.fail(SwitchUnavailable("marker", reason))

    def returned(self, kind: TagKind, epoch: int, replica: int, sequence: int) -> bool:
        """A marker has come back; whether anybody waits, or will, for one of its kind, epoch and replica."""
        operations = self._underway.get((kind, epoch, replica), ())
        for operation in operations:
            operation.feed(Returned(sequence))
        return bool(operations)

    async def round_trip(
        self,
        kind: TagKind,
        epoch: int,
        replica: int,
        port: int,
        via: Callable[[int], None] | None = None,
        busy: Callable[[], bool] = idle,
    ) -> int:
        """Send MARKER through this replica's port, or LOOP, until one is back; the number sent. One that `mark` sent
        this way is the first of them.

        ``via``: sends a marker with this sequence number some other way, which ends at this switch's controller.
        ``busy``: whether the replica works off what is in front of the marker: it is waited for as long again.
        :raises Timeout: after ``marker_deadline``. :raises SwitchUnavailable: if the switch is lost meanwhile.
        """
        key = (kind, epoch, replica)
        trip = self._take_ahead(key, port) or self._depart(key, port, via)
        trip.rounds.waited_for(busy, self._now())
        try:
            if not await trip.operation.wait():
                what, seconds = f"{kind.name} of move {epoch}, replica {replica}", self._options.marker_deadline
                raise ReplicaSilent(replica, what, seconds) if kind is TagKind.MARKER else Timeout(what, seconds)
        finally:
            self._forget(trip)
        if (move := self._book.get(epoch)) is not None:
            move.round_trip = max(move.round_trip, trip.took)
        return trip.rounds.sent

    def mark(self, epoch: int, replica: int, port: int) -> None:
        """Send a MARKER for the `round_trip` of this epoch and replica that follows, or `unmark`. If it cannot be sent
        now, that sends it.
        """
        self.unmark(epoch)
        if len(self._ahead) >= _AHEAD:
            self.unmark(next(iter(self._ahead)))
        trip = self._depart((TagKind.MARKER, epoch, replica), port, None)
        if trip.operation.failed:
            self._forget(trip)
        else:
            self._ahead[epoch] = trip

    def unmark(self, epoch: int) -> None:
        """Nobody is to wait for what `mark` sent for this epoch, if it did."""
        trip = self._ahead.pop(epoch, None)
        if trip is not None:
            self._forget(trip)

    def _take_ahead(self, key: _Key, port: int) -> _Trip | None:
        """The marker that was sent ahead, if it went that way."""
        trip = self._ahead.get(key[1])
        if trip is None or (trip.key, trip.port) != (key, port):
            return None
        return self._ahead.pop(key[1])

    def _depart(self, key: _Key, port: int, via: Callable[[int], None] | None) -> _Trip:
        kind, epoch, _ = key
        options, started = self._options, self._now()
        rounds = Rounds(self._next_sequence, options.marker_retry, options.marker_deadline, started)
        self._next_sequence = (self._next_sequence + _NUMBERS) & 0xFFFFFFFF

        def execute(instruction: RoundInstruction) -> bool | None:
            match instruction:
                case SendMarker(sequence):
                    if via is None:
                        self._path.send(port, kind, epoch, sequence, None)
                    else:
                        via(sequence)
                    return None
                case Proven():
                    trip.took = self._now() - started
                    return True
                case Expired():
                    return False

        trip = _Trip(key, port, rounds, _Operation(rounds, RoundTick(), execute))
        trip.operation.feed(Begin())
        self._underway.setdefault(key, []).append(trip.operation)
        return trip

    def _forget(self, trip: _Trip) -> None:
        operations = self._underway[trip.key]
        operations.remove(trip.operation)
        if not operations:
            del self._underway[trip.key]

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
