"""Pipelines: tables, conditions and action profiles."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from p4switch.ir.expressions import Expr, FieldRef
from p4switch.ir.headers import SourceInfo


class MatchKind(StrEnum):
    """How one match field of a table is compared."""

    EXACT = "exact"
    LPM = "lpm"
    TERNARY = "ternary"
    RANGE = "range"
    OPTIONAL = "optional"


@dataclass(frozen=True, slots=True)
class Key:
    """One match field. ``mask`` is ANDed to the field before the lookup; None means all bits."""

    name: str
    kind: MatchKind
    target: FieldRef
    width: int
    mask: int | None


@dataclass(frozen=True, slots=True)
class ConstEntry:
    """An entry in the program text. ``match`` as p4switch.runtime.Table has it; larger ``priority`` wins."""

    match: tuple[object, ...]
    priority: int
    action_id: int
    args: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DefaultEntry:
    """The default entry. ``const_action``: the action may not change; ``const_entry``: nor may its arguments."""

    action_id: int
    args: tuple[int, ...]
    const_action: bool
    const_entry: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table. ``match_kind`` is the strongest of its keys' (range, ternary, lpm, exact).

    ``next_by_action`` maps an action's id, ``next_hit``/``next_miss`` a result, to the next node; exactly one of the
    two ways is used (``next_by_result``). A next node None ends the pipeline.
    """

    id: int
    name: str
    match_kind: MatchKind
    keys: tuple[Key, ...]
    action_ids: tuple[int, ...]
    size: int
    with_counters: bool
    direct_meter: str | None
    support_timeout: bool
    profile: str | None
    with_selector: bool
    default: DefaultEntry | None
    entries: tuple[ConstEntry, ...]
    const_entries: bool
    next_by_result: bool
    next_by_action: Mapping[int, str | None]
    next_hit: str | None
    next_miss: str | None
    base_default_next: str | None
    source: SourceInfo | None


@dataclass(frozen=True, slots=True)
class Conditional:
    name: str
    expression: Expr
    true_next: str | None
    false_next: str | None
    source: SourceInfo | None


@dataclass(frozen=True, slots=True)
class ActionCallNode:
    """A direct call of an action without parameters."""

    name: str
    action_id: int
    next: str | None


Node: TypeAlias = Table | Conditional | ActionCallNode


@dataclass(frozen=True, slots=True)
class Selector:
    """How an action profile chooses among a group's members."""

    algorithm: str
    inputs: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class ActionProfile:
    """``size`` bounds the members, or the sum of weights of groups where there is a selector."""

    id: int
    name: str
    size: int
    selector: Selector | None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A control: a graph of nodes that never loops."""

    name: str
    start: str | None
    nodes: Mapping[str, Node]
    profiles: tuple[ActionProfile, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables, in the JSON's order."""
        return tuple(node for node in self.nodes.values() if isinstance(node, Table))
