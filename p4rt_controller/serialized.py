"""Updates of flow entries as they stand in a serialized ``WriteRequest``: where 500 flows move, much of what it takes.

A message object costs Python some twenty calls an update. The entries of many flows differ in their keys only, and what
stands around a key's values depends on how long these are, and on nothing else in them. So protobuf is asked once for
each combination of lengths; from then on an update is six pieces with the values between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finsy.proto import p4r

from p4rt_controller.tables import Op, Update, Value
from splitmerge.flowkey import FlowKey

_CACHED = 10_000
"""Combinations remembered: of what is done (as many as replicas, times two), and of lengths, a few of them common."""
_Kind = tuple[Op, Value | None, int, tuple[int, ...]]
"""What is done, the length of the key (its protocol's) and those of its values."""


def serialized(message: Any) -> bytes:
    """A ``p4.v1.Update`` as it stands in a request."""
    request: bytes = p4r.WriteRequest(updates=[message]).SerializeToString()
    return request


def flow_match(key: FlowKey) -> tuple[bytes, ...]:
    """Match values of a flow entry, each the shortest that holds its number (one zero byte for 0; P4Runtime §8.4)."""
    half = (len(key) - 5) // 2
    parts = (key[:half], key[half:-5], key[-5:-3], key[-3:-1], key[-1:])
    return tuple([part.lstrip(b"\0") or b"\0" for part in parts])


class FlowUpdates:
    """Serializes updates of flow entries. ``encode``: the message of any of them."""

    def __init__(self, encode: Callable[[Update], Any]) -> None:
        self._encode = encode
        self._pieces: dict[_Kind, tuple[bytes, ...]] = {}
        """What stands around the values."""

    def serialize(self, update: Update, key: FlowKey) -> bytes:
        """The update as it stands in a request."""
        values = low, high, low_port, high_port, protocol = flow_match(key)
        kind = (update.op, update.value, len(key), tuple(map(len, values)))
        pieces = self._pieces.get(kind) or self._learn(kind, update, values)
        one, two, three, four, five, six = pieces
        return b"".join((one, low, two, high, three, low_port, four, high_port, five, protocol, six))

    def _learn(self, kind: _Kind, update: Update, values: tuple[bytes, ...]) -> tuple[bytes, ...]:
        message = self._encode(update)
        rest, pieces = serialized(message), []
        for field, value in zip(message.entity.table_entry.match, values, strict=True):
            alone = field.SerializeToString()  # it ends with its value, and stands in the request as it is
            before, _, rest = rest.partition(alone)
            pieces.append(before + alone.removesuffix(value))
        if len(self._pieces) >= _CACHED:
            self._pieces.clear()
        self._pieces[kind] = learnt = (*pieces, rest)
        return learnt
