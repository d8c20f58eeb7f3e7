"""Table updates straight from a serialized WriteRequest: the short way for what controllers write by the thousand.

A message object costs Python some twenty attribute accesses an update, which is most of what an insertion takes.
Here one regular expression a table recognizes an update as every protobuf library serializes it (fields in order of
their numbers) and takes the match apart; what follows the match (action, priority, timeout, metadata) is parsed and
checked once and then known by its bytes, as thousands of entries share a few. The first of many that are alike but for
match and remainder is recognized, the others are compared with it (`alike`); those behind one another that differ in
their match only are carried out as one, a *run*. Whatever is not recognized, or has something wrong with it, goes the
general way, which alone knows what to say about it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from finsy.proto import p4r
from google.protobuf.message import DecodeError

from p4switch.errors import SwitchError
from p4switch.ir import MatchKind
from p4switch.p4runtime.bytestrings import varint
from p4switch.p4runtime.entities.alike import Shape
from p4switch.p4runtime.entities.base import DELETE, INSERT, MODIFY
from p4switch.p4runtime.entities.tables import TableCodec
from p4switch.p4runtime.schema import FieldInfo
from p4switch.runtime import Change, Match

_Head: TypeAlias = tuple[int, int, dict[bytes, Change]]
"""What the bytes before the match say: the length of all, the kind of update, what was learnt of its other ends."""

_KNOWN = 4096
"""Remainders of entries that are remembered, of one table and kind of update."""
_SHAPES = 256
"""Shapes of updates that are remembered, of one table; values are as long as they need to be."""
_LARGEST = 1024
"""Bytes of an update above which others are not compared with it: what is remembered of a shape grows with them."""
_WORTH = 3
"""Updates further on there must be one that begins like this one, or to look for those that are alike does not pay."""
_WIDEST = 512
"""Bits of a match field: all lengths within it are then one byte, and its pattern is of bearable length."""
_UPDATES = b"\x22"
"""Tag of ``WriteRequest.updates``."""
_VALUE = 7
"""Bytes of a match field between its tag and its value: length, tag, id, tag, length, tag, length."""
_VARINT = rb"[\x80-\xff]{0,4}[\x00-\x7f]"
_BEFORE = re.compile(
    rb"(?:\x08[\x80-\xff]*[\x00-\x7f])?(?:\x10[\x80-\xff]*[\x00-\x7f])?(?:\x1a([\x00-\x7f]))?", re.DOTALL
)
"""``device_id``, ``role_id``, and the length of ``election_id``."""
_START = re.compile(rb"\x22%b\x08[\x01-\x03]\x12%b\x12%b\x08(%b)" % (_VARINT, _VARINT, _VARINT, _VARINT), re.DOTALL)
"""An update of a table entry, as far as its table."""
_HEAD = re.compile(
    rb"\x22(%b)\x08([\x01-\x03])\x12(%b)\x12(%b)(\x08%b)" % (_VARINT, _VARINT, _VARINT, _VARINT), re.DOTALL
)
_AFTER_MATCH = frozenset({"action", "priority", "controller_metadata", "idle_timeout_ns", "metadata"})


class Run(NamedTuple):
    """Recognized updates: what they do, and with which entries."""

    change: Change
    matches: list[Match]


@dataclass(frozen=True, slots=True)
class Batch:
    """A WriteRequest taken apart: all but its updates, and these in order, recognized or parsed."""

    header: p4r.WriteRequest
    updates: list[Run | p4r.Update]


class _Recognizer:
    """The updates of one table, all of whose match fields are exact."""

    def __init__(self, codec: TableCodec) -> None:
        self._codec = codec
        self._match = _pattern(codec).match
        self._limits = tuple(1 << field.width for field in codec.info.fields)
        self._whole_bytes = all(field.width % 8 == 0 for field in codec.info.fields)
        """Then a value of the right length is in bounds."""
        self._heads: dict[bytes, _Head] = {}
        self._changes: dict[int, dict[bytes, Change]] = {INSERT: {}, MODIFY: {}, DELETE: {}}
        self._shapes: dict[tuple[int, tuple[tuple[int, int], ...]], Shape] = {}

    def run(self, raw: bytes, position: int, into: list[Run | p4r.Update]) -> int:
        """Recognize as many updates in a row as there are; the position of the first other one."""
        recognize, heads, number, end = self._match, self._heads, int.from_bytes, len(raw)
        while (found := recognize(raw, position)) is not None:
            head, *fields = found.groups()
            known = heads.get(head) or self._learn_head(head)
            if known is None:
                return position
            length, kind, changes = known
            start, stop = found.end(), position + length
            rest = raw[start:stop]
            change = changes.get(rest) or self._learn(kind, rest)
            match = tuple([number(field[_VALUE:], "big") for field in fields])
            if change is None or not start <= stop <= end or not (self._whole_bytes or self._fits(match)):
                return position
            _matches_for(change, into).append(match)
            begins = raw[position : found.start(2) + _VALUE]
            alike = raw.startswith(begins, stop) and raw.startswith(begins, stop + _WORTH * length)
            position = self._take_alike(raw, found, known, into) if alike and length <= _LARGEST else stop
        return position

    def _take_alike(self, raw: bytes, found: re.Match[bytes], known: _Head, into: list[Run | p4r.Update]) -> int:
        """As `run`, for those behind the update that was found that are like it but for match and rest."""
        begin, (size, kind, changes) = found.start(), known
        places = map(found.span, range(2, 2 + len(self._limits)))
        spans = tuple([(start + _VALUE - begin, stop - begin) for start, stop in places])
        shape = self._shapes.get((size, spans))
        if shape is None:
            if len(self._shapes) >= _SHAPES:
                self._shapes.clear()
            self._shapes[size, spans] = shape = Shape(size, spans, found.end() - begin)
        position, last, matches = begin + size, None, list[Match]()
        for match, rest in shape.take(raw, begin):
            change = changes.get(rest) or self._learn(kind, rest)
            if change is None or not (self._whole_bytes or self._fits(match)):
                break
            if rest != last:
                last, matches = rest, _matches_for(change, into)
            matches.append(match)
            position += size
        return position

    def _fits(self, match: tuple[int, ...]) -> bool:
        return all(value < limit for value, limit in zip(match, self._limits, strict=True))

    def _learn_head(self, head: bytes) -> _Head | None:
        """None if the lengths in it contradict each other."""
        found = _HEAD.fullmatch(head)
        assert found is not None, "the table's pattern starts alike"
        update, entity, entry = (_varint_at(found[group], 0)[0] for group in (1, 3, 4))
        if entity != 1 + len(found[4]) + entry or update != 3 + len(found[3]) + entity or entry < len(found[5]):
            return None
        kind = found[2][0]
        if len(self._heads) >= _KNOWN:
            self._heads.clear()
        self._heads[head] = known = len(head) - len(found[5]) + entry, kind, self._changes[kind]
        return known

    def _learn(self, kind: int, rest: bytes) -> Change | None:
        """What an update does whose bytes after the match are these; None if that is not for here to say."""
        try:
            entry = p4r.TableEntry.FromString(rest)
            if entry.SerializeToString(deterministic=True) != rest:
                return None  # it may undo what came before, such as the table's id
            if not _AFTER_MATCH.issuperset(field.name for field, _ in entry.ListFields()):
                return None
            change = self._codec.prepare(kind, entry)
        except (SwitchError, DecodeError):
            return None
        known = self._changes[kind]
        if change is not None:
            if len(known) >= _KNOWN:
                known.clear()
            known[rest] = change
        return change


class Recognizers:
    """All tables of a pipeline. May be used without the device's lock, from any thread."""

    def __init__(self, codecs: Mapping[int, TableCodec]) -> None:
        self._tables = {varint(number): _Recognizer(codec) for number, codec in codecs.items() if _suits(codec)}

    def take_apart(self, raw: bytes) -> Batch | None:
        """None if the request is serialized in an unusual way. :raises DecodeError: it is none."""
        begin = position = _first_update(raw)
        updates: list[Run | p4r.Update] = []
        while raw[position : position + 1] == _UPDATES:
            found = _START.match(raw, position)
            table = None if found is None else self._tables.get(found[1])
            after = position if table is None else table.run(raw, position, updates)
            if after == position:
                length, start = _varint_at(raw, position + 1)
                after = start + length
                if after > len(raw):
                    return None
                updates.append(p4r.Update.FromString(raw[start:after]))
            position = after
        header = p4r.WriteRequest.FromString(raw[:begin] + raw[position:])
        return None if header.updates else Batch(header, updates)


