"""Expressions as Python text.

``f`` is the packet's list of numbers, ``a`` the action's arguments; in parsers ``d`` is the frame and ``o`` the offset.
Numbers have infinite precision, as in BMv2; ``bits`` bounds a value so that a store masks only where it must.
"""

from collections.abc import Callable
from dataclasses import dataclass

from p4switch import ir
from p4switch.interpreter.layout import Layout, Run, field_offset

_HELPERS = {"/": "divide", "%": "modulo", "two_comp_mod": "two_comp_mod", "sat_cast": "sat_cast"}


@dataclass(frozen=True)
class Expressions:
    """Translates expressions of one action (or parser, or condition).

    ``params`` are the action's parameters as (text, width in bits).
    """

    layout: Layout
    params: tuple[tuple[str, int], ...] = ()

    # -- numbers -----------------------------------------------------------------------------------------------------

    def data(self, expr: ir.Expr) -> str:
        """Text that yields a number."""
        match expr:
            case ir.Const(value):
                return str(value) if value >= 0 else f"({value})"
            case ir.FieldRef():
                return f"f[{self.layout.slot(expr)}]"
            case ir.Param(index):
                return self.params[index][0]
            case ir.Lookahead(offset, width):
                return _lookahead(offset, width)
            case ir.HeaderField(header, number):
                return self._at(self.base(header), self._field_offset(header, number))
            case ir.StackLast(stack, name):
                block = self.layout.program.stacks[stack].type
                return self._at(self._last(self.layout.stacks[stack]), field_offset(block, name))
            case ir.UnionStackLast():
                return self._union_stack_last(expr)
            case ir.StackSize(stack, last):
                count = f"f[{self.layout.stacks[stack].next}]"
                return f"({count} - 1)" if last else count
            case ir.RegisterRef(array, index):
                return f"register_value({array!r}, {self.data(index)})"
            case ir.DataOp(op, left, right):
                return self._operation(op, left, right)
            case ir.BitNot(operand):
                return f"(~{self.data(operand)})"
            case ir.BoolToData(operand):
                return f"(1 if {self.test(operand)} else 0)"
            case ir.Choose(condition, left, right):
                return f"({self.data(left)} if {self.test(condition)} else {self.data(right)})"
        raise AssertionError(f"{expr!r} is no number; check_program lets none through")

    def unsigned(self, expr: ir.Expr, width: int) -> str:
        """Text that yields the number's lowest ``width`` bits."""
        bound = self.bits(expr)
        text = self.data(expr)
        return text if bound is not None and bound <= width else f"({text} & {(1 << width) - 1})"

    def _operation(self, op: str, left: ir.Expr, right: ir.Expr) -> str:
        one, other = self.data(left), self.data(right)
        match op, right:
            case (("<<" | ">>"), ir.Const(amount)) if 0 <= amount < 4096:
                return f"({one} {op} {amount})"
            case "<<", _:
                return f"shift_left({one}, {other})"
            case ">>", _:
                return f"shift_right({one}, {other})"
            case "two_comp_mod", ir.Const(width) if 0 < width <= 65536:
                half = 1 << (width - 1)
                return f"(({one} + {half} & {2 * half - 1}) - {half})"
            case "&", ir.Const(mask) if self._covers(mask, left):
                return one
            case "usat_cast", ir.Const(width) if 0 <= width <= 65536:
                return f"clamp({one}, 0, {(1 << width) - 1})"
            case "usat_cast", _:
                return f"usat_cast({one}, {other})"
        if op in _HELPERS:
            return f"{_HELPERS[op]}({one}, {other})"
        return f"({one} {op} {other})"

    def _covers(self, mask: int, expr: ir.Expr) -> bool:
        """Whether ``& mask`` changes nothing: p4c writes one around every shift and sum."""
        bound = self.bits(expr)
        return bound is not None and mask >= 0 and mask & (1 << bound) - 1 == (1 << bound) - 1

    def bits(self, expr: ir.Expr) -> int | None:
        """An upper bound on the bits of a number that is never negative; None if it may be negative or unbounded."""
        match expr:
            case ir.Const(value):
                return value.bit_length() if value >= 0 else None
            case ir.FieldRef():
                field = self.layout.field(expr)
                return None if field.signed else field.width
            case ir.Param(index):
                return self.params[index][1]
            case ir.Lookahead(_, width):
                return width
            case ir.BoolToData():
                return 1
            case ir.HeaderField(header, number):
                field = self._type(header).fields[number]
                return None if field.signed else field.width
            case ir.Choose(_, left, right):
                return _both(self.bits(left), self.bits(right), max)
            case ir.DataOp(op, left, right):
                return self._operation_bits(op, left, right)
        return None

    def _operation_bits(self, op: str, left: ir.Expr, right: ir.Expr) -> int | None:
        one, other = self.bits(left), self.bits(right)
        match op, right:
            case "&", _:
                known = [bound for bound in (one, other) if bound is not None]
                return min(known, default=None)
            case (("|" | "^"), _):
                return _both(one, other, max)
            case ">>", ir.Const(amount) if one is not None and amount >= 0:
                return max(0, one - amount)
            case "<<", ir.Const(amount) if one is not None and amount >= 0:
                return one + amount
            case "+", _ if one is not None and other is not None:
                return max(one, other) + 1
            case "*", _ if one is not None and other is not None:
                return one + other
            case "usat_cast", ir.Const(width) if width >= 0:
                return width
        return None

    # -- truth values ------------------------------------------------------------------------------------------------

    def test(self, expr: ir.Expr) -> str:
        """Text whose truth is the expression's; not necessarily a bool."""
        match expr:
            case ir.Bool(value):
                return str(value)
            case ir.DataToBool(operand):
                return self.data(operand)
            case ir.Not(operand):
                return f"(not {self.test(operand)})"
            case ir.BoolOp(op, left, right):
                return f"({self.test(left)} {op} {self.test(right)})"
            case ir.Compare(op, left, right):
                return self._compare(op, left, right)
            case ir.Valid(header):
                return self._at(self.base(header), self._valid_offset(header))
            case ir.UnionValid(union):
                return self._union_valid(union)
            case ir.Choose(condition, left, right):
                return f"({self.test(left)} if {self.test(condition)} else {self.test(right)})"
        raise AssertionError(f"{expr!r} is no truth value; the loader lets none through")

    def _compare(self, op: str, left: ir.Expr, right: ir.Expr) -> str:
        match left.KIND:
            case "data":
                return f"({self.data(left)} {op} {self.data(right)})"
            case "bool":
                return f"((not {self.test(left)}) {op} (not {self.test(right)}))"
            case "header":
                equal = self._headers_equal(left, right)
            case _:
                equal = self._unions_equal(left, right)
        return equal if op == "==" else f"(not {equal})"

    def _headers_equal(self, left: ir.Expr, right: ir.Expr) -> str:
        """BMv2: both valid and all fields equal."""
        assert isinstance(left, ir.HeaderRef | ir.StackElement | ir.UnionMember)
        assert isinstance(right, ir.HeaderRef | ir.StackElement | ir.UnionMember)
        return _equal(self.base(left), self.base(right), self._valid_offset(left))

    def _unions_equal(self, left: ir.Expr, right: ir.Expr) -> str:
        assert isinstance(left, ir.UnionRef | ir.UnionStackElement)
        assert isinstance(right, ir.UnionRef | ir.UnionStackElement)
        tests = []
        union = self.union(left)
        for member in range(len(union.members)):
            one, other = ir.UnionMember(left, member), ir.UnionMember(right, member)
            tests.append(_equal(self.base(one), self.base(other), self._valid_offset(one)))
        return f"({' or '.join(tests)})"

    def _union_valid(self, expr: ir.UnionRef | ir.UnionStackElement) -> str:
        members = range(len(self.union(expr).members))
        return f"({' or '.join(self.test(ir.Valid(ir.UnionMember(expr, member))) for member in members)})"

    # -- places ------------------------------------------------------------------------------------------------------

    def base(self, header: ir.HeaderExpr, *, write: bool = False) -> int | str:
        """The first slot of a header: a number where it is known already, else text."""
        match header:
            case ir.HeaderRef(name):
                return self.layout.blocks[name].base
            case ir.StackElement(stack, index):
                return self.element(self.layout.stacks[stack], index, write=write)
            case ir.UnionMember(union, member):
                return _plus(self.union_base(union, write=write), self.layout.union_offset(self.union(union), member))

    def union_base(self, union: ir.UnionRef | ir.UnionStackElement, *, write: bool = False) -> int | str:
        """The first slot of a union."""
        match union:
            case ir.UnionRef(name):
                return self.layout.blocks[self.layout.program.unions[name].members[0]].base
            case ir.UnionStackElement(stack, index):
                return self.element(self.layout.union_stacks[stack], index, write=write)

    def element(self, run: Run, index: ir.Expr, *, write: bool = False) -> int | str:
        """The first slot of a stack's element; of a spare region where the index is out of range."""
        spare = self.layout.trash if write else self.layout.void
        if isinstance(index, ir.Const):
            return run.base + index.value * run.stride if 0 <= index.value < run.count else spare
        return f"element({self.data(index)}, {run.base}, {run.stride}, {run.count}, {spare})"

    def place(self, target: ir.Expr) -> tuple[str, ir.Field]:
        """Text of the slot of a field that is assigned to, and its declaration."""
        match target:
            case ir.FieldRef():
                return f"f[{self.layout.slot(target)}]", self.layout.field(target)
            case ir.HeaderField(header, number):
                offset = self._field_offset(header, number)
                return self._at(self.base(header, write=True), offset), self._type(header).fields[number]
            case ir.StackLast(stack, name):
                header_type = self.layout.program.stacks[stack].type
                base = self._last(self.layout.stacks[stack], write=True)
                return self._at(base, field_offset(header_type, name)), header_type.field(name) or ir.Field(name, 1)
        raise AssertionError(f"{target!r} is no place; check_program lets none through")

    def union(self, expr: ir.UnionRef | ir.UnionStackElement) -> ir.Union:
        """The union, or the first of the stack, as all are alike."""
        program = self.layout.program
        name = expr.name if isinstance(expr, ir.UnionRef) else program.union_stacks[expr.stack].members[0]
        return program.unions[name]

    def header_type(self, header: ir.HeaderExpr) -> ir.HeaderType:
        """The type of a header expression."""
        return self._type(header)

    def _type(self, header: ir.HeaderExpr) -> ir.HeaderType:
        program = self.layout.program
        match header:
            case ir.HeaderRef(name):
                return program.headers[name].type
            case ir.StackElement(stack):
                return program.stacks[stack].type
            case ir.UnionMember(union, member):
                return program.headers[self.union(union).members[member]].type

    def _field_offset(self, header: ir.HeaderExpr, number: int) -> int:
        header_type = self._type(header)
        return field_offset(header_type, header_type.fields[number].name)

    def _valid_offset(self, header: ir.HeaderExpr) -> int:
        return field_offset(self._type(header), ir.VALID)

    def _last(self, run: Run, *, write: bool = False) -> str:
        spare = self.layout.trash if write else self.layout.void
        return f"element(f[{run.next}] - 1, {run.base}, {run.stride}, {run.count}, {spare})"

    def _union_stack_last(self, expr: ir.UnionStackLast) -> str:
        program = self.layout.program
        union = program.unions[program.union_stacks[expr.stack].members[0]]
        member = union.member_names.index(expr.member)
        base = _plus(self._last(self.layout.union_stacks[expr.stack]), self.layout.union_offset(union, member))
        return self._at(base, field_offset(program.headers[union.members[member]].type, expr.field))

    @staticmethod
    def _at(base: int | str, offset: int) -> str:
        return f"f[{_plus(base, offset)}]"


