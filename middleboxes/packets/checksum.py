"""The Internet checksum (RFC 1071), whole and incremental (RFC 1624).

One's complement addition of 16-bit words is addition modulo 65535, so the words of a byte string add up to the number
that it is, modulo 65535: one C call for any length. Of the two zeros (0 and 0xFFFF) a sum of words that are not all 0
is never 0; so is a sum here, which is what equation 3 of RFC 1624 is about.
"""

from __future__ import annotations

from splitmerge.flowkey import UDP

_MODULUS = 0xFFFF


def ones_sum(data: bytes | bytearray | memoryview) -> int:
    """The one's complement sum of the 16-bit words, 0..0xFFFF; an odd last byte is followed by a zero. 0 if all are."""
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    return number % _MODULUS or (_MODULUS if number else 0)


def checksum(data: bytes | bytearray | memoryview, *sums: int) -> int:
    """The checksum field over these bytes and further sums (of a pseudo-header)."""
    total = ones_sum(data) + sum(sums)
    return _MODULUS - (total % _MODULUS or (_MODULUS if total else 0))


def updated(field: int, old: int, new: int) -> int:
    """The checksum field after a part whose sum was ``old`` became one whose sum is ``new`` (RFC 1624, equation 3).

    Both sums are of parts that begin at an even offset of what the checksum is over.
    """
    return _MODULUS - (((_MODULUS - field) - old + new) % _MODULUS or _MODULUS)


def pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> int:
    """Sum of the pseudo-header of IPv4 (RFC 9293 §3.1) or IPv6 (RFC 8200 §8.1), which for one packet are alike."""
    return ones_sum(source) + ones_sum(destination) + protocol + ones_sum(length.to_bytes(4, "big"))


def transport_checksum(source: bytes, destination: bytes, protocol: int, segment: bytes | bytearray) -> int:
    """What the checksum field of TCP, UDP or ICMPv6 must be; the field in ``segment`` must hold 0.

    A UDP checksum that comes out as 0 is sent as 0xFFFF, since 0 means none (RFC 768).
    """
    field = checksum(segment, pseudo_header(source, destination, protocol, len(segment)))
    return field or (_MODULUS if protocol == UDP else 0)
