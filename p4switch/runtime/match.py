"""Finding the entry for a key: one matcher for each kind of table.

A matcher holds what a lookup needs and nothing else; `p4switch.runtime.table.Table` owns the entries. ``find`` takes
the fields' values: the bare number where the table has one key, else a tuple. A back end binds ``find`` once, so a
matcher is never replaced while its table lives.
"""

from bisect import insort
from collections.abc import Callable
from typing import Generic, Protocol, TypeAlias, TypeVar

from p4switch.ir import Key, MatchKind, Table

FieldMatch: TypeAlias = int | tuple[int, int] | None
"""exact: value · lpm: (value, prefix length) · ternary: (value, mask) · range: (low, high) · optional: value, None."""
Match: TypeAlias = tuple[FieldMatch, ...]
Found: TypeAlias = int | tuple[int, ...]


class Matchable(Protocol):
    """What a matcher needs to know of an entry."""

    match: Match
    priority: int


E = TypeVar("E", bound=Matchable)


class Matcher(Protocol[E]):
    """A set of entries that is searched by key."""

    @property
    def find(self) -> Callable[[Found], E | None]:
        """The entry that wins for a key; None if none matches."""

    def add(self, entry: E) -> None:
        """Add an entry whose match and priority are new."""

    def remove(self, entry: E) -> None:
        """Remove an entry that is there."""


class ExactMatcher(Generic[E]):
    """All fields exact: one dictionary, and ``find`` is its own ``get``."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self._single = len(keys) == 1
        self._entries: dict[Found, E] = {}
        self.find: Callable[[Found], E | None] = self._entries.get

    def _key(self, entry: E) -> Found:
        return entry.match[0] if self._single else entry.match  # type: ignore[return-value]  # all are int here

    def add(self, entry: E) -> None:
        self._entries[self._key(entry)] = entry

    def remove(self, entry: E) -> None:
        del self._entries[self._key(entry)]


class LpmMatcher(Generic[E]):
    """One lpm field, the others exact: one dictionary for each prefix length in use, longest first."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self._single = len(keys) == 1
        self._position = next(i for i, key in enumerate(keys) if key.kind is MatchKind.LPM)
        self._width = keys[self._position].width
        self._by_length: dict[int, dict[Found, E]] = {}
        self._lengths: list[tuple[int, dict[Found, E]]] = []  # (mask, entries), longest prefix first

    def _mask(self, length: int) -> int:
        return ((1 << length) - 1) << (self._width - length)

    def _split(self, entry: E) -> tuple[int, Found]:
        value, length = entry.match[self._position]  # type: ignore[misc]  # an lpm field's match is a pair
        return length, self._replace(entry.match, value)

    def _replace(self, key: Found | Match, value: int) -> Found:
        if self._single:
            return value
        at = self._position
        return (*key[:at], value, *key[at + 1 :])  # type: ignore[index]  # more than one key: a tuple

    def add(self, entry: E) -> None:
        length, key = self._split(entry)
        self._by_length.setdefault(length, {})[key] = entry
        self._order()

    def remove(self, entry: E) -> None:
        length, key = self._split(entry)
        entries = self._by_length[length]
        del entries[key]
        if not entries:
            del self._by_length[length]
        self._order()

    def _order(self) -> None:
        if len(self._lengths) != len(self._by_length):
            self._lengths = [(self._mask(n), self._by_length[n]) for n in sorted(self._by_length, reverse=True)]

    def find(self, key: Found) -> E | None:
        value: int = key if self._single else key[self._position]  # type: ignore[assignment,index]
        for mask, entries in self._lengths:
            entry = entries.get(self._replace(key, value & mask))
            if entry is not None:
                return entry
        return None


class _Rule(Generic[E]):
    """An entry of a priority table, made ready: all fields side by side in one number, ranges apart."""

    __slots__ = ("entry", "mask", "order", "ranges", "value")

    def __init__(self, entry: E, value: int, mask: int, ranges: tuple[tuple[int, int, int], ...], serial: int) -> None:
        self.entry = entry
        self.value = value
        self.mask = mask
        self.ranges = ranges
        self.order = (-entry.priority, serial)


class PriorityMatcher(Generic[E]):
    """Ternary, range and optional fields: rules in order of priority, the first that fits wins.

    Among equal priorities, which the control plane should avoid, the rule that was added first wins.
    """

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self._keys = keys
        self._single = len(keys) == 1
        self._rules: list[_Rule[E]] = []
        self._serial = 0

    def _pack(self, key: Found) -> int:
        if self._single:
            return key  # type: ignore[return-value]  # one key: the bare number
        packed = 0
        for spec, value in zip(self._keys, key, strict=True):  # type: ignore[arg-type]
            packed = packed << spec.width | value
        return packed

    def add(self, entry: E) -> None:
        value = mask = 0
        ranges: list[tuple[int, int, int]] = []
        for position, (key, match) in enumerate(zip(self._keys, entry.match, strict=True)):
            if key.kind is MatchKind.RANGE:
                low, high = match  # type: ignore[misc]  # a range field's match is a pair
                ranges.append((position, low, high))
            field_value, field_mask = value_and_mask(key, match)
            value = value << key.width | field_value
            mask = mask << key.width | field_mask
        self._serial += 1
        insort(self._rules, _Rule(entry, value, mask, tuple(ranges), self._serial), key=lambda rule: rule.order)

    def remove(self, entry: E) -> None:
        at = next(i for i, rule in enumerate(self._rules) if rule.entry is entry)
        del self._rules[at]

    def find(self, key: Found) -> E | None:
        packed = self._pack(key)
        fields = (key,) if self._single else key
        for rule in self._rules:
            if packed & rule.mask == rule.value and _in_ranges(rule.ranges, fields):  # type: ignore[arg-type]
                return rule.entry
        return None


def _in_ranges(ranges: tuple[tuple[int, int, int], ...], fields: tuple[int, ...]) -> bool:
    return all(low <= fields[position] <= high for position, low, high in ranges)


def value_and_mask(key: Key, match: FieldMatch) -> tuple[int, int]:
    """The field's match as value and mask; (0, 0), which fits everything, for a range."""
    ones = (1 << key.width) - 1
    match key.kind, match:
        case MatchKind.RANGE, _:
            return 0, 0
        case _, None:
            return 0, 0
        case MatchKind.LPM, (value, length):
            return value, ones ^ (ones >> length)
        case MatchKind.TERNARY, (value, mask):
            return value, mask
        case _, int(value):
            return value, ones
    raise AssertionError(f"{match!r} was not checked against {key!r}")


def make_matcher(spec: Table) -> "ExactMatcher[E] | LpmMatcher[E] | PriorityMatcher[E]":
    """The matcher for a table."""
    kinds = [key.kind for key in spec.keys]
    if all(kind is MatchKind.EXACT for kind in kinds):
        return ExactMatcher(spec.keys)
    if kinds.count(MatchKind.LPM) == 1 and kinds.count(MatchKind.EXACT) == len(kinds) - 1:
        return LpmMatcher(spec.keys)
    return PriorityMatcher(spec.keys)
