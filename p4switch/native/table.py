"""The control plane's view of tables whose entries are in the region."""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from p4switch import ir
from p4switch.errors import SwitchError, TableFull
from p4switch.ir import MatchKind
from p4switch.native.bodies import Body
from p4switch.native.changes import Changes
from p4switch.native.entry import NativeEntry, NativeMatcher
from p4switch.native.layout import GROUP, MEMBER, TableLayout, slot_bytes
from p4switch.native.layout import Entry as At
from p4switch.native.meters import NativeMeter
from p4switch.native.ops import Op
from p4switch.native.profiles import NativeProfile
from p4switch.runtime.actions import ActionCall, EntryAction
from p4switch.runtime.match import FieldMatch, Match, Matcher, value_and_mask
from p4switch.runtime.table import Change, Entry, Table, args_fit

_REFERENCE = struct.Struct("<IIQ")
_ADD, _COPY = int(Op.ADD), int(Op.COPY)
_COUNTS = struct.Struct("<QQQ")
_LAST_HIT = At.LAST_HIT // 8
_NONE_REFUSED: Mapping[int, SwitchError] = {}


class _Quick(NamedTuple):
    """What an entry with one action takes; ``limits`` of its arguments."""

    action_id: int
    body: Body
    limits: tuple[int, ...]


