"""Whether this switch can run a program: every construct is looked at before the first packet.

``SIGNATURES`` is the list of primitives, with what each takes. A back end may rely on everything that is checked here.
"""

import re
from collections.abc import Iterator

from p4switch import ir
from p4switch.errors import UnsupportedError
from p4switch.runtime.hashes import ALGORITHMS

# field: can be assigned to · data, bool, header, stack, union, union_stack, string: an expression of this kind ·
# vector, calculation, counter_array, meter_array, register_array: an argument of this kind · truth: data or bool
SIGNATURES: dict[str, tuple[str, ...]] = {
    "_jump": ("data",),
    "_jump_if_zero": ("truth", "data"),
    "add": ("field", "data", "data"),
    "add_header": ("header",),
    "add_header_fast": ("header",),
    "add_to_field": ("field", "data"),
    "assert": ("truth",),
    "assign": ("field", "data"),
    "assign_VL": ("varbit", "varbit"),
    "assign_header": ("header", "header"),
    "assign_header_stack": ("stack", "stack"),
    "assign_union": ("union", "union"),
    "assign_union_stack": ("union_stack", "union_stack"),
    "assume": ("truth",),
    "bit_and": ("field", "data", "data"),
    "bit_or": ("field", "data", "data"),
    "bit_xor": ("field", "data", "data"),
    "clone_egress_pkt_to_egress": ("data", "data"),
    "clone_ingress_pkt_to_egress": ("data", "data"),
    "copy_header": ("header", "header"),
    "count": ("counter_array", "data"),
    "drop": (),
    "execute_meter": ("meter_array", "data", "field"),
    "exit": (),
    "generate_digest": ("data", "data"),
    "log_msg": ("string", "vector"),
    "mark_to_drop": ("header",),
    "modify_field": ("field", "data"),
    "modify_field_rng_uniform": ("field", "data", "data"),
    "modify_field_with_hash_based_offset": ("field", "data", "calculation", "data"),
    "no_op": (),
    "pop": ("any_stack", "data"),
    "push": ("any_stack", "data"),
    "recirculate": ("data",),
    "register_read": ("field", "register_array", "data"),
    "register_write": ("register_array", "data", "data"),
    "remove_header": ("header",),
    "resubmit": ("data",),
    "shift_left": ("field", "data", "data"),
    "shift_right": ("field", "data", "data"),
    "subtract": ("field", "data", "data"),
    "subtract_from_field": ("field", "data"),
    "truncate": ("data",),
}
IN_PARSER = frozenset(
    {
        "add_header", "assign", "assign_VL", "assign_header", "assign_header_stack", "assign_union",
        "assign_union_stack", "assert", "assume", "count", "log_msg", "modify_field_rng_uniform",
        "modify_field_with_hash_based_offset", "pop", "push",
        "register_read", "register_write", "remove_header", "no_op",
    }
)  # fmt: skip
"""Primitives that a parser state may call."""
IN_DEPARSER = frozenset(
    {
        "assert", "assign", "assign_VL", "assume", "count", "execute_meter", "log_msg", "modify_field",
        "modify_field_rng_uniform", "modify_field_with_hash_based_offset", "no_op", "register_read", "register_write",
    }
)  # fmt: skip
"""Primitives that a deparser may call: none that changes which headers are valid."""
REQUIRED = ("ingress_port", "packet_length", "instance_type", "egress_spec", "egress_port")
_PLACEHOLDER = re.compile(r"(?<!\\)\{[^{}]*\}")


def check_program(program: ir.Program) -> None:
    """:raises UnsupportedError: the program uses something that the back ends cannot do; names it and its line."""
    for problem in _problems(program):
        raise problem


def _problems(program: ir.Program) -> Iterator[UnsupportedError]:
    yield from _architecture(program)
    checker = _Checker(program)
    for action in program.actions.values():
        place = f"action {action.name}"
        for primitive in action.primitives:
            yield from checker.primitive(place, primitive, SIGNATURES)
            yield from _jump(place, primitive, len(action.primitives))
    for parser in program.parsers.values():
        for state in parser.states.values():
            yield from checker.state(state)
    for deparser in program.deparsers.values():
        for primitive in deparser.primitives:
            yield from checker.deparser(f"deparser {deparser.name}", primitive)
    for pipeline in program.pipelines.values():
        for node in pipeline.nodes.values():
            if isinstance(node, ir.Conditional):
                yield from checker.expression(f"condition {node.name}", node.source, node.expression)
        for profile in pipeline.profiles:
            if profile.selector is not None and profile.selector.algorithm not in ALGORITHMS:
                yield _unsupported(f"hash algorithm {profile.selector.algorithm}", None, profile.name)
    for calculation in program.calculations.values():
        if calculation.algorithm not in ALGORITHMS:
            source = calculation.source or _user(program, calculation.name)
            yield _unsupported(f"hash algorithm {calculation.algorithm}", source, calculation.name)
    for checksum in program.checksums:
        if checksum.condition is not None:
            yield from checker.expression(f"checksum {checksum.name}", checksum.source, checksum.condition)
        if checker.is_varbit(checksum.target):
            yield _unsupported("a checksum in a varbit field", checksum.source, checksum.name)


