"""`Parsed`: what a translator has to know of an IP packet, IPv4 or IPv6, whole or the beginning that errors quote."""

from __future__ import annotations

from dataclasses import dataclass

from middleboxes.nat64.errors import Untranslatable
from splitmerge.flowkey import ICMP, ICMPV6, TCP, UDP

_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
_MOST_EXTENSIONS = 8
_LOOSE_ROUTE, _STRICT_ROUTE, _NOP, _END = 131, 137, 1, 0
ECHO = {ICMP: (8, 0), ICMPV6: (128, 129)}
"""Types of echo request and reply."""
ERRORS = {ICMP: (3, 11, 12), ICMPV6: (1, 2, 3, 4)}
"""Types of the errors that are translated (RFC 7915 §4.2 and §5.2)."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """Which part of a datagram: identification, offset in units of 8 bytes, whether more follow."""

    identification: int
    offset: int
    more: bool


@dataclass(frozen=True, slots=True)
class Parsed:
    """One packet. ``payload`` begins with the transport header, unless it is a later fragment."""

    raw: bytes
    """The IP packet, without padding behind it."""
    version: int
    traffic_class: int
    hops: int
    """TTL or hop limit."""
    source: bytes
    destination: bytes
    protocol: int
    payload: bytes
    length: int
    """Bytes of the payload as the header says: more than are here if an ICMP error has cut it."""
    fragment: Fragment | None
    dont_fragment: bool
    """IPv4's flag; always true of IPv6."""
    routed_at: int = 0
    """Where an unfinished source route is (pointer for the ICMP error); 0: none."""

    @property
    def later(self) -> bool:
        """Whether it is a fragment without the transport header."""
        return self.fragment is not None and self.fragment.offset > 0

    @property
    def ports(self) -> tuple[int, int] | None:
        """Source and destination port; an ICMP echo's identifier twice; None if it has none, or they are not here."""
        if self.later or len(self.payload) < 8:
            return None
        if self.protocol in (TCP, UDP):
            return int.from_bytes(self.payload[:2], "big"), int.from_bytes(self.payload[2:4], "big")
        if self.payload[0] in ECHO.get(self.protocol, ()):
            identifier = int.from_bytes(self.payload[4:6], "big")
            return identifier, identifier
        return None

    @property
    def is_error(self) -> bool:
        """Whether it is an ICMP error that can be translated."""
        return (
            self.fragment is None and len(self.payload) >= 8 and self.payload[0] in ERRORS.get(self.protocol, ())
        )  # fmt: skip

    @property
    def is_ipv6(self) -> bool:
        """Whether it is IPv6."""
        return self.version == 6


def parse(data: bytes, *, cut: bool = False) -> Parsed:
    """The packet that these bytes begin with. ``cut``: its end may be missing.

    :raises Untranslatable: ``malformed``: cut short, or its lengths are a lie.
    """
    if data and data[0] >> 4 == 6:
        return _parse6(data, cut)
    if data and data[0] >> 4 == 4:
        return _parse4(data, cut)
    raise Untranslatable("malformed")


def _parse4(data: bytes, cut: bool) -> Parsed:
    header = (data[0] & 15) * 4
    total = int.from_bytes(data[2:4], "big")
    if header < 20 or len(data) < header or total < header or (total > len(data) and not cut):
        raise Untranslatable("malformed")
    flags = int.from_bytes(data[6:8], "big")
    fragment = None
    if flags & 0x3FFF:
        fragment = Fragment(int.from_bytes(data[4:6], "big"), flags & 0x1FFF, bool(flags & 0x2000))
    raw = data[:total]
    return Parsed(
        raw=raw, version=4, traffic_class=data[1], hops=data[8], source=data[12:16], destination=data[16:20],
        protocol=data[9], payload=raw[header:], length=total - header, fragment=fragment,
        dont_fragment=bool(flags & 0x4000), routed_at=_source_route(data, header),
    )  # fmt: skip


def _source_route(data: bytes, header: int) -> int:
    """Where a source route option with addresses left begins; 0: there is none."""
    at = 20
    while at + 2 < header and data[at] != _END:
        if data[at] == _NOP:
            at += 1
            continue
        if data[at] in (_LOOSE_ROUTE, _STRICT_ROUTE) and data[at + 2] <= data[at + 1]:
            return at
        at += max(2, data[at + 1])
    return 0


def _parse6(data: bytes, cut: bool) -> Parsed:
    if len(data) < 40:
        raise Untranslatable("malformed")
    end = 40 + int.from_bytes(data[4:6], "big")
    if end > len(data) and not cut:
        raise Untranslatable("malformed")
    raw = data[:end]
    protocol, at, fragment, routed_at = raw[6], 40, None, 0
    for _ in range(_MOST_EXTENSIONS):
        if protocol not in (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION):
            break
        if at + 8 > len(raw):
            raise Untranslatable("malformed")
        if fragment is not None:  # RFC 7915 §5.1.1: a header behind the fragment header that is not a transport's
            raise Untranslatable("extension_header")
        if protocol == _ROUTING and raw[at + 3] and not routed_at:
            routed_at = at + 3
        if protocol == _FRAGMENT:
            field = int.from_bytes(raw[at + 2 : at + 4], "big")
            fragment = Fragment(int.from_bytes(raw[at + 4 : at + 8], "big"), field >> 3, bool(field & 1))
        step = 8 if protocol == _FRAGMENT else 8 + raw[at + 1] * 8
        protocol, at = raw[at], at + step
    if at > len(raw):
        raise Untranslatable("malformed")
    first = int.from_bytes(data[:4], "big")
    return Parsed(
        raw=raw, version=6, traffic_class=(first >> 20) & 0xFF, hops=data[7], source=data[8:24],
        destination=data[24:40], protocol=protocol, payload=raw[at:], length=end - at, fragment=fragment,
        dont_fragment=True, routed_at=routed_at,
    )  # fmt: skip
