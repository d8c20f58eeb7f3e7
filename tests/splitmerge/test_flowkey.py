"""The flow key: canonical, symmetric, and the same bytes that the P4 program hashes."""

from __future__ import annotations

import contextlib
import ipaddress
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Ether

from splitmerge import BUCKETS, BadInput, FlowKey
from splitmerge.decimals import decimal

addresses = st.one_of(
    st.tuples(st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4)),
    st.tuples(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16)),
)
ports = st.integers(0, 65535)
protocols = st.integers(0, 255)


@given(addresses, ports, ports, protocols)
def test_both_directions_have_one_key(pair: tuple[bytes, bytes], src_port: int, dst_port: int, protocol: int) -> None:
    key = FlowKey.of(protocol, pair[0], src_port, pair[1], dst_port)
    assert key == FlowKey.of(protocol, pair[1], dst_port, pair[0], src_port)
    assert (key.low_addr, key.low_port) <= (key.high_addr, key.high_port)
    assert {(key.low_addr, key.low_port), (key.high_addr, key.high_port)} == {
        (pair[0], src_port),
        (pair[1], dst_port),
    }
    assert key.protocol == protocol and key.version == (4 if len(pair[0]) == 4 else 6)


@given(addresses, ports, ports, protocols)
def test_text_and_wire_forms_round_trip(pair: tuple[bytes, bytes], a: int, b: int, protocol: int) -> None:
    key = FlowKey.of(protocol, pair[0], a, pair[1], b)
    assert FlowKey.parse(str(key)) == key
    assert FlowKey.from_wire(bytes(key)) == key
    assert eval(repr(key)) == key


@given(addresses, ports, ports, protocols)
def test_bucket_is_crc32_of_the_key(pair: tuple[bytes, bytes], a: int, b: int, protocol: int) -> None:
    key = FlowKey.of(protocol, pair[0], a, pair[1], b)
    assert key.bucket == zlib.crc32(bytes(key)) % BUCKETS


def test_layout() -> None:
    key = FlowKey.parse("tcp,10.0.2.2:80,10.0.1.2:40000")
    assert bytes(key).hex() == "0a0001020a0002029c40005006"


