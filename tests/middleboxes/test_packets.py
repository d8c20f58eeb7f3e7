"""Packets rewritten in place, with scapy as the oracle of their checksums."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, TCPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from middleboxes.packets import ACK, SYN, Datagram, checksum, ones_sum, transport_checksum, updated

V4 = IP(src="10.0.1.2", dst="10.0.2.2")
V6 = IPv6(src="fd00:1::2", dst="fd00:2::2")
DATA = Raw(b"some data")


def frame(*layers: Packet) -> bytes:
    packet: Packet = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    for layer in layers:
        packet = packet / layer
    return bytes(packet)


def recomputed(raw: bytes) -> bytes:
    """The frame with lengths and checksums as scapy computes them."""
    packet = Ether(raw)
    for layer in (IP, TCP, UDP, ICMP, IPv6, ICMPv6EchoRequest):
        if layer in packet:
            for name in ("chksum", "cksum", "len", "plen"):
                if name in packet[layer].fields:
                    delattr(packet[layer], name)
    return bytes(packet)


ADDRESSES = {4: (bytes([192, 0, 2, 7]), "192.0.2.7"), 6: (bytes([32, 1, *range(14)]), None)}
PACKETS = [
    pytest.param(frame(V4, TCP(sport=5, dport=80, seq=7, ack=9, flags="PA"), DATA), id="tcp4"),
    pytest.param(frame(IP(src="10.0.1.2", dst="10.0.2.2", options=b"\x94\4\0\0"), TCP(), DATA), id="ip options"),
    pytest.param(frame(V4, UDP(sport=5, dport=53), DATA), id="udp4"),
    pytest.param(frame(V4, ICMP(type=8, id=5, seq=1), DATA), id="echo4"),
    pytest.param(frame(V6, TCP(sport=5, dport=80), DATA), id="tcp6"),
    pytest.param(frame(V6, UDP(sport=5, dport=53), DATA), id="udp6"),
    pytest.param(frame(V6, ICMPv6EchoRequest(id=5), DATA), id="echo6"),
    pytest.param(frame(V6, IPv6ExtHdrDestOpt(), UDP(sport=5, dport=53), DATA), id="extension headers"),
    pytest.param(frame(V6, IPv6ExtHdrFragment(offset=0, m=0), UDP(sport=5, dport=53), DATA), id="atomic fragment"),
]
CHANGES: dict[str, Callable[[Datagram], None]] = {
    "source": lambda packet: packet.set_source(ADDRESSES[packet.version][0], 40_000),
    "destination": lambda packet: packet.set_destination(ADDRESSES[packet.version][0], 1),
    "address only": lambda packet: packet.set_source(ADDRESSES[packet.version][0]),
    "shorter": lambda packet: setattr(packet, "payload", b"odd"),
    "longer": lambda packet: setattr(packet, "payload", bytes(range(201))),
    "nothing left": lambda packet: setattr(packet, "payload", b""),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("raw", PACKETS)
def test_checksums_and_lengths_follow_every_change(raw: bytes, change: Callable[[Datagram], None]) -> None:
    packet = Datagram.of(raw)
    assert packet is not None
    change(packet)
    assert bytes(packet) != raw
    assert bytes(packet) == recomputed(bytes(packet))


def test_fields_are_read_as_scapy_wrote_them() -> None:
    packet = Datagram.of(frame(V4, TCP(sport=5, dport=80, seq=7, ack=9, flags="SA"), DATA) + b"padding")
    assert packet is not None
    assert (packet.source, packet.destination) == (bytes([10, 0, 1, 2]), bytes([10, 0, 2, 2]))
    assert (packet.source_port, packet.destination_port) == (5, 80)
    assert (packet.sequence, packet.acknowledgement, packet.flags) == (7, 9, SYN | ACK)
    assert packet.payload == b"some data"


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF), st.integers(0, 3))
def test_numbers_and_sack_edges_change_wherever_they_stand(sequence: int, shift: int, nops: int) -> None:
    """Options need not be aligned, and an odd one must not spoil the checksum."""
    options = [("NOP", None)] * nops + [("SAck", (1, 2, sequence, 4)), ("Timestamp", (5, 0))]
    packet = Datagram.of(frame(V4, TCP(seq=1, ack=2, flags="A", options=options), DATA))
    assert packet is not None
    packet.sequence = sequence
    packet.acknowledgement = sequence + shift
    packet.map_sack(lambda edge: edge + shift)
    got = Ether(bytes(packet))[TCP]
    assert got.seq == sequence and got.ack == (sequence + shift) & 0xFFFFFFFF
    assert dict(got.options)["SAck"] == tuple((edge + shift) & 0xFFFFFFFF for edge in (1, 2, sequence, 4))
    assert bytes(packet) == recomputed(bytes(packet))


def test_a_udp_checksum_that_is_missing_stays_missing() -> None:
    packet = Datagram.of(frame(V4, UDP(sport=5, dport=53, chksum=0), DATA))
    assert packet is not None
    packet.set_source(b"\1\2\3\4", 9)
    packet.payload = b"other"
    assert Ether(bytes(packet))[UDP].chksum == 0


def test_a_udp_checksum_never_becomes_zero() -> None:
    """0 would mean: none (RFC 768)."""
    packet = Datagram.of(frame(V4, UDP(sport=1, dport=53), DATA))
    assert packet is not None
    for port in range(1, 0x10000):
        packet.set_source(packet.source, port)
        assert bytes(packet)[40:42] != b"\0\0"


def test_a_checksum_that_was_wrong_stays_wrong() -> None:
    packet = Datagram.of(frame(V4, TCP(chksum=0x1234), DATA))
    assert packet is not None
    packet.set_source(b"\1\2\3\4", 9)
    assert bytes(packet) != recomputed(bytes(packet))


@pytest.mark.parametrize(
    ("raw", "protocol", "readable"),
    [
        (frame(IP(frag=5), UDP(), DATA), 17, False),
        (frame(IP(flags="MF"), UDP(), DATA), 17, True),
        (frame(V6, IPv6ExtHdrFragment(offset=9, m=0, nh=17), DATA), 17, False),
        (frame(V6, IPv6ExtHdrFragment(offset=0, m=1), UDP(), DATA), 17, True),
    ],
    ids=["later4", "first4", "later6", "first6"],
)
def test_fragments(raw: bytes, protocol: int, readable: bool) -> None:
    packet = Datagram.of(raw)
    assert packet is not None and packet.fragment
    assert (packet.protocol, packet.readable) == (protocol, readable)
    packet.set_source(ADDRESSES[packet.version][0])  # addresses can be changed in all of them
    assert packet.source == ADDRESSES[packet.version][0]


def test_the_packet_that_an_icmp_error_quotes_can_be_changed() -> None:
    inner = IP(src="10.0.2.1", dst="10.0.2.2") / TCP(sport=9, dport=80)
    packet = Datagram.of(frame(V4, ICMP(type=3, code=1), bytes(inner)[:28]))
    assert packet is not None
    quoted = packet.quoted
    assert quoted is not None and quoted.source_port == 9
    quoted.set_source(bytes([10, 0, 1, 2]), 5)
    packet.requote(quoted)
    got = Ether(bytes(packet))
    assert (got[IPerror].src, got[TCPerror].sport) == ("10.0.1.2", 5)
    assert bytes(packet) == recomputed(bytes(packet))
    assert got[IPerror].chksum == IP(bytes(IP(src="10.0.1.2", dst="10.0.2.2", len=40, proto=6, ttl=64))).chksum


def test_icmpv6_errors_quote_too() -> None:
    inner = V6 / UDP(sport=9, dport=53) / DATA
    packet = Datagram.of(frame(IPv6(src="fd00:2::2", dst="fd00:1::2"), ICMPv6DestUnreach(), bytes(inner)))
    assert packet is not None and packet.quoted is not None
    assert packet.quoted.source_port == 9


@pytest.mark.parametrize(
    "raw",
    [frame(ARP()), b"", frame(V4)[:30], frame(V4, TCP(), DATA)[:-1], frame(IP(ihl=4), TCP()), frame(V6, UDP())[:-1]],
    ids=["arp", "empty", "cut header", "cut data", "header length", "cut v6"],
)
def test_what_is_no_ip_packet_is_none(raw: bytes) -> None:
    assert Datagram.of(raw) is None


@given(st.binary(max_size=120), st.sampled_from([b"\x08\x00", b"\x86\xdd"]), st.integers(0, 255), st.booleans())
def test_any_bytes_are_read_or_refused(tail: bytes, ethertype: bytes, first: int, good_version: bool) -> None:
    version = (0x45 if ethertype == b"\x08\x00" else 0x60) if good_version else first
    packet = Datagram.of(bytes(12) + ethertype + bytes((version,)) + tail)
    if packet is None:
        return
    packet.set_source(bytes(len(packet.source)), 7 if packet.readable else None)
    if packet.readable:
        packet.payload = b"x"
    assert len(bytes(packet)) >= 34


@given(st.binary(min_size=2, max_size=64), st.binary(min_size=4, max_size=4), st.integers(0, 30))
def test_an_updated_checksum_is_the_one_computed_anew(data: bytes, new: bytes, at: int) -> None:
    at = min(at * 2, len(data) & ~1)
    before = data + bytes((1,))  # not all zero: only then is 0xFFFF no sum
    after = before[:at] + new[: len(before[at : at + 4])] + before[at + 4 :]
    if not any(after):
        return
    assert updated(checksum(before), ones_sum(before[at : at + 4]), ones_sum(after[at : at + 4])) == checksum(after)


def test_whole_checksums_are_scapys() -> None:
    generator = random.Random(3)
    for _ in range(50):
        raw = frame(V6, UDP(sport=generator.randrange(65536), dport=53), Raw(generator.randbytes(31)))
        segment = bytearray(raw[54:])
        field = int.from_bytes(segment[6:8], "big")
        segment[6:8] = b"\0\0"
        assert transport_checksum(raw[22:38], raw[38:54], 17, segment) == field
