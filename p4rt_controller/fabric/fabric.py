"""Several switches as one network: hosts at some, replicas at any, trunks between them.

Who decides
-----------
A packet is steered once, where it comes in from a host: only these switches, the *edges*, have flow and bucket entries.
The edge pushes a tag that names the replica; the switches behind follow the tag. What replicas send is forwarded by
destination. Both ways are shortest-path trees (`Graph`), which do not change while flows move: so no packet can go in
circles, whatever state a move is in, and there is nothing to update in the interior.

Why nothing is lost, doubled or reordered
-----------------------------------------
The proof for one switch (`p4rt_controller.controller`) holds for each edge with its packets, and each direction of a
flow comes in at one edge. What is new:

1. `suspend` returns when all edges have answered. Entries change at one edge after the other; meanwhile one direction
   is punted and the other still steered to the source: no packet is in two places, and the source still processes.
2. `drain` sends a MARKER from every edge. It has the tag that data has, so it goes through the same queues of the same
   trunks, and reaches the source behind all that this edge steered there. When all are echoed, the source has met
   everything; then it gets the one MARKER that has the move's epoch, from its own switch. Its output may still be on
   trunks, where the target's, coming another way, would overtake it: so a FENCE goes from the source's switch to every
   other edge, behind the last output, and drain ends only when all have met it.
3. `resume` points the entries of all edges to the target, then sends LOOP at every edge. When all are back the one
   buffer that all edges share is complete; it is in order of arrival, so each direction is in order.
   `redirect` writes the same without the suspend bit; the target keeps what comes, and processes none of it.
4. The buffer is delivered through the target's own switch, numbered, then END. Packets that met new entries at some
   edge while another was still suspended are held by the target, as direct packets always are.

A switch that restarts forwards nothing until its own controller has given it its tables again.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from types import TracebackType
from typing import Self

from p4rt_controller.buffer import Room
from p4rt_controller.errors import UnknownReplica, WriteRejected
from p4rt_controller.events import (
    ControllerEvent,
    Drained,
    DropCounts,
    FlowEntry,
    PacketFigures,
    Resumed,
    SwitchLost,
    SwitchReady,
    SwitchState,
)
from p4rt_controller.fabric.member import Member, together
from p4rt_controller.fabric.options import FabricOptions
from p4rt_controller.handover import Handover
from p4rt_controller.moves import Move, MoveBook
from p4rt_controller.restored import RestoredState
from p4rt_controller.rounds import idle
from p4rt_controller.scopes import checked_scope
from p4rt_controller.tables import Steer
from splitmerge.errors import BadInput
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope
from splitmerge.trunks import split_place

PROBE = 0
"""Epoch of markers that only say how far the packets of one edge have come."""


class Fabric:
    """``async with`` connects to every switch in the background. The operations are those of `Controller`.

    ``events``: `SwitchLost` when the first switch goes, `SwitchReady` when all are there again. Ports of replicas are
    places (`splitmerge.trunks.place_of`).
    :raises BadInput: at construction, for switches and trunks that make no network.
    """

    def __init__(self, options: FabricOptions, events: Callable[[ControllerEvent], None]) -> None:
        self._graph = options.graph()
        self._events = events
        planned = options.planned()
        self._book = MoveBook.of(next(iter(planned.values())))
        self._members = [
            Member(name, each, self._listener(position), self._book)
            for position, (name, each) in enumerate(planned.items())
        ]
        self._edges = [member for member in self._members if member.edge]
        self._places: dict[int, int] = {}
        self._handover = Handover(self._book, self)
        self._all_ready = False

    async def __aenter__(self) -> Self:
        for member in self._members:
            await member.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Disconnect from all; operations under way end with `SwitchUnavailable`. The switches keep their tables."""
        await together(member.aclose() for member in self._members)

    async def wait_ready(self, seconds: float | None = None) -> None:
        """Return when every switch holds its desired tables. :raises SwitchUnavailable: if one does not in time."""
        await together(member.wait_ready(seconds) for member in self._members)

    # -- replicas and buckets ------------------------------------------------------------------------------

    async def register_replica(self, replica: int, port: int) -> None:
        """Packets for ``replica`` leave through the place ``port``. Idempotent. :raises BadInput: as `Controller`."""
        home, there = self._located(port)
        if self._places.get(replica, port) != port:
            raise BadInput(f"replica {replica}", "is registered at another place", "unregister it first")
        self._places[replica] = port
        try:
            await together(
                member.register_replica(replica, there)
                if member is home
                else member.reach(replica, self._graph.port(member.name, home.name))
                for member in self._members
            )
        except BadInput:
            del self._places[replica]
            raise

    async def unregister_replica(self, replica: int) -> None:
        """Nothing goes to ``replica`` or comes from it any more. Idempotent."""
        self._places.pop(replica, None)
        await together(member.unregister_replica(replica) for member in self._members)

    async def set_buckets(self, owners: Mapping[int, int | None]) -> None:
        """As `Controller.set_buckets`, at every edge."""
        for owner in owners.values():
            if owner is not None:
                self._home(owner)
        await together(edge.set_buckets(owners) for edge in self._edges)

    def buckets(self) -> dict[int, int | None]:
        """Owner of every bucket that has an entry; None: the controller is asked."""
        return self._edges[0].buckets()

    def replicas(self) -> dict[int, int]:
        """Place of every registered replica."""
        return dict(self._places)

    # -- a move --------------------------------------------------------------------------------------------

    async def suspend(
        self, epoch: int, scope: Scope, source: int, room: Room | None = None, *, mark: bool = False
    ) -> None:
        """As `Controller.suspend`: from the return on, no edge sends a packet of the scope to ``source``."""
        await self._handover.suspend(epoch, scope, source, room, mark=mark)

    async def redirect(self, epoch: int, scope: Scope, source: int, target: int, *, mark: bool = False) -> None:
        """As `Controller.redirect`: from the return on, no edge sends a packet of the scope to ``source``."""
        await self._handover.redirect(epoch, scope, source, target, mark=mark)

    async def drain(self, epoch: int, replica: int, busy: Callable[[], bool] = idle) -> Drained:
        """Return when ``replica`` has processed everything that any edge sent it before this call, and its output has
        reached the edges.

        ``busy``: as `Controller.drain`'s.
        :raises Timeout: after twice ``marker_deadline``. :raises UnknownReplica: if it is not registered.
        """
        checked_scope(epoch, Scope())
        home = self._home(replica)
        started = self._now()
        others = [edge for edge in self._edges if edge is not home]
        rounds = sum(await together(home.follow(edge, PROBE, replica, busy) for edge in others))
        fences = (edge.fence(home, epoch) for edge in others)
        rounds += sum(await together([home.follow(home, epoch, replica, busy), *fences]))
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
        """As `Controller.resume`: every edge sends the scope to ``target``; the buffered packets are delivered.

        A new flow that one edge refuses has no entry at any.
        """
        return await self._handover.resume(epoch, scope, target, ordered=ordered, new=new, busy=busy)

    def abandon(self, epoch: int) -> int:
        """As `Controller.abandon`."""
        return self._handover.abandon(epoch)

    async def steer(self, keys: Mapping[bytes, int], second: Iterable[bytes]) -> None:
        """As `Controller.steer`, at every edge."""
        seconds = tuple(second)
        await together(edge.steer(keys, seconds) for edge in self._edges)

    def waiting(self, keys: Iterable[bytes]) -> list[bytes]:
        """As `Controller.waiting`: all edges keep packets in one book."""
        return self._edges[0].waiting(keys)

    def keep_for(self, awaited: Callable[[Iterable[bytes]], Collection[bytes]]) -> None:
        """As `Controller.keep_for`."""
        self._book.awaited = awaited

    async def reserve(self, keys: Iterable[bytes], replica: int) -> None:
        """As `Controller.reserve`, at every edge: if one refuses an entry, none has got one."""
        wanted = tuple(keys)
        fresh = [(edge, edge.without_entry(wanted)) for edge in self._edges]
        try:
            await together(edge.reserve(wanted, replica) for edge in self._edges)
        except WriteRejected:
            await together(edge.forget(flows) for edge, flows in fresh)
            raise

    async def forget(self, keys: Iterable[bytes]) -> int:
        """As `Controller.forget`, at every edge; the number of flows."""
        wanted = list(keys)
        counts: list[int] = await together(edge.forget(wanted) for edge in self._edges)
        return max(counts)

    # -- parts of a move (`handover.Switches`) -------------------------------------------------------------

    def check_registered(self, replica: int) -> None:
        """:raises UnknownReplica: unless this replica is somewhere."""
        self._home(replica)

    def entries(self, epoch: int, buckets: Iterable[int], wanted: Callable[[Steer], bool]) -> set[FlowKey]:
        """As `Controller.entries`; edges may differ after a write that one of them refused."""
        return {key for edge in self._edges for key in edge.entries(epoch, buckets, wanted)}

    def left_suspended(self, epoch: int, buckets: Iterable[int]) -> set[FlowKey]:
        """As `Controller.left_suspended`, at any edge."""
        return {key for edge in self._edges for key in edge.left_suspended(epoch, buckets)}

    def apart(self, buckets: Iterable[int]) -> set[FlowKey]:
        """As `Controller.apart`, at every edge: without an entry at one, a flow's packets there go with its bucket."""
        classes = set(buckets)
        return set.intersection(*(edge.apart(classes) for edge in self._edges))

    def point(self, keys: Collection[FlowKey], buckets: Collection[int], value: Steer) -> Awaitable[object]:
        """As `Controller.point`, at every edge: what is desired at once, then the switches."""
        return together([edge.point(keys, buckets, value) for edge in self._edges])

    def mark(self, epoch: int, replica: int) -> None:
        """Nothing is sent ahead of `drain`: the edges' markers come first, and the move's own when those are echoed."""

    def unmark(self, epoch: int) -> None:
        """Nothing was sent."""

    async def loop(self, epoch: int) -> int:
        """Return when every packet that any edge has punted so far is here; rounds. :raises Timeout: …"""
        return sum(await together(edge.loop(epoch) for edge in self._edges))

    async def deliver(
        self, move: Move, target: int, seal: Callable[[], Awaitable[None]] | None, busy: Callable[[], bool]
    ) -> None:
        """Deliver a move's packets, and END, through the target's own switch, as `Traffic.deliver`."""
        await self._home(target).deliver(move, target, seal, busy)

    # -- what there is -------------------------------------------------------------------------------------

    async def flows(self) -> list[FlowEntry]:
        """The flows with entries of their own; counters are the sums of the edges'. :raises SwitchUnavailable: …"""
        found: dict[FlowKey, FlowEntry] = {}
        for entries in await together(edge.flows() for edge in self._edges):
            for flow in entries:
                known = found.get(flow.key)
                packets, octets = (known.packets, known.bytes) if known is not None else (0, 0)
                suspended = flow.suspended or (known is not None and known.suspended)
                found[flow.key] = FlowEntry(
                    flow.key, flow.replica, suspended, flow.packets + packets, flow.bytes + octets
                )
        return list(found.values())

    async def flow_packets(self) -> dict[bytes, int]:
        """Packets that each flow's own entry has matched. :raises SwitchUnavailable: …"""
        return {flow.key: flow.packets for flow in await self.flows()}

    async def switch_drops(self) -> dict[str, DropCounts]:
        """Packets that the P4 programs dropped, by the names of the switches that are not away.

        :raises SwitchUnavailable: if one goes meanwhile.
        """
        here = [member for member in self._members if member.state().ready]
        counted = await together(member.drop_counts() for member in here)
        return {member.name: counts for member, counts in zip(here, counted, strict=True)}

    def packet_figures(self) -> PacketFigures:
        """What became of the packets that came to any of the controllers."""
        return PacketFigures.of([member.stats() for member in self._members])

    def switches(self) -> dict[str, SwitchState]:
        """Every switch by its name: is it well?"""
        return {member.name: member.state() for member in self._members}

    # -- recovery ------------------------------------------------------------------------------------------

    def restore(self, state: RestoredState) -> None:
        """As `Controller.restore`. :raises BadInput: for a replica at a place that there is not."""
        for replica, place in state.replicas.items():
            self._located(place)
            self._places[replica] = place
        for member in self._members:
            member.restore(self._part(member, state))

    def _part(self, member: Member, state: RestoredState) -> RestoredState:
        """What one switch needs of it."""
        homes = {replica: self._located(place) for replica, place in state.replicas.items()}
        return dataclasses.replace(
            state,
            replicas={replica: port for replica, (home, port) in homes.items() if home is member},
            beyond={
                replica: self._graph.port(member.name, home.name)
                for replica, (home, _) in homes.items()
                if home is not member
            },
            buckets=state.buckets if member.edge else {},
            flows=state.flows if member.edge else {},
        )

    # -- inside --------------------------------------------------------------------------------------------

    def _located(self, place: int) -> tuple[Member, int]:
        position, port = split_place(place)
        if not 0 <= position < len(self._members):
            raise BadInput(f"place {place}", f"there is no switch {position + 1}", f"{len(self._members)} switches")
        return self._members[position], port

    def _home(self, replica: int) -> Member:
        place = self._places.get(replica)
        if place is None:
            raise UnknownReplica(replica)
        return self._located(place)[0]

    def _listener(self, position: int) -> Callable[[ControllerEvent], None]:
        """Hears one switch, and tells of all of them together."""

        def hear(event: ControllerEvent) -> None:
            member = self._members[position]
            match event:
                case SwitchLost(reason):
                    self._lost(member, reason)
                case SwitchReady():
                    self._ready(event)
                case _:
                    self._events(event)

        return hear

    def _lost(self, member: Member, reason: str) -> None:
        if self._all_ready:
            self._all_ready = False
            self._events(SwitchLost(f"switch {member.name}: {reason}"))

    def _ready(self, event: SwitchReady) -> None:
        if all(each.state().ready for each in self._members):
            self._all_ready = True
            self._events(event)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
