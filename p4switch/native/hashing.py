"""Hash algorithms over bytes, and calculations: a hash over fields, headers and payload.

`Calculations.function` gives ``u64 f(region*, packet*)``. Inputs of invalid headers are left out, so the input's length
is known only when the packet is here; it is put together in a buffer, byte by byte where all parts are whole bytes,
else as one wide number.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from p4switch import ir
from p4switch.errors import UnsupportedError
from p4switch.native.emit import I64, PTR, Emitter, Unit, Value, const, i64, integer
from p4switch.native.expressions import Expressions
from p4switch.native.layout import Control, Layout, Packet, slot_bytes

_WIDEST = 1 << 14
"""Bits of the longest input that is put together as one number."""


def reflected_table(polynomial: int, width: int) -> list[int]:
    """The table of a reflected CRC, for each byte."""
    reflected = int(f"{polynomial:0{width}b}"[::-1], 2)
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (reflected if value & 1 else 0)
        table.append(value)
    return table


def plain_table(polynomial: int, width: int) -> list[int]:
    """The table of a CRC that is not reflected, for each byte."""
    table = []
    for byte in range(256):
        value = byte << (width - 8)
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> (width - 1) & 1 else 0)
            value &= (1 << width) - 1
        table.append(value)
    return table


def _each_byte(emit: Emitter, data: Value, size: Value, start: Value, step: Callable[[Value, Value], Value]) -> Value:
    """Fold all bytes into a number."""
    kind = start.type
    state = emit.local(kind, start)
    with emit.count(size) as i:
        emit.set(state, step(emit.get(state, kind), emit.load(emit.at(data, i), 8)))
    return emit.get(state, kind)


def _reflected_crc(emit: Emitter, data: Value, size: Value, polynomial: int, width: int, start: int, end: int) -> Value:
    b = emit.b
    table = emit.unit.table(f"crc{width}_{polynomial:x}", width, reflected_table(polynomial, width))

    def step(state: Value, byte: Value) -> Value:
        index = b.xor(emit.resize(state, 8), byte)
        word = emit.load(emit.at(table, b.mul(emit.resize(index, 64), i64(width // 8))), width, width // 8)
        return b.xor(b.lshr(state, const(width, 8)), word)

    state = _each_byte(emit, data, size, const(width, start), step)
    return emit.resize(b.xor(state, const(width, end)), 64)


def _plain_crc(emit: Emitter, data: Value, size: Value, polynomial: int, width: int, start: int) -> Value:
    b = emit.b
    table = emit.unit.table(f"plain_crc{width}_{polynomial:x}", width, plain_table(polynomial, width))

    def step(state: Value, byte: Value) -> Value:
        index = b.xor(emit.resize(b.lshr(state, const(width, width - 8)), 8), byte)
        word = emit.load(emit.at(table, b.mul(emit.resize(index, 64), i64(width // 8))), width, width // 8)
        shifted = b.shl(state, const(width, 8)) if width > 8 else const(width, 0)
        return b.xor(shifted, word)

    return emit.resize(_each_byte(emit, data, size, const(width, start), step), 64)


def _csum16(emit: Emitter, data: Value, size: Value) -> Value:
    """RFC 1071: the sum does not depend on the order of bytes, so it is done in the host's and swapped at the end."""
    b = emit.b
    total = emit.local(I64, i64(0))
    done = emit.local(I64, i64(0))
    with emit.loop(lambda: b.icmp_unsigned("<=", b.add(emit.get(done, I64), i64(4)), size)):
        at = emit.get(done, I64)
        word = emit.resize(emit.load(emit.at(data, at), 32), 64)
        emit.set(total, b.add(emit.get(total, I64), word))
        emit.set(done, b.add(at, i64(4)))
    place = emit.local(I64, i64(0))
    with emit.loop(lambda: b.icmp_unsigned("<", emit.get(done, I64), size)):
        at = emit.get(done, I64)
        byte = emit.resize(emit.load(emit.at(data, at), 8), 64)
        shifted = b.shl(byte, emit.get(place, I64))
        emit.set(total, b.add(emit.get(total, I64), shifted))
        emit.set(place, b.add(emit.get(place, I64), i64(8)))
        emit.set(done, b.add(at, i64(1)))
    value = emit.get(total, I64)
    for shift in (32, 16, 16, 16):
        value = b.add(b.and_(value, i64((1 << shift) - 1)), b.lshr(value, i64(shift)))
    return emit.resize(b.not_(emit.swap(emit.resize(value, 16))), 64)


