"""What simple_switch does around the pipelines, in the interpreter's order and with its limits.

One received frame is carried to its end before the next: passes wait in a list (`layout.Job`) and are taken in the
order in which they were made. Packets to send wait as `layout.Output`: headers in the arena, payload where it was
received.

``u64 process(region*, bytes* frame, u64 size, u32 port, u64 now)`` runs one frame.
"""

from dataclasses import dataclass
from typing import Any

from p4switch import ir
from p4switch.ir.walk import mentioned
from p4switch.native.actions import find_intrinsic
from p4switch.native.emit import I32, I64, PTR, VOID, Emitter, Unit, Value, i32, i64
from p4switch.native.expressions import Expressions
from p4switch.native.layout import CLONE_GIVEN, Control, Job, Layout, Output, Packet, slot_bytes
from p4switch.native.records import write_record
from p4switch.runtime import Drop

NORMAL, INGRESS_CLONE, EGRESS_CLONE, _COALESCED, RECIRCULATED, REPLICATED, RESUBMITTED = range(7)
DEEPEST_LINEAGE = 1024
DROPS = tuple(Drop)
"""Drop reasons by their number in the region."""
NO_TRUNCATION = (1 << 64) - 1


@dataclass(frozen=True)
class Stages:
    """The functions of the program."""

    parse: Any
    verify: Any
    ingress: Any
    egress: Any
    deparse: Any


