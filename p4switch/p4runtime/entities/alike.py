"""Many things in a row that are alike but for some of their bytes, told apart and taken apart without a loop.

Controllers serialize thousands of updates that differ in the values of their match only. All bytes of many such updates
are one large number: with the first of them, repeated, taken away by exclusive or, and the bytes that may differ masked
out, it is zero if all are alike; else its uppermost bit says which is the first that is not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

_FIRST, _MOST = 8, 256
"""How many are compared at once: few at first, then twice as many: who wants no more of them has paid for no more."""
_BYTES = 1 << 14
"""The most that are compared at once, and remembered of a shape."""
_WHOLE = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Shape:
    """Where the values are in a thing of ``size`` bytes: spans from the front to the back, not empty, big-endian; from
    ``rest`` on, behind them, anything may stand. May be used from any thread."""

    def __init__(self, size: int, values: Sequence[tuple[int, int]], rest: int) -> None:
        self.size = size
        mask, text, end = bytearray(b"\xff" * rest + bytes(size - rest)), ">", 0
        for start, stop in values:
            mask[start:stop] = bytes(stop - start)
            text += f"{start - end}x{_WHOLE.get(stop - start, f'{stop - start}s')}"
            end = stop
        self._most = max(1, min(_MOST, _BYTES // size))
        self._unit = bytes(mask)
        self._mask = (0, 0)
        """The mask, and of how many things; made when it is needed, and replaced as a whole: threads share it."""
        self._values = struct.Struct(f"{text}{size - end}x")
        self._rest = struct.Struct(f"{rest}x{size - rest}s")
        self._wide = [place for place, (start, stop) in enumerate(values) if stop - start not in _WHOLE]

    def take(self, raw: bytes, position: int) -> Iterator[tuple[tuple[int, ...], bytes]]:
        """Values and rest of each thing that follows the one at ``position`` and is like it."""
        size, count = self.size, min(_FIRST, self._most)
        first, start = raw[position : position + size], position + size
        while left := min(count, (len(raw) - start) // size):
            alike = self._alike(raw[start : start + left * size], first, left)
            taken = raw[start : start + alike * size]
            yield from zip(self._numbers(taken), [rest for (rest,) in self._rest.iter_unpack(taken)], strict=True)
            if alike < left:
                return
            start += alike * size
            count = min(2 * count, self._most)

    def _alike(self, raw: bytes, first: bytes, count: int) -> int:
        """How many of ``count`` are like the first one."""
        bits = 8 * self.size
        mask, masked = self._mask
        if count > masked:
            self._mask = mask, masked = int.from_bytes(self._unit * count, "big"), count
        differs = int.from_bytes(raw, "big") ^ int.from_bytes(first * count, "big")
        differs &= mask >> bits * (masked - count)
        return count - -(-differs.bit_length() // bits)

    def _numbers(self, raw: bytes) -> Iterator[tuple[int, ...]]:
        rows = self._values.iter_unpack(raw)
        if not self._wide or not raw:
            return rows
        columns = [*zip(*rows, strict=True)]
        for place in self._wide:
            columns[place] = tuple(map(int.from_bytes, columns[place]))
        return zip(*columns, strict=True)
