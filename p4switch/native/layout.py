"""Where everything lies: pure arithmetic, no LLVM and no memory.

Two kinds of places. *Region* offsets count from the region's start (`p4switch.native.memory.Region`): tables, counters,
registers, groups, queues. *Packet* offsets count from the start of a packet context, the parsed representation of one
packet; there are as many contexts as packets can be under way at once (`Layout.contexts`).

A number of W bits is kept in the next of 1, 2, 4 or 8 bytes, above that in whole words of 8; upper bits are zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from p4switch import ir
from p4switch.errors import UnsupportedError
from p4switch.ir import VALID, MatchKind, Program
from p4switch.native.memory import LARGEST

LINE = 64
"""Bytes of a cache line."""
MOST_ENTRIES = 1 << 24
"""Entries that a table holds at most, whatever size the program declares."""


def slot_bytes(width: int) -> int:
    """Bytes that a number of ``width`` bits takes."""
    for size in (1, 2, 4, 8):
        if width <= 8 * size:
            return size
    return -(-width // 64) * 8


def aligned(offset: int, to: int) -> int:
    """The next multiple of ``to``."""
    return -(-offset // to) * to


class Slot(NamedTuple):
    """Where a number is. ``length`` is where a varbit field's current width in bits (u32) is, -1 if it is none."""

    offset: int
    width: int
    signed: bool = False
    length: int = -1


CLONE_GIVEN = 1 << 15
"""Session 0 is a session, so a bit says that there was a clone (BMv2 does the same)."""


class Packet:
    """Offsets in a packet context that do not depend on the program."""

    FRAME = 0  # pointer to the packet as received
    SIZE = 8  # u64, bytes of it
    LENGTH = 16  # u64, BMv2's packet register: headers added and removed change it
    PAYLOAD = 24  # u64, bytes of the packet that the parser took
    NOW = 32  # u64, microseconds
    TRUNCATE = 40  # u64, bytes of the packet that are sent
    CLONE = 48  # u32, 0: none, else clone session with bit CLONE_GIVEN set
    CLONE_LIST = 52  # u32, field list to keep
    RESUBMIT = 56  # u32, 0: no, else the field list
    RECIRCULATE = 60  # u32, 0: no, else the field list
    DIGEST = 64  # u32, 0: none, else the digest list
    FAILED = 68  # u32, an assertion failed
    MARKED = 72  # u32, one of the wishes above was made
    DEPTH = 76  # u32, times that it was resubmitted, recirculated or cloned
    WISHES = 48  # from here to WISHES_END: what is not passed on to copies
    WISHES_END = 76
    FIELDS = 80


@dataclass(frozen=True, slots=True)
class HeaderLayout:
    """``valid`` is one byte; of a metadata instance -1. Packet offsets."""

    valid: int
    fields: Mapping[str, Slot]
    start: int
    size: int


class Entry:
    """Offsets in a table entry. From BODY on it is the action: what a modify replaces."""

    PACKETS = 0
    BYTES = 8
    LAST_HIT = 16
    BODY = 24  # u32 action (index into Table.action_ids + 1, 0: none), u32 priority
    PRIORITY = 28
    ARGS = 32


@dataclass(frozen=True, slots=True)
class TableLayout:
    """Region offsets ``entries``, ``index``, ``order``, ``lengths``; the others count from an entry's start.

    Entry 0 is the default entry. ``kind``: none (no keys), exact, lpm, priority.
    ``index`` is an open-addressing hash of words (low half: entry + 0, 0 is empty; high half: hash). ``order`` is u32
    entry numbers by falling priority, ``order_count`` their number. ``lengths``: u32 number of prefix lengths in use,
    then from byte 4 on one byte each, longest first; ``length_counts``: u32 entries of each length.

    An exact key has its fields in their slots one after another, without gaps. The other kinds have them as bits side
    by side, the first uppermost, an lpm key's prefix length in the lowest byte.

    ``numbers`` are what stands for the actions by id. Tables that share a profile number actions alike, by name.
    """

    spec: ir.Table
    number: int
    numbers: Mapping[int, int]
    kind: str
    entries: int
    capacity: int
    stride: int
    body_size: int
    args: Mapping[int, tuple[Slot, ...]]
    key: int
    key_words: int
    key_bits: int
    mask: int
    ranges: tuple[tuple[int, int], ...]
    meter: int
    index: int
    index_size: int
    order: int
    order_count: int
    lengths: int
    length_counts: int

    def entry(self, number: int) -> int:
        """Region offset of an entry."""
        return self.entries + number * self.stride


