"""Which server gets the next connection: pure functions of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from middleboxes.adc.config import Server


def least_connections(servers: Sequence[Server], connections: Mapping[str, int], turn: int) -> Server:
    """The server with the fewest connections for its weight; of equal ones each in its turn. At least one server."""
    count = len(servers)
    order = (servers[(turn + number) % count] for number in range(count))
    return min(order, key=lambda server: (connections.get(server.name, 0) + 1) / server.weight)


def round_robin(servers: Sequence[Server], turn: int) -> Server:
    """Each in its turn, as often in a row of turns as its weight says. At least one server."""
    place = turn % sum(server.weight for server in servers)
    for server in servers:
        if place < server.weight:
            return server
        place -= server.weight
    raise AssertionError("weights add up")
