"""Byte strings of P4Runtime: big-endian, any length accepted if the value fits, the shortest form returned."""

from __future__ import annotations

from p4switch.p4runtime.status import Code, Refused


def decode(raw: bytes, width: int, what: str) -> int:
    """The unsigned value of ``raw``. :raises Refused: OUT_OF_RANGE if it is empty or needs more than ``width`` bits."""
    if not raw:
        raise Refused(Code.OUT_OF_RANGE, f"{what}: an empty byte string is no value")
    value = int.from_bytes(raw, "big")
    if value >> width:
        raise Refused(Code.OUT_OF_RANGE, f"{what}: {value:#x} does not fit {width} bits")
    return value


def encode(value: int) -> bytes:
    """The canonical form of an unsigned value: shortest, zero is one zero byte."""
    return value.to_bytes((value.bit_length() + 7) // 8 or 1, "big")


def decode_signed(raw: bytes, width: int, what: str) -> int:
    """As `decode` for ``int<width>``: two's complement, sign-extended to whole bytes."""
    if not raw:
        raise Refused(Code.OUT_OF_RANGE, f"{what}: an empty byte string is no value")
    value = int.from_bytes(raw, "big", signed=True)
    if not -(1 << width - 1) <= value < 1 << width - 1:
        raise Refused(Code.OUT_OF_RANGE, f"{what}: {value} does not fit {width} signed bits")
    return value


def encode_signed(value: int) -> bytes:
    """The canonical form of a signed value: the fewest bytes that keep the sign."""
    bits = (value if value >= 0 else ~value).bit_length() + 1
    if value == 0:
        bits = 1
    return value.to_bytes((bits + 7) // 8, "big", signed=True)


def varint(number: int) -> bytes:
    """protobuf's shortest form of an unsigned number, as in tags and lengths."""
    octets = bytearray()
    while number > 127:
        octets.append(number & 127 | 128)
        number >>= 7
    octets.append(number)
    return bytes(octets)
