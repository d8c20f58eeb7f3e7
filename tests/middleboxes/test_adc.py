"""The load balancer, packet by packet: who gets what, health checks, time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet as Scapy
from scapy.packet import Raw

from guestlib import Guest, Packet, ReplicaConfig, prepare
from middleboxes.adc import LOAD, Adc, Check, Load, Server, combine
from middleboxes.adc.choice import least_connections, round_robin
from splitmerge.errors import BadInput

CLIENT, VIRTUAL, OWN = "10.0.1.2", "10.0.1.100", "10.0.2.100"
SERVERS = [{"address": "10.0.2.2", "port": 8001}, {"address": "10.0.2.2", "port": 8002}]


def service(**changes: Any) -> dict[str, Any]:
    return {"address": VIRTUAL, "port": 80, "servers": SERVERS, "health": {"kind": "none"}} | changes


class Box:
    """The middlebox with a guest and no network."""

    def __init__(self, *services: dict[str, Any], **settings: Any) -> None:
        self.middlebox = Adc(lambda: 7)
        settings["services"] = list(services) or [service()]
        config = ReplicaConfig(replica=1, interface="x", control="unix:/c", peer="unix:/p", settings=settings)
        self.guest: Guest = prepare(self.middlebox, config)

    def send(self, packet: Scapy) -> list[Scapy]:
        """What a packet makes the balancer send; the checksums are right, or this fails."""
        self.guest.sent.clear()
        self.middlebox.on_packet(self.guest, Packet.of(bytes(Ether() / packet)))
        return self.sent()

    def sent(self) -> list[Scapy]:
        out = []
        for frame in self.guest.sent:
            got = Ether(frame).payload
            again = got.copy()
            for layer in (IP, TCP, UDP):
                if layer in again:
                    del again[layer].chksum
            assert bytes(type(got)(bytes(again))) == bytes(got)
            out.append(got)
        self.guest.sent.clear()
        return out

    def through(self, packet: Scapy) -> Scapy:
        (got,) = self.send(packet)
        return got

    def dropped(self, packet: Scapy) -> str:
        before = dict(self.guest.figures)
        assert self.send(packet) == []
        (name,) = [name for name, count in self.guest.figures.items() if count != before.get(name)]
        return name

    def load(self) -> Load:
        load: Load = self.guest.get_shared(LOAD)
        self.guest.put_shared(LOAD)
        return load

    def tick(self, now: float) -> list[Scapy]:
        self.guest.sent.clear()
        self.guest.fire_timers(now)
        return self.sent()


def syn(sport: int = 5000, flags: str = "S", **more: Any) -> Scapy:
    return IP(src=CLIENT, dst=VIRTUAL) / TCP(sport=sport, dport=80, flags=flags, **more)


def answer(to: Scapy, flags: str = "SA", **more: Any) -> Scapy:
    return IP(src=to.dst, dst=to.src) / TCP(sport=to.dport, dport=to.sport, flags=flags, **more)


# -- connections -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["own", "client"])
def test_a_connection_goes_to_a_server_and_its_answers_come_from_the_virtual_address(source: str) -> None:
    box = Box(service(source=source))
    sent = box.through(syn())
    assert (sent.dst, sent.dport) in {("10.0.2.2", 8001), ("10.0.2.2", 8002)}
    assert sent.src == (OWN if source == "own" else CLIENT)
    got = box.through(answer(sent))
    assert (got.src, got.sport, got.dst, got.dport) == (VIRTUAL, 80, CLIENT, 5000)
    again = box.through(syn(flags="A"))
    assert (again.dst, again.dport, again.sport) == (sent.dst, sent.dport, sent.sport), "it stays there"


def test_both_keys_of_a_connection_have_one_bucket_with_an_own_source() -> None:
    box = Box()
    for sport in range(5000, 5040):
        box.through(syn(sport))
    assert all(not flow.strays for flow in box.guest.table.flows())


def test_round_robin_gives_each_its_turn_by_weight() -> None:
    servers = [SERVERS[0] | {"weight": 3}, SERVERS[1]]
    box = Box(service(servers=servers))
    counts = Counter(box.through(syn(sport)).dport for sport in range(5000, 5040))
    assert counts == {8001: 30, 8002: 10}
    assert box.load().given == {"10.0.2.2:8001": 30, "10.0.2.2:8002": 10}


def test_least_connections_counts_those_that_are_open() -> None:
    box = Box(service(policy="least-connections"), tcp_opening=5)
    ports = [box.through(syn(sport)).dport for sport in range(5000, 5010)]
    assert Counter(ports) == {8001: 5, 8002: 5}
    for sport, port in zip(range(5000, 5010), ports, strict=True):
        if port == 8001:
            box.through(syn(sport, "R"))
    box.guest.fire_timers(5.5)
    box.guest.fire_timers(10.9)
    box.guest.fire_timers(16)
    assert box.load().open["10.0.2.2:8001"] == 0
    assert {box.through(syn(sport)).dport for sport in range(6000, 6004)} == {8001, 8002}


def test_udp_and_ipv6_are_balanced_too() -> None:
    six = {
        "address": "fd00:1::100", "port": 53, "protocol": "udp", "health": {"kind": "none"},
        "servers": [{"address": "fd00:2::2", "port": 5353}],
    }  # fmt: skip
    box = Box(service(), six)
    sent = box.through(IPv6(src="fd00:1::2", dst="fd00:1::100") / UDP(sport=9, dport=53) / b"question")
    assert (sent.src, sent.dst, sent.dport) == ("fd00:2::100", "fd00:2::2", 5353)
    got = box.through(IPv6(src=sent.dst, dst=sent.src) / UDP(sport=5353, dport=sent.sport) / b"answer")
    assert (got.src, got.sport, got.dst, got.dport) == ("fd00:1::100", 53, "fd00:1::2", 9)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (IP(src=CLIENT, dst=VIRTUAL) / TCP(dport=81, flags="S"), "dropped_no_service"),
        (syn(flags="A"), "dropped_no_connection"),
        (IP(src=CLIENT, dst=VIRTUAL, flags="MF") / TCP(dport=80), "dropped_protocol"),
        (IP(src="10.0.2.2", dst=CLIENT) / TCP(sport=8001, flags="SA"), "dropped_no_service"),
    ],
    ids=["port", "no SYN", "fragment", "server by itself"],
)
def test_what_is_no_services_is_dropped_and_counted(packet: Scapy, reason: str) -> None:
    assert Box().dropped(packet) == reason


def test_silence_ends_a_connection_and_a_closed_ones_port_may_be_used_again() -> None:
    box = Box()
    sent = box.through(syn())
    box.through(answer(sent))
    box.through(syn(flags="A"))
    box.through(syn(flags="FA"))
    box.through(answer(sent, "FA"))
    assert box.load().open == {sent_name(sent): 1}
    second = box.through(syn())
    assert sum(box.load().open.values()) == 1 and second.dport != sent.dport
    for now in range(30):
        box.guest.fire_timers(now)
    assert box.guest.table.count == 0 and sum(box.load().open.values()) == 0


def sent_name(sent: Scapy) -> str:
    return f"{sent.dst}:{sent.dport}"


# -- health ------------------------------------------------------------------------------------------------

CHECKED = {"kind": "tcp", "interval": 1, "falls": 2, "rises": 2}


def checks(packets: list[Scapy]) -> dict[int, Scapy]:
    """The health checks' SYNs among these, by server port."""
    return {each.dport: each for each in packets if each[TCP].flags == "S" and each.sport < 1024}


