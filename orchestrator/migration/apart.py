"""A scope and the flows in use in it: what can move without them, and what stays for them. Pure functions.

A bucket moves whole or stays, and so does a group. Second keys go with their flows, wherever their own buckets go:
which of them belong to flows in buckets that stay, the source must be asked (`behind`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope

IsSecond = Callable[[bytes], bool]
"""Whether a key goes with its flow, and not with its own bucket (`Placement.is_second`)."""


def without(scope: Scope, stay: Iterable[bytes], is_second: IsSecond) -> Scope:
    """The scope less the flows with these keys, and less the buckets that they are in."""
    staying = set(stay)
    full = _homes(staying, is_second)
    buckets = tuple(bucket for bucket in scope.buckets if bucket not in full)
    behind = full.intersection(scope.buckets)
    away = (key for key in scope.keys if key not in staying)
    return Scope(
        keys=tuple(key for key in away if is_second(key) or FlowKey(key).bucket not in behind), buckets=buckets
    )


def behind(scope: Scope, stay: Iterable[bytes], is_second: IsSecond) -> Scope:
    """Buckets of the scope that stay with these keys: if flows in them have second keys that it names, these stay too.

    Empty if it names no second keys, but those in ``stay``.
    """
    staying = set(stay)
    if not any(is_second(key) and key not in staying for key in scope.keys):
        return Scope()
    return Scope(buckets=tuple(sorted(_homes(staying, is_second).intersection(scope.buckets))))


def apart(scope: Scope, stay: Iterable[bytes], is_second: IsSecond) -> Scope:
    """The other part: the flows with these keys, and those buckets of the scope that they are in.

    What goes with such a bucket anyway is not named.
    """
    staying = set(stay)
    full = _homes(staying, is_second).intersection(scope.buckets)
    keys = (key for key in sorted(staying) if is_second(key) or FlowKey(key).bucket not in full)
    return Scope(keys=tuple(keys), buckets=tuple(bucket for bucket in scope.buckets if bucket in full))


def _homes(keys: Iterable[bytes], is_second: IsSecond) -> set[int]:
    """The buckets that these keys go with."""
    return {FlowKey(key).bucket for key in keys if not is_second(key)}
