"""The shape of BMv2's JSON (format 2.x), which msgspec checks while it parses. Members that nothing reads are ignored.

``Any`` stands where the shape depends on a sibling's value; the modules that turn it into IR check it.
"""

from typing import Any

from msgspec import Struct, field

FieldPath = tuple[str, str]


class Source(Struct):
    filename: str = ""
    line: int = 0
    column: int = 0
    source_fragment: str = ""


class TypedValue(Struct):
    type: str
    value: Any = None
    bitwidth: int | None = None


class HeaderType(Struct):
    name: str
    fields: list[list[Any]]
    length_exp: Any = None
    max_length: int | None = None


class Header(Struct):
    name: str
    id: int
    header_type: str
    metadata: bool = False


class HeaderStack(Struct):
    name: str
    header_type: str
    header_ids: list[int]


class HeaderUnionType(Struct):
    name: str
    headers: list[tuple[str, str]]


class HeaderUnion(Struct):
    name: str
    id: int
    union_type: str
    header_ids: list[int]


class HeaderUnionStack(Struct):
    name: str
    union_type: str
    header_union_ids: list[int]


class Call(Struct):
    op: str
    parameters: list[TypedValue] = field(default_factory=list)
    source_info: Source | None = None


class ParserOp(Struct):
    op: str
    parameters: list[Any] = field(default_factory=list)
    source_info: Source | None = None


class Transition(Struct):
    type: str | None = None
    value: str | None = None
    mask: str | None = None
    next_state: str | None = None


class ParseState(Struct):
    name: str
    parser_ops: list[ParserOp] = field(default_factory=list)
    transition_key: list[TypedValue] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)


class Parser(Struct):
    name: str
    init_state: str | None
    parse_states: list[ParseState]


class ValueSet(Struct):
    name: str
    compressed_bitwidth: int
    max_size: int = 0


class Deparser(Struct):
    name: str
    order: list[str]
    primitives: list[Call] = field(default_factory=list)


class MeterArray(Struct):
    name: str
    type: str = "bytes"
    rate_count: int = 2
    size: int = 0
    is_direct: bool = False
    binding: str | None = None
    result_target: FieldPath | None = None
    source_info: Source | None = None


class CounterArray(Struct):
    name: str
    size: int = 0
    is_direct: bool = False
    binding: str | None = None


class RegisterArray(Struct):
    name: str
    size: int
    bitwidth: int
    signed: bool = False


class CalculationInput(Struct):
    type: str
    value: Any = None
    bitwidth: int | None = None


class Calculation(Struct):
    name: str
    algo: str
    input: list[CalculationInput]
    source_info: Source | None = None


class Checksum(Struct):
    name: str
    target: FieldPath
    type: str = "generic"
    calculation: str | None = None
    update: bool = True
    verify: bool = True
    if_cond: Any = None
    source_info: Source | None = None


class ElementList(Struct):
    id: int
    elements: list[TypedValue]
    name: str = ""


class RuntimeData(Struct):
    name: str
    bitwidth: int


class Action(Struct):
    name: str
    id: int
    runtime_data: list[RuntimeData]
    primitives: list[Call]
    source_info: Source | None = None


class Key(Struct):
    match_type: str
    target: Any
    mask: str | None = None
    name: str | None = None


class DefaultEntry(Struct):
    action_id: int
    action_data: list[str] = field(default_factory=list)
    action_const: bool = False
    action_entry_const: bool = False


class ActionEntry(Struct):
    action_id: int
    action_data: list[str] = field(default_factory=list)


class MatchKey(Struct):
    match_type: str
    key: Any = None
    mask: str | None = None
    prefix_length: int | None = None
    start: str | None = None
    end: str | None = None


class Entry(Struct):
    match_key: list[MatchKey]
    action_entry: ActionEntry
    priority: int = 0


class Table(Struct):
    name: str
    id: int
    match_type: str
    key: list[Key]
    actions: list[str]
    type: str = "simple"
    max_size: int = 1024
    action_ids: list[int] | None = None
    action_profile: str | None = None
    act_prof_name: str | None = None
    with_counters: bool = False
    support_timeout: bool = False
    direct_meters: str | None = None
    next_tables: dict[str, str | None] = field(default_factory=dict)
    base_default_next: str | None = None
    default_entry: DefaultEntry | None = None
    entries: list[Entry] | None = None
    source_info: Source | None = None


class Conditional(Struct):
    name: str
    expression: Any
    true_next: str | None = None
    false_next: str | None = None
    source_info: Source | None = None


class ActionCall(Struct):
    name: str
    action_id: int
    next_node: str | None = None


class Selector(Struct):
    algo: str
    input: list[TypedValue]


class ActionProfile(Struct):
    name: str
    id: int
    max_size: int = 0
    selector: Selector | None = None


class Pipeline(Struct):
    name: str
    init_table: str | None
    tables: list[Table]
    conditionals: list[Conditional] = field(default_factory=list)
    action_calls: list[ActionCall] = field(default_factory=list)
    action_profiles: list[ActionProfile] = field(default_factory=list)


class ExternInstance(Struct):
    name: str
    type: str
    source_info: Source | None = None


class Meta(Struct):
    version: tuple[int, int] = (2, 0)
    compiler: str = ""


class Root(Struct):
    """The whole file."""

    header_types: list[HeaderType]
    headers: list[Header]
    parsers: list[Parser]
    deparsers: list[Deparser]
    actions: list[Action]
    pipelines: list[Pipeline]
    meta: Meta = field(default_factory=Meta, name="__meta__")
    header_stacks: list[HeaderStack] = field(default_factory=list)
    header_union_types: list[HeaderUnionType] = field(default_factory=list)
    header_unions: list[HeaderUnion] = field(default_factory=list)
    header_union_stacks: list[HeaderUnionStack] = field(default_factory=list)
    errors: list[tuple[str, int]] = field(default_factory=list)
    parse_vsets: list[ValueSet] = field(default_factory=list)
    meter_arrays: list[MeterArray] = field(default_factory=list)
    counter_arrays: list[CounterArray] = field(default_factory=list)
    register_arrays: list[RegisterArray] = field(default_factory=list)
    calculations: list[Calculation] = field(default_factory=list)
    checksums: list[Checksum] = field(default_factory=list)
    learn_lists: list[ElementList] = field(default_factory=list)
    field_lists: list[ElementList] = field(default_factory=list)
    extern_instances: list[ExternInstance] = field(default_factory=list)
    field_aliases: list[tuple[str, FieldPath]] = field(default_factory=list)
