"""The parser as one function: ``parse(f, d, p)`` fills ``f`` from frame ``d``, sets ``p.offset``, returns the error.

States are numbered in the order in which a packet can reach them, and written one after another, each behind a test of
``s``. A step forward falls through to its state; only a step back goes round the loop. An error breaks out of it.
"""

from collections.abc import Callable

from p4switch import ir
from p4switch.interpreter.calculations import concatenate
from p4switch.interpreter.context import Context
from p4switch.interpreter.expressions import Expressions, needed_bytes
from p4switch.interpreter.layout import Block, Run
from p4switch.interpreter.primitives import Emitter
from p4switch.interpreter.writer import Writer

_ACCEPT = -1
_TABLE_FROM = 4  # transitions to exact values; fewer are compared one by one
_LONGEST_LOOP = 1 << 16  # states; a parser that loops without consuming anything ends with an error here


class ParserWriter:
    """Writes the parser of a program."""

    def __init__(self, context: Context, out: Writer) -> None:
        self._context = context
        self._program = context.state.program
        self._layout = context.layout
        self._e = Expressions(context.layout)
        self._out = out
        self._emitter = Emitter(context, self._e, out)
        self._parser = self._program.parsers["parser"]
        self._numbers = {name: i for i, name in enumerate(ir.reachable_states(self._parser))}

    def write(self) -> None:
        """``def parse``."""
        out = self._out
        with out.block("def parse(f, d, p)"):
            out.line("n = len(d)")
            out.line("o = left = 0")
            out.line(f"s = {0 if self._numbers else _ACCEPT}")
            out.line(f"e = {self._error('NoError')}")
            with out.block(f"while s != {_ACCEPT}"):
                out.line("left += 1")
                with out.block(f"if left > {_LONGEST_LOOP}"):
                    self._fail("ParserTimeout" if "ParserTimeout" in self._program.errors else "PacketTooShort")
                for name, number in self._numbers.items():
                    with out.block(f"if s == {number}"):
                        self._state(self._parser.states[name])
            out.line("p.offset = o")
            out.line("return e")
        out.line("")

    def _error(self, name: str) -> int:
        return self._program.errors[name]

    def _fail(self, error: str) -> None:
        self._out.line(f"e = {self._error(error)}")
        self._out.line("break")

    def _need(self, count: str) -> None:
        with self._out.block(f"if n - o < {count}"):
            self._fail("PacketTooShort")

    def _state(self, state: ir.ParserState) -> None:
        self._out.comment(f"state {state.name}")
        self._context.trace.state(self._out, state)
        for op in state.ops:
            match op:
                case ir.Extract():
                    self._extract(op)
                    self._context.trace.extract(self._out, op.name)
                case ir.Set(target, value):
                    self._set(target, value)
                    self._context.trace.assigned(self._out, op, self._e.place(target)[0])
                case ir.Verify(condition, error):
                    with self._out.block(f"if not {self._e.test(condition)}"):
                        self._out.line(f"e = {self._e.data(error)}")
                        self._out.line("break")
                case ir.Advance(bits):
                    self._advance(bits)
                case ir.ParserCall(primitive):
                    self._out.line("p.offset = o")
                    self._emitter.emit(primitive)
        self._transitions(state)

    def _set(self, target: ir.FieldRef, value: ir.Expr) -> None:
        if self._layout.field(target).varbit:
            self._emitter.assign_varbit(target, value)
            return
        needed = needed_bytes(value)
        if needed:
            self._need(str(needed))
        self._emitter.assign(target, value)

    def _advance(self, bits: ir.Expr) -> None:
        if isinstance(bits, ir.Const) and bits.value % 8 == 0:
            self._need(str(bits.value // 8))
            self._out.line(f"o += {bits.value // 8}")
            return
        amount = self._multiple_of_8(bits)
        self._need(f"{amount} // 8")
        self._out.line(f"o += {amount} // 8")

    def _multiple_of_8(self, bits: ir.Expr) -> str:
        """A local name with a number of bits; BMv2 takes only whole bytes."""
        name = self._out.temporary()
        self._out.line(f"{name} = {self._e.unsigned(bits, 32)}")
        with self._out.block(f"if {name} % 8"):
            self._fail("ParserInvalidArgument")
        return name

    # -- extract -----------------------------------------------------------------------------------------------------

    def _extract(self, op: ir.Extract) -> None:
        match op.into:
            case "header" if op.name in self._layout.raw:
                self._extract_raw(op.name, self._layout.blocks[op.name])
            case "header":
                self._extract_fixed(op, self._layout.blocks[op.name])
                self._siblings(op.name)
            case "stack":
                stack = self._program.stacks[op.name]
                self._extract_next(op, self._layout.stacks[op.name], self._layout.blocks[stack.members[0]])
            case "union_stack":
                union = self._program.unions[self._program.union_stacks[op.name].members[0]]
                member = union.member_names.index(op.member)
                self._extract_next(op, self._layout.union_stacks[op.name], self._layout.blocks[union.members[member]])

    def _extract_raw(self, name: str, block: Block) -> None:
        """A header that nothing changes: its bytes, and those fields that something looks at."""
        size = block.type.fixed_width // 8
        self._need(str(size))
        self._out.line(f"f[{self._layout.raw[name]}] = d[o:o + {size}]")
        for field, first, end in _places(block.type):
            if self._layout.usage.reads(name, field.name):
                self._out.line(f"f[{block.base + block.offset(field.name)}] = {_field_of(field, first, end)}")
        self._out.line(f"f[{block.valid}] = 1")
        self._out.line(f"o += {size}")

    def _siblings(self, header: str) -> None:
        union = self._layout.union_of.get(header)
        for member in union.members if union else ():
            if member != header:
                self._out.line(f"f[{self._layout.blocks[member].valid}] = 0")

    def _extract_next(self, op: ir.Extract, run: Run, first: Block) -> None:
        """To the stack's next element; ``first`` is that header of element 0."""
        with self._out.block(f"if f[{run.next}] >= {run.count}"):
            self._fail("StackOutOfBounds")
        name = self._out.temporary()
        self._out.line(f"{name} = {first.base} + f[{run.next}] * {run.stride}")
        self._extract_fixed(op, first, name)
        self._out.line(f"f[{run.next}] += 1")

    def _extract_fixed(self, op: ir.Extract, block: Block, base: str | None = None) -> None:
        def slot(offset: int) -> str:
            return f"f[{base} + {offset}]" if base else f"f[{block.base + offset}]"

        fixed = block.type.fixed_width // 8
        length = ""
        if op.varbit_width is not None:
            length = self._multiple_of_8(op.varbit_width)
            self._need(f"{fixed} + {length} // 8")
            varbit = block.type.varbit
            assert varbit is not None
            with self._out.block(f"if {length} > {varbit.width}"):
                self._fail("HeaderTooShort")
            total = f"{fixed} + {length} // 8"
        else:
            self._need(str(fixed))
            total = str(fixed)
        self._out.line(f"h = from_bytes(d[o:o + {total}])")
        self._split(block, slot, length)
        self._out.line(f"{slot(block.size - 1)} = 1")
        self._out.line(f"o += {total}")

    def _split(self, block: Block, slot: Callable[[int], str], length: str) -> None:
        """Fields out of ``h``, last first."""
        below, varying = 0, ""
        for field in reversed(block.type.fields):
            shift = f"{below}{varying}" if below or not varying else varying.removeprefix(" + ")
            value = f"h >> {shift}" if shift != "0" else "h"
            at = slot(block.offset(field.name))
            if field.varbit:
                self._out.line(f"{at} = {value} & (1 << {length}) - 1")
                self._out.line(f"{slot(block.offset(field.name) + 1)} = {length}")
                varying = f" + {length}"
                continue
            ones, half = (1 << field.width) - 1, 1 << (field.width - 1)
            if field.signed:
                self._out.line(f"{at} = (({value} & {ones}) + {half} & {ones}) - {half}")
            else:
                self._out.line(f"{at} = {value} & {ones}")
            below += field.width

    # -- transitions -------------------------------------------------------------------------------------------------

    def _transitions(self, state: ir.ParserState) -> None:
        default = next((item for item in state.transitions if item.kind == "default"), None)
        cases = [item for item in state.transitions if item.kind != "default"]
        following = self._number(default.next_state if default else None)
        if not cases:
            self._out.line(f"s = {following}")
            return
        needed = max(needed_bytes(part.expr) for part in state.key)
        if needed:
            self._need(str(needed))
        key = concatenate([(self._e.unsigned(part.expr, part.width), part.width) for part in state.key])
        if len(cases) >= _TABLE_FROM and all(case.kind == "value" and case.mask is None for case in cases):
            targets: dict[int, int] = {}
            for case in cases:
                targets.setdefault(case.value, self._number(case.next_state))
            name = self._context.mapping(targets)
            self._context.trace.transition(self._out, state, key)
            self._out.line(f"s = {name}({key}, {following})")
            return
        self._out.line(f"k = {key}")
        self._context.trace.transition(self._out, state, "k")
        for i, case in enumerate(cases):
            with self._out.block(f"{'elif' if i else 'if'} {self._case(case, state)}"):
                self._out.line(f"s = {self._number(case.next_state)}")
        with self._out.block("else"):
            self._out.line(f"s = {following}")

    def _case(self, case: ir.Transition, state: ir.ParserState) -> str:
        ones = (1 << sum(part.width for part in state.key)) - 1
        mask = ones if case.mask is None else case.mask
        if case.kind == "value_set":
            return f"{self._context.value_set(case.value_set)}(k, {mask})"
        if mask == ones:
            return f"k == {case.value}"
        return f"k & {mask} == {case.value & mask}"

    def _number(self, name: str | None) -> int:
        return _ACCEPT if name is None else self._numbers[name]


def _places(header_type: ir.HeaderType) -> list[tuple[ir.Field, int, int]]:
    """(field, first bit, end) for the fields of a type of fixed length."""
    places = []
    first = 0
    for field in header_type.fields:
        places.append((field, first, first + field.width))
        first += field.width
    return places


def _field_of(field: ir.Field, first: int, end: int) -> str:
    """Text of a field out of the bytes from ``o``, by its first bit and end."""
    start, stop, ones = first // 8, (end + 7) // 8, (1 << field.width) - 1
    text = f"d[o + {start}]" if stop - start == 1 else f"from_bytes(d[o + {start}:o + {stop}])"
    if stop * 8 != end:
        text = f"{text} >> {stop * 8 - end}"
    if first % 8:
        text = f"{text} & {ones}"
    half = 1 << (field.width - 1)
    return f"(({text}) + {half} & {ones}) - {half}" if field.signed else text
