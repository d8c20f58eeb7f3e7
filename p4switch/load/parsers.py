"""Parsers, value sets and deparsers."""

from dataclasses import replace
from typing import Any

import msgspec

from p4switch import ir
from p4switch.errors import LoadError
from p4switch.load import schema
from p4switch.load.actions import ActionLoader
from p4switch.load.expressions import ExpressionLoader
from p4switch.load.headers import Headers
from p4switch.load.places import lookup, number, source, width


class ParserLoader:
    """Reads one program's parsers."""

    def __init__(
        self, headers: Headers, expressions: ExpressionLoader, actions: ActionLoader, value_sets: dict[str, ir.ValueSet]
    ) -> None:
        self._headers = headers
        self._expressions = replace(expressions, in_parser=True)
        self._actions = actions
        self._value_sets = value_sets

    def parser(self, place: str, raw: schema.Parser) -> ir.Parser:
        """:raises LoadError: a state is malformed, there twice, or missing."""
        states: dict[str, ir.ParserState] = {}
        for i, item in enumerate(raw.parse_states):
            if item.name in states:
                raise LoadError(f"{place}.parse_states[{i}]", f"two states are called {item.name!r}")
            states[item.name] = self._state(f"{place}.parse_states[{i}]", item)
        for i, item in enumerate(raw.parse_states):
            for j, transition in enumerate(item.transitions):
                if transition.next_state is not None:
                    lookup(f"{place}.parse_states[{i}].transitions[{j}]", transition.next_state, states, "state")
        if raw.init_state is not None:
            lookup(f"{place}.init_state", raw.init_state, states, "state")
        return ir.Parser(raw.name, raw.init_state, states)

    def _state(self, place: str, raw: schema.ParseState) -> ir.ParserState:
        ops = tuple(self._op(f"{place}.parser_ops[{i}]", op) for i, op in enumerate(raw.parser_ops))
        key = tuple(self._key_part(f"{place}.transition_key[{i}]", part) for i, part in enumerate(raw.transition_key))
        transitions = tuple(
            self._transition(f"{place}.transitions[{i}]", item, key) for i, item in enumerate(raw.transitions)
        )
        return ir.ParserState(raw.name, ops, key, transitions)

    def _key_part(self, place: str, raw: schema.TypedValue) -> ir.KeyPart:
        expr = self._expressions.data(place, {"type": raw.type, "value": raw.value})
        match expr:
            case ir.Lookahead(_, bits):
                return ir.KeyPart(expr, bits)
            case ir.FieldRef(header, name):
                return ir.KeyPart(expr, _width(self._headers.headers[header].type, name))
            case ir.StackLast(stack, name):
                return ir.KeyPart(expr, _width(self._headers.stacks[stack].type, name))
            case ir.UnionStackLast(stack, member, name):
                union = self._headers.unions[self._headers.union_stacks[stack].members[0]]
                header = union.members[union.member_names.index(member)]
                return ir.KeyPart(expr, _width(self._headers.headers[header].type, name))
        raise LoadError(place, f"{raw.type!r} is no key", "use field, stack_field, union_stack_field or lookahead")

    def _transition(self, place: str, raw: schema.Transition, key: tuple[ir.KeyPart, ...]) -> ir.Transition:
        kind = raw.type or ("default" if raw.value in ("default", None) else "hexstr")
        if kind == "default":
            return ir.Transition("default", 0, None, "", raw.next_state)
        if not key:
            raise LoadError(place, "the state has no transition key", "use a default transition")
        mask = None if raw.mask is None else _unpad(f"{place}.mask", raw.mask, key)
        if kind == "parse_vset":
            value_set = lookup(f"{place}.value", raw.value, self._value_sets, "value set")
            if value_set.width != sum(part.width for part in key):
                raise LoadError(place, f"value set {value_set.name!r} has another width than the key")
            return ir.Transition("value_set", 0, mask, value_set.name, raw.next_state)
        if kind != "hexstr":
            raise LoadError(place, f"{kind!r} is no type of transition", "use default, hexstr or parse_vset")
        return ir.Transition("value", _unpad(f"{place}.value", raw.value, key), mask, "", raw.next_state)

    def _op(self, place: str, raw: schema.ParserOp) -> ir.ParserOp:
        info = source(raw.source_info)
        match raw.op, raw.parameters:
            case "extract", [target]:
                return self._extract(place, target, None, info)
            case "extract_VL", [target, length]:
                return self._extract(place, target, self._expressions.data(f"{place}.parameters[1]", length), info)
            case "set", [target, value]:
                field = self._expressions.any(f"{place}.parameters[0]", target)
                if not isinstance(field, ir.FieldRef):
                    raise LoadError(f"{place}.parameters[0]", "only a field is set")
                return ir.Set(field, self._expressions.data(f"{place}.parameters[1]", value), info)
            case "verify", [condition, error]:
                return ir.Verify(
                    self._expressions.condition(f"{place}.parameters[0]", condition),
                    self._expressions.data(f"{place}.parameters[1]", error),
                    info,
                )
            case "advance", [bits]:
                return ir.Advance(self._expressions.data(f"{place}.parameters[0]", bits), info)
            case "shift", [int(count)] if count >= 0:
                return ir.Advance(ir.Const(count * 8), info)
            case "primitive", [dict(call)]:
                return ir.ParserCall(self._call(f"{place}.parameters[0]", call))
        raise LoadError(place, f"{raw.op!r} with {len(raw.parameters)} parameters is no parser operation")

    def _call(self, place: str, raw: dict[str, Any]) -> ir.Primitive:
        try:
            call = msgspec.convert(raw, schema.Call)
        except msgspec.ValidationError as error:
            raise LoadError(place, str(error)) from None
        return self._actions.primitive(place, call)

    def _extract(self, place: str, target: Any, length: ir.Expr | None, info: ir.SourceInfo | None) -> ir.Extract:
        headers = self._headers
        match target:
            case {"type": "regular", "value": name}:
                made = lookup(place, name, headers.headers, "header").type
                extract = ir.Extract("header", name, "", length, info)
            case {"type": "stack", "value": name}:
                made = lookup(place, name, headers.stacks, "header stack").type
                extract = ir.Extract("stack", name, "", length, info)
            case {"type": "union_stack", "value": [name, str(member)]}:
                union = headers.unions[lookup(place, name, headers.union_stacks, "header union stack").members[0]]
                if member not in union.member_names:
                    raise LoadError(place, f"the union has no member {member!r}")
                made = headers.headers[union.members[union.member_names.index(member)]].type
                extract = ir.Extract("union_stack", name, member, length, info)
            case _:
                raise LoadError(place, "extract goes to a regular header, a stack or a union_stack")
        if (made.varbit is None) != (length is None):
            raise LoadError(place, f"{made.name!r} is extracted with extract_VL if, and only if, its length varies")
        return extract


