"""What the IDS reads of a frame: the TCP header and payload, nothing else.

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
_TCP_SMALLEST = 20
_V4_KEY = 13


class Segment(NamedTuple):
    """One TCP segment. ``sender`` is 0 if the key's low endpoint sent it, else 1."""

    sender: int
    sequence: int
    acknowledgement: int
    flags: int
    payload: bytes


def segment_of(frame: bytes, key: FlowKey) -> Segment | None:
    """The TCP segment in a frame with this (TCP) key.

    None if there is none to read: a fragment, IPv6 extension headers, or headers cut short.
    Padding behind the IP packet's end is not payload.
    """
    if len(key) == _V4_KEY:
        start, end = _inside_v4(frame)
        source = frame[26:30]
    else:
        start, end = _inside_v6(frame)
        source = frame[22:38]
    if end - start < _TCP_SMALLEST:
        return None
    sport, _dport, sequence, acknowledgement, offset, flags = _TCP.unpack_from(frame, start)
    data = start + (offset >> 4) * 4
    if data - start < _TCP_SMALLEST or data > end:
        return None
    width = len(source)
    low = key[:width] == source and int.from_bytes(key[2 * width : 2 * width + 2], "big") == sport
    return Segment(0 if low else 1, sequence, acknowledgement, flags, frame[data:end])


def _inside_v4(frame: bytes) -> tuple[int, int]:
    """Where the transport header starts and the IP packet ends; (0, 0) for a fragment or a length that is a lie."""
    start = 14 + (frame[14] & 15) * 4
    end = 14 + _LENGTH.unpack_from(frame, 16)[0]
    fragment = frame[20] & 0x3F or frame[21]
    return (0, 0) if fragment or end > len(frame) else (start, end)


def _inside_v6(frame: bytes) -> tuple[int, int]:
    """As `_inside_v4`; anything but TCP right behind the fixed header is (0, 0)."""
    end = 54 + _LENGTH.unpack_from(frame, 18)[0]
    return (0, 0) if frame[20] != 6 or end > len(frame) else (54, end)
