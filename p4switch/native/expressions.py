"""Expressions as LLVM values.

P4's numbers have infinite precision until they are stored (as in BMv2's JSON), LLVM's have a width. Two ways out, used
together: where only the lowest W bits of a result count (`Expressions.low`), sums, products and bit operations are done
in W bits; elsewhere (`Expressions.exact`) each value carries its bounds, and every operation is done in as many bits as
its result can need. `Exact.value` is two's complement if ``low`` is below 0, else unsigned.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from p4switch import ir
from p4switch.errors import UnsupportedError
from p4switch.ir import VALID
from p4switch.native.emit import Emitter, Value, const, i64
from p4switch.native.layout import Layout, Slot, slot_bytes

WIDEST = 4096
"""Bits of the widest intermediate result."""


@dataclass(frozen=True, slots=True)
class Exact:
    """A number in ``low``..``high``."""

    value: Value
    low: int
    high: int

    @property
    def signed(self) -> bool:
        return self.low < 0


@dataclass(frozen=True, slots=True)
class Place:
    """A number in memory: the address, and what is there. ``length`` is the address of a varbit field's width."""

    address: Value
    width: int
    signed: bool
    length: Value | None = None


def bits_for(low: int, high: int) -> int:
    """Bits of a number in these bounds, as `Exact` keeps it."""
    if low >= 0:
        return max(1, high.bit_length())
    return max((~low).bit_length(), high.bit_length() if high > 0 else 0) + 1


def field_bounds(width: int, signed: bool) -> tuple[int, int]:
    """Smallest and largest number of a field."""
    return (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)


