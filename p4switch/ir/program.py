"""A whole program: parsers, pipelines, actions, tables, arrays. Frozen; names are the fully qualified P4 names."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from p4switch.ir.expressions import Expr, FieldRef
from p4switch.ir.headers import Header, HeaderType, SourceInfo, Stack, Union, UnionStack


class MatchKind(StrEnum):
    """How one match field of a table is compared."""

    EXACT = "exact"
    LPM = "lpm"
    TERNARY = "ternary"
    RANGE = "range"
    OPTIONAL = "optional"


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


# -- parsers ---------------------------------------------------------------------------------------------------------


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


# -- pipelines -------------------------------------------------------------------------------------------------------


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


# -- arrays and calculations -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CounterArray:
    """``table`` is the table's name for a direct counter, else None. All count packets and bytes."""

    name: str
    size: int
    table: str | None


@dataclass(frozen=True, slots=True)
class MeterArray:
    """``unit`` is bytes or packets. A direct meter of ``table`` writes the colour to ``result``."""

    name: str
    size: int
    unit: Literal["bytes", "packets"]
    rate_count: int
    table: str | None
    result: FieldRef | None


@dataclass(frozen=True, slots=True)
class RegisterArray:
    name: str
    size: int
    width: int
    signed: bool


@dataclass(frozen=True, slots=True)
class CalculationInput:
    """``kind``: field, const, header, payload. ``width`` in bits, of a constant."""

    kind: Literal["field", "const", "header", "payload"]
    value: Expr | None
    width: int


@dataclass(frozen=True, slots=True)
class Calculation:
    name: str
    algorithm: str
    inputs: tuple[CalculationInput, ...]
    source: SourceInfo | None


@dataclass(frozen=True, slots=True)
class Checksum:
    """``update`` and ``verify`` tell when it is computed; ``condition`` None means always."""

    name: str
    target: FieldRef
    calculation: str
    update: bool
    verify: bool
    condition: Expr | None
    source: SourceInfo | None


@dataclass(frozen=True, slots=True)
class FieldList:
    """Elements that a clone, resubmit or recirculate preserves; ``id`` is what the primitive's argument says."""

    id: int
    name: str
    elements: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class DigestList:
    """Elements of a digest, with their widths in bits; ``id`` is what generate_digest's argument says."""

    id: int
    name: str
    elements: tuple[Expr, ...]
    widths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ExternInstance:
    name: str
    type: str
    source: SourceInfo | None


@dataclass(frozen=True, slots=True)
class Program:
    """What ``load_program`` returns. ``aliases`` maps BMv2's names of intrinsic metadata to this program's fields."""

    version: tuple[int, int]
    compiler: str
    header_types: Mapping[str, HeaderType]
    headers: Mapping[str, Header]
    stacks: Mapping[str, Stack]
    unions: Mapping[str, Union]
    union_stacks: Mapping[str, UnionStack]
    errors: Mapping[str, int]
    parsers: Mapping[str, Parser]
    value_sets: Mapping[str, ValueSet]
    deparsers: Mapping[str, Deparser]
    actions: Mapping[int, Action]
    pipelines: Mapping[str, Pipeline]
    counters: Mapping[str, CounterArray]
    meters: Mapping[str, MeterArray]
    registers: Mapping[str, RegisterArray]
    calculations: Mapping[str, Calculation]
    checksums: tuple[Checksum, ...]
    field_lists: Mapping[int, FieldList]
    digests: Mapping[int, DigestList]
    externs: Mapping[str, ExternInstance]
    aliases: Mapping[str, FieldRef]

    @property
    def tables(self) -> Mapping[str, Table]:
        """All tables of all pipelines by name."""
        return {table.name: table for pipeline in self.pipelines.values() for table in pipeline.tables}

    @property
    def profiles(self) -> Mapping[str, ActionProfile]:
        """All action profiles by name."""
        return {profile.name: profile for pipeline in self.pipelines.values() for profile in pipeline.profiles}

    def field(self, ref: FieldRef) -> int:
        """Width in bits of the field; 1 of ``$valid$``. The reference must exist (the loader saw to it)."""
        found = self.headers[ref.header].type.field(ref.field)
        return found.width if found else 1
