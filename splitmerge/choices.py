"""What may stand in a field of a `msgspec.Struct` or a dataclass, for the error that says what may not."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin, get_type_hints


def allowed(kind: Any, place: str) -> tuple[str, ...]:
    """The values of the field that msgspec names as ``.field``, if it has a few; empty for any other field or place."""
    name = place.removeprefix(".").rstrip("`")
    return _values(get_type_hints(kind).get(name)) if name.isidentifier() else ()


def remedy(kind: Any, place: str, otherwise: str) -> str:
    """These, in words; ``otherwise`` if any value may stand there, as long as it is of the type."""
    values = allowed(kind, place)
    return f"one of: {', '.join(values)}" if values else otherwise


def _values(hint: Any) -> tuple[str, ...]:
    if get_origin(hint) is Literal:
        return tuple(map(str, get_args(hint)))
    return tuple(value for each in get_args(hint) for value in _values(each))
