"""What the load balancer keeps: connections and health checks (partitioned), loads (coherent)."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from middleboxes.packets import Stage

LOAD = "adc.load"
"""Key of the coherent loads."""


class Connection(msgspec.Struct):
    """A client's connection (or UDP flow) and the server that has it."""

    client: bytes
    client_port: int
    virtual: bytes
    virtual_port: int
    server: bytes
    server_port: int
    source: bytes
    """What the server sees as the other side."""
    source_port: int
    name: str
    """The server, as in `Load`."""
    stage: Stage = msgspec.field(default_factory=Stage)
    answered: bool = False
    """The server has sent something."""
    packets: int = 0
    checked: int = 0
    """``packets`` when the timer looked last."""


class Phase(enum.IntEnum):
    """How far one look at a server is."""

    IDLE = 0
    CONNECTING = 1
    ASKING = 2


class Check(msgspec.Struct):
    """One replica's look after one server: a connection that it opens itself, again and again.

    Another replica that gets it by a move ends it, since it has one of its own.
    """

    service: int
    server: int
    """Indexes in the configuration."""
    port: int
    """Of ours."""
    up: bool = True
    phase: Phase = Phase.IDLE
    sequence: int = 0
    failures: int = 0
    """In a row."""
    successes: int = 0
    """In a row."""


class Load(msgspec.Struct):
    """Of a replica, by server name."""

    open: dict[str, int] = {}
    """Connections begun less connections ended here; over all replicas it is the number that there are."""
    given: dict[str, int] = {}
    """Connections given to it."""
    down: dict[str, int] = {}
    """1 if its checks fail."""


def combine(parts: Sequence[Load]) -> Load:
    """The combiner: sums; ``down`` says how many replicas think so."""
    total = Load({}, {}, {})
    for part in parts:
        for name in ("open", "given", "down"):
            into: dict[str, int] = getattr(total, name)
            for server, count in getattr(part, name).items():
                into[server] = into.get(server, 0) + count
    return total
