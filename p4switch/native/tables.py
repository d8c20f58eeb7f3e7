"""Tables: how an entry is found, added and taken out; see `layout.TableLayout` for what lies where.

For each table four functions: ``find(region*, packet*)`` gives the entry's address, null for a miss; ``add`` and
``remove(region*, u32 entry)`` put an entry, whose memory is filled in already, into the structure that ``find``
searches and take it out. `write_apply` makes the function through which all changes come, between packets.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llvmlite import ir as llvm

from p4switch import ir
from p4switch.ir import MatchKind
from p4switch.native.emit import I32, I64, PTR, VOID, Emitter, Unit, Value, const, i32, i64
from p4switch.native.expressions import Expressions
from p4switch.native.hashing import concatenate
from p4switch.native.layout import Entry, Layout, TableLayout, slot_bytes
from p4switch.native.ops import COMMAND_WORDS, Op

_MIX = 0x9E3779B97F4A7C15


class TableWriter:
    """Writes the functions of one table."""

    def __init__(self, unit: Unit, layout: Layout, table: TableLayout) -> None:
        self._unit = unit
        self._layout = layout
        self._table = table
        self._name = f"table{table.number}"

    def find(self) -> Any:
        """``entry* find(region*, packet*)``."""
        function = self._unit.function(f"{self._name}.find", PTR, PTR, PTR)
        emit = Emitter(self._unit, function)
        region, packet = function.args
        e = Expressions(emit, self._layout, region, packet)
        match self._table.kind:
            case "exact":
                emit.b.ret(emit.call(self._probe(), region, *_words(emit, self._exact_key(e))))
            case "lpm":
                self._find_longest(emit, e, region)
            case _:
                self._find_first(emit, e, region)
        return function

    def _exact_key(self, e: Expressions) -> Value:
        """The fields in their slots, the first lowest."""
        emit, b, bits = e.emit, e.emit.b, self._table.key_bits
        number, below = const(bits, 0), 0
        for key in self._table.spec.keys:
            value = emit.resize(e.low(*_masked(key)), bits)
            number = b.or_(number, b.shl(value, const(bits, below)) if below else value)
            below += 8 * slot_bytes(key.width)
        return number

    # -- hash index --------------------------------------------------------------------------------------------------

    def _hash(self, emit: Emitter, words: Sequence[Value]) -> Value:
        """32 bits; the lowest say where the search begins."""
        b = emit.b
        state: Value = i64(_MIX)
        for word in words:
            state = b.mul(b.xor(state, word), i64(_MIX))
            state = b.xor(state, b.lshr(state, i64(32)))
        return emit.resize(b.lshr(b.mul(state, i64(_MIX)), i64(32)), 32)

    def _index_at(self, emit: Emitter, region: Value, position: Value) -> Value:
        offset = emit.b.mul(emit.resize(position, 64), i64(8))
        return emit.at(emit.at(region, self._table.index), offset)

    def _entry_at(self, emit: Emitter, region: Value, number: Value) -> Value:
        offset = emit.b.mul(emit.resize(number, 64), i64(self._table.stride))
        return emit.at(emit.at(region, self._table.entries), offset)

    def _stored_words(self, emit: Emitter, entry: Value, start: int) -> list[Value]:
        return [emit.load(emit.at(entry, start + 8 * i), 64, 8) for i in range(self._table.key_words)]

    def _probe(self) -> Any:
        """``entry* probe(region*, word…)``: the entry with exactly this key."""
        name = f"{self._name}.probe"
        found = self._unit.module.globals.get(name)
        if found is not None:
            return found
        function = self._unit.function(name, PTR, PTR, *[I64] * self._table.key_words)
        emit = Emitter(self._unit, function)
        region, *words = function.args
        b, mask = emit.b, self._table.index_size - 1
        tag = self._hash(emit, words)
        position = emit.local(I32, b.and_(tag, i32(mask)))
        with emit.loop():
            word = emit.load(self._index_at(emit, region, emit.get(position, I32)), 64, 8)
            with emit.when(b.icmp_unsigned("==", word, i64(0))):
                b.ret(llvm.Constant(PTR, None))
            with emit.when(b.icmp_unsigned("==", emit.resize(b.lshr(word, i64(32)), 32), tag), likely=True):
                entry = self._entry_at(emit, region, emit.resize(word, 32))
                stored = self._stored_words(emit, entry, self._table.key)
                with emit.when(_all_equal(emit, words, stored), likely=True):
                    b.ret(entry)
            emit.set(position, b.and_(b.add(emit.get(position, I32), i32(1)), i32(mask)))
        b.unreachable()
        return function

    def _add_to_index(self, emit: Emitter, region: Value, number: Value) -> None:
        b, mask = emit.b, self._table.index_size - 1
        tag = self._hash(emit, self._stored_words(emit, self._entry_at(emit, region, number), self._table.key))
        position = emit.local(I32, b.and_(tag, i32(mask)))

        def taken() -> Value:
            word = emit.load(self._index_at(emit, region, emit.get(position, I32)), 64, 8)
            return emit.b.icmp_unsigned("!=", word, i64(0))

        with emit.loop(taken):
            emit.set(position, b.and_(b.add(emit.get(position, I32), i32(1)), i32(mask)))
        word = b.or_(b.shl(emit.resize(tag, 64), i64(32)), emit.resize(number, 64))
        emit.store(word, self._index_at(emit, region, emit.get(position, I32)), 8)

    def _remove_from_index(self, emit: Emitter, region: Value, number: Value) -> None:
        """Words behind the gap move up if they still can be found there, so that no gap interrupts a search."""
        b, mask = emit.b, self._table.index_size - 1
        tag = self._hash(emit, self._stored_words(emit, self._entry_at(emit, region, number), self._table.key))
        gap = emit.local(I32, b.and_(tag, i32(mask)))

        def another() -> Value:
            word = emit.load(self._index_at(emit, region, emit.get(gap, I32)), 64, 8)
            return emit.b.icmp_unsigned("!=", emit.resize(word, 32), number)

        with emit.loop(another):
            emit.set(gap, b.and_(b.add(emit.get(gap, I32), i32(1)), i32(mask)))
        at = emit.local(I32, emit.get(gap, I32))
        with emit.loop() as loop:
            emit.set(at, b.and_(b.add(emit.get(at, I32), i32(1)), i32(mask)))
            here = emit.get(at, I32)
            word = emit.load(self._index_at(emit, region, here), 64, 8)
            with emit.when(b.icmp_unsigned("==", word, i64(0))):
                b.branch(loop.done)
            home = b.and_(emit.resize(b.lshr(word, i64(32)), 32), i32(mask))
            from_home = b.and_(b.sub(here, home), i32(mask))
            from_gap = b.and_(b.sub(here, emit.get(gap, I32)), i32(mask))
            with emit.when(b.icmp_unsigned(">=", from_home, from_gap)):
                emit.store(word, self._index_at(emit, region, emit.get(gap, I32)), 8)
                emit.set(gap, here)
        emit.store(i64(0), self._index_at(emit, region, emit.get(gap, I32)), 8)

    # -- longest prefix ----------------------------------------------------------------------------------------------

    def _find_longest(self, emit: Emitter, e: Expressions, region: Value) -> None:
        """One search for each prefix length in use, longest first."""
        b, table = emit.b, self._table
        probe = self._probe()
        values = [e.low(*_masked(key)) for key in table.spec.keys]
        lengths = emit.at(region, table.lengths)
        with emit.count(emit.load(lengths, 32, 4)) as i:
            length = emit.load(emit.at(emit.at(lengths, 4), emit.resize(i, 64)), 8)
            key = const(table.key_bits, 0)
            for spec, value in zip(table.spec.keys, values, strict=True):
                part = _prefix(emit, value, length) if spec.kind is MatchKind.LPM else value
                shift = const(table.key_bits, spec.width)
                if spec.width < table.key_bits:
                    key = b.or_(b.shl(key, shift), emit.resize(part, table.key_bits))
            key = b.or_(b.shl(key, const(table.key_bits, 8)), emit.resize(length, table.key_bits))
            entry = emit.call(probe, region, *_words(emit, key))
            with emit.when(b.icmp_unsigned("!=", b.ptrtoint(entry, I64), i64(0))):
                b.ret(entry)
        b.ret(llvm.Constant(PTR, None))

    def _count_length(self, emit: Emitter, region: Value, number: Value, *, add: bool) -> None:
        """Keep the list of prefix lengths in use."""
        b, table = emit.b, self._table
        entry = self._entry_at(emit, region, number)
        length = emit.resize(emit.load(emit.at(entry, table.key), 8), 64)  # the key's lowest byte
        cell = emit.at(emit.at(region, table.length_counts), b.mul(length, i64(4)))
        count = b.add(emit.load(cell, 32, 4), i32(1 if add else -1))
        emit.store(count, cell, 4)
        with emit.when(b.icmp_unsigned("==", count, i32(1 if add else 0))):
            self._list_lengths(emit, region)

    def _list_lengths(self, emit: Emitter, region: Value) -> None:
        b, table = emit.b, self._table
        widest = next(key.width for key in table.spec.keys if key.kind is MatchKind.LPM)
        lengths = emit.at(region, table.lengths)
        used = emit.local(I64, i64(0))
        with emit.count(i64(widest + 1)) as i:
            length = b.sub(i64(widest), i)
            count = emit.load(emit.at(emit.at(region, table.length_counts), b.mul(length, i64(4))), 32, 4)
            with emit.when(b.icmp_unsigned("!=", count, i32(0))):
                at = emit.get(used, I64)
                emit.store(emit.resize(length, 8), emit.at(emit.at(lengths, 4), at))
                emit.set(used, b.add(at, i64(1)))
        emit.store(emit.resize(emit.get(used, I64), 32), lengths, 4)

    # -- priorities --------------------------------------------------------------------------------------------------

    def _find_first(self, emit: Emitter, e: Expressions, region: Value) -> None:
        """Entries by falling priority; the first that fits."""
        b, table = emit.b, self._table
        key = concatenate(e, [_masked(spec) for spec in table.spec.keys])
        words = _words(emit, key)
        ranged = [e.low(*_masked(spec)) for spec in table.spec.keys if spec.kind is MatchKind.RANGE]
        order = emit.at(region, table.order)
        with emit.count(emit.load(emit.at(region, table.order_count), 64, 8)) as i:
            entry = self._entry_at(emit, region, emit.load(emit.at(order, b.mul(i, i64(4))), 32, 4))
            masks = self._stored_words(emit, entry, table.mask)
            masked = [b.and_(word, mask) for word, mask in zip(words, masks, strict=True)]
            fits = _all_equal(emit, masked, self._stored_words(emit, entry, table.key))
            for value, (low, high) in zip(ranged, table.ranges, strict=True):
                width = value.type.width
                fits = b.and_(fits, b.icmp_unsigned(">=", value, emit.load_slot(emit.at(entry, low), width)))
                fits = b.and_(fits, b.icmp_unsigned("<=", value, emit.load_slot(emit.at(entry, high), width)))
            with emit.when(fits):
                b.ret(entry)
        b.ret(llvm.Constant(PTR, None))

    def _add_to_order(self, emit: Emitter, region: Value, number: Value) -> None:
        """Behind those of the same priority."""
        b, table = emit.b, self._table
        priority = emit.load(emit.at(self._entry_at(emit, region, number), Entry.PRIORITY), 32, 4)
        counter = emit.at(region, table.order_count)
        at = emit.local(I64, emit.load(counter, 64, 8))
        order = emit.at(region, table.order)
        with emit.loop(lambda: emit.b.icmp_unsigned("!=", emit.get(at, I64), i64(0))) as loop:
            before = b.sub(emit.get(at, I64), i64(1))
            other = emit.load(emit.at(order, b.mul(before, i64(4))), 32, 4)
            theirs = emit.load(emit.at(self._entry_at(emit, region, other), Entry.PRIORITY), 32, 4)
            with emit.when(b.icmp_unsigned(">=", theirs, priority)):
                b.branch(loop.done)
            emit.store(other, emit.at(order, b.mul(emit.get(at, I64), i64(4))), 4)
            emit.set(at, before)
        emit.store(number, emit.at(order, b.mul(emit.get(at, I64), i64(4))), 4)
        emit.add_to(counter, i64(1))

    def _remove_from_order(self, emit: Emitter, region: Value, number: Value) -> None:
        b, table = emit.b, self._table
        counter = emit.at(region, table.order_count)
        order = emit.at(region, table.order)
        count = emit.load(counter, 64, 8)
        kept = emit.local(I64, i64(0))
        with emit.count(count) as i:
            item = emit.load(emit.at(order, b.mul(i, i64(4))), 32, 4)
            emit.store(item, emit.at(order, b.mul(emit.get(kept, I64), i64(4))), 4)
            same = b.icmp_unsigned("==", item, number)
            emit.set(kept, b.add(emit.get(kept, I64), b.select(same, i64(0), i64(1))))
        emit.store(emit.get(kept, I64), counter, 8)

    # -- changes -----------------------------------------------------------------------------------------------------

    def change(self, *, add: bool) -> Any:
        """``void add(region*, u32 entry)``, or remove."""
        function = self._unit.function(f"{self._name}.{'add' if add else 'remove'}", VOID, PTR, I32)
        emit = Emitter(self._unit, function)
        region, number = function.args
        if self._table.kind == "priority":
            (self._add_to_order if add else self._remove_from_order)(emit, region, number)
        else:
            (self._add_to_index if add else self._remove_from_index)(emit, region, number)
            if self._table.kind == "lpm":
                self._count_length(emit, region, number, add=add)
        emit.b.ret_void()
        return function


def _masked(key: ir.Key) -> tuple[ir.Expr, int]:
    """A match field's expression and width."""
    if key.mask is None:
        return key.target, key.width
    return ir.DataOp("&", key.target, ir.Const(key.mask)), key.width