def _plus(base: int | str, offset: int) -> int | str:
    if isinstance(base, int):
        return base + offset
    return f"{base} + {offset}" if offset else base


def _equal(one: int | str, other: int | str, valid: int) -> str:
    end = valid + 1
    return f"(f[{_plus(one, valid)}] == 1 and f[{one}:{_plus(one, end)}] == f[{other}:{_plus(other, end)}])"


def _both(one: int | None, other: int | None, combine: Callable[[int, int], int]) -> int | None:
    return None if one is None or other is None else combine(one, other)


def _lookahead(offset: int, width: int) -> str:
    first, end = offset // 8, (offset + width + 7) // 8
    shift = end * 8 - offset - width
    text = f"from_bytes(d[o + {first}:o + {end}])"
    if shift:
        text = f"({text} >> {shift})"
    return f"({text} & {(1 << width) - 1})"


def needed_bytes(expr: ir.Expr) -> int:
    """Bytes of the packet, from the present offset, that an expression looks at."""
    match expr:
        case ir.Lookahead(offset, width):
            return (offset + width + 7) // 8
        case ir.DataOp(_, left, right) | ir.Compare(_, left, right) | ir.BoolOp(_, left, right):
            return max(needed_bytes(left), needed_bytes(right))
        case ir.BitNot(operand) | ir.Not(operand) | ir.DataToBool(operand) | ir.BoolToData(operand):
            return needed_bytes(operand)
        case ir.Choose(condition, left, right):
            return max(needed_bytes(condition), needed_bytes(left), needed_bytes(right))
    return 0