@pytest.mark.parametrize(
    ("packet", "key"),
    [
        (IP(src="10.0.2.2", dst="10.0.1.2") / TCP(sport=80, dport=40000), "tcp,10.0.1.2:40000,10.0.2.2:80"),
        (IP(src="10.0.1.2", dst="10.0.2.2") / UDP(sport=1, dport=2), "udp,10.0.1.2:1,10.0.2.2:2"),
        (IP(src="10.0.1.2", dst="10.0.2.2", options=b"\x01" * 8) / UDP(sport=1, dport=2), "udp,10.0.1.2:1,10.0.2.2:2"),
        (IP(src="10.0.1.2", dst="10.0.2.2") / ICMP(id=7), "icmp,10.0.1.2:7,10.0.2.2:7"),
        (IP(src="10.0.1.2", dst="10.0.2.2", options=b"\x01" * 40) / ICMP(id=7), "icmp,10.0.1.2:7,10.0.2.2:7"),
        (IP(src="10.0.1.2", dst="10.0.2.2") / ICMP(type=3), "icmp,10.0.1.2:0,10.0.2.2:0"),
        (IP(src="10.0.1.2", dst="10.0.2.2", proto=47), "47,10.0.1.2:0,10.0.2.2:0"),
        (IP(src="10.0.1.2", dst="10.0.2.2", flags="MF") / UDP(sport=1, dport=2), "udp,10.0.1.2:0,10.0.2.2:0"),
        (IP(src="10.0.1.2", dst="10.0.2.2", frag=5, proto=17) / (b"x" * 9), "udp,10.0.1.2:0,10.0.2.2:0"),
        (IPv6(src="fd00:2::2", dst="fd00:1::2") / TCP(sport=80, dport=9), "tcp,[fd00:1::2]:9,[fd00:2::2]:80"),
        (IPv6(src="fd00:1::2", dst="fd00:2::2") / ICMPv6EchoRequest(id=3), "icmp6,[fd00:1::2]:3,[fd00:2::2]:3"),
        (
            IPv6(src="fd00:1::2", dst="fd00:2::2") / IPv6ExtHdrFragment(nh=17, m=1) / UDP(sport=5, dport=6),
            "udp,[fd00:1::2]:0,[fd00:2::2]:0",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_key_of_a_frame(packet: IP, key: str) -> None:
    assert str(FlowKey.from_frame(bytes(Ether() / packet))) == key


def test_no_key_for_other_frames() -> None:
    assert FlowKey.from_frame(bytes(Ether() / ARP())) is None
    whole = bytes(Ether() / IP() / TCP())
    assert [FlowKey.from_frame(whole[:length]) for length in range(38)] == [None] * 38


@given(st.binary(max_size=80))
def test_any_bytes_give_a_key_or_none(frame: bytes) -> None:
    key = FlowKey.from_frame(b"\0" * 12 + b"\x08\x00" + frame)
    assert key is None or FlowKey.from_wire(bytes(key)) == key


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("tcp,10.0.0.1:1", "2 parts"),
        ("sctpx,10.0.0.1:1,10.0.0.2:2", "sctpx"),
        ("256,10.0.0.1:1,10.0.0.2:2", "256"),
        ("tcp,10.0.0.1,10.0.0.2:2", "no port"),
        ("tcp,10.0.0.300:1,10.0.0.2:2", "10.0.0.300"),
        ("tcp,10.0.0.1:1,[fd00::1]:2", "an IPv4 and an IPv6 address"),
        ("tcp,10.0.0.1:70000,10.0.0.2:2", "'70000' is no port"),
        ("tcp,10.0.0.1:٣,10.0.0.2:2", "'٣' is no port"),
        (f"tcp,10.0.0.1:{'9' * 5000},10.0.0.2:2", "'999.*…' is no port"),
        (f"{'9' * 5000},10.0.0.1:1,10.0.0.2:2", "unknown protocol '999.*…'"),
        ("tcp,[fe80::1%eth0]:1,[fe80::2]:2", r"\[fe80::1%eth0\] has a zone"),
        ("tcp,fd00::1:5,[fd00::2]:6", "IPv6 address is not in brackets"),
        ("tcp,[10.0.0.1]:5,10.0.0.2:6", "10.0.0.1"),
        ("tcp,[[fd00::1]]:5,[fd00::2]:6", "fd00::1"),
    ],
    ids=lambda text: text[:40],
)
def test_bad_text_says_what_is_wrong(text: str, part: str) -> None:
    with pytest.raises(BadInput, match=part):
        FlowKey.parse(text)


@given(st.text(max_size=60) | st.text(alphabet="0123456789,:[]%.tcpf", max_size=60))
def test_any_text_is_a_key_or_refused(text: str) -> None:
    with contextlib.suppress(BadInput):
        assert FlowKey.from_wire(FlowKey.parse(text))


@pytest.mark.parametrize(
    ("text", "most", "number"),
    [
        ("0", 0, 0), ("7", 9, 7), ("10", 9, None), ("0" * 5000 + "9", 9, 9), ("9" * 5000, 2**63, None), ("", 9, None),
        ("-1", 9, None), ("+1", 9, None), ("1_0", 99, None), ("²", 9, None), ("٣", 9, None), (" 1", 9, None),
    ],
    ids=lambda value: str(value)[:8],
)  # fmt: skip
def test_numbers_are_bounded_digits_of_ascii(text: str, most: int, number: int | None) -> None:
    assert decimal(text, most) == number


def test_bad_wire_form_is_refused() -> None:
    key = FlowKey.parse("tcp,10.0.1.2:1,10.0.2.2:2")
    swapped = key.high_addr + key.low_addr + bytes(key[8:])
    for raw in (b"", bytes(12), bytes(14), swapped):
        with pytest.raises(BadInput):
            FlowKey.from_wire(raw)
    assert ipaddress.ip_address(key.low_addr) == ipaddress.ip_address("10.0.1.2")
