"""RFC 7915, packet by packet: what goes in, what comes out. Packets are built, and checked, by scapy."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_LSRR
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.packet import Packet as Scapy
from scapy.packet import Raw

from middleboxes.nat64.errors import Untranslatable
from middleboxes.nat64.icmp import Limits
from middleboxes.nat64.parsed import parse
from middleboxes.nat64.prefix import Prefix
from middleboxes.nat64.translate import Ends, error_to_ipv4, error_to_ipv6, quoted, to_ipv4, to_ipv6
from middleboxes.packets import checksum
from splitmerge.errors import BadInput

PREFIX = Prefix.parse("64:ff9b::/96", "test")
HOST6, SERVER6 = "fd00:1::2", "64:ff9b::a00:202"
POOL4, SERVER4 = "10.0.2.100", "10.0.2.2"
OWN6, OWN4 = "fd00:1::1", "10.0.2.1"
LIMITS = Limits()
# The host's port 5000 is the pool's port 6000 in every case; identifiers too. The server's port is 80.


def a4(text: str) -> bytes:
    return bytes(IP(src=text))[12:16]


def a6(text: str) -> bytes:
    return bytes(IPv6(src=text))[8:24]


def ends4(packet: Scapy | None = None) -> Ends:
    """Of a packet from the host, in IPv4."""
    echo = packet is not None and (ICMPv6EchoRequest in packet or ICMPv6EchoReply in packet)
    return Ends(a4(POOL4), 6000, a4(SERVER4), 6000 if echo else 80)


def ends6(packet: Scapy | None = None) -> Ends:
    """Of a packet from the server, in IPv6."""
    echo = packet is not None and ICMP in packet
    return Ends(a6(SERVER6), 5000 if echo else 80, a6(HOST6), 5000)


def out(packet: Scapy, limits: Limits = LIMITS) -> Scapy:
    """An IPv6 packet of the host, translated; its checksums are right."""
    (raw,) = to_ipv4(parse(bytes(packet)), ends4(packet), limits, a6(OWN6), 77)
    return whole(IP(raw))


def back(packet: Scapy, limits: Limits = LIMITS) -> list[Scapy]:
    """An IPv4 packet of the server, translated."""
    return [IPv6(raw) for raw in to_ipv6(parse(bytes(packet)), ends6(packet), limits, a4(OWN4))]


def back1(packet: Scapy, limits: Limits = LIMITS) -> Scapy:
    (one,) = back(packet, limits)
    return whole(one)


def whole(packet: Scapy) -> Scapy:
    """The packet, if lengths and checksums are what scapy would have written."""
    again = packet.copy()
    computed = {IP: ("len", "chksum"), IPv6: ("plen",), UDP: ("len", "chksum"), TCP: ("chksum",), ICMP: ("chksum",)}
    computed |= dict.fromkeys((ICMPv6EchoRequest, ICMPv6EchoReply), ("cksum",))
    for layer, names in computed.items():
        for name in names if layer in again else ():
            again[layer].delfieldval(name)
    assert bytes(type(packet)(bytes(again))) == bytes(packet)
    return packet


def reason(packet: Scapy, limits: Limits = LIMITS) -> tuple[str, Scapy | None]:
    """Why a packet is not translated, and what its sender hears."""
    with pytest.raises(Untranslatable) as caught:
        (out if IPv6 in packet else back)(packet, limits)
    answer = caught.value.answer
    return caught.value.reason, (IPv6 if IPv6 in packet else IP)(answer) if answer else None


def six(payload: Scapy, **more: object) -> Scapy:
    return IPv6(src=HOST6, dst=SERVER6, hlim=64, **more) / payload


def four(payload: Scapy, **more: object) -> Scapy:
    return IP(src=SERVER4, dst=POOL4, ttl=64, **more) / payload


# -- addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [  # RFC 6052 §2.4, table 3
        ("2001:db8::/32", "2001:db8:c000:221::"),
        ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
        ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
        ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
    ],
)
def test_addresses_are_embedded_as_in_the_rfcs_table(prefix: str, expected: str) -> None:
    made = Prefix.parse(prefix, "test")
    assert made.embed(a4("192.0.2.33")) == a6(expected)
    assert made.has(a6(expected)) and made.extract(a6(expected)) == a4("192.0.2.33")
    assert not made.has(a6("fe80::1"))


@pytest.mark.parametrize("text", ["64:ff9b::/95", "nonsense", "2001:db8:0:0:100::/96", "64:ff9b::1/96", "10.0.0.0/8"])
def test_a_wrong_prefix_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="prefix here"):
        Prefix.parse(text, "prefix here")


# -- headers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        TCP(sport=5000, dport=80, flags="PA", seq=7, ack=9, options=[("MSS", 1440)]) / b"hello",
        UDP(sport=5000, dport=80) / b"odd",
        UDP(sport=5000, dport=80) / (bytes(range(256)) * 5),
        ICMPv6EchoRequest(id=5000, seq=3, data=b"ping"),
        ICMPv6EchoReply(id=5000, seq=3, data=b"pong!"),
    ],
    ids=["tcp", "udp", "long udp", "echo request", "echo reply"],
)
def test_ipv6_becomes_ipv4(payload: Scapy) -> None:
    packet = six(payload, tc=0xB8, fl=5)
    got = out(packet)
    assert (got.src, got.dst, got.ttl, got.tos, got.ihl) == (POOL4, SERVER4, 63, 0xB8, 5)
    if ICMP in got:
        kinds = {128: 8, 129: 0}
        assert (got[ICMP].type, got[ICMP].id, got[ICMP].seq) == (kinds[payload.type], 6000, 3)
        assert bytes(got[ICMP].payload) == payload.data
    else:
        layer = type(payload)
        assert (got[layer].sport, got[layer].dport) == (6000, 80)
        assert bytes(got[layer].payload) == bytes(payload.payload)


@pytest.mark.parametrize(
    "payload",
    [
        TCP(sport=80, dport=5000, flags="SA", seq=7, ack=9) / b"hello",
        UDP(sport=80, dport=5000) / b"odd",
        ICMP(type=8, id=6000, seq=3) / b"ping",
        ICMP(type=0, id=6000, seq=3) / b"pong!",
    ],
    ids=["tcp", "udp", "echo request", "echo reply"],
)
def test_ipv4_becomes_ipv6(payload: Scapy) -> None:
    got = back1(four(payload, tos=0xB8, flags="DF"))
    assert (got.src, got.dst, got.hlim, got.tc, got.fl) == (SERVER6, HOST6, 63, 0xB8, 0)
    if isinstance(payload, ICMP):
        layer = ICMPv6EchoRequest if payload.type == 8 else ICMPv6EchoReply
        assert (got[layer].id, got[layer].seq, got[layer].data) == (5000, 3, bytes(payload.payload))
    else:
        layer = type(payload)
        assert (got[layer].sport, got[layer].dport) == (80, 5000)


@pytest.mark.parametrize(("size", "flag", "identification"), [(1232, "", 77), (1233, "DF", 77)])
def test_small_packets_may_be_fragmented_on_the_way_and_large_ones_may_not(
    size: int, flag: str, identification: int
) -> None:
    got = out(six(UDP(sport=5000, dport=80) / bytes(size)))
    assert (str(got.flags), got.id, got.len) == (flag, identification, size + 28)


def test_extension_headers_and_options_are_left_out() -> None:
    got = out(six(IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(sport=5000, dport=80) / b"x"))
    assert got.proto == 17 and got.ihl == 5 and got.len == 29
    finished = IPOption_LSRR(routers=[POOL4], pointer=8)  # its sum, says scapy, is over the last router
    got = back1(four(UDP(sport=80, dport=5000) / b"x", options=[finished]))
    assert got.plen == 9


def test_a_source_route_that_goes_on_is_refused_and_the_sender_told() -> None:
    why, answer = reason(six(IPv6ExtHdrRouting(segleft=1, addresses=["fd00::9"]) / UDP(sport=5000, dport=80)))
    assert why == "source_route" and answer is not None
    assert (answer[ICMPv6ParamProblem].code, answer[ICMPv6ParamProblem].ptr, answer.dst) == (0, 43, HOST6)
    why, answer = reason(four(UDP(sport=80, dport=5000), options=[IPOption_LSRR(routers=[SERVER4])]))
    assert why == "source_route" and answer is not None
    assert (answer[ICMP].type, answer[ICMP].code, answer.src, answer.dst) == (3, 5, OWN4, SERVER4)


def test_the_last_hop_ends_here_and_the_sender_is_told() -> None:
    late = six(UDP(sport=5000, dport=80) / b"x")
    late.hlim = 1
    why, answer = reason(late)
    assert why == "hops" and answer is not None and answer[ICMPv6TimeExceeded].code == 0 and answer.src == OWN6
    late = four(UDP(sport=80, dport=5000) / b"x")
    late.ttl = 1
    why, answer = reason(late)
    assert why == "hops" and answer is not None and (answer[ICMP].type, answer[ICMP].code) == (11, 0)


def test_a_translator_that_is_no_hop_of_its_own_leaves_the_count() -> None:
    assert out(six(UDP(sport=5000, dport=80)), Limits(hops=0)).ttl == 64
    assert back1(four(UDP(sport=80, dport=5000)), Limits(hops=0)).hlim == 64


# -- checksums -----------------------------------------------------------------------------------------------


def test_udp_without_a_checksum_gets_one_in_ipv6() -> None:
    got = back1(four(UDP(sport=80, dport=5000, chksum=0) / b"data"))
    assert got[UDP].chksum != 0


def test_udp_without_a_checksum_is_dropped_if_it_is_not_whole_or_comes_by_ipv6() -> None:
    assert reason(four(UDP(sport=80, dport=5000, chksum=0) / b"datadata", flags="MF")) == ("udp_checksum", None)
    assert reason(six(UDP(sport=5000, dport=80, chksum=0) / b"data")) == ("udp_checksum", None)


@pytest.mark.parametrize("payload", [TCP(sport=5000, dport=80), UDP(sport=5000, dport=80) / b"x"], ids=["tcp", "udp"])
def test_a_wrong_checksum_stays_wrong(payload: Scapy) -> None:
    packet = IPv6(bytes(six(payload)))
    packet[type(payload)].chksum ^= 0x0101
    (raw,) = to_ipv4(parse(bytes(packet)), ends4(), LIMITS, a6(OWN6))
    with pytest.raises(AssertionError):
        whole(IP(raw))


@settings(max_examples=40)
@given(st.binary(max_size=64), st.integers(1, 65535), st.integers(0, 255), st.integers(2, 255))
def test_there_and_back_again_is_the_same_packet(data: bytes, port: int, traffic_class: int, hops: int) -> None:
    """With no hops of its own, and a translation to the same ports, nothing is lost but the flow label."""
    for payload in (UDP(sport=port, dport=80), TCP(sport=port, dport=80), ICMPv6EchoRequest(id=port)):
        packet = bytes(IPv6(src=HOST6, dst=SERVER6, hlim=hops, tc=traffic_class) / payload / Raw(data))
        echo = isinstance(payload, ICMPv6EchoRequest)
        there = Ends(a4(POOL4), 6000, a4(SERVER4), 6000 if echo else 80)
        again = Ends(a6(HOST6), port, a6(SERVER6), port if echo else 80)
        (four_,) = to_ipv4(parse(packet), there, Limits(hops=0), a6(OWN6))
        whole(IP(four_))
        (six_,) = to_ipv6(parse(four_), again, Limits(hops=0), a4(OWN4))
        assert six_ == packet


# -- fragments and MTUs --------------------------------------------------------------------------------------


def test_fragments_of_ipv6_become_fragments_of_ipv4() -> None:
    first = six(IPv6ExtHdrFragment(id=0x12345678, m=1, nh=17) / UDP(sport=5000, dport=80, len=24, chksum=9) / bytes(8))
    got = IP(to_ipv4(parse(bytes(first)), ends4(), LIMITS, a6(OWN6))[0])
    assert (got.id, str(got.flags), got.frag, got.len, got[UDP].sport) == (0x5678, "MF", 0, 36, 6000)
    later = six(IPv6ExtHdrFragment(id=0x12345678, m=0, offset=2, nh=17) / Raw(b"12345678"))
    got = IP(to_ipv4(parse(bytes(later)), ends4(), LIMITS, a6(OWN6))[0])
    assert (got.id, str(got.flags), got.frag, bytes(got.payload)) == (0x5678, "", 2, b"12345678")


def test_fragments_of_ipv4_become_fragments_of_ipv6() -> None:
    got = IPv6(
        to_ipv6(parse(bytes(four(Raw(b"12345678"), id=99, frag=3, flags="MF", proto=17))), ends6(), LIMITS, b"")[0]
    )
    header = got[IPv6ExtHdrFragment]
    assert (header.id, header.offset, header.m, header.nh) == (99, 3, 1, 17)
    assert bytes(header.payload) == b"12345678" and got.plen == 16


def test_a_long_packet_without_df_is_cut_for_the_least_mtu() -> None:
    datagram = four(UDP(sport=80, dport=5000) / (bytes(range(250)) * 5), id=99)
    parts = back(datagram)
    assert [len(part) <= 1280 for part in parts] == [True, True]
    assert [(part[IPv6ExtHdrFragment].offset, part[IPv6ExtHdrFragment].m) for part in parts] == [(0, 1), (154, 0)]
    joined = b"".join(bytes(part[IPv6ExtHdrFragment].payload) for part in parts)
    whole(IPv6(src=SERVER6, dst=HOST6, nh=17) / UDP(joined))
    assert joined[8:] == bytes(range(250)) * 5


@pytest.mark.parametrize(("size", "fits"), [(1452, True), (1453, False)])
def test_a_long_packet_with_df_fits_or_its_sender_hears_what_does(size: int, fits: bool) -> None:
    packet = four(UDP(sport=80, dport=5000) / bytes(size), flags="DF")
    if fits:
        assert len(back1(packet)) == 1500
        return
    why, answer = reason(packet)
    assert why == "too_big" and answer is not None
    assert (answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu) == (3, 4, 1480)
    assert len(answer) <= 576


def test_a_packet_too_long_for_ipv4_is_refused_with_an_mtu() -> None:
    why, answer = reason(six(UDP(sport=5000, dport=80) / bytes(1400)), Limits(mtu4=1400))
    assert why == "too_big" and answer is not None and answer[ICMPv6PacketTooBig].mtu == 1420 and len(answer) <= 1280


def test_fragmented_echoes_are_not_translated() -> None:
    assert reason(four(ICMP(type=8, id=6000) / b"12345678", flags="MF")) == ("icmp_fragment", None)


# -- ICMP errors ---------------------------------------------------------------------------------------------

SENT4 = IP(src=POOL4, dst=SERVER4, ttl=9, flags="DF") / UDP(sport=6000, dport=80) / b"what was sent"
SENT6 = IPv6(src=SERVER6, dst=HOST6, hlim=9) / UDP(sport=80, dport=5000) / b"what was sent"


def error_back(error: Scapy, limits: Limits = LIMITS) -> Scapy:
    """An ICMP error of a router outside about what the host has sent, as ICMPv6."""
    packet = parse(bytes(IP(src="10.9.9.9", dst=POOL4) / error))
    inner = quoted(packet)
    ends = Ends(a6(HOST6), 5000, a6(SERVER6), 80)
    return IPv6(error_to_ipv6(packet, PREFIX.embed(packet.source), a6(HOST6), inner, ends, limits))


def error_out(error: Scapy, limits: Limits = LIMITS) -> Scapy:
    """An ICMPv6 error of the host about what the server has sent, as ICMP."""
    packet = parse(bytes(IPv6(src=HOST6, dst=SERVER6) / error))
    inner = quoted(packet)
    ends = Ends(a4(SERVER4), 80, a4(POOL4), 6000)
    return IP(error_to_ipv4(packet, a4(POOL4), a4(SERVER4), inner, ends, limits))


@pytest.mark.parametrize(
    ("kind", "code", "rest", "expected"),
    [
        (3, 0, 0, (1, 0, 0)), (3, 1, 0, (1, 0, 0)), (3, 2, 0, (4, 1, 6)), (3, 3, 0, (1, 4, 0)),
        (3, 4, 1400, (2, 0, 1420)), (3, 4, 9000, (2, 0, 1500)), (3, 4, 600, (2, 0, 1280)), (3, 4, 0, (2, 0, 1280)),
        (3, 5, 0, (1, 0, 0)), (3, 6, 0, (1, 0, 0)), (3, 7, 0, (1, 0, 0)), (3, 8, 0, (1, 0, 0)), (3, 9, 0, (1, 1, 0)),
        (3, 10, 0, (1, 1, 0)), (3, 11, 0, (1, 0, 0)), (3, 12, 0, (1, 0, 0)), (3, 13, 0, (1, 1, 0)), (3, 14, 0, None),
        (3, 15, 0, (1, 1, 0)), (11, 0, 0, (3, 0, 0)), (11, 1, 0, (3, 1, 0)), (12, 0, 0 << 24, (4, 0, 0)),
        (12, 0, 1 << 24, (4, 0, 1)), (12, 0, 3 << 24, (4, 0, 4)), (12, 2, 8 << 24, (4, 0, 7)),
        (12, 0, 9 << 24, (4, 0, 6)), (12, 0, 13 << 24, (4, 0, 8)), (12, 0, 19 << 24, (4, 0, 24)),
        (12, 0, 5 << 24, None), (12, 1, 0, None),
    ],
)  # fmt: skip
def test_errors_of_ipv4_as_errors_of_ipv6(
    kind: int, code: int, rest: int, expected: tuple[int, int, int] | None
) -> None:
    body = bytearray(bytes((kind, code, 0, 0)) + rest.to_bytes(4, "big") + bytes(SENT4))
    body[2:4] = checksum(body).to_bytes(2, "big")
    packet = IP(src="10.9.9.9", dst=POOL4, proto=1) / Raw(bytes(body))
    parsed = parse(bytes(packet))
    ends = Ends(a6(HOST6), 5000, a6(SERVER6), 80)
    if expected is None:
        with pytest.raises(Untranslatable, match="icmp_type"):
            error_to_ipv6(parsed, PREFIX.embed(parsed.source), a6(HOST6), quoted(parsed), ends, LIMITS)
        return
    raw = error_to_ipv6(parsed, PREFIX.embed(parsed.source), a6(HOST6), quoted(parsed), ends, LIMITS)
    assert (raw[40], raw[41], int.from_bytes(raw[44:48], "big")) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ICMPv6DestUnreach(code=0), (3, 1, 0)), (ICMPv6DestUnreach(code=1), (3, 10, 0)),
        (ICMPv6DestUnreach(code=2), (3, 1, 0)), (ICMPv6DestUnreach(code=3), (3, 1, 0)),
        (ICMPv6DestUnreach(code=4), (3, 3, 0)), (ICMPv6DestUnreach(code=5), None),
        (ICMPv6PacketTooBig(mtu=1400), (3, 4, 1380)), (ICMPv6PacketTooBig(mtu=9000), (3, 4, 1480)),
        (ICMPv6TimeExceeded(code=0), (11, 0, 0)), (ICMPv6TimeExceeded(code=1), (11, 1, 0)),
        (ICMPv6ParamProblem(code=0, ptr=7), (12, 0, 8 << 24)), (ICMPv6ParamProblem(code=0, ptr=6), (12, 0, 9 << 24)),
        (ICMPv6ParamProblem(code=0, ptr=4), (12, 0, 2 << 24)), (ICMPv6ParamProblem(code=0, ptr=30), (12, 0, 16 << 24)),
        (ICMPv6ParamProblem(code=0, ptr=2), None), (ICMPv6ParamProblem(code=1), (3, 2, 0)),
        (ICMPv6ParamProblem(code=2), None),
    ],
    ids=str,
)  # fmt: skip
def test_errors_of_ipv6_as_errors_of_ipv4(error: Scapy, expected: tuple[int, int, int] | None) -> None:
    if expected is None:
        with pytest.raises(Untranslatable, match="icmp_type"):
            error_out(error / SENT6)
        return
    got = bytes(error_out(error / SENT6))
    assert (got[20], got[21], int.from_bytes(got[24:28], "big")) == expected


def test_the_packet_in_an_error_is_translated_too() -> None:
    got = error_back(ICMP(type=3, code=3) / SENT4)
    assert (got.src, got.dst) == ("64:ff9b::a09:909", HOST6)
    about = IPv6(bytes(got[ICMPv6DestUnreach].payload))
    assert (about.src, about.dst, about.hlim, about[UDP].sport, about[UDP].dport) == (HOST6, SERVER6, 9, 5000, 80)
    whole(about)
    checked(got)
    got = error_out(ICMPv6DestUnreach(code=4) / SENT6)
    about = IP(bytes(got[ICMP].payload))
    assert (about.src, about.dst, about.ttl, about[UDP].sport, about[UDP].dport) == (SERVER4, POOL4, 9, 80, 6000)
    whole(about)
    checked(got)


def checked(packet: Scapy) -> None:
    """The ICMP checksum is what scapy would write."""
    again = packet.copy()
    layer = again.payload
    (name,) = {"chksum", "cksum"} & layer.fields.keys()
    right = layer.fields[name]
    layer.delfieldval(name)
    rebuilt = type(packet)(bytes(again))
    assert getattr(rebuilt.payload, name) == right


def test_a_quotation_that_is_cut_keeps_its_length_and_a_checksum_that_is_there() -> None:
    sent = IP(src=POOL4, dst=SERVER4, len=1480) / TCP(sport=6000, dport=80, seq=5)
    got = error_back(ICMP(type=3, code=1) / Raw(bytes(sent)[:28]))  # the eight bytes of RFC 792
    about = bytes(got)[48:]
    assert int.from_bytes(about[4:6], "big") == 1460 and len(about) == 48
    assert about[40:42] == (5000).to_bytes(2, "big")


def test_an_extension_behind_the_quotation_is_left_out() -> None:
    quotation = bytes(SENT4).ljust(128, b"\0")
    body = bytearray(bytes(ICMP(type=11, length=32) / Raw(quotation + b"extension")))
    got = error_back(ICMP(bytes(body)))
    assert bytes(got).count(b"extension") == 0 and bytes(got)[44] == 0


def test_a_wrong_checksum_of_an_error_is_noticed() -> None:
    packet = parse(bytes(IP(src="10.9.9.9", dst=POOL4) / ICMP(type=3, code=1, chksum=1) / SENT4))
    with pytest.raises(Untranslatable, match="checksum"):
        quoted(packet)


def test_an_error_is_no_longer_than_its_version_allows() -> None:
    long = IPv6(src=SERVER6, dst=HOST6) / UDP(sport=80, dport=5000) / bytes(1100)
    assert len(error_out(ICMPv6DestUnreach(code=4) / long)) == 576


# -- anything else -------------------------------------------------------------------------------------------


@given(st.binary(max_size=120), st.sampled_from([4, 6]))
def test_whatever_comes_is_translated_or_refused(data: bytes, version: int) -> None:
    raw = bytes([version << 4 | (5 if version == 4 else 0)]) + data
    for translate in (
        lambda: to_ipv4(parse(raw), ends4(), LIMITS, a6(OWN6)) if version == 6 else None,
        lambda: to_ipv6(parse(raw), ends6(), LIMITS, a4(OWN4)) if version == 4 else None,
        lambda: quoted(packet) if (packet := parse(raw)).is_error else None,
    ):
        try:
            translate()
        except Untranslatable as error:
            assert error.reason
