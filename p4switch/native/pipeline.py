"""A pipeline as one function, ``void ingress(region*, packet*)``: a node of the graph is a basic block."""

from collections.abc import Mapping
from typing import Any

from p4switch import ir
from p4switch.native.actions import Actions
from p4switch.native.emit import I64, PTR, VOID, Emitter, Unit, Value, const, i32, i64
from p4switch.native.expressions import Exact, Expressions, bits_for
from p4switch.native.hashing import Calculations, hash_function, write_fields
from p4switch.native.layout import GROUP, MEMBER, Entry, Layout, Packet, TableLayout
from p4switch.native.meters import meter_function


class PipelineWriter:
    """Writes one pipeline. ``finders`` are the tables' ``find`` functions by name."""

    def __init__(
        self,
        unit: Unit,
        layout: Layout,
        calculations: Calculations,
        finders: Mapping[str, Any],
        drop_port: int,
        pipeline: ir.Pipeline,
    ) -> None:
        self._layout = layout
        self._program = layout.program
        self._pipeline = pipeline
        self._finders = finders
        self._unit = unit
        self._function = unit.function(pipeline.name, VOID, PTR, PTR)
        self._emit = Emitter(unit, self._function)
        self._region, self._packet = self._function.args
        self._finish = self._emit.block("finish")
        self._e = Expressions(self._emit, layout, self._region, self._packet)
        self._actions = Actions(unit, layout, self._e, calculations, drop_port, self._finish)
        self._blocks: dict[str, Value] = {}

    def write(self) -> Any:
        """The function."""
        emit = self._emit
        reached = self._reached()
        self._blocks = {name: emit.block(name) for name in reached}
        emit.jump(self._go(self._pipeline.start))
        for name in reached:
            emit.enter(self._blocks[name])
            self._node(self._pipeline.nodes[name])
        emit.enter(self._finish)
        emit.b.ret_void()
        return self._function

    def _reached(self) -> list[str]:
        """Nodes that a packet can come to."""
        found: dict[str, None] = {}
        waiting = [self._pipeline.start]
        while waiting:
            name = waiting.pop()
            if name is None or name in found:
                continue
            found[name] = None
            waiting += reversed(successors(self._pipeline.nodes[name]))
        return list(found)

    def _go(self, name: str | None) -> Value:
        return self._finish if name is None else self._blocks[name]

    def _node(self, node: ir.Node) -> None:
        emit = self._emit
        match node:
            case ir.Conditional():
                condition = self._e.test(node.expression)
                emit.b.cbranch(condition, self._go(node.true_next), self._go(node.false_next))
            case ir.ActionCallNode():
                self._actions.action(self._program.actions[node.action_id])
                emit.jump(self._go(node.next))
            case ir.Table():
                self._table(node)

    # -- tables ------------------------------------------------------------------------------------------------------

    def _table(self, table: ir.Table) -> None:
        emit, b = self._emit, self._emit.b
        default = table.default
        if not table.keys and default is not None and default.const_entry and table.profile is None:
            args = [Exact(const(bits_for(value, value), value), value, value) for value in default.args]
            self._actions.action(self._program.actions[default.action_id], args)
            following = table.next_miss if table.next_by_result else table.next_by_action[default.action_id]
            emit.jump(self._go(following))
            return
        layout = self._layout.tables[table.name]
        default_entry = emit.at(self._region, layout.entry(0))
        entry, hit = default_entry, const(1, 0)
        if table.keys:
            found = emit.call(self._finders[table.name], self._region, self._packet)
            hit = b.icmp_unsigned("!=", b.ptrtoint(found, I64), i64(0))
            self._hit(table, layout, found, hit)
            entry = b.select(hit, found, default_entry)
        self._run(table, layout, entry, hit)

    def _hit(self, table: ir.Table, layout: TableLayout, entry: Value, hit: Value) -> None:
        """What a hit does besides the action: counters, time stamp, direct meter."""
        emit = self._emit
        if not (table.with_counters or table.support_timeout or table.direct_meter):
            return
        with emit.when(hit):
            size = emit.load(emit.at(self._packet, Packet.SIZE), 64, 8)
            now = emit.load(emit.at(self._packet, Packet.NOW), 64, 8)
            if table.with_counters:
                emit.add_to(emit.at(entry, Entry.PACKETS), i64(1))
                emit.add_to(emit.at(entry, Entry.BYTES), size)
            if table.support_timeout:
                emit.store(now, emit.at(entry, Entry.LAST_HIT), 8)
            meter = self._program.meters[table.direct_meter] if table.direct_meter else None
            if meter is not None and meter.result is not None:
                units = i64(1) if meter.unit == "packets" else size
                colour = emit.call(meter_function(self._unit), emit.at(entry, layout.meter), units, now)
                self._e.write(meter.result, colour)

    def _run(self, table: ir.Table, layout: TableLayout, entry: Value, hit: Value) -> None:
        """The entry's action, and on to the next node."""
        emit, b = self._emit, self._emit.b
        nothing = emit.block("no_action")
        if table.profile is not None:
            entry = self._resolve(table, entry, nothing)
        number = emit.load(emit.at(entry, Entry.BODY), 32, 4)
        switch = b.switch(number, nothing)
        for action_id, position in layout.numbers.items():
            block = emit.block(f"action{action_id}")
            switch.add_case(i32(position), block)
            emit.enter_closed(block)
            params = [self._e.slot_place(slot, entry) for slot in layout.args[action_id]]
            self._actions.action(self._program.actions[action_id], params)
            self._next(table, hit, table.next_by_action.get(action_id, table.base_default_next))
        emit.enter_closed(nothing)
        self._next(table, hit, table.base_default_next)

    def _resolve(self, table: ir.Table, entry: Value, nothing: Value) -> Value:
        """An entry of which the action is that of the member that ``entry`` refers to, if it does."""
        emit, b = self._emit, self._emit.b
        found = emit.local(PTR, entry)
        number = emit.load(emit.at(entry, Entry.BODY), 32, 4)
        member, group, done = emit.block("member"), emit.block("group"), emit.block("resolved")
        ways = b.switch(number, done)
        ways.add_case(i32(MEMBER), member)
        ways.add_case(i32(GROUP), group)
        emit.enter_closed(member)
        target = emit.load(emit.at(entry, Entry.ARGS), 64, 8)
        emit.set(found, emit.at(emit.at(self._region, target), -Entry.BODY))
        emit.jump(done)
        emit.enter_closed(group)
        cell = emit.at(self._region, emit.load(emit.at(entry, Entry.ARGS), 64, 8))
        block = emit.at(self._region, emit.load(cell, 64, 8))
        count = emit.load(block, 32, 4)
        chosen = emit.block("chosen")
        b.cbranch(b.icmp_unsigned("==", count, i32(0)), nothing, chosen)
        emit.enter_closed(chosen)
        slot = b.urem(self._select(table), emit.resize(count, 64))
        offset = emit.load(emit.at(emit.at(block, 8), b.mul(slot, i64(8))), 64, 8)
        emit.set(found, emit.at(emit.at(self._region, offset), -Entry.BODY))
        emit.jump(done)
        emit.enter_closed(done)
        return emit.get(found, PTR)

    def _select(self, table: ir.Table) -> Value:
        """The selector's hash; 0 if there is no selector."""
        emit = self._emit
        profile = next(item for item in self._pipeline.profiles if item.name == table.profile)
        if profile.selector is None or not table.with_selector:
            return i64(0)
        parts: list[tuple[ir.Expr, int]] = []
        for item in profile.selector.inputs:
            assert isinstance(item, ir.FieldRef), "the loader lets no other through"
            parts.append((item, self._layout.packet.slot(item).width))
        bits = sum(width for _, width in parts)
        parts.append((ir.Const(0), -bits % 8))
        algorithm = hash_function(self._unit, profile.selector.algorithm, str(table.source or table.name))
        buffer = emit.at(self._region, self._layout.hash_input)
        size = write_fields(self._e, [part for part in parts if part[1]], buffer)
        return emit.call(algorithm, buffer, i64(size))

    def _next(self, table: ir.Table, hit: Value, by_action: str | None) -> None:
        emit = self._emit
        if not emit.open:
            return
        if not table.next_by_result:
            emit.jump(self._go(by_action))
        elif table.next_hit == table.next_miss:
            emit.jump(self._go(table.next_hit))
        else:
            emit.b.cbranch(hit, self._go(table.next_hit), self._go(table.next_miss))


def successors(node: ir.Node) -> list[str | None]:
    """Where a packet may go from a node."""
    match node:
        case ir.Conditional():
            return [node.true_next, node.false_next]
        case ir.ActionCallNode():
            return [node.next]
        case ir.Table():
            return [*node.next_by_action.values(), node.next_hit, node.next_miss, node.base_default_next]
