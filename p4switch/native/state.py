"""The control plane's view of what generated code works on: the same interface as `p4switch.runtime.State`."""

import logging
import struct
from collections import Counter
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any, TypeVar, overload

from p4switch import ir
from p4switch.errors import BadEntry
from p4switch.ir import Program
from p4switch.native.bodies import FORMATS, Body
from p4switch.native.changes import Changes, StateLock
from p4switch.native.layout import Control, Layout, Meter, slot_bytes
from p4switch.native.memory import Region
from p4switch.native.meters import NativeMeter
from p4switch.native.ops import Op
from p4switch.native.profiles import NativeProfile, PortsDown
from p4switch.native.records import MESSAGE, LogMessage, read_values
from p4switch.native.replication import DROPS
from p4switch.native.table import NativeTable
from p4switch.runtime import (
    DROP_PORT,
    CloneSession,
    Count,
    CounterArray,
    Digest,
    DigestQueue,
    Drop,
    MeterArray,
    MulticastGroup,
    RegisterArray,
    Replicas,
    State,
    ValueSet,
)

_GROUP = struct.Struct("<II")

program_log = logging.getLogger("p4switch.program")
"""log_msg writes here, as with the interpreter."""

T = TypeVar("T", bound=MulticastGroup | CloneSession)


class NativeCounters(CounterArray):
    """Counters in the region; ``packets`` and ``bytes`` are views of it."""

    def __init__(self, spec: ir.CounterArray, changes: Changes, offset: int) -> None:
        self._start = offset // 8
        self._changes = changes
        cells: Any = changes.region.words[self._start : self._start + 2 * spec.size]
        self.spec = spec
        self.packets = cells[::2]
        self.bytes = cells[1::2]

    def write(self, index: int, count: Count) -> None:
        """As `CounterArray.write`."""
        self.read(index)  # checks the index
        if min(count) < 0:
            raise BadEntry(self.spec.name, "a count is not negative")
        for offset, value in enumerate(count):
            self._changes.poke(self._start + 2 * index + offset, value & ((1 << 64) - 1))


class _Wide(MutableSequence[int]):
    """Registers above 64 bits."""

    def __init__(self, buffer: memoryview, size: int, count: int) -> None:
        self._buffer = buffer
        self._size = size
        self._count = count

    def __len__(self) -> int:
        return self._count

    def _range(self, index: int) -> slice:
        if not -self._count <= index < self._count:
            raise IndexError(index)
        start = index % self._count * self._size
        return slice(start, start + self._size)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        return int.from_bytes(self._buffer[self._range(index)], "little")

    def __setitem__(self, index: Any, value: Any) -> None:
        self._buffer[self._range(index)] = value.to_bytes(self._size, "little")

    def __delitem__(self, index: Any) -> None:
        raise TypeError("registers are not deleted")

    def insert(self, index: int, value: int) -> None:
        """:raises TypeError: always."""
        raise TypeError("registers are not inserted")


class NativeRegisters(RegisterArray):
    """Registers in the region; ``values`` is a view of it."""

    def __init__(self, spec: ir.RegisterArray, region: Region, offset: int) -> None:
        size = slot_bytes(spec.width)
        buffer = region.bytes[offset : offset + size * spec.size]
        plain: Any = FORMATS.get(size)
        values: Any = buffer.cast(plain) if size in FORMATS else _Wide(buffer, size, spec.size)
        self.spec = spec
        self.values = values


class NativeMeters(MeterArray):
    """Meters in the region."""

    def __init__(self, spec: ir.MeterArray, changes: Changes, offset: int) -> None:
        self.spec = spec
        self.by_packets = spec.unit == "packets"
        self._changes = changes
        self._offset = offset
        self._made: dict[int, NativeMeter] = {}

    def __getitem__(self, index: int) -> NativeMeter:
        """:raises BadEntry: no such index."""
        if not 0 <= index < self.spec.size:
            raise BadEntry(self.spec.name, f"index {index} is outside of 0..{self.spec.size - 1}")
        found = self._made.get(index)
        if found is None:
            found = self._made[index] = NativeMeter(self._changes, self._offset + Meter.SIZE * index)
        return found


class NativeReplicas(Replicas[T]):
    """Groups or sessions: a block each, and its region offset in an array by number."""

    def __init__(self, what: str, changes: Changes, pointers: int) -> None:
        super().__init__(what)
        self._changes = changes
        self._pointers = pointers
        self._blocks: dict[int, tuple[int, int]] = {}

    def insert(self, number: int, value: T) -> None:
        """As `Replicas.insert`."""
        super().insert(number, value)
        self._publish(number, value)

    def modify(self, number: int, value: T) -> None:
        """As `Replicas.modify`."""
        super().modify(number, value)
        self._publish(number, value)

    def delete(self, number: int) -> None:
        """As `Replicas.delete`."""
        super().delete(number)
        self._publish(number, None)

    def clear(self) -> None:
        """As `Replicas.clear`."""
        for number in list(self):
            self.delete(number)

    def _publish(self, number: int, value: T | None) -> None:
        old = self._blocks.pop(number, None)
        offset = 0
        if value is not None:
            size = 8 + 8 * len(value.replicas)
            offset = self._changes.take(size)
            length = value.packet_length if isinstance(value, CloneSession) else 0
            _GROUP.pack_into(self._changes.region.bytes, offset, len(value.replicas), length & 0xFFFFFFFF)
            for position, replica in enumerate(value.replicas, start=1):
                at = offset + 8 * position
                _GROUP.pack_into(self._changes.region.bytes, at, replica.port, replica.instance)
            self._blocks[number] = (offset, size)
        self._changes.add(Op.POKE, self._pointers + 8 * number, offset)
        if old is not None:
            self._changes.give_back(*old)


