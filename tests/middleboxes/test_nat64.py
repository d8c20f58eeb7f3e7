"""NAT64 as a middlebox, without sockets: sessions, lifetimes, TCP's states, bindings, fragments, moves."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    fragment6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet as Scapy
from scapy.packet import Raw

from guestlib import FlowMigrated, Packet
from middleboxes.nat64 import BIB, Bib, Binding, Nat64
from middleboxes.nat64.bib import combine
from middleboxes.nat64.fragments import MOST_DATAGRAMS, Pieces
from middleboxes.nat64.session import (
    BOTH_FIN,
    ESTABLISHED,
    STATES,
    TRANS,
    V4_FIN,
    V4_INIT,
    V6_FIN,
    V6_INIT,
    advance,
)
from splitmerge.errors import BadInput
from splitmerge.messages import AddKeys, KeysAdded
from tests.middleboxes.conftest import Replica, move

HOST, SERVER6, SERVER, POOL = "fd00:1::2", "64:ff9b::a00:202", "10.0.2.2", "10.0.2.100"
INDEPENDENT = {"mapping": "endpoint-independent"}
DEPENDENT = {"mapping": "endpoint-dependent"}


class Box(Replica):
    """A replica with a clock that goes with its timers, whose orchestrator gives every second key at once."""

    def __init__(self, replica: int = 1, refuse: bool = False, **settings: Any) -> None:
        super().__init__(Nat64(lambda: 1e9 + self.guest.now if hasattr(self, "guest") else 1e9, lambda: 7), settings,
                         replica)  # fmt: skip
        self.refuse = refuse
        self.guest.table.fences.owned = set(range(1024))

    def through(self, *packets: Scapy) -> list[Scapy]:
        """What becomes of packets, once the switch knows where to."""
        self.guest.sent.clear()
        for packet in packets:
            ether = Ether(
                src="02:00:00:00:01:02", dst="02:00:00:00:00:fe", type=0x86DD if packet.version == 6 else 0x0800
            )
            self.middlebox.on_packet(self.guest, Packet.of(bytes(ether / packet)))
        self.guest.sent += self.confirm()
        self.guest.table.validate_state()
        return [Ether(frame).payload for frame in self.guest.sent]

    def confirm(self) -> list[bytes]:
        """Answer the questions for second keys; the frames that waited for that."""
        frames: list[bytes] = []
        for step in self.guest.poll(self.guest.now):
            message = getattr(step, "message", None)
            if isinstance(message, AddKeys):
                keys = tuple(each.key for each in message.keys)
                mine = {"refused": keys} if self.refuse else {"keys": keys}
                steps = self.guest.handle(KeysAdded(request=message.request, **mine), self.guest.now)
                frames += [each.frame for each in steps]
        return frames

    def one(self, packet: Scapy) -> Scapy:
        (got,) = self.through(packet)
        return got

    def dropped(self, packet: Scapy) -> str:
        """Why a packet is dropped."""
        before = dict(self.guest.figures)
        got = self.through(packet)
        (why,) = [n for n, count in self.guest.figures.items() if count != before.get(n) and n.startswith("dropped_")]
        assert not [each for each in got if not (ICMP in each and each[ICMP].type in (3, 11))]
        return why.removeprefix("dropped_")

    @property
    def sessions(self) -> list[Any]:
        return [flow.state for flow in self.guest.table.flows() if hasattr(flow.state, "path")]


def out(payload: Scapy, host: str = HOST, server: str = SERVER6) -> Scapy:
    return IPv6(src=host, dst=server) / payload


def tcp(flags: str, sport: int = 5000, **more: Any) -> Scapy:
    return out(TCP(sport=sport, dport=80, flags=flags), **more)


def reply(sent: Scapy, flags: str = "SA", source: str | None = None) -> Scapy:
    """The server's answer to a translated packet."""
    head = IP(src=source or sent.dst, dst=sent.src)
    if TCP in sent:
        return head / TCP(sport=sent.dport, dport=sent.sport, flags=flags)
    if UDP in sent:
        return head / UDP(sport=sent.dport, dport=sent.sport) / b"answer"
    return head / ICMP(type=0, id=sent[ICMP].id, seq=sent[ICMP].seq) / b"answer"