class Meter:
    """Offsets in a meter. All numbers are u64, buckets are 128 bits, in millionths of a unit."""

    CONFIGURED = 0
    LAST = 8
    COMMITTED = 16
    PEAK = 32
    RATES = 48  # committed rate, committed burst, peak rate, peak burst
    SIZE = 80


class PacketLayout:
    """Fields of all headers. Elements of a stack, and of a stack of unions, follow each other at equal distances."""

    def __init__(self, program: Program) -> None:
        self.headers: dict[str, HeaderLayout] = {}
        self.stacks: dict[str, int] = {}
        """Where the number of elements in use (u32) of a stack, of headers or of unions, is."""
        self.strides: dict[str, int] = {}
        """Bytes from one element of a stack to the next."""
        self._program = program
        self._end = Packet.FIELDS
        for union_stack in program.union_stacks.values():
            self._union_stack(union_stack)
        for stack in program.stacks.values():
            self._stack(stack.name, [[name] for name in stack.members])
        for name in program.headers:
            self._header(name)
        spare = max([LINE, *self.strides.values()])
        self.void = self._take(spare, 16)
        """Reads as an invalid header of zeros: what an index out of range means."""
        self.trash = self._take(spare, 16)
        """Swallows writes to an index out of range."""
        self.size = aligned(self._end, LINE)

    def _take(self, size: int, align: int) -> int:
        offset = aligned(self._end, align)
        self._end = offset + size
        return offset

    def _header(self, name: str) -> None:
        if name in self.headers:
            return
        header = self._program.headers[name]
        start = self._take(0, 16)
        valid = -1 if header.metadata else self._take(1, 1)
        fields: dict[str, Slot] = {}
        for field in header.type.fields:
            if field.name == VALID:
                continue
            size = slot_bytes(field.width)
            offset = self._take(size, min(size, 8))
            fields[field.name] = Slot(offset, field.width, field.signed, self._take(4, 4) if field.varbit else -1)
        self._end = aligned(self._end, 16)
        self.headers[name] = HeaderLayout(valid, fields, start, self._end - start)

    def _stack(self, name: str, elements: list[list[str]]) -> None:
        self.stacks[name] = self._take(4, 4)
        starts = []
        for members in elements:
            starts.append(self._take(0, 16))
            for member in members:
                self._header(member)
        self.strides[name] = self._end - starts[-1] if starts else 0

    def _union_stack(self, stack: ir.UnionStack) -> None:
        self._stack(stack.name, [list(self._program.unions[name].members) for name in stack.members])

    def slot(self, ref: ir.FieldRef) -> Slot:
        """Where a field is; ``$valid$`` is a field of one bit."""
        header = self.headers[ref.header]
        if ref.field == VALID:
            return Slot(header.valid, 1)
        return header.fields[ref.field]


