"""Whose is a packet that the switch sent up? The book of moves under way, without I/O.

Every key and every bucket belongs to at most one open move. A packet-in goes

- to the lane of the move that has its key, or (suspended packets only) its bucket;
- else, of a new flow: to that flow's own lane, and the flow is announced once;
- else, suspended: to the orphans, kept by flow, until a move takes the flow (an orchestrator that crashed between
  suspending and journalling comes back for them) or they expire.

What waits for a move that is planned and has not begun (`MoveBook.awaited`) does not expire before that is over.

A move that opens takes over the packets waiting for its flows, in their order, before any later one.
A move is *sealed* when the loop marker has come back: from then on no packet-in can belong to it.

Whoever remembers which move a flow's packets went to (`p4rt_controller.intake`) may do so as long as `generation` is
the same.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Self

from p4rt_controller.buffer import Lane, PacketBuffer, Room
from p4rt_controller.errors import ScopeConflict
from p4rt_controller.events import Resumed
from p4rt_controller.options import ControllerOptions
from p4rt_controller.packets import Punted
from p4rt_controller.relay import RelaySender
from splitmerge.flowkey import FlowKey


class Kept(enum.Enum):
    """What became of a packet-in."""

    MOVE = "move"
    NEW = "new"
    WAITING = "waiting"
    ORPHAN = "orphan"
    DROPPED = "dropped"


@dataclass(slots=True)
class Move:
    """One move under way."""

    epoch: int
    keys: set[FlowKey]
    buckets: set[int]
    lane: Lane
    opened: float
    known: bool
    """Begun by this process; else a predecessor may have relayed some of it."""
    target: int = 0
    relay: RelaySender | None = None
    tried: set[int] = field(default_factory=set)
    """Replicas that may have accepted packets of this epoch."""
    sealed: bool = False
    relayed: int = 0
    """Packets delivered by senders that were given up for another target."""
    captured: set[FlowKey] = field(default_factory=set)
    """Of ``keys``, those not named but found in the buckets."""
    apart: set[FlowKey] = field(default_factory=set)
    """Flows of its buckets with entries of their own that it has not: where their bucket goes says nothing of them."""
    news: Callable[[], None] | None = None
    """Called when a packet has come while they are being delivered."""
    told_full: bool = False
    """It has been said that room for its packets is short."""
    round_trip: float = 0.0
    """Seconds that the slowest of its markers took: an estimate for the first relayed packets."""

    def resumed(
        self, rounds: int, started: float, now: float, refused: tuple[bytes, ...] = (), refusal: str = ""
    ) -> Resumed:
        """What `Controller.resume` did for it, all of which has been delivered."""
        assert self.relay is not None
        return Resumed(
            epoch=self.epoch,
            target=self.target,
            relayed=self.relayed + self.relay.delivered,
            dropped=self.lane.dropped,
            peak_packets=self.lane.peak_packets,
            peak_bytes=self.lane.peak_bytes,
            retransmitted=self.relay.retransmitted,
            rounds=rounds,
            seconds=now - started,
            suspended_seconds=now - self.opened,
            refused=refused,
            refusal=refusal,
        )


class MoveBook:
    """The moves under way and the packets kept for them. Bounds are packets and bytes."""

    def __init__(
        self,
        moves: tuple[int, int],
        new_flows: tuple[int, int],
        orphans: tuple[int, int],
        *,
        one_move: tuple[int, int] | None = None,
        newest_epoch: int = 0,
    ) -> None:
        self.held: PacketBuffer[int] = PacketBuffer(*moves, *(one_move or ()))
        self.new_flows: PacketBuffer[FlowKey] = PacketBuffer(*new_flows)
        self.orphans: PacketBuffer[FlowKey] = PacketBuffer(*orphans)
        self.inherited_epoch = newest_epoch
        """Epochs up to this one may have been begun by a predecessor of this process."""
        self.dropped_table_full = 0
        """Packets of new flows dropped because the switch had no room for the flows' entries."""
        self.dropped_abandoned = 0
        """Packets of abandoned moves that a replica may have had, or for which there was no more room."""
        self.awaited: Callable[[Iterable[FlowKey]], Collection[bytes]] = lambda keys: ()
        """Which of these flows, of which packets wait, a move is planned for that has not begun."""
        self.generation = 0
        """Grows whenever packets of some flow begin to go elsewhere."""
        self._moves: dict[int, Move] = {}
        self._by_key: dict[FlowKey, Move] = {}
        self._by_bucket: dict[int, Move] = {}

    @classmethod
    def of(cls, options: ControllerOptions) -> Self:
        """One with the bounds that the options name."""
        return cls(
            (options.buffer_packets, options.buffer_bytes),
            (options.new_flow_packets, options.new_flow_bytes),
            (options.orphan_packets, options.orphan_bytes),
            one_move=(options.move_packets, options.move_bytes),
        )

    def get(self, epoch: int) -> Move | None:
        """The move of this epoch, if it is under way."""
        return self._moves.get(epoch)

    def moves(self) -> list[Move]:
        """All moves under way."""
        return list(self._moves.values())

    def owner_of(self, key: FlowKey) -> Move | None:
        """The unsealed move that has this key."""
        return self._by_key.get(key)

    def owner_of_bucket(self, bucket: int) -> Move | None:
        """The unsealed move that has this bucket."""
        return self._by_bucket.get(bucket)

    def open(
        self,
        epoch: int,
        keys: Iterable[FlowKey],
        buckets: Iterable[int],
        captured: Iterable[FlowKey],
        now: float,
        room: Room | None = None,
        apart: Iterable[FlowKey] = (),
    ) -> Move:
        """The move of this epoch, opened or widened to this scope, with the packets that wait for it.

        ``captured``: flows with entries of their own that the buckets bring along. ``room``: what may be kept for a
        move that is opened, beside what may be kept for any one. ``apart``: all flows of the buckets with entries of
        their own: what waits for those that are not in the move goes on waiting.
        :raises ScopeConflict: if a part belongs to another move; then nothing has changed.
        """
        named, classes, brought = set(keys), set(buckets), set(captured)
        self.check_free(epoch, named | brought, classes)
        move = self._moves.get(epoch)
        if move is None:
            known = epoch > self.inherited_epoch
            move = Move(epoch, set(), set(), self.held.lane(epoch, now, room), now, known)
            self._moves[epoch] = move
        if move.sealed:
            return move
        self.generation += 1
        move.keys |= named | brought
        move.captured |= brought - named
        move.buckets |= classes
        move.apart = (move.apart | set(apart)) - move.keys
        self._by_key.update(dict.fromkeys(named | brought, move))
        self._by_bucket.update(dict.fromkeys(classes, move))
        self._adopt(move, named | brought, classes)
        return move

    def check_free(self, epoch: int, keys: set[FlowKey], buckets: set[int]) -> None:
        """:raises ScopeConflict: if a part belongs to another move than this epoch's."""
        for key in keys:
            other = self._by_key.get(key) or self._by_bucket.get(key.bucket)
            if other is not None and other.epoch != epoch:
                raise ScopeConflict(epoch, other.epoch, f"flow {key}")
        for bucket in buckets:
            other = self._by_bucket.get(bucket)
            if other is not None and other.epoch != epoch:
                raise ScopeConflict(epoch, other.epoch, f"bucket {bucket}")

    def _adopt(self, move: Move, keys: set[FlowKey], buckets: set[int]) -> None:
        for key in keys:
            self._take(move, self.new_flows.remove(key))
            self._take(move, self.orphans.remove(key))
        if buckets:
            for key in [key for key in self.orphans.lane_keys() if key.bucket in buckets and key not in move.apart]:
                self._take(move, self.orphans.remove(key))

    @staticmethod
    def _take(move: Move, lane: Lane | None) -> None:
        if lane is not None:
            move.lane.adopt(lane)

    def punted(self, packet: Punted, now: float) -> tuple[Kept, Move | None]:
        """Keep a packet; what became of it, and the move that it belongs to."""
        key = packet.key
        move = self._by_key.get(key)
        first = self.new_flows.get(key) is None
        if move is None and not packet.new and first:
            move = self._by_bucket.get(key.bucket)
            move = None if move is not None and key in move.apart else move
        if move is not None:
            return (Kept.MOVE if move.lane.append(packet.frame) else Kept.DROPPED), move
        if not packet.new and first:
            return (Kept.ORPHAN if self.orphans.append(key, packet.frame, now) else Kept.DROPPED), None
        orphans = self.orphans.remove(key)
        if orphans is not None:  # a flow's packets stay in one lane, or their order would be lost
            self.new_flows.lane(key, now).adopt(orphans)
        if (
            first and self._by_bucket
        ):  # from now on the flow's suspended packets come here too, not to its bucket's move
            self.generation += 1
        kept = self.new_flows.append(key, packet.frame, now)
        if first and self.new_flows.get(key) is not None:  # also if there was room for nothing but its orphans
            return Kept.NEW, None
        return Kept.WAITING if kept else Kept.DROPPED, None

    def waiting(self, keys: Iterable[FlowKey]) -> list[FlowKey]:
        """Those of these flows whose packets wait outside of any move: only a move brings them to anybody."""
        return [key for key in keys if self.new_flows.get(key) is not None or self.orphans.get(key) is not None]

    def joined(self, key: FlowKey) -> None:
        """This flow has no entry of its own any more: it goes where its bucket does."""
        move = self._by_bucket.get(key.bucket)
        if move is not None:
            move.apart.discard(key)

    def seal(self, move: Move) -> None:
        """No packet-in belongs to this move any more."""
        move.sealed = True
        self._unbind(move)

    def leave_out(self, move: Move, flows: frozenset[bytes]) -> None:
        """These new flows have not got their entries: they are not in the move any more. Packets are dropped, counted.

        One that comes from now on is a new flow's again.
        """
        self.generation += 1
        for key in [key for key in move.keys if key in flows]:
            move.keys.discard(key)
            if self._by_key.get(key) is move:
                del self._by_key[key]
        sent = move.relay.outstanding if move.relay is not None else 0
        self.dropped_table_full += move.lane.drop_if(lambda frame: FlowKey.from_frame(frame) in flows, sent)

    def _unbind(self, move: Move) -> None:
        self.generation += 1
        for key in move.keys:
            if self._by_key.get(key) is move:
                del self._by_key[key]
        for bucket in move.buckets:
            if self._by_bucket.get(bucket) is move:
                del self._by_bucket[bucket]

    def close(self, move: Move) -> int:
        """The move is over; how many packets are left and thrown away (0 after a delivery)."""
        self._unbind(move)
        self._moves.pop(move.epoch, None)
        self.held.remove(move.epoch)
        return move.lane.clear()

    def abandon(self, move: Move, now: float) -> tuple[int, int]:
        """The move is over and not delivered: how many packets are kept for the next move, and how many are not.

        What no replica was ever sent waits among the orphans, by flow: the flows will get another owner. What was sent
        and not acknowledged may have been processed: to deliver it elsewhere could double it.
        """
        frames = list(move.lane)
        sent = move.relay.outstanding if move.relay is not None else 0
        self.close(move)
        kept = sum(self._orphan(frame, now) for frame in frames[sent:])
        lost = len(frames) - kept
        self.dropped_abandoned += lost
        return kept, lost

    def _orphan(self, frame: bytes, now: float) -> bool:
        key = FlowKey.from_frame(frame)
        kept = key is not None and self.orphans.append(key, frame, now)
        if key is not None and not kept:
            self.orphans.budget.dropped -= 1  # it counts as abandoned
        return kept

    def forsake(self, buckets: Collection[int]) -> int:
        """Somebody gets these buckets without a move: drop what waits for one; how many packets.

        The next move would deliver them behind all that has come meanwhile.
        """
        return sum(self.orphans.drop(key) for key in self.orphans.lane_keys() if key.bucket in buckets)

    def unassigned(self, before: float) -> list[FlowKey]:
        """New flows that packets have waited of since before this time."""
        return self.new_flows.older(before)

    def renew(self, before: float, now: float) -> None:
        """What has waited since before this time for a move that has not begun (`awaited`): its time begins anew."""
        for buffer in (self.new_flows, self.orphans):
            old = buffer.older(before)
            awaited = frozenset(self.awaited(old)) if old else frozenset()
            for key in [key for key in old if key in awaited]:
                buffer.renew(key, now)

    def expire(self, before: float) -> list[FlowKey]:
        """Drop packets of new flows and orphans kept since before this time; their flows may be announced again."""
        return self.new_flows.expire(before) + self.orphans.expire(before)

    def validate(self) -> None:
        """Check the invariants; for tests."""
        for buffer in (self.held, self.new_flows, self.orphans):
            buffer.validate()
        assert set(self.held.lane_keys()) == set(self._moves)
        assert all(not move.sealed for move in (*self._by_key.values(), *self._by_bucket.values()))
        assert all(key in move.keys for key, move in self._by_key.items())