def _words(emit: Emitter, key: Value) -> list[Value]:
    """A key as words of 64 bits, lowest first."""
    b, width = emit.b, key.type.width
    words = []
    for start in range(0, width, 64):
        part = b.lshr(key, const(width, start)) if start else key
        words.append(emit.resize(part, 64))
    return words


def _all_equal(emit: Emitter, one: Sequence[Value], other: Sequence[Value]) -> Value:
    b = emit.b
    differs: Value = i64(0)
    for left, right in zip(one, other, strict=True):
        differs = b.or_(differs, b.xor(left, right))
    return b.icmp_unsigned("==", differs, i64(0))


def _prefix(emit: Emitter, value: Value, length: Value) -> Value:
    """The first ``length`` bits of a value, the rest 0."""
    b, width = emit.b, value.type.width
    wide = max(width, 8) + 1
    drop = b.sub(const(wide, width), emit.resize(length, wide))
    mask = b.shl(const(wide, (1 << width) - 1), drop)
    return b.and_(value, emit.resize(mask, width))


def write_apply(unit: Unit, layout: Layout, changes: Mapping[int, tuple[Any, Any]]) -> Any:
    """``void apply(region*, u64* commands, u64 count)``: carry out changes in order.

    ``changes``: functions add and remove by the table's number.
    """
    function = unit.function("apply", VOID, PTR, PTR, I64, internal=False)
    emit = Emitter(unit, function)
    region, commands, count = function.args
    b = emit.b
    with emit.count(count) as i:
        command = emit.at(commands, b.mul(i, i64(8 * COMMAND_WORDS)))
        words = [emit.load(emit.at(command, 8 * word), 64, 8) for word in range(COMMAND_WORDS)]
        done = emit.block("applied")
        ops = b.switch(words[0], done)
        for op in (Op.ADD, Op.REMOVE):
            block = emit.block(op.name)
            ops.add_case(i64(op), block)
            b.position_at_end(block)
            tables = b.switch(words[1], done)
            for number, functions in changes.items():
                case = emit.block(f"{op.name}{number}")
                tables.add_case(i64(number), case)
                b.position_at_end(case)
                emit.call(functions[0 if op is Op.ADD else 1], region, emit.resize(words[2], 32))
                b.branch(done)
        for op in (Op.COPY, Op.POKE):
            block = emit.block(op.name)
            ops.add_case(i64(op), block)
            b.position_at_end(block)
            to = emit.at(region, words[1])
            if op is Op.COPY:
                emit.copy(to, emit.at(region, words[2]), words[3])
            else:
                emit.store(words[2], to, 8)
            b.branch(done)
        b.position_at_end(done)
    b.ret_void()
    return function
