"""The packet modifier, packet by packet: mappings, errors, time."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, TCPerror
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet as Scapy
from scapy.packet import Raw

from splitmerge.errors import BadInput
from splitmerge.flowkey import FlowKey
from tests.middleboxes.alg_box import CLIENT, EXTERNAL, SERVER, Box, back, out


def test_a_connection_appears_under_the_external_address_and_back() -> None:
    box = Box()
    sent = box.through(out())
    assert sent is not None and (sent.src, sent.dst, sent.dport) == (EXTERNAL, SERVER, 80)
    answer = box.through(back(sent))
    assert answer is not None and (answer.src, answer.dst, answer.dport) == (SERVER, CLIENT, 5000)
    again = box.through(out("A"))
    assert again is not None and again.sport == sent.sport


def test_both_keys_have_one_bucket() -> None:
    box = Box()
    for sport in range(5000, 5050):
        sent = box.through(out(sport=sport))
        assert sent is not None
    for flow in box.guest.table.flows():
        assert {key.bucket for key in flow.keys} == {flow.key.bucket} and not flow.strays


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (UDP(sport=9, dport=53), UDP(sport=53, dport=9)),
        (ICMP(type=8, id=9, seq=3), ICMP(type=0, id=9, seq=3)),
    ],
    ids=["udp", "echo"],
)
def test_other_protocols_are_translated_both_ways(first: Scapy, second: Scapy) -> None:
    box = Box()
    sent = box.through(IP(src=CLIENT, dst=SERVER) / first / b"data")
    assert sent is not None and sent.src == EXTERNAL
    second = second.copy()
    if isinstance(second, UDP):
        second.dport = sent[UDP].sport
    else:
        second.id = sent[ICMP].id
    answer = box.through(IP(src=SERVER, dst=EXTERNAL) / second / b"data")
    assert answer is not None and answer.dst == CLIENT
    assert (answer[UDP].dport if UDP in answer else answer[ICMP].id) == 9


def test_ipv6_has_external_addresses_of_its_own() -> None:
    box = Box()
    sent = box.through(IPv6(src="fd00:1::2", dst="fd00:2::2") / TCP(sport=5, dport=80, flags="S"))
    assert sent is not None and sent.src == "fd00:2::100"
    answer = box.through(IPv6(src="fd00:2::2", dst="fd00:2::100") / TCP(sport=80, dport=sent.sport, flags="SA"))
    assert answer is not None and (answer.dst, answer.dport) == ("fd00:1::2", 5)


def test_a_bucket_that_is_full_on_one_address_uses_the_next() -> None:
    box = Box(external=["10.0.2.100", "10.0.2.3"], first_port=1024, last_port=65535)
    addresses = set()
    made = 0
    for number in range(1, 60_000):
        key = FlowKey.parse(f"udp,{CLIENT}:{number},{SERVER}:53")
        if key.bucket != 5:
            continue
        sent = box.through(IP(src=CLIENT, dst=SERVER) / UDP(sport=number, dport=53))
        made += 1
        assert (sent is not None) == (made <= 63 * 2 + 2) or sent is None
        addresses.add(sent.src if sent is not None else None)
        if made >= 64:
            break
    assert {"10.0.2.100"} < addresses or made < 64


def test_a_server_inside_is_reached_by_a_forwarded_port() -> None:
    box = Box(forward=[{"port": 8080, "to": CLIENT, "to_port": 80}])
    request = IP(src=SERVER, dst=EXTERNAL) / TCP(sport=6000, dport=8080, flags="S")
    sent = box.through(request)
    assert sent is not None and (sent.dst, sent.dport, sent.src) == (CLIENT, 80, SERVER)
    answer = box.through(IP(src=CLIENT, dst=SERVER) / TCP(sport=80, dport=6000, flags="SA"))
    assert answer is not None and (answer.src, answer.sport) == (EXTERNAL, 8080)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (IP(src=SERVER, dst=EXTERNAL) / TCP(dport=99, flags="S"), "dropped_unsolicited"),
        (IP(src=SERVER, dst=CLIENT) / UDP(), "dropped_unsolicited"),
        (out("A"), "dropped_no_mapping"),
        (IP(src=CLIENT, dst=EXTERNAL) / UDP(), "dropped_hairpin"),
        (IP(src=CLIENT, dst=SERVER, flags="MF") / UDP(), "dropped_fragment"),
        (IP(src=CLIENT, dst=SERVER, proto=47) / b"gre", "dropped_protocol"),
        (IP(src=SERVER, dst=EXTERNAL) / ICMP(type=3) / IP(src=EXTERNAL, dst=SERVER) / UDP(), "dropped_icmp_error"),
    ],
    ids=["port", "inside address", "no SYN", "hairpin", "fragment", "protocol", "error about nothing"],
)
def test_what_cannot_be_translated_is_dropped_and_counted(packet: Scapy, reason: str) -> None:
    box = Box()
    assert box.dropped(packet) == reason
    assert box.guest.table.count == 0


def test_icmp_errors_are_put_back_with_what_they_quote() -> None:
    box = Box()
    sent = box.through(out())
    assert sent is not None
    error = IP(src=SERVER, dst=EXTERNAL) / ICMP(type=3, code=1) / Raw(bytes(sent)[:28])
    got = box.through(error)
    assert got is not None and (got.dst, got[IPerror].src, got[TCPerror].sport) == (CLIENT, CLIENT, 5000)


@pytest.mark.parametrize(
    ("flags", "least", "most"),
    [("S", 240, 480), ("A", 7440, 2 * 7440), ("R", 10, 20)],
    ids=["opening", "established", "reset"],
)
def test_time_outs_depend_on_the_connections_stage(flags: str, least: float, most: float) -> None:
    box = Box()
    box.through(out())
    if flags != "S":
        box.through(out(flags))
    box.guest.fire_timers(least - 1)
    assert box.guest.table.count == 1
    for now in range(int(least), int(most) + 2):
        box.guest.fire_timers(now)
    assert box.guest.table.count == 0


def test_both_fins_close() -> None:
    box = Box()
    sent = box.through(out())
    assert sent is not None
    box.through(out("A"))
    box.through(out("FA"))
    box.guest.fire_timers(100)
    assert box.guest.table.count == 1
    box.through(back(sent, "FA"))
    for now in range(100, 125):
        box.guest.fire_timers(now)
    assert box.guest.table.count == 0


def test_a_connection_of_the_endpoints_of_a_closed_one_is_not_forgotten_as_that() -> None:
    box = Box()
    for flags in ("S", "A", "R", "S", "A"):
        sent = box.through(out(flags))
    assert sent is not None
    for now in range(100, 125):
        box.guest.fire_timers(now)
    assert box.guest.table.count == 1
    assert box.through(back(sent, "A")) is not None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"inside": ["10.0.1.1/24"]}, "host bits"),
        ({"inside": []}, "inside: no network"),
        (
            {"forward": [{"port": 1, "to": "10.0.2.9", "to_port": 2}]},
            "forward: 10.0.2.9 is in none of the networks inside",
        ),
        ({"external": ["10.0.1.7"]}, "is inside"),
        ({"external": ["ten"]}, "external"),
        ({"first_port": 9, "last_port": 5}, "above"),
        ({"tcp_idle": 0}, "tcp_idle"),
        ({"forward": [{"port": 1, "to": "x", "to_port": 2}]}, "forward"),
        ({"forward": [{"port": 1, "to": CLIENT, "to_port": 2}] * 2}, "twice"),
        ({"nat": True}, "nat"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Box(**settings)
