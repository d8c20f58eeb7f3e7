"""Walking over the IR."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

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
    parts = (
        program.parsers, program.deparsers, program.actions, program.pipelines, program.calculations,
        program.checksums, program.field_lists, program.digests, program.meters,
    )  # fmt: skip
    return {node for node in walk(parts) if isinstance(node, FieldRef)}


def mentions(program: Program, names: tuple[str, ...]) -> list[str]:
    """Which of these fields of the target, like ``queueing_metadata.enq_qdepth``, the program's text mentions."""
    used = mentioned(program)
    return [name for name in names if target_field(program, name) in used]


def target_field(program: Program, name: str) -> FieldRef:
    """The program's field for one of the target's, by BMv2's name for it."""
    standard = f"standard_metadata.{name.partition('.')[2]}"
    return program.aliases.get(name) or program.aliases.get(standard) or FieldRef(*standard.split("."))