def test_checks_begin_with_the_first_connection_and_go_on() -> None:
    box = Box(service(health=CHECKED))
    first = box.send(syn())
    assert set(checks(first)) == {8001, 8002} and len(first) == 3
    reset = box.through(answer(checks(first)[8001], ack=checks(first)[8001].seq + 1))
    assert reset[TCP].flags == "RA", "the port accepts: that was all"
    assert set(checks(box.tick(1.1))) == {8001, 8002}


def test_a_server_that_refuses_goes_down_and_comes_back() -> None:
    box = Box(service(health=CHECKED))
    seen = checks(box.send(syn()))
    for now in (1.1, 2.2):
        box.send(answer(seen[8001], "RA"))
        box.send(answer(seen[8002], "SA", ack=seen[8002].seq + 1))
        seen = checks(box.tick(now))
    assert box.load().down == {"10.0.2.2:8001": 1} and box.guest.figures["servers_down"] == 1
    assert {box.through(syn(sport)).dport for sport in range(6000, 6008)} == {8002}
    for now in (3.3, 4.4):
        for port in seen:
            box.send(answer(seen[port], "SA", ack=seen[port].seq + 1))
        seen = checks(box.tick(now))
    assert box.load().down == {"10.0.2.2:8001": 0}
    assert {box.through(syn(sport)).dport for sport in range(7000, 7008)} == {8001, 8002}


def test_silence_is_a_failure_and_without_servers_nobody_is_served() -> None:
    box = Box(service(health=CHECKED))
    box.send(syn())
    for now in (1.1, 2.2, 3.3):
        box.tick(now)
    assert box.guest.figures["servers_down"] == 2
    assert box.dropped(syn(6000)) == "dropped_no_server"