BOTH = pytest.mark.parametrize("mapping", [INDEPENDENT, DEPENDENT], ids=["independent", "dependent"])


# -- sessions ------------------------------------------------------------------------------------------------


@BOTH
def test_tcp_goes_out_and_comes_back(mapping: dict[str, Any]) -> None:
    box = Box(**mapping)
    sent = box.one(tcp("S"))
    assert (sent.version, sent.src, sent.dst, sent.dport) == (4, POOL, SERVER, 80)
    got = box.one(reply(sent))
    assert (got.version, got.src, got.dst, got.sport, got.dport) == (6, SERVER6, HOST, 80, 5000)
    assert box.one(tcp("A")).sport == sent.sport
    assert len(box.sessions) == 1


@BOTH
def test_udp_and_echo_go_out_and_come_back(mapping: dict[str, Any]) -> None:
    box = Box(**mapping)
    got = box.one(reply(box.one(out(UDP(sport=5000, dport=53) / b"ask"))))
    assert (got[UDP].dport, bytes(got[UDP].payload)) == (5000, b"answer")
    sent = box.one(out(ICMPv6EchoRequest(id=77, seq=3, data=b"ask")))
    got = box.one(reply(sent))
    assert (got[ICMPv6EchoReply].id, got[ICMPv6EchoReply].seq) == (77, 3)


def test_a_port_inside_has_one_port_outside_for_every_remote() -> None:
    box = Box(**INDEPENDENT)
    servers = [f"64:ff9b::{number:x}:1" for number in range(1, 30)]
    assert len({box.one(tcp("S", server=server)).sport for server in servers}) == 1
    assert len({box.one(tcp("S", sport=port)).sport for port in range(100, 130)}) == 30


def test_every_replica_binds_alike() -> None:
    sent = [Box(replica, **INDEPENDENT, secret="s").one(tcp("S")) for replica in (1, 2)]
    assert sent[0].sport == sent[1].sport
    assert Box(**INDEPENDENT, secret="another").one(tcp("S")).sport != sent[0].sport


def test_endpoint_dependent_ports_need_no_entry_in_the_switch() -> None:
    box = Box(**DEPENDENT)
    for port in range(100, 130):
        box.one(tcp("S", sport=port))
    for flow in box.guest.table.flows():
        assert {key.bucket for key in flow.keys} == {flow.key.bucket} and not flow.pending


def test_a_second_key_that_is_anothers_costs_a_packet_and_then_the_next_candidate_is_taken() -> None:
    box = Box(**INDEPENDENT, refuse=True)
    assert box.through(tcp("S")) == [] and box.sessions == []
    box.refuse = False
    assert box.one(tcp("S")).sport != Box(**INDEPENDENT).one(tcp("S")).sport


