"""IP headers and ICMP errors, built whole."""

from __future__ import annotations

import struct

from middleboxes.packets import checksum, transport_checksum
from splitmerge.flowkey import ICMP, ICMPV6

DONT_FRAGMENT, MORE_FRAGMENTS = 0x4000, 0x2000
_HOPS = 64
QUOTED4, _QUOTED6 = 576 - 28, 1280 - 48
"""Bytes that an error may quote (RFC 1812 §4.3.2.3, RFC 4443 §2.4)."""
_FRAGMENT = 44


def ipv4(
    source: bytes, destination: bytes, protocol: int, length: int, *,
    traffic_class: int = 0, hops: int = _HOPS, identification: int = 0, flags: int = 0,
) -> bytes:  # fmt: skip
    """A header without options, for ``length`` bytes behind it. ``flags`` with the fragment offset."""
    head = bytearray(
        struct.pack(
            "!BBHHHBBH", 0x45, traffic_class, 20 + length, identification, flags, hops, protocol, 0
        ) + source + destination
    )  # fmt: skip
    head[10:12] = checksum(head).to_bytes(2, "big")
    return bytes(head)


def ipv6(
    source: bytes, destination: bytes, protocol: int, length: int, *, traffic_class: int = 0, hops: int = _HOPS
) -> bytes:
    """A header for ``length`` bytes behind it, with flow label 0."""
    return struct.pack("!IHBB", 6 << 28 | traffic_class << 20, length, protocol, hops) + source + destination


def fragment_header(protocol: int, identification: int, offset: int, *, more: bool) -> bytes:
    """IPv6's fragment header; ``offset`` in units of 8 bytes."""
    return struct.pack("!BBHI", protocol, 0, offset << 3 | more, identification)


def ipv6_fragmented(
    source: bytes, destination: bytes, protocol: int, payload: bytes, *, traffic_class: int, hops: int,
    identification: int, offset: int, more: bool, mtu: int,
) -> list[bytes]:  # fmt: skip
    """One piece of a datagram, from ``offset`` on, in packets that fit into the MTU."""
    room = (mtu - 48) // 8 * 8
    out = []
    for at in range(0, max(1, len(payload)), room):
        part = payload[at : at + room]
        behind = more or at + room < len(payload)
        head = ipv6(source, destination, _FRAGMENT, 8 + len(part), traffic_class=traffic_class, hops=hops)
        out.append(head + fragment_header(protocol, identification, offset + at // 8, more=behind) + part)
    return out


def error4(
    kind: int, code: int, rest: int, source: bytes, destination: bytes, about: bytes, *,
    traffic_class: int = 0, hops: int = _HOPS,
) -> bytes:  # fmt: skip
    """An ICMP error about an IPv4 packet; ``rest``: the 32 bits behind its checksum."""
    body = bytearray(struct.pack("!BBHI", kind, code, 0, rest) + about[:QUOTED4])
    body[2:4] = checksum(body).to_bytes(2, "big")
    return ipv4(source, destination, ICMP, len(body), traffic_class=traffic_class, hops=hops) + body


def error6(
    kind: int, code: int, rest: int, source: bytes, destination: bytes, about: bytes, *,
    traffic_class: int = 0, hops: int = _HOPS,
) -> bytes:  # fmt: skip
    """An ICMPv6 error about an IPv6 packet; ``rest``: the 32 bits behind its checksum."""
    body = bytearray(struct.pack("!BBHI", kind, code, 0, rest) + about[:_QUOTED6])
    body[2:4] = transport_checksum(source, destination, ICMPV6, body).to_bytes(2, "big")
    return ipv6(source, destination, ICMPV6, len(body), traffic_class=traffic_class, hops=hops) + body
