"""P4Info made ready: objects by id, joined by name to the objects of the loaded program.

Ids are P4Info's, names the fully qualified ones, which is all that P4Info and BMv2's JSON have in common;
match fields and action parameters are joined by position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from p4switch.ir import MatchKind


class Scope(Enum):
    """Where a table may use an action."""

    ANY = 0
    TABLE_ONLY = 1
    DEFAULT_ONLY = 2


class Unit(Enum):
    """What a counter counts."""

    BYTES = 1
    PACKETS = 2
    BOTH = 3


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """A match field; ``position`` in the key, ``width`` in bits.

    ``stored`` is the program's kind: p4c-bm2-ss makes ternary fields of optional ones.
    """

    id: int
    name: str
    kind: MatchKind
    width: int
    position: int
    stored: MatchKind


@dataclass(frozen=True, slots=True)
class ParamInfo:
    """An action's parameter."""

    id: int
    name: str
    width: int
    position: int


@dataclass(frozen=True, slots=True)
class ActionInfo:
    """An action; ``params`` in the order of the program's."""

    id: int
    name: str
    params: tuple[ParamInfo, ...]


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table. ``profile``, ``counter``, ``meter`` are ids, 0 if it has none."""

    id: int
    name: str
    fields: tuple[FieldInfo, ...]
    scopes: Mapping[int, Scope]
    """The table's actions by id."""
    const_default: bool
    is_const: bool
    profile: int
    counter: int
    counter_unit: Unit
    meter: int
    idle_timeout: bool
    needs_priority: bool


@dataclass(frozen=True, slots=True)
class ProfileInfo:
    """An action profile, or selector. ``actions``: ids that its tables know."""

    id: int
    name: str
    with_selector: bool
    size: int
    max_group_size: int
    actions: frozenset[int]


@dataclass(frozen=True, slots=True)
class CounterInfo:
    """An indirect counter."""

    id: int
    name: str
    size: int
    unit: Unit


@dataclass(frozen=True, slots=True)
class MeterInfo:
    """An indirect meter."""

    id: int
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class RegisterInfo:
    """A register array of ``bit<width>``, ``int<width>`` or bool values."""

    id: int
    name: str
    size: int
    width: int
    kind: str
    """``bit``, ``int`` or ``bool``."""


@dataclass(frozen=True, slots=True)
class DigestInfo:
    """A digest. ``kind``: ``struct``, ``tuple`` or ``bit``; ``widths`` of its members, in order."""

    id: int
    name: str
    kind: str
    widths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ValueSetInfo:
    """A parser value set."""

    id: int
    name: str
    fields: tuple[FieldInfo, ...]
    size: int


@dataclass(frozen=True, slots=True)
class HeaderField:
    """A field of packet_in or packet_out metadata."""

    id: int
    name: str
    width: int
    shift: int
    """Bits to the right of it in the header."""


@dataclass(frozen=True, slots=True)
class PacketHeader:
    """The packet_in or packet_out header: ``length`` whole bytes, ``padding`` unused bits at its end."""

    fields: tuple[HeaderField, ...] = ()
    length: int = 0


@dataclass(frozen=True, slots=True)
class Schema:
    """All of a P4Info, by id."""

    tables: Mapping[int, TableInfo] = field(default_factory=dict)
    actions: Mapping[int, ActionInfo] = field(default_factory=dict)
    profiles: Mapping[int, ProfileInfo] = field(default_factory=dict)
    counters: Mapping[int, CounterInfo] = field(default_factory=dict)
    direct_counters: Mapping[int, int] = field(default_factory=dict)
    """Table id by direct counter id."""
    meters: Mapping[int, MeterInfo] = field(default_factory=dict)
    direct_meters: Mapping[int, int] = field(default_factory=dict)
    """Table id by direct meter id."""
    registers: Mapping[int, RegisterInfo] = field(default_factory=dict)
    digests: Mapping[int, DigestInfo] = field(default_factory=dict)
    value_sets: Mapping[int, ValueSetInfo] = field(default_factory=dict)
    packet_in: PacketHeader = PacketHeader()
    packet_out: PacketHeader = PacketHeader()

    def action_named(self, name: str) -> ActionInfo | None:
        """The action of this fully qualified name."""
        return next((action for action in self.actions.values() if action.name == name), None)