def test_two_ports_inside_never_share_a_binding_that_is_known() -> None:
    """Of three external ports, three may be used, and a fourth port inside finds none."""
    box = Box(**INDEPENDENT, first_port=2000, last_port=2002)
    ports = {box.one(out(UDP(sport=port, dport=53))).sport for port in range(3)}
    assert ports == {2000, 2001, 2002}
    assert box.dropped(out(UDP(sport=4, dport=53))) == "no_port"


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (tcp("A"), "no_session"),
        (tcp("SA"), "no_session"),
        (out(UDP(), server="fd00:2::2"), "not_for_us"),
        (out(UDP(), host="64:ff9b::1"), "loop"),
        (out(UDP(), server="64:ff9b::a00:264"), "no_binding"),
        (IP(src=SERVER, dst=POOL) / UDP(sport=1, dport=2), "filtered"),
        (IP(src=SERVER, dst=POOL) / TCP(flags="A"), "no_session"),
        (IP(src=SERVER, dst=SERVER) / UDP(), "not_for_us"),
        (IP(src=SERVER, dst=POOL, proto=47) / b"12345678", "protocol"),
        (IP(src=SERVER, dst=POOL) / ICMP(type=13), "protocol"),
        (IP(src=SERVER, dst=POOL) / ICMP(type=3, code=1) / IP(src=POOL, dst=SERVER) / UDP(), "icmp_error"),
        (IP(src=SERVER, dst=POOL, proto=6) / b"12345678", "malformed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_belongs_to_no_session_is_dropped_and_counted(packet: Scapy, why: str) -> None:
    assert Box(**INDEPENDENT).dropped(packet) == why


# -- who may send --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filtering", ["endpoint-independent", "address-and-port-dependent"])
def test_strangers_may_send_to_a_port_if_everybody_may(filtering: str) -> None:
    box = Box(**INDEPENDENT, filtering=filtering)
    sent = box.one(out(UDP(sport=5000, dport=53)))
    stranger = IP(src="10.0.2.77", dst=POOL) / UDP(sport=9, dport=sent.sport) / b"hello"
    if filtering != "endpoint-independent":
        assert box.dropped(stranger) == "filtered"
        return
    got = box.one(stranger)
    assert (got.src, got.dst, got.sport, got.dport) == ("64:ff9b::a00:24d", HOST, 9, 5000)
    answer = box.one(out(UDP(sport=5000, dport=9), server="64:ff9b::a00:24d"))
    assert (answer.src, answer.sport, answer.dst) == (POOL, sent.sport, "10.0.2.77")


def test_address_dependent_filtering_lets_in_who_was_sent_to_whatever_the_port() -> None:
    box = Box(**INDEPENDENT, filtering="address-dependent", udp=100.0)
    sent = box.one(out(UDP(sport=5000, dport=53)))
    other_port = box.one(IP(src=SERVER, dst=POOL) / UDP(sport=9, dport=sent.sport) / b"hello")
    assert (other_port.src, other_port.sport, other_port.dport) == (SERVER6, 9, 5000)
    assert box.dropped(IP(src="10.0.2.77", dst=POOL) / UDP(sport=9, dport=sent.sport)) == "filtered"
    box.one(out(UDP(sport=5001, dport=53), server="64:ff9b::a00:24d"))
    assert box.dropped(IP(src="10.0.2.77", dst=POOL) / UDP(sport=9, dport=sent.sport)) == "filtered", "another port's"
    box.wait(300)
    assert box.dropped(IP(src=SERVER, dst=POOL) / UDP(sport=10, dport=sent.sport)) == "no_binding"


def test_a_connection_from_outside_is_established_by_both_syns() -> None:
    box = Box(**INDEPENDENT, filtering="endpoint-independent")
    sent = box.one(tcp("S"))
    caller = IP(src="10.0.2.77", dst=POOL) / TCP(sport=9, dport=sent.sport, flags="S")
    assert box.one(caller).dport == 5000
    assert box.sessions[-1].state == V4_INIT
    box.one(out(TCP(sport=5000, dport=9, flags="SA"), server="64:ff9b::a00:24d"))
    assert box.sessions[-1].state == ESTABLISHED


def test_bindings_of_other_replicas_are_combined_and_the_longer_one_stays() -> None:
    one, two = Bib({b"a": Binding(b"x", 1, 5.0)}), Bib({b"a": Binding(b"y", 2, 6.0), b"b": Binding(b"z", 3, 1.0)})
    assert combine([one, two]).entries == combine([two, one]).entries == two.entries
    assert combine([one]).entries == one.entries and combine([]).entries == {}


def test_what_ended_replicas_had_bound_goes_when_it_has_expired() -> None:
    left, sizes = Bib(), []
    for number in range(100):  # replicas, one after the other, each with bindings for 100 seconds
        part, now = Bib(), 10.0 * number
        for port in range(20):
            part.add(bytes((number, port)), Binding(b"x", port, until=now + 100.0), now)
        left = combine([left, part])
        sizes.append(len(left.entries))
    assert max(sizes) == 200 and all(each.until > 990.0 for each in left.entries.values())


def test_it_does_not_matter_which_bindings_were_combined_before() -> None:
    parts = [Bib() for _ in range(3)]
    for number in range(30):
        parts[number % 3].add(bytes((number % 7,)), Binding(b"x", number, until=number + 5.0), now=float(number))
    whole = combine(parts)
    assert whole.entries and min(each.until for each in whole.entries.values()) > 29.0
    for first in range(3):
        rest = [part for number, part in enumerate(parts) if number != first]
        assert combine([combine(rest), parts[first]]) == combine([parts[first], combine(rest)]) == whole


def test_what_is_bound_no_longer_is_forgotten() -> None:
    bib = Bib()
    for number in range(1000):
        bib.add(number.to_bytes(2, "big"), Binding(b"x", 1, until=number + 10.0), now=float(number))
    assert len(bib.entries) < 100


# -- TCP -----------------------------------------------------------------------------------------------------

S, F, R, A = "S", "F", "R", "A"
_FLAG = {"S": 2, "F": 1, "R": 4, "A": 16}


@pytest.mark.parametrize(
    ("state", "side", "flags", "expected", "lifetime"),
    [
        (V6_INIT, 6, S, V6_INIT, "transitory"), (V6_INIT, 4, S, ESTABLISHED, "established"),
        (V6_INIT, 4, R, V6_INIT, ""),
        (V6_INIT, 6, A, V6_INIT, ""), (V4_INIT, 6, S, ESTABLISHED, "established"), (V4_INIT, 4, A, V4_INIT, ""),
        (ESTABLISHED, 4, A, ESTABLISHED, "established"), (ESTABLISHED, 4, F, V4_FIN, "established"),
        (ESTABLISHED, 6, F, V6_FIN, "established"), (ESTABLISHED, 6, R, TRANS, "transitory"),
        (ESTABLISHED, 4, R, TRANS, "transitory"), (V4_FIN, 6, F, BOTH_FIN, "transitory"),
        (V4_FIN, 4, F, V4_FIN, "established"), (V6_FIN, 4, F, BOTH_FIN, "transitory"),
        (V6_FIN, 6, A, V6_FIN, "established"), (BOTH_FIN, 6, A, BOTH_FIN, ""), (BOTH_FIN, 4, S, BOTH_FIN, ""),
        (TRANS, 6, A, ESTABLISHED, "established"), (TRANS, 4, R, TRANS, ""),
    ],
    ids=lambda value: str(value),
)  # fmt: skip
def test_states_of_tcp(state: int, side: int, flags: str, expected: int, lifetime: str) -> None:
    assert advance(state, side, _FLAG[flags]) == (expected, lifetime), STATES[state]


def connected(**settings: Any) -> tuple[Box, Scapy]:
    box = Box(**INDEPENDENT | settings)
    sent = box.one(tcp("S"))
    box.one(reply(sent))
    return box, sent


def test_a_silent_connection_is_probed_then_forgotten() -> None:
    box, _ = connected()
    box.guest.sent.clear()
    box.wait(7441)
    (frame,) = box.guest.sent
    probe = Ether(frame)[IPv6]
    assert (probe.dst, probe[TCP].flags, probe[TCP].dport, probe[TCP].seq, probe[TCP].ack) == (HOST, "A", 5000, 0, 0)
    checksum = probe[TCP].chksum
    probe[TCP].delfieldval("chksum")
    assert IPv6(bytes(probe))[TCP].chksum == checksum
    box.wait(238)
    assert [each.state for each in box.sessions] == [TRANS]
    box.wait(2)
    assert box.sessions == []


def test_whoever_answers_the_probe_keeps_the_connection() -> None:
    box, _ = connected()
    box.wait(7441)
    box.one(tcp("A"))
    box.wait(7400)
    assert [each.state for each in box.sessions] == [ESTABLISHED]


@pytest.mark.parametrize(
    ("what", "seconds"), [("opening", 240), ("closed", 240), ("reset", 240), ("udp", 300), ("echo", 60)]
)
def test_lifetimes(what: str, seconds: int) -> None:
    box, sent = connected() if what in ("closed", "reset") else (Box(**INDEPENDENT), tcp("S"))
    match what:
        case "opening":
            box.one(tcp("S"))
        case "closed":
            box.through(tcp("FA"), reply(sent, "FA"))
        case "reset":
            box.one(tcp("R"))
        case "udp":
            box.one(out(UDP(sport=5, dport=5)))
        case "echo":
            box.one(out(ICMPv6EchoRequest(id=1)))
    box.wait(seconds - 1)
    assert len(box.sessions) == 1
    box.wait(2)
    assert box.sessions == []


def test_packets_of_either_side_keep_a_session() -> None:
    box = Box(**INDEPENDENT)
    sent = box.one(out(UDP(sport=5, dport=5)))
    for _ in range(3):
        box.wait(299)
        box.one(reply(sent))
    assert len(box.sessions) == 1


# -- fragments and errors ------------------------------------------------------------------------------------


def pieces6(size: int = 3000) -> list[Scapy]:
    whole = (
        IPv6(src=HOST, dst=SERVER6)
        / IPv6ExtHdrFragment(id=9)
        / UDP(sport=5000, dport=53)
        / (b"0123456789" * (size // 10))
    )
    return fragment6(whole, 1280)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)], ids=str)
