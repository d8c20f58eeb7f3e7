"""Headers, stacks and unions: what a packet's parsed representation consists of."""

from dataclasses import dataclass

VALID = "$valid$"
"""Name of the hidden one-bit field that holds a header's validity."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Where in the P4 source something stands. ``fragment`` is the text there; ``line`` counts from 1."""

    filename: str
    line: int
    column: int
    fragment: str

    def __str__(self) -> str:
        return f"{self.filename}:{self.line}" if self.filename else "unknown source"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a header type. ``width`` in bits; of a varbit field the largest width that it may take."""

    name: str
    width: int
    signed: bool = False
    varbit: bool = False
    saturating: bool = False
    """What is assigned is brought to the nearest number that fits, instead of cut to the width."""


@dataclass(frozen=True, slots=True)
class HeaderType:
    """A header or struct type. At most one of the fields is varbit."""

    name: str
    fields: tuple[Field, ...]

    @property
    def fixed_width(self) -> int:
        """Width in bits of all fields that are not varbit."""
        return sum(field.width for field in self.fields if not field.varbit)

    @property
    def varbit(self) -> Field | None:
        """The varbit field, if there is one."""
        return next((field for field in self.fields if field.varbit), None)

    def field(self, name: str) -> Field | None:
        """The field of this name; None if the type has none."""
        return next((field for field in self.fields if field.name == name), None)


@dataclass(frozen=True, slots=True)
class Header:
    """An instance. A ``metadata`` instance is always valid, starts as zeros and is in no packet."""

    name: str
    type: HeaderType
    metadata: bool


@dataclass(frozen=True, slots=True)
class Stack:
    """A header stack; ``members`` are header instances' names, element 0 first."""

    name: str
    type: HeaderType
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """A header union instance; ``members`` are header instances' names in the order of the P4 declaration."""

    name: str
    type_name: str
    member_names: tuple[str, ...]
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnionStack:
    """A stack of header unions; ``members`` are union instances' names, element 0 first."""

    name: str
    type_name: str
    members: tuple[str, ...]