def test_a_connection_that_no_server_answered_is_given_to_another_when_its_server_is_down() -> None:
    box = Box(service(health=CHECKED))
    first = box.send(syn())
    connection = next(each for each in first if each.sport >= 1024)
    seen = checks(first)
    other = 8001 + 8002 - connection.dport
    for now in (1.1, 2.2):
        box.send(answer(seen[connection.dport], "R"))
        box.send(answer(seen[other], "SA", ack=seen[other].seq + 1))
        seen = checks(box.tick(now))
    again = next(each for each in box.send(syn()) if each.sport >= 1024)
    assert again.dport == other


def test_http_checks_ask_and_judge_the_status() -> None:
    box = Box(service(health={"kind": "http", "path": "/health", "falls": 1}))
    look = checks(box.send(syn()))[8001]
    (ask,) = box.send(answer(look, "SA", seq=500, ack=look.seq + 1))
    assert bytes(ask[Raw]).startswith(b"GET /health HTTP/1.0\r\n") and ask[TCP].ack == 501
    (done,) = box.send(answer(look, "PA", seq=501, ack=ask.seq + len(ask[Raw])) / b"HTTP/1.1 200 OK\r\n\r\n")
    assert done[TCP].flags == "RA"
    assert "10.0.2.2:8001" not in box.load().down
    look = checks(box.tick(1.1))[8001]
    (ask,) = box.send(answer(look, "SA", seq=500, ack=look.seq + 1))
    box.send(answer(look, "PA", seq=501, ack=ask.seq + len(ask[Raw])) / b"HTTP/1.1 503 Busy\r\n\r\n")
    assert box.load().down["10.0.2.2:8001"] == 1


def test_another_replicas_check_that_arrives_is_ended_and_ours_that_left_begins_again() -> None:
    box = Box(service(health=CHECKED))
    box.send(syn())
    for flow in list(box.guest.table.flows()):
        if isinstance(flow.state, Check):
            box.guest.delete_flow(flow.key)
    assert set(checks(box.send(syn(6000)))) == {8001, 8002}
    box.middlebox._checks.clear()  # as if they were another's
    assert checks(box.tick(1.1)) == {}
    assert not any(isinstance(flow.state, Check) for flow in box.guest.table.flows())


# -- choice ------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 10_000))
def test_round_robin_is_exact_over_a_whole_round(weights: list[int], start: int) -> None:
    servers = [Server(address="10.0.2.2", port=number + 1, weight=weight) for number, weight in enumerate(weights)]
    counts = Counter(round_robin(servers, turn).port for turn in range(start, start + sum(weights)))
    assert counts == {number + 1: weight for number, weight in enumerate(weights)}


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 50)), min_size=1, max_size=6), st.integers(0, 99))
def test_least_connections_never_passes_a_better_one_over(given_: list[tuple[int, int]], turn: int) -> None:
    servers = [Server(address="10.0.2.2", port=n + 1, weight=weight) for n, (weight, _) in enumerate(given_)]
    have = {server.name: count for server, (_, count) in zip(servers, given_, strict=True)}
    chosen = least_connections(servers, have, turn)
    assert all((have[chosen.name] + 1) / chosen.weight <= (have[server.name] + 1) / server.weight for server in servers)


# -- the rest ----------------------------------------------------------------------------------------------


def test_loads_add_up() -> None:
    one, two = Load({"a": 2}, {"a": 5}, {"a": 1}), Load({"a": -1, "b": 1}, {"b": 1}, {})
    assert combine([one, two]) == combine([two, one]) == Load({"a": 1, "b": 1}, {"a": 5, "b": 1}, {"a": 1})
    assert combine([one]) == one


@pytest.mark.parametrize(
    ("services", "settings", "said"),
    [
        ([], {"services": []}, "services"),
        ([service(), service()], {}, "given twice"),
        ([service(servers=[])], {}, "servers"),
        ([service(servers=SERVERS * 2)], {}, "a server is given twice"),
        ([service(servers=[{"address": "fd00::1", "port": 1}])], {}, "another version"),
        ([service()], {"own": ["fd00:2::100"]}, "no address of this version"),
        ([service(protocol="udp", health={"kind": "http"})], {}, "http health checks"),
        ([service(policy="random")], {}, "policy"),
        ([service(address="x")], {}, "service x:80"),
        ([service()], {"first_port": 2000, "last_port": 1999}, "above"),
    ],
)
def test_a_wrong_setting_is_named(services: list[dict[str, Any]], settings: dict[str, Any], said: str) -> None:
    config = ReplicaConfig(
        replica=1, interface="x", control="unix:/c", peer="unix:/p", settings={"services": services} | settings
    )
    with pytest.raises(BadInput, match=said):
        prepare(Adc(), config)


def test_state_is_data() -> None:
    box = Box(service(health=CHECKED))
    box.send(syn())
    types = box.guest.types
    for flow in box.guest.table.flows():
        assert types.decode(type(flow.state).__name__, types.encode(flow.state)) == flow.state
