"""The controller: programs one switch, suspends, drains and resumes flows, and keeps their packets meanwhile.

Why nothing is lost, doubled or reordered
-----------------------------------------
The switch handles packets and packet-outs one after the other, every queue is first in first out, and packet-ins
arrive in order on one stream. So:

1. `suspend` returns after the write has been answered: a packet handled later is punted, not steered to the source.
2. `drain` waits for a MARKER sent after that, so it stands in the source port's queue behind every packet that was
   steered there. When the source echoes it, nothing of these flows is on its way, or unprocessed, any more.
3. `resume` first points the entries to the target and lifts the suspension (the target holds direct packets by then:
   the orchestrator's Commit came before). A LOOP marker sent after that write reaches the controller behind every
   punted packet. When it is back, the buffer is complete, and stays so.
4. The buffer is delivered, then END tells the target to go on with the packets that it held: those met the new entry,
   so they are all later than the buffered ones.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

from p4rt_controller.buffer import Room
from p4rt_controller.errors import UnknownReplica, WriteRejected
from p4rt_controller.events import ControllerEvent, Drained, Resumed
from p4rt_controller.handover import Handover
from p4rt_controller.moves import Move, MoveBook
from p4rt_controller.options import ControllerOptions
from p4rt_controller.restored import RestoredState
from p4rt_controller.rounds import idle
from p4rt_controller.scopes import checked_replica, checked_scope, owner_value, steer
from p4rt_controller.switch import Switch
from p4rt_controller.tables import Op, Steer, Table, Update
from p4rt_controller.writer import Row
from splitmerge.errors import BadInput
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope
from splitmerge.tag import TagKind

_logger = logging.getLogger(__name__)


class Controller(Switch):
    """One switch, as `Switch`, and whose its flows and buckets are.

    ``book``: moves and packets shared with the controllers of other switches (`p4rt_controller.fabric`).
    Every operation may raise `SwitchUnavailable`: call it again then.
    :raises BadInput: at construction, if the P4Info is not that of the P4 program of this release.
    """

    def __init__(
        self,
        options: ControllerOptions,
        events: Callable[[ControllerEvent], None],
        book: MoveBook | None = None,
    ) -> None:
        super().__init__(options, events, MoveBook.of(options) if book is None else book)
        self._handover = Handover(self._book, self)
        self._second: set[FlowKey] = set()

    # -- replicas and buckets ------------------------------------------------------------------------------

    async def register_replica(self, replica: int, port: int) -> None:
        """Packets for ``replica`` leave through ``port``, and what comes in there is its output. Idempotent.

        :raises BadInput: for a number or port out of range, or in use by a host or another replica.
        """
        checked_replica(self._desired, replica, port)
        self._desired.put(Table.REPLICA, replica, port)
        self._desired.put(Table.PORT_ROLE, port, replica)
        await self._sync([(Table.REPLICA, replica), (Table.PORT_ROLE, port)])

    async def unregister_replica(self, replica: int) -> None:
        """Nothing goes to ``replica`` or comes from its port any more. Idempotent."""
        desired = self._desired
        port = desired.port_of(replica)
        rows: list[Row] = [(Table.REPLICA, replica)]
        desired.remove(Table.REPLICA, replica)
        if port is not None and desired.get(Table.PORT_ROLE, port) == replica:
            desired.remove(Table.PORT_ROLE, port)
            rows.insert(0, (Table.PORT_ROLE, port))
        await self._sync(rows)

    def replicas(self) -> dict[int, int]:
        """Port of every registered replica."""
        rows = self._desired.items(Table.REPLICA)
        return {replica: port for replica, port in rows if isinstance(replica, int) and isinstance(port, int)}

    def check_registered(self, replica: int) -> None:
        """:raises UnknownReplica: unless this replica is behind a port of this switch."""
        self._port(replica)

    def _port(self, replica: int) -> int:
        port = self._desired.port_of(replica)
        if port is None:
            raise UnknownReplica(replica)
        return port

    async def set_buckets(self, owners: Mapping[int, int | None]) -> None:
        """Give buckets to replicas, or (None) to nobody: new flows of such a bucket are announced. Not a move.

        Packets that wait for a move of what a replica gets are dropped, and counted as expired.

        :raises BadInput: for a bucket out of range or one of a move under way. :raises UnknownReplica: for an owner.
        """
        desired = self._desired
        values = {bucket: owner_value(desired, bucket, owner) for bucket, owner in owners.items()}
        for bucket in values:
            move = self._book.owner_of_bucket(bucket)
            if move is not None:
                raise BadInput(f"bucket {bucket}", f"is being moved (epoch {move.epoch})", "wait for the move")
        for bucket, value in values.items():
            desired.put(Table.BUCKET, bucket, value)
        await self._sync([(Table.BUCKET, bucket) for bucket in values])
        dropped = self._book.forsake({bucket for bucket, owner in owners.items() if owner is not None})
        if dropped:
            _logger.warning("%d packets dropped: their flows got an owner without a move", dropped)

    def buckets(self) -> dict[int, int | None]:
        """Owner of every bucket that has an entry; None: the controller is asked."""
        rows = self._desired.items(Table.BUCKET)
        return {
            bucket: value.replica or None
            for bucket, value in rows
            if isinstance(bucket, int) and isinstance(value, Steer)
        }

    # -- flows without a move ------------------------------------------------------------------------------

    async def steer(self, keys: Mapping[bytes, int], second: Iterable[bytes]) -> None:
        """Give keys that nobody has had packets of entries that lead to these replicas, without a move.

        What is `waiting` for them goes on waiting, for the `resume` that takes them.
        ``second``: those of them that go with another key, so that moves of their bucket do not capture them.
        :raises BadInput: for a key of a move under way. :raises UnknownReplica: for an owner.
        :raises WriteRejected: if the switch refused entries (table full).
        """
        wanted = {FlowKey.from_wire(key): replica for key, replica in keys.items()}
        for key, replica in wanted.items():
            if self._desired.get(Table.REPLICA, replica) is None:
                raise UnknownReplica(replica)
            move = self._book.owner_of(key)
            if move is not None:
                raise BadInput(f"flow {key}", f"is being moved (epoch {move.epoch})", "wait for the move")
        for key, replica in wanted.items():
            self._desired.put(Table.FLOW, key, Steer(replica))
        self._second.update(map(FlowKey.from_wire, second))
        await self._sync([(Table.FLOW, key) for key in wanted])

    def waiting(self, keys: Iterable[bytes]) -> list[bytes]:
        """Those of these flows whose packets wait here, while no move has them: `resume` delivers, `steer` does not."""
        return [bytes(key) for key in self._book.waiting(map(FlowKey.from_wire, keys))]

    def keep_for(self, awaited: Callable[[Iterable[bytes]], Collection[bytes]]) -> None:
        """Ask this which flows a move that has not begun is to take: what is `waiting` for those does not expire.

        It is asked of what has waited for half of ``orphan_seconds``, whose time begins anew then.
        """
        self._book.awaited = awaited

    async def reserve(self, keys: Iterable[bytes], replica: int) -> None:
        """Entries for flows whose packets go to ``replica`` already; those that have one keep it. Idempotent.

        :raises WriteRejected: if the switch refused some (table full): then none of them has got one.
        """
        fresh = self.without_entry(keys)
        self._desired.apply(Update(Op.INSERT, Table.FLOW, key, Steer(replica)) for key in fresh)
        try:
            await self._sync([(Table.FLOW, key) for key in fresh])
        except WriteRejected:
            await self.forget(fresh)
            raise

    def without_entry(self, keys: Iterable[bytes]) -> list[FlowKey]:
        """Those of these flows that have no entry of their own."""
        return [key for key in map(FlowKey.from_wire, keys) if self._desired.flow(key) is None]

    async def forget(self, keys: Iterable[bytes]) -> int:
        """Delete flow entries; those of moves under way stay. The number deleted.

        The caller has made sure that each flow's bucket leads to the same replica, or that the flow has ended.
        """
        rows: list[Row] = []
        for key in map(FlowKey.from_wire, keys):
            if self._book.owner_of(key) is None and self._desired.flow(key) is not None:
                self._desired.remove(Table.FLOW, key)
                self._second.discard(key)
                self._book.joined(key)
                rows.append((Table.FLOW, key))
        await self._sync(rows)
        return len(rows)

    # -- a move --------------------------------------------------------------------------------------------

    async def suspend(
        self, epoch: int, scope: Scope, source: int, room: Room | None = None, *, mark: bool = False
    ) -> None:
        """From the return on, no packet of the scope reaches ``source``; they are buffered here for this epoch.

        Idempotent; the same epoch may be widened. ``room``: less than what the options allow each move. ``mark``: send
        the source its marker as soon as the switch has answered; `drain` of this epoch waits for that one.
        :raises ScopeConflict: if a part is in another move.
        :raises StaleEpoch: after `resume` of this epoch. :raises UnknownReplica: for the source.
        :raises WriteRejected: if the switch refused entries (table full): `resume` to the source undoes the rest.
        """
        await self._handover.suspend(epoch, scope, source, room, mark=mark)

    async def redirect(self, epoch: int, scope: Scope, source: int, target: int, *, mark: bool = False) -> None:
        """From the return on, no packet of the scope reaches ``source``: they go to ``target``, and are not suspended.

        Nothing is buffered here. Idempotent. If it fails, where packets go is not known until the same call succeeds,
        or `suspend` of this epoch, which also takes the flow entries that the buckets brought along. ``mark``: as
        `suspend`'s.
        :raises ScopeConflict: if a part is in a move here. :raises UnknownReplica: for the target.
        :raises WriteRejected: if the switch refused entries (table full): those stay as they were, the others are made.
        """
        await self._handover.redirect(epoch, scope, source, target, mark=mark)

    async def drain(self, epoch: int, replica: int, busy: Callable[[], bool] = idle) -> Drained:
        """Return when ``replica`` has processed everything that the switch sent it before this call, or before the
        answer to the last `suspend` or `redirect` of this epoch, if that sent the marker (``mark``).

        ``busy``: asked each time ``marker_deadline`` is over; while it says that the replica works, it is waited for.
        :raises Timeout: after ``marker_deadline``. :raises UnknownReplica: if it is not registered.
        """
        checked_scope(epoch, Scope())
        port = self._port(replica)
        await self.wait_ready()
        started = self._now()
        rounds = await self._traffic.markers.round_trip(TagKind.MARKER, epoch, replica, port, busy=busy)
        return Drained(rounds, self._now() - started)

    async def resume(
        self,
        epoch: int,
        scope: Scope,
        target: int,
        *,
        ordered: bool = True,
        new: bool = False,
        busy: Callable[[], bool] = idle,
    ) -> Resumed:
        """Send the scope to ``target``, which holds its direct packets; deliver the buffered ones; END them.

        Unless ``ordered`` the target holds nothing, and delivery begins at once: END still follows the last packet.
        Without a `suspend` before (new flows; a predecessor's move) it takes the packets that wait for these flows.
        Called again after an error it continues; with another target it delivers there what is left.
        ``busy``: as `drain`'s, where a marker goes ahead because the target may have had numbers of this epoch before.
        ``new``: nobody has had these flows. Those whose entries the switch refuses are left out, and their packets are
        dropped and counted (`Resumed.refused`): the others are delivered. The next packet is a new flow's again.
        :raises ScopeConflict: if a part is in another move. :raises UnknownReplica: for the target.
        :raises Timeout: if a LOOP marker is not back in ``marker_deadline``, or the target does not acknowledge for
            ``relay_deadline``. :raises WriteRejected: if the switch refused entries of flows that are not new.
        """
        return await self._handover.resume(epoch, scope, target, ordered=ordered, new=new, busy=busy)

    def abandon(self, epoch: int) -> int:
        """Forget a move that is over; the entries stay as they are. The number of packets thrown away, and counted.

        Packets that no replica was sent yet are kept for the move that takes their flows next, as long as orphans are.
        """
        return self._handover.abandon(epoch)

    # -- parts of a move (`handover.Switches`) -------------------------------------------------------------

    def entries(self, epoch: int, buckets: Iterable[int], wanted: Callable[[Steer], bool]) -> set[FlowKey]:
        """Flows of these buckets with entries of their own that no other move has and that ``wanted`` takes.

        Second keys are none of theirs.
        """
        desired, owner = self._desired, self._book.owner_of
        flows = (key for bucket in buckets for key in desired.flows_of_bucket(bucket) - self._second)
        free = (key for key in flows if (move := owner(key)) is None or move.epoch == epoch)
        return {key for key in free if (value := desired.flow(key)) is not None and wanted(value)}

    def left_suspended(self, epoch: int, buckets: Iterable[int]) -> set[FlowKey]:
        """Flows that a predecessor has suspended together with these buckets, and that no other move has.

        One whose entry names another replica than its bucket's is none of them: a move of it has ended so, since its
        replica had, and another move is to take it.
        """
        desired = self._desired
        suspended = self.entries(epoch, buckets, lambda steer: steer.suspended)
        return {key for key in suspended if desired.flow(key) == desired.bucket(key.bucket)}

    def apart(self, buckets: Iterable[int]) -> set[FlowKey]:
        """All flows of these buckets that have entries of their own, whoever has them."""
        return {key for bucket in buckets for key in self._desired.flows_of_bucket(bucket)}

    def point(self, keys: Collection[FlowKey], buckets: Collection[int], value: Steer) -> Awaitable[None]:
        """Change the desired entries of a scope at once; the switch has them when what is returned has been awaited.

        :raises SwitchUnavailable, WriteRejected: as `suspend`.
        """
        return self._sync(steer(self._desired, keys, buckets, value))

    def mark(self, epoch: int, replica: int) -> None:
        """Send the marker that the next `drain` of this epoch and replica waits for. Else `drain` sends it."""
        port = self._desired.port_of(replica)
        if port is not None:
            self._traffic.markers.mark(epoch, replica, port)

    def unmark(self, epoch: int) -> None:
        """Its markers, if they have been sent, are not to be waited for."""
        self._traffic.markers.unmark(epoch)

    async def loop(self, epoch: int) -> int:
        """Return when every packet that the switch has punted so far is here; rounds. :raises Timeout: …"""
        await self.wait_ready()
        return await self._traffic.markers.round_trip(TagKind.LOOP, epoch, 0, self._options.cpu_port)

    async def deliver(
        self, move: Move, target: int, seal: Callable[[], Awaitable[None]] | None, busy: Callable[[], bool] = idle
    ) -> None:
        """Deliver a move's packets, and END, to a replica behind this switch, as `Traffic.deliver`."""
        port = self._port(target)
        await self.wait_ready()
        await self._traffic.deliver(move, target, port, seal, busy)

    # -- recovery ------------------------------------------------------------------------------------------

    def restore(self, state: RestoredState) -> None:
        """Take over a predecessor's state. Before the first connection it takes effect with it, else at `reconcile`.

        :raises BadInput: for replicas, ports, buckets or keys out of range.
        """
        self._adopt = state.fill(self._desired)
        self._second.update(map(FlowKey.from_wire, state.second))
        self._book.inherited_epoch = max(self._book.inherited_epoch, state.newest_epoch)
