"""Counters, each of packets and bytes, and registers."""

from collections.abc import Iterator
from typing import NamedTuple

from p4switch import ir
from p4switch.errors import BadEntry


class Count(NamedTuple):
    """Packets, and their bytes as received."""

    packets: int
    bytes: int


def _check_index(where: str, index: int, size: int) -> None:
    if not 0 <= index < size:
        raise BadEntry(where, f"index {index} is outside of 0..{size - 1}")


class CounterArray:
    """An indirect counter. ``packets`` and ``bytes`` are lists that a back end adds to directly."""

    def __init__(self, spec: ir.CounterArray) -> None:
        self.spec = spec
        self.packets = [0] * spec.size
        self.bytes = [0] * spec.size

    def __len__(self) -> int:
        return self.spec.size

    def read(self, index: int) -> Count:
        """:raises BadEntry: no such index."""
        _check_index(self.spec.name, index, self.spec.size)
        return Count(self.packets[index], self.bytes[index])

    def write(self, index: int, count: Count) -> None:
        """:raises BadEntry: no such index, or a negative count."""
        _check_index(self.spec.name, index, self.spec.size)
        if min(count) < 0:
            raise BadEntry(self.spec.name, "a count is not negative")
        self.packets[index], self.bytes[index] = count

    def __iter__(self) -> Iterator[Count]:
        return map(Count, self.packets, self.bytes)


class RegisterArray:
    """A register array. ``values`` is a list that a back end reads and writes directly, each value within its width."""

    def __init__(self, spec: ir.RegisterArray) -> None:
        self.spec = spec
        self.values = [0] * spec.size

    def __len__(self) -> int:
        return self.spec.size

    def read(self, index: int) -> int:
        """:raises BadEntry: no such index."""
        _check_index(self.spec.name, index, self.spec.size)
        return self.values[index]

    def write(self, index: int, value: int) -> None:
        """:raises BadEntry: no such index, or the value is wider than the register."""
        _check_index(self.spec.name, index, self.spec.size)
        if not 0 <= value < 1 << self.spec.width:
            raise BadEntry(self.spec.name, f"{value:#x} does not fit {self.spec.width} bits")
        self.values[index] = value
