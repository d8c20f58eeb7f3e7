"""One switch, kept as it should be: connection, pipeline and tables, and the way of packets to and from it.

Desired rows change first, then the switch. What could not be written then is written when the switch is
prepared again, which it is whenever mastership has been won.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from p4rt_controller import preparation
from p4rt_controller.errors import SwitchUnavailable
from p4rt_controller.events import (
    BufferFull,
    ControllerEvent,
    ControllerStats,
    DropCounts,
    FlowEntry,
    FlowIdle,
    NewFlow,
    PacketFigures,
    SwitchLost,
    SwitchReady,
    SwitchState,
)
from p4rt_controller.frames import FrameCodec
from p4rt_controller.intake import Intake
from p4rt_controller.link import Link
from p4rt_controller.moves import MoveBook
from p4rt_controller.options import ControllerOptions, PuntPort
from p4rt_controller.packets import PacketCodec
from p4rt_controller.path import StreamPath
from p4rt_controller.punt import PuntCounts, PuntPath
from p4rt_controller.schema import Pipeline
from p4rt_controller.session import Session
from p4rt_controller.tables import Table
from p4rt_controller.traffic import Traffic
from p4rt_controller.writer import Changes, Row, TableWriter
from splitmerge.flowkey import FlowKey

_logger = logging.getLogger(__name__)


class Switch:
    """``async with`` connects in the background; operations wait for the switch up to ``ready_deadline``.

    ``book``: what packets are kept for. ``events`` is called from the event loop and must not block.
    :raises BadInput: at construction, if the P4Info is not that of the P4 program of this release.
    """

    def __init__(self, options: ControllerOptions, events: Callable[[ControllerEvent], None], book: MoveBook) -> None:
        self._options = options
        self._events = events
        self._pipeline = Pipeline(options.p4info, options.p4blob, idle_seconds=options.flow_idle_seconds)
        self._book = book
        self._codec = PacketCodec(self._pipeline.schema)
        self._traffic = Traffic(options, self._book, self._announce, self._buffer_full)
        self._punt = None if options.punt is None else self._punt_path(options.punt)
        self._writer = TableWriter(self._pipeline, options.device_id, options.batch)
        self._desired = self._writer.desired
        self._session = Session(options, self)
        self._adopt: frozenset[Table] = frozenset()
        self._ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._loads = self._restarts = 0
        self._prepared = False
        preparation.fill(self._desired, options)

    def _punt_path(self, port: PuntPort) -> PuntPath:
        codec, traffic = FrameCodec(self._pipeline.schema), self._traffic
        intake = Intake(codec, self._book, traffic.handle, traffic.appended)
        return PuntPath(port, codec, intake, traffic.took, traffic.fail)

    # -- life ----------------------------------------------------------------------------------------------

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

    # -- tables --------------------------------------------------------------------------------------------

    async def reconcile(self) -> Changes:
        """Read the switch's tables and make them what they should be; what differed."""
        await self.wait_ready()
        changes = await self._writer.reconcile(adopt=self._adopt)
        self._adopt = frozenset()
        return changes

    async def _sync(self, rows: Iterable[Row]) -> None:
        await self.wait_ready()
        await self._writer.sync(rows)

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

    async def _link(self) -> Link:
        await self.wait_ready()
        link = self._session.link
        if link is None:
            raise SwitchUnavailable("read", "not connected")
        return link

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
            flows=self._desired.count(Table.FLOW),
            replicas=self._desired.count(Table.REPLICA),
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
            dropped_abandoned=book.dropped_abandoned,
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

    # -- events --------------------------------------------------------------------------------------------

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
            now, seconds = self._now(), self._options.orphan_seconds
            self._book.renew(now - seconds / 2, now)
            expired = self._book.expire(now - seconds)
            for key in self._book.unassigned(now - seconds / 2):
                self._announce(key)  # whoever was to hear it the first time may have had no room for it
            if expired:
                _logger.warning("packets of %d flows expired; nobody took them", len(expired))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
