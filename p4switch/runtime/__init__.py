"""State of a loaded program, shared by all back ends and by the control plane.

How the parts are used together::

    program = load_program(blob)            # p4switch.load; raises LoadError
    check_program(program)                  # p4switch.check; raises UnsupportedError
    device = Device(program, drop_port=511) # p4switch.device; state and back end
    device.process(port, frame, now_us)     # -> list[Transmit(port, frame)]; the CPU port is a port like others
    device.state.tables["ingress.flow_v4"].insert((1, 2, 3, 4, 6), ActionCall("ingress.steer", (7, 0)))
    device.state.counters["ingress.drops"].read(3)         # Count(packets, bytes)
    device.state.registers[...].read(i) / .write(i, v)
    device.state.meters[...].configure(i, MeterConfig(...), now_us)
    device.state.multicast.insert(1, MulticastGroup((Replica(3, 1), Replica(4, 2))))
    device.state.clone_sessions.insert(1, CloneSession((Replica(510),)))
    device.state.digests.take()             # list[Digest(name, values)]
    device.state.expired(now_us)            # list[Expired(table, entry)]
    device.state.profiles[name].insert_member(1, ActionCall(...))
    device.state.profiles[name].insert_group(1, Group((GroupMember(1, weight=2),)))
    device.state.value_sets[name].replace(((0x0800, 0xFFFF),))

**Names.** Everything goes by its fully qualified P4 name, as P4Info's ``preamble.name`` has it; ids of the JSON and of
P4Info have nothing to do with each other. Match fields and action parameters go by position, the same in both.
``state.tables`` also holds tables that p4c made up (``tbl_…``) and P4Info does not list.

**Values.** All numbers are ints and are checked against their widths here: ``BadEntry`` if they do not fit. Match, by
kind: exact ``value``; lpm ``(value, prefix_len)``; ternary ``(value, mask)``; range ``(low, high)``; optional ``value``
or ``None``. Priorities are P4Runtime's: larger wins, above 0 where a key is ternary, range or optional, else 0.
An entry's action is ``ActionCall`` where the table is direct, ``MemberRef``, ``GroupRef`` or ``ActionSet`` (one-shot)
where it has an action profile.

**Direct counters and meters** live in the entry: ``entry.packets``, ``entry.bytes``, ``entry.meter`` (None unless the
table has a direct meter; ``entry.meter.configure(MeterConfig(…), where, now_us)``). ``table.spec.with_counters`` and
``table.spec.direct_meter`` tell whether they count.

**Threads.** One lock for each device, ``state.lock`` (re-entrant). The data thread holds it while it processes a batch
of packets, a control-plane thread while it carries out one request; nothing here takes it by itself. Whoever holds it
sees no packet half way and may therefore change several entries as one.

**Time** is microseconds on the device's own clock (``state.clock()``, 0 at its creation); the data plane
passes ``now_us``.
"""

from p4switch.runtime.actions import ActionCall, ActionSet, EntryAction, GroupRef, MemberRef, WeightedAction
from p4switch.runtime.counters import Count, CounterArray, RegisterArray
from p4switch.runtime.digests import Digest, DigestQueue
from p4switch.runtime.match import FieldMatch, Match
from p4switch.runtime.meters import Colour, Meter, MeterArray, MeterConfig
from p4switch.runtime.profiles import ActionProfile, Group, GroupMember
from p4switch.runtime.replication import CloneSession, MulticastGroup, Replica, Replicas
from p4switch.runtime.state import DROP_PORT, Drop, Expired, State, ValueSet
from p4switch.runtime.table import Change, Entry, Table

__all__ = [
    "DROP_PORT",
    "ActionCall",
    "ActionProfile",
    "ActionSet",
    "Change",
    "CloneSession",
    "Colour",
    "Count",
    "CounterArray",
    "Digest",
    "DigestQueue",
    "Drop",
    "Entry",
    "EntryAction",
    "Expired",
    "FieldMatch",
    "Group",
    "GroupMember",
    "GroupRef",
    "Match",
    "MemberRef",
    "Meter",
    "MeterArray",
    "MeterConfig",
    "MulticastGroup",
    "RegisterArray",
    "Replica",
    "Replicas",
    "State",
    "Table",
    "ValueSet",
    "WeightedAction",
]
