"""Several switches: the trunks between them, and which one leads where: shortest ways, without I/O.

The ways to one switch are a tree: `Graph` walks outwards from it, breadth first, and every other switch's next hop is
the one that it was met from. So they are shortest and free of loops, whatever rings the trunks make. Of equally short
ways the one over the switch named first is taken, then the one over the smaller port: every process computes the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from splitmerge.errors import BadInput

PORTS = 512
"""Ports that one switch can have: 9 bits."""
SWITCHES_MOST = 128


class Trunk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A link between two switches: name and port at each end."""

    a: str
    a_port: int
    b: str
    b_port: int

    def __str__(self) -> str:
        return f"{self.a}:{self.a_port} – {self.b}:{self.b_port}"

    def ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Both ends."""
        return (self.a, self.a_port), (self.b, self.b_port)


def place_of(position: int, port: int) -> int:
    """One number for this port of the switch at this position (from 0).

    Whoever keeps replicas and ports (journal, slots) need not know of switches; with one switch a place is its port.
    """
    return position * PORTS + port


def split_place(place: int) -> tuple[int, int]:
    """Position of the switch, and port."""
    return divmod(place, PORTS)


class Graph:
    """Switches and trunks. :raises BadInput: for a trunk that cannot be, and switches that no way joins."""

    def __init__(self, switches: Sequence[str], trunks: Iterable[Trunk]) -> None:
        self.switches = tuple(switches)
        self.trunks = tuple(trunks)
        self._check_names()
        self._neighbours: dict[str, list[tuple[str, int]]] = {name: [] for name in self.switches}
        """Of each switch: neighbour, and the neighbour's port towards it, in the order that ties are broken in."""
        for trunk in self.trunks:
            self._check_trunk(trunk)
            self._neighbours[trunk.a].append((trunk.b, trunk.b_port))
            self._neighbours[trunk.b].append((trunk.a, trunk.a_port))
        for near in self._neighbours.values():
            near.sort(key=lambda end: (self.switches.index(end[0]), end[1]))
        self._ways = {name: self._tree(name) for name in self.switches}

    def _check_names(self) -> None:
        if not 1 <= len(self.switches) <= SWITCHES_MOST:
            raise BadInput("switches", f"{len(self.switches)} of them", f"1 to {SWITCHES_MOST}")
        if len(set(self.switches)) != len(self.switches):
            raise BadInput("switches", "two have one name", "give each its own")
        used: set[tuple[str, int]] = set()
        for trunk in self.trunks:
            for end in trunk.ends():
                if end in used:
                    raise BadInput(f"trunk {trunk}", f"port {end[1]} of {end[0]} has a trunk already", "use another")
                used.add(end)

    def _check_trunk(self, trunk: Trunk) -> None:
        for name, port in trunk.ends():
            if name not in self.switches:
                known = ", ".join(self.switches)
                raise BadInput(f"trunk {trunk}", f"there is no switch {name!r}", f"one of: {known}")
            if not 0 < port < PORTS - 2:
                raise BadInput(f"trunk {trunk}", f"port {port}", f"1 to {PORTS - 3}")
        if trunk.a == trunk.b:
            raise BadInput(f"trunk {trunk}", "leads from a switch to itself", "join two switches")

    def _tree(self, destination: str) -> dict[str, int]:
        """Switch → port of its next hop towards the destination."""
        ports: dict[str, int] = {}
        met, waiting = {destination}, deque([destination])
        while waiting:
            for name, port in self._neighbours[waiting.popleft()]:
                if name not in met:
                    met.add(name)
                    ports[name] = port
                    waiting.append(name)
        missing = [name for name in self.switches if name not in met]
        if missing:
            raise BadInput(f"switch {missing[0]!r}", f"no trunk leads from it to {destination!r}", "add a trunk")
        return ports

    def port(self, source: str, destination: str) -> int:
        """The trunk port of ``source`` through which ``destination``, another switch, is reached."""
        return self._ways[destination][source]

    def way(self, source: str, destination: str) -> list[str]:
        """The switches on the way, both ends included."""
        far_end = {end: other for trunk in self.trunks for end, other in _both_ways(trunk)}
        way = [source]
        while way[-1] != destination:
            way.append(far_end[way[-1], self.port(way[-1], destination)])
        return way


def _both_ways(trunk: Trunk) -> tuple[tuple[tuple[str, int], str], tuple[tuple[str, int], str]]:
    return ((trunk.a, trunk.a_port), trunk.b), ((trunk.b, trunk.b_port), trunk.a)
