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
    aliases = tuple(map(FlowKey.from_wire, record.aliases))
    flow = Flow(FlowKey.from_wire(record.key), None, aliases, epoch, record.group)
    flow.take_waiting(record.pending, record.kept, now)
    for key in flow.keys:
        if key in table.active:
            raise StateError(f"{key}: a flow with this key is active at the target")
    flow.state = types.decode(record.kind, record.state)
    for timer in record.timers:
        if timer.name not in timer_names:
            raise StateError(f"{flow.key}: timer {timer.name!r} has no callback here: call on_timer in setup")
        add_timer(flow, timer.name, now + timer.remaining)
    return flow
