"""Where everything of a packet's parsed representation sits: one flat list of numbers for each packet.

A header takes as many slots as it has fields, one more for the length in bits of a varbit field (right after the
field's), and a last one for its validity. Elements of a stack, and of a stack of unions, lie one after another, so that
an index known only at run time becomes a multiplication. Stacks have a slot that counts the elements in use.

Two spare regions serve indices out of range: ``void`` always reads as an invalid header of zeros, ``trash`` swallows
writes. Metadata fields that BMv2 sets and the program leaves out are written to ``trash`` too. A header that nothing
changes has a slot for its bytes (see p4switch.interpreter.usage).
"""

from dataclasses import dataclass

from p4switch import ir
from p4switch.interpreter.usage import Usage


@dataclass(frozen=True, slots=True)
class Block:
    """A header's slots: ``base`` is its first, ``valid`` its last."""

    base: int
    type: ir.HeaderType

    @property
    def size(self) -> int:
        return block_size(self.type)

    @property
    def valid(self) -> int:
        return self.base + self.size - 1

    def offset(self, field: str) -> int:
        """Of a field, ``$valid$`` included, from ``base``."""
        return field_offset(self.type, field)


@dataclass(frozen=True, slots=True)
class Run:
    """A stack's slots: ``count`` elements of ``stride`` slots from ``base``, and the slot of the number in use."""

    base: int
    stride: int
    count: int
    next: int

    @property
    def end(self) -> int:
        return self.base + self.stride * self.count


def block_size(header_type: ir.HeaderType) -> int:
    """Slots that a header of this type takes."""
    return len(header_type.fields) + 1 + (header_type.varbit is not None)


def field_offset(header_type: ir.HeaderType, name: str) -> int:
    """Slots from a header's first to its field."""
    offset = 0
    for field in header_type.fields:
        if field.name == name:
            return offset
        offset += 2 if field.varbit else 1
    return offset  # $valid$ comes last


class Layout:
    """The slots of one program."""

    def __init__(self, program: ir.Program) -> None:
        self.program = program
        self.blocks: dict[str, Block] = {}
        self.stacks: dict[str, Run] = {}
        self.union_stacks: dict[str, Run] = {}
        self._next = 0
        for union_stack in program.union_stacks.values():
            self._place_union_stack(union_stack)
        for stack in program.stacks.values():
            self._place_stack(stack)
        for header in program.headers.values():
            self._place(header.name)
        self.union_of = {member: union for union in program.unions.values() for member in union.members}
        widest = max([1, *(run.stride for run in (*self.stacks.values(), *self.union_stacks.values()))])
        self.usage = Usage(program)
        self.raw = {header.name: self._take(1) for header in program.headers.values() if self.usage.unchanged(header)}
        """Slots of the bytes of headers that nothing changes."""
        self.void = self._take(widest)
        self.trash = self._take(widest)
        self.size = self._next

    def template(self) -> list[int]:
        """A packet's list before anything happened: all zeros, metadata valid."""
        slots = [0] * self.size
        for header in self.program.headers.values():
            if header.metadata:
                slots[self.blocks[header.name].valid] = 1
        return slots

    def slot(self, ref: ir.FieldRef) -> int:
        """The slot of a field."""
        block = self.blocks[ref.header]
        return block.base + block.offset(ref.field)

    def field(self, ref: ir.FieldRef) -> ir.Field:
        """The field's declaration; an unsigned bit for ``$valid$``."""
        return self.program.headers[ref.header].type.field(ref.field) or ir.Field(ir.VALID, 1)

    def intrinsic(self, name: str) -> ir.FieldRef | None:
        """The program's field for a field that the target knows, like ``intrinsic_metadata.mcast_grp``."""
        alias = self.program.aliases.get(name)
        if alias is not None:
            return alias
        header, _, field = name.partition(".")
        instance = self.program.headers.get(header)
        if instance is None or instance.type.field(field) is None:
            return None
        return ir.FieldRef(header, field)

    def union_offset(self, union: ir.Union, member: int) -> int:
        """Slots from a union's first to its member."""
        return self.blocks[union.members[member]].base - self.blocks[union.members[0]].base

    def metadata_runs(self) -> list[tuple[int, int]]:
        """(first, end) of the slots of metadata."""
        blocks = [self.blocks[header.name] for header in self.program.headers.values() if header.metadata]
        return [(block.base, block.valid) for block in blocks]

    def _take(self, count: int) -> int:
        start = self._next
        self._next += count
        return start

    def _place(self, name: str) -> None:
        if name not in self.blocks:
            header_type = self.program.headers[name].type
            self.blocks[name] = Block(self._take(block_size(header_type)), header_type)

    def _place_stack(self, stack: ir.Stack) -> None:
        base = self._next
        for member in stack.members:
            self._place(member)
        self.stacks[stack.name] = Run(base, block_size(stack.type), len(stack.members), self._take(1))

    def _place_union_stack(self, stack: ir.UnionStack) -> None:
        base = self._next
        for name in stack.members:
            for member in self.program.unions[name].members:
                self._place(member)
        stride = (self._next - base) // len(stack.members)
        self.union_stacks[stack.name] = Run(base, stride, len(stack.members), self._take(1))
