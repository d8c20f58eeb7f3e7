"""What the IDS reads of a frame: the TCP or UDP header and payload, nothing else.

Checksums are not verified: on a virtual link with offloads they are not filled in when a packet is captured.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from splitmerge.flowkey import FlowKey

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

_TCP = struct.Struct("!HHIIBB")
"""Source port, destination port, sequence, acknowledgement, data offset, flags."""
_LENGTH = struct.Struct("!H")
_TCP_SMALLEST, _UDP_HEADER = 20, 8
_V4_KEY = 13


class Segment(NamedTuple):
    """One TCP segment. ``sender`` is 0 if the key's low endpoint sent it, else 1."""

    sender: int
    sequence: int
    acknowledgement: int
    flags: int
    payload: bytes
    source_port: int
    port: int
    """The receiver's."""


class Datagram(NamedTuple):
    """One UDP datagram's payload. ``sender`` as in `Segment`."""

    sender: int
    payload: bytes


def segment_of(frame: bytes, key: FlowKey) -> Segment | None:
    """The TCP segment in a frame with this (TCP) key.

    None if there is none to read: a fragment, IPv6 extension headers, or headers cut short.
    Padding behind the IP packet's end is not payload.
    """
    source, start, end = _inside(frame, key)
    if end - start < _TCP_SMALLEST:
        return None
    sport, dport, sequence, acknowledgement, offset, flags = _TCP.unpack_from(frame, start)
    data = start + (offset >> 4) * 4
    if data - start < _TCP_SMALLEST or data > end:
        return None
    return Segment(_sender(key, source, sport), sequence, acknowledgement, flags, frame[data:end], sport, dport)


def datagram_of(frame: bytes, key: FlowKey) -> Datagram | None:
    """The UDP datagram in a frame with this (UDP) key; None as for `segment_of`."""
    source, start, end = _inside(frame, key)
    if end - start < _UDP_HEADER:
        return None
    sport, length = _LENGTH.unpack_from(frame, start)[0], _LENGTH.unpack_from(frame, start + 4)[0]
    if not _UDP_HEADER <= length <= end - start:
        return None
    return Datagram(_sender(key, source, sport), frame[start + _UDP_HEADER : start + length])


def _sender(key: FlowKey, source: bytes, port: int) -> int:
    width = len(source)
    return 0 if key[:width] == source and int.from_bytes(key[2 * width : 2 * width + 2], "big") == port else 1


def _inside(frame: bytes, key: FlowKey) -> tuple[bytes, int, int]:
    """The source address, where the transport header starts, and where the IP packet ends."""
    if len(key) == _V4_KEY:
        return frame[26:30], *_inside_v4(frame)
    return frame[22:38], *_inside_v6(frame, key[-1])


def _inside_v4(frame: bytes) -> tuple[int, int]:
    """Where the transport header starts and the IP packet ends; (0, 0) for a fragment or a length that is a lie."""
    start = 14 + (frame[14] & 15) * 4
    end = 14 + _LENGTH.unpack_from(frame, 16)[0]
    fragment = frame[20] & 0x3F or frame[21]
    return (0, 0) if fragment or end > len(frame) else (start, end)


def _inside_v6(frame: bytes, protocol: int) -> tuple[int, int]:
    """As `_inside_v4`; anything but the protocol right behind the fixed header is (0, 0)."""
    end = 54 + _LENGTH.unpack_from(frame, 18)[0]
    return (0, 0) if frame[20] != protocol or end > len(frame) else (54, end)
