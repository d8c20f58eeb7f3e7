"""Actions: one function for each primitive. They write the LLVM code of one call."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from p4switch import ir
from p4switch.errors import UnsupportedError
from p4switch.ir import VALID
from p4switch.native.emit import I32, PTR, Emitter, Unit, Value, const, i32, i64
from p4switch.native.expressions import Exact, Expressions, Place
from p4switch.native.hashing import Calculations
from p4switch.native.layout import CLONE_GIVEN, Control, Layout, Meter, Packet, slot_bytes
from p4switch.native.meters import meter_function
from p4switch.native.records import MESSAGE, LogMessage, write_record

MOST_STEPS = 1 << 18
"""Primitives of one call of an action that has loops."""
_PLACEHOLDER = re.compile(r"(?<!\\)\{[^{}]*\}")
"""Of log_msg; the interpreter's."""


class Actions:
    """Writes primitives into one function. ``finish`` is the block that leaves it."""

    def __init__(
        self,
        unit: Unit,
        layout: Layout,
        expressions: Expressions,
        calculations: Calculations,
        drop_port: int,
        finish: Value,
    ) -> None:
        self._unit = unit
        self._layout = layout
        self._e = expressions
        self._calculations = calculations
        self._drop_port = drop_port
        self._finish = finish
        self.emit: Emitter = expressions.emit
        self._program = layout.program
        self._union_of = {name: union for union in self._program.unions.values() for name in union.members}

    def action(self, action: ir.Action, params: "Sequence[Place | Exact]" = ()) -> None:
        """The whole body. Jumps go to primitives by number; exit and a failed assertion leave the function."""
        inner = Actions(
            self._unit,
            self._layout,
            self._e.with_params(params),
            self._calculations,
            self._drop_port,
            self._finish,
        )
        inner._body(action.primitives)

    def _body(self, primitives: Sequence[ir.Primitive]) -> None:
        jumps = any(primitive.op in ("_jump", "_jump_if_zero") for primitive in primitives)
        blocks = [self.emit.block(f"step{i}") for i in range(len(primitives) + 1)] if jumps else []
        left = self.emit.local(I32, i32(MOST_STEPS)) if _jumps_back(primitives) else None
        for number, primitive in enumerate(primitives):
            if blocks:
                self.emit.enter(blocks[number])
            if left is not None:
                self._count_step(left)
            self._step(primitive, number, blocks)
        if blocks:
            self.emit.enter(blocks[-1])

    def _count_step(self, left: Value) -> None:
        """A loop without end fails like an assertion."""
        emit = self.emit
        rest = emit.b.sub(emit.get(left, I32), i32(1))
        emit.set(left, rest)
        with emit.when(emit.b.icmp_unsigned("==", rest, i32(0)), likely=False):
            emit.store(i32(1), self._at(Packet.FAILED), 4)
            emit.b.branch(self._finish)

    def _step(self, primitive: ir.Primitive, number: int, blocks: Sequence[Value]) -> None:
        emit, b = self.emit, self.emit.b
        if not emit.open:  # after exit: not reached, but it must be in some block
            emit.enter(emit.block("unreached"))
        match primitive.op, primitive.args:
            case "exit", _:
                b.branch(self._finish)
            case "_jump", (ir.Const(target),):
                b.branch(blocks[target])
            case "_jump_if_zero", (condition, ir.Const(target)):
                b.cbranch(self._truth(condition), blocks[number + 1], blocks[target])
            case _:
                self.primitive(primitive)

    def primitive(self, primitive: ir.Primitive) -> None:
        """One call.

        :raises UnsupportedError: this back end does not know it.
        """
        function = PRIMITIVES.get(primitive.op)
        if function is None:
            raise UnsupportedError(f"primitive {primitive.op}", str(primitive.source or "an action"))
        try:
            function(self, *primitive.args)
        except UnsupportedError as error:
            raise UnsupportedError(error.construct, str(primitive.source or error.source), error.remedy) from None

    def _truth(self, expr: ir.Argument) -> Value:
        assert not isinstance(expr, ir.Array | ir.Vector), "check_program let none through"
        return self._e.test(expr if expr.KIND == "bool" else ir.DataToBool(expr))

    def _at(self, offset: int) -> Value:
        return self.emit.at(self._e.packet, offset)

    # -- assignments -------------------------------------------------------------------------------------------------

    def assign(self, target: ir.Expr, value: ir.Expr) -> None:
        self._e.assign(target, value)

    def assign_varbit(self, target: ir.Expr, value: ir.Expr) -> None:
        source, place = self._e.place(value), self._e.place(target, write=True)
        assert source.length is not None and place.length is not None, "the checks let only varbit fields through"
        number = self._e.read(source).value
        self.emit.store_slot(self.emit.resize(number, place.width), place.address, place.width)
        self.emit.store(self.emit.load(source.length, 32, 4), place.length, 4)

    def assign_header(self, target: ir.Expr, source: ir.Expr) -> None:
        size = self._header_size(target)
        one, other = self._e.base(target, write=True), self._e.base(source)

        def copy() -> None:
            self._invalidate_siblings(target)
            # Both may be the same header: memcpy must not, but memmove may, copy on itself.
            self.emit.b.call(self._unit.external("memmove", PTR, PTR, PTR, i64(0).type), [one, other, i64(size)])

        self.emit.choose(self._e.valid(source), copy, lambda: self._set_valid(target, 0))

    def _header_size(self, header: ir.Expr) -> int:
        return self._layout.packet.headers[self._e.first_like(header)].size

    def _set_valid(self, header: ir.Expr, value: int) -> None:
        place = self._e.header_place(header, VALID, write=True)
        self.emit.store_slot(const(1, value), place.address, 1)

    def assign_stack(self, target: ir.StackRef | ir.UnionStackRef, source: ir.StackRef | ir.UnionStackRef) -> None:
        (one, count, stride), (other, _, _) = self._run(target), self._run(source)
        layout = self._layout.packet
        move = self._unit.external("memmove", PTR, PTR, PTR, i64(0).type)
        self.emit.b.call(move, [self._at(one), self._at(other), i64(count * stride)])
        used = self.emit.load(self._at(layout.stacks[source.name]), 32, 4)
        self.emit.store(used, self._at(layout.stacks[target.name]), 4)

    def _run(self, stack: ir.Expr) -> tuple[int, int, int]:
        """Packet offset of a stack's first element, number of elements, bytes of each."""
        layout, program = self._layout.packet, self._program
        match stack:
            case ir.StackRef(name):
                members = program.stacks[name].members
                return layout.headers[members[0]].start, len(members), layout.strides[name]
            case ir.UnionStackRef(name):
                unions = program.union_stacks[name].members
                first = program.unions[unions[0]].members[0]
                return layout.headers[first].start, len(unions), layout.strides[name]
        raise AssertionError(f"{stack!r} is no stack; the checks let none through")

    def assign_union(self, target: ir.Expr, source: ir.Expr) -> None:
        headers = self._layout.packet.headers
        members = self._e.union(target).members
        size = headers[members[-1]].start + headers[members[-1]].size - headers[members[0]].start
        one, other = self._e.union_base(target, write=True), self._e.union_base(source)
        self.emit.b.call(self._unit.external("memmove", PTR, PTR, PTR, i64(0).type), [one, other, i64(size)])

    # -- headers -----------------------------------------------------------------------------------------------------

    def _invalidate_siblings(self, header: ir.Expr) -> None:
        """Make the other members of the header's union invalid, if it is in one."""
        if isinstance(header, ir.HeaderRef):
            union = self._union_of.get(header.name)
            if union is None:
                return
            header = ir.UnionMember(ir.UnionRef(union.name), union.members.index(header.name))
        if not isinstance(header, ir.UnionMember):
            return
        for sibling in self._e.members(header.union):
            if sibling.member != header.member:
                self._set_valid(sibling, 0)

    def extracted(self, header: ir.Expr) -> None:
        """Make a header valid whose fields were just filled."""
        self._invalidate_siblings(header)
        self._set_valid(header, 1)

    def add_header(self, header: ir.Expr) -> None:
        emit = self.emit
        header_type = self._e.header_type(header)
        with emit.when(emit.b.not_(self._e.valid(header))):
            self._invalidate_siblings(header)
            emit.zero(self._e.base(header, write=True), self._header_size(header))
            self._set_valid(header, 1)
            emit.add_to(self._at(Packet.LENGTH), i64(header_type.fixed_width // 8))

    def add_header_fast(self, header: ir.Expr) -> None:
        self.extracted(header)

    def remove_header(self, header: ir.Expr) -> None:
        emit, b = self.emit, self.emit.b
        header_type = self._e.header_type(header)
        with emit.when(self._e.valid(header)):
            size: Value = i64(header_type.fixed_width // 8)
            if header_type.varbit is not None:
                place = self._e.header_place(header, header_type.varbit.name)
                bits = emit.resize(emit.load(place.length, 32, 4), 64)
                size = b.add(size, b.lshr(bits, i64(3)))
            self._set_valid(header, 0)
            emit.add_to(self._at(Packet.LENGTH), b.sub(i64(0), size))

    def push(self, stack: ir.StackRef | ir.UnionStackRef, amount: ir.Expr) -> None:
        start, count, stride, moved = self._shift(stack, amount)
        if moved < count:
            self._move(start + moved * stride, start, (count - moved) * stride)
        self.emit.zero(self._at(start), moved * stride)
        used = self._at(self._layout.packet.stacks[stack.name])
        self.emit.store(self.emit.least(self.emit.b.add(self.emit.load(used, 32, 4), i32(moved)), i32(count)), used, 4)

    def pop(self, stack: ir.StackRef | ir.UnionStackRef, amount: ir.Expr) -> None:
        start, count, stride, moved = self._shift(stack, amount)
        if moved < count:
            self._move(start, start + moved * stride, (count - moved) * stride)
        self.emit.zero(self._at(start + (count - moved) * stride), moved * stride)
        used = self._at(self._layout.packet.stacks[stack.name])
        have = self.emit.load(used, 32, 4)
        self.emit.store(self.emit.b.sub(have, self.emit.least(have, i32(moved))), used, 4)

    def _shift(self, stack: ir.Expr, amount: ir.Expr) -> tuple[int, int, int, int]:
        if not isinstance(amount, ir.Const):
            raise UnsupportedError("push or pop by a number known only at run time", "an action")
        start, count, stride = self._run(stack)
        return start, count, stride, max(0, min(count, amount.value))

    def _move(self, to: int, source: int, size: int) -> None:
        move = self._unit.external("memmove", PTR, PTR, PTR, i64(0).type)
        self.emit.b.call(move, [self._at(to), self._at(source), i64(size)])

    # -- what becomes of the packet ----------------------------------------------------------------------------------

    def drop(self, *_: ir.Expr) -> None:
        self._e.write(intrinsic(self._program, "standard_metadata.egress_spec"), const(32, self._drop_port))
        group = find_intrinsic(self._program, "mcast_grp")
        if group is not None:
            self._e.write(group, const(32, 0))

    def clone(self, session: ir.Expr, field_list: ir.Expr) -> None:
        wide = self.emit.resize(self._e.low(session, 15), 32)
        self.emit.store(self.emit.b.or_(wide, i32(CLONE_GIVEN)), self._at(Packet.CLONE), 4)
        self._wish(Packet.CLONE_LIST, field_list)

    def _wish(self, offset: int, value: ir.Expr) -> None:
        self.emit.store(i32(1), self._at(Packet.MARKED), 4)
        self.emit.store(self.emit.resize(self._e.low(value, 16), 32), self._at(offset), 4)

    def digest(self, _: ir.Expr, number: ir.Expr) -> None:
        self._wish(Packet.DIGEST, number)

    def resubmit(self, field_list: ir.Expr) -> None:
        self._wish(Packet.RESUBMIT, field_list)

    def recirculate(self, field_list: ir.Expr) -> None:
        self._wish(Packet.RECIRCULATE, field_list)

    def truncate(self, length: ir.Expr) -> None:
        wish = self.emit.resize(self._e.low(length, 32), 64)
        place = self._at(Packet.TRUNCATE)
        self.emit.store(self.emit.least(wish, self.emit.load(place, 64, 8)), place, 8)

    # -- externs -----------------------------------------------------------------------------------------------------

    def hash(self, target: ir.Expr, low: ir.Expr, calculation: ir.Array, size: ir.Expr) -> None:
        emit, b = self.emit, self.emit.b
        function = self._calculations.function(calculation.name)
        number = b.call(function, [self._e.region, self._e.packet])
        modulus = self._e.low(size, 64)
        nothing = b.icmp_unsigned("==", modulus, i64(0))  # BMv2: a size of 0 counts as 1
        rest = b.urem(number, b.select(nothing, i64(1), modulus))
        total = b.add(emit.resize(rest, 65), emit.resize(self._e.low(low, 64), 65))
        place = self._e.place(target, write=True)
        emit.store_slot(emit.resize(total, place.width), place.address, place.width)

    def random(self, target: ir.Expr, low: ir.Expr, high: ir.Expr) -> None:
        emit, b = self.emit, self.emit.b
        one, other = self._e.low(low, 64), self._e.low(high, 64)
        with emit.when(b.icmp_unsigned("<=", one, other)):  # BMv2 leaves the field alone if the bounds are crossed
            number = self._next_random()
            span = b.add(b.sub(emit.resize(other, 128), emit.resize(one, 128)), const(128, 1))
            scaled = b.lshr(b.mul(emit.resize(number, 128), span), const(128, 64))
            place = self._e.place(target, write=True)
            total = b.add(scaled, emit.resize(one, 128))
            emit.store_slot(emit.resize(total, place.width), place.address, place.width)

    def _next_random(self) -> Value:
        """splitmix64."""
        emit, b = self.emit, self.emit.b
        state = emit.at(self._e.region, self._layout.control + Control.RANDOM)
        emit.add_to(state, i64(0x9E3779B97F4A7C15))
        value = emit.load(state, 64, 8)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            value = b.mul(b.xor(value, b.lshr(value, i64(shift))), i64(factor))
        return b.xor(value, b.lshr(value, i64(31)))

    def _inside(self, index: ir.Expr, size: int) -> tuple[Value, Value]:
        """Whether an index is in range, and the index in 64 bits."""
        number = self._e.exact(index)
        width = max(number.value.type.width, 65) + 1
        wide = self.emit.resize(number.value, width, signed=number.signed)
        return self.emit.b.icmp_unsigned("<", wide, const(width, size)), self.emit.resize(wide, 64)

    def count(self, array: ir.Array, index: ir.Expr) -> None:
        emit, b = self.emit, self.emit.b
        inside, at = self._inside(index, self._program.counters[array.name].size)
        with emit.when(inside):
            start = b.add(b.mul(at, i64(16)), i64(self._layout.counters[array.name]))
            cell = emit.at(self._e.region, start)
            emit.add_to(cell, i64(1))
            emit.add_to(emit.at(cell, 8), emit.load(self._at(Packet.SIZE), 64, 8))

    def meter(self, array: ir.Array, index: ir.Expr, target: ir.Expr) -> None:
        emit, b = self.emit, self.emit.b
        spec = self._program.meters[array.name]
        inside, at = self._inside(index, spec.size)
        with emit.when(inside):
            start = b.add(b.mul(at, i64(Meter.SIZE)), i64(self._layout.meters[array.name]))
            units = i64(1) if spec.unit == "packets" else emit.load(self._at(Packet.SIZE), 64, 8)
            now = emit.load(self._at(Packet.NOW), 64, 8)
            colour = b.call(meter_function(self._unit), [emit.at(self._e.region, start), units, now])
            place = self._e.place(target, write=True)
            emit.store_slot(emit.resize(colour, place.width), place.address, place.width)

    def _register(self, array: ir.Array, index: Value) -> tuple[Value, int]:
        spec = self._program.registers[array.name]
        offset = self.emit.b.mul(index, i64(slot_bytes(spec.width)))
        start = self.emit.b.add(offset, i64(self._layout.registers[array.name]))
        return self.emit.at(self._e.region, start), spec.width

    def register_read(self, target: ir.Expr, array: ir.Array, index: ir.Expr) -> None:
        inside, at = self._inside(index, self._program.registers[array.name].size)
        with self.emit.when(inside):
            cell, width = self._register(array, at)
            place = self._e.place(target, write=True)
            number = self.emit.resize(self.emit.load_slot(cell, width), place.width)
            self.emit.store_slot(number, place.address, place.width)

    def register_write(self, array: ir.Array, index: ir.Expr, value: ir.Expr) -> None:
        inside, at = self._inside(index, self._program.registers[array.name].size)
        with self.emit.when(inside):
            cell, width = self._register(array, at)
            self.emit.store_slot(self._e.low(value, width), cell, width)

    def assertion(self, condition: ir.Expr) -> None:
        with self.emit.when(self.emit.b.not_(self._truth(condition)), likely=False):
            self.emit.store(i32(1), self._at(Packet.FAILED), 4)
            self.emit.b.branch(self._finish)

    def log(self, text: ir.Text, values: ir.Vector) -> None:
        numbers, kinds = [], []
        for item in values.items:
            truth = item.KIND == "bool"
            number = Exact(self._e.test(item), 0, 1) if truth else self._e.exact(item)
            numbers.append(number.value)
            kinds.append((number.value.type.width, number.signed, truth))
        pieces = tuple(piece.replace("\\{", "{").replace("\\}", "}") for piece in _PLACEHOLDER.split(text.value))
        write_record(self.emit, self._layout, self._e.region, MESSAGE + len(self._unit.messages), numbers)
        self._unit.messages.append(LogMessage(pieces, tuple(kinds)))

    def nothing(self, *_: ir.Expr) -> None:
        """no_op."""


def _jumps_back(primitives: Sequence[ir.Primitive]) -> bool:
    return any(
        isinstance(target, ir.Const) and target.value <= position
        for position, primitive in enumerate(primitives)
        if primitive.op in ("_jump", "_jump_if_zero")
        for target in primitive.args[-1:]
    )


def find_intrinsic(program: ir.Program, name: str) -> ir.FieldRef | None:
    """The program's field for a field of the target: ``standard_metadata.x``, or ``x`` of intrinsic metadata."""
    full = name if "." in name else f"intrinsic_metadata.{name}"
    found = program.aliases.get(full)
    if found is not None:
        return found
    header, _, field = full.partition(".")
    instance = program.headers.get(header)
    if instance is not None and instance.type.field(field) is not None:
        return ir.FieldRef(header, field)
    return find_intrinsic(program, f"standard_metadata.{name}") if "." not in name else None


def intrinsic(program: ir.Program, name: str) -> ir.FieldRef:
    """As `find_intrinsic`, for a field that every v1model program has.

    :raises UnsupportedError: this one has not.
    """
    found = find_intrinsic(program, name)
    if found is None:
        raise UnsupportedError(f"a program without {name}", "the program", "is it a v1model program?")
    return found


_Primitive: TypeAlias = Callable[..., None]


def _arithmetic(op: str) -> _Primitive:
    return lambda actions, target, left, right: actions.assign(target, ir.DataOp(op, left, right))


def _in_place(op: str) -> _Primitive:
    return lambda actions, target, value: actions.assign(target, ir.DataOp(op, target, value))


PRIMITIVES: Mapping[str, _Primitive] = {
    "add": _arithmetic("+"),
    "add_header": Actions.add_header,
    "add_header_fast": Actions.add_header_fast,
    "add_to_field": _in_place("+"),
    "assert": Actions.assertion,
    "assign": Actions.assign,
    "assign_VL": Actions.assign_varbit,
    "assign_header": Actions.assign_header,
    "assign_header_stack": Actions.assign_stack,
    "assign_union": Actions.assign_union,
    "assign_union_stack": Actions.assign_stack,
    "assume": Actions.assertion,
    "bit_and": _arithmetic("&"),
    "bit_or": _arithmetic("|"),
    "bit_xor": _arithmetic("^"),
    "clone_egress_pkt_to_egress": Actions.clone,
    "clone_ingress_pkt_to_egress": Actions.clone,
    "copy_header": Actions.assign_header,
    "count": Actions.count,
    "drop": Actions.drop,
    "execute_meter": Actions.meter,
    "generate_digest": Actions.digest,
    "log_msg": Actions.log,
    "mark_to_drop": Actions.drop,
    "modify_field": Actions.assign,
    "modify_field_rng_uniform": Actions.random,
    "modify_field_with_hash_based_offset": Actions.hash,
    "no_op": Actions.nothing,
    "pop": Actions.pop,
    "push": Actions.push,
    "recirculate": Actions.recirculate,
    "register_read": Actions.register_read,
    "register_write": Actions.register_write,
    "remove_header": Actions.remove_header,
    "resubmit": Actions.resubmit,
    "shift_left": _arithmetic("<<"),
    "shift_right": _arithmetic(">>"),
    "subtract": _arithmetic("-"),
    "subtract_from_field": _in_place("-"),
    "truncate": Actions.truncate,
}
