"""Actions and the primitives that they, and parser states, call."""

from dataclasses import dataclass
from typing import TypeAlias

from p4switch.ir.expressions import Expr
from p4switch.ir.headers import SourceInfo


@dataclass(frozen=True, slots=True)
class Array:
    """An argument that names an object: ``kind`` is calculation, meter_array, counter_array, register_array, extern."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Vector:
    """The arguments of log_msg."""

    items: tuple[Expr, ...]


Argument: TypeAlias = Expr | Array | Vector


@dataclass(frozen=True, slots=True)
class Primitive:
    """One call in an action or parser state."""

    op: str
    args: tuple[Argument, ...]
    source: SourceInfo | None


@dataclass(frozen=True, slots=True)
class ActionParam:
    """Run-time parameter of an action; ``width`` in bits."""

    name: str
    width: int


@dataclass(frozen=True, slots=True)
class Action:
    """Several actions may carry the same name (p4c makes one copy for each table): ``id`` tells them apart."""

    id: int
    name: str
    params: tuple[ActionParam, ...]
    primitives: tuple[Primitive, ...]
    source: SourceInfo | None
