"""JSON in which no object has a key twice: of its two values one would be ignored in silence."""

from __future__ import annotations

import json
from typing import Any

from splitmerge.errors import BadInput, shortened


class _Twice(Exception):
    """``args[0]``: the key."""


def check_keys(raw: bytes, where: str) -> None:
    """:raises BadInput: naming the first key that an object has twice; of what is no JSON, nothing is said."""
    try:
        json.loads(raw, object_pairs_hook=_once)
    except _Twice as twice:
        raise BadInput(where, f"key {shortened(twice.args[0])!r} twice in one object", "leave one out") from None
    except (ValueError, RecursionError):  # for whoever decodes it to say
        return


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return found
