"""What several switches are told: each its own options, and the trunks between them.

The port of a replica is a *place* (`splitmerge.trunks.place_of`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from p4rt_controller.options import ControllerOptions
from p4rt_controller.scopes import FIRST_SWITCH
from splitmerge.errors import BadInput
from splitmerge.trunks import Graph, Trunk

_SHARED = ("assignment", "p4info", "p4blob", "marker_deadline", "relay_deadline")
"""Options that must be the same everywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricOptions:
    """Several switches, in order. Each one's ``routes`` name the networks of its own hosts only.

    :raises BadInput: at construction, naming the switch or trunk.
    """

    switches: Mapping[str, ControllerOptions]
    trunks: tuple[Trunk, ...]

    def __post_init__(self) -> None:
        first = next(iter(self.switches.values()), None)
        for name, options in self.switches.items():
            for field in _SHARED:
                if getattr(options, field) != getattr(first, field):
                    raise BadInput(f"switch {name!r}", f"{field} differs from the first switch's", "make them the same")
            self._check_ports(name, options)
        if not any(options.host_ports for options in self.switches.values()):
            raise BadInput("switches", "none has a host port", "hosts come in somewhere")
        addresses = [(options.address, options.device_id) for options in self.switches.values()]
        if len(set(addresses)) != len(addresses):
            raise BadInput("switches", "two have one address and device id", "give each its own")
        punts = [options.punt.interface for options in self.switches.values() if options.punt is not None]
        if len(set(punts)) != len(punts):
            raise BadInput("switches", "two have one punt interface", "give each its own")
        self._check_networks()

    def _check_ports(self, name: str, options: ControllerOptions) -> None:
        trunks = {port for trunk in self.trunks for switch, port in trunk.ends() if switch == name}
        for port in options.host_ports:
            if port in trunks:
                raise BadInput(f"switch {name!r}", f"port {port} is a host's and a trunk's", "use another port")
        for route in options.routes:
            if route.port not in options.host_ports:
                raise BadInput(f"switch {name!r}, route {route.network}", f"port {route.port} is no host's", "the "
                               "routes of a switch are those of its own hosts; the others are computed")  # fmt: skip

    def _check_networks(self) -> None:
        seen: dict[object, str] = {}
        for name, options in self.switches.items():
            for route in options.routes:
                if route.network in seen:
                    where = f"switch {name!r}, route {route.network}"
                    raise BadInput(where, f"is at switch {seen[route.network]!r} too", "a network is behind one switch")
                seen[route.network] = name

    def planned(self) -> dict[str, ControllerOptions]:
        """Every switch's options with what the paths add: trunk ports, ways to other switches and their networks.

        :raises BadInput: if a trunk cannot be, or a switch cannot be reached.
        """
        graph = self.graph()
        return {name: self._plan(graph, name) for name in self.switches}

    def graph(self) -> Graph:
        """The switches and trunks. :raises BadInput: as `Graph`."""
        return Graph(tuple(self.switches), self.trunks)

    def _plan(self, graph: Graph, name: str) -> ControllerOptions:
        options = self.switches[name]
        others = {other: graph.port(name, other) for other in self.switches if other != name}
        routes = [
            dataclasses.replace(route, port=port)
            for other, port in others.items()
            for route in self.switches[other].routes
        ]
        return dataclasses.replace(
            options,
            trunk_ports=tuple(sorted({port for trunk in self.trunks for end, port in trunk.ends() if end == name})),
            number=self.number(name),
            beyond=tuple((self.number(other), port) for other, port in others.items()),
            routes=(*options.routes, *routes),
        )

    def number(self, name: str) -> int:
        """The number that frames for this switch's controller carry."""
        return FIRST_SWITCH + list(self.switches).index(name)
