"""What simple_switch does around the pipelines: clones, digests, resubmission, replication, recirculation.

A frame is carried to its end before the next one starts; it queues behind egress (p4switch.interpreter.queueing).
Copies wait in ``jobs`` and are taken in the order in which they were made. Order of wishes after ingress, as in BMv2:
clone, digest, resubmit, multicast, drop, unicast; after egress: clone, drop, deparse, recirculate, transmit.
"""

from collections import deque
from random import Random

from p4switch.device import Transmit
from p4switch.interpreter.generate import Generated, generate
from p4switch.interpreter.helpers import AssertionFailed
from p4switch.interpreter.layout import Layout
from p4switch.interpreter.packet import Packet
from p4switch.interpreter.queueing import Queueing
from p4switch.ir import Const, FieldRef
from p4switch.runtime import Digest, Drop, Replica, State

NORMAL, INGRESS_CLONE, EGRESS_CLONE, _COALESCED, RECIRCULATED, REPLICATED, RESUBMITTED = range(7)
"""Values of instance_type."""

MOST_PASSES = 8192
"""Pipeline passes that one received frame may lead to."""
DEEPEST_LINEAGE = 1024
"""How often a packet may be resubmitted, recirculated and cloned one after another."""

_INGRESS = -1
SESSION = 0x7FFF

Job = tuple[list[int], Packet, int, int]
"""Representation, packet, egress port (_INGRESS: parse it again), egress_rid."""


