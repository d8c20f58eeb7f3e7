"""The parser: ``u32 parse(region*, packet*)`` fills the fields from the frame and returns the error.

A state is a basic block and a transition a jump. `Packet.PAYLOAD` is set to where the parser stopped.
"""

from collections.abc import Sequence
from typing import Any

from p4switch import ir
from p4switch.interpreter.expressions import needed_bytes
from p4switch.native.actions import Actions
from p4switch.native.emit import I32, I64, PTR, Emitter, Unit, Value, const, i32, i64
from p4switch.native.expressions import Expressions
from p4switch.native.hashing import Calculations, concatenate
from p4switch.native.layout import Layout, Packet, slot_bytes

_LONGEST_LOOP = 1 << 16
"""Steps back; a parser that loops without consuming anything ends with an error here, as in the interpreter."""


class ParserWriter:
    """Writes the parser of a program."""

    def __init__(self, unit: Unit, layout: Layout, calculations: Calculations, drop_port: int) -> None:
        self._program = layout.program
        self._layout = layout
        self._parser = layout.program.parsers["parser"]
        self._function = unit.function("parse", I32, PTR, PTR)
        self._emit = Emitter(unit, self._function)
        region, self._packet = self._function.args
        self._region = region
        emit = self._emit
        self._frame = emit.load_pointer(emit.at(self._packet, Packet.FRAME))
        self._size = emit.load(emit.at(self._packet, Packet.SIZE), 64, 8)
        self._offset = emit.local(I64, i64(0))
        self._error = emit.local(I32, i32(self._program.errors["NoError"]))
        self._rounds = emit.local(I32, i32(0))
        self._done = emit.block("done")
        self._calculations = calculations
        self._unit = unit
        self._drop_port = drop_port

    def write(self) -> Any:
        """The function."""
        emit = self._emit
        order = ir.reachable_states(self._parser)
        self._numbers = {name: number for number, name in enumerate(order)}
        self._blocks = {name: emit.block(f"state.{name}") for name in order}
        emit.jump(self._blocks[order[0]] if order else self._done)
        for name in order:
            emit.enter(self._blocks[name])
            self._state(self._parser.states[name])
        emit.enter(self._done)
        emit.store(emit.get(self._offset, I64), emit.at(self._packet, Packet.PAYLOAD), 8)
        emit.b.ret(emit.get(self._error, I32))
        return self._function

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _expressions(self) -> Expressions:
        cursor = self._emit.at(self._frame, self._emit.get(self._offset, I64))
        return Expressions(self._emit, self._layout, self._region, self._packet, cursor=cursor)

    def _actions(self) -> Actions:
        return Actions(self._unit, self._layout, self._expressions(), self._calculations, self._drop_port, self._done)

    def _fail_if(self, condition: Value, error: str) -> None:
        with self._emit.when(condition, likely=False):
            self._emit.set(self._error, i32(self._program.errors[error]))
            self._emit.jump(self._done)

    def _need(self, count: Value) -> None:
        """Stop with PacketTooShort unless ``count`` bytes are left."""
        b = self._emit.b
        left = b.sub(self._size, self._emit.get(self._offset, I64))
        self._fail_if(b.icmp_unsigned("<", left, count), "PacketTooShort")

    def _need_for(self, *exprs: ir.Expr) -> None:
        count = max((needed_bytes(expr) for expr in exprs), default=0)
        if count:
            self._need(i64(count))

    def _advance(self, count: Value) -> None:
        self._emit.set(self._offset, self._emit.b.add(self._emit.get(self._offset, I64), count))

    # -- states ------------------------------------------------------------------------------------------------------

    def _state(self, state: ir.ParserState) -> None:
        emit = self._emit
        for op in state.ops:
            match op:
                case ir.Extract():
                    self._extract(op)
                case ir.Set(target, value):
                    self._need_for(value)
                    self._set(target, value)
                case ir.Verify(condition, error):
                    self._need_for(condition, error)
                    e = self._expressions()
                    with emit.when(emit.b.not_(e.test(condition)), likely=False):
                        emit.set(self._error, e.low(error, 32))
                        emit.jump(self._done)
                case ir.Advance(bits):
                    self._skip(bits)
                case ir.ParserCall(primitive):
                    emit.store(emit.get(self._offset, I64), emit.at(self._packet, Packet.PAYLOAD), 8)
                    self._actions().primitive(primitive)
        self._transitions(state)

    def _set(self, target: ir.FieldRef, value: ir.Expr) -> None:
        if self._layout.packet.slot(target).length >= 0:
            self._actions().assign_varbit(target, value)
        else:
            self._expressions().assign(target, value)

    def _skip(self, bits: ir.Expr) -> None:
        if isinstance(bits, ir.Const) and bits.value % 8 == 0:
            count: Value = i64(bits.value // 8)
        else:
            count = self._whole_bytes(bits)
        self._need(count)
        self._advance(count)

    def _whole_bytes(self, bits: ir.Expr) -> Value:
        """A number of bits as bytes; BMv2 takes only whole bytes."""
        emit, b = self._emit, self._emit.b
        self._need_for(bits)
        number = emit.resize(self._expressions().low(bits, 32), 64)
        odd = b.icmp_unsigned("!=", b.and_(number, i64(7)), i64(0))
        self._fail_if(odd, "ParserInvalidArgument")
        return b.lshr(number, i64(3))

    # -- extract -----------------------------------------------------------------------------------------------------

    def _extract(self, op: ir.Extract) -> None:
        match op.into:
            case "header":
                self._extract_to(op, ir.HeaderRef(op.name))
            case "stack":
                count = len(self._program.stacks[op.name].members)
                self._next(op, count, ir.StackElement(op.name, ir.StackSize(op.name, last=False)))
            case "union_stack":
                unions = self._program.union_stacks[op.name].members
                member = self._program.unions[unions[0]].member_names.index(op.member)
                union = ir.UnionStackElement(op.name, ir.StackSize(op.name, last=False))
                self._next(op, len(unions), ir.UnionMember(union, member))

    def _next(self, op: ir.Extract, count: int, header: ir.Expr) -> None:
        """To a stack's next element."""
        emit, b = self._emit, self._emit.b
        used = emit.at(self._packet, self._layout.packet.stacks[op.name])
        self._fail_if(b.icmp_unsigned(">=", emit.load(used, 32, 4), i32(count)), "StackOutOfBounds")
        self._extract_to(op, header)
        emit.store(b.add(emit.load(used, 32, 4), i32(1)), used, 4)

    def _extract_to(self, op: ir.Extract, header: ir.Expr) -> None:
        b = self._emit.b
        e = self._expressions()
        header_type = e.header_type(header)
        size: Value = i64(header_type.fixed_width // 8)
        length: Value = i64(0)
        if op.varbit_width is not None:
            length = self._whole_bytes(op.varbit_width)
            size = b.add(size, length)
            self._need(size)
            varbit = header_type.varbit
            assert varbit is not None, "the loader lets no other through"
            too_long = b.icmp_unsigned(">", b.shl(length, i64(3)), i64(varbit.width))
            self._fail_if(too_long, "HeaderTooShort")
        else:
            self._need(size)
        e = self._expressions()
        self._split(e, header, header_type.fields, length)
        actions = self._actions()
        actions.extracted(header)
        self._advance(size)

    def _split(self, e: Expressions, header: ir.Expr, fields: Sequence[ir.Field], length: Value) -> None:
        """Each field from its bits in the packet; fields behind a varbit one begin ``length`` bytes later."""
        emit = self._emit
        start = emit.at(self._frame, emit.get(self._offset, I64))
        first = 0
        for field in fields:
            place = e.header_place(header, field.name, write=True)
            if field.varbit:
                assert place.length is not None
                self._read_varbit(emit.at(start, first // 8), length, place.address, place.width)
                bits = emit.resize(emit.b.shl(length, i64(3)), 32)
                emit.store(bits, place.length, 4)
                start = emit.at(start, length)
                continue
            emit.store_slot(emit.load_bits(start, first, field.width), place.address, field.width)
            first += field.width

    def _read_varbit(self, source: Value, length: Value, place: Value, width: int) -> None:
        emit, b = self._emit, self._emit.b
        whole = slot_bytes(width) * 8
        emit.store(const(whole, 0), place, 1)
        emit.copy(emit.at(place, b.sub(i64(whole // 8), length)), source, length)
        emit.store(emit.swap(emit.load(place, whole)), place, 1)

    # -- transitions -------------------------------------------------------------------------------------------------

    def _transitions(self, state: ir.ParserState) -> None:
        emit, b = self._emit, self._emit.b
        default = next((item for item in state.transitions if item.kind == "default"), None)
        otherwise = self._way(state, default.next_state if default else None)
        cases = [item for item in state.transitions if item.kind != "default"]
        if not cases:
            emit.jump(otherwise)
            return
        self._need_for(*(part.expr for part in state.key))
        key = concatenate(self._expressions(), [(part.expr, part.width) for part in state.key])
        for case in cases:
            following = emit.block("next")
            b.cbranch(self._matches(case, key), self._way(state, case.next_state), following)
            b.position_at_end(following)
        emit.jump(otherwise)

    def _way(self, state: ir.ParserState, name: str | None) -> Value:
        """The block to jump to; a step back is counted on the way."""
        if name is None:
            return self._done
        if self._numbers[name] > self._numbers[state.name]:
            return self._blocks[name]
        emit = self._emit
        here, back = emit.b.block, emit.block("back")
        emit.b.position_at_end(back)
        rounds = emit.b.add(emit.get(self._rounds, I32), i32(1))
        emit.set(self._rounds, rounds)
        error = "ParserTimeout" if "ParserTimeout" in self._program.errors else "PacketTooShort"
        self._fail_if(emit.b.icmp_unsigned(">=", rounds, i32(_LONGEST_LOOP)), error)
        emit.jump(self._blocks[name])
        emit.b.position_at_end(here)
        return back

    def _matches(self, case: ir.Transition, key: Value) -> Value:
        emit, b = self._emit, self._emit.b
        width = key.type.width
        mask = (1 << width) - 1 if case.mask is None else case.mask
        if case.kind == "value":
            return b.icmp_unsigned("==", b.and_(key, const(width, mask)), const(width, case.value & mask))
        start = self._layout.value_sets[case.value_set]
        size = slot_bytes(width)
        found = emit.local(const(1, 0).type, const(1, 0))
        members = emit.at(self._region, start)
        with emit.count(emit.load(members, 64, 8)) as i:
            cell = emit.at(members, b.add(b.mul(i, i64(2 * size)), i64(16)))
            value, member_mask = emit.load_slot(cell, width), emit.load_slot(emit.at(cell, size), width)
            differs = b.and_(b.and_(b.xor(key, value), member_mask), const(width, mask))
            fits = b.icmp_unsigned("==", differs, const(width, 0))
            emit.set(found, b.or_(emit.get(found, fits.type), fits))
        return emit.get(found, const(1, 0).type)
