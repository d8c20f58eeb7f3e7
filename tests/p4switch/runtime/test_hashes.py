"""Hash algorithms against published check values."""

import pytest

from p4switch.runtime.hashes import ALGORITHMS, make_hash

CHECK = b"123456789"


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("crc8_custom", 0xF4),
        ("crc16", 0xBB3D),
        ("crc16_custom", 0xBB3D),
        ("crc32", 0xCBF43926),
        ("crc32_custom", 0xCBF43926),
        ("crcCCITT", 0x29B1),
        ("crc64_custom", 0x46A5A9388A5BEFFE),
        ("identity", 0x3132333435363738),
        ("xor16", 0x3132 ^ 0x3334 ^ 0x3536 ^ 0x3738 ^ 0x3900),
        ("xor32", 0x31323334 ^ 0x35363738 ^ 0x39000000),
        ("csum16", 0xFFFF ^ (0x3132 + 0x3334 + 0x3536 + 0x3738 + 0x3900) % 0xFFFF),
    ],
)
def test_check_values(algorithm: str, expected: int) -> None:
    assert make_hash(algorithm)(int.from_bytes(CHECK), 72) == expected


@pytest.mark.parametrize(("data", "expected"), [(b"", 0xFFFF), (bytes(4), 0xFFFF), (b"\xff\xff", 0), (b"\x01", 0xFEFF)])
def test_csum16_corners(data: bytes, expected: int) -> None:
    assert make_hash("csum16")(int.from_bytes(data), len(data) * 8) == expected


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_empty_input_is_fine(algorithm: str) -> None:
    assert make_hash(algorithm)(0, 0) >= 0


def test_round_robin_counts_for_each_user() -> None:
    one, other = make_hash("round_robin"), make_hash("round_robin_consistent")
    assert [one(5, 8), one(5, 8), make_hash("round_robin")(5, 8)] == [0, 1, 0]
    assert [other(5, 8), other(6, 8), other(5, 8)] == [0, 1, 0]


@pytest.mark.parametrize(
    ("algorithm", "data", "expected"),
    [
        ("xxh64", b"", 0xEF46DB3751D8E999),
        ("xxh64", b"abc", 0x44BC2CF5AD770999),
        ("xxh64", b"Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
        ("bmv2_hash", b"abc", 0x44BC2CF5AD770999),
        ("toeplitz", b"abc", 0),
    ],
)
def test_hashes_of_simple_switch_that_p4c_never_names(algorithm: str, data: bytes, expected: int) -> None:
    """xxHash's own values; Toeplitz with BMv2's key of zeros."""
    assert make_hash(algorithm)(int.from_bytes(data, "big"), 8 * len(data)) == expected


def test_hash_ex_sees_signed_bytes() -> None:
    total = 2166136261
    for byte in (0x01, -0x80):
        total = (total ^ byte & 0xFFFFFFFF) * 16777619 % (1 << 32)
    total = (total + (total << 13)) % (1 << 32)
    total ^= total >> 7
    total = (total + (total << 3)) % (1 << 32)
    total ^= total >> 17
    assert make_hash("hash_ex")(0x0180, 16) == (total + (total << 5)) % (1 << 32)
