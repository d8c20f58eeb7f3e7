"""The other end of `guestlib.moves.exports`: a flow made of its record, to be kept aside until Commit."""

from __future__ import annotations

from collections.abc import Container

from guestlib.errors import StateError
from guestlib.partitioned.flows import Flow, FlowTable
from guestlib.partitioned.timers import add_timer
from guestlib.state import StateTypes
from splitmerge.flowkey import FlowKey
from splitmerge.messages import FlowRecord


def flow_of(
    record: FlowRecord, epoch: int, table: FlowTable, types: StateTypes, timer_names: Container[str], now: float
) -> Flow:
    """The flow, in no table. :raises StateError: :raises BadInput: if it cannot be taken here, saying why."""
    aliases = tuple(map(FlowKey.from_wire, record.aliases)) if record.aliases else ()
    own = FlowKey.from_wire(record.key)
    for key in (own, *aliases):
        if key in table.active:
            raise StateError(f"{key}: a flow with this key is active at the target")
    flow = Flow(own, types.decode(record.kind, record.state), aliases, epoch, record.group)
    if record.pending or record.kept:
        flow.take_waiting(record.pending, record.kept, now)
    for timer in record.timers:
        if timer.name not in timer_names:
            raise StateError(f"{flow.key}: timer {timer.name!r} has no callback here: call on_timer in setup")
        add_timer(flow, timer.name, now + timer.remaining)
    return flow
