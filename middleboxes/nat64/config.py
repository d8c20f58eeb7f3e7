"""Configuration of NAT64: read before the snapshot and never changed (internal state)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from guestlib import configure
from middleboxes.config import address_of
from middleboxes.nat64.icmp import Limits
from middleboxes.nat64.prefix import Prefix
from splitmerge.colocation import PortRange
from splitmerge.errors import BadInput

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=864_000)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]


class Nat64Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that an operator may set. Times in seconds; the defaults are those of RFC 6146 §4."""

    prefix: str = "64:ff9b::/96"
    """Where IPv4 addresses appear in IPv6 (RFC 6052)."""
    pool: tuple[str, ...] = ("10.0.2.100",)
    """IPv4 addresses that IPv6 hosts appear under."""
    own: str = "fd00:1::1"
    """IPv6 address that ICMPv6 errors come from. ICMP errors come from the pool's first one."""
    first_port: _Port = 1024
    last_port: _Port = 65_535
    mapping: Literal["endpoint-independent", "endpoint-dependent"] = "endpoint-independent"
    """Whether a host's port has one external port for every remote (RFC 6146), or one that needs no switch entry."""
    filtering: Literal["address-and-port-dependent", "address-dependent", "endpoint-independent"] = (
        "address-and-port-dependent"
    )
    """Who may send to an external port: remotes that were sent to, from the same port or from any, or everybody."""
    secret: str = ""
    """What external ports are derived from, with the host's: the same at all replicas, hard to guess outside."""
    mtu4: Annotated[int, msgspec.Meta(ge=1280, le=65_535)] = 1500
    mtu6: Annotated[int, msgspec.Meta(ge=1280, le=65_535)] = 1500
    tcp_established: _Seconds = 7440.0
    tcp_transitory: _Seconds = 240.0
    udp: _Seconds = 300.0
    icmp: _Seconds = 60.0
    fragments: _Seconds = 2.0
    """For which fragments wait for the first one, which has the ports."""
    incoming_syn: _Seconds = 6.0
    """For which a TCP connection from outside waits for the host to begin it too (RFC 5382 REQ-4: at least 6)."""
    held_syns: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 256
    """Most that a replica lets wait in that time. 0: none, they are dropped silently."""
    errors_per_second: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 100
    """Most ICMP errors of its own (RFC 4443 §2.4)."""

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Nat64Config:
        """The configuration that these fields make. :raises BadInput: naming what is wrong."""
        config = configure(cls, values, "middlebox nat64")
        if config.first_port > config.last_port:
            problem = f"{config.first_port} is above {config.last_port}"
            raise BadInput("middlebox nat64: first_port", problem, "swap them")
        if config.mapping == "endpoint-dependent" and config.filtering != "address-and-port-dependent":
            remedy = "set mapping to endpoint-independent"
            raise BadInput("middlebox nat64: filtering", "others' packets need one port for everybody", remedy)
        if not config.addresses():
            raise BadInput("middlebox nat64: pool", "no address", "give at least one IPv4 address")
        config.pref64()
        config.own_address()
        return config

    def pref64(self) -> Prefix:
        """The prefix. :raises BadInput:"""
        return Prefix.parse(self.prefix, "middlebox nat64: prefix")

    def addresses(self) -> tuple[bytes, ...]:
        """The pool. :raises BadInput:"""
        found = tuple(address_of(each, "middlebox nat64: pool") for each in self.pool)
        if any(len(each) != 4 for each in found):
            raise BadInput("middlebox nat64: pool", "an IPv6 address", "write IPv4 addresses like 10.0.2.100")
        return found

    def own_address(self) -> bytes:
        """Where ICMPv6 errors come from. :raises BadInput:"""
        found = address_of(self.own, "middlebox nat64: own")
        if len(found) != 16:
            raise BadInput("middlebox nat64: own", "an IPv4 address", "write an IPv6 address like fd00:1::1")
        return found

    @property
    def ports(self) -> PortRange:
        """Ports and identifiers that may be chosen."""
        return PortRange(self.first_port, self.last_port)

    @property
    def limits(self) -> Limits:
        """The switch behind the replicas is the hop (`p4src/include/control/route.p4`), so the translator is none."""
        return Limits(self.mtu4, self.mtu6, hops=0)
