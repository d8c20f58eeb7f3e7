"""Match fields on the wire ↔ match tuples of the runtime."""

from __future__ import annotations

from collections.abc import Sequence

from finsy.proto import p4r

from p4switch.ir import MatchKind
from p4switch.p4runtime.bytestrings import decode, encode
from p4switch.p4runtime.schema import FieldInfo
from p4switch.p4runtime.status import invalid
from p4switch.runtime import FieldMatch, Match

_MISSING = object()


class MatchCodec:
    """The match of one table (or value set): ``owner`` names it in messages."""

    def __init__(self, owner: str, fields: Sequence[FieldInfo]) -> None:
        self._owner = owner
        self._fields = fields
        self._by_id = {field.id: field for field in fields}
        self._places = {field.id: (field.position, 1 << field.width) for field in fields}
        self._all_exact = all(field.kind is MatchKind.EXACT for field in fields)
        self._any: list[object] = [_dont_care(field) for field in fields]

    def decode(self, match: Sequence[p4r.FieldMatch]) -> Match:
        """:raises Refused: a field is unknown, there twice, missing although exact, of another kind, or malformed."""
        if self._all_exact:
            found = self._decode_exact(match)
            if found is not None:
                return found
        values = [_MISSING] * len(self._fields)
        for item in match:
            field = self._by_id.get(item.field_id)
            if field is None:
                raise invalid(f"{self._owner} has no match field with id {item.field_id}")
            if values[field.position] is not _MISSING:
                raise invalid(f"{self._owner}: match field {field.name!r} is given twice")
            values[field.position] = self._decode_field(field, item)
        for field in self._fields:
            if values[field.position] is _MISSING:
                if field.kind is MatchKind.EXACT:
                    raise invalid(f"{self._owner}: exact match field {field.name!r} is missing")
                values[field.position] = self._any[field.position]
        return tuple(values)  # type: ignore[arg-type]  # every _MISSING was replaced

    def _decode_exact(self, match: Sequence[p4r.FieldMatch]) -> Match | None:
        """The match if nothing is wrong with it: the short way for what controllers send by the thousand."""
        places = self._places
        if len(match) != len(places):
            return None
        values = [-1] * len(places)
        for item in match:
            place = places.get(item.field_id)
            raw = item.exact.value
            if place is None or not raw or values[place[0]] >= 0:
                return None
            value = int.from_bytes(raw, "big")
            if value >= place[1]:
                return None
            values[place[0]] = value
        return tuple(values)

    def _decode_field(self, field: FieldInfo, item: p4r.FieldMatch) -> FieldMatch:
        what = f"{self._owner}, match field {field.name!r}"
        kind = item.WhichOneof("field_match_type")
        if kind != field.kind.value:
            raise invalid(f"{what} is {field.kind}, not {kind or 'unset'}")
        match field.kind:
            case MatchKind.EXACT:
                return decode(item.exact.value, field.width, what)
            case MatchKind.OPTIONAL:
                value = decode(item.optional.value, field.width, what)
                return value if field.stored is MatchKind.OPTIONAL else (value, (1 << field.width) - 1)
            case MatchKind.LPM:
                return _lpm(what, field.width, item.lpm)
            case MatchKind.TERNARY:
                return _ternary(what, field.width, item.ternary)
            case MatchKind.RANGE:
                return _range(what, field.width, item.range)

    def encode(self, match: Match, into: p4r.TableEntry | p4r.ValueSetMember) -> None:
        """Add the fields of ``match``, without those that match everything."""
        for field, value in zip(self._fields, match, strict=True):
            if value == self._any[field.position] and field.kind is not MatchKind.EXACT:
                continue
            item = into.match.add(field_id=field.id)
            match field.kind, value:
                case MatchKind.EXACT, int(number):
                    item.exact.value = encode(number)
                case MatchKind.OPTIONAL, (int(number) | (int(number), _)):
                    item.optional.value = encode(number)
                case MatchKind.LPM, (number, length):
                    item.lpm.value, item.lpm.prefix_len = encode(number), length
                case MatchKind.TERNARY, (number, mask):
                    item.ternary.value, item.ternary.mask = encode(number), encode(mask)
                case MatchKind.RANGE, (low, high):
                    item.range.low, item.range.high = encode(low), encode(high)


def _dont_care(field: FieldInfo) -> object:
    match field.stored:
        case MatchKind.LPM | MatchKind.TERNARY:
            return 0, 0
        case MatchKind.RANGE:
            return 0, (1 << field.width) - 1
    return None


def _lpm(what: str, width: int, lpm: p4r.FieldMatch.LPM) -> tuple[int, int]:
    length = int(lpm.prefix_len)
    if length == 0:
        raise invalid(f"{what}: prefix length 0 matches everything; omit the field")
    if not 0 < length <= width:
        raise invalid(f"{what}: prefix length {length} of {width} bits")
    value = decode(lpm.value, width, what)
    if value & ((1 << width - length) - 1):
        raise invalid(f"{what}: {value:#x} has bits set below its prefix of {length}")
    return value, length


def _ternary(what: str, width: int, ternary: p4r.FieldMatch.Ternary) -> tuple[int, int]:
    mask = decode(ternary.mask, width, f"{what}, mask")
    if mask == 0:
        raise invalid(f"{what}: mask 0 matches everything; omit the field")
    value = decode(ternary.value, width, what)
    if value & ~mask:
        raise invalid(f"{what}: {value:#x} has bits set outside of its mask {mask:#x}")
    return value, mask


def _range(what: str, width: int, between: p4r.FieldMatch.Range) -> tuple[int, int]:
    low, high = decode(between.low, width, f"{what}, low"), decode(between.high, width, f"{what}, high")
    if low > high:
        raise invalid(f"{what}: low {low:#x} is above high {high:#x}")
    if low == 0 and high == (1 << width) - 1:
        raise invalid(f"{what}: the whole range matches everything; omit the field")
    return low, high
