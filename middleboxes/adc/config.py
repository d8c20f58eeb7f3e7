"""Configuration of the load balancer: read before the snapshot and never changed (internal state)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from guestlib import configure
from middleboxes.config import address_of
from splitmerge.colocation import PortRange
from splitmerge.errors import BadInput
from splitmerge.flowkey import TCP, UDP

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=864_000)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
_WHERE = "middlebox adc"


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One hidden server."""

    address: str
    port: _Port
    weight: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    """Its share of the connections, beside the others' weights."""

    @property
    def name(self) -> str:
        """``address:port``, as in statistics."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Health(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How servers are looked after."""

    kind: Literal["tcp", "http", "none"] = "tcp"
    """``tcp``: the port accepts; ``http``: a GET is answered with less than 400; ``none``: it is taken to be up."""
    path: str = "/"
    """For ``http``."""
    interval: _Seconds = 1.0
    """Between two checks of one server; also how long one may take."""
    falls: Annotated[int, msgspec.Meta(ge=1, le=100)] = 2
    """Failures in a row after which it is down."""
    rises: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    """Successes in a row after which it is up again."""


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A virtual address and port, and who serves it."""

    address: str
    port: _Port
    servers: Annotated[tuple[Server, ...], msgspec.Meta(min_length=1, max_length=1024)]
    protocol: Literal["tcp", "udp"] = "tcp"
    policy: Literal["round-robin", "least-connections"] = "round-robin"
    source: Literal["own", "client"] = "own"
    """What servers see: an address of the balancer's (needs no entry in the switch), or the client's."""
    health: Health = Health()

    @property
    def number(self) -> int:
        """IP protocol number."""
        return TCP if self.protocol == "tcp" else UDP


class AdcConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that an operator may set. Times in seconds."""

    services: Annotated[tuple[Service, ...], msgspec.Meta(min_length=1)]
    own: tuple[str, ...] = ("10.0.2.100", "fd00:2::100")
    """Addresses that servers see, of connections with source ``own`` and of health checks."""
    first_port: Annotated[int, msgspec.Meta(ge=1024, le=65_535)] = 1024
    """Ports of ``own`` to choose from; those below 1024 are the health checks'."""
    last_port: Annotated[int, msgspec.Meta(ge=1024, le=65_535)] = 65_535
    tcp_idle: _Seconds = 300.0
    """Without a packet, after which an established connection is forgotten."""
    tcp_opening: _Seconds = 10.0
    """The same while the handshake is not complete."""
    tcp_closed: _Seconds = 5.0
    """The same after both FINs, or a RST."""
    udp_idle: _Seconds = 30.0
    refresh: _Seconds = 0.2
    """How old other replicas' numbers of connections may be, for ``least-connections``."""

    @classmethod
    def of(cls, values: Mapping[str, object]) -> AdcConfig:
        """The configuration that these fields make. :raises BadInput: naming what is wrong."""
        config = configure(cls, values, _WHERE)
        if config.first_port > config.last_port:
            raise BadInput(f"{_WHERE}: first_port", f"{config.first_port} is above {config.last_port}", "swap them")
        own = {len(address) for address in config.addresses()}
        seen = set()
        for service in config.services:
            where = f"{_WHERE}: service {service.address}:{service.port}"
            place = (address_of(service.address, where), service.number, service.port)
            if place in seen:
                raise BadInput(where, "given twice", "one service for each address, port and protocol")
            seen.add(place)
            if len(place[0]) not in own:
                raise BadInput(where, "own has no address of this version", "add one")
            if service.protocol == "udp" and service.health.kind == "http":
                raise BadInput(where, "udp with http health checks", "choose tcp or none")
            _check_servers(service, len(place[0]), where)
        return config

    @property
    def ports(self) -> PortRange:
        """Ports that may be chosen for connections."""
        return PortRange(self.first_port, self.last_port)

    def addresses(self) -> tuple[bytes, ...]:
        """The balancer's own addresses. :raises BadInput:"""
        return tuple(address_of(each, f"{_WHERE}: own") for each in self.own)

    def answers(self) -> tuple[bytes, ...]:
        """Addresses that clients and servers send to. :raises BadInput:"""
        services = (address_of(each.address, f"{_WHERE}: service {each.address}") for each in self.services)
        return (*services, *(address for address in self.addresses() if len(address) in self._versions()))

    def _versions(self) -> set[int]:
        """Bytes of services' addresses: the own ones of another version are not used."""
        return {len(address_of(each.address, _WHERE)) for each in self.services}


def _check_servers(service: Service, width: int, where: str) -> None:
    names = [server.name for server in service.servers]
    if len(set(names)) < len(names):
        raise BadInput(where, "a server is given twice", "give it once, with a weight")
    for server in service.servers:
        if len(address_of(server.address, where)) != width:
            raise BadInput(where, f"server {server.name} has another version of IP", "one version a service")
