"""Checks at the border: epochs, scopes, replicas, buckets."""

from __future__ import annotations

from collections.abc import Iterable

from p4rt_controller.errors import UnknownReplica
from p4rt_controller.tables import CONTROLLER, NOBODY, TRUNK, Steer, Table, TableState
from p4rt_controller.writer import Row
from splitmerge.errors import BadInput
from splitmerge.flowkey import BUCKETS, FlowKey
from splitmerge.messages import Scope

FIRST_SWITCH = 0xF000
"""Numbers from here on name switches."""
_REPLICAS = range(1, FIRST_SWITCH)
_PORTS = range(1, 510)


def checked_scope(epoch: int, scope: Scope) -> tuple[set[FlowKey], set[int]]:
    """Keys and buckets of a scope. :raises BadInput: for an epoch, key or bucket out of range."""
    if not 0 < epoch <= 0xFFFFFFFF:
        raise BadInput("epoch", f"{epoch}", "1..4294967295")
    for bucket in scope.buckets:
        check_bucket(bucket)
    return {FlowKey.from_wire(key) for key in scope.keys}, set(scope.buckets)


def check_bucket(bucket: int) -> None:
    """:raises BadInput: unless it is a bucket's number."""
    if not 0 <= bucket < BUCKETS:
        raise BadInput(f"bucket {bucket}", "out of range", f"0..{BUCKETS - 1}")


def checked_replica(state: TableState, replica: int, port: int) -> None:
    """:raises BadInput: if this replica cannot be registered at this port."""
    if replica not in _REPLICAS:
        raise BadInput(f"replica {replica}", "out of range", f"1..{FIRST_SWITCH - 1}")
    if port not in _PORTS:
        raise BadInput(f"replica {replica}", f"port {port} is out of range", "1..509")
    role = state.get(Table.PORT_ROLE, port)
    if role is not None and role != replica:
        users = {0: "hosts", CONTROLLER: "the controller", TRUNK: "a trunk"}
        user = users.get(role if isinstance(role, int) else 0, f"replica {role!r}")
        raise BadInput(f"replica {replica}", f"port {port} belongs to {user}", "unregister that one first")
    other = state.port_of(replica)
    if other is not None and other != port:
        raise BadInput(f"replica {replica}", f"is registered at port {other}", "unregister it first")


def owner_value(state: TableState, bucket: int, owner: int | None) -> Steer:
    """The value of a bucket's row. :raises BadInput, UnknownReplica: for a bucket or owner that there is not."""
    check_bucket(bucket)
    if owner is None:
        return NOBODY
    if state.get(Table.REPLICA, owner) is None:
        raise UnknownReplica(owner)
    return Steer(owner)


def steer(desired: TableState, keys: Iterable[FlowKey], buckets: Iterable[int], value: Steer) -> list[Row]:
    """Change the desired rows of a move's scope; the rows."""
    rows: list[Row] = []
    for key in keys:
        if desired.flow(key) is not None or desired.bucket(key.bucket) != value:
            desired.put(Table.FLOW, key, value)
            rows.append((Table.FLOW, key))
    for bucket in buckets:
        if desired.bucket(bucket) != NOBODY:
            desired.put(Table.BUCKET, bucket, value)
            rows.append((Table.BUCKET, bucket))
    return rows