def _width(header_type: ir.HeaderType, name: str) -> int:
    field = header_type.field(name)
    return field.width if field else 1


def _unpad(place: str, text: Any, key: tuple[ir.KeyPart, ...]) -> int:
    """In the JSON each part takes whole bytes; in the IR parts follow each other without padding."""
    padded = number(place, text)
    if padded < 0:
        raise LoadError(place, "the value is negative")
    value = shift = 0
    for part in reversed(key):
        value |= (padded & ((1 << part.width) - 1)) << shift
        padded >>= (part.width + 7) // 8 * 8
        shift += part.width
    if padded:
        raise LoadError(place, f"{text} is wider than the key")
    return value


def load_value_sets(raw: list[schema.ValueSet]) -> dict[str, ir.ValueSet]:
    """Parser value sets by name."""
    return {
        item.name: ir.ValueSet(item.name, width(f"parse_vsets[{i}]", item.compressed_bitwidth), item.max_size)
        for i, item in enumerate(raw)
    }


def load_deparser(place: str, raw: schema.Deparser, headers: Headers, actions: ActionLoader) -> ir.Deparser:
    """:raises LoadError: a header does not exist."""
    for i, name in enumerate(raw.order):
        lookup(f"{place}.order[{i}]", name, headers.headers, "header")
    primitives = tuple(actions.primitive(f"{place}.primitives[{i}]", call) for i, call in enumerate(raw.primitives))
    return ir.Deparser(raw.name, tuple(raw.order), primitives)
