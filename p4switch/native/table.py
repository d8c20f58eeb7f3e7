"""The control plane's view of tables whose entries are in the region."""

import struct
from collections.abc import Callable, Mapping
from typing import Any

from p4switch import ir
from p4switch.errors import TableFull
from p4switch.ir import MatchKind
from p4switch.native.changes import Changes
from p4switch.native.layout import Entry as At
from p4switch.native.layout import TableLayout, slot_bytes
from p4switch.native.meters import NativeMeter
from p4switch.native.ops import Op
from p4switch.runtime.actions import ActionCall
from p4switch.runtime.match import FieldMatch, Found, Match, Matcher, make_matcher, value_and_mask
from p4switch.runtime.meters import Meter
from p4switch.runtime.table import Entry, Table

_FORMATS = {1: "B", 2: "H", 4: "I", 8: "Q"}


class NativeEntry(Entry):
    """An entry whose counters and time stamp are in the region as long as it is in its table."""

    __slots__ = ("_held", "_meter", "_table", "number", "word")

    def __init__(self, match: Match, priority: int, metadata: bytes, now_us: int, table: "NativeTable") -> None:
        self.number = 0
        self.word = 0
        self._held = [0, 0, now_us]
        self._table = table
        self._meter: Meter | None = None
        super().__init__(match, priority, metadata, now_us)

    def _get(self, index: int) -> int:
        return self._table.words[self.word + index] if self.number else self._held[index]

    def _set(self, index: int, value: int) -> None:
        if self.number:
            self._table.changes.poke(self.word + index, value)
        else:
            self._held[index] = value

    @property
    def packets(self) -> int:
        return self._get(0)

    @packets.setter
    def packets(self, value: int) -> None:
        self._set(0, value)

    @property
    def bytes(self) -> int:
        return self._get(1)

    @bytes.setter
    def bytes(self, value: int) -> None:
        self._set(1, value)

    @property
    def last_hit_us(self) -> int:
        return self._get(2)

    @last_hit_us.setter
    def last_hit_us(self, value: int) -> None:
        self._set(2, value)

    @property
    def meter(self) -> Meter | None:
        """The direct meter; its buckets are in the region."""
        if self._meter is None and self.number and self._table.layout.meter >= 0:
            self._meter = self._table.meter_of(self.number)
        return self._meter

    @meter.setter
    def meter(self, value: Meter | None) -> None:
        """The table makes a plain meter; ours is made when it is asked for."""

    def place(self, number: int) -> None:
        """The entry is at ``number`` now."""
        self.number = number
        self.word = self._table.layout.entry(number) // 8

    def held(self) -> tuple[int, int, int]:
        """Counters and time stamp before the entry is placed."""
        return self._held[0], self._held[1], self._held[2]

    def leave(self) -> None:
        """The entry is out of its table: keep what it counted."""
        self._held = [self._get(0), self._get(1), self._get(2)]
        self.number = 0


class _Body:
    """How an action and its arguments lie in an entry from `layout.Entry.BODY` on."""

    def __init__(self, number: int, action: ir.Action, slots: tuple[Any, ...]) -> None:
        self._number = number
        text, end = "<II", At.ARGS
        self._wide: list[tuple[int, int]] = []
        for position, (slot, param) in enumerate(zip(slots, action.params, strict=True)):
            size = slot_bytes(param.width)
            text += f"{slot.offset - end}x" + _FORMATS.get(size, f"{size}s")
            end = slot.offset + size
            if size > 8:
                self._wide.append((position, size))
        self.format = struct.Struct(text)
        self._entry = struct.Struct("<QQQ" + text[1:])

    def pack(self, buffer: memoryview, offset: int, priority: int, args: tuple[int, ...]) -> None:
        """Write action and arguments."""
        self.format.pack_into(buffer, offset, self._number, priority, *self._args(args))

    def pack_entry(
        self, buffer: memoryview, offset: int, counts: tuple[int, int, int], priority: int, args: tuple[int, ...]
    ) -> None:
        """Write counters, time stamp, action and arguments."""
        self._entry.pack_into(buffer, offset, *counts, self._number, priority, *self._args(args))

    def _args(self, args: tuple[int, ...]) -> tuple[Any, ...]:
        if not self._wide:
            return args
        values: list[Any] = list(args)
        for position, size in self._wide:
            values[position] = args[position].to_bytes(size, "little")
        return tuple(values)


class NativeMatcher:
    """Puts entries into the region and takes them out."""

    def __init__(self, table: "NativeTable") -> None:
        self._table = table
        self._oracle: Matcher[Entry] | None = None

    def add(self, entry: Entry) -> None:
        """Write the entry to free memory and have it found from the next flush on."""
        self._table.put(entry)

    def remove(self, entry: Entry) -> None:
        """Have it found no more from the next flush on."""
        self._table.take_out(entry)

    def find(self, key: Found) -> Entry | None:
        """As the interpreter would find it. For tests: builds the interpreter's matcher anew each time."""
        matcher: Matcher[Entry] = make_matcher(self._table.spec)
        for entry in self._table.entries():
            matcher.add(entry)
        return matcher.find(key)


