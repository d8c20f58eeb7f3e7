"""A whole program. Frozen; names are the fully qualified P4 names."""

from collections.abc import Mapping
from dataclasses import dataclass

from p4switch.ir.actions import Action
from p4switch.ir.arrays import (
    Calculation,
    Checksum,
    CounterArray,
    DigestList,
    FieldList,
    MeterArray,
    RegisterArray,
)
from p4switch.ir.expressions import FieldRef
from p4switch.ir.headers import Header, HeaderType, SourceInfo, Stack, Union, UnionStack
from p4switch.ir.parsers import Deparser, Parser, ValueSet
from p4switch.ir.pipelines import ActionProfile, Pipeline, Table


@dataclass(frozen=True, slots=True)
class ExternInstance:
    name: str
    type: str
    source: SourceInfo | None


@dataclass(frozen=True, slots=True)
class Program:
    """What ``load_program`` returns. ``aliases`` maps BMv2's names of intrinsic metadata to this program's fields."""

    version: tuple[int, int]
    compiler: str
    header_types: Mapping[str, HeaderType]
    headers: Mapping[str, Header]
    stacks: Mapping[str, Stack]
    unions: Mapping[str, Union]
    union_stacks: Mapping[str, UnionStack]
    errors: Mapping[str, int]
    parsers: Mapping[str, Parser]
    value_sets: Mapping[str, ValueSet]
    deparsers: Mapping[str, Deparser]
    actions: Mapping[int, Action]
    pipelines: Mapping[str, Pipeline]
    counters: Mapping[str, CounterArray]
    meters: Mapping[str, MeterArray]
    registers: Mapping[str, RegisterArray]
    calculations: Mapping[str, Calculation]
    checksums: tuple[Checksum, ...]
    field_lists: Mapping[int, FieldList]
    digests: Mapping[int, DigestList]
    externs: Mapping[str, ExternInstance]
    aliases: Mapping[str, FieldRef]

    @property
    def tables(self) -> Mapping[str, Table]:
        """All tables of all pipelines by name."""
        return {table.name: table for pipeline in self.pipelines.values() for table in pipeline.tables}

    @property
    def profiles(self) -> Mapping[str, ActionProfile]:
        """All action profiles by name."""
        return {profile.name: profile for pipeline in self.pipelines.values() for profile in pipeline.profiles}

    def field(self, ref: FieldRef) -> int:
        """Width in bits of the field; 1 of ``$valid$``. The reference must exist (the loader saw to it)."""
        found = self.headers[ref.header].type.field(ref.field)
        return found.width if found else 1
