"""What the IDS keeps, by kind (§2.2): partitioned (`TcpFlow`, `PacketCount`) and coherent (`Statistics`)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from middleboxes.ids.http import HttpState
from middleboxes.ids.tcp import Connection, Half


class PacketCount(msgspec.Struct):
    """Partitioned: a flow that is only counted (UDP, and fragments)."""

    packets: int = 0
    bytes: int = 0
    checked: int = 0
    """``packets`` when the idle timer last looked: if it has not grown since, the flow is idle."""


class TcpFlow(msgspec.Struct):
    """Partitioned: one connection, with everything that its analysis needs to go on elsewhere."""

    packets: int = 0
    bytes: int = 0
    checked: int = 0
    """As in `PacketCount`."""
    connection: Connection = Connection.NEW
    client: int = -1
    """Who sends the requests: 0 the key's low endpoint, 1 the high one, -1 not known (picked up mid-stream)."""
    low: Half = msgspec.field(default_factory=Half)
    high: Half = msgspec.field(default_factory=Half)
    http: HttpState = msgspec.field(default_factory=HttpState)
    requests: int = 0
    num_sqli: int = 0
    """Requests with an injection (§4.1)."""
    alerted: bool = False


class Statistics(msgspec.Struct):
    """Coherent: counts over all flows, added up over all replicas by `combine`."""

    packets: int = 0
    bytes: int = 0
    flows: int = 0
    """Flows that began."""
    expired: int = 0
    """Flows that ended: closed, reset or idle."""
    requests: int = 0
    injections: int = 0
    """Requests with an injection."""
    alerts: int = 0
    alerts_lost: int = 0
    """Alerts that could not be written (they are tried again)."""
    malformed: int = 0
    overflows: int = 0
    """Requests too long to be inspected whole."""
    gaps: int = 0
    gap_bytes: int = 0
    unread: int = 0
    """TCP packets without a readable TCP header (fragments too): forwarded, not inspected."""
    migrated: int = 0
    """Packets dropped because their flow lives elsewhere now."""


def combine(elements: Sequence[Statistics]) -> Statistics:
    """The sum, field by field: order does not matter, and `Statistics()` adds nothing."""
    return Statistics(*(sum(getattr(each, name) for each in elements) for name in Statistics.__struct_fields__))
