"""The hot path of packet-ins in Ethernet frames: from a batch of frames to the moves' lanes.

Packets of one flow that come in through one port have the same bytes in front (`frames.HEAD`), so those bytes, once
understood, name the lane: a packet costs one dict look-up and one append. What is not known, or no suspended packet,
goes the long way, through the codec and `Traffic`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from p4rt_controller.frames import FrameCodec
from p4rt_controller.moves import Move, MoveBook
from p4rt_controller.packets import PacketIn, Punted

_REMEMBERED = 1 << 17
"""Heads remembered at most (two a flow); then it starts anew."""


class Intake:
    """Sorts packet-ins.

    ``handle`` takes an event, and returns the move that a packet belongs to, if it does; ``appended`` is told, once a
    batch, of each move that got packets the short way.
    """

    def __init__(
        self,
        codec: FrameCodec,
        book: MoveBook,
        handle: Callable[[PacketIn], Move | None],
        appended: Callable[[Move], None],
    ) -> None:
        self._codec = codec
        self._book = book
        self._handle = handle
        self._appended = appended
        self._moves: dict[bytes, Move] = {}
        self._generation = -1

    def take(self, parts: Iterable[tuple[bytes, bytes]]) -> int:
        """Take frames, each as its head and the rest, in their order; how many of them went the short way."""
        known = self._known()
        touched: dict[int, Move] = {}
        last: Move | None = None
        short = 0
        for head, frame in parts:
            move = known.get(head)
            if move is None:
                self._learn(head, frame)
                known = self._known()
                continue
            short += 1
            move.lane.append(frame)
            if move is not last:
                last = touched[move.epoch] = move
        for move in touched.values():
            self._appended(move)
        return short

    def _known(self) -> dict[bytes, Move]:
        """What may still be believed."""
        if self._generation != self._book.generation or len(self._moves) > _REMEMBERED:
            self._moves.clear()
            self._generation = self._book.generation
        return self._moves

    def _learn(self, head: bytes, frame: bytes) -> None:
        event = self._codec.decode(head, frame)
        move = self._handle(event)
        if move is not None and isinstance(event, Punted) and not event.new:
            self._known()[head] = move