class Layout:
    """The whole region of a program."""

    MOST_PASSES = 8192
    """Pipeline passes that one received frame may lead to; the interpreter's number."""
    CONTEXTS = 2 * MOST_PASSES + 64
    """Contexts: each pass comes from one, and may need one more to clone."""
    ARENA = 1 << 30
    """Bytes (of address space) for headers, and for recirculated packets, until all is sent."""
    ARENA_FULL = 1 << 20
    """Bytes used from which on no further packet is begun before all is sent."""
    OUTPUTS = 2 * MOST_PASSES
    """Packets that wait to be sent; one frame leads to at most MOST_PASSES."""
    DIGESTS = 1 << 22
    """Bytes for digests that the control plane has not taken."""
    HEAP = 1 << 28
    """Bytes (of address space) for groups, sessions and what is replaced."""
    FRAMES = 1 << 24
    """Bytes for frames that Python brings."""
    INPUTS = 1024
    """Frames that Python brings at once."""
    HASH_INPUT = 1 << 26
    """Bytes of the longest input of a hash, payload included."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.packet = PacketLayout(program)
        self.size = LINE
        self.control = self.reserve("control", Control.SIZE)
        self.drops = self.reserve("drops", 8 * 64)
        self.counters = {
            name: self.reserve(name, 16 * spec.size) for name, spec in program.counters.items() if spec.table is None
        }
        self.registers = {
            name: self.reserve(name, slot_bytes(spec.width) * spec.size) for name, spec in program.registers.items()
        }
        self.meters = {
            name: self.reserve(name, Meter.SIZE * spec.size)
            for name, spec in program.meters.items()
            if spec.table is None
        }
        self.value_sets = {
            name: self.reserve(name, 16 + 2 * slot_bytes(spec.width) * max(spec.size, 1024))
            for name, spec in program.value_sets.items()
        }
        self.multicast = self.reserve("multicast groups", 8 << 16)
        self.clones = self.reserve("clone sessions", 8 << 16)
        self.jobs = self.reserve("jobs", Job.SIZE * self.MOST_PASSES)
        self.contexts = self.reserve("packets", self.packet.size * self.CONTEXTS)
        self.hash_input = self.reserve("hash input", self.HASH_INPUT)
        self.heap = self.reserve("groups", self.HEAP)
        self.frames = self.reserve("frames", self.FRAMES)
        self.inputs = self.reserve("inputs", Input.SIZE * self.INPUTS)
        self.digests = self.reserve("digests", self.DIGESTS)
        self.digests_taken = self.reserve("digests", self.DIGESTS)
        self.outputs = self.reserve("outputs", Output.SIZE * self.OUTPUTS)
        self.arena = self.reserve("headers to send", self.ARENA, 4096)
        everything = [self._args(action)[1] for action in program.actions.values()]
        self.profile_body = max([*everything, Entry.ARGS + 8]) - Entry.BODY
        """Bytes of a profile's member, which has room for any action."""
        self.tables = {
            name: self._table(number, spec) for number, (name, spec) in enumerate(program.tables.items(), start=1)
        }

    def reserve(self, what: str, size: int, align: int = LINE) -> int:
        """Set bytes aside; returns where.

        :raises UnsupportedError: the program wants more than a process can address.
        """
        offset = aligned(self.size, align)
        self.size = offset + size
        if self.size > LARGEST:
            raise UnsupportedError(f"the size of {what}, {size} bytes,", "the program")
        return offset

    def _table(self, number: int, spec: ir.Table) -> TableLayout:
        args: dict[int, tuple[Slot, ...]] = {}
        end = Entry.ARGS
        for action_id in spec.action_ids:
            args[action_id], action_end = self._args(self.program.actions[action_id])
            end = max(end, action_end)
        if spec.profile is not None:
            end = max(end, Entry.ARGS + 8)
        body_size = end - Entry.BODY
        kind = table_kind(spec)
        bits = sum(key.width for key in spec.keys) + (8 if kind == "lpm" else 0)
        if kind == "exact":
            bits = sum(8 * slot_bytes(key.width) for key in spec.keys)
        words = -(-bits // 64)
        key = aligned(end, 8)
        end = key + 8 * words
        mask, ranges = -1, []
        if kind == "priority":
            mask, end = end, end + 8 * words
            for item in spec.keys:
                size = slot_bytes(item.width)
                if item.kind is MatchKind.RANGE:
                    ranges.append((end, end + aligned(size, 8)))
                    end += 2 * aligned(size, 8)
        meter = -1
        if spec.direct_meter is not None:
            meter = aligned(end, 16)
            end = meter + Meter.SIZE
        stride = aligned(end, 16 if spec.direct_meter is not None else 8)
        if LINE // 2 < stride < LINE:
            stride = LINE
        capacity = min(spec.size, MOST_ENTRIES) if spec.keys else 0
        slots = capacity + 1 + SPARE_SLOTS
        hashed = kind in ("exact", "lpm")
        index_size = 1 << max(4, (2 * slots - 1).bit_length()) if hashed else 0
        return TableLayout(
            spec=spec,
            number=number,
            numbers=self._numbers(spec),
            kind=kind,
            entries=self.reserve(spec.name, stride * slots),
            capacity=capacity,
            stride=stride,
            body_size=body_size,
            args=args,
            key=key,
            key_words=words,
            key_bits=bits,
            mask=mask,
            ranges=tuple(ranges),
            meter=meter,
            index=self.reserve(spec.name, 8 * index_size) if hashed else 0,
            index_size=index_size,
            order=self.reserve(spec.name, 4 * slots) if kind == "priority" else 0,
            order_count=self.reserve(spec.name, 8) if kind == "priority" else 0,
            lengths=self.reserve(spec.name, 4 + 256) if kind == "lpm" else 0,
            length_counts=self.reserve(spec.name, 4 * 256) if kind == "lpm" else 0,
        )

    def _numbers(self, spec: ir.Table) -> dict[int, int]:
        if spec.profile is None:
            return {action_id: number for number, action_id in enumerate(spec.action_ids, start=1)}
        names = self._profile_names(spec.profile)
        return {action_id: names.index(self.program.actions[action_id].name) + 1 for action_id in spec.action_ids}

    def _profile_names(self, profile: str) -> list[str]:
        """Names of all actions that members of a profile may call."""
        tables = [table for table in self.program.tables.values() if table.profile == profile]
        return sorted({self.program.actions[i].name for table in tables for i in table.action_ids})

    @staticmethod
    def _args(action: ir.Action) -> tuple[tuple[Slot, ...], int]:
        slots: list[Slot] = []
        end = Entry.ARGS
        for param in action.params:
            size = slot_bytes(param.width)
            offset = aligned(end, min(size, 8))
            slots.append(Slot(offset, param.width))
            end = offset + size
        return tuple(slots), end


MEMBER, GROUP = 1 << 30, 1 << 31
"""In place of an action's number: the word at ARGS is the region offset of a member, or of a group's cell."""
SPARE_SLOTS = 4096
"""Entries beyond a table's capacity: those removed or replaced by changes that are not applied yet."""


def table_kind(spec: ir.Table) -> str:
    """How the table is searched: none, exact, lpm or priority."""
    kinds = [key.kind for key in spec.keys]
    if not kinds:
        return "none"
    if all(kind is MatchKind.EXACT for kind in kinds):
        return "exact"
    lpm = kinds.count(MatchKind.LPM)
    if lpm == 1 and kinds.count(MatchKind.EXACT) == len(kinds) - 1:
        widest = next(key.width for key in spec.keys if key.kind is MatchKind.LPM)
        return "lpm" if widest < 256 else "priority"
    return "priority"


class Control:
    """Offsets of single words, from `Layout.control`."""

    OUTPUT_COUNT = 0  # packets that wait to be sent
    ARENA_USED = 8
    DIGEST_USED = 16  # bytes of digests that wait
    DIGEST_DROPS = 32
    RANDOM = 40  # state of the random number generator
    ROUND_ROBIN = 48
    DROP_PORT = 56
    CONTEXTS_USED = 64  # of the frame under way
    JOBS = 72  # of the frame under way
    LOCK = 128  # pthread mutex
    GATE = 192  # pthread mutex
    SIZE = 4096


class Output:
    """Offsets in the description of a packet to send: its headers, then its payload."""

    PORT = 0  # u32
    HEADER_LENGTH = 4  # u32
    HEADER = 8  # pointer
    PAYLOAD = 16  # pointer
    PAYLOAD_LENGTH = 24  # u32
    SIZE = 32


class Job:
    """Offsets in a pass that waits."""

    CONTEXT = 0  # pointer
    PORT = 8  # u32, egress port or INGRESS
    RID = 12  # u32
    SIZE = 16
    INGRESS = 0xFFFFFFFF


class Input:
    """Offsets in the description of a packet to process."""

    FRAME = 0  # pointer
    FRAME_SIZE = 8  # u64
    PORT = 16  # u64
    SIZE = 24
