"""Header types, instances, stacks and unions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from p4switch import ir
from p4switch.errors import LoadError, UnsupportedError
from p4switch.load import schema
from p4switch.load.places import index, lookup, width


@dataclass(frozen=True, slots=True)
class Headers:
    """All that expressions can refer to."""

    types: dict[str, ir.HeaderType]
    headers: dict[str, ir.Header]
    stacks: dict[str, ir.Stack]
    unions: dict[str, ir.Union]
    union_stacks: dict[str, ir.UnionStack]

    def field(self, place: str, path: Any) -> ir.FieldRef:
        """A reference like ``["ipv4", "ttl"]``."""
        match path:
            case [str(header), str(name)]:
                instance = lookup(place, header, self.headers, "header")
                if name != ir.VALID and instance.type.field(name) is None:
                    raise LoadError(place, f"header {header!r} has no field {name!r}")
                return ir.FieldRef(header, name)
        raise LoadError(place, f"{path!r} is no field reference", 'write ["header", "field"]')


def load_headers(root: schema.Root) -> Headers:
    """Types, instances, stacks and unions.

    :raises LoadError: something is there twice, missing, or of the wrong width.
    """
    raw_types = index("header_types", root.header_types, lambda item: item.name, "header types")
    types = {name: _type(f"header_types[{i}]", raw) for i, (name, raw) in enumerate(raw_types.items())}
    headers: dict[str, ir.Header] = {}
    by_id: dict[int, str] = {}
    for i, raw in enumerate(root.headers):
        place = f"headers[{i}]"
        if raw.name in headers or raw.id in by_id:
            raise LoadError(place, f"header {raw.name!r} or its id {raw.id} exists already")
        headers[raw.name] = ir.Header(raw.name, lookup(place, raw.header_type, types, "header type"), raw.metadata)
        by_id[raw.id] = raw.name
    stacks = {
        raw.name: _stack(f"header_stacks[{i}]", raw, types, headers, by_id) for i, raw in enumerate(root.header_stacks)
    }
    unions, unions_by_id = _unions(root, headers, by_id)
    union_stacks = {
        raw.name: _union_stack(f"header_union_stacks[{i}]", raw, unions, unions_by_id)
        for i, raw in enumerate(root.header_union_stacks)
    }
    return Headers(types, headers, stacks, unions, union_stacks)


def _type(place: str, raw: schema.HeaderType) -> ir.HeaderType:
    fields: list[ir.Field] = []
    for i, item in enumerate(raw.fields):
        fields.append(_field(f"{place}.fields[{i}]", raw, item))
    index(f"{place}.fields", fields, lambda field: field.name, "fields")
    if sum(field.varbit for field in fields) > 1:
        raise LoadError(f"{place}.fields", "more than one field is of variable length")
    made = ir.HeaderType(raw.name, tuple(fields))
    if made.fixed_width % 8:
        raise LoadError(place, f"{raw.name!r} has {made.fixed_width} bits, no whole number of bytes", "pad it")
    return made


def _field(place: str, header: schema.HeaderType, item: list[Any]) -> ir.Field:
    match item:
        case [str(name), "*", *rest]:
            if header.length_exp is not None:
                raise UnsupportedError(f"length_exp of header type {header.name}", place, "use extract with a length")
            if header.max_length is None:
                raise LoadError(place, "a field of variable length needs max_length in its header type")
            fixed = sum(bits for _, bits, *_ in header.fields if isinstance(bits, int))
            _check_flags(place, name, rest)
            return ir.Field(name, width(place, header.max_length * 8 - fixed), varbit=True)
        case [str(name), int(bits), *rest]:
            signed = bool(rest and rest[0])
            _check_flags(place, name, rest)
            if signed and bits < 2:
                raise LoadError(place, f"signed field {name!r} has {bits} bits", "a signed field has at least 2")
            saturating = len(rest) > 1 and bool(rest[1])
            return ir.Field(name, width(place, bits), signed=signed, saturating=saturating)
    raise LoadError(place, f"{item!r} is no field", 'write ["name", width] or ["name", width, signed]')


def _check_flags(place: str, name: str, rest: list[Any]) -> None:
    if name == ir.VALID:
        raise LoadError(place, f"no field is called {ir.VALID!r}")
    if not all(flag in (0, 1) for flag in rest):  # p4c writes 0 for the sign of a bool
        raise LoadError(place, "the third and fourth items of a field are booleans")


def _stack(
    place: str,
    raw: schema.HeaderStack,
    types: dict[str, ir.HeaderType],
    headers: Mapping[str, ir.Header],
    by_id: dict[int, str],
) -> ir.Stack:
    made_type = lookup(place, raw.header_type, types, "header type")
    members = tuple(lookup(f"{place}.header_ids", number, by_id, "header with id") for number in raw.header_ids)
    if not members or len(set(members)) != len(members):
        raise LoadError(f"{place}.header_ids", "a stack has at least one member, and none twice")
    for member in members:
        if headers[member].type is not made_type:
            raise LoadError(place, f"{member!r} is no {raw.header_type}")
    return ir.Stack(raw.name, made_type, members)


def _unions(
    root: schema.Root, headers: dict[str, ir.Header], by_id: dict[int, str]
) -> tuple[dict[str, ir.Union], dict[int, str]]:
    types = index("header_union_types", root.header_union_types, lambda item: item.name, "header union types")
    unions: dict[str, ir.Union] = {}
    unions_by_id: dict[int, str] = {}
    for i, raw in enumerate(root.header_unions):
        place = f"header_unions[{i}]"
        declared = lookup(place, raw.union_type, types, "header union type").headers
        members = tuple(lookup(f"{place}.header_ids", number, by_id, "header with id") for number in raw.header_ids)
        if [type_name for _, type_name in declared] != [headers[member].type.name for member in members]:
            raise LoadError(place, f"the members are not those of {raw.union_type!r}")
        if not members or len(set(members)) != len(members):
            raise LoadError(place, "a union has at least one member, and none twice")
        unions[raw.name] = ir.Union(raw.name, raw.union_type, tuple(name for name, _ in declared), members)
        unions_by_id[raw.id] = raw.name
    return unions, unions_by_id


def _union_stack(
    place: str, raw: schema.HeaderUnionStack, unions: dict[str, ir.Union], by_id: dict[int, str]
) -> ir.UnionStack:
    where = f"{place}.header_union_ids"
    members = tuple(lookup(where, number, by_id, "header union with id") for number in raw.header_union_ids)
    if not members or len(set(members)) != len(members):
        raise LoadError(where, "a stack has at least one member, and none twice")
    for member in members:
        if unions[member].type_name != raw.union_type:
            raise LoadError(place, f"{member!r} is no {raw.union_type}")
    return ir.UnionStack(raw.name, raw.union_type, members)
