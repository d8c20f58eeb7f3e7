"""One emitter for each primitive. Each writes the Python statements of one call.

In the text, ``f`` is the list of numbers, ``p`` the packet (p4switch.interpreter.packet). ``p`` may be read for its
payload, so a parser stores its offset there before it calls a primitive.
"""

import re
from collections.abc import Callable
from typing import TypeAlias

from p4switch import ir
from p4switch.interpreter.context import Context
from p4switch.interpreter.expressions import Expressions
from p4switch.interpreter.layout import Run, block_size, field_offset
from p4switch.interpreter.writer import Writer

_SESSION_GIVEN = 1 << 15  # BMv2: session 0 is a session, so a bit says that there was a clone
_ID = 0xFFFF
_PLACEHOLDER = re.compile(r"(?<!\\)\{[^{}]*\}")


class Emitter:
    """Writes primitives of one action or parser state to ``out``."""

    def __init__(self, context: Context, expressions: Expressions, out: Writer) -> None:
        self._context = context
        self._e = expressions
        self._out = out

    def emit(self, primitive: ir.Primitive) -> None:
        """Write one call; jumps and exit are the action's, not ours."""
        if primitive.source is not None:
            self._out.comment(f"{primitive.source}  {primitive.source.fragment}")
        self.trace(primitive)
        _EMITTERS[primitive.op](self, *primitive.args)

    def trace(self, primitive: ir.Primitive) -> None:
        """Announce a call, in the traced variant."""
        self._context.trace.primitive(self._out, primitive)

    def store(self, target: ir.Expr, value: str, bits: int | None = None) -> None:
        """Assign ``value``, known to have at most ``bits`` bits, as the field's width and sign have it."""
        place, field = self._e.place(target)
        if field.saturating:
            half = 1 << (field.width - 1)
            low, high = (-half, half - 1) if field.signed else (0, 2 * half - 1)
            value = f"clamp({value}, {low}, {high})"
        elif field.signed:
            half = 1 << (field.width - 1)
            value = f"({value} + {half} & {2 * half - 1}) - {half}"
        elif bits is None or bits > field.width:
            value = f"{value} & {(1 << field.width) - 1}"
        self._out.line(f"{place} = {value}")

    # -- assignments -------------------------------------------------------------------------------------------------

    def assign(self, target: ir.Expr, value: ir.Expr) -> None:
        self.store(target, self._e.data(value), self._e.bits(value))

    def binary(self, target: ir.Expr, op: str, left: ir.Expr, right: ir.Expr) -> None:
        self.assign(target, ir.DataOp(op, left, right))

    def assign_varbit(self, target: ir.Expr, value: ir.Expr) -> None:
        place, _ = self._e.place(target)
        for suffix in ("", " + 1"):  # the value, then its length
            self._out.line(f"{place[:-1]}{suffix}] = {self._e.data(value)[:-1]}{suffix}]")

    def assign_header(self, target: ir.HeaderExpr, source: ir.HeaderExpr) -> None:
        size = block_size(self._e.header_type(target))
        one, other = self._base(target, write=True), self._base(source)
        with self._out.block(f"if f[{other} + {size - 1}]"):
            self._invalidate_siblings(target)
            self._out.line(f"f[{one}:{one} + {size}] = f[{other}:{other} + {size}]")
        with self._out.block("else"):
            self._out.line(f"f[{one} + {size - 1}] = 0")

    def assign_header_stack(self, target: ir.StackRef, source: ir.StackRef) -> None:
        self._copy_run(self._e.layout.stacks[target.name], self._e.layout.stacks[source.name])

    def assign_union_stack(self, target: ir.UnionStackRef, source: ir.UnionStackRef) -> None:
        self._copy_run(self._e.layout.union_stacks[target.name], self._e.layout.union_stacks[source.name])

    def _copy_run(self, one: Run, other: Run) -> None:
        self._out.line(f"f[{one.base}:{one.end}] = f[{other.base}:{other.end}]")
        self._out.line(f"f[{one.next}] = f[{other.next}]")

    def assign_union(
        self, target: ir.UnionRef | ir.UnionStackElement, source: ir.UnionRef | ir.UnionStackElement
    ) -> None:
        union = self._e.union(target)
        headers = self._e.layout.program.headers
        size = sum(block_size(headers[member].type) for member in union.members)
        one, other = self._name(self._e.union_base(target, write=True)), self._name(self._e.union_base(source))
        self._out.line(f"f[{one}:{one} + {size}] = f[{other}:{other} + {size}]")

    # -- headers -----------------------------------------------------------------------------------------------------

    def _name(self, base: int | str) -> str:
        """The base in a local name if it is computed, so that it is computed once."""
        if isinstance(base, int):
            return str(base)
        name = self._out.temporary()
        self._out.line(f"{name} = {base}")
        return name

    def _base(self, header: ir.HeaderExpr, *, write: bool = False) -> str:
        return self._name(self._e.base(header, write=write))

    def _invalidate_siblings(self, header: ir.HeaderExpr) -> None:
        """Make the other members of the header's union invalid, if it is in one."""
        if isinstance(header, ir.HeaderRef):
            union = self._e.layout.union_of.get(header.name)
            if union is None:
                return
            header = ir.UnionMember(ir.UnionRef(union.name), union.members.index(header.name))
        if not isinstance(header, ir.UnionMember):
            return
        for member in range(len(self._e.union(header.union).members)):
            if member != header.member:
                sibling = ir.UnionMember(header.union, member)
                self._out.line(f"f[{self._base(sibling, write=True)} + {self._valid(sibling)}] = 0")

    def _valid(self, header: ir.HeaderExpr) -> int:
        return field_offset(self._e.header_type(header), ir.VALID)

    def add_header(self, header: ir.HeaderExpr) -> None:
        header_type = self._e.header_type(header)
        base, valid = self._base(header, write=True), self._valid(header)
        with self._out.block(f"if not f[{base} + {valid}]"):
            self._invalidate_siblings(header)
            self._out.line(f"f[{base}:{base} + {valid + 1}] = {'(' + '0, ' * valid + '1)'}")
            self._out.line(f"p.length += {header_type.fixed_width // 8}")

    def add_header_fast(self, header: ir.HeaderExpr) -> None:
        self._invalidate_siblings(header)
        self._out.line(f"f[{self._base(header, write=True)} + {self._valid(header)}] = 1")

    def remove_header(self, header: ir.HeaderExpr) -> None:
        header_type = self._e.header_type(header)
        base, valid = self._base(header, write=True), self._valid(header)
        size = str(header_type.fixed_width // 8)
        if header_type.varbit is not None:
            size += f" + f[{base} + {field_offset(header_type, header_type.varbit.name) + 1}] // 8"
        with self._out.block(f"if f[{base} + {valid}]"):
            self._out.line(f"f[{base} + {valid}] = 0")
            self._out.line(f"p.length -= {size}")

    def push(self, stack: ir.StackRef | ir.UnionStackRef, count: ir.Expr) -> None:
        self._shift(stack, count, "push")

    def pop(self, stack: ir.StackRef | ir.UnionStackRef, count: ir.Expr) -> None:
        self._shift(stack, count, "pop")

    def _shift(self, stack: ir.StackRef | ir.UnionStackRef, count: ir.Expr, helper: str) -> None:
        layout = self._e.layout
        run = layout.stacks[stack.name] if isinstance(stack, ir.StackRef) else layout.union_stacks[stack.name]
        amount = self._e.data(count)
        self._out.line(f"{helper}_front(f, {run.base}, {run.stride}, {run.count}, {run.next}, {amount})")

    # -- what becomes of the packet ----------------------------------------------------------------------------------

    def drop(self, *_: ir.Expr) -> None:
        self.store(self._context.egress_spec, str(self._context.drop_port))
        if self._context.mcast_grp is not None:
            self.store(self._context.mcast_grp, "0", 0)

    def clone(self, session: ir.Expr, field_list: ir.Expr) -> None:
        self._out.line("p.marked = True")
        self._out.line(f"p.clone_session = {self._e.unsigned(session, 15)} | {_SESSION_GIVEN}")
        self._out.line(f"p.clone_list = {self._e.unsigned(field_list, 16)}")

    def digest(self, _: ir.Expr, digest: ir.Expr) -> None:
        self._wish("digest", digest)

    def resubmit(self, field_list: ir.Expr) -> None:
        self._wish("resubmit", field_list)

    def recirculate(self, field_list: ir.Expr) -> None:
        self._wish("recirculate", field_list)

    def _wish(self, name: str, value: ir.Expr) -> None:
        self._out.line("p.marked = True")
        self._out.line(f"p.{name} = {self._e.unsigned(value, 16)}")

    def truncate(self, length: ir.Expr) -> None:
        value = self._e.unsigned(length, 32)
        self._out.line(f"p.truncate = {value} if p.truncate < 0 else min(p.truncate, {value})")

    # -- externs -----------------------------------------------------------------------------------------------------

    def hash(self, target: ir.Expr, low: ir.Expr, calculation: ir.Array, size: ir.Expr) -> None:
        function = self._context.calculation(calculation.name)
        # BMv2: a size of 0 counts as 1
        modulus = self._e.unsigned(size, 64)
        if not isinstance(size, ir.Const):
            modulus = f"({modulus} or 1)"
        elif not size.value:
            modulus = "1"
        self.store(target, f"{function}(f, p) % {modulus} + {self._e.unsigned(low, 64)}")

    def random(self, target: ir.Expr, low: ir.Expr, high: ir.Expr) -> None:
        one, other = self._out.temporary(), self._out.temporary()
        self._out.line(f"{one}, {other} = {self._e.unsigned(low, 64)}, {self._e.unsigned(high, 64)}")
        with self._out.block(f"if {one} <= {other}"):  # BMv2 leaves the field alone if the bounds are crossed
            self.store(target, f"randint({one}, {other})")

    def count(self, array: ir.Array, index: ir.Expr) -> None:
        packets, size, at = self._context.counter(array.name)
        at_index = self._index(index, size)
        if at_index is not None:
            with self._out.block(at_index[0]):
                self._out.line(f"{packets}[{at_index[1]}] += 1")
                self._out.line(f"{at}[{at_index[1]}] += p.size")

    def _index(self, index: ir.Expr, size: int) -> tuple[str, str] | None:
        """(block head, text of the index) for an access that is in range; None if it never is."""
        if isinstance(index, ir.Const):
            return ("if True", str(index.value)) if 0 <= index.value < size else None
        name = self._out.temporary()
        self._out.line(f"{name} = {self._e.data(index)}")
        return f"if 0 <= {name} < {size}", name

    def meter(self, array: ir.Array, index: ir.Expr, target: ir.Expr) -> None:
        name, size = self._context.meter(array.name)
        at = self._index(index, size)
        if at is not None:
            with self._out.block(at[0]):
                self.store(target, f"{name}.execute({at[1]}, p.size, p.now)", 2)

    def register_read(self, target: ir.Expr, array: ir.Array, index: ir.Expr) -> None:
        name, spec = self._context.register(array.name)
        at = self._index(index, spec.size)
        if at is not None:
            with self._out.block(at[0]):
                self.store(target, f"{name}[{at[1]}]", spec.width)

    def register_write(self, array: ir.Array, index: ir.Expr, value: ir.Expr) -> None:
        name, spec = self._context.register(array.name)
        at = self._index(index, spec.size)
        if at is not None:
            with self._out.block(at[0]):
                self._out.line(f"{name}[{at[1]}] = {self._e.unsigned(value, spec.width)}")

    def log(self, text: ir.Text, values: ir.Vector) -> None:
        pieces = tuple(piece.replace("\\{", "{").replace("\\}", "}") for piece in _PLACEHOLDER.split(text.value))
        items = "".join(f"{self._value(item)}, " for item in values.items)
        self._out.line(f"log_message({self._context.constant(pieces)}, ({items}))")

    def _value(self, expr: ir.Expr) -> str:
        return self._e.data(expr) if expr.KIND == "data" else f"bool({self._e.test(expr)})"

    def truth(self, expr: ir.Expr) -> str:
        """Text whose truth is that of a number or truth value."""
        return self._e.data(expr) if expr.KIND == "data" else self._e.test(expr)

    def assertion(self, condition: ir.Expr) -> None:
        self._out.line(f"holds({self.truth(condition)}, {self._context.constant('assert or assume')})")

    def nothing(self, *_: ir.Expr) -> None:
        """no_op."""


_Emit: TypeAlias = Callable[..., None]


def _arithmetic(op: str) -> _Emit:
    return lambda emitter, target, left, right: emitter.binary(target, op, left, right)


def _in_place(op: str) -> _Emit:
    return lambda emitter, target, value: emitter.binary(target, op, target, value)


_EMITTERS: dict[str, _Emit] = {
    "add": _arithmetic("+"),
    "add_header": Emitter.add_header,
    "add_header_fast": Emitter.add_header_fast,
    "add_to_field": _in_place("+"),
    "assert": Emitter.assertion,
    "assign": Emitter.assign,
    "assign_VL": Emitter.assign_varbit,
    "assign_header": Emitter.assign_header,
    "assign_header_stack": Emitter.assign_header_stack,
    "assign_union": Emitter.assign_union,
    "assign_union_stack": Emitter.assign_union_stack,
    "assume": Emitter.assertion,
    "bit_and": _arithmetic("&"),
    "bit_or": _arithmetic("|"),
    "bit_xor": _arithmetic("^"),
    "clone_egress_pkt_to_egress": Emitter.clone,
    "clone_ingress_pkt_to_egress": Emitter.clone,
    "copy_header": Emitter.assign_header,
    "count": Emitter.count,
    "drop": Emitter.drop,
    "execute_meter": Emitter.meter,
    "generate_digest": Emitter.digest,
    "log_msg": Emitter.log,
    "mark_to_drop": Emitter.drop,
    "modify_field": Emitter.assign,
    "modify_field_rng_uniform": Emitter.random,
    "modify_field_with_hash_based_offset": Emitter.hash,
    "no_op": Emitter.nothing,
    "pop": Emitter.pop,
    "push": Emitter.push,
    "recirculate": Emitter.recirculate,
    "register_read": Emitter.register_read,
    "register_write": Emitter.register_write,
    "remove_header": Emitter.remove_header,
    "resubmit": Emitter.resubmit,
    "shift_left": _arithmetic("<<"),
    "shift_right": _arithmetic(">>"),
    "subtract": _arithmetic("-"),
    "subtract_from_field": _in_place("-"),
    "truncate": Emitter.truncate,
}
