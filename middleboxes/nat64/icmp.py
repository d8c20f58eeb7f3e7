"""ICMP and ICMPv6: types, codes, pointers and MTUs of one in the words of the other (RFC 7915 §4.2 and §5.2)."""

from __future__ import annotations

from dataclasses import dataclass

from middleboxes.nat64.errors import Untranslatable

LEAST_MTU6 = 1280
_PLATEAUS = (65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68)
"""MTUs that are guessed for a router that does not say its own (RFC 1191 §7.1)."""

ECHO_TYPES = {8: 128, 0: 129, 128: 8, 129: 0}

_UNREACHABLE_TO_6 = {
    0: (1, 0), 1: (1, 0), 3: (1, 4), 5: (1, 0), 6: (1, 0), 7: (1, 0), 8: (1, 0), 9: (1, 1), 10: (1, 1), 11: (1, 0),
    12: (1, 0), 13: (1, 1), 15: (1, 1),
}  # fmt: skip
_UNREACHABLE_TO_4 = {0: (3, 1), 1: (3, 10), 2: (3, 1), 3: (3, 1), 4: (3, 3)}
_POINTER_TO_6 = {
    0: 0, 1: 1, 2: 4, 3: 4, 8: 7, 9: 6, **dict.fromkeys(range(12, 16), 8), **dict.fromkeys(range(16, 20), 24),
}  # fmt: skip
_POINTER_TO_4 = {
    0: 0, 1: 1, 4: 2, 5: 2, 6: 9, 7: 8, **dict.fromkeys(range(8, 24), 12), **dict.fromkeys(range(24, 40), 16),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """MTUs of the two sides, in bytes, and how many hops the translator counts itself as.

    0 hops: what forwards the packet afterwards counts for it (the switch behind the replicas). A packet with one hop
    left is answered either way.
    """

    mtu4: int = 1500
    mtu6: int = 1500
    hops: int = 1


def error_to_6(kind: int, code: int, rest: int, quoted: int, limits: Limits) -> tuple[int, int, int]:
    """Type, code and the 32 bits behind the checksum, of an ICMPv4 error about a packet of ``quoted`` bytes.

    :raises Untranslatable: ``icmp_type``: there is no such error in ICMPv6.
    """
    match kind, code:
        case 3, 2:
            return 4, 1, 6  # the next header field is what is not understood
        case 3, 4:
            mtu = (rest & 0xFFFF) or next(each for each in (*_PLATEAUS, 0) if each < quoted)
            return 2, 0, max(LEAST_MTU6, min(mtu + 20, limits.mtu6, limits.mtu4 + 20))
        case 3, _ if code in _UNREACHABLE_TO_6:
            return *_UNREACHABLE_TO_6[code], 0
        case 11, _:
            return 3, code, 0
        case 12, 0 | 2 if rest >> 24 in _POINTER_TO_6:
            return 4, 0, _POINTER_TO_6[rest >> 24]
    raise Untranslatable("icmp_type")


def error_to_4(kind: int, code: int, rest: int, limits: Limits) -> tuple[int, int, int]:
    """Type, code and the 32 bits behind the checksum, of an ICMPv6 error.

    :raises Untranslatable: ``icmp_type``: there is no such error in ICMP.
    """
    match kind, code:
        case 1, _ if code in _UNREACHABLE_TO_4:
            return *_UNREACHABLE_TO_4[code], 0
        case 2, _:
            return 3, 4, max(68, min(rest - 20, limits.mtu4, limits.mtu6 - 20))
        case 3, _:
            return 11, code, 0
        case 4, 1:
            return 3, 2, 0
        case 4, 0 if rest in _POINTER_TO_4:
            return 12, 0, _POINTER_TO_4[rest] << 24
    raise Untranslatable("icmp_type")
