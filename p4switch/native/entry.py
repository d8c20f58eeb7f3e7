"""Entries in the region, as Python sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from p4switch.runtime.actions import ActionCall
from p4switch.runtime.match import Found, Match, Matcher, make_matcher
from p4switch.runtime.meters import Meter
from p4switch.runtime.table import Entry

if TYPE_CHECKING:
    from p4switch.native.table import NativeTable

_NONE = ActionCall("")


class NativeEntry(Entry):
    """An entry whose counters and time stamp are in the region as long as it is in its table."""

    __slots__ = ("_held", "_meter", "_table", "number", "word")

    def __init__(self, match: Match, priority: int, metadata: bytes, now_us: int, table: NativeTable) -> None:
        # Not the base's: setting each count through its property would take twice the time.
        self.match = match
        self.priority = priority
        self.metadata = metadata
        self.action = _NONE
        self.action_id = -1
        self.args = ()
        self.idle_timeout_us = 0
        self.reported_us = 0
        self.const = False
        self.number = 0
        """Where it is in the table's memory; 0: it is not."""
        self.word = 0
        self._held = (0, 0, now_us)
        self._table = table
        self._meter: Meter | None = None

    def _get(self, index: int) -> int:
        return self._table.words[self.word + index] if self.number else self._held[index]

    def _set(self, index: int, value: int) -> None:
        if self.number:
            self._table.changes.poke(self.word + index, value)
        else:
            held = list(self._held)
            held[index] = value
            self._held = (held[0], held[1], held[2])

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

    def place(self, number: int, word: int) -> None:
        """The entry is at ``number`` now."""
        self.number = number
        self.word = word

    def leave(self) -> None:
        """The entry is out of its table: keep what it counted."""
        words, word = self._table.words, self.word
        self._held = (words[word], words[word + 1], words[word + 2])
        self.number = 0


class NativeMatcher:
    """Puts entries into the region and takes them out."""

    def __init__(self, table: NativeTable) -> None:
        self._table = table
        self.add: Callable[[Any], None] = table.put
        self.remove: Callable[[Any], None] = table.take_out

    def find(self, key: Found) -> Entry | None:
        """As the interpreter would find it. For tests: builds the interpreter's matcher anew each time."""
        matcher: Matcher[Entry] = make_matcher(self._table.spec)
        for entry in self._table.entries():
            matcher.add(entry)
        return matcher.find(key)
