"""Walking over the IR."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from p4switch.ir.actions import Primitive
from p4switch.ir.expressions import FieldRef
from p4switch.ir.program import Program


def walk(node: Any) -> Iterator[object]:
    """The node and all that it is made of."""
    match node:
        case Mapping():
            for value in node.values():
                yield from walk(value)
        case tuple():
            for value in node:
                yield from walk(value)
        case _ if is_dataclass(node):
            yield node
            for field in fields(node):
                yield from walk(getattr(node, field.name))


def mentioned(program: Program) -> set[FieldRef]:
    """Fields that the program's own text reads or writes; those that only ``aliases`` lists are not among them."""
    return {node for node in walk(_text(program)) if isinstance(node, FieldRef)}


def _text(program: Program) -> tuple[object, ...]:
    return (
        program.parsers, program.deparsers, program.actions, program.pipelines, program.calculations,
        program.checksums, program.field_lists, program.digests, program.meters,
    )  # fmt: skip


def looked_at(program: Program) -> set[FieldRef]:
    """Fields whose value matters to the program.

    Plain copies between metadata do not count by themselves: p4c copies all of an ``inout`` struct in and out.
    """
    copies: list[tuple[FieldRef, FieldRef]] = []
    found = set(_reads(program, _text(program), copies))
    while more := {value for target, value in copies if target in found} - found:
        found |= more
    return found


def _reads(program: Program, node: Any, copies: list[tuple[FieldRef, FieldRef]]) -> Iterator[FieldRef]:
    """Fields that are read; ``copies`` collects (target, value) of copies to metadata instead."""
    match node:
        case Mapping():
            for value in node.values():
                yield from _reads(program, value, copies)
        case tuple():
            for value in node:
                yield from _reads(program, value, copies)
        case Primitive(op="assign", args=(FieldRef() as target, FieldRef() as value)) if _is_metadata(program, target):
            copies.append((target, value))
        case Primitive(op="assign", args=(FieldRef(), value)):
            yield from _reads(program, value, copies)
        case FieldRef():
            yield node
        case _ if is_dataclass(node):
            for field in fields(node):
                yield from _reads(program, getattr(node, field.name), copies)


def _is_metadata(program: Program, field: FieldRef) -> bool:
    return program.headers[field.header].metadata


def target_field(program: Program, name: str) -> FieldRef:
    """The program's field for one of the target's, by BMv2's name for it."""
    standard = f"standard_metadata.{name.partition('.')[2]}"
    return program.aliases.get(name) or program.aliases.get(standard) or FieldRef(*standard.split("."))
