"""Records from generated code to the control plane: digests and log messages, in the order in which they were made.

A record is u64 size, u64 number, then each value in whole words. Numbers below 2**32 are digest lists, others messages.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from p4switch.native.emit import Emitter, Value, i64
from p4switch.native.layout import Control, Layout

MESSAGE = 1 << 32
"""What is added to the number of a log message."""


@dataclass(frozen=True, slots=True)
class LogMessage:
    """A log_msg of the program.

    ``pieces`` of its text, and of each value between them its bits, sign, and whether it is a truth value.
    """

    pieces: tuple[str, ...]
    values: tuple[tuple[int, bool, bool], ...]

    def text(self, numbers: Sequence[int]) -> str:
        """The message, as the interpreter writes it."""
        shown = [
            str(bool(number) if truth else _with_sign(number, width, signed))
            for number, (width, signed, truth) in zip(numbers, self.values, strict=True)
        ]
        text = "".join(f"{piece}{value}" for piece, value in zip(self.pieces, shown, strict=False))
        return text + "".join(self.pieces[len(shown) :])


def _with_sign(number: int, width: int, signed: bool) -> int:
    return number - (1 << width) if signed and number >> (width - 1) else number


def record_slot(width: int) -> int:
    """Bytes of a value in a record: whole words."""
    return -(-width // 64) * 8


def write_record(emit: Emitter, layout: Layout, region: Value, number: int, values: Sequence[Value]) -> None:
    """Append a record; if there is no room, count that it was lost."""
    b = emit.b
    size = 16 + sum(record_slot(value.type.width) for value in values)
    used = emit.at(region, layout.control + Control.DIGEST_USED)
    head = emit.load(used, 64, 8)

    def put() -> None:
        place = emit.at(emit.at(region, layout.digests), head)
        emit.store(i64(size), place, 8)
        emit.store(i64(number), emit.at(place, 8), 8)
        offset = 16
        for value in values:
            length = record_slot(value.type.width)
            emit.store(emit.resize(value, length * 8), emit.at(place, offset), 8)
            offset += length
        emit.store(b.add(head, i64(size)), used, 8)

    lost = emit.at(region, layout.control + Control.DIGEST_DROPS)
    room = b.icmp_unsigned("<=", b.add(head, i64(size)), i64(Layout.DIGESTS))
    emit.choose(room, put, lambda: emit.add_to(lost, i64(1)))


def read_values(buffer: memoryview, offset: int, widths: Sequence[int]) -> Iterator[int]:
    """The values of a record that begin at ``offset``."""
    for width in widths:
        length = record_slot(width)
        yield int.from_bytes(buffer[offset : offset + length], "little")
        offset += length
