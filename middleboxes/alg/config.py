"""Configuration of the packet modifier: read before the snapshot and never changed (internal state)."""

from __future__ import annotations

import ipaddress
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
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Forwarded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A port of an external address that leads to a server inside."""

    port: _Port
    to: str
    """The server's address."""
    to_port: _Port
    protocol: Literal["tcp", "udp"] = "tcp"


class AlgConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that an operator may set. Times in seconds; the defaults are those of RFC 4787, 5382 and 5508."""

    inside: tuple[str, ...] = ("10.0.1.0/24", "fd00:1::/64")
    """Networks whose hosts are hidden."""
    external: tuple[str, ...] = ("10.0.2.100", "fd00:2::100")
    """Addresses that they appear under outside. One of a version is used until a bucket has no port left on it."""
    first_port: _Port = 1024
    last_port: _Port = 65_535
    forward: tuple[Forwarded, ...] = ()
    """Ports that lead to servers inside."""
    ftp_ports: tuple[_Port, ...] = (21,)
    """Server ports whose TCP connections are FTP control connections."""
    ftp_data_port: _Port = 20
    """Where servers outside begin active data connections from (RFC 959 §3.2); others are found too, only slower."""
    expect: _Seconds = 60.0
    """For which an announced data connection may come."""
    tcp_idle: _Seconds = 7440.0
    """Without a packet, after which an established connection is forgotten."""
    tcp_opening: _Seconds = 240.0
    """The same while the handshake is not complete."""
    tcp_closed: _Seconds = 10.0
    """The same after both FINs, or a RST."""
    udp_idle: _Seconds = 300.0
    icmp_idle: _Seconds = 60.0

    @classmethod
    def of(cls, values: Mapping[str, object]) -> AlgConfig:
        """The configuration that these fields make. :raises BadInput: naming what is wrong."""
        config = configure(cls, values, "middlebox alg")
        if config.first_port > config.last_port:
            raise BadInput("middlebox alg: first_port", f"{config.first_port} is above {config.last_port}", "swap them")
        networks = config.networks()
        if not networks:
            raise BadInput("middlebox alg: inside", "no network: nobody is hidden", "give at least one")
        for address in config.addresses():
            if any(ipaddress.ip_address(address) in network for network in networks):
                problem = f"{ipaddress.ip_address(address)} is inside"
                raise BadInput("middlebox alg: external", problem, "give addresses outside of the networks inside")
        config.servers()
        return config

    @property
    def ports(self) -> PortRange:
        """Ports and identifiers that may be chosen."""
        return PortRange(self.first_port, self.last_port)

    def networks(self) -> tuple[Network, ...]:
        """The networks inside. :raises BadInput:"""
        try:
            return tuple(ipaddress.ip_network(each) for each in self.inside)
        except ValueError as error:
            raise BadInput("middlebox alg: inside", str(error), "write networks like 10.0.1.0/24") from None

    def addresses(self) -> tuple[bytes, ...]:
        """The external addresses. :raises BadInput:"""
        return tuple(address_of(each, "middlebox alg: external") for each in self.external)

    def servers(self) -> dict[tuple[int, int, int], tuple[bytes, int]]:
        """(address length, protocol, port) → server inside. :raises BadInput: for two of one port."""
        servers: dict[tuple[int, int, int], tuple[bytes, int]] = {}
        for each in self.forward:
            address = address_of(each.to, "middlebox alg: forward")
            if not any(ipaddress.ip_address(address) in network for network in self.networks()):
                problem = f"{each.to} is in none of the networks inside"
                raise BadInput("middlebox alg: forward", problem, "give a server's address inside, or its network")
            place = (len(address), TCP if each.protocol == "tcp" else UDP, each.port)
            if place in servers:
                raise BadInput("middlebox alg: forward", f"{each.protocol} {each.port} twice", "give each port once")
            servers[place] = (address, each.to_port)
        return servers