def test_fragments_are_translated_in_whatever_order_they_come(order: tuple[int, ...]) -> None:
    box = Box(**INDEPENDENT)
    parts = pieces6()
    sent = box.through(*(parts[number] for number in order))
    assert sorted(part.frag for part in sent) == sorted(part[IPv6ExtHdrFragment].offset for part in parts)
    data = b"".join(bytes(part.payload) for part in sorted(sent, key=lambda part: part.frag))
    assert UDP(data).dport == 53 and data[8:] == b"0123456789" * 300
    assert UDP(bytes(IP(src=POOL, dst=SERVER, proto=17) / UDP(data))[20:]).chksum == right_checksum(data)
    answer = IP(src=SERVER, dst=POOL, id=8) / UDP(sport=53, dport=UDP(data).sport) / (b"x" * 2000)
    back = box.through(*(IP(bytes(part)) for part in fragment(IP(bytes(answer)), 1000)))
    assert [(part.dst, part[IPv6ExtHdrFragment].id) for part in back] == [(HOST, 8)] * len(back) and len(back) == 3


def right_checksum(data: bytes) -> int:
    datagram = UDP(data)
    datagram.delfieldval("chksum")
    return int(IP(bytes(IP(src=POOL, dst=SERVER) / datagram))[UDP].chksum)


