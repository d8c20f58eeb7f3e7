"""P4Info → `Schema`: checked against itself and against the program. A wrong P4Info is refused with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from finsy.proto import p4i

from p4switch import ir
from p4switch.ir import MatchKind
from p4switch.p4runtime.schema import (
    ActionInfo,
    CounterInfo,
    DigestInfo,
    FieldInfo,
    HeaderField,
    MeterInfo,
    PacketHeader,
    ParamInfo,
    ProfileInfo,
    RegisterInfo,
    Schema,
    Scope,
    TableInfo,
    Unit,
    ValueSetInfo,
)
from p4switch.p4runtime.status import Refused, invalid

T = TypeVar("T")

_KINDS = {
    p4i.MatchField.EXACT: MatchKind.EXACT,
    p4i.MatchField.LPM: MatchKind.LPM,
    p4i.MatchField.TERNARY: MatchKind.TERNARY,
    p4i.MatchField.RANGE: MatchKind.RANGE,
    p4i.MatchField.OPTIONAL: MatchKind.OPTIONAL,
}
_PRIORITY_KINDS = frozenset({MatchKind.TERNARY, MatchKind.RANGE, MatchKind.OPTIONAL})
_LARGEST_ARRAY = 1 << 31


def link(info: p4i.P4Info, program: ir.Program) -> Schema:
    """Join a P4Info to the program that it describes.

    :raises Refused: INVALID_ARGUMENT, naming the object and what is wrong with it.
    """
    return _Linker(info, program).schema()


class _Linker:
    def __init__(self, info: p4i.P4Info, program: ir.Program) -> None:
        self._info = info
        self._program = program
        self._actions: dict[int, ActionInfo] = {}
        self._direct_counters: dict[int, tuple[int, Unit]] = {}
        self._direct_meters: dict[int, int] = {}
        self._seen: dict[int, str] = {}

    def schema(self) -> Schema:
        info = self._info
        if info.externs:
            raise invalid(f"P4Info: extern {info.externs[0].extern_type_name!r}: v1model has no externs of its own")
        self._actions = self._by_id("action", info.actions, self._action)
        self._direct_counters = self._by_id("direct counter", info.direct_counters, self._direct_counter)
        self._direct_meters = self._by_id("direct meter", info.direct_meters, lambda item, _: item.direct_table_id)
        tables = self._by_id("table", info.tables, self._table)
        headers = self._headers()
        return Schema(
            tables=tables,
            actions=self._actions,
            profiles=self._by_id("action profile", info.action_profiles, lambda x, w: self._profile(x, w, tables)),
            counters=self._by_id("counter", info.counters, self._counter),
            direct_counters={key: value[0] for key, value in self._direct_counters.items()},
            meters=self._by_id("meter", info.meters, self._meter),
            direct_meters=self._direct_meters,
            registers=self._by_id("register", info.registers, self._register),
            digests=self._by_id("digest", info.digests, self._digest),
            value_sets=self._by_id("value set", info.value_sets, self._value_set),
            packet_in=headers.get("packet_in", PacketHeader()),
            packet_out=headers.get("packet_out", PacketHeader()),
        )

    def _by_id(self, kind: str, items: Iterable[Any], build: Callable[[Any, str], T]) -> dict[int, T]:
        found: dict[int, T] = {}
        names: set[str] = set()
        for item in items:
            name, number = item.preamble.name, item.preamble.id
            where = f"P4Info: {kind} {name!r}"
            if not name:
                raise invalid(f"P4Info: {kind} with id {number} has no name")
            if number == 0:
                raise invalid(f"{where}: id 0 is not an id")
            if number in self._seen:
                raise invalid(f"{where}: id {number} is also that of {self._seen[number]}")
            if name in names:
                raise invalid(f"{where} is there twice")
            self._seen[number] = f"{kind} {name!r}"
            names.add(name)
            found[number] = build(item, where)
        return found

    # -- actions and tables ------------------------------------------------------------------------------------------

    def _action(self, item: p4i.Action, where: str) -> ActionInfo:
        specs = [action for action in self._program.actions.values() if action.name == item.preamble.name]
        if not specs:
            raise invalid(f"{where}: the program has no such action; are P4Info and JSON of one compilation?")
        params = specs[0].params
        if len(params) != len(item.params):
            raise invalid(f"{where}: {len(item.params)} parameters, the program's has {len(params)}")
        infos = []
        for position, (param, spec) in enumerate(zip(item.params, params, strict=True)):
            width = self._width(param, spec.width, f"{where}, parameter {param.name!r}")
            infos.append(ParamInfo(param.id, param.name, width, position))
        _unique_ids(infos, where)
        return ActionInfo(item.preamble.id, item.preamble.name, tuple(infos))

    def _table(self, item: p4i.Table, where: str) -> TableInfo:
        spec = self._program.tables.get(item.preamble.name)
        if spec is None:
            raise invalid(f"{where}: the program has no such table; are P4Info and JSON of one compilation?")
        fields = self._fields(item.match_fields, where, [(key.kind, key.width) for key in spec.keys])
        names = {self._program.actions[number].name for number in spec.action_ids}
        scopes: dict[int, Scope] = {}
        for ref in item.action_refs:
            action = self._actions.get(ref.id)
            if action is None:
                raise invalid(f"{where}: action id {ref.id} is not in the P4Info")
            if action.name not in names:
                raise invalid(f"{where}: the program's table has no action {action.name!r}")
            scopes[ref.id] = Scope(ref.scope)
        if bool(item.implementation_id) != (spec.profile is not None):
            raise invalid(f"{where}: P4Info and program disagree on whether it has an action profile")
        counter = next((i for i in item.direct_resource_ids if i in self._direct_counters), 0)
        meter = next((i for i in item.direct_resource_ids if i in self._direct_meters), 0)
        self._check_resources(item, spec, where)
        return TableInfo(
            id=item.preamble.id,
            name=item.preamble.name,
            fields=fields,
            scopes=scopes,
            const_default=bool(item.const_default_action_id),
            is_const=item.is_const_table,
            profile=item.implementation_id,
            counter=counter,
            counter_unit=self._direct_counters[counter][1] if counter else Unit.BOTH,
            meter=meter,
            idle_timeout=item.idle_timeout_behavior == p4i.Table.NOTIFY_CONTROL,
            needs_priority=any(field.kind in _PRIORITY_KINDS for field in fields),
        )

    def _check_resources(self, item: p4i.Table, spec: ir.Table, where: str) -> None:
        for number in item.direct_resource_ids:
            if number not in self._direct_counters and number not in self._direct_meters:
                raise invalid(f"{where}: direct resource {number} is not in the P4Info")
            if number in self._direct_meters and spec.direct_meter is None:
                raise invalid(f"{where}: the program's table has no direct meter")
            if number in self._direct_counters and not spec.with_counters:
                raise invalid(f"{where}: the program's table has no direct counter")
        if item.idle_timeout_behavior == p4i.Table.NOTIFY_CONTROL and not spec.support_timeout:
            raise invalid(f"{where}: the program's table has no idle timeouts (support_timeout)")

    def _fields(
        self, items: Iterable[p4i.MatchField], where: str, specs: list[tuple[MatchKind, int]] | None
    ) -> tuple[FieldInfo, ...]:
        found = list(items)
        if specs is not None and len(found) != len(specs):
            raise invalid(f"{where}: {len(found)} match fields, the program's has {len(specs)}")
        infos = []
        for position, item in enumerate(found):
            place = f"{where}, match field {item.name!r}"
            kind = _KINDS.get(item.match_type)
            if kind is None:
                raise invalid(f"{place}: match type {item.other_match_type or 'unset'} is not supported")
            spec_kind, spec_width = specs[position] if specs is not None else (kind, item.bitwidth)
            if kind is not spec_kind and (kind, spec_kind) != (MatchKind.OPTIONAL, MatchKind.TERNARY):
                raise invalid(f"{place}: {kind} in the P4Info, {spec_kind} in the program")
            width = self._width(item, spec_width, place)
            infos.append(FieldInfo(item.id, item.name, kind, width, position, spec_kind))
        _unique_ids(infos, where)
        return tuple(infos)

    def _width(self, item: Any, width: int, where: str) -> int:
        """The width on the wire: P4Info's, which a translated type may widen."""
        translated = bool(item.type_name.name)
        if translated and not item.bitwidth:
            raise invalid(f"{where}: type {item.type_name.name!r} is translated to strings, which is not supported")
        if item.bitwidth <= 0:
            raise invalid(f"{where}: bitwidth {item.bitwidth}")
        if item.bitwidth != width and not translated:
            raise invalid(f"{where}: {item.bitwidth} bits in the P4Info, {width} in the program")
        return int(item.bitwidth)

    # -- other objects -----------------------------------------------------------------------------------------------

    def _profile(self, item: p4i.ActionProfile, where: str, tables: Mapping[int, TableInfo]) -> ProfileInfo:
        if item.preamble.name not in self._program.profiles:
            raise invalid(f"{where}: the program has no such action profile")
        users = [tables[number] for number in item.table_ids if number in tables]
        if len(users) != len(item.table_ids):
            raise invalid(f"{where}: table ids {list(item.table_ids)} are not all in the P4Info")
        return ProfileInfo(
            item.preamble.id,
            item.preamble.name,
            item.with_selector,
            item.size,
            item.max_group_size,
            frozenset(number for table in users for number in table.scopes),
        )

    def _direct_counter(self, item: p4i.DirectCounter, where: str) -> tuple[int, Unit]:
        return item.direct_table_id, _unit(item.spec.unit, where)

    def _counter(self, item: p4i.Counter, where: str) -> CounterInfo:
        spec = self._program.counters.get(item.preamble.name)
        if spec is None or spec.table is not None:
            raise invalid(f"{where}: the program has no such counter")
        _same_size(item.size, spec.size, where)
        return CounterInfo(item.preamble.id, item.preamble.name, spec.size, _unit(item.spec.unit, where))

    def _meter(self, item: p4i.Meter, where: str) -> MeterInfo:
        spec = self._program.meters.get(item.preamble.name)
        if spec is None or spec.table is not None:
            raise invalid(f"{where}: the program has no such meter")
        _same_size(item.size, spec.size, where)
        return MeterInfo(item.preamble.id, item.preamble.name, spec.size)

    def _register(self, item: p4i.Register, where: str) -> RegisterInfo:
        spec = self._program.registers.get(item.preamble.name)
        if spec is None:
            raise invalid(f"{where}: the program has no such register")
        _same_size(item.size, spec.size, where)
        bits = item.type_spec.bitstring
        kind = "int" if bits.HasField("int") else "bool" if item.type_spec.HasField("bool") else "bit"
        return RegisterInfo(item.preamble.id, item.preamble.name, spec.size, spec.width, kind)

    def _digest(self, item: p4i.Digest, where: str) -> DigestInfo:
        found = [spec for spec in self._program.digests.values() if spec.name == item.preamble.name]
        if not found:
            raise invalid(f"{where}: the program has no such digest")
        spec = item.type_spec
        kind = "struct" if spec.HasField("struct") else "tuple" if spec.HasField("tuple") else "bit"
        if kind == "bit" and len(found[0].widths) != 1:
            raise invalid(f"{where}: one value in the P4Info, {len(found[0].widths)} in the program")
        return DigestInfo(item.preamble.id, item.preamble.name, kind, found[0].widths)

    def _value_set(self, item: p4i.ValueSet, where: str) -> ValueSetInfo:
        spec = self._program.value_sets.get(item.preamble.name)
        if spec is None:
            raise invalid(f"{where}: the program has no such value set")
        fields = self._fields(item.match, where, None)
        if sum(field.width for field in fields) != spec.width:
            raise invalid(f"{where}: its fields have another width than the program's {spec.width} bits")
        return ValueSetInfo(item.preamble.id, item.preamble.name, fields, item.size)

    def _headers(self) -> dict[str, PacketHeader]:
        def build(item: p4i.ControllerPacketMetadata, where: str) -> tuple[str, PacketHeader]:
            return item.preamble.name, _packet_header(item, where)

        return dict(self._by_id("controller header", self._info.controller_packet_metadata, build).values())


