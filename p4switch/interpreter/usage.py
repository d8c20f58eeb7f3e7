"""Which fields a program looks at, and which headers it never changes.

A header that nothing can change leaves the switch as the bytes that it came in as; of its fields, only those that are
looked at need to be taken apart. Members of stacks and unions move about and are left out of this.
"""

from collections.abc import Iterator

from p4switch import ir
from p4switch.check import SIGNATURES
from p4switch.ir.walk import walk

_TARGETS = frozenset({"field", "varbit"})
_ONLY_VALIDITY = frozenset({"remove_header"})


class Usage:
    """The result for one program."""

    def __init__(self, program: ir.Program) -> None:
        self._read: set[ir.FieldRef] = set()
        self._changed: set[str] = {member for stack in program.stacks.values() for member in stack.members}
        self._changed |= {member for union in program.unions.values() for member in union.members}
        looked_at = (
            program.parsers, program.deparsers, program.actions, program.pipelines, program.calculations,
            program.checksums, program.field_lists, program.digests, program.meters, program.aliases,
        )  # fmt: skip
        for node in walk(looked_at):
            self._look(node)

    def _look(self, node: object) -> None:
        match node:
            case ir.FieldRef():
                self._read.add(node)
            case ir.Primitive():
                self._changed.update(_changed_by(node))
            case (
                ir.Set(target) | ir.Checksum(target=target, update=True) | ir.MeterArray(result=ir.FieldRef() as target)
            ):
                self._changed.add(target.header)
            case ir.HeaderField(header=ir.HeaderRef(name)):
                self._changed.add(name)  # as a place or a value
            case ir.CalculationInput(value=ir.HeaderRef(name)) | ir.Compare(left=ir.HeaderRef(name)):
                self._changed.add(name)  # all of its fields are looked at
                if isinstance(node, ir.Compare) and isinstance(node.right, ir.HeaderRef):
                    self._changed.add(node.right.name)

    def unchanged(self, header: ir.Header) -> bool:
        """Whether no packet can have this header's fields changed after they were extracted."""
        return not header.metadata and header.type.varbit is None and header.name not in self._changed

    def reads(self, header: str, field: str) -> bool:
        """Whether anything looks at a field of an unchanged header."""
        return ir.FieldRef(header, field) in self._read


def _changed_by(primitive: ir.Primitive) -> Iterator[str]:
    """Headers whose fields a primitive may change, or that it uses as a whole."""
    for kind, arg in zip(SIGNATURES[primitive.op], primitive.args, strict=True):
        match arg:
            case ir.FieldRef(header) if kind in _TARGETS:
                yield header
            case ir.HeaderRef(name) if primitive.op not in _ONLY_VALIDITY:
                yield name
