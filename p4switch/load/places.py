"""Small checks that all loaders share; each raises LoadError with the place."""

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from p4switch import ir
from p4switch.errors import LoadError
from p4switch.load import schema

_HEX = re.compile(r"-?(0[xX])?[0-9a-fA-F]+\Z")
LARGEST_ARRAY = 1 << 26
WIDEST_FIELD = 1 << 16

T = TypeVar("T")


def number(place: str, text: Any) -> int:
    """A ``hexstr``."""
    if not isinstance(text, str) or not _HEX.match(text):
        raise LoadError(place, f"{text!r} is no hexadecimal string", 'write it like "0x2a" or "-0x1"')
    return int(text, 16)


def unsigned(place: str, text: Any, width: int) -> int:
    """A ``hexstr`` of at most ``width`` bits."""
    value = number(place, text)
    if not 0 <= value < 1 << width:
        raise LoadError(place, f"{text} does not fit {width} bits")
    return value


def array_size(place: str, size: int) -> int:
    """The size of an array that lives in memory."""
    if not 0 <= size <= LARGEST_ARRAY:
        raise LoadError(place, f"a size of {size} is outside of 0..{LARGEST_ARRAY}")
    return size


def width(place: str, bits: Any) -> int:
    """A width in bits."""
    if not isinstance(bits, int) or isinstance(bits, bool) or not 0 < bits <= WIDEST_FIELD:
        raise LoadError(place, f"{bits!r} is no width", f"a width is a number of bits in 1..{WIDEST_FIELD}")
    return bits


def source(info: schema.Source | None) -> ir.SourceInfo | None:
    """The IR's form."""
    if info is None:
        return None
    return ir.SourceInfo(info.filename, info.line, info.column, info.source_fragment)


def index(where: str, items: Iterable[T], key: Callable[[T], Any], what: str) -> dict[Any, T]:
    """Items by key.

    :raises LoadError: two items have the same key.
    """
    found: dict[Any, T] = {}
    for position, item in enumerate(items):
        if key(item) in found:
            raise LoadError(f"{where}[{position}]", f"two {what} are called {key(item)!r}", "names and ids are unique")
        found[key(item)] = item
    return found


def lookup(place: str, name: Any, known: dict[Any, T], what: str) -> T:
    """:raises LoadError: there is no such thing."""
    if not isinstance(name, str | int) or name not in known:
        raise LoadError(place, f"there is no {what} {name!r}")
    return known[name]