def _matches_for(change: Change, into: list[Run | p4r.Update]) -> list[Match]:
    """Where another match belongs with which ``change`` is carried out: to the last run, or to a new one."""
    last = into[-1] if into else None
    if isinstance(last, Run) and last.change is change:
        return last.matches
    into.append(made := Run(change, []))
    return made.matches


def _suits(codec: TableCodec) -> bool:
    info = codec.info
    if info.profile or info.meter or not info.fields:
        return False
    widths = tuple(key.width for key in codec.table.spec.keys)
    return widths == tuple(field.width for field in info.fields) and all(
        field.kind is MatchKind.EXACT and field.stored is MatchKind.EXACT and field.id < 128 and field.width <= _WIDEST
        for field in info.fields
    )


def _pattern(codec: TableCodec) -> re.Pattern[bytes]:
    """An update of this table as far as its match, with all fields in order, each value as long as its width lets it
    be. Groups: all before the match; each field without its tag."""
    start = rb"(\x22%b\x08[\x01-\x03]\x12%b\x12%b%b)" % (
        _VARINT,
        _VARINT,
        _VARINT,
        re.escape(b"\x08" + varint(codec.info.id)),
    )
    return re.compile(start + b"".join(map(_field_pattern, codec.info.fields)), re.DOTALL)


def _field_pattern(field: FieldInfo) -> bytes:
    ways = []
    for size in range(1, (field.width + 7) // 8 + 1):
        before = bytes((size + 6, 0x08, field.id, 0x12, size + 2, 0x0A, size))
        ways.append(b"%b.{%d}" % (re.escape(before), size))
    return b"\\x12(" + b"|".join(ways) + b")"


def _first_update(raw: bytes) -> int:
    found = _BEFORE.match(raw)
    assert found is not None, "all of it is optional"
    return found.end() + (found[1][0] if found[1] else 0)


def _varint_at(raw: bytes, position: int) -> tuple[int, int]:
    """(number, position behind it); too large a number where it does not end."""
    value = shift = 0
    while position < len(raw):
        octet = raw[position]
        value |= (octet & 127) << shift
        position, shift = position + 1, shift + 7
        if octet < 128:
            return value, position
    return len(raw), position + 1
