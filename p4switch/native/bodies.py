"""How Python writes an action and its arguments, as `layout.Entry` has them."""

import struct
from collections.abc import Sequence
from typing import Any

from p4switch import ir
from p4switch.native.layout import Entry, Slot, slot_bytes

FORMATS = {1: "B", 2: "H", 4: "I", 8: "Q"}
"""struct's letters by bytes."""


class Packing:
    """Numbers of given widths side by side; those above 64 bits as bytes."""

    def __init__(self, widths: Sequence[int]) -> None:
        sizes = [slot_bytes(width) for width in widths]
        self.formats = [FORMATS.get(size, f"{size}s") for size in sizes]
        self._wide = [(position, size) for position, size in enumerate(sizes) if size > 8]

    @property
    def plain(self) -> bool:
        """Whether no number is above 64 bits."""
        return not self._wide

    def values(self, numbers: tuple[Any, ...]) -> tuple[Any, ...]:
        """What struct takes for these numbers."""
        if not self._wide:
            return numbers
        values: list[Any] = list(numbers)
        for position, size in self._wide:
            values[position] = numbers[position].to_bytes(size, "little")
        return tuple(values)


class Body:
    """One action of a table: its number there, and where its arguments lie.

    ``keys`` are the widths of the exact match fields that follow at ``key`` in a whole entry.
    """

    def __init__(
        self, number: int, action: ir.Action, slots: Sequence[Slot], key: int = 0, keys: Sequence[int] = ()
    ) -> None:
        self.number = number
        self.args = Packing([param.width for param in action.params])
        self.keys = Packing(keys)
        text, end = "II", Entry.ARGS
        for slot, letter in zip(slots, self.args.formats, strict=True):
            text += f"{slot.offset - end}x{letter}"
            end = slot.offset + slot_bytes(slot.width)
        self._body = struct.Struct("<" + text)
        whole = f"<QQQ{text}"
        if keys:
            whole += f"{key - end}x{''.join(self.keys.formats)}"
        self._entry = struct.Struct(whole)

    @property
    def plain(self) -> bool:
        """Whether `whole` takes all numbers as they are."""
        return self.args.plain and self.keys.plain

    @property
    def whole(self) -> struct.Struct:
        """A whole entry: two counts, a time stamp, `number`, a priority, the arguments, the match fields."""
        return self._entry

    def pack(self, buffer: memoryview, offset: int, priority: int, args: tuple[int, ...]) -> None:
        """Write action and arguments."""
        self._body.pack_into(buffer, offset, self.number, priority, *self.args.values(args))

    def pack_entry(
        self,
        buffer: memoryview,
        offset: int,
        now_us: int,
        priority: int,
        args: tuple[int, ...],
        match: tuple[Any, ...],
    ) -> None:
        """Write a whole entry: counters 0, time stamp, action, arguments and, if there are ``keys``, the match."""
        self._entry.pack_into(
            buffer, offset, 0, 0, now_us, self.number, priority, *self.args.values(args), *self.keys.values(match)
        )
