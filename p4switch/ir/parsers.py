"""Parsers, value sets and deparsers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from p4switch.ir.actions import Primitive
from p4switch.ir.expressions import Expr, FieldRef
from p4switch.ir.headers import SourceInfo


@dataclass(frozen=True, slots=True)
class Extract:
    """Extract to a header, to the next element of a stack, or to a member of a union stack's next element.

    ``varbit_width`` gives the varbit field's bits (extract_VL); None where the type has no varbit field.
    """

    into: Literal["header", "stack", "union_stack"]
    name: str
    member: str
    varbit_width: Expr | None
    source: SourceInfo | None


@dataclass(frozen=True, slots=True)
class Set:
    """Assign to a field."""

    target: FieldRef
    value: Expr
    source: SourceInfo | None


@dataclass(frozen=True, slots=True)
class Verify:
    """Stop parsing with error number ``error`` unless ``condition``."""

    condition: Expr
    error: Expr
    source: SourceInfo | None


@dataclass(frozen=True, slots=True)
class Advance:
    """Skip bits of the packet."""

    bits: Expr
    source: SourceInfo | None


@dataclass(frozen=True, slots=True)
class ParserCall:
    """A primitive called from a parser state."""

    primitive: Primitive


ParserOp: TypeAlias = Extract | Set | Verify | Advance | ParserCall


@dataclass(frozen=True, slots=True)
class Transition:
    """To ``next_state`` (None: accept) if ``key & mask == value``, or if the value set holds ``key & mask``.

    ``value`` and ``mask`` are laid out as the state's keys one after another without padding.
    """

    kind: Literal["default", "value", "value_set"]
    value: int
    mask: int | None
    value_set: str
    next_state: str | None


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One field of a transition key."""

    expr: Expr
    width: int


@dataclass(frozen=True, slots=True)
class ParserState:
    name: str
    ops: tuple[ParserOp, ...]
    key: tuple[KeyPart, ...]
    transitions: tuple[Transition, ...]


@dataclass(frozen=True, slots=True)
class Parser:
    name: str
    start: str | None
    states: Mapping[str, ParserState]


@dataclass(frozen=True, slots=True)
class ValueSet:
    """A parser value set; ``width`` in bits of its members."""

    name: str
    width: int
    size: int


@dataclass(frozen=True, slots=True)
class Deparser:
    """Headers in the order in which they are written; ``primitives`` run before (none in p4c's output for v1model)."""

    name: str
    order: tuple[str, ...]
    primitives: tuple[Primitive, ...]


def reachable_states(parser: Parser) -> list[str]:
    """States that can be reached, each before those that follow it, loops aside."""
    if parser.start is None:
        return []
    finished: list[str] = []
    seen = {parser.start}
    path = [(parser.start, iter(_following(parser.states[parser.start])))]
    while path:
        name, following = path[-1]
        step = next(following, None)
        if step is None:
            finished.append(name)
            path.pop()
        elif step not in seen:
            seen.add(step)
            path.append((step, iter(_following(parser.states[step]))))
    return finished[::-1]


def _following(state: ParserState) -> list[str]:
    return [item.next_state for item in reversed(state.transitions) if item.next_state is not None]
