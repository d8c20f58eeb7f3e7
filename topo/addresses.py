"""What MAC and IP addresses of a topology may be: hosts would not answer at others, or two at one."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import TypeAlias

from splitmerge.errors import BadInput

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
"""RFC 6890, section 2.2.2: nobody's."""


def check_mac(place: str, mac: str) -> None:
    """:raises BadInput: unless one interface can have it (IEEE 802: the first byte's lowest bit means a group)."""
    if not _MAC.fullmatch(mac):
        raise BadInput(place, f"mac {mac!r}", "six lower-case hex pairs with colons")
    if int(mac[:2], 16) & 1:
        raise BadInput(place, f"mac {mac} is a group's (multicast)", "as 02:00:00:00:00:01: an even first pair")
    if mac == "00:00:00:00:00:00":
        raise BadInput(place, f"mac {mac} is nobody's", "as 02:00:00:00:00:01")


def interface_of(place: str, text: str) -> Interface:
    """An address with prefix length. :raises BadInput: unless a host in that subnet can have it."""
    remedy = "write addresses like 10.0.1.2/24"
    _check_zone(place, text)
    if "/" not in text:
        raise BadInput(place, f"address {text!r} has no prefix length", remedy)
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError as error:
        raise BadInput(place, str(error), remedy) from None
    _check_usable(place, interface.ip, (interface.network,))
    if not interface.network.prefixlen:
        raise BadInput(place, f"address {text!r} has everybody in its subnet: nothing would go to the gateway", remedy)
    if interface.network.network_address in THIS_NETWORK:  # Linux makes no route to such a subnet
        raise BadInput(place, f"the subnet of {text} begins inside {THIS_NETWORK}, which nothing leads to", remedy)
    return interface


def address_of(place: str, text: str, networks: Iterable[Network], remedy: str) -> IP:
    """An address. :raises BadInput: unless a host in these subnets, or outside of them, can have it."""
    _check_zone(place, text)
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise BadInput(place, str(error), remedy) from None
    _check_usable(place, address, networks)
    return address


def _check_zone(place: str, text: str) -> None:
    if "%" in text:
        raise BadInput(place, f"{text} has a zone", "leave %… out: packets have none")


def _check_usable(place: str, address: IP, networks: Iterable[Network]) -> None:
    problem = ""
    for kind in ("multicast", "unspecified", "loopback", "link_local"):
        if getattr(address, f"is_{kind}"):
            problem = f"{address} is a{'n' * (kind == 'unspecified')} {kind.replace('_', '-')} address"
    for network in networks:
        whole = network.prefixlen >= network.max_prefixlen - 1  # RFC 3021, RFC 6164: both addresses are hosts'
        if whole or address.version != network.version:
            continue
        if address == network.network_address:
            problem = f"{address} is the subnet {network} itself"
        elif address.version == 4 and address == network.broadcast_address:
            problem = f"{address} is the broadcast address of {network}"
    if problem:
        raise BadInput(place, problem, "choose an address that a host can have")