class NativeValueSet(ValueSet):
    """A parser value set in the region."""

    def __init__(self, spec: ir.ValueSet, changes: Changes, offset: int) -> None:
        super().__init__(spec.name, spec.width, spec.size)
        self._changes = changes
        self._offset = offset
        self._limit = max(spec.size, 1024)

    def replace(self, members: tuple[tuple[int, int], ...]) -> None:
        """As `ValueSet.replace`.

        :raises BadEntry: also, a set without a declared size is given too many.
        """
        if len(members) > self._limit:
            raise BadEntry(self.name, f"{len(members)} members; it holds {self._limit}")
        super().replace(members)
        size = slot_bytes(self.width)
        block = bytearray(len(members).to_bytes(16, "little"))
        for pair in members:
            for number in pair:
                block += number.to_bytes(size, "little")
        offset = self._changes.take(len(block))
        self._changes.region.bytes[offset : offset + len(block)] = bytes(block)
        self._changes.add(Op.COPY, self._offset, offset, len(block))
        self._changes.give_back(offset, len(block))


class NativeDigests(DigestQueue):
    """Digests, and log messages, that generated code put into the region."""

    def __init__(self, limit: int, program: Program, region: Region, layout: Layout) -> None:
        self._own_drops = 0
        self._lost = (layout.control + Control.DIGEST_DROPS) // 8
        self._region = region
        super().__init__(limit)
        self.bring: Callable[[], int] | None = None
        """Moves what waits to where nobody else writes, and says how many bytes; None: nobody else writes anyway."""
        self.messages: Sequence[LogMessage] = ()
        self._taken = layout.digests_taken
        self._program = program
        self._start = layout.digests
        self._used = (layout.control + Control.DIGEST_USED) // 8

    @property
    def dropped(self) -> int:
        """Digests lost, here and in the region."""
        return self._own_drops + self._region.words[self._lost]

    @dropped.setter
    def dropped(self, value: int) -> None:
        self._own_drops = value - self._region.words[self._lost]

    def take(self) -> list[Digest]:
        """As `DigestQueue.take`."""
        self.collect()
        return super().take()

    def collect(self) -> None:
        """Bring over what is in the region."""
        words = self._region.words
        used = words[self._used]
        if not used:
            return
        buffer, at = self._region.bytes, self._start
        if self.bring is not None:
            used, at = self.bring(), self._taken
        end = at + used
        while at < end:
            size, number = struct.unpack_from("<QQ", buffer, at)
            if number >= MESSAGE:
                message = self.messages[number - MESSAGE]
                widths = [width for width, _, _ in message.values]
                program_log.info("%s", message.text(tuple(read_values(buffer, at + 16, widths))))
            else:
                found = self._program.digests[number]
                self.put(Digest(found.name, tuple(read_values(buffer, at + 16, found.widths))))
            at += size
        if self.bring is None:
            words[self._used] = 0


class NativeState(State):
    """State of a program in the region."""

    def __init__(
        self, program: Program, clock: Callable[[], int], layout: Layout, *, drop_port: int = DROP_PORT
    ) -> None:
        self.region = Region(layout.size)
        self.layout = layout
        self.changes = Changes(self.region, layout.heap, layout.HEAP)
        super().__init__(program, clock, drop_port=drop_port)
        region, changes = self.region, self.changes
        lock: Any = StateLock(changes)
        self.lock = lock
        self.ports_down = PortsDown(self._ports_changed)
        self.profiles = native_profiles = {
            name: NativeProfile(spec, self.ports_down, changes, _bodies(layout, name), layout.profile_body)
            for name, spec in program.profiles.items()
        }
        self.tables = {
            name: NativeTable(
                spec,
                program.actions,
                native_profiles[spec.profile] if spec.profile else None,
                clock,
                layout.tables[name],
                changes,
            )
            for name, spec in program.tables.items()
        }
        self.counters = {
            name: NativeCounters(program.counters[name], changes, at) for name, at in layout.counters.items()
        }
        self.meters = {name: NativeMeters(program.meters[name], changes, at) for name, at in layout.meters.items()}
        self.registers = {
            name: NativeRegisters(program.registers[name], region, at) for name, at in layout.registers.items()
        }
        self.value_sets = {
            name: NativeValueSet(program.value_sets[name], changes, at) for name, at in layout.value_sets.items()
        }
        self.multicast = NativeReplicas("multicast group", changes, layout.multicast)
        self.clone_sessions = NativeReplicas("clone session", changes, layout.clones)
        self.digests: NativeDigests = NativeDigests(65_536, program, region, layout)

    def _ports_changed(self) -> None:
        for profile in self.profiles.values():
            assert isinstance(profile, NativeProfile)
            profile.ports_changed()

    @property
    def drops(self) -> Counter[Drop]:
        """Packets and copies that ended in the pipeline, by reason."""
        start = self.layout.drops // 8
        counts = Counter({reason: self.region.words[start + i] for i, reason in enumerate(DROPS)})
        return +counts

    @drops.setter
    def drops(self, value: Counter[Drop]) -> None:
        """State's own start value; the counts are in the region."""


def _bodies(layout: Layout, profile: str) -> dict[str, Body]:
    """Layouts of the actions that a profile's members may call, by name."""
    actions, bodies = layout.program.actions, {}
    for table in layout.tables.values():
        if table.spec.profile == profile:
            for action_id, number in table.numbers.items():
                action = actions[action_id]
                bodies[action.name] = Body(number, action, table.args[action_id])
    return bodies
