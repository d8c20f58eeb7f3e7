"""The tables as values: what they should hold, what they hold, and the updates that lead from one to the other.

A row is (table, key, value). Keys and values are plain, hashable and compare by content:

    table       key                     value                                       P4 tables
    REPLICA     replica                 port, or OverTrunk                          replica
                number of a switch      OverTrunk, or HERE: its own number          replica
    ROUTE       IPv4Network/IPv6Network Forward                                     route_v4, route_v6
    ADDRESS     IPv4Address/IPv6Address MAC, 6 bytes                                arp, neighbor
    FLOW        FlowKey                 Steer                                       flow_v4, flow_v6
    BUCKET      bucket                  Steer, or NOBODY: ask the controller        bucket
    PORT_ROLE   port                    replica, 0: a host, CONTROLLER or TRUNK     port_role

The order is the order of installation. Port roles come last, so a switch that lost its tables forwards nothing until
all the others are right; flows come before buckets, so no packet of a known flow falls through to a bucket that
asks the controller. Deletions go in the opposite order.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from splitmerge.flowkey import FlowKey


class Table(enum.StrEnum):
    """The kinds of rows, in order of installation."""

    REPLICA = "replica"
    ROUTE = "route"
    ADDRESS = "address"
    FLOW = "flow"
    BUCKET = "bucket"
    PORT_ROLE = "port_role"


class Steer(NamedTuple):
    """Where packets of a flow or bucket go: to ``replica``, or, while ``suspended``, to the controller."""

    replica: int
    suspended: bool = False


NOBODY = Steer(0)
"""Value of a bucket without an owner: the controller assigns every new flow of it."""


CONTROLLER = -1
"""Value of a port's row: the punt port, through which this controller sends packet-outs."""

TRUNK = -2
"""Value of a port's row: the port leads to another switch."""


class OverTrunk(NamedTuple):
    """Behind another switch, which this trunk port leads to."""

    port: int


HERE = OverTrunk(0)
"""Value of the switch's own number: such frames go to its controller."""


class Forward(NamedTuple):
    """Leave through ``port`` with these MAC addresses, 6 bytes each."""

    port: int
    src_mac: bytes
    dst_mac: bytes


Key = (
    int
    | FlowKey
    | ipaddress.IPv4Network
    | ipaddress.IPv6Network
    | ipaddress.IPv4Address
    | ipaddress.IPv6Address
)  # fmt: skip
Value = int | bytes | Steer | OverTrunk | Forward


class Op(enum.IntEnum):
    """What an update does."""

    INSERT = 1
    MODIFY = 2
    DELETE = 3


class Update(NamedTuple):
    """One table update. ``value`` is None for a deletion."""

    op: Op
    table: Table
    key: Key
    value: Value | None

    def __str__(self) -> str:
        return f"{self.op.name.lower()} {self.table.value}[{self.key}]"


class TableState:
    """The rows of all tables. Flow rows are also indexed by bucket."""

    def __init__(self) -> None:
        self._rows: dict[Table, dict[Key, Value]] = {table: {} for table in Table}
        self._flows_by_bucket: dict[int, set[FlowKey]] = {}

    def get(self, table: Table, key: Key) -> Value | None:
        """The row's value, None if there is no such row."""
        return self._rows[table].get(key)

    def put(self, table: Table, key: Key, value: Value) -> None:
        """Add or replace a row."""
        rows = self._rows[table]
        if isinstance(key, FlowKey) and key not in rows:
            self._flows_by_bucket.setdefault(key.bucket, set()).add(key)
        rows[key] = value

    def remove(self, table: Table, key: Key) -> None:
        """Remove a row if it is there."""
        gone = self._rows[table].pop(key, None)
        if gone is not None and isinstance(key, FlowKey):
            self._flows_by_bucket[key.bucket].discard(key)

    def keys(self, table: Table) -> list[Key]:
        """The keys of a table as they are now, in order of insertion."""
        return list(self._rows[table])

    def items(self, table: Table) -> Iterator[tuple[Key, Value]]:
        """The rows of a table; do not change it meanwhile."""
        return iter(self._rows[table].items())

    def count(self, table: Table) -> int:
        """Number of rows."""
        return len(self._rows[table])

    def replace(self, table: Table, other: TableState) -> None:
        """Make this table's rows those of ``other``."""
        for key in self.keys(table):
            self.remove(table, key)
        for key, value in other.items(table):
            self.put(table, key, value)

    def flow(self, key: FlowKey) -> Steer | None:
        """Where this flow's own entry steers it."""
        value = self._rows[Table.FLOW].get(key)
        return value if isinstance(value, Steer) else None

    def bucket(self, bucket: int) -> Steer | None:
        """Where this bucket is steered."""
        value = self._rows[Table.BUCKET].get(bucket)
        return value if isinstance(value, Steer) else None

    def port_of(self, replica: int) -> int | None:
        """The port of a replica that is behind this switch."""
        value = self._rows[Table.REPLICA].get(replica)
        return value if isinstance(value, int) else None

    def flows_of_bucket(self, bucket: int) -> frozenset[FlowKey]:
        """Keys with an entry of their own in this bucket."""
        return frozenset(self._flows_by_bucket.get(bucket, ()))

    def apply(self, updates: Iterable[Update]) -> None:
        """Carry updates out."""
        for op, table, key, value in updates:
            if op is Op.DELETE or value is None:
                self.remove(table, key)
            else:
                self.put(table, key, value)

    def __eq__(self, other: object) -> bool:
        return self._rows == other._rows if isinstance(other, TableState) else NotImplemented

    def validate(self) -> None:
        """Check the invariants of this class; for tests."""
        indexed = {key for keys in self._flows_by_bucket.values() for key in keys}
        assert indexed == set(self._rows[Table.FLOW])
        assert all(key.bucket == bucket for bucket, keys in self._flows_by_bucket.items() for key in keys)


def update_for(table: Table, key: Key, desired: Value | None, actual: Value | None) -> Update | None:
    """The update that turns the row ``actual`` into ``desired``; None stands for no row."""
    if desired == actual:
        return None
    if desired is None:
        return Update(Op.DELETE, table, key, None)
    return Update(Op.INSERT if actual is None else Op.MODIFY, table, key, desired)


def diff(desired: TableState, actual: TableState) -> list[Update]:
    """The updates that turn ``actual`` into ``desired``, in the order that the module's head explains."""
    updates: list[Update] = []
    for table in Table:
        for key, value in desired.items(table):
            update = update_for(table, key, value, actual.get(table, key))
            if update is not None:
                updates.append(update)
    for table in reversed(Table):
        updates.extend(
            Update(Op.DELETE, table, key, None) for key, _ in actual.items(table) if desired.get(table, key) is None
        )
    return updates


def repaired(update: Update, code: str) -> Update | None:
    """What to try after the switch refused an update with this status code, None if nothing is left to do.

    The switch is right about what it holds: inserting what is there becomes a modification, modifying what is
    missing an insertion, deleting what is missing is done already. :raises KeyError: if the code says none of these.
    """
    other = _REPAIR[update.op, code]
    return None if other is Op.DELETE else update._replace(op=other)


_REPAIR = {
    (Op.INSERT, "ALREADY_EXISTS"): Op.MODIFY,
    (Op.MODIFY, "NOT_FOUND"): Op.INSERT,
    (Op.DELETE, "NOT_FOUND"): Op.DELETE,
}