def _packet_header(item: p4i.ControllerPacketMetadata, where: str) -> PacketHeader:
    bits = sum(field.bitwidth for field in item.metadata)
    length = (bits + 7) // 8
    left = length * 8
    fields = []
    for field in item.metadata:
        if field.bitwidth <= 0:
            raise invalid(f"{where}, field {field.name!r}: bitwidth {field.bitwidth}")
        left -= field.bitwidth
        fields.append(HeaderField(field.id, field.name, field.bitwidth, left))
    _unique_ids(fields, where)
    return PacketHeader(tuple(fields), length)


def _unique_ids(infos: Iterable[FieldInfo | ParamInfo | HeaderField], where: str) -> None:
    seen: set[int] = set()
    for info in infos:
        if info.id == 0 or info.id in seen:
            raise invalid(f"{where}: {info.name!r} has id {info.id}, which is 0 or used twice")
        seen.add(info.id)


def _unit(unit: int, where: str) -> Unit:
    if unit == p4i.CounterSpec.UNSPECIFIED:
        raise invalid(f"{where}: its unit is unspecified")
    return Unit(unit)


def _same_size(size: int, program: int, where: str) -> None:
    if not 0 < size < _LARGEST_ARRAY or size != program:
        raise invalid(f"{where}: size {size} in the P4Info, {program} in the program")


__all__ = ["Refused", "link"]
