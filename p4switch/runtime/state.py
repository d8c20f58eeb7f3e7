"""All that a program keeps between packets and that the control plane sees."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from p4switch.errors import BadEntry, NoSuchEntry
from p4switch.ir import Program
from p4switch.runtime.counters import CounterArray, RegisterArray
from p4switch.runtime.digests import DigestQueue
from p4switch.runtime.meters import MeterArray
from p4switch.runtime.profiles import ActionProfile
from p4switch.runtime.replication import CloneSession, MulticastGroup, Replicas
from p4switch.runtime.table import Entry, Table

DROP_PORT = 511
DIGESTS_WAITING = 65_536


class Drop(StrEnum):
    """Why a packet, or a copy of one, ended in the pipeline."""

    INGRESS = "ingress"  # the program chose the drop port in ingress
    EGRESS = "egress"  # the program chose the drop port in egress
    NO_COPIES = "no_copies"  # multicast to a group that does not exist or is empty
    TOO_MANY_PASSES = "too_many_passes"  # resubmitted, recirculated or cloned without end
    ASSERTION = "assertion"  # an assert or assume failed
    NO_SUCH_QUEUE = "no_such_queue"  # its priority is not below the number of queues of a port
    TOO_LONG = "too_long"  # the deparsed packet exceeds the largest frame


@dataclass(frozen=True, slots=True)
class Expired:
    """An entry whose idle timeout passed."""

    table: Table
    entry: Entry


def _empty(port: int, queue: int) -> int:
    return 0


class ValueSet:
    """Members of a parser value set: (value, mask) pairs; the back end asks ``holds``."""

    def __init__(self, name: str, width: int, size: int) -> None:
        self.name = name
        self.width = width
        self.size = size
        self._members: tuple[tuple[int, int], ...] = ()

    @property
    def members(self) -> tuple[tuple[int, int], ...]:
        """(value, mask) pairs."""
        return self._members

    def replace(self, members: tuple[tuple[int, int], ...]) -> None:
        """Set all members at once, as P4Runtime does.

        :raises BadEntry: too many, or a value or mask is too wide.
        """
        if self.size and len(members) > self.size:
            raise BadEntry(self.name, f"{len(members)} members; it holds {self.size}")
        for value, mask in members:
            if not (0 <= value < 1 << self.width and 0 <= mask < 1 << self.width):
                raise BadEntry(self.name, f"member {value:#x}/{mask:#x} does not fit {self.width} bits")
        self._members = members

    def holds(self, key: int, mask: int) -> bool:
        """Whether a member fits ``key``, compared under ``mask``."""
        return any((key ^ value) & member_mask & mask == 0 for value, member_mask in self._members)


class State:
    """Tables, arrays, groups and sessions of one loaded program.

    ``lock`` guards all of it: see p4switch.runtime's docstring. Names are the fully qualified ones.
    """

    def __init__(
        self,
        program: Program,
        clock: Callable[[], int],
        *,
        drop_port: int = DROP_PORT,
        digest_limit: int = DIGESTS_WAITING,
        queues: int = 1,
    ) -> None:
        self.program = program
        self.clock = clock
        self.drop_port = drop_port
        self.queues = queues
        """Priorities that a port has; a packet of another one is dropped."""
        self.queue_depth: Callable[[int, int], int] = _empty
        """Frames that wait in a queue, by port and priority; whoever owns the ports sets it."""
        self.lock = threading.RLock()
        self.ports_down: set[int] = set()
        """Ports without a link: members that watch one are skipped."""
        self.profiles: Mapping[str, ActionProfile] = {
            name: ActionProfile(spec, self.ports_down) for name, spec in program.profiles.items()
        }
        self.tables: Mapping[str, Table] = {
            name: Table(spec, program.actions, self.profiles[spec.profile] if spec.profile else None, clock)
            for name, spec in program.tables.items()
        }
        self.counters: Mapping[str, CounterArray] = {
            name: CounterArray(spec) for name, spec in program.counters.items() if spec.table is None
        }
        self.meters: Mapping[str, MeterArray] = {
            name: MeterArray(spec) for name, spec in program.meters.items() if spec.table is None
        }
        self.registers: Mapping[str, RegisterArray] = {
            name: RegisterArray(spec) for name, spec in program.registers.items()
        }
        self.value_sets: Mapping[str, ValueSet] = {
            name: ValueSet(name, spec.width, spec.size) for name, spec in program.value_sets.items()
        }
        self.multicast: Replicas[MulticastGroup] = Replicas("multicast group")
        self.clone_sessions: Replicas[CloneSession] = Replicas("clone session")
        self.digests = DigestQueue(digest_limit)
        self.drops: Counter[Drop] = Counter()
        """Packets and copies that ended in the pipeline, by reason."""

    def table(self, name: str) -> Table:
        """:raises NoSuchEntry: the program has no table of this name."""
        found = self.tables.get(name)
        if found is None:
            raise NoSuchEntry(name, "the program has no such table")
        return found

    def expired(self, now_us: int) -> list[Expired]:
        """Entries of all tables whose idle timeout passed; see Table.expired."""
        return [Expired(table, entry) for table in self.tables.values() for entry in table.expired(now_us)]
