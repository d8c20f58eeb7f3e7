"""NAT64: SYNs from outside that nobody has asked for are held (RFC 6146 §3.5.2.2, RFC 5382 REQ-4)."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, TCPerror
from scapy.layers.inet6 import IPv6ExtHdrHopByHop
from scapy.layers.l2 import Ether
from scapy.packet import Packet as Scapy

from middleboxes.nat64 import BIB
from middleboxes.nat64.incoming import Incoming, Stranger
from middleboxes.nat64.session import ESTABLISHED, V4_INIT
from splitmerge.errors import BadInput
from tests.middleboxes.conftest import move
from tests.middleboxes.test_nat64 import HOST, POOL, Box, out

CALLER, CALLER6 = "10.0.2.77", "64:ff9b::a00:24d"
BY_ADDRESS = {"filtering": "address-dependent"}
EVERYBODY = {"filtering": "endpoint-independent"}


def bound(**settings: Any) -> tuple[Box, int]:
    """A replica where the host's TCP port 5000 is bound, by a connection to another server; and its external port."""
    box = Box(**BY_ADDRESS | settings)
    return box, box.one(out(TCP(sport=5000, dport=80, flags="S"))).sport


def call(port: int, flags: str = "S", sport: int = 9) -> Scapy:
    """A segment of a caller outside."""
    return IP(src=CALLER, dst=POOL) / TCP(sport=sport, dport=port, flags=flags, seq=77)


def mine(flags: str = "S", dport: int = 9) -> Scapy:
    """A segment of the host to the caller."""
    return out(TCP(sport=5000, dport=dport, flags=flags), server=CALLER6)


def later(box: Box, seconds: float) -> list[Scapy]:
    """What leaves while time passes."""
    box.guest.sent.clear()
    box.wait(seconds)
    return [Ether(frame).payload for frame in box.guest.sent]


def test_a_syn_that_nobody_answers_is_told_so_after_six_seconds() -> None:
    box, port = bound()
    assert box.through(call(port)) == [] and box.guest.figures["syns_held"] == 1
    assert later(box, 5.9) == []
    (error,) = later(box, 0.2)
    assert (error.dst, error[ICMP].type, error[ICMP].code) == (CALLER, 3, 3)
    about = error[ICMP].payload
    assert (about.src, about.dst, about[TCPerror].sport, about[TCPerror].dport) == (CALLER, POOL, 9, port)
    assert bytes(about) == bytes(call(port)), "the whole SYN"
    assert len(box.sessions) == 1 and box.guest.figures["dropped_syn_unanswered"] == 1
    assert later(box, 300) == []


def test_a_port_that_nobody_has_is_held_and_told_too() -> None:
    box = Box(**BY_ADDRESS)
    assert box.through(call(4321)) == [] and box.sessions == []
    assert [each[ICMP].code for each in later(box, 7)] == [3]
    assert not list(box.guest.table.flows())


def test_simultaneous_open_the_hosts_syn_passes_and_the_one_held_is_dropped_silently() -> None:
    box, port = bound()
    box.through(call(port))
    assert box.sessions[-1].state == V4_INIT
    got = box.one(mine())
    assert (got.dst, got[TCP].sport, got[TCP].dport, got[TCP].flags) == (CALLER, port, 9, "S")
    assert box.sessions[-1].state == ESTABLISHED
    answer = box.one(call(port, "SA"))
    assert (answer.dst, answer[TCP].sport, answer[TCP].dport) == (HOST, 9, 5000)
    assert later(box, 60) == [] and len(box.sessions) == 2, "no error, and an established session's lifetime"


def test_simultaneous_open_though_the_hosts_syn_is_behind_extension_headers() -> None:
    box, port = bound()
    box.through(call(port))
    behind = out(IPv6ExtHdrHopByHop() / TCP(sport=5000, dport=9, flags="SA"), server=CALLER6)
    assert box.dropped(behind) == "no_session" and box.sessions[-1].state == V4_INIT
    got = box.one(out(IPv6ExtHdrHopByHop() / TCP(sport=5000, dport=9, flags="S"), server=CALLER6))
    assert (got.dst, got[TCP].sport, got[TCP].dport, got[TCP].flags) == (CALLER, port, 9, "S")
    assert box.sessions[-1].state == ESTABLISHED
    assert box.one(call(port, "SA")).dst == HOST
    assert later(box, 60) == [], "no error"


def test_simultaneous_open_of_a_port_that_was_not_bound_yet() -> None:
    port = Box(**BY_ADDRESS).one(mine()).sport
    box = Box(**BY_ADDRESS)
    box.through(call(port))
    assert box.one(mine()).sport == port, "what is held does not take the port"
    assert box.one(call(port)).dst == HOST and box.sessions[-1].state == ESTABLISHED
    assert later(box, 60) == []


def test_the_host_first_is_no_stranger() -> None:
    box, port = bound()
    box.one(mine())
    assert box.one(call(port)).dst == HOST and "syns_held" not in box.guest.figures
    assert box.sessions[-1].state == ESTABLISHED


def test_a_syn_said_again_is_held_once_and_not_for_longer() -> None:
    box, port = bound()
    box.through(call(port))
    box.wait(4)
    assert box.dropped(call(port)) == "filtered"
    assert len(later(box, 2.1)) == 1 and box.guest.figures["syns_held"] == 1


