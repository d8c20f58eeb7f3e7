"""The translator: one packet of one IP version in the other (RFC 7915). No state, no clock; addresses come in.

    parse ─→ Parsed ─┬─ to_ipv4(packet, ends, …) ─→ IPv4 packet
                     ├─ to_ipv6(packet, ends, …) ─→ IPv6 packets (fragments, if DF was not set and it is too long)
                     └─ quoted ─→ Parsed, for whose ends are looked up ─→ error_to_ipv4, error_to_ipv6

Checksums of TCP, UDP and ICMP echo are corrected incrementally, so that a wrong one stays wrong. The errors' own, which
are over other words and another quotation, are checked, then computed anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from middleboxes.nat64 import build, icmp
from middleboxes.nat64.build import DONT_FRAGMENT, MORE_FRAGMENTS
from middleboxes.nat64.errors import Untranslatable
from middleboxes.nat64.icmp import LEAST_MTU6, Limits
from middleboxes.nat64.parsed import Parsed, parse
from middleboxes.packets import checksum, ones_sum, pseudo_header, transport_checksum, updated
from splitmerge.flowkey import ICMP, ICMPV6, TCP, UDP

_CHECKSUM_AT = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}
_OTHER = {ICMP: ICMPV6, ICMPV6: ICMP}
_SMALL4 = LEAST_MTU6 - 20
"""IPv4 packets up to here may be fragmented on the way: the IPv6 sender cannot be asked for less (RFC 7915 §5.1)."""
_LENGTH_AT = {(ICMP, 3): 5, (ICMP, 11): 5, (ICMP, 12): 5, (ICMPV6, 1): 4, (ICMPV6, 3): 4}
"""Where an error says how long its quotation is (RFC 4884 §4), in words of `_LENGTH_UNIT`."""
_LENGTH_UNIT = {ICMP: 4, ICMPV6: 8}


@dataclass(frozen=True, slots=True)
class Ends:
    """Endpoints of the translated packet. Of an ICMP echo both ports are the identifier; a later fragment has none."""

    source: bytes
    source_port: int
    destination: bytes
    destination_port: int


def to_ipv4(packet: Parsed, ends: Ends, limits: Limits, own: bytes, identification: int = 0) -> list[bytes]:
    """An IPv6 packet as IPv4. ``own``: the translator's IPv6 address, which errors come from.

    :raises Untranslatable:
    """
    about = (own, packet.source, packet.raw)
    if packet.hops <= 1:
        raise Untranslatable("hops", build.error6(3, 0, 0, *about))
    if packet.routed_at:  # RFC 7915 §5.1
        raise Untranslatable("source_route", build.error6(4, 0, packet.routed_at, *about))
    length = 20 + packet.length
    if length > limits.mtu4:
        raise Untranslatable("too_big", build.error6(2, 0, max(LEAST_MTU6, limits.mtu4 + 20), *about))
    return [_ipv4(packet, ends, packet.hops - limits.hops, identification)]


def to_ipv6(packet: Parsed, ends: Ends, limits: Limits, own: bytes) -> list[bytes]:
    """An IPv4 packet as IPv6, in fragments if it may be fragmented and is too long for the least IPv6 MTU.

    ``own``: the translator's IPv4 address, which errors come from.
    :raises Untranslatable:
    """
    about = (own, packet.source, packet.raw)
    if packet.hops <= 1:
        raise Untranslatable("hops", build.error4(11, 0, 0, *about))
    if packet.routed_at:  # RFC 7915 §4.1
        raise Untranslatable("source_route", build.error4(3, 5, 0, *about))
    length = 40 + packet.length + (8 if packet.fragment else 0)
    if packet.dont_fragment and length > limits.mtu6:
        # What does not have DF set is fragmented instead.
        raise Untranslatable("too_big", build.error4(3, 4, limits.mtu6 - 20 - (8 if packet.fragment else 0), *about))
    hops = packet.hops - limits.hops
    if packet.fragment is None and (packet.dont_fragment or length <= LEAST_MTU6):
        return [_ipv6(packet, ends, hops)]
    part = packet.fragment
    return build.ipv6_fragmented(
        ends.source, ends.destination, _OTHER.get(packet.protocol, packet.protocol), _transport(packet, ends),
        traffic_class=packet.traffic_class, hops=hops,
        identification=part.identification if part else int.from_bytes(packet.raw[4:6], "big"),
        offset=part.offset if part else 0, more=part is not None and part.more,
        mtu=limits.mtu6 if packet.dont_fragment else LEAST_MTU6,
    )  # fmt: skip


def quoted(packet: Parsed) -> Parsed:
    """The packet that an ICMP error is about, as far as it is quoted.

    :raises Untranslatable: ``checksum`` or ``malformed``.
    """
    pseudo = pseudo_header(packet.source, packet.destination, ICMPV6, packet.length) if packet.is_ipv6 else 0
    if checksum(packet.payload, pseudo) != 0:
        raise Untranslatable("checksum")
    end = len(packet.payload)
    at = _LENGTH_AT.get((packet.protocol, packet.payload[0]))
    if at is not None and packet.payload[at]:  # an extension follows, which is left out
        end = min(end, 8 + packet.payload[at] * _LENGTH_UNIT[packet.protocol])
    inner = parse(packet.payload[8:end], cut=True)
    if inner.version != packet.version:
        raise Untranslatable("malformed")
    return inner


def error_to_ipv4(
    packet: Parsed, source: bytes, destination: bytes, inner: Parsed, ends: Ends, limits: Limits
) -> bytes:
    """An ICMPv6 error as ICMP. ``inner`` is its `quoted` packet, ``ends`` that packet's endpoints in IPv4.

    :raises Untranslatable:
    """
    words = icmp.error_to_4(*_head(packet), limits)
    about = _ipv4(inner, ends, inner.hops, 0)
    hops = packet.hops - limits.hops
    return build.error4(*words, source, destination, about, traffic_class=packet.traffic_class, hops=hops)


def error_to_ipv6(
    packet: Parsed, source: bytes, destination: bytes, inner: Parsed, ends: Ends, limits: Limits
) -> bytes:
    """An ICMP error as ICMPv6. ``inner`` is its `quoted` packet, ``ends`` that packet's endpoints in IPv6.

    :raises Untranslatable:
    """
    kind, code, rest = _head(packet)
    words = icmp.error_to_6(kind, code, rest, int.from_bytes(inner.raw[2:4], "big"), limits)
    about = _quote6(inner, ends)
    hops = packet.hops - limits.hops
    return build.error6(*words, source, destination, about, traffic_class=packet.traffic_class, hops=hops)


def _head(packet: Parsed) -> tuple[int, int, int]:
    if packet.hops <= 1:
        raise Untranslatable("hops")
    return packet.payload[0], packet.payload[1], int.from_bytes(packet.payload[4:8], "big")


def _ipv4(packet: Parsed, ends: Ends, hops: int, identification: int) -> bytes:
    part = packet.fragment
    flags = 0 if 20 + packet.length <= _SMALL4 else DONT_FRAGMENT
    if part is not None:
        identification, flags = part.identification & 0xFFFF, part.offset | (MORE_FRAGMENTS if part.more else 0)
    head = build.ipv4(
        ends.source, ends.destination, _OTHER.get(packet.protocol, packet.protocol), packet.length,
        traffic_class=packet.traffic_class, hops=hops, identification=identification, flags=flags,
    )  # fmt: skip
    return head + _transport(packet, ends)


def _ipv6(packet: Parsed, ends: Ends, hops: int) -> bytes:
    head = build.ipv6(
        ends.source, ends.destination, _OTHER.get(packet.protocol, packet.protocol), packet.length,
        traffic_class=packet.traffic_class, hops=hops,
    )  # fmt: skip
    return head + _transport(packet, ends)


def _quote6(inner: Parsed, ends: Ends) -> bytes:
    """A quoted packet is not fragmented again, however long it was."""
    part = inner.fragment
    if part is None:
        return _ipv6(inner, ends, inner.hops)
    protocol = _OTHER.get(inner.protocol, inner.protocol)
    head = build.ipv6(
        ends.source, ends.destination, 44, 8 + inner.length, traffic_class=inner.traffic_class, hops=inner.hops
    )
    header = build.fragment_header(protocol, part.identification, part.offset, more=part.more)
    return head + header + _transport(inner, ends)


# -- the transport header ------------------------------------------------------------------------------------


def _transport(packet: Parsed, ends: Ends) -> bytes:
    if packet.later and packet.protocol in (TCP, UDP):
        return packet.payload
    data = bytearray(packet.payload)
    if packet.protocol in _OTHER:
        _rewrite_echo(packet, ends, data)
        return bytes(data)
    if packet.ports is None:
        raise Untranslatable("protocol")
    old = ones_sum(packet.source) + ones_sum(packet.destination) + ones_sum(data[:4])
    data[:4] = ends.source_port.to_bytes(2, "big") + ends.destination_port.to_bytes(2, "big")
    at = _CHECKSUM_AT[packet.protocol]
    if at + 2 > len(data):  # an error has quoted less
        return bytes(data)
    field = int.from_bytes(data[at : at + 2], "big")
    if packet.protocol == UDP and not field:
        _add_checksum(packet, ends, data)
        return bytes(data)
    new = ones_sum(ends.source) + ones_sum(ends.destination) + ones_sum(data[:4])
    field = updated(field, old, new)
    if packet.protocol == UDP and not field:
        field = 0xFFFF
    data[at : at + 2] = field.to_bytes(2, "big")
    return bytes(data)


def _add_checksum(packet: Parsed, ends: Ends, data: bytearray) -> None:
    """UDP without a checksum, which IPv6 does not allow: computed, if the datagram is whole (RFC 7915 §4.5).

    :raises Untranslatable: ``udp_checksum``.
    """
    if len(data) < packet.length:  # quoted in part: nobody will check it
        return
    if packet.is_ipv6 or packet.fragment is not None:
        raise Untranslatable("udp_checksum")
    data[6:8] = transport_checksum(ends.source, ends.destination, UDP, data).to_bytes(2, "big")


def _rewrite_echo(packet: Parsed, ends: Ends, data: bytearray) -> None:
    """Types, identifier and checksum; only ICMPv6's is over a pseudo-header too.

    :raises Untranslatable: ``icmp_type``, or ``icmp_fragment``: the pseudo-header needs the whole message's length.
    """
    if packet.fragment is not None:
        raise Untranslatable("icmp_fragment")
    if packet.ports is None:
        raise Untranslatable("icmp_type")
    old = ones_sum(data[:2]) + ones_sum(data[4:6])
    data[0] = icmp.ECHO_TYPES[data[0]]
    data[4:6] = ends.source_port.to_bytes(2, "big")
    new = ones_sum(data[:2]) + ones_sum(data[4:6])
    if packet.is_ipv6:
        old += pseudo_header(packet.source, packet.destination, ICMPV6, packet.length)
    else:
        new += pseudo_header(ends.source, ends.destination, ICMPV6, packet.length)
    data[2:4] = updated(int.from_bytes(data[2:4], "big"), old, new).to_bytes(2, "big")
