"""Hairpinning (RFC 6146 §3.8): two hosts inside that know each other by their external endpoints only.

A packet for an external endpoint of ours is translated twice, to IPv4 as its sender's session says and back as its
receiver's binding says, and never leaves as IPv4. Both hosts' sessions are one flow, whose two keys are the IPv6 ones:
their IPv4 key would be the same, and no packet ever has it.
"""

from __future__ import annotations

from middleboxes.nat64.parsed import Parsed, parse
from middleboxes.nat64.session import Path

OPENER, OTHER = 1, 2
"""Bits: who of the two has sent."""


def opposite(path: Path, inside: bytes, inside_port: int) -> Path:
    """The path of the host that has the external endpoint which ``path`` leads to."""
    return Path(inside, inside_port, path.remote, path.remote_port, path.outside, path.outside_port)


def sender_of(path: Path, data: Parsed) -> int:
    """Which of the two sent a packet of this flow; ``path`` is the opener's."""
    ports = data.ports
    return OPENER if (data.source, ports and ports[0]) == (path.inside, path.inside_port) else OTHER


def again(packets: list[bytes]) -> list[Parsed]:
    """Translated packets, to be translated back."""
    return [parse(packet) for packet in packets]