@pytest.mark.parametrize("known", [True, False], ids=["bound", "not-bound"])
def test_a_syn_said_again_goes_on_once_the_filter_lets_it_in(known: bool) -> None:
    """The host has sent to the caller meanwhile, though to another port of it."""
    box, port = bound() if known else (Box(**BY_ADDRESS), Box(**BY_ADDRESS).one(mine()).sport)
    box.through(call(port))
    box.one(mine(dport=10))
    got = box.one(call(port))
    assert (got.dst, got[TCP].sport, got[TCP].dport, got[TCP].flags) == (HOST, 9, 5000, "S")
    (session,) = [each for each in box.sessions if each.path.remote_port == 9]
    assert session.state == V4_INIT and later(box, 60) == []
    box.one(mine("SA"))
    assert session.state == ESTABLISHED


@pytest.mark.parametrize(("side", "flags"), [(4, "A"), (4, "SA"), (4, "R"), (6, "A"), (6, "SA"), (6, "R")], ids=str)
def test_nothing_but_a_syn_goes_on_with_it(side: int, flags: str) -> None:
    box, port = bound()
    box.through(call(port))
    assert box.dropped(call(port, flags) if side == 4 else mine(flags)) == "no_session"
    assert len(later(box, 7)) == 1


def test_an_error_about_what_is_held_goes_nowhere() -> None:
    box, port = bound()
    box.through(call(port))
    about = IP(src=POOL, dst=CALLER) / TCP(sport=port, dport=9, flags="S")
    assert box.dropped(IP(src=CALLER, dst=POOL) / ICMP(type=3, code=1) / about) == "icmp_error"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "filtered"), (BY_ADDRESS | {"held_syns": 0}, "filtered"),
        (BY_ADDRESS | {"mapping": "endpoint-independent", "held_syns": 1}, None),
    ],
    ids=["default-filter", "none-held", "held"],
)  # fmt: skip
def test_held_only_where_a_caller_may_hope(settings: dict[str, Any], why: str | None) -> None:
    box = Box(**settings)
    port = box.one(out(TCP(sport=5000, dport=80, flags="S"))).sport
    if why is None:
        assert box.through(call(port)) == []
    else:
        assert box.dropped(call(port)) == why
    assert len(later(box, 7)) == (why is None)


def test_where_everybody_may_send_only_ports_that_nobody_has_are_held() -> None:
    box, port = bound(**EVERYBODY)
    assert box.one(call(port)).dst == HOST
    assert box.through(call(port + 1)) == [] and len(later(box, 7)) == 1
    assert box.dropped(IP(src=CALLER, dst=POOL) / UDP(sport=1, dport=port + 1)) == "no_binding", "TCP alone"


def test_how_many_wait_is_bounded() -> None:
    box, port = bound(held_syns=3)
    for number in range(3):
        assert box.through(call(port, sport=100 + number)) == []
    assert box.dropped(call(port, sport=200)) == "syn_overflow"
    assert len(later(box, 6.1)) == 3
    assert box.through(call(port, sport=200)) == []


def test_errors_for_them_are_limited_like_all_others() -> None:
    box, port = bound(errors_per_second=2)
    for number in range(5):
        box.through(call(port, sport=100 + number))
    assert len(later(box, 6.1)) == 2 and box.guest.figures["dropped_syn_unanswered"] == 5


def test_room_comes_back_with_time() -> None:
    incoming = Incoming(6.0, 2)
    assert [incoming.admit(now) for now in (0.0, 1.0, 5.9, 6.0, 6.5, 7.0)] == [True, True, False, True, False, True]


@pytest.mark.parametrize("known", [True, False], ids=["bound", "not-bound"])
def test_what_is_held_moves_with_the_time_that_is_left(known: bool) -> None:
    here, port = bound() if known else (Box(**BY_ADDRESS), 4321)
    there = Box(2, **BY_ADDRESS)
    here.through(call(port))
    here.wait(4)
    there.guest.now = here.guest.now
    (flow,) = [each for each in here.guest.table.flows() if each.state.syn]
    assert isinstance(flow.state, Stranger) is not known
    move(here, there, flow.keys, 1)
    there.confirm()
    assert later(there, 1.9) == [] and later(here, 60) == []
    (error,) = later(there, 0.2)
    assert bytes(error[ICMP].payload) == bytes(call(port))


def test_the_hosts_syn_goes_on_where_the_held_one_has_moved() -> None:
    here, port = bound()
    there = Box(2, **BY_ADDRESS)
    here.through(call(port))
    there.guest.now = here.guest.now
    (flow,) = [each for each in here.guest.table.flows() if each.state.syn]
    move(here, there, flow.keys, 1)
    there.confirm()
    assert there.one(mine())[TCP].sport == port and there.sessions[-1].state == ESTABLISHED
    assert later(there, 60) == []


def test_no_error_if_the_session_began_at_another_replica_meanwhile() -> None:
    """The host's SYN came where it was not known that one is held: bindings tell, when time is up."""
    here, there = Box(1, **BY_ADDRESS), Box(2, **BY_ADDRESS)
    port = there.one(mine()).sport
    here.through(call(port))
    everybodys = there.guest.get_shared(BIB).entries
    there.guest.put_shared(BIB)
    for name, binding in everybodys.items():
        here.middlebox._endpoints.bindings.add(here.guest, name, binding, 0.0)
    assert later(here, 60) == [] and not list(here.guest.table.flows())


def test_a_held_syns_second_key_that_is_anothers_ends_it_silently() -> None:
    box, port = bound()
    box.refuse = True
    assert box.through(call(port)) == [] and len(box.sessions) == 1
    assert later(box, 60) == []


@pytest.mark.parametrize("settings", [{"incoming_syn": 0}, {"held_syns": -1}], ids=str)
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(settings))):
        Box(**settings)