class Replication:
    """Writes ``process`` and what it calls."""

    def __init__(self, unit: Unit, layout: Layout, stages: Stages, drop_port: int) -> None:
        self._unit = unit
        self._layout = layout
        self._program = layout.program
        self._stages = stages
        self._drop_port = drop_port
        self._size = layout.packet.size
        std = self._program
        self._fields: dict[str, ir.FieldRef | None] = {
            name: find_intrinsic(std, full)
            for name, full in (
                ("ingress_port", "standard_metadata.ingress_port"),
                ("packet_length", "standard_metadata.packet_length"),
                ("instance_type", "standard_metadata.instance_type"),
                ("egress_spec", "standard_metadata.egress_spec"),
                ("egress_port", "standard_metadata.egress_port"),
                ("parser_error", "standard_metadata.parser_error"),
                ("checksum_error", "standard_metadata.checksum_error"),
                ("arrived", "ingress_global_timestamp"),
                ("left", "egress_global_timestamp"),
                ("mcast_grp", "mcast_grp"),
                ("rid", "egress_rid"),
                ("priority", "priority"),
            )
        }
        self._fields["enqueued"] = std.aliases.get("queueing_metadata.enq_timestamp") or find_intrinsic(
            std, "standard_metadata.enq_timestamp"
        )

    # -- fields ------------------------------------------------------------------------------------------------------

    def _e(self, emit: Emitter, region: Value, packet: Value) -> Expressions:
        return Expressions(emit, self._layout, region, packet)

    def _write(self, e: Expressions, name: str, value: Value) -> None:
        """Set an intrinsic field, if the program has it."""
        ref = self._fields[name]
        if ref is not None:
            e.write(ref, value)

    def _read(self, e: Expressions, name: str) -> Value:
        """An intrinsic field in 32 bits; 0 if the program has none."""
        ref = self._fields[name]
        return i32(0) if ref is None else e.low(ref, 32)

    # -- helper functions --------------------------------------------------------------------------------------------

    def _control(self, emit: Emitter, region: Value, offset: int) -> Value:
        return emit.at(region, self._layout.control + offset)

    def _drop(self, emit: Emitter, region: Value, reason: Drop) -> None:
        emit.add_to(emit.at(region, self._layout.drops + 8 * DROPS.index(reason)), i64(1))

    def _new_context(self) -> Any:
        """``packet* new_packet(region*)``: a context of whatever was there before."""
        function = self._unit.function("new_packet", PTR, PTR)
        emit = Emitter(self._unit, function)
        (region,) = function.args
        counter = self._control(emit, region, Control.CONTEXTS_USED)
        number = emit.load(counter, 64, 8)
        emit.store(emit.b.add(number, i64(1)), counter, 8)
        start = emit.at(region, self._layout.contexts)
        emit.b.ret(emit.at(start, emit.b.mul(number, i64(self._size))))
        return function

    def _push(self) -> Any:
        """``void push(region*, packet*, u32 egress port, u32 rid)``: a pass more; too many are dropped and counted."""
        function = self._unit.function("push", VOID, PTR, PTR, I32, I32)
        emit = Emitter(self._unit, function)
        region, packet, port, rid = function.args
        counter = self._control(emit, region, Control.JOBS)
        number = emit.load(counter, 64, 8)
        with emit.when(emit.b.icmp_unsigned(">=", number, i64(Layout.MOST_PASSES)), likely=False):
            self._drop(emit, region, Drop.TOO_MANY_PASSES)
            emit.b.ret_void()
        job = emit.at(emit.at(region, self._layout.jobs), emit.b.mul(number, i64(Job.SIZE)))
        emit.store(packet, emit.at(job, Job.CONTEXT), 8)
        emit.store(port, emit.at(job, Job.PORT), 4)
        emit.store(rid, emit.at(job, Job.RID), 4)
        emit.store(emit.b.add(number, i64(1)), counter, 8)
        emit.b.ret_void()
        return function

    def _begin(self) -> Any:
        """``void begin(packet*, bytes* frame, u64 size, u64 now, u32 depth)``: nothing parsed, nothing wished."""
        function = self._unit.function("begin", VOID, PTR, PTR, I64, I64, I32)
        emit = Emitter(self._unit, function)
        packet, frame, size, now, depth = function.args
        emit.zero(packet, self._size)
        emit.store(frame, emit.at(packet, Packet.FRAME), 8)
        emit.store(size, emit.at(packet, Packet.SIZE), 8)
        emit.store(size, emit.at(packet, Packet.LENGTH), 8)
        emit.store(now, emit.at(packet, Packet.NOW), 8)
        emit.store(i64(NO_TRUNCATION), emit.at(packet, Packet.TRUNCATE), 8)
        emit.store(depth, emit.at(packet, Packet.DEPTH), 4)
        emit.b.ret_void()
        return function

    def _replicate(self) -> Any:
        """``void replicate(region*, packet*, u32* group)``: a pass for each copy; the last one takes the packet itself.

        A group is a count and then pairs of port and rid.
        """
        function = self._unit.function("replicate", VOID, PTR, PTR, PTR)
        emit = Emitter(self._unit, function)
        region, packet, group = function.args
        b = emit.b
        emit.zero(emit.at(packet, Packet.WISHES), Packet.WISHES_END - Packet.WISHES)
        count = emit.load(group, 32, 4)
        with emit.count(count) as i:
            item = emit.at(group, b.add(b.mul(emit.resize(i, 64), i64(8)), i64(8)))
            port, rid = emit.load(item, 32, 4), emit.load(emit.at(item, 4), 32, 4)
            jobs = emit.load(self._control(emit, region, Control.JOBS), 64, 8)
            last = b.icmp_unsigned("==", b.add(i, i32(1)), count)
            # What would be dropped anyway needs no memory.
            full = b.icmp_unsigned(">=", jobs, i64(Layout.MOST_PASSES))
            copy = emit.local(PTR, packet)
            with emit.when(b.not_(b.or_(last, full))):
                twin = emit.call(self.new_packet, region)
                emit.copy(twin, packet, self._size)
                emit.set(copy, twin)
            emit.call(self.push, region, emit.get(copy, PTR), port, rid)
        b.ret_void()
        return function

    def _preserve(self) -> Any:
        """``void preserve(packet* from, packet* to, u32 list, u32 instance)``.

        Zero the metadata of ``to`` except the fields of the list, which are those of ``from``. The two differ.
        """
        function = self._unit.function("preserve", VOID, PTR, PTR, I32, I32)
        emit = Emitter(self._unit, function)
        source, to, number, instance = function.args
        headers = self._layout.packet.headers
        for header in self._program.headers.values():
            if header.metadata:
                place = headers[header.name]
                emit.zero(emit.at(to, place.start), place.size)
        done = emit.block("kept")
        switch = emit.b.switch(number, done)
        for found in self._program.field_lists.values():
            block = emit.block(found.name)
            switch.add_case(i32(found.id), block)
            emit.enter_closed(block)
            for item in found.elements:
                if isinstance(item, ir.FieldRef):
                    self._keep(emit, source, to, item)
            emit.jump(done)
        emit.enter_closed(done)
        e = self._e(emit, to, to)  # no field is in the region
        self._write(e, "instance_type", instance)
        emit.b.ret_void()
        return function

    def _keep(self, emit: Emitter, source: Value, to: Value, ref: ir.FieldRef) -> None:
        slot = self._layout.packet.slot(ref)
        if slot.offset < 0:
            return  # $valid$ of metadata is always true
        emit.copy(emit.at(to, slot.offset), emit.at(source, slot.offset), slot_bytes(slot.width))
        if slot.length >= 0:
            emit.copy(emit.at(to, slot.length), emit.at(source, slot.length), 4)

    # -- wishes ------------------------------------------------------------------------------------------------------

    def _session(self, emit: Emitter, region: Value, packet: Value) -> tuple[Value, Value]:
        """The clone session asked for (a pointer, null: none), and the field list; both wishes are taken back."""
        b = emit.b
        wish = emit.load(emit.at(packet, Packet.CLONE), 32, 4)
        number = emit.resize(b.and_(wish, i32(CLONE_GIVEN - 1)), 64)
        cell = emit.at(emit.at(region, self._layout.clones), b.mul(number, i64(8)))
        offset = emit.load(cell, 64, 8)
        kept = emit.load(emit.at(packet, Packet.CLONE_LIST), 32, 4)
        emit.store(i32(0), emit.at(packet, Packet.CLONE), 4)
        emit.store(i32(0), emit.at(packet, Packet.CLONE_LIST), 4)
        return offset, kept

    def _clone(self, *, egress: bool) -> Any:
        """``void clone_…(region*, packet*, u32 port of arrival)``."""
        name = "clone_egress" if egress else "clone_ingress"
        function = self._unit.function(name, VOID, PTR, PTR, I32)
        function.attributes.add("noinline")
        emit = Emitter(self._unit, function)
        region, packet, arrived = function.args
        b = emit.b
        offset, kept = self._session(emit, region, packet)
        with emit.when(b.icmp_unsigned("==", offset, i64(0))):
            b.ret_void()
        session = emit.at(region, offset)
        copy = emit.call(self.new_packet, region)
        depth = b.add(emit.load(emit.at(packet, Packet.DEPTH), 32, 4), i32(1))
        if egress:
            emit.copy(copy, packet, self._size)
            emit.store(depth, emit.at(copy, Packet.DEPTH), 4)
            emit.store(i64(NO_TRUNCATION), emit.at(copy, Packet.TRUNCATE), 8)
        else:
            size = emit.load(emit.at(packet, Packet.SIZE), 64, 8)
            now = emit.load(emit.at(packet, Packet.NOW), 64, 8)
            emit.call(self.begin, copy, emit.load_pointer(emit.at(packet, Packet.FRAME)), size, now, depth)
            self._write(self._e(emit, region, copy), "ingress_port", arrived)
            emit.call(self._stages.parse, region, copy)
            emit.store(size, emit.at(copy, Packet.LENGTH), 8)
            emit.store(i64(NO_TRUNCATION), emit.at(copy, Packet.TRUNCATE), 8)
        emit.call(self.preserve, packet, copy, kept, i32(EGRESS_CLONE if egress else INGRESS_CLONE))
        length = emit.resize(emit.load(emit.at(session, 4), 32, 4), 64)
        with emit.when(b.icmp_unsigned("!=", length, i64(0))):
            emit.store(length, emit.at(copy, Packet.TRUNCATE), 8)
        emit.call(self.replicate, region, copy, session)
        b.ret_void()
        return function

    def _digest(self) -> Any:
        """``void digest(region*, packet*)``: a record of the digest asked for."""
        function = self._unit.function("digest", VOID, PTR, PTR)
        function.attributes.add("noinline")
        emit = Emitter(self._unit, function)
        region, packet = function.args
        b = emit.b
        wish = emit.load(emit.at(packet, Packet.DIGEST), 32, 4)
        emit.store(i32(0), emit.at(packet, Packet.DIGEST), 4)
        done = emit.block("digested")
        switch = b.switch(wish, done)
        for found in self._program.digests.values():
            block = emit.block(found.name)
            switch.add_case(i32(found.id), block)
            emit.enter_closed(block)
            self._write_digest(emit, self._e(emit, region, packet), region, found)
            emit.jump(done)
        emit.enter_closed(done)
        b.ret_void()
        return function

    def _write_digest(self, emit: Emitter, e: Expressions, region: Value, found: ir.DigestList) -> None:
        values = [e.low(item, width) for item, width in zip(found.elements, found.widths, strict=True)]
        write_record(emit, self._layout, region, found.id, values)

    def _again(self) -> Any:
        """``void again(region*, packet*, bytes* frame, u64 size, u32 list, u32 instance)``: back to the parser."""
        function = self._unit.function("again", VOID, PTR, PTR, PTR, I64, I32, I32)
        function.attributes.add("noinline")
        emit = Emitter(self._unit, function)
        region, packet, frame, size, kept, instance = function.args
        copy = emit.call(self.new_packet, region)
        depth = emit.b.add(emit.load(emit.at(packet, Packet.DEPTH), 32, 4), i32(1))
        now = emit.load(emit.at(packet, Packet.NOW), 64, 8)
        emit.call(self.begin, copy, frame, size, now, depth)
        emit.call(self.preserve, packet, copy, kept, instance)
        self._write(self._e(emit, region, copy), "packet_length", emit.resize(size, 32))
        emit.call(self.push, region, copy, i32(Job.INGRESS), i32(0))
        emit.b.ret_void()
        return function

    # -- passes ------------------------------------------------------------------------------------------------------

    def _failed(self, emit: Emitter, region: Value, packet: Value) -> None:
        """An assertion ends the packet."""
        failed = emit.load(emit.at(packet, Packet.FAILED), 32, 4)
        with emit.when(emit.b.icmp_unsigned("!=", failed, i32(0)), likely=False):
            self._drop(emit, region, Drop.ASSERTION)
            emit.b.ret_void()

    def _ingress(self) -> Any:
        """``void ingress_pass(region*, packet*)``."""
        function = self._unit.function("ingress_pass", VOID, PTR, PTR)
        emit = Emitter(self._unit, function)
        region, packet = function.args
        b = emit.b
        e = self._e(emit, region, packet)
        arrived = self._read(e, "ingress_port")
        self._write(e, "parser_error", emit.call(self._stages.parse, region, packet))
        self._failed(emit, region, packet)
        self._write(e, "checksum_error", emit.call(self._stages.verify, region, packet))
        emit.call(self._stages.ingress, region, packet)
        self._failed(emit, region, packet)
        marked = b.icmp_unsigned("!=", emit.load(emit.at(packet, Packet.MARKED), 32, 4), i32(0))
        with emit.when(marked, likely=False):
            emit.store(i32(0), emit.at(packet, Packet.MARKED), 4)
            self._wishes_of_ingress(emit, region, packet, arrived)
        group = self._read(e, "mcast_grp")
        with emit.when(b.icmp_unsigned("!=", group, i32(0)), likely=False):
            self._write(e, "instance_type", i32(REPLICATED))
            self._multicast(emit, region, packet, group)
            b.ret_void()
        port = self._read(e, "egress_spec")
        with emit.when(b.icmp_unsigned("==", port, i32(self._drop_port))):
            self._drop(emit, region, Drop.INGRESS)
            b.ret_void()
        self._write(e, "instance_type", i32(NORMAL))
        emit.call(self.push, region, packet, port, self._read(e, "rid"))
        b.ret_void()
        return function

    def _wishes_of_ingress(self, emit: Emitter, region: Value, packet: Value, arrived: Value) -> None:
        b = emit.b

        def wished(offset: int) -> Value:
            return b.icmp_unsigned("!=", emit.load(emit.at(packet, offset), 32, 4), i32(0))

        with emit.when(wished(Packet.CLONE)):
            emit.call(self.clone_ingress, region, packet, arrived)
        if self._program.digests:
            with emit.when(wished(Packet.DIGEST)):
                emit.call(self.digest, region, packet)
        else:
            emit.store(i32(0), emit.at(packet, Packet.DIGEST), 4)
        with emit.when(wished(Packet.RESUBMIT)):
            frame = emit.load_pointer(emit.at(packet, Packet.FRAME))
            size = emit.load(emit.at(packet, Packet.SIZE), 64, 8)
            kept = emit.load(emit.at(packet, Packet.RESUBMIT), 32, 4)
            emit.call(self.again, region, packet, frame, size, kept, i32(RESUBMITTED))
            b.ret_void()

    def _multicast(self, emit: Emitter, region: Value, packet: Value, group: Value) -> None:
        b = emit.b
        number = emit.resize(b.and_(group, i32(0xFFFF)), 64)
        offset = emit.load(emit.at(emit.at(region, self._layout.multicast), b.mul(number, i64(8))), 64, 8)
        found = emit.at(region, offset)
        count = emit.load(found, 32, 4)  # offset 0 is a spare line of zeros
        with emit.when(b.icmp_unsigned("==", count, i32(0))):
            self._drop(emit, region, Drop.NO_COPIES)
            b.ret_void()
        emit.call(self.replicate, region, packet, found)

    def _egress(self) -> Any:
        """``void egress_pass(region*, packet*, u32 port, u32 rid)``."""
        function = self._unit.function("egress_pass", VOID, PTR, PTR, I32, I32)
        emit = Emitter(self._unit, function)
        region, packet, port, rid = function.args
        b = emit.b
        e = self._e(emit, region, packet)
        now = emit.load(emit.at(packet, Packet.NOW), 64, 8)
        if self._fields["priority"] in mentioned(self._layout.program):
            with emit.when(b.icmp_unsigned("!=", self._read(e, "priority"), i32(0)), likely=False):
                self._drop(emit, region, Drop.NO_SUCH_QUEUE)
                b.ret_void()
        self._write(e, "enqueued", emit.resize(now, 32))
        self._write(e, "left", emit.resize(now, 48))
        self._write(e, "egress_port", port)
        self._write(e, "egress_spec", i32(self._drop_port + 1))
        self._write(e, "packet_length", emit.resize(emit.load(emit.at(packet, Packet.LENGTH), 64, 8), 32))
        self._write(e, "rid", rid)
        emit.call(self._stages.egress, region, packet)
        self._failed(emit, region, packet)
        marked = b.icmp_unsigned("!=", emit.load(emit.at(packet, Packet.MARKED), 32, 4), i32(0))
        clone = b.icmp_unsigned("!=", emit.load(emit.at(packet, Packet.CLONE), 32, 4), i32(0))
        with emit.when(b.and_(marked, clone), likely=False):
            emit.call(self.clone_egress, region, packet, i32(0))
        spec = self._read(e, "egress_spec")
        with emit.when(b.icmp_unsigned("==", spec, i32(self._drop_port))):
            self._drop(emit, region, Drop.EGRESS)
            b.ret_void()
        used = self._control(emit, region, Control.ARENA_USED)
        headers = emit.at(emit.at(region, self._layout.arena), emit.load(used, 64, 8))
        size = emit.call(self._stages.deparse, region, packet, headers)
        self._failed(emit, region, packet)
        emit.store(b.and_(b.add(b.add(emit.load(used, 64, 8), size), i64(15)), i64(-16)), used, 8)
        self._send(emit, region, packet, port, headers, size, marked)
        b.ret_void()
        return function

    def _send(
        self, emit: Emitter, region: Value, packet: Value, port: Value, headers: Value, size: Value, marked: Value
    ) -> None:
        b = emit.b
        parsed = emit.load(emit.at(packet, Packet.PAYLOAD), 64, 8)
        payload = emit.at(emit.load_pointer(emit.at(packet, Packet.FRAME)), parsed)
        limit = emit.load(emit.at(packet, Packet.TRUNCATE), 64, 8)
        left = b.sub(emit.load(emit.at(packet, Packet.SIZE), 64, 8), parsed)
        header_size = emit.least(size, limit)
        payload_size = emit.least(left, b.sub(limit, header_size))
        wish = emit.load(emit.at(packet, Packet.RECIRCULATE), 32, 4)
        recirculated = b.and_(marked, b.icmp_unsigned("!=", wish, i32(0)))
        with emit.when(recirculated, likely=False):
            self._recirculate(emit, region, packet, headers, header_size, payload, payload_size, wish)
            b.ret_void()
        counter = self._control(emit, region, Control.OUTPUT_COUNT)
        number = emit.load(counter, 64, 8)
        output = emit.at(emit.at(region, self._layout.outputs), b.mul(number, i64(Output.SIZE)))
        emit.store(port, emit.at(output, Output.PORT), 4)
        emit.store(emit.resize(header_size, 32), emit.at(output, Output.HEADER_LENGTH), 4)
        emit.store(headers, emit.at(output, Output.HEADER), 8)
        emit.store(payload, emit.at(output, Output.PAYLOAD), 8)
        emit.store(emit.resize(payload_size, 64), emit.at(output, Output.PAYLOAD_LENGTH), 8)
        emit.store(b.add(number, i64(1)), counter, 8)

    def _recirculate(
        self,
        emit: Emitter,
        region: Value,
        packet: Value,
        headers: Value,
        header_size: Value,
        payload: Value,
        payload_size: Value,
        kept: Value,
    ) -> None:
        """The frame in one piece, which needs memory of its own."""
        b = emit.b
        used = self._control(emit, region, Control.ARENA_USED)
        size = b.add(header_size, payload_size)
        start = emit.load(used, 64, 8)
        end = b.and_(b.add(b.add(start, size), i64(15)), i64(-16))
        with emit.when(b.icmp_unsigned(">", end, i64(Layout.ARENA - (1 << 20))), likely=False):
            self._drop(emit, region, Drop.TOO_MANY_PASSES)
            b.ret_void()
        frame = emit.at(emit.at(region, self._layout.arena), start)
        emit.store(end, used, 8)
        emit.copy(frame, headers, header_size)
        emit.copy(emit.at(frame, header_size), payload, payload_size)
        emit.call(self.again, region, packet, frame, size, kept, i32(RECIRCULATED))

    def write(self) -> Any:
        """``void process(region*, bytes* frame, u64 size, u32 port, u64 now)``."""
        self.new_packet = self._new_context()
        self.push = self._push()
        self.begin = self._begin()
        self.preserve = self._preserve()
        self.replicate = self._replicate()
        self.clone_ingress = self._clone(egress=False)
        self.clone_egress = self._clone(egress=True)
        self.digest = self._digest()
        self.again = self._again()
        ingress, egress = self._ingress(), self._egress()
        function = self._unit.function("process", VOID, PTR, PTR, I64, I32, I64)
        emit = Emitter(self._unit, function)
        region, frame, size, port, now = function.args
        b = emit.b
        emit.store(i64(0), self._control(emit, region, Control.CONTEXTS_USED), 8)
        emit.store(i64(0), self._control(emit, region, Control.JOBS), 8)
        packet = emit.call(self.new_packet, region)
        emit.call(self.begin, packet, frame, size, now, i32(0))
        e = self._e(emit, region, packet)
        self._write(e, "ingress_port", port)
        self._write(e, "packet_length", emit.resize(size, 32))
        self._write(e, "arrived", emit.resize(now, 48))
        emit.call(self.push, region, packet, i32(Job.INGRESS), i32(0))
        taken = emit.local(I64, i64(0))
        with emit.loop(
            lambda: b.icmp_unsigned(
                "<", emit.get(taken, I64), emit.load(self._control(emit, region, Control.JOBS), 64, 8)
            )
        ) as loop:
            at = emit.get(taken, I64)
            emit.set(taken, b.add(at, i64(1)))
            job = emit.at(emit.at(region, self._layout.jobs), b.mul(at, i64(Job.SIZE)))
            context = emit.load_pointer(emit.at(job, Job.CONTEXT))
            egress_port, rid = emit.load(emit.at(job, Job.PORT), 32, 4), emit.load(emit.at(job, Job.RID), 32, 4)
            depth = emit.load(emit.at(context, Packet.DEPTH), 32, 4)
            with emit.when(b.icmp_unsigned(">", depth, i32(DEEPEST_LINEAGE)), likely=False):
                self._drop(emit, region, Drop.TOO_MANY_PASSES)
                b.branch(loop.head)
            again = b.icmp_unsigned("==", egress_port, i32(Job.INGRESS))
            emit.choose(
                again,
                lambda: emit.call(ingress, region, context),
                lambda: emit.call(egress, region, context, egress_port, rid),
            )
        b.ret_void()
        return function