def _architecture(program: ir.Program) -> Iterator[UnsupportedError]:
    for extern in program.externs.values():
        yield _unsupported(f"extern {extern.type}", extern.source, extern.name)
    if "parser" not in program.parsers or "deparser" not in program.deparsers:
        yield _unsupported("a program without a parser called parser and a deparser called deparser", None, "program")
    if not {"ingress", "egress"} <= program.pipelines.keys():
        yield _unsupported("a program without the pipelines ingress and egress", None, "program")
    for name in REQUIRED:
        header = program.headers.get("standard_metadata")
        aliased = f"standard_metadata.{name}" in program.aliases
        if not aliased and (header is None or header.type.field(name) is None):
            yield _unsupported(f"a program without standard_metadata.{name}", None, "program")


def _user(program: ir.Program, calculation: str) -> ir.SourceInfo | None:
    """Where a calculation is used: p4c gives that of a ``hash`` call no source of its own."""
    for action in program.actions.values():
        for primitive in action.primitives:
            if ir.Array("calculation", calculation) in primitive.args:
                return primitive.source
    return None


def _unsupported(construct: str, source: ir.SourceInfo | None, place: str) -> UnsupportedError:
    return UnsupportedError(construct, str(source) if source else place)


def _jump(place: str, primitive: ir.Primitive, count: int) -> Iterator[UnsupportedError]:
    if primitive.op not in ("_jump", "_jump_if_zero"):
        return
    target = primitive.args[-1] if primitive.args else None
    if not isinstance(target, ir.Const) or not 0 <= target.value <= count:
        yield _unsupported(f"{primitive.op} to anything but a primitive of the action", primitive.source, place)


