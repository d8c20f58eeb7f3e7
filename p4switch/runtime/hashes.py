"""BMv2's hash algorithms. Each takes the input as a number and its length in bits, a multiple of 8, and gives a number.

The names are those of the JSON. Input bytes are in the order of the packet.
"""

import zlib
from binascii import crc_hqx
from collections.abc import Callable
from functools import cache
from typing import TypeAlias

Hash: TypeAlias = Callable[[int, int], int]


def csum16(value: int, bits: int) -> int:
    """The Internet checksum (RFC 1071) over 16-bit words, an odd last byte padded with zeros on the right."""
    # A number is congruent to the sum of its 16-bit digits modulo 65535, which is what one's complement sums are.
    padded = value << (-bits % 16)
    total = padded % 0xFFFF
    return 0xFFFF ^ (total if total or not padded else 0xFFFF)


def crc32(value: int, bits: int) -> int:
    """CRC-32 of Ethernet."""
    return zlib.crc32(value.to_bytes(bits >> 3, "big"))


def crc_ccitt(value: int, bits: int) -> int:
    """CRC-16/CCITT-FALSE: polynomial 0x1021, start 0xFFFF, not reflected."""
    return crc_hqx(value.to_bytes(bits >> 3, "big"), 0xFFFF)


def _reflect(value: int, width: int) -> int:
    return int(f"{value:0{width}b}"[::-1], 2)


@cache
def _reflected_table(polynomial: int, width: int) -> tuple[int, ...]:
    reversed_polynomial = _reflect(polynomial, width)
    table = []
    for byte in range(256):
        remainder = byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (reversed_polynomial if remainder & 1 else 0)
        table.append(remainder)
    return tuple(table)


def _reflected_crc(polynomial: int, width: int, start: int, final: int) -> Hash:
    table = _reflected_table(polynomial, width)

    def crc(value: int, bits: int) -> int:
        remainder = start
        for byte in value.to_bytes(bits >> 3, "big"):
            remainder = remainder >> 8 ^ table[(remainder ^ byte) & 0xFF]
        return remainder ^ final

    return crc


def crc8(value: int, bits: int) -> int:
    """CRC-8: polynomial 0x07, start 0, not reflected."""
    remainder = 0
    for byte in value.to_bytes(bits >> 3, "big"):
        remainder ^= byte
        for _ in range(8):
            remainder = (remainder << 1 ^ (0x107 if remainder & 0x80 else 0)) & 0xFF
    return remainder


_PRIMES = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
_ONES = (1 << 64) - 1


def _rotate(value: int, by: int) -> int:
    value &= _ONES
    return (value << by | value >> (64 - by)) & _ONES


def _round(lane: int, word: int) -> int:
    return _rotate(lane + word * _PRIMES[1], 31) * _PRIMES[0] & _ONES


def xxh64(value: int, bits: int) -> int:
    """XXH64 with seed 0 (xxHash's specification, doc/xxhash_spec.md)."""
    one, two, three, four, five = _PRIMES
    data = value.to_bytes(bits >> 3, "big")
    size = len(data)
    striped = size - size % 32
    total = five
    if striped:
        lanes = [(one + two) & _ONES, two, 0, -one & _ONES]
        for start in range(0, striped, 32):
            words = [int.from_bytes(data[i : i + 8], "little") for i in range(start, start + 32, 8)]
            lanes = [_round(lane, word) for lane, word in zip(lanes, words, strict=True)]
        total = sum(_rotate(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & _ONES
        for lane in lanes:
            total = ((total ^ _round(0, lane)) * one + four) & _ONES
    total = (total + size) & _ONES
    for start in range(striped, size - 7, 8):
        word = int.from_bytes(data[start : start + 8], "little")
        total = _rotate(total ^ _round(0, word), 27) * one + four & _ONES
    rest = data[size - (size % 8) :]
    if len(rest) >= 4:
        total = _rotate(total ^ int.from_bytes(rest[:4], "little") * one, 23) * two + three & _ONES
        rest = rest[4:]
    for byte in rest:
        total = _rotate(total ^ byte * five, 11) * one & _ONES
    total = (total ^ total >> 33) * two & _ONES
    total = (total ^ total >> 29) * three & _ONES
    return total ^ total >> 32


def hash_ex(value: int, bits: int) -> int:
    """simple_switch's own: FNV-1 over signed bytes, then stirred, in 32 bits."""
    ones = (1 << 32) - 1
    total = 2166136261
    for byte in value.to_bytes(bits >> 3, "big"):
        total = (total ^ ((byte ^ 0x80) - 0x80)) * 16777619 & ones
    for left, right in ((13, 7), (3, 17)):
        total = (total + (total << left)) & ones
        total ^= total >> right
    return (total + (total << 5)) & ones


def toeplitz(value: int, bits: int) -> int:
    """A Toeplitz hash with BMv2's default key, which is 4 bytes of zeros; nothing in P4Runtime sets another."""
    return 0


def _xor(width: int) -> Hash:
    ones = (1 << width) - 1

    def xor(value: int, bits: int) -> int:
        value <<= -bits % width
        folded = 0
        while value:
            folded ^= value & ones
            value >>= width
        return folded

    return xor


def identity(value: int, bits: int) -> int:
    """The first 64 bits."""
    return value >> (bits - 64) if bits > 64 else value


def _round_robin() -> Hash:
    count = -1

    def round_robin(value: int, bits: int) -> int:
        nonlocal count
        count += 1
        return count

    return round_robin


def _round_robin_consistent() -> Hash:
    seen: dict[tuple[int, int], int] = {}

    def round_robin_consistent(value: int, bits: int) -> int:
        return seen.setdefault((value, bits), len(seen))

    return round_robin_consistent


crc16 = _reflected_crc(0x8005, 16, 0, 0)
crc64 = _reflected_crc(0x1B, 64, 0, 0)

_FACTORIES: dict[str, Callable[[], Hash]] = {
    "crc8_custom": lambda: crc8,
    "crc16": lambda: crc16,
    "crc16_custom": lambda: crc16,
    "crc32": lambda: crc32,
    "crc32_custom": lambda: crc32,
    "crc64_custom": lambda: crc64,
    "crcCCITT": lambda: crc_ccitt,
    "bmv2_hash": lambda: xxh64,
    "csum16": lambda: csum16,
    "cksum16": lambda: csum16,
    "xor16": lambda: _xor(16),
    "xor32": lambda: _xor(32),
    "hash_ex": lambda: hash_ex,
    "identity": lambda: identity,
    "toeplitz": lambda: toeplitz,
    "xxh64": lambda: xxh64,
    "round_robin": _round_robin,
    "round_robin_consistent": _round_robin_consistent,
}
ALGORITHMS = frozenset(_FACTORIES)
"""Names that ``make_hash`` knows."""


def make_hash(algorithm: str) -> Hash:
    """A hash with its own state, if it has any. ``algorithm`` is one of ALGORITHMS."""
    return _FACTORIES[algorithm]()