class NativeTable(Table):
    """A table whose entries generated code searches."""

    def __init__(
        self,
        spec: ir.Table,
        actions: Mapping[int, ir.Action],
        clock: Callable[[], int],
        layout: TableLayout,
        changes: Changes,
    ) -> None:
        self.layout = layout
        self.words = changes.region.words
        self._buffer = changes.region.bytes
        self.changes = changes
        self._next = 1
        self._free: list[int] = []
        self._bodies = {
            action_id: _Body(position, actions[action_id], layout.args[action_id])
            for position, action_id in enumerate(spec.action_ids, start=1)
        }
        self._shifts = _shifts(spec)
        self._key_at = layout.key
        self._key_bytes = 8 * layout.key_words
        super().__init__(spec, actions, None, clock)

    def _make_matcher(self) -> Matcher[Entry]:
        return NativeMatcher(self)

    def _new(self, match: Match, priority: int, metadata: bytes) -> Entry:
        plain = super()._new(match, priority, metadata)  # checks
        return NativeEntry(match, priority, metadata, plain.last_hit_us, self)

    def meter_of(self, number: int) -> NativeMeter:
        """The direct meter of an entry."""
        return NativeMeter(self.changes, self.layout.entry(number) + self.layout.meter)

    # -- memory ------------------------------------------------------------------------------------------------------

    def _number(self) -> int:
        """A free entry.

        :raises TableFull: the table is larger than this back end allows, and full.
        """
        if self._free:
            return self._free.pop()
        if self._next > self.layout.capacity:
            self.changes.flush()  # memory that waits for it becomes free
            if self._free:
                return self._free.pop()
            raise TableFull(self.name, f"{self.layout.capacity} entries are in")
        self._next += 1
        return self._next - 1

    def put(self, entry: Entry) -> None:
        """Write an entry and queue its addition."""
        assert isinstance(entry, NativeEntry)
        number = self._number()
        start = self.layout.entry(number)
        self._bodies[entry.action_id].pack_entry(self._buffer, start, entry.held(), entry.priority, entry.args)
        self._write_key(start, entry.match)
        entry.place(number)
        if self.layout.meter >= 0:
            at = start + self.layout.meter
            self.changes.region.zero(at, 8)
        self.changes.add(Op.ADD, self.layout.number, number)

    def take_out(self, entry: Entry) -> None:
        """Queue the removal of an entry."""
        assert isinstance(entry, NativeEntry)
        number = entry.number
        self.changes.add(Op.REMOVE, self.layout.number, number)
        entry.leave()
        self.changes.then(lambda: self._free.append(number))

    def _write_key(self, start: int, match: Match) -> None:
        at = start + self._key_at
        if self.layout.kind == "exact":
            packed = 0
            for value, shift in zip(match, self._shifts, strict=True):
                packed |= value << shift  # type: ignore[operator]  # exact fields are numbers
            self._buffer[at : at + self._key_bytes] = packed.to_bytes(self._key_bytes, "little")
        elif self.layout.kind == "lpm":
            self._write_prefix(at, match)
        else:
            self._write_rule(start, match)

    def _write_prefix(self, at: int, match: Match) -> None:
        packed = length = 0
        for value, shift, key in zip(match, self._shifts, self.spec.keys, strict=True):
            if key.kind is MatchKind.LPM:
                value, length = value  # type: ignore[misc]  # an lpm field's match is a pair
            packed |= value << shift  # type: ignore[operator]  # a number now
        packed = packed << 8 | length
        self._buffer[at : at + self._key_bytes] = packed.to_bytes(self._key_bytes, "little")

    def _write_rule(self, start: int, match: Match) -> None:
        value = mask = 0
        ranges = iter(self.layout.ranges)
        for key, shift, item in zip(self.spec.keys, self._shifts, match, strict=True):
            if key.kind is MatchKind.RANGE:
                self._write_range(start, next(ranges), key.width, item)
            field_value, field_mask = value_and_mask(key, item)
            value |= field_value << shift
            mask |= field_mask << shift
        for at, number in ((self.layout.key, value), (self.layout.mask, mask)):
            self._buffer[start + at : start + at + self._key_bytes] = number.to_bytes(self._key_bytes, "little")

    def _write_range(self, start: int, places: tuple[int, int], width: int, match: FieldMatch) -> None:
        assert isinstance(match, tuple), "a range field's match is a pair"
        size = slot_bytes(width)
        for at, number in zip(places, match, strict=True):
            self._buffer[start + at : start + at + size] = number.to_bytes(size, "little")

    # -- changes -----------------------------------------------------------------------------------------------------

    def _replace_body(self, number: int, action_id: int, priority: int, args: tuple[int, ...]) -> None:
        """Write the body to a spare entry and queue its copy over the old one."""
        spare = self.changes.take(self.layout.body_size)
        self._bodies[action_id].pack(self._buffer, spare, priority, args)
        self.changes.add(Op.COPY, self.layout.entry(number) + At.BODY, spare, self.layout.body_size)
        self.changes.give_back(spare, self.layout.body_size)

    def modify(self, match: Match, action: Any, **options: Any) -> Entry:
        """As `Table.modify`."""
        entry = super().modify(match, action, **options)
        assert isinstance(entry, NativeEntry)
        self._replace_body(entry.number, entry.action_id, entry.priority, entry.args)
        return entry

    def set_default(self, action: ActionCall, metadata: bytes = b"") -> Entry:
        """As `Table.set_default`."""
        entry = super().set_default(action, metadata)
        self._replace_body(0, entry.action_id, 0, entry.args)
        return entry

    def reset_default(self) -> None:
        """As `Table.reset_default`."""
        super().reset_default()
        if self.default is not None:
            self._replace_body(0, self.default.action_id, 0, self.default.args)
        else:
            self.changes.add(Op.POKE, self.layout.entry(0) + At.BODY, 0)


def _shifts(spec: ir.Table) -> tuple[int, ...]:
    """How far each field's value is up in the packed key."""
    shifts = []
    below = sum(key.width for key in spec.keys)
    for key in spec.keys:
        below -= key.width
        shifts.append(below)
    return tuple(shifts)