def test_fragments_whose_first_one_does_not_come_are_given_up() -> None:
    box = Box(**INDEPENDENT)
    assert box.through(*pieces6()[1:]) == []
    box.wait(3)
    assert box.guest.figures["dropped_fragment_late"] == 2 and not list(box.guest.table.flows())


def test_fragments_that_wait_are_bounded() -> None:
    box = Box(**INDEPENDENT)
    later = pieces6()[1]
    assert box.through(*[later] * 64) == []
    assert box.dropped(later) == "fragment_overflow"


def test_datagrams_between_two_hosts_are_bounded_and_make_room_in_time() -> None:
    pieces = Pieces()
    for number in range(MOST_DATAGRAMS):
        assert pieces.of(number.to_bytes(2, "big"), 0.0, 2.0) is not None
    assert pieces.of(b"one more", 1.9, 2.0) is None
    assert pieces.of(b"one more", 2.1, 2.0) is not None and len(pieces.datagrams) == 1


def test_a_fragment_finds_its_session_at_another_replica_by_the_bindings() -> None:
    """The coherent table, as the orchestrator would bring it, tells the replica that has no session."""
    here, there = Box(1, **INDEPENDENT), Box(2, **INDEPENDENT)
    sent = here.one(out(UDP(sport=5000, dport=53)))
    everybodys = here.guest.get_shared(BIB).entries
    here.guest.put_shared(BIB)
    for name, binding in everybodys.items():
        there.middlebox._endpoints.bindings.add(there.guest, name, binding, 0.0)
    got = there.through(*pieces6())
    assert len(got) == 3 and got[0][UDP].sport == sent.sport and there.sessions == []
    error = ICMP(type=3, code=1) / IP(src=POOL, dst=SERVER) / UDP(sport=sent.sport, dport=53)
    assert there.one(IP(src=SERVER, dst=POOL) / error).dst == HOST


