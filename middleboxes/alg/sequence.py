"""Sequence numbers behind rewritten text: how far one direction of a TCP connection is shifted, and from where.

A replaced piece of the stream is longer or shorter than the original, so everything behind it has other sequence
numbers at the receiver, and the receiver's acknowledgements have to be put back. Segments come again and out of order:
each number is shifted by what was replaced *before* it. Numbers are modulo 2**32 and compared by RFC 1982.
"""

from __future__ import annotations

import msgspec

MOST = 16
"""Replacements remembered; what is older is taken to have been acknowledged long ago."""
MODULUS = 1 << 32


def before(first: int, second: int) -> bool:
    """Whether the first number is before the second one, less than half of all numbers apart."""
    return 0 < (second - first) % MODULUS < MODULUS // 2


class Edit(msgspec.Struct, frozen=True):
    """``length`` bytes from ``start`` (in the sender's numbers) were replaced by ``text``."""

    start: int
    length: int
    text: bytes

    @property
    def end(self) -> int:
        """The sender's number behind the original."""
        return (self.start + self.length) % MODULUS

    @property
    def growth(self) -> int:
        """Bytes by which the replacement is longer."""
        return len(self.text) - self.length


class Shift(msgspec.Struct):
    """One direction of a connection."""

    base: int = 0
    """Growth of the edits that are forgotten."""
    edits: list[Edit] = []

    def add(self, edit: Edit) -> None:
        """A piece was replaced, behind all earlier ones."""
        self.edits.append(edit)
        if len(self.edits) > MOST:
            self.base += self.edits.pop(0).growth

    def of(self, start: int) -> Edit | None:
        """The edit that begins here: a segment that comes again is rewritten as it was the first time."""
        return next((edit for edit in self.edits if edit.start == start), None)

    def covers(self, start: int) -> bool:
        """Whether this is in front of, or in, what was replaced last: then it has been sent before."""
        return bool(self.edits) and before(start, self.edits[-1].end)

    def forth(self, number: int) -> int:
        """The sender's number → the receiver's."""
        shift = self.base
        for edit in self.edits:
            if before(number, edit.end):  # inside a replaced piece only its beginning has a counterpart
                break
            shift += edit.growth
        return (number + shift) % MODULUS

    def back(self, number: int) -> int:
        """The receiver's number (an acknowledgement) → the sender's.

        Inside a replacement it becomes the beginning of the original: the sender repeats all of it.
        """
        shift = self.base
        for edit in self.edits:
            start = (edit.start + shift) % MODULUS
            if not before(start, number):
                break
            if before(number, (start + len(edit.text)) % MODULUS):
                return edit.start
            shift += edit.growth
        return (number - shift) % MODULUS

    def __bool__(self) -> bool:
        return bool(self.base or self.edits)


class Gap(msgspec.Struct):
    """What was dropped of one direction for its sender to repeat: from ``start`` on, up to ``end``; none if equal.

    Nothing behind ``start`` may pass before what is missing there has: that may become longer or shorter, and by how
    much, which all numbers behind it depend on, is known only then.
    """

    start: int = 0
    end: int = 0

    def __bool__(self) -> bool:
        return self.start != self.end

    def open(self, start: int, end: int) -> None:
        """What begins at ``start`` was dropped, or has to be, and what ends at ``end``."""
        if not self:
            self.start = self.end = start
        if before(start, self.start):
            self.start = start
        if before(self.end, end):
            self.end = end

    def behind(self, start: int) -> bool:
        """Whether what begins here comes too early."""
        return bool(self) and before(self.start, start)

    def close(self, end: int) -> None:
        """All up to here has passed, or is at the other side."""
        if self and before(self.start, end):
            self.start = end if before(end, self.end) else self.end