def _xor(width: int) -> Callable[[Emitter, Value, Value], Value]:
    size_of_word = width // 8

    def xor(emit: Emitter, data: Value, size: Value) -> Value:
        b = emit.b
        index = emit.local(I64, i64(0))

        def step(state: Value, byte: Value) -> Value:
            at = emit.get(index, I64)
            emit.set(index, b.add(at, i64(1)))
            shift = b.sub(i64(width - 8), b.mul(b.urem(at, i64(size_of_word)), i64(8)))
            return b.xor(state, b.shl(emit.resize(byte, 64), shift))

        return _each_byte(emit, data, size, i64(0), step)

    return xor


def _identity(emit: Emitter, data: Value, size: Value) -> Value:
    """The first 64 bits."""
    b = emit.b

    def step(state: Value, byte: Value) -> Value:
        return b.or_(b.shl(state, i64(8)), emit.resize(byte, 64))

    return _each_byte(emit, data, emit.least(size, i64(8)), i64(0), step)


_Hash = Callable[[Emitter, Value, Value], Value]
_CRC16: _Hash = lambda emit, data, size: _reflected_crc(emit, data, size, 0x8005, 16, 0, 0)  # noqa: E731  # a table of them
_CRC32: _Hash = lambda emit, data, size: _reflected_crc(  # noqa: E731
    emit, data, size, 0x04C11DB7, 32, 0xFFFFFFFF, 0xFFFFFFFF
)

HASHES: dict[str, _Hash] = {
    "crc8_custom": lambda emit, data, size: _plain_crc(emit, data, size, 0x07, 8, 0),
    "crc16": _CRC16,
    "crc16_custom": _CRC16,
    "crc32": _CRC32,
    "crc32_custom": _CRC32,
    "crc64_custom": lambda emit, data, size: _reflected_crc(emit, data, size, 0x1B, 64, 0, 0),
    "crcCCITT": lambda emit, data, size: _plain_crc(emit, data, size, 0x1021, 16, 0xFFFF),
    "csum16": _csum16,
    "cksum16": _csum16,
    "xor16": _xor(16),
    "xor32": _xor(32),
    "identity": _identity,
}


def hash_function(unit: Unit, algorithm: str, source: str) -> Any:
    """``u64 hash(bytes*, u64 size)``.

    :raises UnsupportedError: this back end does not know the algorithm.
    """
    name = f"hash.{algorithm}"
    found = unit.module.globals.get(name)
    if found is not None:
        return found
    write = HASHES.get(algorithm)
    if write is None:
        raise UnsupportedError(f"hash algorithm {algorithm}", source)
    function = unit.function(name, I64, PTR, I64)
    emit = Emitter(unit, function)
    emit.b.ret(write(emit, *function.args))
    return function