class NativeTable(Table):
    """A table whose entries generated code searches."""

    def __init__(
        self,
        spec: ir.Table,
        actions: Mapping[int, ir.Action],
        profile: NativeProfile | None,
        clock: Callable[[], int],
        layout: TableLayout,
        changes: Changes,
    ) -> None:
        self.layout = layout
        self.words = changes.region.words
        self.changes = changes
        self._native_profile = profile
        self._buffer = changes.region.bytes
        self._next = 1
        self._free: list[int] = []
        self._exact = layout.kind == "exact"
        keys = [key.width for key in spec.keys] if self._exact else []
        self._bodies = {
            action_id: Body(number, actions[action_id], layout.args[action_id], layout.key, keys)
            for action_id, number in layout.numbers.items()
        }
        self._quick = self._quick_ways(spec, actions)
        self._shifts = _shifts(spec)
        self._key_bytes = 8 * layout.key_words
        super().__init__(spec, actions, profile, clock)

    def _quick_ways(self, spec: ir.Table, actions: Mapping[int, ir.Action]) -> dict[str, _Quick]:
        """By action, where entries are exact, direct and without meter."""
        if not self._exact or spec.profile is not None or spec.direct_meter is not None:
            return {}
        return {
            actions[action_id].name: _Quick(
                action_id, body, tuple(1 << param.width for param in actions[action_id].params)
            )
            for action_id, body in self._bodies.items()
        }

    def _make_matcher(self) -> Matcher[Entry]:
        return NativeMatcher(self)

    def _make_entry(self, match: Match, priority: int, metadata: bytes) -> Entry:
        if len(self._entries) >= self.layout.capacity:
            raise TableFull(self.name, f"{self.layout.capacity} entries are in")
        return NativeEntry(match, priority, metadata, self._clock(), self)

    def meter_of(self, number: int) -> NativeMeter:
        """The direct meter of an entry."""
        return NativeMeter(self.changes, self.layout.entry(number) + self.layout.meter)

    # -- memory ------------------------------------------------------------------------------------------------------

    def _number(self) -> int:
        """A free entry."""
        if self._free:
            return self._free.pop()
        if self._next > self.layout.capacity:
            self.changes.flush()  # memory that waits for it becomes free
            return self._free.pop()
        self._next += 1
        return self._next - 1

    def put(self, entry: NativeEntry) -> None:
        """Write an entry to free memory and have it found from the next flush on."""
        number = self._number()
        start = self.layout.entry(number)
        match = entry.match if self._exact else ()
        if entry.action_id < 0:
            self._put_reference(start, entry)
        else:
            now = entry.last_hit_us
            self._bodies[entry.action_id].pack_entry(self._buffer, start, now, entry.priority, entry.args, match)
        if not self._exact:
            self._write_key(start, entry.match)
        if self.layout.meter >= 0:
            self.changes.region.zero(start + self.layout.meter, 8)
        entry.place(number, start // 8)
        self.changes.add(Op.ADD, self.layout.number, number)

    def _put_reference(self, start: int, entry: NativeEntry) -> None:
        """An entry that refers to a member or a group."""
        _COUNTS.pack_into(self._buffer, start, 0, 0, entry.last_hit_us)
        self._pack_reference(start + At.BODY, entry)
        if self._exact:
            packing = next(iter(self._bodies.values())).keys
            text = f"<{''.join(packing.formats)}"
            struct.pack_into(text, self._buffer, start + self.layout.key, *packing.values(entry.match))

    def _pack_reference(self, at: int, entry: Entry) -> None:
        assert self._native_profile is not None, "an entry without an action of its own refers to the profile"
        group, target = self._native_profile.target(entry.action)
        _REFERENCE.pack_into(self._buffer, at, GROUP if group else MEMBER, entry.priority, target)

    def take_out(self, entry: NativeEntry) -> None:
        """Have an entry found no more from the next flush on."""
        number = entry.number
        self.changes.add(Op.REMOVE, self.layout.number, number)
        entry.leave()
        self.changes.free_later(self._free, number)

    def _write_key(self, start: int, match: Match) -> None:
        if self.layout.kind == "lpm":
            self._write_prefix(start + self.layout.key, match)
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

    def _replace_body(self, number: int, entry: Entry) -> None:
        """Write the body aside and queue its copy over the old one."""
        size = self.layout.body_size
        aside = self.changes.stage(size)
        if entry.action_id < 0:
            self._pack_reference(aside, entry)
        else:
            self._bodies[entry.action_id].pack(self._buffer, aside, entry.priority, entry.args)
        self.changes.add(Op.COPY, self.layout.entry(number) + At.BODY, aside, size)

    def insert(
        self,
        match: Match,
        action: EntryAction,
        *,
        priority: int = 0,
        idle_timeout_ns: int = 0,
        metadata: bytes = b"",
    ) -> Entry:
        """As `Table.insert`; in one step where nothing is out of the ordinary: controllers insert by the thousand."""
        entry = None
        if isinstance(action, ActionCall) and not priority and (not idle_timeout_ns or self.spec.support_timeout):
            quick = self._quick.get(action.name)
            if quick is not None and quick.body.plain and idle_timeout_ns >= 0:
                entry = self._insert_quickly(quick, match, action, metadata)
        if entry is None:
            return super().insert(match, action, priority=priority, idle_timeout_ns=idle_timeout_ns, metadata=metadata)
        if idle_timeout_ns:
            self._set_timeout(entry, self._timeout(idle_timeout_ns))
        return entry

    def _insert_quickly(self, quick: _Quick, match: Match, action: ActionCall, metadata: bytes) -> NativeEntry | None:
        """None, and nothing done, if anything speaks against it: `Table.insert` says what."""
        entries, values, limits = self._entries, (*action.args, *match), (*quick.limits, *self._limits)
        if len(values) != len(limits) or len(entries) >= self.layout.capacity or (match, 0) in entries:
            return None
        for value, limit in zip(values, limits, strict=True):
            if value.__class__ is not int or not 0 <= value < limit:
                return None
        if len(match) != len(self._limits) or self._const_entries:
            return None
        number, now = self._number(), self._clock()
        start = self.layout.entries + number * self.layout.stride
        quick.body.whole.pack_into(self._buffer, start, 0, 0, now, quick.body.number, 0, *values)
        entry = NativeEntry(match, 0, metadata, now, self)
        entry.action, entry.action_id, entry.args = action, quick.action_id, action.args
        entry.number, entry.word = number, start // 8
        entries[match, 0] = entry
        self.changes.add(Op.ADD, self.layout.number, number)
        return entry

    def _quick_way(self, action: EntryAction, idle_timeout_ns: int) -> tuple[_Quick, ActionCall] | None:
        """With what it is for; None where `Table` has to do or refuse it."""
        if not isinstance(action, ActionCall) or self._const_entries:
            return None
        quick = self._quick.get(action.name)
        if (
            quick is None
            or not args_fit(action.args, quick.limits)
            or (idle_timeout_ns and not self.spec.support_timeout)
        ):
            return None
        return quick, action

    def inserter(self, action: EntryAction, *, idle_timeout_ns: int = 0, metadata: bytes = b"") -> Change:
        """As `Table.inserter`: all but the match is checked and resolved here."""
        general = super().inserter(action, idle_timeout_ns=idle_timeout_ns, metadata=metadata)
        if (found := self._quick_way(action, idle_timeout_ns)) is None:
            return general
        quick, call = found
        timeout_us = self._timeout(idle_timeout_ns)
        action_id, body, args = quick.action_id, quick.body, call.args
        entries, capacity, free, clock = self._entries, self.layout.capacity, self._free, self._clock
        begin, stride, table = self.layout.entries, self.layout.stride, self.layout.number
        pack_into, buffer, code, packed = body.whole.pack_into, self._buffer, body.number, body.args.values(args)
        plain, values, changes = body.keys.plain, body.keys.values, self.changes

        def insert(matches: Sequence[Match]) -> Mapping[int, SwitchError]:
            refused: dict[int, SwitchError] = {}
            commands: list[int] = []
            now = clock()
            for position, match in enumerate(matches):
                key = match, 0
                if key in entries or len(entries) >= capacity:
                    refused[position] = general((match,))[0]  # says what is wrong
                    continue
                number = free.pop() if free else self._number()
                start = begin + number * stride
                pack_into(buffer, start, 0, 0, now, code, 0, *packed, *(match if plain else values(match)))
                entries[key] = entry = NativeEntry(match, 0, metadata, now, self)
                entry.action, entry.action_id, entry.args = call, action_id, args
                entry.number, entry.word = number, start >> 3
                commands += (_ADD, table, number, 0)
                if timeout_us:
                    self._set_timeout(entry, timeout_us)
            changes.add_all(commands)
            return refused

        return insert

    def modifier(self, action: EntryAction, *, idle_timeout_ns: int = 0, metadata: bytes = b"") -> Change:
        """As `Table.modifier`: time stamp and new body are written once, and copied over those of all entries."""
        general = super().modifier(action, idle_timeout_ns=idle_timeout_ns, metadata=metadata)
        if (way := self._quick_way(action, idle_timeout_ns)) is None:
            return general
        quick, call = way
        timeout_us = self._timeout(idle_timeout_ns)
        action_id, args = quick.action_id, call.args
        entries = cast("dict[tuple[Match, int], NativeEntry]", self._entries)
        clock, changes, words, buffer = self._clock, self.changes, self.words, self._buffer
        before = At.BODY - At.LAST_HIT
        length = before + self.layout.body_size
        body = bytearray(self.layout.body_size)
        quick.body.pack(memoryview(body), 0, 0, args)

        def modify(matches: Sequence[Match]) -> Mapping[int, SwitchError]:
            found = [entry for match in matches if (entry := entries.get((match, 0))) is not None]
            if len(found) < len(matches):
                return general(matches)  # says what is wrong, and with which
            now, aside, live = clock(), changes.stage(length), changes.live
            words[aside >> 3] = now
            buffer[aside + before : aside + length] = body
            commands: list[int] = []
            for entry in found:
                entry.action, entry.action_id, entry.args, entry.metadata = call, action_id, args, metadata
                if not live:
                    words[entry.word + _LAST_HIT] = now
                if timeout_us != entry.idle_timeout_us:
                    self._set_timeout(entry, timeout_us)
                commands += (_COPY, (entry.word + _LAST_HIT) << 3, aside, length)
            changes.add_all(commands)
            return _NONE_REFUSED

        return modify

    def modify(self, match: Match, action: Any, **options: Any) -> Entry:
        """As `Table.modify`."""
        entry = super().modify(match, action, **options)
        assert isinstance(entry, NativeEntry)
        self._replace_body(entry.number, entry)
        return entry

    def set_default(self, action: ActionCall, metadata: bytes = b"") -> Entry:
        """As `Table.set_default`."""
        entry = super().set_default(action, metadata)
        self._replace_body(0, entry)
        return entry

    def reset_default(self) -> None:
        """As `Table.reset_default`."""
        super().reset_default()
        if self.default is not None:
            self._replace_body(0, self.default)
        else:
            self.changes.add(Op.POKE, self.layout.entry(0) + At.BODY, 0)


def _shifts(spec: ir.Table) -> tuple[int, ...]:
    """How far each field's value is up in a packed key that is not exact."""
    shifts = []
    below = sum(key.width for key in spec.keys)
    for key in spec.keys:
        below -= key.width
        shifts.append(below)
    return tuple(shifts)
