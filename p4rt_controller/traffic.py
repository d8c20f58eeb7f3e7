"""Packets in and out: hands packet-ins to the move they belong to, and runs relays; markers: `p4rt_controller.markers`.

Everything here happens where a packet-in is read; no queue lies between the way it came (`p4rt_controller.path`) and
the buffers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from p4rt_controller.errors import ReplicaSilent, SwitchUnavailable
from p4rt_controller.markers import Markers
from p4rt_controller.moves import Kept, Move, MoveBook
from p4rt_controller.operation import Operation
from p4rt_controller.options import ControllerOptions
from p4rt_controller.packets import FenceMet, LoopReturned, MarkerEcho, PacketIn, Punted, RelayAck, Strange
from p4rt_controller.path import PacketPath
from p4rt_controller.relay import (
    Acked,
    Appended,
    Closed,
    Delivered,
    GaveUp,
    RelayEvent,
    RelayInstruction,
    RelaySender,
    RelaySettings,
    Tick,
    Transmit,
)
from p4rt_controller.rounds import idle
from splitmerge.flowkey import FlowKey
from splitmerge.tag import TagKind

_logger = logging.getLogger(__name__)

_RelayOperation = Operation[RelayEvent, RelayInstruction]


@dataclass(slots=True)
class TrafficCounts:
    """Counts since the start."""

    packet_ins: int = 0
    suspended: int = 0
    new_flow: int = 0
    echoes: int = 0
    acks: int = 0
    loops: int = 0
    fences: int = 0
    strange: int = 0
    packet_outs: int = 0
    relayed: int = 0
    retransmitted: int = 0


class Traffic:
    """The data path of the controller.

    ``announce`` is called once for every new flow, ``full`` once for a move that gets packets while room is short.
    """

    def __init__(
        self,
        options: ControllerOptions,
        book: MoveBook,
        announce: Callable[[FlowKey], None],
        full: Callable[[int], None],
    ) -> None:
        self._options = options
        self._book = book
        self._announce = announce
        self._full = full
        self._path: PacketPath | None = None
        self._relays: dict[tuple[int, int], _RelayOperation] = {}
        self._settings = RelaySettings(
            options.relay_window, options.relay_retry, options.relay_deadline, options.relay_total
        )
        self.counts = TrafficCounts()
        self.markers = Markers(options, book, self)

    def attach(self, path: PacketPath) -> None:
        """The switch is ready; send this way."""
        self._path = path

    def detach(self, reason: str) -> None:
        """The switch is lost: everything under way ends with `SwitchUnavailable`."""
        self._path = None
        self.fail(reason)

    def fail(self, reason: str) -> None:
        """The way to the switch is broken: everything under way ends with `SwitchUnavailable`."""
        self.markers.fail(reason)
        for relay in self._relays.values():
            relay.fail(SwitchUnavailable("relay", reason))

    # -- packet-ins ----------------------------------------------------------------------------------------

    def took(self, count: int) -> None:
        """So many packets of suspended flows have been put into their moves' lanes elsewhere (`Intake`)."""
        self.counts.packet_ins += count
        self.counts.suspended += count

    def handle(self, event: PacketIn) -> Move | None:
        """A packet-in has come; the move that it belongs to, if it is a packet of one."""
        self.counts.packet_ins += 1
        match event:
            case Punted():
                return self._punted(event)
            case RelayAck(replica, epoch, expected, have):
                self.counts.acks += 1
                self._acked(replica, epoch, Acked(expected, have))
            case MarkerEcho(replica, epoch, sequence):
                self.counts.echoes += 1
                self._returned(TagKind.MARKER, epoch, replica, sequence)
            case LoopReturned(epoch, sequence):
                self.counts.loops += 1
                self._returned(TagKind.LOOP, epoch, 0, sequence)
            case FenceMet(epoch, sequence):
                self.counts.fences += 1
                self._returned(TagKind.FENCE, epoch, 0, sequence)
            case Strange(reason):
                self.counts.strange += 1
                _logger.debug("packet-in with reason %d means nothing here", reason)
        return None

    def _punted(self, packet: Punted) -> Move | None:
        if packet.new:
            self.counts.new_flow += 1
        else:
            self.counts.suspended += 1
        kept, move = self._book.punted(packet, self._now())
        if kept is Kept.NEW:
            self._announce(packet.key)
        elif move is not None:
            self.appended(move)
        return move

    def appended(self, move: Move) -> None:
        """The move's lane has got more packets, or had no room for them."""
        if not move.told_full and move.lane.nearly_full:
            move.told_full = True
            self._full(move.epoch)
        if move.news is not None:
            move.news()

    def _acked(self, replica: int, epoch: int, event: Acked) -> None:
        relay = self._relays.get((epoch, replica))
        if relay is None:
            self.counts.strange += 1  # repeated, after the end
        else:
            relay.feed(event)

    def _returned(self, kind: TagKind, epoch: int, replica: int, sequence: int) -> None:
        if not self.markers.returned(kind, epoch, replica, sequence):
            self.counts.strange += 1  # a second round came back, after the end

    # -- relay ---------------------------------------------------------------------------------------------

    async def deliver(
        self,
        move: Move,
        replica: int,
        port: int,
        seal: Callable[[], Awaitable[None]] | None = None,
        busy: Callable[[], bool] = idle,
    ) -> None:
        """Deliver a move's packets and END to this replica. Continues where an earlier call for it stopped.

        ``seal`` returns when the move gets no more packets; None: it is sealed. What is there goes out meanwhile.
        ``busy``: as `Markers.round_trip`'s, of the marker that goes ahead.
        :raises Timeout: after ``relay_deadline`` without progress. :raises SwitchUnavailable: if the switch is lost.
        """
        given_up = move.relay is not None and move.relay.gave_up and move.target == replica
        if given_up:  # a replica that is busy takes what comes when it has come to the marker, however long that takes
            await self.markers.round_trip(TagKind.MARKER, move.epoch, replica, port, busy=busy)
        sender = self._sender(move, replica)
        if (
            sender.asking and not given_up
        ):  # acknowledgements for a predecessor may be on their way: let them pass first
            await self.markers.round_trip(TagKind.MARKER, move.epoch, replica, port, busy=busy)

        def execute(instruction: RelayInstruction) -> bool | None:
            match instruction:
                case Transmit(kind, sequence, frame):
                    self.send(port, kind, move.epoch, sequence, frame)
                    return None
                case Delivered():
                    return True
                case GaveUp():
                    return False

        operation = _RelayOperation(sender, Tick(), execute)
        self._relays[move.epoch, replica] = operation
        move.news = partial(operation.feed, Appended())
        before = sender.retransmitted
        try:
            if seal is not None:
                operation.feed(Appended())
                await seal()
            operation.feed(Closed())
            if not await operation.wait():
                what = f"relay of move {move.epoch} to replica {replica}"
                raise ReplicaSilent(replica, what, self._options.relay_deadline)
        finally:
            move.news = None
            del self._relays[move.epoch, replica]
            self.counts.retransmitted += sender.retransmitted - before
        self.counts.relayed += sender.delivered

    def _sender(self, move: Move, replica: int) -> RelaySender:
        """The move's sender to this replica: the one that was interrupted, or gave up, or a new one.

        One that gave up goes on with its numbers: a new one would not know which of its packets the replica has, and
        would send those again under other numbers. A replica that may have accepted numbers of this epoch before is
        asked first.
        """
        interrupted = move.relay is not None and (move.relay.gave_up or not move.relay.finished)
        if move.relay is not None and interrupted and move.target == replica:
            move.relay.resume_at(self._now())
            return move.relay
        if move.relay is not None:
            move.relayed += move.relay.delivered
        asking = not move.known or replica in move.tried
        move.tried.add(replica)
        move.target = replica
        move.relay = RelaySender(move.lane, self._settings, self._now(), asking=asking, round_trip=move.round_trip)
        return move.relay

    def send(self, port: int, kind: TagKind, epoch: int, sequence: int, frame: bytes | None) -> None:
        """Send a packet-out. :raises SwitchUnavailable: without a connection."""
        if self._path is None:
            raise SwitchUnavailable("packet-out", "not connected as primary")
        self.counts.packet_outs += 1
        self._path.send(port, kind, epoch, sequence, frame)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
