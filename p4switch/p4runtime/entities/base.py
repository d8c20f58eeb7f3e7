"""What every kind of entity has in common.

A handler carries out one update, whole or not at all, and gives back how to take it back; and it selects what a read
asks for. Both run with the device's lock held; the iterator that ``read`` returns is consumed without it, so whatever
it needs must have been copied before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from finsy.proto import p4r

from p4switch.p4runtime.schema import Schema
from p4switch.p4runtime.status import Code, Refused, invalid
from p4switch.runtime import State

Undo: TypeAlias = Callable[[], object]
INSERT, MODIFY, DELETE = 1, 2, 3
_NAMES = {INSERT: "INSERT", MODIFY: "MODIFY", DELETE: "DELETE"}


@dataclass(frozen=True, slots=True)
class Context:
    """One committed pipeline. ``strict``: refuse what simple_switch_grpc refuses."""

    schema: Schema
    state: State
    strict: bool = False


class Handler(Protocol):
    """Writes and reads one kind of entity. Entities are that kind's protobuf messages."""

    def write(self, kind: int, entity: Any) -> Undo:
        """Carry out INSERT, MODIFY or DELETE. :raises SwitchError: refused, nothing changed."""

    def read(self, entity: Any) -> Iterator[p4r.Entity]:
        """What the filter selects. :raises SwitchError: the filter is wrong."""


def only_modify(kind: int, what: str) -> None:
    """:raises Refused: for anything but MODIFY; ``what`` always exists."""
    if kind != MODIFY:
        raise invalid(f"{_NAMES[kind]} update of a {what}: it always exists, use MODIFY")


def unsupported(message: str) -> Refused:
    """A request that is well formed and that this switch does not carry out."""
    return Refused(Code.UNIMPLEMENTED, message)


def nothing() -> None:
    """The undo of an update that changed nothing."""


def index_of(entity: Any, size: int, what: str) -> int | None:
    """The index of an array entity, None for all of them.

    :raises Refused: INVALID_ARGUMENT for a negative one, OUT_OF_RANGE beyond the end.
    """
    if not entity.HasField("index"):
        return None
    index = int(entity.index.index)
    if index < 0:
        raise invalid(f"{what}: index {index} is negative")
    if index >= size:
        raise Refused(Code.OUT_OF_RANGE, f"{what}: index {index}, its size is {size}", strict=Code.UNKNOWN)
    return index
