"""What the native back end refuses, by name, when a program is loaded. The interpreter runs all of it."""

from p4switch import ir
from p4switch.errors import UnsupportedError
from p4switch.native.actions import PRIMITIVES

_JUMPS = frozenset({"exit", "_jump", "_jump_if_zero"})


def check_native(program: ir.Program) -> None:
    """:raises UnsupportedError: the program uses what this back end cannot do."""
    for action in program.actions.values():
        for primitive in action.primitives:
            if primitive.op not in PRIMITIVES and primitive.op not in _JUMPS:
                raise UnsupportedError(f"primitive {primitive.op}", str(primitive.source or action.name), _REMEDY)
    for header_type in program.header_types.values():
        _check_type(header_type)
    for deparser in program.deparsers.values():
        for primitive in deparser.primitives:
            if primitive.op not in PRIMITIVES:
                raise UnsupportedError(f"primitive {primitive.op}", str(primitive.source or deparser.name), _REMEDY)


_REMEDY = "the native back end cannot do it; use the interpreter"


def _check_type(header_type: ir.HeaderType) -> None:
    bits = 0
    for field in header_type.fields:
        if field.saturating:
            raise UnsupportedError(f"saturating field {field.name}", header_type.name, _REMEDY)
        if field.varbit and bits % 8:
            raise UnsupportedError(f"varbit field {field.name} that begins within a byte", header_type.name, _REMEDY)
        bits += 0 if field.varbit else field.width
