"""The IDS on a real guest library: every analyser on moving flows, and thresholds of clients over all replicas."""

from __future__ import annotations

import json
from itertools import count

import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestlib.coherence.synch import Alone
from guestlib.instructions import ToOrchestrator
from middleboxes.ids import Ids, Tally
from middleboxes.ids.packet import ACK, RST, SYN
from middleboxes.ids.tally import combine, excesses, roll
from middleboxes.ids.tally import count as count_sign
from splitmerge.flowkey import FlowKey
from splitmerge.messages import SharedElement, SharedPull, SharedPulled
from tests.middleboxes.test_ids_analysers import HELLO, TUNNEL, C, answer, framed, query, server_hello

FTP = [(C, b"USER eve\r\n"), (1, b"331 Password\r\n"), (C, b"PASS x\r\n"), (1, b"530 Wrong\r\n")]
DNS = [(C, framed(query("no.test"))), (1, framed(answer(query("no.test"), dns.rcode.NXDOMAIN)))]
TLS = [(C, HELLO), (1, server_hello(0x0301))]
BYTEWISE = {
    "ftp": (21, FTP, {"login_thresh": 0}, ["ftp-login"]),
    "dns": (53, DNS, {}, []),
    "tls": (4433, TLS, {"tls_names": ["forbidden.test"]}, ["tls-name", "tls-version"]),
    "http at FTP's port": (21, [(C, b"GET /?q=1'+OR+'1'='1 HTTP/1.1\r\n\r\n")], {"sqli_thresh": 0}, ["sqli"]),
    "http at DNS's port": (53, [(C, b"GET /?q=1'+OR+'1'='1 HTTP/1.1\r\n\r\n")], {"sqli_thresh": 0}, ["sqli"]),
}


@pytest.fixture
def replicas(replica_of, tmp_path):
    """Makes replicas that share an alert file and see one another's coherent elements, as over the orchestrator."""
    time = iter(count(1_000_000.0, 0.001))

    def make(number: int = 1, **config):
        config = {"alerts": str(tmp_path / "alerts"), **config}
        made = [replica_of(Ids(clock=lambda: next(time)), config, each) for each in range(1, number + 1)]
        for each in made:
            each.guest._alone = Together(each, made)
        return made

    return make


class Together(Alone):
    """The orchestrator of these replicas: a pull brings the newest element of every other one."""

    def __init__(self, to, replicas) -> None:
        super().__init__()
        self._others = [each for each in replicas if each is not to]

    def answer(self, step):
        match step:
            case ToOrchestrator(SharedPull(request=request, key=key)):
                elements = tuple(self._element(other.guest, key) for other in self._others)
                return SharedPulled(request=request, key=key, elements=elements)
            case _:
                return super().answer(step)

    @staticmethod
    def _element(guest, key: str) -> SharedElement:
        shared = guest.coherent.find(key)
        origin, raw = f"incarnation {guest.replica}", guest.types.encode(shared.own)
        return SharedElement(origin=origin, version=shared.version, kind="Tally", value=raw)


