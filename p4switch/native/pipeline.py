"""A pipeline as one function, ``void ingress(region*, packet*)``: a node of the graph is a basic block."""

from collections.abc import Mapping
from typing import Any

from p4switch import ir
from p4switch.native.actions import Actions
from p4switch.native.emit import I64, PTR, VOID, Emitter, Unit, Value, const, i32, i64
from p4switch.native.expressions import Exact, Expressions, bits_for
from p4switch.native.hashing import Calculations
from p4switch.native.layout import Entry, Layout, Packet, TableLayout
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
        number = emit.load(emit.at(entry, Entry.BODY), 32, 4)
        switch = b.switch(number, nothing)
        for position, action_id in enumerate(table.action_ids, start=1):
            block = emit.block(f"action{action_id}")
            switch.add_case(i32(position), block)
            emit.enter_closed(block)
            params = [self._e.slot_place(slot, entry) for slot in layout.args[action_id]]
            self._actions.action(self._program.actions[action_id], params)
            self._next(table, hit, table.next_by_action.get(action_id, table.base_default_next))
        emit.enter_closed(nothing)
        self._next(table, hit, table.base_default_next)

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
