"""What a new controller is told of its predecessor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from p4rt_controller.scopes import check_bucket, checked_replica
from p4rt_controller.tables import NOBODY, OverTrunk, Steer, Table, TableState
from splitmerge.flowkey import FlowKey


@dataclass(frozen=True, slots=True)
class RestoredState:
    """State from the journal. Where a mapping is None, what the switch holds is taken over as it is."""

    replicas: Mapping[int, int] = field(default_factory=dict)
    """Port of each replica."""
    beyond: Mapping[int, int] = field(default_factory=dict)
    """Trunk port that leads to each replica behind another switch."""
    buckets: Mapping[int, int | None] | None = None
    """Owner of each bucket; None as an owner: the controller is asked."""
    flows: Mapping[bytes, int] | None = None
    """Replica of each flow with an entry of its own; suspended ones follow by `Controller.suspend`."""
    second: frozenset[bytes] = frozenset()
    """Those of ``flows`` that are second keys of other flows: no part of moves of their buckets."""
    newest_epoch: int = 0
    """Moves up to this epoch may have been begun before: their targets are asked what they have."""

    def fill(self, desired: TableState) -> frozenset[Table]:
        """Make this the desired state; the tables to take over from the switch. :raises BadInput: for wrong values."""
        for replica, port in self.replicas.items():
            checked_replica(desired, replica, port)
            desired.put(Table.REPLICA, replica, port)
            desired.put(Table.PORT_ROLE, port, replica)
        for replica, port in self.beyond.items():
            desired.put(Table.REPLICA, replica, OverTrunk(port))
        for bucket, owner in (self.buckets or {}).items():
            check_bucket(bucket)
            desired.put(Table.BUCKET, bucket, NOBODY if owner is None else Steer(owner))
        for key, replica in (self.flows or {}).items():
            desired.put(Table.FLOW, FlowKey.from_wire(key), Steer(replica))
        missing = {Table.BUCKET: self.buckets, Table.FLOW: self.flows}
        return frozenset(table for table, given in missing.items() if given is None)
