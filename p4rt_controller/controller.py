"""The controller: programs one switch, suspends, drains and resumes flows, and keeps their packets meanwhile.

Why nothing is lost, doubled or reordered
-----------------------------------------
The switch handles packets and packet-outs one after the other, every queue is first in first out, and packet-ins
arrive in order on one stream. So:

1. `suspend` returns after the write has been answered: a packet handled later is punted, not steered to the source.
2. `drain` sends MARKER after that, so it stands in the source port's queue behind every packet that was steered there.
   When the source echoes it, nothing of these flows is on its way, or unprocessed, any more.
3. `resume` first points the entries to the target and lifts the suspension (the target holds direct packets by then:
   the orchestrator's Commit came before). A LOOP marker sent after that write reaches the controller behind every
   punted packet. When it is back, the buffer is complete, and stays so.
4. The buffer is delivered, then END tells the target to go on with the packets that it held: those met the new entry,
   so they are all later than the buffered ones.

Desired rows change first, then the switch. Whatever fails in between leaves the desired state right; the next
reconciliation, or the same call again, brings the switch to it. Every operation is idempotent per epoch.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from p4rt_controller import preparation
from p4rt_controller.buffer import Room
from p4rt_controller.errors import StaleEpoch, SwitchUnavailable, UnknownReplica, WriteRejected
from p4rt_controller.events import (
    BufferFull,
    ControllerEvent,
    ControllerStats,
    Drained,
    DropCounts,
    FlowEntry,
    FlowIdle,
    NewFlow,
    PacketFigures,
    Resumed,
    SwitchLost,
    SwitchReady,
    SwitchState,
)
from p4rt_controller.exclusive import Exclusive
from p4rt_controller.frames import FrameCodec
from p4rt_controller.intake import Intake
from p4rt_controller.link import Link
from p4rt_controller.moves import Move, MoveBook
from p4rt_controller.options import ControllerOptions, PuntPort
from p4rt_controller.packets import PacketCodec
from p4rt_controller.path import StreamPath
from p4rt_controller.punt import PuntCounts, PuntPath
from p4rt_controller.restored import RestoredState
from p4rt_controller.rounds import idle
from p4rt_controller.schema import Pipeline
from p4rt_controller.scopes import checked_replica, checked_scope, owner_value, steer
from p4rt_controller.session import Session
from p4rt_controller.tables import Op, Steer, Table, Update
from p4rt_controller.traffic import Traffic
from p4rt_controller.writer import Changes, Row, TableWriter
from splitmerge.errors import BadInput
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope
from splitmerge.tag import TagKind

_logger = logging.getLogger(__name__)
_FINISHED_KEPT = 4096
"""Results of finished moves that are kept to answer the same call again."""


class Controller:
    """One switch. ``async with`` connects in the background; operations wait for the switch up to ``ready_deadline``.

    ``book``: moves and packets shared with the controllers of other switches (`p4rt_controller.fabric`).
    ``events`` is called from the event loop and must not block. Every operation may raise `SwitchUnavailable`: call it
    again then. :raises BadInput: at construction, if the P4Info is not that of the P4 program of this release.
    """

    def __init__(
        self,
        options: ControllerOptions,
        events: Callable[[ControllerEvent], None],
        book: MoveBook | None = None,
    ) -> None:
        self._options = options
        self._events = events
        self._pipeline = Pipeline(options.p4info, options.p4blob, idle_seconds=options.flow_idle_seconds)
        self._book = MoveBook.of(options) if book is None else book
        self._codec = PacketCodec(self._pipeline.schema)
        self._traffic = Traffic(options, self._book, self._announce, self._buffer_full)
        self._punt = None if options.punt is None else self._punt_path(options.punt)
        self._writer = TableWriter(self._pipeline, options.device_id, options.batch)
        self._session = Session(options, self)
        self._adopt: frozenset[Table] = frozenset()
        self._ready = asyncio.Event()
        self._finished: OrderedDict[int, Resumed] = OrderedDict()
        self._redirected: OrderedDict[int, set[FlowKey]] = OrderedDict()
        self._exclusive = Exclusive(lambda epoch: self._book.get(epoch) is not None)
        self._tasks: list[asyncio.Task[None]] = []
        self._abandoned = 0
        self._loads = self._restarts = 0
        self._prepared = False
        self._second: set[FlowKey] = set()
        preparation.fill(self._writer.desired, options)

    def _punt_path(self, port: PuntPort) -> PuntPath:
        codec, traffic = FrameCodec(self._pipeline.schema), self._traffic
        intake = Intake(codec, self._book, traffic.handle, traffic.appended)
        return PuntPath(port, codec, intake, traffic.took, traffic.fail)

    async def __aenter__(self) -> Self:
        """:raises BadInput: if the punt port's interface cannot be opened."""
        if self._punt is not None:
            self._punt.open()
        self._session.ending = False
        self._tasks = [
            asyncio.create_task(self._session.run(), name="p4rt:session"),
            asyncio.create_task(self._expire(), name="p4rt:expire"),
        ]
        if self._punt is not None:
            self._tasks.append(asyncio.create_task(self._punt.run(), name="p4rt:punt"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Disconnect; operations under way end with `SwitchUnavailable`. The switch keeps its tables."""
        self._session.ending = True
        self._traffic.detach("the controller closes")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._punt is not None:
            self._punt.close()

    async def wait_ready(self, seconds: float | None = None) -> None:
        """Return when the switch holds the desired tables. :raises SwitchUnavailable: if it does not in time."""
        if self._ready.is_set():
            return
        deadline = self._options.ready_deadline if seconds is None else seconds
        try:
            async with asyncio.timeout(deadline):
                await self._ready.wait()
        except TimeoutError:
            reason = self._session.last_error or f"not ready within {deadline:g} s"
            raise SwitchUnavailable(f"switch {self._options.address}", reason) from None

    # -- replicas and buckets ------------------------------------------------------------------------------

    async def register_replica(self, replica: int, port: int) -> None:
        """Packets for ``replica`` leave through ``port``, and what comes in there is its output. Idempotent.

        :raises BadInput: for a number or port out of range, or in use by a host or another replica.
        """
        checked_replica(self._writer.desired, replica, port)
        self._writer.desired.put(Table.REPLICA, replica, port)
        self._writer.desired.put(Table.PORT_ROLE, port, replica)
        await self._sync([(Table.REPLICA, replica), (Table.PORT_ROLE, port)])

    async def unregister_replica(self, replica: int) -> None:
        """Nothing goes to ``replica`` or comes from its port any more. Idempotent."""
        desired = self._writer.desired
        port = desired.port_of(replica)
        rows: list[Row] = [(Table.REPLICA, replica)]
        desired.remove(Table.REPLICA, replica)
        if port is not None and desired.get(Table.PORT_ROLE, port) == replica:
            desired.remove(Table.PORT_ROLE, port)
            rows.insert(0, (Table.PORT_ROLE, port))
        await self._sync(rows)

    async def set_buckets(self, owners: Mapping[int, int | None]) -> None:
        """Give buckets to replicas, or (None) to nobody: new flows of such a bucket are announced. Not a move.

        Packets that wait for a move of what a replica gets are dropped, and counted as expired.

        :raises BadInput: for a bucket out of range or one of a move under way. :raises UnknownReplica: for an owner.
        """
        desired = self._writer.desired
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
        rows = self._writer.desired.items(Table.BUCKET)
        return {
            bucket: value.replica or None
            for bucket, value in rows
            if isinstance(bucket, int) and isinstance(value, Steer)
        }

    def replicas(self) -> dict[int, int]:
        """Port of every registered replica."""
        rows = self._writer.desired.items(Table.REPLICA)
        return {replica: port for replica, port in rows if isinstance(replica, int) and isinstance(port, int)}

    # -- a move --------------------------------------------------------------------------------------------

    async def suspend(self, epoch: int, scope: Scope, source: int, room: Room | None = None) -> None:
        """From the return on, no packet of the scope reaches ``source``; they are buffered here for this epoch.

        Idempotent; the same epoch may be widened. ``room``: less than what the options allow each move.
        :raises ScopeConflict: if a part is in another move.
        :raises StaleEpoch: after `resume` of this epoch. :raises UnknownReplica: for the source.
        :raises WriteRejected: if the switch refused entries (table full): `resume` to the source undoes the rest.
        """
        keys, buckets = checked_scope(epoch, scope)
        if epoch in self._finished:
            raise StaleEpoch(epoch)
        desired = self._writer.desired
        if desired.port_of(source) is None:
            raise UnknownReplica(source)
        async with self._exclusive.of(epoch):
            captured = [key for key in self._flows_in(epoch, buckets) if desired.flow(key) == Steer(source)]
            captured += self._redirected.get(epoch, ())
            move = self._book.open(epoch, keys, buckets, captured, self._now(), room)
            value = Steer(source, suspended=True)
            await self._sync(self._steer(move.keys, move.buckets, value))

    async def redirect(self, epoch: int, scope: Scope, source: int, target: int) -> None:
        """From the return on, no packet of the scope reaches ``source``: they go to ``target``, and are not suspended.

        Nothing is buffered here. Idempotent. If it fails, where packets go is not known until the same call succeeds,
        or `suspend` of this epoch, which also takes the flow entries that the buckets brought along.
        :raises ScopeConflict: if a part is in a move here. :raises UnknownReplica: for the target.
        :raises WriteRejected: if the switch refused entries (table full): those stay as they were, the others are made.
        """
        keys, buckets = checked_scope(epoch, scope)
        self._port(target)
        async with self._exclusive.of(epoch):
            desired = self._writer.desired
            brought = [key for key in self._flows_in(epoch, buckets) if desired.flow(key) == Steer(source)]
            self._book.check_free(epoch, keys.union(brought), buckets)
            captured = self._redirected.setdefault(epoch, set())
            captured.update(brought)
            if len(self._redirected) > _FINISHED_KEPT:
                self._redirected.popitem(last=False)
            await self._sync(self._steer(keys | captured, buckets, Steer(target)))

    async def drain(self, epoch: int, replica: int, busy: Callable[[], bool] = idle) -> Drained:
        """Return when ``replica`` has processed everything that the switch sent it before this call.

        ``busy``: asked each time ``marker_deadline`` is over; while it says that the replica works, it is waited for.
        :raises Timeout: after ``marker_deadline``. :raises UnknownReplica: if it is not registered.
        """
        checked_scope(epoch, Scope())
        port = self._port(replica)
        await self.wait_ready()
        started = self._now()
        rounds = await self._traffic.round_trip(TagKind.MARKER, epoch, replica, port, busy=busy)
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
        keys, buckets = checked_scope(epoch, scope)
        port = self._port(target)
        async with self._exclusive.of(epoch):
            done = self._finished.get(epoch)
            if done is not None and done.target == target:
                return done
            started = self._now()
            captured = [key for key in self._flows_in(epoch, buckets) if self._is_suspended(key)]
            move = self._book.open(epoch, keys, buckets, captured, started)
            refusal = ""
            try:
                await self._sync(self._steer(move.keys, move.buckets, Steer(target)))
            except WriteRejected as error:
                if not new:
                    raise
                refusal = str(error)
                self._book.leave_out(move, error.flows)
            await self.wait_ready()
            rounds = await self._deliver(move, target, port, busy, at_once=not ordered)
            return self._finish(move, rounds, started, tuple(map(bytes, keys - move.keys)), refusal)

    async def _deliver(self, move: Move, target: int, port: int, busy: Callable[[], bool], *, at_once: bool) -> int:
        """Collect the packets still on their way here, and deliver all; LOOP markers sent."""
        rounds = 0

        async def seal() -> None:
            nonlocal rounds
            rounds = await self._traffic.round_trip(TagKind.LOOP, move.epoch, 0, self._options.cpu_port)
            self._book.seal(move)

        if not at_once:
            await seal()
        await self._traffic.deliver(move, target, port, seal if at_once else None, busy)
        return rounds

    def _finish(
        self, move: Move, rounds: int, started: float, refused: tuple[bytes, ...] = (), refusal: str = ""
    ) -> Resumed:
        resumed = move.resumed(rounds, started, self._now(), refused, refusal)
        self._book.close(move)
        self._finished[move.epoch] = resumed
        if len(self._finished) > _FINISHED_KEPT:
            self._finished.popitem(last=False)
        return resumed

    def abandon(self, epoch: int) -> int:
        """Forget a move that is over; the entries stay as they are. The number of packets thrown away, and counted.

        Packets that no replica was sent yet are kept for the move that takes their flows next, as long as orphans are.
        """
        self._redirected.pop(epoch, None)
        move = self._book.get(epoch)
        if move is None:
            return 0
        kept, lost = self._book.abandon(move, self._now())
        self._abandoned += lost
        _logger.warning("move %d abandoned: %d packets wait for the next, %d are lost", epoch, kept, lost)
        return lost

    async def steer(self, keys: Mapping[bytes, int], second: Iterable[bytes]) -> None:
        """Give keys that nobody has had packets of entries that lead to these replicas, without a move.

        ``second``: those of them that go with another key, so that moves of their bucket do not capture them.
        :raises BadInput: for a key of a move under way. :raises UnknownReplica: for an owner.
        :raises WriteRejected: if the switch refused entries (table full).
        """
        wanted = {FlowKey.from_wire(key): replica for key, replica in keys.items()}
        for key, replica in wanted.items():
            if self._writer.desired.get(Table.REPLICA, replica) is None:
                raise UnknownReplica(replica)
            move = self._book.owner_of(key)
            if move is not None:
                raise BadInput(f"flow {key}", f"is being moved (epoch {move.epoch})", "wait for the move")
        for key, replica in wanted.items():
            self._writer.desired.put(Table.FLOW, key, Steer(replica))
        self._second.update(map(FlowKey.from_wire, second))
        await self._sync([(Table.FLOW, key) for key in wanted])

    async def reserve(self, keys: Iterable[bytes], replica: int) -> None:
        """Entries for flows whose packets go to ``replica`` already; those that have one keep it. Idempotent.

        :raises WriteRejected: if the switch refused some (table full): then none of them has got one.
        """
        fresh = self.without_entry(keys)
        self._writer.desired.apply(Update(Op.INSERT, Table.FLOW, key, Steer(replica)) for key in fresh)
        try:
            await self._sync([(Table.FLOW, key) for key in fresh])
        except WriteRejected:
            await self.forget(fresh)
            raise

    def without_entry(self, keys: Iterable[bytes]) -> list[FlowKey]:
        """Those of these flows that have no entry of their own."""
        return [key for key in map(FlowKey.from_wire, keys) if self._writer.desired.flow(key) is None]

    async def forget(self, keys: Iterable[bytes]) -> int:
        """Delete flow entries; those of moves under way stay. The number deleted.

        The caller has made sure that each flow's bucket leads to the same replica, or that the flow has ended.
        """
        rows: list[Row] = []
        for key in map(FlowKey.from_wire, keys):
            if self._book.owner_of(key) is None and self._writer.desired.flow(key) is not None:
                self._writer.desired.remove(Table.FLOW, key)
                self._second.discard(key)
                rows.append((Table.FLOW, key))
        await self._sync(rows)
        return len(rows)

    def _flows_in(self, epoch: int, buckets: Iterable[int]) -> list[FlowKey]:
        """Flows with entries of their own in these buckets that no other move has; second keys are none of theirs."""
        flows = (key for bucket in buckets for key in self._writer.desired.flows_of_bucket(bucket) - self._second)
        return [key for key in flows if (move := self._book.owner_of(key)) is None or move.epoch == epoch]

    def _is_suspended(self, key: FlowKey) -> bool:
        steer = self._writer.desired.flow(key)
        return steer is not None and steer.suspended

    def _steer(self, keys: Iterable[FlowKey], buckets: Iterable[int], value: Steer) -> list[Row]:
        return steer(self._writer.desired, keys, buckets, value)

    # -- what there is -------------------------------------------------------------------------------------

    async def flows(self) -> list[FlowEntry]:
        """The flows with entries of their own, with counters read from the switch. :raises SwitchUnavailable: …"""
        link = await self._link()
        entries: list[FlowEntry] = []
        async for entities in link.read(self._pipeline.read_flows(self._options.device_id)):
            entries += [
                FlowEntry(flow.key, flow.steer.replica, flow.steer.suspended, flow.packets, flow.bytes)
                for flow in self._pipeline.flow_counts(entities)
            ]
            await asyncio.sleep(0)
        return entries

    async def flow_packets(self) -> dict[bytes, int]:
        """Packets that each flow's own entry has matched. :raises SwitchUnavailable: …"""
        return {flow.key: flow.packets for flow in await self.flows()}

    async def drop_counts(self) -> DropCounts:
        """Packets that the P4 program dropped, by reason. :raises SwitchUnavailable: …"""
        link = await self._link()
        loads = self._loads  # another load breaks this link
        return DropCounts(loads, await preparation.read_drops(link, self._pipeline, self._options.device_id))

    async def switch_drops(self) -> dict[str, DropCounts]:
        """The same, by the switch's name; empty while it is away. :raises SwitchUnavailable: if it goes meanwhile."""
        return {"switch": await self.drop_counts()} if self._ready.is_set() else {}

    def state(self) -> SwitchState:
        """How the switch is."""
        session = self._session
        return SwitchState(
            self._ready.is_set(), self._options.address, session.connections, session.last_error, self._restarts
        )

    def switches(self) -> dict[str, SwitchState]:
        """The one switch, by a name."""
        return {"switch": self.state()}

    def packet_figures(self) -> PacketFigures:
        """What became of the packets that came here."""
        return PacketFigures.of([self.stats()])

    def stats(self) -> ControllerStats:
        """Counts since the start, and the state now."""
        book, counts, session = self._book, self._traffic.counts, self._session
        lost = PuntCounts() if self._punt is None else self._punt.counts()
        return ControllerStats(
            ready=self._ready.is_set(),
            primary=session.primary,
            election_id=session.election_id,
            connections=session.connections,
            last_error=session.last_error,
            moves=len(book.moves()),
            flows=self._writer.desired.count(Table.FLOW),
            replicas=self._writer.desired.count(Table.REPLICA),
            packet_ins=counts.packet_ins,
            suspended_packets=counts.suspended,
            new_flow_packets=counts.new_flow,
            marker_echoes=counts.echoes,
            relay_acks=counts.acks,
            loops=counts.loops,
            strange_packets=counts.strange,
            stream_errors=session.stream_errors,
            packet_outs=counts.packet_outs,
            buffered_packets=book.held.budget.packets,
            buffered_bytes=book.held.budget.bytes,
            buffered_peak=book.held.budget.peak_packets,
            new_flows_waiting=len(book.new_flows),
            orphan_packets=book.orphans.budget.packets,
            dropped_buffer_full=book.held.budget.dropped,
            dropped_new_flows=book.new_flows.budget.dropped,
            dropped_orphans=book.orphans.budget.dropped,
            dropped_expired=book.new_flows.budget.expired + book.orphans.budget.expired,
            dropped_table_full=book.dropped_table_full,
            dropped_abandoned=self._abandoned,
            updates_written=self._writer.written,
            updates_repaired=self._writer.repaired,
            updates_refused=self._writer.refused,
            relayed=counts.relayed,
            retransmitted=counts.retransmitted,
            packet_path="packet-in" if self._punt is None else "ethernet",
            dropped_punt_ring=lost.ring,
            dropped_punt_link=lost.link,
            dropped_punt_truncated=lost.truncated,
            packet_outs_refused=lost.refused,
        )

    # -- recovery ------------------------------------------------------------------------------------------

    def restore(self, state: RestoredState) -> None:
        """Take over a predecessor's state. Before the first connection it takes effect with it, else at `reconcile`.

        :raises BadInput: for replicas, ports, buckets or keys out of range.
        """
        self._adopt = state.fill(self._writer.desired)
        self._second.update(map(FlowKey.from_wire, state.second))
        self._book.inherited_epoch = max(self._book.inherited_epoch, state.newest_epoch)

    async def reconcile(self) -> Changes:
        """Read the switch's tables and make them what they should be; what differed."""
        await self.wait_ready()
        changes = await self._writer.reconcile(adopt=self._adopt)
        self._adopt = frozenset()
        return changes

    # -- for the session -----------------------------------------------------------------------------------

    async def prepare(self, link: Link) -> None:
        """`SessionOwner`: put everything right on a switch that we just became primary of."""
        loaded = await preparation.load_pipeline(link, self._pipeline, self._options)
        self._loads += loaded
        self._restarts += loaded and self._prepared
        self._prepared = True
        await preparation.ensure_clone_session(link, self._pipeline, self._options)
        self._writer.attach(link)
        changes = await self._writer.reconcile(adopt=frozenset() if loaded else self._adopt)
        self._adopt = frozenset()
        self._traffic.attach(StreamPath(link, self._codec) if self._punt is None else self._punt)
        self._ready.set()
        self._emit(SwitchReady(loaded, changes.inserted, changes.modified, changes.deleted))

    def lost(self, reason: str) -> None:
        """`SessionOwner`: no connection, or no mastership."""
        self._writer.detach()
        self._traffic.detach(reason)
        if self._ready.is_set():
            self._ready.clear()
            self._emit(SwitchLost(reason))

    async def check(self, link: Link) -> None:
        """`SessionOwner`: is our pipeline still there?"""
        if await link.cookie() != self._pipeline.schema.p4cookie:
            raise SwitchUnavailable("pipeline", "was replaced")

    def packet(self, packet: Any) -> None:
        """`SessionOwner`: a packet-in."""
        self._traffic.handle(self._codec.decode(packet))

    def idle(self, notification: Any) -> None:
        """`SessionOwner`: idle flows."""
        for key in self._pipeline.idle_flows(notification):
            self._emit(FlowIdle(key))

    # -- inside --------------------------------------------------------------------------------------------

    async def _sync(self, rows: Iterable[Row]) -> None:
        await self.wait_ready()
        await self._writer.sync(rows)

    async def _link(self) -> Link:
        await self.wait_ready()
        link = self._session.link
        if link is None:
            raise SwitchUnavailable("read", "not connected")
        return link

    def _port(self, replica: int) -> int:
        port = self._writer.desired.port_of(replica)
        if port is None:
            raise UnknownReplica(replica)
        return port

    def _announce(self, key: FlowKey) -> None:
        self._emit(NewFlow(key))

    def _buffer_full(self, epoch: int) -> None:
        self._emit(BufferFull(epoch))

    def _emit(self, event: ControllerEvent) -> None:
        try:
            self._events(event)
        except Exception:  # the listener's fault must not end the session
            _logger.exception("the listener failed at %s", event)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(self._options.orphan_seconds / 4)
            expired = self._book.expire(self._now() - self._options.orphan_seconds)
            if expired:
                _logger.warning("packets of %d flows expired; nobody took them", len(expired))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