@pytest.fixture
def alerts(tmp_path):
    path = tmp_path / "alerts"
    return lambda: [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def frames_of(talk, conversation, size: int) -> list[bytes]:
    """The segments of a conversation, each of at most ``size`` bytes."""
    frames, at = talk.handshake(), [0, 0]
    for side, data in conversation:
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            make = talk.data(at[0], piece) if side == C else talk.reply(at[1], piece, at[0])
            frames.append(make)
            at[side] += len(piece)
    return frames


@pytest.mark.parametrize("case", BYTEWISE)
def test_a_flow_that_moves_at_every_byte_is_read_as_if_it_stayed(talk, replicas, alerts, move_flows, case):
    port, conversation, config, kinds = BYTEWISE[case]
    pair = replicas(2, **config)
    frames = frames_of(talk(server_port=port), conversation, 1)
    keys = [FlowKey.from_frame(frames[0])]
    for number, frame in enumerate(frames):
        assert pair[number % 2].take(frame) == [frame]
        move_flows(pair[number % 2], pair[1 - number % 2], keys, number + 1)
    assert sorted(alert["kind"] for alert in alerts()) == kinds
    (still,) = replicas(1, **{**config, "alerts": "/dev/null"})
    still.take(*frames_of(talk(server_port=port), conversation, 1400))
    both = [replica.statistics for replica in pair]
    assert sum(each.messages.get(name, 0) for each in both for name in ("ftp", "dns", "tls", "http")) == sum(
        still.statistics.messages.values()
    )
    assert {kind for each in both for kind in each.signs} == set(still.statistics.signs)


def ask(udp, name: str, number: int, code: int = dns.rcode.NXDOMAIN) -> list[bytes]:
    """A question from a port of its own, and its answer."""
    question = query(name, number)
    return [udp(2000 + number, question), udp(2000 + number, answer(question, code), back=True)]


def test_a_clients_signs_are_added_up_over_replicas_and_alert_once(replicas, alerts, udp):
    trio = replicas(3, client_nxdomain_thresh=10)
    for number in range(10):
        trio[number % 3].take(*ask(udp, f"name{number}.test", number))
    for replica in trio:
        replica.wait(3)
    assert alerts() == []
    trio[1].take(*ask(udp, "the-eleventh.test", 10))
    for replica in trio:
        replica.wait(3)
    (alert,) = alerts()
    alert.pop("time")
    assert alert == {
        "flow": "udp,10.0.1.2:2010,10.0.2.2:53", "client": "10.0.1.2", "scope": "client", "analyser": "dns",
        "kind": "dns-nxdomain", "count": 11, "replica": 2, "evidence": "the-eleventh.test.",
    }  # fmt: skip
    trio[2].take(*ask(udp, "the-twelfth.test", 11))
    trio[2].wait(3)
    assert len(alerts()) == 1


def test_a_threshold_passed_by_the_sign_of_a_flow_that_moves_away_is_noticed(replicas, alerts, udp, move_flows):
    here, there = replicas(2, client_nxdomain_thresh=0)
    frames = ask(udp, "gone.test", 1)
    here.take(*frames)
    move_flows(here, there, [FlowKey.from_frame(frames[0])], 1)
    here.wait(5)
    assert alerts() == []
    there.wait(5)
    (alert,) = alerts()
    assert (alert["replica"], alert["client"], alert["count"]) == (2, "10.0.1.2", 1)


def test_answers_that_are_no_refusal_do_not_count(replicas, alerts, udp):
    (replica,) = replicas(client_nxdomain_thresh=0, client_tunnel_thresh=0)
    replica.take(*ask(udp, "www.test", 1, dns.rcode.NOERROR))
    replica.wait(5)
    assert (alerts(), replica.statistics.messages) == ([], {"dns": 2})
    replica.take(udp(3000, TUNNEL))
    replica.wait(5)
    assert [alert["kind"] for alert in alerts()] == ["dns-tunnel"]


def test_many_refused_or_unanswered_connections_are_a_scan(talk, replicas, alerts):
    (replica,) = replicas(client_scan_thresh=3, handshake=5.0)
    for port in range(3):
        probe = talk(41000 + port, server_port=1000 + port)
        replica.take(probe.handshake()[0], probe.frame(RST | ACK, 0, probe.isn + 1, back=True))
    replica.take(talk(42000, server_port=9).frame(SYN, 1, 0))
    replica.wait(4)
    assert alerts() == []
    replica.wait(10)
    (alert,) = alerts()
    assert (alert["kind"], alert["count"], alert["evidence"]) == ("scan", 4, "no answer")
    replica.wait(60)
    assert (replica.guest.table.count, replica.statistics.signs) == (0, {"scan": 4})


def test_a_scan_that_is_over_when_its_window_ends_is_noticed_and_quoted_after_it(talk, replica_of, tmp_path, alerts):
    time = [1_000_019.0]  # a second before the window's end
    config = {"alerts": str(tmp_path / "alerts"), "client_scan_thresh": 2}
    replica = replica_of(Ids(clock=lambda: time[0]), config, 1)
    replica.guest._alone = Together(replica, [replica])
    for port in range(3):
        probe = talk(41000 + port, server_port=1000 + port)
        replica.take(probe.handshake()[0], probe.frame(RST | ACK, 0, probe.isn + 1, back=True))
    time[0] += 2.0
    replica.wait(3)
    (alert,) = alerts()
    assert (alert["kind"], alert["count"], alert["evidence"]) == ("scan", 3, "refused")
    time[0] += 60.0
    probe = talk(42000, server_port=9)
    replica.take(probe.handshake()[0], probe.frame(RST | ACK, 0, probe.isn + 1, back=True))
    replica.wait(3)
    assert len(alerts()) == 1


def test_an_attack_spread_over_connections_passes_the_clients_threshold(talk, replicas, alerts):
    (replica,) = replicas(client_sqli_thresh=30)
    for port in range(31):
        conversation = talk(41000 + port)
        replica.take(*frames_of(conversation, [(C, b"GET /?q=1'+OR+'1'='1 HTTP/1.1\r\n\r\n")], 1400))
    replica.wait(3)
    (alert,) = alerts()
    assert (alert["scope"], alert["kind"], alert["count"]) == ("client", "sqli", 31)


def test_without_an_analyser_its_protocol_is_not_read(talk, replicas, udp):
    (replica,) = replicas(analysers=["ftp"])
    replica.take(*frames_of(talk(), [(C, b"GET / HTTP/1.1\r\n\r\n")], 5), *ask(udp, "a.test", 1))
    assert replica.statistics.messages == {}


def test_a_connection_is_picked_up_in_its_middle_by_every_analyser(talk, replicas):
    (replica,) = replicas()
    for number, (port, data) in enumerate([(21, b"USER a\r\n"), (53, framed(query("a.test"))), (4433, HELLO)]):
        replica.take(talk(41000 + number, server_port=port).data(100, data))
    assert replica.statistics.messages == {"ftp": 1, "dns": 1, "tls": 1}


# -- the tally -------------------------------------------------------------------------------------------------------

TALLIES = st.builds(
    Tally,
    window=st.integers(5, 8),
    now=st.dictionaries(st.sampled_from(["scan a", "scan b"]), st.integers(1, 9)),
    before=st.dictionaries(st.sampled_from(["scan a", "scan b"]), st.integers(1, 9)),
    alerted=st.dictionaries(st.sampled_from(["scan a"]), st.integers(7, 8)),
    uncounted=st.integers(0, 3),
)


@given(st.lists(TALLIES, min_size=1, max_size=4))
def test_the_sum_does_not_depend_on_order_or_grouping(elements):
    total = combine(elements)
    assert total == combine(elements[::-1]) == combine([combine(elements[:1]), *elements[1:]])
    newest = max(each.window for each in elements)
    assert total.now.get("scan a", 0) == sum(e.now.get("scan a", 0) for e in elements if e.window == newest)


def test_counts_last_two_windows():
    mine = Tally(window=5)
    count_sign(mine, "scan", "a", 10)
    roll(mine, 6)
    assert (mine.now, mine.before) == ({}, {"scan a": 1})
    roll(mine, 4)
    assert mine.window == 6
    roll(mine, 8)
    assert (mine.now, mine.before) == ({}, {})


def test_clients_beyond_the_bound_are_counted_as_uncounted():
    mine = Tally()
    for number in range(5):
        count_sign(mine, "scan", f"c{number}", 3)
    count_sign(mine, "scan", "c0", 3)
    assert (len(mine.now), mine.uncounted, mine.now["scan c0"]) == (3, 2, 2)
    assert excesses(mine, {}) == []