class Expressions:
    """Translates expressions into one function.

    ``params`` are the enclosing action's arguments, or where they are; ``cursor`` is where the parser is in the packet.
    """

    def __init__(
        self,
        emit: Emitter,
        layout: Layout,
        region: Value,
        packet: Value,
        *,
        params: "Sequence[Place | Exact]" = (),
        cursor: Value | None = None,
    ) -> None:
        self.emit = emit
        self.layout = layout
        self.program = layout.program
        self.region = region
        self.packet = packet
        self._params = params
        self._cursor = cursor

    def with_params(self, params: "Sequence[Place | Exact]") -> "Expressions":
        """The same for the body of an action."""
        return Expressions(self.emit, self.layout, self.region, self.packet, params=params, cursor=self._cursor)

    # -- numbers -----------------------------------------------------------------------------------------------------

    def low(self, expr: ir.Expr, width: int) -> Value:
        """The lowest ``width`` bits of a number."""
        b = self.emit.b
        match expr:
            case ir.Const(value):
                return const(width, value)
            case ir.DataOp("+", left, right):
                return b.add(self.low(left, width), self.low(right, width))
            case ir.DataOp("-", left, right):
                return b.sub(self.low(left, width), self.low(right, width))
            case ir.DataOp("*", left, right):
                return b.mul(self.low(left, width), self.low(right, width))
            case ir.DataOp("&", left, right):
                return b.and_(self.low(left, width), self.low(right, width))
            case ir.DataOp("|", left, right):
                return b.or_(self.low(left, width), self.low(right, width))
            case ir.DataOp("^", left, right):
                return b.xor(self.low(left, width), self.low(right, width))
            case ir.DataOp("<<", left, right):
                return self._shift_left(self.low(left, width), self.exact(right))
            case ir.DataOp("two_comp_mod", left, ir.Const(modulus)) if modulus >= width:
                return self.low(left, width)
            case ir.BitNot(operand):
                return b.not_(self.low(operand, width))
            case ir.Choose(condition, left, right) if expr.KIND == "data":
                return b.select(self.test(condition), self.low(left, width), self.low(right, width))
        return self._fit(self.exact(expr), width)

    def _fit(self, number: Exact, width: int) -> Value:
        return self.emit.resize(number.value, width, signed=number.signed)

    def _shift_left(self, value: Value, amount: Exact) -> Value:
        """Shift within the width of ``value``; 0 if all is shifted out or the amount is negative."""
        b, width = self.emit.b, value.type.width
        shift, fits = self._amount(amount, width)
        return b.select(fits, b.shl(value, shift), const(width, 0))

    def _amount(self, amount: Exact, width: int) -> tuple[Value, Value]:
        """An amount that may be shifted by, and whether it is the one asked for (0 <= amount < width)."""
        b = self.emit.b
        wide = max(bits_for(0, width), amount.value.type.width) + 1
        number = self._fit(amount, wide)
        fits = b.icmp_unsigned("<", number, const(wide, width))
        safe = b.select(fits, number, const(wide, 0))
        return self.emit.resize(safe, width), fits

    def exact(self, expr: ir.Expr) -> Exact:
        """The number itself.

        :raises UnsupportedError: it can be wider than WIDEST.
        """
        match expr:
            case ir.Const(value):
                return Exact(const(bits_for(value, value), value), value, value)
            case ir.BoolToData(operand):
                return Exact(self.test(operand), 0, 1)
            case ir.StackSize(stack, last):
                count = self.emit.load(self._at(self.layout.packet.stacks[stack]), 32, 4)
                if not last:
                    return Exact(count, 0, (1 << 32) - 1)
                wide = self.emit.b.sub(self.emit.resize(count, 34), const(34, 1))
                return Exact(wide, -1, (1 << 32) - 2)
            case ir.Lookahead(offset, width):
                assert self._cursor is not None, "lookahead outside of a parser; the loader lets none through"
                return Exact(self.emit.load_bits(self._cursor, offset, width), 0, (1 << width) - 1)
            case ir.RegisterRef(array, index):
                return self._register(array, self.low(index, 64))
            case ir.BitNot(operand):
                inner = self.exact(operand)
                low, high = -1 - inner.high, -1 - inner.low
                width = bits_for(low, high)
                return Exact(self.emit.b.not_(self._fit(inner, width)), low, high)
            case ir.DataOp(op, left, right):
                return self._operation(op, left, right)
            case ir.Choose(condition, left, right):
                one, other, width = self._alike(self.exact(left), self.exact(right))
                value = self.emit.b.select(self.test(condition), self._fit(one, width), self._fit(other, width))
                return Exact(value, min(one.low, other.low), max(one.high, other.high))
            case ir.Param(index):
                param = self._params[index]
                return self.read(param) if isinstance(param, Place) else param
            case ir.FieldRef() | ir.HeaderField() | ir.StackLast() | ir.UnionStackLast():
                return self.read(self.place(expr))
        raise AssertionError(f"{expr!r} is no number; the loader lets none through")

    def read(self, place: Place) -> Exact:
        """The number at a place."""
        return Exact(self.emit.load_slot(place.address, place.width), *field_bounds(place.width, place.signed))

    def _alike(self, one: Exact, other: Exact) -> tuple[Exact, Exact, int]:
        return one, other, bits_for(min(one.low, other.low), max(one.high, other.high))

    def _operation(self, op: str, left: ir.Expr, right: ir.Expr) -> Exact:
        b = self.emit.b
        match op, right:
            case "two_comp_mod", ir.Const(width) if 0 < width <= WIDEST:
                return Exact(self.low(left, width), *field_bounds(width, True))
            case (("usat_cast" | "sat_cast"), ir.Const(width)) if 0 < width <= WIDEST:
                return self._saturate(self.exact(left), *field_bounds(width, op == "sat_cast"))
            case "&", ir.Const(mask) if mask >= 0:
                return self._mask(left, mask)
        if op == "&" and isinstance(left, ir.Const) and left.value >= 0:
            return self._mask(right, left.value)
        if op in ("two_comp_mod", "usat_cast", "sat_cast"):
            raise UnsupportedError(f"{op} to a width known only at run time", "an expression")
        one, other = self.exact(left), self.exact(right)
        if op == "<<":
            return self._exact_shift_left(one, other)
        if op == ">>":
            return self._exact_shift_right(one, other)
        if op in ("/", "%"):
            return self._divide(op, one, other)
        low, high = _bounds(op, one, other)
        width = max(bits_for(low, high), one.value.type.width, other.value.type.width)
        if low < 0 or one.signed or other.signed:
            width = max(width, one.value.type.width + 1, other.value.type.width + 1)
        self._check_width(width)
        instruction = {"+": b.add, "-": b.sub, "*": b.mul, "&": b.and_, "|": b.or_, "^": b.xor}[op]
        value = instruction(self._fit(one, width), self._fit(other, width))
        return Exact(self.emit.resize(value, bits_for(low, high)), low, high)

    def _check_width(self, width: int) -> None:
        if width > WIDEST:
            raise UnsupportedError(f"an intermediate result of {width} bits", "an expression", f"at most {WIDEST}")

    def _mask(self, operand: ir.Expr, mask: int) -> Exact:
        width = max(1, mask.bit_length())
        return Exact(self.emit.b.and_(self.low(operand, width), const(width, mask)), 0, mask)

    def _saturate(self, number: Exact, low: int, high: int) -> Exact:
        b = self.emit.b
        width = bits_for(min(low, number.low), max(high, number.high))
        signed = min(low, number.low) < 0
        compare = b.icmp_signed if signed else b.icmp_unsigned
        value = self._fit(number, width)
        if number.low < low:
            value = b.select(compare("<", value, const(width, low)), const(width, low), value)
        if number.high > high:
            value = b.select(compare(">", value, const(width, high)), const(width, high), value)
        return Exact(self.emit.resize(value, bits_for(low, high)), low, high)

    def _exact_shift_left(self, number: Exact, amount: Exact) -> Exact:
        most = max(0, amount.high)
        width = bits_for(number.low, number.high) + most
        self._check_width(width)
        value = self._shift_left(self.emit.resize(number.value, width, signed=number.signed), amount)
        return Exact(value, min(number.low, 0) << most, max(number.high, 0) << most)

    def _exact_shift_right(self, number: Exact, amount: Exact) -> Exact:
        b, width = self.emit.b, number.value.type.width
        shift, fits = self._amount(amount, width)
        if number.signed:
            all_out = b.ashr(number.value, const(width, width - 1))
            value = b.select(fits, b.ashr(number.value, shift), all_out)
        else:
            value = b.select(fits, b.lshr(number.value, shift), const(width, 0))
        if amount.signed:  # by less than nothing: 0
            negative = b.icmp_signed("<", amount.value, const(amount.value.type.width, 0))
            value = b.select(negative, const(width, 0), value)
        return Exact(value, min(number.low, 0), max(number.high, 0))

    def _divide(self, op: str, one: Exact, other: Exact) -> Exact:
        """Towards zero; 0 for division by 0."""
        b = self.emit.b
        signed = one.signed or other.signed
        width = bits_for(min(one.low, other.low), max(one.high, other.high)) + signed
        left, right = self._fit(one, width), self._fit(other, width)
        zero = b.icmp_unsigned("==", right, const(width, 0))
        safe = b.select(zero, const(width, 1), right)
        if op == "/":
            result = b.sdiv(left, safe) if signed else b.udiv(left, safe)
        else:
            result = b.srem(left, safe) if signed else b.urem(left, safe)
        value = b.select(zero, const(width, 0), result)
        if not signed:
            return Exact(value, 0, (1 << width) - 1)
        return Exact(value, -(1 << (width - 1)), (1 << (width - 1)) - 1)

    def _register(self, array: str, index: Value) -> Exact:
        """A register as it is stored, without sign; 0 if the index is out of range."""
        spec = self.program.registers[array]
        emit, b = self.emit, self.emit.b
        inside = b.icmp_unsigned("<", index, i64(spec.size))
        size = slot_bytes(spec.width)
        safe = b.select(inside, b.mul(index, i64(size)), i64(0))
        value = emit.load_slot(emit.at(self.region, b.add(safe, i64(self.layout.registers[array]))), spec.width)
        return Exact(b.select(inside, value, const(spec.width, 0)), *field_bounds(spec.width, False))

    # -- truth values ------------------------------------------------------------------------------------------------

    def test(self, expr: ir.Expr) -> Value:
        """A truth value, i1. Both sides of and, or are evaluated: nothing in an expression has effects."""
        b = self.emit.b
        match expr:
            case ir.Bool(value):
                return const(1, value)
            case ir.DataToBool(operand):
                number = self.exact(operand).value
                return b.icmp_unsigned("!=", number, const(number.type.width, 0))
            case ir.Not(operand):
                return b.not_(self.test(operand))
            case ir.BoolOp("and", left, right):
                return b.and_(self.test(left), self.test(right))
            case ir.BoolOp(_, left, right):
                return b.or_(self.test(left), self.test(right))
            case ir.Compare(op, left, right):
                return self._compare(op, left, right)
            case ir.Valid(header):
                return self.valid(header)
            case ir.UnionValid(union):
                return self.any_of([self.valid(member) for member in self.members(union)])
            case ir.Choose(condition, left, right):
                return b.select(self.test(condition), self.test(left), self.test(right))
        raise AssertionError(f"{expr!r} is no truth value; the loader lets none through")

    def any_of(self, tests: Sequence[Value]) -> Value:
        """or of any number of i1."""
        result: Value = const(1, 0)
        for test in tests:
            result = self.emit.b.or_(result, test)
        return result

    def _compare(self, op: str, left: ir.Expr, right: ir.Expr) -> Value:
        b = self.emit.b
        match left.KIND:
            case "data":
                one, other = self.exact(left), self.exact(right)
                width = bits_for(min(one.low, other.low), max(one.high, other.high))
                compare = b.icmp_signed if min(one.low, other.low) < 0 else b.icmp_unsigned
                return compare(op, self._fit(one, width), self._fit(other, width))
            case "bool":
                return b.icmp_unsigned(op, self.test(left), self.test(right))
            case "header":
                equal = self._headers_equal(left, right)
            case "union":
                pairs = zip(self.members(left), self.members(right), strict=True)
                equal = self.any_of([self._headers_equal(one, other) for one, other in pairs])
            case _:
                raise UnsupportedError("comparing whole stacks", "an expression")
        return equal if op == "==" else b.not_(equal)

    def _headers_equal(self, left: ir.Expr, right: ir.Expr) -> Value:
        """BMv2: both valid and all fields equal."""
        b = self.emit.b
        equal = b.and_(self.valid(left), self.valid(right))
        for field in self.header_type(left).fields:
            one, other = self.header_place(left, field.name), self.header_place(right, field.name)
            equal = b.and_(equal, b.icmp_unsigned("==", self.read(one).value, self.read(other).value))
            if one.length is not None:
                lengths = [self.emit.load(place.length, 32, 4) for place in (one, other)]
                equal = b.and_(equal, b.icmp_unsigned("==", *lengths))
        return equal

    # -- places ------------------------------------------------------------------------------------------------------

    def _at(self, offset: "int | Value") -> Value:
        return self.emit.at(self.packet, offset)

    def slot_place(self, slot: Slot, base: Value | None = None) -> Place:
        """The place of a slot of the packet, or of what ``base`` points to."""
        start = self.packet if base is None else base
        length = self.emit.at(start, slot.length) if slot.length >= 0 else None
        return Place(self.emit.at(start, slot.offset), slot.width, slot.signed, length)

    def place(self, expr: ir.Expr, *, write: bool = False) -> Place:
        """Where a field is."""
        match expr:
            case ir.FieldRef():
                return self.slot_place(self.layout.packet.slot(expr))
            case ir.HeaderField(header, number):
                return self.header_place(header, self.header_type(header).fields[number].name, write=write)
            case ir.StackLast(stack, name):
                index = ir.StackSize(stack, last=True)
                return self.header_place(ir.StackElement(stack, index), name, write=write)
            case ir.UnionStackLast(stack, member, name):
                index = ir.StackSize(stack, last=True)
                union = ir.UnionStackElement(stack, index)
                number = self.union(union).member_names.index(member)
                return self.header_place(ir.UnionMember(union, number), name, write=write)
        raise AssertionError(f"{expr!r} is no place; the checks let none through")

    def valid(self, header: ir.Expr) -> Value:
        """Whether a header is valid, i1."""
        place = self.header_place(header, VALID)
        return self.emit.load_slot(place.address, 1)

    def header_place(self, header: ir.Expr, name: str, *, write: bool = False) -> Place:
        """Where a field, or ``$valid$``, of a header is."""
        layout = self.layout.packet
        first = self.first_like(header)
        slot = layout.slot(ir.FieldRef(first, name))
        if isinstance(header, ir.HeaderRef):
            return self.slot_place(slot)
        start = layout.headers[first].start
        moved = slot._replace(offset=slot.offset - start, length=slot.length - start if slot.length >= 0 else -1)
        return self.slot_place(moved, self.base(header, write=write))

    def first_like(self, header: ir.Expr) -> str:
        """The name of a header of which all that ``header`` can be are moved copies."""
        match header:
            case ir.HeaderRef(name):
                return name
            case ir.StackElement(stack):
                return self.program.stacks[stack].members[0]
            case ir.UnionMember(union, member):
                return self.union(union).members[member]
        raise AssertionError(f"{header!r} is no header; the loader lets none through")

    def base(self, header: ir.Expr, *, write: bool = False) -> Value:
        """Address of a header's first byte; of a spare one if an index is out of range."""
        layout = self.layout.packet
        match header:
            case ir.HeaderRef(name):
                return self._at(layout.headers[name].start)
            case ir.StackElement(stack, index):
                spec = self.program.stacks[stack]
                start = layout.headers[spec.members[0]].start
                return self._element(index, start, layout.strides[stack], len(spec.members), write)
            case ir.UnionMember(union, member):
                members = self.union(union).members
                offset = layout.headers[members[member]].start - layout.headers[members[0]].start
                return self.emit.at(self.union_base(union, write=write), offset)
        raise AssertionError(f"{header!r} is no header; the loader lets none through")

    def union_base(self, union: ir.Expr, *, write: bool = False) -> Value:
        """Address of a union's first member."""
        layout = self.layout.packet
        start = layout.headers[self.union(union).members[0]].start
        if isinstance(union, ir.UnionStackElement):
            count = len(self.program.union_stacks[union.stack].members)
            return self._element(union.index, start, layout.strides[union.stack], count, write)
        return self._at(start)

    def _element(self, index: ir.Expr, start: int, stride: int, count: int, write: bool) -> Value:
        spare = self.layout.packet.trash if write else self.layout.packet.void
        if isinstance(index, ir.Const):
            return self._at(start + stride * index.value if 0 <= index.value < count else spare)
        b, number = self.emit.b, self.exact(index)
        width = max(bits_for(min(number.low, 0), max(number.high, count)), 64)
        wide = self._fit(number, width)
        inside = b.icmp_unsigned("<", wide, const(width, count))
        offset = b.add(b.mul(self.emit.resize(wide, 64), i64(stride)), i64(start))
        return self._at(b.select(inside, offset, i64(spare)))

    def union(self, expr: ir.Expr) -> ir.Union:
        """The union, or the first of the stack, as all are alike."""
        match expr:
            case ir.UnionRef(name):
                return self.program.unions[name]
            case ir.UnionStackElement(stack):
                return self.program.unions[self.program.union_stacks[stack].members[0]]
        raise AssertionError(f"{expr!r} is no union; the loader lets none through")

    def members(self, union: ir.Expr) -> list[ir.UnionMember]:
        """All members of a union expression."""
        assert isinstance(union, ir.UnionRef | ir.UnionStackElement)
        return [ir.UnionMember(union, number) for number in range(len(self.union(union).members))]

    def header_type(self, header: ir.Expr) -> ir.HeaderType:
        """The type of a header expression."""
        return self.program.headers[self.first_like(header)].type

    # -- writing -----------------------------------------------------------------------------------------------------

    def assign(self, target: ir.Expr, value: ir.Expr) -> None:
        """Store a number's lowest bits in a field."""
        place = self.place(target, write=True)
        self.emit.store_slot(self.low(value, place.width), place.address, place.width)

    def write(self, ref: ir.FieldRef, value: Value) -> None:
        """Store an LLVM integer, cut or extended with zeros, in a field."""
        place = self.place(ref, write=True)
        self.emit.store_slot(self.emit.resize(value, place.width), place.address, place.width)


def _bounds(op: str, one: Exact, other: Exact) -> tuple[int, int]:
    match op:
        case "+":
            return one.low + other.low, one.high + other.high
        case "-":
            return one.low - other.high, one.high - other.low
        case "*":
            corners = [x * y for x in (one.low, one.high) for y in (other.low, other.high)]
            return min(corners), max(corners)
        case "&" if not (one.signed and other.signed):
            return 0, min(item.high for item in (one, other) if not item.signed)
    if not (one.signed or other.signed):
        return 0, (1 << max(one.high.bit_length(), other.high.bit_length())) - 1
    width = bits_for(min(one.low, other.low), max(one.high, other.high))
    return -(1 << (width - 1)), (1 << (width - 1)) - 1
