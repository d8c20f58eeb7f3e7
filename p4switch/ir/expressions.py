"""Expressions. Numbers have infinite precision until they are stored in a field, as in BMv2.

Every node says what it yields through ``KIND``: a number ("data"), a truth value ("bool"), or one of the things
that are not values: "header", "stack", "union", "union_stack", "string".
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

Kind: TypeAlias = Literal["data", "bool", "header", "stack", "union", "union_stack", "string"]

DATA_OPS = frozenset({"+", "-", "*", "/", "%", "<<", ">>", "&", "|", "^", "two_comp_mod", "sat_cast", "usat_cast"})
"""Binary operators from two numbers to a number; the last three take a width in bits on the right."""
COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
BOOL_OPS = frozenset({"and", "or"})


@dataclass(frozen=True, slots=True)
class Const:
    """A number, possibly negative."""

    KIND: ClassVar[Kind] = "data"
    value: int
    width: int | None = None
    """Bits, where the JSON gives them (inputs of calculations); else None."""


@dataclass(frozen=True, slots=True)
class Bool:
    KIND: ClassVar[Kind] = "bool"
    value: bool


@dataclass(frozen=True, slots=True)
class Text:
    """A string literal, an argument of log_msg."""

    KIND: ClassVar[Kind] = "string"
    value: str


@dataclass(frozen=True, slots=True)
class FieldRef:
    """A field of a header instance; ``field`` may be ``$valid$``."""

    KIND: ClassVar[Kind] = "data"
    header: str
    field: str


@dataclass(frozen=True, slots=True)
class Param:
    """Argument number ``index`` of the enclosing action."""

    KIND: ClassVar[Kind] = "data"
    index: int


@dataclass(frozen=True, slots=True)
class Lookahead:
    """``width`` bits of the packet, ``offset`` bits after what is parsed already. Parsers only."""

    KIND: ClassVar[Kind] = "data"
    offset: int
    width: int


@dataclass(frozen=True, slots=True)
class StackLast:
    """A field of the header that was last extracted to, or pushed on, a stack."""

    KIND: ClassVar[Kind] = "data"
    stack: str
    field: str


@dataclass(frozen=True, slots=True)
class UnionStackLast:
    """A field of a member of the union last extracted to a union stack."""

    KIND: ClassVar[Kind] = "data"
    stack: str
    member: str
    field: str


@dataclass(frozen=True, slots=True)
class RegisterRef:
    """A cell of a register array."""

    KIND: ClassVar[Kind] = "data"
    array: str
    index: "Expr"


@dataclass(frozen=True, slots=True)
class HeaderRef:
    KIND: ClassVar[Kind] = "header"
    name: str


@dataclass(frozen=True, slots=True)
class StackRef:
    KIND: ClassVar[Kind] = "stack"
    name: str


@dataclass(frozen=True, slots=True)
class UnionRef:
    KIND: ClassVar[Kind] = "union"
    name: str


@dataclass(frozen=True, slots=True)
class UnionStackRef:
    KIND: ClassVar[Kind] = "union_stack"
    name: str


@dataclass(frozen=True, slots=True)
class StackElement:
    """Header number ``index`` of a stack; an index outside of it reads as an invalid header of zeros."""

    KIND: ClassVar[Kind] = "header"
    stack: str
    index: "Expr"


@dataclass(frozen=True, slots=True)
class UnionStackElement:
    KIND: ClassVar[Kind] = "union"
    stack: str
    index: "Expr"


@dataclass(frozen=True, slots=True)
class UnionMember:
    """Member number ``member`` of a union that is known only when the packet is here."""

    KIND: ClassVar[Kind] = "header"
    union: "UnionRef | UnionStackElement"
    member: int


@dataclass(frozen=True, slots=True)
class HeaderField:
    """Field number ``field`` of a header that is known only when the packet is here."""

    KIND: ClassVar[Kind] = "data"
    header: "HeaderExpr"
    field: int


@dataclass(frozen=True, slots=True)
class Valid:
    KIND: ClassVar[Kind] = "bool"
    header: "HeaderExpr"


@dataclass(frozen=True, slots=True)
class UnionValid:
    KIND: ClassVar[Kind] = "bool"
    union: "UnionRef | UnionStackElement"


@dataclass(frozen=True, slots=True)
class StackSize:
    """Number of elements in use (``last=False``), or the index of the last one (``last=True``, -1 if none)."""

    KIND: ClassVar[Kind] = "data"
    stack: str
    last: bool


@dataclass(frozen=True, slots=True)
class DataOp:
    """``op`` of DATA_OPS on two numbers."""

    KIND: ClassVar[Kind] = "data"
    op: str
    left: "Expr"
    right: "Expr"


@dataclass(frozen=True, slots=True)
class BitNot:
    """``~``: minus one minus the operand, as precision is infinite."""

    KIND: ClassVar[Kind] = "data"
    operand: "Expr"


@dataclass(frozen=True, slots=True)
class Compare:
    """``op`` of COMPARISONS; == and != also compare two booleans, headers, unions or stacks."""

    KIND: ClassVar[Kind] = "bool"
    op: str
    left: "Expr"
    right: "Expr"


@dataclass(frozen=True, slots=True)
class BoolOp:
    KIND: ClassVar[Kind] = "bool"
    op: str
    left: "Expr"
    right: "Expr"


@dataclass(frozen=True, slots=True)
class Not:
    KIND: ClassVar[Kind] = "bool"
    operand: "Expr"


@dataclass(frozen=True, slots=True)
class DataToBool:
    KIND: ClassVar[Kind] = "bool"
    operand: "Expr"


@dataclass(frozen=True, slots=True)
class BoolToData:
    KIND: ClassVar[Kind] = "data"
    operand: "Expr"


@dataclass(frozen=True, slots=True)
class Choose:
    """``cond ? left : right``; yields what its branches yield."""

    cond: "Expr"
    left: "Expr"
    right: "Expr"

    @property
    def KIND(self) -> Kind:
        return self.left.KIND


HeaderExpr: TypeAlias = HeaderRef | StackElement | UnionMember
DataExpr: TypeAlias = (
    Const
    | FieldRef
    | Param
    | Lookahead
    | StackLast
    | UnionStackLast
    | RegisterRef
    | HeaderField
    | StackSize
    | DataOp
    | BitNot
    | BoolToData
)
BoolExpr: TypeAlias = Bool | Valid | UnionValid | Compare | BoolOp | Not | DataToBool
Expr: TypeAlias = (
    DataExpr | BoolExpr | HeaderExpr | StackRef | UnionRef | UnionStackRef | UnionStackElement | Text | Choose
)
