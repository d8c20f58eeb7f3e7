"""Counters, meters, registers, calculations, checksums, and lists of fields."""

from dataclasses import dataclass
from typing import Literal

from p4switch.ir.expressions import Expr, FieldRef
from p4switch.ir.headers import SourceInfo


@dataclass(frozen=True, slots=True)
class CounterArray:
    """``table`` is the table's name for a direct counter, else None. All count packets and bytes."""

    name: str
    size: int
    table: str | None


@dataclass(frozen=True, slots=True)
class MeterArray:
    """``unit`` is bytes or packets. A direct meter of ``table`` writes the colour to ``result``."""

    name: str
    size: int
    unit: Literal["bytes", "packets"]
    rate_count: int
    table: str | None
    result: FieldRef | None


@dataclass(frozen=True, slots=True)
class RegisterArray:
    name: str
    size: int
    width: int
    signed: bool


@dataclass(frozen=True, slots=True)
class CalculationInput:
    """``kind``: field, const, header, payload. ``width`` in bits, of a constant."""

    kind: Literal["field", "const", "header", "payload"]
    value: Expr | None
    width: int


@dataclass(frozen=True, slots=True)
class Calculation:
    name: str
    algorithm: str
    inputs: tuple[CalculationInput, ...]
    source: SourceInfo | None


@dataclass(frozen=True, slots=True)
class Checksum:
    """``update`` and ``verify`` tell when it is computed; ``condition`` None means always."""

    name: str
    target: FieldRef
    calculation: str
    update: bool
    verify: bool
    condition: Expr | None
    source: SourceInfo | None


@dataclass(frozen=True, slots=True)
class FieldList:
    """Elements that a clone, resubmit or recirculate preserves; ``id`` is what the primitive's argument says."""

    id: int
    name: str
    elements: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class DigestList:
    """Elements of a digest, with their widths in bits; ``id`` is what generate_digest's argument says."""

    id: int
    name: str
    elements: tuple[Expr, ...]
    widths: tuple[int, ...]
