"""Expressions: JSON's type-value objects to IR nodes, with operands' kinds checked."""

from dataclasses import dataclass, field
from typing import Any

from p4switch import ir
from p4switch.errors import LoadError
from p4switch.ir.expressions import BOOL_OPS, COMPARISONS, DATA_OPS, Kind
from p4switch.load.headers import Headers
from p4switch.load.places import lookup, number, width

DEEPEST = 200


@dataclass(frozen=True)
class ExpressionLoader:
    """Reads expressions of one program. ``params`` counts the enclosing action's parameters."""

    headers: Headers
    registers: dict[str, ir.RegisterArray] = field(default_factory=dict)
    params: int = 0
    in_parser: bool = False

    def data(self, place: str, node: Any) -> ir.Expr:
        """An expression that yields a number."""
        return self._of_kind(place, node, "data")

    def condition(self, place: str, node: Any) -> ir.Expr:
        """An expression that yields a truth value."""
        return self._of_kind(place, node, "bool")

    def header(self, place: str, node: Any, depth: int = 0) -> ir.HeaderExpr:
        """An expression that yields a header."""
        found = self.any(place, node, depth)
        if not isinstance(found, ir.HeaderRef | ir.StackElement | ir.UnionMember):
            raise LoadError(place, f"a header is needed here, not a {found.KIND}")
        return found

    def _of_kind(self, place: str, node: Any, kind: Kind, depth: int = 0) -> ir.Expr:
        found = self.any(place, node, depth)
        if kind != found.KIND:
            raise LoadError(place, f"a {kind} expression is needed here, not {found.KIND}")
        return found

    def any(self, place: str, node: Any, depth: int = 0) -> ir.Expr:
        """Any expression.

        :raises LoadError: it is malformed, refers to what does not exist, or nests deeper than 200.
        """
        if depth > DEEPEST:
            raise LoadError(place, f"the expression nests deeper than {DEEPEST}")
        match node:
            case {"op": str(op)}:
                return self._operation(f"{place}.{op}", op, node, depth + 1)
            case {"type": "expression", "value": value}:
                return self.any(place, value, depth + 1)
            case {"type": str(kind), "value": value, **rest}:
                return self._leaf(place, kind, value, rest.get("bitwidth"), depth)
        raise LoadError(place, f"{str(node)[:60]} is no expression", 'write {"type": …, "value": …}')

    def _leaf(self, place: str, kind: str, value: Any, bits: Any, depth: int) -> ir.Expr:
        headers = self.headers
        match kind, value:
            case "field", [dict(header), str(name)]:
                return self._field_of(place, self.header(place, header, depth + 1), name)
            case "field", _:
                return headers.field(place, value)
            case "hexstr", _:
                return ir.Const(number(place, value), None if bits is None else width(place, bits))
            case "bool", bool(value):
                return ir.Bool(value)
            case "string", str(value):
                return ir.Text(value)
            case (("runtime_data" | "local"), int(value)) if 0 <= value < self.params:
                return ir.Param(value)
            case "header", str(name) if name not in headers.headers and name in headers.unions:
                return ir.UnionRef(name)  # so p4c writes a stack's union, which BMv2 itself does not read
            case "header", _:
                return ir.HeaderRef(lookup(place, value, headers.headers, "header").name)
            case "header_stack", _:
                return ir.StackRef(lookup(place, value, headers.stacks, "header stack").name)
            case "header_union", _:
                return ir.UnionRef(lookup(place, value, headers.unions, "header union").name)
            case "header_union_stack", _:
                return ir.UnionStackRef(lookup(place, value, headers.union_stacks, "header union stack").name)
            case "stack_field", [stack, str(name)]:
                stack_type = lookup(place, stack, headers.stacks, "header stack").type
                self._has_field(place, stack_type, name)
                return ir.StackLast(stack, name)
            case "union_stack_field", [stack, str(member), str(name)]:
                return self._union_stack_field(place, stack, member, name)
            case "register", [array, index]:
                lookup(place, array, self.registers, "register array")
                return ir.RegisterRef(array, self._of_kind(place, index, "data", depth + 1))
            case "lookahead", [int(offset), int(bits)] if self.in_parser and offset >= 0:
                return ir.Lookahead(offset, width(place, bits))
        raise LoadError(place, f"{value!r} is no value of type {kind!r} here")

    def _operation(self, place: str, op: str, node: dict[str, Any], depth: int) -> ir.Expr:
        left, right = node.get("left"), node.get("right")
        if op in DATA_OPS:
            return ir.DataOp(op, *self._two(place, left, right, "data", depth))
        if op in BOOL_OPS:
            return ir.BoolOp(op, *self._two(place, left, right, "bool", depth))
        if op in COMPARISONS:
            return self._comparison(place, op, left, right, depth)
        return self._special(place, op, left, right, node.get("cond"), depth)

    def _special(self, place: str, op: str, left: Any, right: Any, cond: Any, depth: int) -> ir.Expr:
        match op:
            case "not":
                return ir.Not(self._of_kind(place, right, "bool", depth))
            case "d2b":
                return ir.DataToBool(self._of_kind(place, right, "data", depth))
            case "b2d":
                return ir.BoolToData(self._of_kind(place, right, "bool", depth))
            case "~":
                return ir.BitNot(self._of_kind(place, right, "data", depth))
            case "?":
                return self._choose(place, left, right, cond, depth)
            case "valid":
                return ir.Valid(self.header(place, right, depth))
            case "valid_union":
                return ir.UnionValid(self._union(place, right, depth))
            case "dereference_header_stack":
                return ir.StackElement(self._stack(place, left, depth).name, self._of_kind(place, right, "data", depth))
            case "dereference_union_stack":
                stack = self.any(place, left, depth)
                if not isinstance(stack, ir.UnionStackRef):
                    raise LoadError(place, f"a header union stack is needed here, not a {stack.KIND}")
                return ir.UnionStackElement(stack.name, self._of_kind(place, right, "data", depth))
            case "access_union_header":
                return self._union_member(place, self._union(place, left, depth), right)
            case "access_field":
                return self._header_field(place, self.header(place, left, depth), right)
            case "last_stack_index" | "size_stack":
                return ir.StackSize(self._stack(place, right, depth).name, op == "last_stack_index")
        raise LoadError(place, f"operation {op!r} does not exist")

    def _two(self, place: str, left: Any, right: Any, kind: Kind, depth: int) -> tuple[ir.Expr, ir.Expr]:
        return (
            self._of_kind(f"{place}.left", left, kind, depth),
            self._of_kind(f"{place}.right", right, kind, depth),
        )

    def _comparison(self, place: str, op: str, left: Any, right: Any, depth: int) -> ir.Expr:
        one, other = self.any(f"{place}.left", left, depth), self.any(f"{place}.right", right, depth)
        kinds = {one.KIND, other.KIND}
        allowed = {"data"} if op not in ("==", "!=") else {"data", "bool", "header", "stack", "union", "union_stack"}
        if len(kinds) != 1 or not kinds <= allowed:
            raise LoadError(place, f"{one.KIND} and {other.KIND} are not compared with {op}")
        if self._layout(one) != self._layout(other):
            raise LoadError(place, "headers, unions or stacks of different types are not compared")
        return ir.Compare(op, one, other)

    def _choose(self, place: str, left: Any, right: Any, cond: Any, depth: int) -> ir.Expr:
        condition = self._of_kind(f"{place}.cond", cond, "bool", depth)
        one, other = self.any(f"{place}.left", left, depth), self.any(f"{place}.right", right, depth)
        if one.KIND != other.KIND or one.KIND not in ("data", "bool"):
            raise LoadError(place, f"one branch is {one.KIND}, the other {other.KIND}", "both numbers or both booleans")
        return ir.Choose(condition, one, other)

    def _layout(self, expr: ir.Expr) -> Any:
        """What two headers, unions or stacks must have in common to be compared or copied."""
        headers = self.headers
        match expr:
            case ir.HeaderRef() | ir.StackElement() | ir.UnionMember():
                return self.type_of(expr).name
            case ir.StackRef(name):
                return headers.stacks[name].type.name, len(headers.stacks[name].members)
            case ir.UnionRef(name):
                return headers.unions[name].type_name
            case ir.UnionStackElement(name):
                return headers.union_stacks[name].type_name
            case ir.UnionStackRef(name):
                return headers.union_stacks[name].type_name, len(headers.union_stacks[name].members)
        return None

    def same_layout(self, place: str, one: ir.Expr, other: ir.Expr) -> None:
        """:raises LoadError: one cannot be copied to the other."""
        if one.KIND != other.KIND or self._layout(one) != self._layout(other):
            raise LoadError(place, f"a {other.KIND} is copied to a {one.KIND} of another type")

    def type_of(self, expr: ir.HeaderExpr) -> ir.HeaderType:
        """The type of a header expression."""
        headers = self.headers
        match expr:
            case ir.HeaderRef(name):
                return headers.headers[name].type
            case ir.StackElement(stack):
                return headers.stacks[stack].type
            case ir.UnionMember(union, member):
                first = union.name if isinstance(union, ir.UnionRef) else headers.union_stacks[union.stack].members[0]
                return headers.headers[headers.unions[first].members[member]].type

    def _stack(self, place: str, node: Any, depth: int) -> ir.StackRef:
        stack = self.any(place, node, depth)
        if not isinstance(stack, ir.StackRef):
            raise LoadError(place, f"a header stack is needed here, not a {stack.KIND}")
        return stack

    def _union(self, place: str, node: Any, depth: int) -> ir.UnionRef | ir.UnionStackElement:
        union = self.any(place, node, depth)
        if not isinstance(union, ir.UnionRef | ir.UnionStackElement):
            raise LoadError(place, f"a header union is needed here, not a {union.KIND}")
        return union

    def _union_member(self, place: str, union: ir.UnionRef | ir.UnionStackElement, member: Any) -> ir.UnionMember:
        headers = self.headers
        name = union.name if isinstance(union, ir.UnionRef) else headers.union_stacks[union.stack].members[0]
        if not isinstance(member, int) or not 0 <= member < len(headers.unions[name].members):
            raise LoadError(place, f"the union has no member number {member!r}")
        return ir.UnionMember(union, member)

    def _header_field(self, place: str, header: ir.HeaderExpr, offset: Any) -> ir.Expr:
        fields = self.type_of(header).fields
        if not isinstance(offset, int) or not 0 <= offset <= len(fields):
            raise LoadError(place, f"the header has no field number {offset!r}")
        if offset == len(fields):  # BMv2 keeps $valid$ as the last field
            return ir.BoolToData(ir.Valid(header))
        return ir.HeaderField(header, offset)

    def _field_of(self, place: str, header: ir.HeaderExpr, name: str) -> ir.Expr:
        """A field of a computed header: p4c writes ``stack[i].isValid()`` so, which BMv2 itself does not read."""
        header_type = self.type_of(header)
        self._has_field(place, header_type, name)
        if name == ir.VALID:
            return ir.BoolToData(ir.Valid(header))
        return ir.HeaderField(header, [field.name for field in header_type.fields].index(name))

    def _union_stack_field(self, place: str, stack: Any, member: str, name: str) -> ir.Expr:
        headers = self.headers
        first = headers.unions[lookup(place, stack, headers.union_stacks, "header union stack").members[0]]
        if member not in first.member_names:
            raise LoadError(place, f"the union has no member {member!r}")
        self._has_field(place, headers.headers[first.members[first.member_names.index(member)]].type, name)
        return ir.UnionStackLast(stack, member, name)

    def _has_field(self, place: str, header_type: ir.HeaderType, name: str) -> None:
        if name != ir.VALID and header_type.field(name) is None:
            raise LoadError(place, f"{header_type.name!r} has no field {name!r}")