def test_errors_of_both_sides_reach_the_other() -> None:
    box = Box(**INDEPENDENT)
    sent = box.one(out(UDP(sport=5000, dport=53) / b"ask"))
    got = box.one(IP(src="10.0.2.9", dst=POOL) / ICMP(type=3, code=3) / sent)
    assert (got.src, got.dst) == ("64:ff9b::a00:209", HOST)
    about = IPv6(bytes(got[ICMPv6DestUnreach].payload))
    assert (about.src, about.dst, about[UDP].sport, about[UDP].dport) == (HOST, SERVER6, 5000, 53)
    back = box.one(reply(sent))
    got = box.one(IPv6(src=HOST, dst=SERVER6) / ICMPv6DestUnreach(code=4) / back)
    assert (got.src, got.dst, got[ICMP].type, got[ICMP].code) == (POOL, SERVER, 3, 3)
    about = IP(bytes(got[ICMP].payload))
    assert (about.src, about.dst, about[UDP].sport, about[UDP].dport) == (SERVER, POOL, 53, sent.sport)


def test_behind_extension_headers_the_session_is_found_all_the_same() -> None:
    box = Box(**INDEPENDENT)
    sent = box.one(out(UDP(sport=5000, dport=53)))
    again = box.one(out(IPv6ExtHdrHopByHop() / UDP(sport=5000, dport=53) / Raw(b"x")))
    assert again.sport == sent.sport and len(box.sessions) == 1


def test_own_errors_are_limited() -> None:
    box = Box(**INDEPENDENT, errors_per_second=3)
    late = tcp("S")
    late.hlim = 1
    assert len(box.through(*[late] * 10)) == 3
    box.wait(1)
    assert len(box.through(late)) == 1


# -- moves ---------------------------------------------------------------------------------------------------


@BOTH
def test_a_session_moves_with_both_keys_its_state_and_its_lifetime(mapping: dict[str, Any]) -> None:
    here, there = Box(1, **mapping), Box(2, **mapping)
    sent = here.one(tcp("S"))
    here.one(reply(sent))
    here.wait(7000)
    there.guest.now = here.guest.now
    (flow,) = here.guest.table.flows()
    move(here, there, flow.keys, 1)
    with pytest.raises(FlowMigrated):
        here.through(tcp("A"))
    there.confirm()
    there.wait(439)
    assert [each.state for each in there.sessions] == [ESTABLISHED]
    assert there.one(reply(sent, "A")).dst == HOST and there.one(tcp("A")).sport == sent.sport


