"""A thin layer over llvmlite's builder: memory by offset, loops, numbers of any width.

Pointers are opaque and address bytes. Memory holds a number of W bits in `layout.slot_bytes`; see `Emitter.load_slot`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from llvmlite import ir as llvm

from p4switch.native.layout import slot_bytes

Value: TypeAlias = Any
"""An llvmlite value; llvmlite has no type annotations."""

PTR = llvm.PointerType()
VOID = llvm.VoidType()
I1, I8, I16, I32, I64, I128 = (llvm.IntType(width) for width in (1, 8, 16, 32, 64, 128))


def integer(width: int) -> Any:
    """The type iW."""
    return llvm.IntType(width)


def const(width: int, value: int) -> Value:
    """A constant of ``width`` bits, whatever of ``value`` they can hold."""
    return llvm.Constant(llvm.IntType(width), value & ((1 << width) - 1))


def i64(value: int) -> Value:
    """A constant of 64 bits."""
    return const(64, value)


def i32(value: int) -> Value:
    """A constant of 32 bits."""
    return const(32, value)


@dataclass
class Loop:
    """A loop under construction."""

    head: Value
    done: Value


@dataclass
class Unit:
    """The module under construction, and the C functions that it calls."""

    module: Any = field(default_factory=llvm.Module)
    messages: list[Any] = field(default_factory=list)
    """Log messages of the program, see p4switch.native.records."""

    def function(self, name: str, result: Any, *args: Any, internal: bool = True) -> Any:
        """A new function, or a declaration if no body follows."""
        function = llvm.Function(self.module, llvm.FunctionType(result, args), name)
        if internal:
            function.linkage = "internal"
        return function

    def external(self, name: str, result: Any, *args: Any) -> Any:
        """A function of the C library."""
        found = self.module.globals.get(name)
        return found or llvm.Function(self.module, llvm.FunctionType(result, args), name)

    def table(self, name: str, width: int, values: Sequence[int]) -> Any:
        """A constant array."""
        found = self.module.globals.get(name)
        if found is not None:
            return found
        kind = llvm.ArrayType(llvm.IntType(width), len(values))
        variable = llvm.GlobalVariable(self.module, kind, name)
        variable.initializer = llvm.Constant(kind, [llvm.Constant(llvm.IntType(width), value) for value in values])
        variable.global_constant = True
        variable.linkage = "internal"
        return variable


class Emitter:
    """Builds the body of one function."""

    def __init__(self, unit: Unit, function: Any) -> None:
        self.unit = unit
        self.function = function
        self._entry = function.append_basic_block("entry")
        body = function.append_basic_block("body")
        self.b = llvm.IRBuilder(body)
        self._locals = llvm.IRBuilder(self._entry)
        self._branch = self._locals.branch(body)

    # -- memory ------------------------------------------------------------------------------------------------------

    def at(self, base: Value, offset: "int | Value") -> Value:
        """``base + offset`` bytes."""
        if isinstance(offset, int):
            if offset == 0:
                return base
            offset = i64(offset)
        return self.b.gep(base, [offset], inbounds=True, source_etype=I8)

    def load(self, pointer: Value, width: int, align: int = 1) -> Value:
        """A number of exactly ``width`` bits in memory."""
        return self.b.load(pointer, typ=llvm.IntType(width), align=align)

    def load_pointer(self, pointer: Value) -> Value:
        return self.b.load(pointer, typ=PTR, align=8)

    def store(self, value: Value, pointer: Value, align: int = 1) -> None:
        self.b.store(value, pointer, align=align)

    def load_slot(self, pointer: Value, width: int) -> Value:
        """A number of ``width`` bits from its slot."""
        size = slot_bytes(width)
        return self.resize(self.load(pointer, size * 8, min(size, 8)), width)

    def store_slot(self, value: Value, pointer: Value, width: int) -> None:
        """A number of ``width`` bits to its slot."""
        size = slot_bytes(width)
        self.store(self.resize(value, size * 8), pointer, min(size, 8))

    def add_to(self, pointer: Value, amount: Value) -> None:
        """``*pointer += amount``, 64 bits."""
        self.store(self.b.add(self.load(pointer, 64, 8), amount), pointer, 8)

    def copy(self, to: Value, source: Value, size: "int | Value") -> None:
        """memcpy."""
        function = self.unit.external("memcpy", PTR, PTR, PTR, I64)
        self.b.call(function, [to, source, i64(size) if isinstance(size, int) else size])

    def zero(self, to: Value, size: "int | Value") -> None:
        """memset to 0."""
        function = self.unit.external("memset", PTR, PTR, I32, I64)
        self.b.call(function, [to, i32(0), i64(size) if isinstance(size, int) else size])

    def local(self, kind: Any, initial: Value | None = None) -> Value:
        """A variable of the function; becomes a register."""
        self._locals.position_before(self._branch)
        variable = self._locals.alloca(kind)
        if initial is not None:
            self.b.store(initial, variable)
        return variable

    def get(self, variable: Value, kind: Any) -> Value:
        return self.b.load(variable, typ=kind)

    def set(self, variable: Value, value: Value) -> None:
        self.b.store(value, variable)

    # -- numbers -----------------------------------------------------------------------------------------------------

    def resize(self, value: Value, width: int, *, signed: bool = False) -> Value:
        """The same number in ``width`` bits: extended, or its lowest bits."""
        have = value.type.width
        if have == width:
            return value
        kind = llvm.IntType(width)
        if have > width:
            return self.b.trunc(value, kind)
        return self.b.sext(value, kind) if signed else self.b.zext(value, kind)

    def swap(self, value: Value) -> Value:
        """Bytes reversed; the width is a whole number of bytes."""
        width = value.type.width
        if width == 8:
            return value
        if width % 16:
            wide = self.b.shl(self.resize(value, width + 8), const(width + 8, 8))
            return self.resize(self.swap(wide), width)
        return self.b.bswap(value)

    def load_bits(self, pointer: Value, first: int, width: int) -> Value:
        """``width`` bits in network order, from bit ``first`` after the pointer; reads no byte beyond."""
        start, end = first // 8, -(-(first + width) // 8)
        value = self.swap(self.load(self.at(pointer, start), 8 * (end - start)))
        below = 8 * end - first - width
        if below:
            value = self.b.lshr(value, const(value.type.width, below))
        return self.resize(value, width)

    def least(self, one: Value, other: Value) -> Value:
        """The smaller of two unsigned numbers."""
        return self.b.select(self.b.icmp_unsigned("<", one, other), one, other)

    # -- control flow ------------------------------------------------------------------------------------------------

    def block(self, name: str) -> Value:
        """A new block, not entered yet."""
        return self.function.append_basic_block(name)

    def enter(self, block: Value) -> None:
        """Go on in ``block``; falls through to it if the present one is open."""
        if not self.b.block.is_terminated:
            self.b.branch(block)
        self.b.position_at_end(block)

    def enter_closed(self, block: Value) -> None:
        """Go on in ``block``, to which nothing falls through."""
        self.b.position_at_end(block)

    @property
    def open(self) -> bool:
        """Whether the present block still lacks its end."""
        return not self.b.block.is_terminated

    def jump(self, block: Value) -> None:
        if self.open:
            self.b.branch(block)

    @contextmanager
    def when(self, condition: Value, *, likely: bool | None = None) -> Iterator[None]:
        """if."""
        inside, done = self.block("then"), self.block("done")
        branch = self.b.cbranch(condition, inside, done)
        if likely is not None:
            branch.set_weights([99, 1] if likely else [1, 99])
        self.b.position_at_end(inside)
        yield
        self.jump(done)
        self.b.position_at_end(done)

    def choose(self, condition: Value, yes: Callable[[], None], no: Callable[[], None]) -> None:
        """if, else."""
        one, other, done = self.block("yes"), self.block("no"), self.block("done")
        self.b.cbranch(condition, one, other)
        self.b.position_at_end(one)
        yes()
        self.jump(done)
        self.b.position_at_end(other)
        no()
        self.jump(done)
        self.b.position_at_end(done)

    @contextmanager
    def loop(self, condition: Callable[[], Value] | None = None) -> Iterator[Loop]:
        """while condition; without one: until something jumps to ``done``."""
        head, body, done = self.block("head"), self.block("loop"), self.block("after")
        self.enter(head)
        if condition is None:
            self.b.branch(body)
        else:
            self.b.cbranch(condition(), body, done)
        self.b.position_at_end(body)
        yield Loop(head, done)
        self.jump(head)
        self.b.position_at_end(done)

    @contextmanager
    def count(self, end: Value, start: Value | None = None) -> Iterator[Value]:
        """for i in range(start, end); ``end``'s type."""
        kind = end.type
        variable = self.local(kind, start if start is not None else llvm.Constant(kind, 0))
        with self.loop(lambda: self.b.icmp_unsigned("<", self.get(variable, kind), end)):
            index = self.get(variable, kind)
            yield index
            if self.open:
                self.set(variable, self.b.add(self.get(variable, kind), llvm.Constant(kind, 1)))

    def call(self, function: Any, *args: Value) -> Value:
        return self.b.call(function, list(args))