class _Checker:
    def __init__(self, program: ir.Program) -> None:
        self._program = program

    def is_varbit(self, expr: ir.Argument) -> bool:
        if not isinstance(expr, ir.FieldRef | ir.HeaderField):
            return False
        field = self._field(expr)
        return field is not None and field.varbit

    def state(self, state: ir.ParserState) -> Iterator[UnsupportedError]:
        place = f"parser state {state.name}"
        for op in state.ops:
            match op:
                case ir.ParserCall(primitive) if primitive.op not in IN_PARSER:
                    yield _unsupported(f"{primitive.op} in a parser", primitive.source, place)
                case ir.ParserCall(primitive):
                    yield from self.primitive(place, primitive, SIGNATURES)
                case ir.Set(target, value, source):
                    if self.is_varbit(target) != self.is_varbit(value):
                        yield _unsupported("assigning a varbit field to another kind of field", source, place)
                    yield from self.expression(place, source, value)
                case ir.Verify(condition, error, source):
                    yield from self.expression(place, source, condition)
                    yield from self.expression(place, source, error)
                case ir.Advance(bits, source):
                    yield from self.expression(place, source, bits)
                case ir.Extract(varbit_width=length, source=source) if length is not None:
                    yield from self.expression(place, source, length)

    def deparser(self, place: str, primitive: ir.Primitive) -> Iterator[UnsupportedError]:
        if primitive.op in IN_DEPARSER:
            yield from self.primitive(place, primitive, SIGNATURES)
        else:
            yield _unsupported(f"{primitive.op} in a deparser", primitive.source, place)

    def primitive(
        self, place: str, primitive: ir.Primitive, signatures: dict[str, tuple[str, ...]]
    ) -> Iterator[UnsupportedError]:
        kinds = signatures.get(primitive.op)
        if kinds is None:
            yield _unsupported(f"primitive {primitive.op}", primitive.source, place)
            return
        if len(kinds) != len(primitive.args):
            yield _unsupported(f"{primitive.op} with {len(primitive.args)} arguments", primitive.source, place)
            return
        for kind, arg in zip(kinds, primitive.args, strict=True):
            if not self._fits(kind, arg):
                yield _unsupported(f"{primitive.op} with an argument that is no {kind}", primitive.source, place)
            if not isinstance(arg, ir.Array | ir.Vector):
                yield from self.expression(place, primitive.source, arg)
        yield from self._types(place, primitive)

    def _fits(self, kind: str, arg: ir.Argument) -> bool:
        match arg:
            case ir.Array(array_kind):
                return kind == array_kind
            case ir.Vector(items):
                return kind == "vector" and all(item.KIND in ("data", "bool") for item in items)
        match kind:
            case "field":
                return isinstance(arg, ir.FieldRef | ir.HeaderField | ir.StackLast) and not self.is_varbit(arg)
            case "varbit":
                return self.is_varbit(arg)
            case "truth":
                return arg.KIND in ("data", "bool")
            case "any_stack":
                return isinstance(arg, ir.StackRef | ir.UnionStackRef)
            case "header":
                return isinstance(arg, ir.HeaderRef | ir.StackElement | ir.UnionMember)
        return (kind == arg.KIND and not isinstance(arg, ir.Choose)) or (kind == "data" and arg.KIND == "data")

    def _types(self, place: str, primitive: ir.Primitive) -> Iterator[UnsupportedError]:
        """Arguments that fit one by one, but not together."""
        match primitive:
            case ir.Primitive(op="copy_header" | "assign_header", args=(one, other)):
                alike = self._type(one) == self._type(other)
            case ir.Primitive(op="assign_header_stack", args=(ir.StackRef(one), ir.StackRef(other))):
                stacks = self._program.stacks
                alike = (stacks[one].type, len(stacks[one].members)) == (stacks[other].type, len(stacks[other].members))
            case ir.Primitive(op="assign_union", args=(one, other)):
                alike = self._union_type(one) == self._union_type(other)
            case ir.Primitive(op="assign_union_stack", args=(ir.UnionStackRef(one), ir.UnionStackRef(other))):
                found = self._program.union_stacks
                alike = (found[one].type_name, len(found[one].members)) == (
                    found[other].type_name,
                    len(found[other].members),
                )
            case ir.Primitive(op="execute_meter", args=(ir.Array(name=name), *_)):
                alike = self._program.meters[name].table is None
            case ir.Primitive(op="count", args=(ir.Array(name=name), *_)):
                alike = self._program.counters[name].table is None
            case ir.Primitive(op="log_msg", args=(ir.Text(text), ir.Vector(items))):
                alike = len(_PLACEHOLDER.findall(text)) == len(items)
            case _:
                return
        if not alike:
            yield _unsupported(f"{primitive.op} with arguments that do not fit together", primitive.source, place)

    def expression(self, place: str, source: ir.SourceInfo | None, expr: ir.Expr) -> Iterator[UnsupportedError]:
        match expr:
            case ir.Compare(_, left, right) if left.KIND in ("stack", "union_stack"):
                yield _unsupported("comparing header stacks", source, place)
            case ir.DataOp(_, left, right) | ir.Compare(_, left, right) | ir.BoolOp(_, left, right):
                yield from self.expression(place, source, left)
                yield from self.expression(place, source, right)
            case ir.BitNot(one) | ir.Not(one) | ir.DataToBool(one) | ir.BoolToData(one) | ir.RegisterRef(_, one):
                yield from self.expression(place, source, one)
            case ir.Choose(condition, left, right):
                for part in (condition, left, right):
                    yield from self.expression(place, source, part)

    def _field(self, expr: ir.FieldRef | ir.HeaderField) -> ir.Field | None:
        if isinstance(expr, ir.FieldRef):
            return self._program.headers[expr.header].type.field(expr.field)
        header_type = self._type(expr.header)
        return header_type.fields[expr.field] if header_type else None

    def _type(self, header: ir.Argument) -> ir.HeaderType | None:
        program = self._program
        match header:
            case ir.HeaderRef(name):
                return program.headers[name].type
            case ir.StackElement(stack):
                return program.stacks[stack].type
            case ir.UnionMember(ir.UnionRef(name), member):
                return program.headers[program.unions[name].members[member]].type
            case ir.UnionMember(ir.UnionStackElement(stack), member):
                first = program.unions[program.union_stacks[stack].members[0]]
                return program.headers[first.members[member]].type
        return None

    def _union_type(self, union: ir.Argument) -> str:
        match union:
            case ir.UnionRef(name):
                return self._program.unions[name].type_name
            case ir.UnionStackElement(stack):
                return self._program.union_stacks[stack].type_name
        return ""