# -- configuration -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"prefix": "64:ff9b::/95"}, "prefix"), ({"pool": []}, "pool"), ({"pool": ["fd00::1"]}, "pool"),
        ({"pool": ["x"]}, "pool"), ({"own": "10.0.0.1"}, "own"), ({"first_port": 9, "last_port": 8}, "first_port"),
        ({"mapping": "none"}, "mapping"), ({"mtu6": 1000}, "mtu6"), ({"udp": 0}, "udp"), ({"typo": 1}, "typo"),
        (DEPENDENT | {"filtering": "endpoint-independent"}, "filtering"),
        (DEPENDENT | {"filtering": "address-dependent"}, "filtering"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_configuration_is_refused_by_name(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        Box(**settings)


# -- hairpinning ---------------------------------------------------------------------------------------------

PEER, POOL6 = "fd00:1::9", "64:ff9b::a00:264"


def met(box: Box, kind: type[Scapy] = UDP) -> tuple[int, int]:
    """Two hosts inside have talked to a server, which tells each the other's external port."""
    flags = {"flags": "S"} if kind is TCP else {}
    return (
        box.one(out(kind(sport=5000, dport=53, **flags)))[kind].sport,
        box.one(out(kind(sport=6000, dport=53, **flags), host=PEER))[kind].sport,
    )


def test_two_hosts_inside_meet_by_their_external_endpoints() -> None:
    box = Box(**INDEPENDENT, filtering="endpoint-independent")
    mine, theirs = met(box)
    got = box.one(out(UDP(sport=5000, dport=theirs) / b"hello", server=POOL6))
    assert (got.version, got.src, got.dst) == (6, POOL6, PEER)
    assert (got[UDP].sport, got[UDP].dport, bytes(got[UDP].payload)) == (mine, 6000, b"hello")
    back = box.one(out(UDP(sport=6000, dport=mine) / b"hello too", host=PEER, server=POOL6))
    assert (back.src, back.dst, back[UDP].sport, back[UDP].dport) == (POOL6, HOST, theirs, 5000)
    for packet in (got, back):
        right = IPv6(bytes(packet))
        del right[UDP].chksum
        assert IPv6(bytes(right))[UDP].chksum == packet[UDP].chksum
    assert len(box.sessions) == 3, "their session is one flow"


@pytest.mark.parametrize("filtering", ["address-and-port-dependent", "address-dependent"])
def test_a_host_that_has_not_sent_is_not_reached_by_the_other(filtering: str) -> None:
    box = Box(**INDEPENDENT, filtering=filtering)
    mine, theirs = met(box)
    assert box.dropped(out(UDP(sport=5000, dport=theirs), server=POOL6)) == "filtered"
    assert box.one(out(UDP(sport=6000, dport=mine), host=PEER, server=POOL6)).dst == HOST, "that one has sent"
    assert box.one(out(UDP(sport=5000, dport=theirs), server=POOL6)).dst == PEER


def test_a_connection_turns_round_and_its_lifetime_follows_both_sides() -> None:
    box = Box(**INDEPENDENT, filtering="endpoint-independent")
    mine, theirs = met(box, TCP)
    box.one(out(TCP(sport=5000, dport=theirs, flags="S"), server=POOL6))
    assert box.sessions[-1].state == V6_INIT
    box.one(out(TCP(sport=6000, dport=mine, flags="SA"), host=PEER, server=POOL6))
    assert box.sessions[-1].state == ESTABLISHED
    box.one(out(TCP(sport=5000, dport=theirs, flags="FA"), server=POOL6))
    box.one(out(TCP(sport=6000, dport=mine, flags="FA"), host=PEER, server=POOL6))
    assert box.sessions[-1].state == BOTH_FIN


def test_a_session_that_turns_round_moves_with_both_keys() -> None:
    here, there = Box(**INDEPENDENT, filtering="endpoint-independent"), Box(2, **INDEPENDENT)
    mine, theirs = met(here)
    packet = out(UDP(sport=5000, dport=theirs) / b"hello", server=POOL6)
    here.one(packet)
    (flow,) = [each for each in here.guest.table.flows() if each.state.turn is not None]
    there.guest.now = here.guest.now
    move(here, there, flow.keys, 1)
    back = there.one(out(UDP(sport=6000, dport=mine) / b"hello too", host=PEER, server=POOL6))
    assert (back.dst, back[UDP].sport) == (HOST, theirs)
    assert there.one(packet).dst == PEER


def test_what_cannot_turn_round_is_dropped() -> None:
    box = Box(**INDEPENDENT, filtering="endpoint-independent")
    _, theirs = met(box)
    assert box.dropped(out(UDP(sport=5000, dport=1), server=POOL6)) == "no_binding"
    assert box.dropped(out(ICMPv6EchoRequest(id=1), server=POOL6)) == "hairpin"
    assert Box(**DEPENDENT).dropped(out(UDP(sport=5000, dport=theirs), server=POOL6)) == "hairpin"
