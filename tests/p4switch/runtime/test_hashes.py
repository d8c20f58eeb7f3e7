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