class Interpreter:
    """The readable back end: the program specialised to Python source once, at load (``source`` shows it)."""

    def __init__(self, state: State, random: Random | None = None) -> None:
        layout = Layout(state.program)
        made = self._generate(state, layout, random or Random())
        self.source = made.source
        self._state = state
        self._parse, self._verify = made.parse, made.verify
        self._ingress, self._egress, self._deparse = made.ingress, made.egress, made.deparse
        self._layout = layout
        self._template = layout.template()
        self._metadata = layout.metadata_runs()
        self._drop_port = state.drop_port
        self._place_intrinsics()
        self._lists = {
            number: tuple(layout.slot(item) for item in found.elements if isinstance(item, FieldRef))
            for number, found in state.program.field_lists.items()
        }
        self._fill_varbit_lists()
        self._queueing = Queueing(state, layout) if Queueing.needed(state, layout) else None

    def _generate(self, state: State, layout: Layout, random: Random) -> Generated:
        """The program's functions."""
        return generate(state, layout, random)

    def _place_intrinsics(self) -> None:
        std = self._standard
        self._ingress_port, self._packet_length = std("ingress_port"), std("packet_length")
        self._instance_type, self._egress_spec = std("instance_type"), std("egress_spec")
        self._egress_port = std("egress_port")
        self._parser_error, self._checksum_error = std("parser_error"), std("checksum_error")
        self._arrived = std("ingress_global_timestamp", "intrinsic_metadata")
        self._left = std("egress_global_timestamp", "intrinsic_metadata")
        self._mcast_grp = std("mcast_grp", "intrinsic_metadata", read=True)
        self._rid = std("egress_rid", "intrinsic_metadata")
        spec = self._layout.intrinsic("standard_metadata.egress_spec")
        width = self._layout.field(spec).width if spec else 9
        self._not_dropped = (self._drop_port + 1) & ((1 << width) - 1)
        self._time_mask = (1 << 48) - 1

    def _standard(self, name: str, header: str = "standard_metadata", *, read: bool = False) -> int:
        """Slot of a field that the target sets; a spare one where the program has no such field."""
        ref = self._layout.intrinsic(f"{header}.{name}") or self._layout.intrinsic(f"standard_metadata.{name}")
        if ref is None:
            return self._layout.void if read else self._layout.trash
        return self._layout.slot(ref)

    # -- one frame ---------------------------------------------------------------------------------------------------

    def process(self, port: int, frame: bytes, now_us: int) -> list[Transmit]:
        """All that a received frame leads to. Never raises because of what is in it."""
        sent: list[Transmit] = []
        f = self._template[:]
        f[self._ingress_port] = port
        f[self._packet_length] = len(frame)
        f[self._arrived] = now_us & self._time_mask
        jobs: deque[Job] = deque()
        jobs.append((f, Packet(frame, now_us, 0), _INGRESS, 0))
        passes = 0
        while jobs:
            f, p, egress_port, rid = jobs.popleft()
            passes += 1
            if passes > MOST_PASSES or p.depth > DEEPEST_LINEAGE:
                self._state.drops[Drop.TOO_MANY_PASSES] += 1
                continue
            try:
                if egress_port == _INGRESS:
                    self._run_ingress(f, p, jobs)
                else:
                    self._run_egress(f, p, egress_port, rid, jobs, sent)
            except AssertionFailed:
                self._state.drops[Drop.ASSERTION] += 1
        return sent

    def _run_ingress(self, f: list[int], p: Packet, jobs: deque[Job]) -> None:
        arrived = f[self._ingress_port]
        f[self._parser_error] = self._parse(f, p.data, p)
        f[self._checksum_error] = self._verify(f, p)
        self._ingress(f, p)
        if p.marked:
            p.marked = False
            if p.clone_session:
                self._clone_ingress(f, p, arrived, jobs)
            if p.digest:
                self._digest(f, p)
            if p.resubmit:
                self._again(f, p, p.data, p.resubmit, RESUBMITTED, jobs)
                return
        group = f[self._mcast_grp]
        if group:
            f[self._instance_type] = REPLICATED
            self._multicast(f, p, group, jobs)
            return
        egress_port = f[self._egress_spec]
        if egress_port == self._drop_port:
            self._state.drops[Drop.INGRESS] += 1
            return
        f[self._instance_type] = NORMAL
        jobs.append((f, p, egress_port, f[self._rid]))

    def _run_egress(self, f: list[int], p: Packet, port: int, rid: int, jobs: deque[Job], sent: list[Transmit]) -> None:
        if self._queueing is not None and not self._queueing.enter(f, p, port):
            self._state.drops[Drop.NO_SUCH_QUEUE] += 1
            return
        f[self._left] = p.now & self._time_mask
        f[self._egress_port] = port
        f[self._egress_spec] = self._not_dropped
        f[self._packet_length] = p.length & 0xFFFFFFFF
        f[self._rid] = rid
        self._egress(f, p)
        if p.marked and p.clone_session:
            self._clone_egress(f, p, jobs)
        if f[self._egress_spec] == self._drop_port:
            self._state.drops[Drop.EGRESS] += 1
            return
        frame = self._deparse(f, p)
        if p.marked and p.recirculate:
            self._again(f, p, frame, p.recirculate, RECIRCULATED, jobs)
            return
        sent.append(Transmit(port, frame, p.queue))

    # -- copies ------------------------------------------------------------------------------------------------------

    def _clone_ingress(self, f: list[int], p: Packet, arrived: int, jobs: deque[Job]) -> None:
        """The packet as it entered ingress: parsed again, metadata zero but for the field list."""
        session = self._state.clone_sessions.find(p.clone_session & SESSION)
        field_list = p.clone_list
        p.clone_session = p.clone_list = 0
        if session is None:
            return
        copy = Packet(p.data, p.now, p.depth + 1)
        g = self._template[:]
        g[self._ingress_port] = arrived  # a parser may branch on it
        self._parse(g, copy.data, copy)
        self._preserve(f, g, field_list, INGRESS_CLONE)
        copy.length = copy.size
        if session.packet_length:
            copy.truncate = session.packet_length
        copy.queue = session.class_of_service
        self._replicate(g, copy, session.replicas, jobs)

    def _clone_egress(self, f: list[int], p: Packet, jobs: deque[Job]) -> None:
        """The packet as it is at the end of egress, metadata zero but for the field list."""
        session = self._state.clone_sessions.find(p.clone_session & SESSION)
        field_list = p.clone_list
        p.clone_session = p.clone_list = 0
        if session is None:
            return
        copy = p.copy()
        copy.depth += 1
        g = f[:]
        self._preserve(f, g, field_list, EGRESS_CLONE)
        if session.packet_length:
            copy.truncate = session.packet_length
        copy.queue = session.class_of_service
        self._replicate(g, copy, session.replicas, jobs)

    def _again(self, f: list[int], p: Packet, frame: bytes, field_list: int, instance: int, jobs: deque[Job]) -> None:
        """Back to the parser."""
        copy = Packet(frame, p.now, p.depth + 1)
        g = self._template[:]
        self._preserve(f, g, field_list, instance)
        g[self._packet_length] = len(frame)
        jobs.append((g, copy, _INGRESS, 0))

    def _multicast(self, f: list[int], p: Packet, group: int, jobs: deque[Job]) -> None:
        found = self._state.multicast.find(group)
        if found is None or not found.replicas:
            self._state.drops[Drop.NO_COPIES] += 1
            return
        self._replicate(f, p, found.replicas, jobs)

    @staticmethod
    def _replicate(f: list[int], p: Packet, replicas: tuple[Replica, ...], jobs: deque[Job]) -> None:
        for replica in replicas:
            copy = p.copy()
            copy.truncate = p.truncate
            copy.queue = p.queue
            jobs.append((f[:], copy, replica.port, replica.instance))

    def _preserve(self, f: list[int], g: list[int], field_list: int, instance: int) -> None:
        """Zero the metadata of ``g`` except the fields of the list, which are ``f``'s."""
        for first, end in self._metadata:
            g[first:end] = [0] * (end - first)
        for slot in self._lists.get(field_list, ()):
            g[slot] = f[slot]
        g[self._instance_type] = instance

    def _digest(self, f: list[int], p: Packet) -> None:
        found = self._state.program.digests.get(p.digest)
        p.digest = 0
        if found is None:
            return
        values = tuple(
            item.value if isinstance(item, Const) else f[self._layout.slot(item)] & ((1 << width) - 1)
            for item, width in zip(found.elements, found.widths, strict=True)
            if isinstance(item, Const | FieldRef)
        )
        self._state.digests.put(Digest(found.name, values))

    def _fill_varbit_lists(self) -> None:
        """A varbit field in a list brings its length, which is the next slot."""
        for number, found in self._state.program.field_lists.items():
            extra = [
                self._layout.slot(item) + 1
                for item in found.elements
                if isinstance(item, FieldRef) and self._layout.field(item).varbit
            ]
            self._lists[number] += tuple(extra)
