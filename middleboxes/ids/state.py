"""What the IDS keeps, by kind (§2.2): partitioned (`TcpFlow`, `UdpFlow`, `PacketCount`) and coherent (`Statistics`).

The other coherent object is `tally.Tally`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from middleboxes.ids.analysers import Analysis
from middleboxes.ids.tcp import Connection, Half

UNSETTLED = -1
"""Nothing was said yet, or nothing that tells who the client is."""


class PacketCount(msgspec.Struct):
    """Partitioned: a flow that is only counted (UDP that nobody reads, and fragments)."""

    packets: int = 0
    bytes: int = 0
    checked: int = 0
    """``packets`` when the idle timer last looked: if it has not grown since, the flow is idle."""


class Watched(PacketCount):
    """Partitioned: a flow that an analyser may read."""

    client: int = -1
    """Who asks: 0 the key's low endpoint, 1 the high one, -1 not known (picked up mid-stream)."""
    analysis: Analysis | None = None
    """What the analyser knows; its type says which analyser it is."""
    signs: dict[str, int] = {}
    """How often each kind of sign was seen; ``sqli`` is the paper's num_sqli (§4.1)."""
    alerted: set[str] = set()
    """Kinds that an alert was written for."""
    asked: bool = False
    """A timer is set after which the other replicas' counts for this client are looked at."""


class UdpFlow(Watched):
    """Partitioned: a UDP flow that is read."""


class TcpFlow(Watched):
    """Partitioned: one connection, with everything that its analysis needs to go on elsewhere."""

    connection: Connection = Connection.NEW
    low: Half = msgspec.field(default_factory=Half)
    high: Half = msgspec.field(default_factory=Half)
    reading: int = UNSETTLED
    """Whose bytes are read, as `analysis.Side`'s bits."""


class Statistics(msgspec.Struct):
    """Coherent: counts over all flows, added up over all replicas by `combine`."""

    packets: int = 0
    bytes: int = 0
    flows: int = 0
    """Flows that began."""
    expired: int = 0
    """Flows that ended: closed, reset or idle."""
    messages: dict[str, int] = {}
    """Requests, commands and messages read, by analyser."""
    signs: dict[str, int] = {}
    """Suspicious things seen, by kind."""
    alerts: int = 0
    alerts_lost: int = 0
    """Alerts that could not be written (they are tried again)."""
    malformed: int = 0
    """Messages that were no such thing."""
    overflows: int = 0
    """Messages too long to be inspected whole."""
    gaps: int = 0
    gap_bytes: int = 0
    unread: int = 0
    """Packets to be read without a readable TCP or UDP header (fragments too): forwarded, not inspected."""
    migrated: int = 0
    """Packets dropped because their flow lives elsewhere now."""

    @property
    def requests(self) -> int:
        """HTTP requests."""
        return self.messages.get("http", 0)

    @property
    def injections(self) -> int:
        """HTTP requests with an injection."""
        return self.signs.get("sqli", 0)


def combine(elements: Sequence[Statistics]) -> Statistics:
    """The sum, field by field: order does not matter, and `Statistics()` adds nothing."""
    all_of = [Statistics(), *elements]
    return Statistics(*(_sum([getattr(each, name) for each in all_of]) for name in Statistics.__struct_fields__))


def _sum(values: list[Any]) -> Any:
    if not isinstance(values[0], dict):
        return sum(values)
    total: dict[str, int] = {}
    for counts in values:
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total