class Calculations:
    """The functions of a program's calculations, written when first asked for."""

    def __init__(self, unit: Unit, layout: Layout) -> None:
        self._unit = unit
        self._layout = layout
        self._functions: dict[str, Any] = {}

    def function(self, name: str) -> Any:
        """``u64 f(region*, packet*)``.

        :raises UnsupportedError: the algorithm or an input is beyond this back end.
        """
        if name not in self._functions:
            self._functions[name] = self._write(self._layout.program.calculations[name])
        return self._functions[name]

    def _write(self, calculation: ir.Calculation) -> Any:
        function = self._unit.function(f"calculation.{calculation.name}", I64, PTR, PTR)
        function.attributes.add("noinline")
        emit = Emitter(self._unit, function)
        region, packet = function.args
        source = str(calculation.source or calculation.name)
        if calculation.algorithm == "round_robin":
            cell = emit.at(region, self._layout.control + Control.ROUND_ROBIN)
            emit.b.ret(_count_up(emit, cell))
            return function
        algorithm = hash_function(self._unit, calculation.algorithm, source)
        buffer = emit.at(region, self._layout.hash_input)
        size = self._input(emit, Expressions(emit, self._layout, region, packet), calculation, buffer)
        start, length = size
        emit.b.ret(emit.call(algorithm, start, length))
        return function

    def _input(self, emit: Emitter, e: Expressions, calculation: ir.Calculation, buffer: Value) -> tuple[Value, Value]:
        """Where the input is, and how many bytes it has."""
        groups = [(header, list(parts)) for header, parts in groupby(self._flatten(calculation), key=_header)]
        if all(self._whole_bytes(parts) for _, parts in groups):
            return buffer, self._bytes(emit, e, groups, buffer, calculation)
        return self._bits(emit, e, groups, buffer, calculation)

    def _flatten(self, calculation: ir.Calculation) -> list[ir.CalculationInput]:
        """Inputs with headers replaced by their fields, without payload."""
        found: list[ir.CalculationInput] = []
        for item in calculation.inputs:
            if isinstance(item.value, ir.HeaderRef):
                fields = self._layout.program.headers[item.value.name].type.fields
                found += [ir.CalculationInput("field", ir.FieldRef(item.value.name, field.name), 0) for field in fields]
            elif item.value is not None:
                found.append(item)
        return found

    def _width(self, part: ir.CalculationInput) -> int:
        if isinstance(part.value, ir.FieldRef):
            return self._layout.packet.slot(part.value).width
        return part.width

    def _is_varbit(self, part: ir.CalculationInput) -> bool:
        return isinstance(part.value, ir.FieldRef) and self._layout.packet.slot(part.value).length >= 0

    def _whole_bytes(self, parts: Sequence[ir.CalculationInput]) -> bool:
        """Whether each run of fixed fields is a whole number of bytes; varbit fields always are."""
        runs = groupby(parts, key=self._is_varbit)
        return all(varbit or sum(self._width(part) for part in run) % 8 == 0 for varbit, run in runs)

    def _condition(self, e: Expressions, header: str | None) -> Value | None:
        if header is None or self._layout.program.headers[header].metadata:
            return None
        return e.valid(ir.HeaderRef(header))

    def _bytes(
        self,
        emit: Emitter,
        e: Expressions,
        groups: Sequence[tuple[str | None, list[ir.CalculationInput]]],
        buffer: Value,
        calculation: ir.Calculation,
    ) -> Value:
        b = emit.b
        used = emit.local(I64, i64(0))

        def write(parts: Sequence[ir.CalculationInput]) -> None:
            for varbit, run in groupby(parts, key=self._is_varbit):
                for piece in [[part] for part in run] if varbit else [list(run)]:
                    at = emit.at(buffer, emit.get(used, I64))
                    size = self._write_varbit(emit, e, piece[0], at) if varbit else self._write_run(emit, e, piece, at)
                    emit.set(used, b.add(emit.get(used, I64), size))

        for header, parts in groups:
            condition = self._condition(e, header)
            if condition is None:
                write(parts)
                continue
            with emit.when(condition):
                write(parts)
        if any(item.kind == "payload" for item in calculation.inputs):
            size = self._payload(emit, e, emit.at(buffer, emit.get(used, I64)))
            emit.set(used, b.add(emit.get(used, I64), size))
        return emit.get(used, I64)

    def _write_run(self, emit: Emitter, e: Expressions, parts: Sequence[ir.CalculationInput], at: Value) -> Value:
        return i64(write_fields(e, [(part.value, self._width(part)) for part in parts if part.value is not None], at))

    def _write_varbit(self, emit: Emitter, e: Expressions, part: ir.CalculationInput, at: Value) -> Value:
        assert isinstance(part.value, ir.FieldRef)
        return write_varbit(emit, e, part.value, at)

    def _payload(self, emit: Emitter, e: Expressions, at: Value) -> Value:
        b = emit.b
        parsed = emit.load(emit.at(e.packet, Packet.PAYLOAD), 64, 8)
        size = b.sub(emit.load(emit.at(e.packet, Packet.SIZE), 64, 8), parsed)
        frame = emit.load_pointer(emit.at(e.packet, Packet.FRAME))
        emit.copy(at, emit.at(frame, parsed), size)
        return size

    def _bits(
        self,
        emit: Emitter,
        e: Expressions,
        groups: Sequence[tuple[str | None, list[ir.CalculationInput]]],
        buffer: Value,
        calculation: ir.Calculation,
    ) -> tuple[Value, Value]:
        """As one number, shifted up by each part that is there."""
        b = emit.b
        most = -(-sum(self._width(part) for _, parts in groups for part in parts) // 64) * 64 + 64
        if most > _WIDEST:
            raise UnsupportedError(f"a hash over {most} bits", str(calculation.source or calculation.name))
        number, bits = const(most, 0), i64(0)
        for header, parts in groups:
            condition = self._condition(e, header)
            for part in parts:
                assert part.value is not None
                width = self._width(part)
                value = emit.resize(e.low(part.value, width), most)
                size: Value = i64(width)
                if isinstance(part.value, ir.FieldRef) and self._is_varbit(part):
                    length = e.place(part.value).length
                    size = emit.resize(emit.load(length, 32, 4), 64)
                longer = b.or_(b.shl(number, emit.resize(size, most)), value)
                number = longer if condition is None else b.select(condition, longer, number)
                bits = b.add(bits, size if condition is None else b.select(condition, size, i64(0)))
        pad = b.and_(b.sub(i64(0), bits), i64(7))
        number = b.shl(number, emit.resize(pad, most))
        emit.store(emit.swap(number), buffer)
        length = b.lshr(b.add(bits, pad), i64(3))
        start = emit.at(buffer, b.sub(i64(most // 8), length))
        if any(item.kind == "payload" for item in calculation.inputs):
            length = b.add(length, self._payload(emit, e, emit.at(buffer, most // 8)))
        return start, length


def _header(item: ir.CalculationInput) -> str | None:
    return item.value.header if isinstance(item.value, ir.FieldRef) else None


def _count_up(emit: Emitter, cell: Value) -> Value:
    number = emit.load(cell, 64, 8)
    emit.store(emit.b.add(number, i64(1)), cell, 8)
    return number


def concatenate(e: Expressions, parts: Sequence[tuple[ir.Expr, int]]) -> Value:
    """(number, bits) parts side by side, the first uppermost."""
    b = e.emit.b
    total = sum(width for _, width in parts)
    number, below = None, total
    for expr, width in parts:
        below -= width
        value = e.emit.resize(e.low(expr, width), total)
        if below:
            value = b.shl(value, const(total, below))
        number = value if number is None else b.or_(number, value)
    assert number is not None, "there is at least one part"
    return number


def write_fields(e: Expressions, parts: Sequence[tuple[ir.Expr, int]], at: Value) -> int:
    """Write (number, bits) parts side by side, in network order; together they are whole bytes. Returns how many.

    They go out in the smallest pieces that are whole bytes, which keeps the numbers narrow.
    """
    piece: list[tuple[ir.Expr, int]] = []
    done = 0
    for part in parts:
        piece.append(part)
        bits = sum(width for _, width in piece)
        if bits % 8 == 0:
            e.emit.store(e.emit.swap(concatenate(e, piece)), e.emit.at(at, done))
            done += bits // 8
            piece = []
    assert not piece, "the checks let only whole bytes through"
    return done


def write_varbit(emit: Emitter, e: Expressions, ref: ir.FieldRef, at: Value) -> Value:
    """Write a varbit field's bytes; returns how many. Its current width is a whole number of bytes."""
    b = emit.b
    place = e.place(ref)
    whole = slot_bytes(place.width) * 8
    number = emit.load(place.address, whole, min(whole // 8, 8))
    length = b.lshr(emit.resize(emit.load(place.length, 32, 4), 64), i64(3))
    scratch = emit.local(integer(whole))
    emit.set(scratch, emit.swap(number))
    emit.copy(at, emit.at(scratch, b.sub(i64(whole // 8), length)), length)
    return length
