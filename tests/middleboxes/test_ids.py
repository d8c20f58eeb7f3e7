"""The IDS on a real guest library: forwarding, detection, alerts, timers, and moves at any packet."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guestlib import Guest
from guestlib.middlebox import Middlebox, load_middlebox
from middleboxes import ids as package
from middleboxes.forward import Forward
from middleboxes.ids import Ids, IdsConfig, IdsConfigError, Statistics, combine
from middleboxes.ids.packet import ACK, FIN, RST, SYN
from splitmerge.flowkey import ICMP, FlowKey
from traffic.payloads import Plan


def requests(count: int, injections: int, flow: int = 0) -> bytes:
    """A client's stream: ``count`` requests, the first ``injections`` of them attacks."""
    plan = Plan(seed=7, flow=flow, attack_at=0, attack_length=injections)
    return b"".join(plan.request(number, "h").wire for number in range(count))


@pytest.fixture
def replicas(replica_of, tmp_path):
    """Makes replicas that share an alert file."""

    def make(count: int = 1, **config):
        settings = {"alerts": str(tmp_path / "alerts"), **config}
        return [replica_of(Ids(clock=lambda: 12.5), settings, number) for number in range(1, count + 1)]

    return make


@pytest.fixture
def alerts(tmp_path):
    path = tmp_path / "alerts"
    return lambda: [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def segments(talk, stream: bytes, size: int = 700) -> list[bytes]:
    return [talk.data(at, stream[at : at + size]) for at in range(0, len(stream), size)]


def test_is_a_middlebox_that_the_library_can_load():
    assert isinstance(load_middlebox("middleboxes.ids:Ids"), Middlebox)
    assert isinstance(load_middlebox("middleboxes.forward:Forward"), Middlebox)


def test_exports():
    assert set(package.__all__) == {
        "ASK", "EXPIRE", "STATISTICS", "TALLY", "Alert", "AlertLost", "Ids", "IdsConfig", "IdsConfigError", "IdsError",
        "PacketCount", "Statistics", "Tally", "TcpFlow", "UdpFlow", "combine",
    }  # fmt: skip


@pytest.mark.parametrize("version", [4, 6])
def test_an_attack_is_counted_and_alerts_once(talk, replicas, alerts, version):
    (replica,) = replicas()
    conversation = talk(version=version)
    frames = conversation.handshake() + segments(conversation, requests(60, 40))
    assert replica.take(*frames) == frames
    key = FlowKey.from_frame(frames[0])
    (alert,) = alerts()
    assert alert.pop("evidence")
    assert alert == {
        "time": 12.5, "flow": str(key), "client": "10.0.1.2" if version == 4 else "fd00:1::2", "scope": "flow",
        "analyser": "http", "kind": "sqli", "count": 31, "replica": 1,
    }  # fmt: skip
    counted = replica.statistics
    assert (counted.requests, counted.injections, counted.alerts, counted.flows) == (60, 40, 1, 1)
    assert counted.packets == len(frames)
    assert counted.bytes == sum(map(len, frames))
    assert replica.guest.figures == {"requests": 60, "injections": 40, "alerts": 1}


@pytest.mark.parametrize(("injections", "alerting"), [(30, False), (31, True)])
def test_the_count_must_pass_the_threshold(talk, replicas, alerts, injections, alerting):
    (replica,) = replicas()
    replica.take(*talk().handshake(), *segments(talk(), requests(40, injections)))
    assert bool(alerts()) is alerting


def test_an_alert_that_cannot_be_written_is_counted_and_tried_again(talk, replicas, alerts, tmp_path):
    (replica,) = replicas(sqli_thresh=2)
    (tmp_path / "alerts").mkdir()
    first = requests(3, 3)
    replica.take(*talk().handshake(), talk().data(0, first))
    assert (replica.statistics.alerts, replica.statistics.alerts_lost) == (0, 1)
    (tmp_path / "alerts").rmdir()
    replica.take(talk().data(len(first), requests(5, 5)[len(first) :]))
    assert (replica.statistics.alerts, replica.statistics.alerts_lost) == (1, 1)
    assert [alert["count"] for alert in alerts()] == [4]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_moves_at_any_packet_change_nothing(talk, replicas, alerts, tmp_path, move_flows, data):
    (tmp_path / "alerts").unlink(missing_ok=True)
    pair = replicas(2, sqli_thresh=3)
    conversation = talk(isn=data.draw(st.sampled_from([0, 0xFFFFFF00, 0xFFFFFFFF])))
    stream = requests(8, 6, flow=data.draw(st.integers(0, 50)))
    size = data.draw(st.sampled_from([37, 400, 1460]))
    frames = data.draw(st.permutations(segments(conversation, stream, size))) if data.draw(st.booleans()) else None
    frames = conversation.handshake() + (frames or segments(conversation, stream, size))
    frames += [frames[3], conversation.reply(0, b"HTTP/1.1 200 OK\r\n\r\n", len(stream))]
    keys = [FlowKey.from_frame(frames[0])]
    here, epoch, out = 0, 0, []
    cuts = data.draw(st.sets(st.integers(1, len(frames)), max_size=8), label="moves before")
    for number, frame in enumerate(frames):
        if number in cuts:
            epoch += 1
            move_flows(pair[here], pair[1 - here], keys, epoch)
            here = 1 - here
        out += pair[here].take(frame)
    assert out == frames
    both = combine([replica.statistics for replica in pair])
    assert (both.requests, both.injections, both.alerts, both.gaps, both.malformed) == (8, 6, 1, 0, 0)
    assert [alert["count"] for alert in alerts()] == [4]
    for replica in pair:
        replica.middlebox.on_finish(replica.guest)


def test_a_packet_whose_flow_has_moved_is_dropped_and_counted(talk, replicas, move_flows, udp):
    here, there = replicas(2)
    tcp_frames = talk().handshake()
    here.take(*tcp_frames, udp())
    keys = [FlowKey.from_frame(tcp_frames[0]), FlowKey.from_frame(udp())]
    move_flows(here, there, keys, 1)
    assert here.take(tcp_frames[2], udp()) == []
    assert here.statistics.migrated == 2
    assert there.take(tcp_frames[2], udp(back=True)) == [tcp_frames[2], udp(back=True)]


def test_everything_else_is_forwarded_unchanged(replicas, udp, ip):
    (replica,) = replicas()
    frames = [
        udp(), udp(version=6), ip(ICMP, b"\x08\0\0\0\0\1\0\1ping"), ip(6, b"\0" * 20, fragment=0x2000),
        ip(6, b"tail", fragment=5), ip(6, b"\0\1\0\2"), ip(47, b"gre"), b"\xff" * 14 + b"arp", b"short",
    ]  # fmt: skip
    assert replica.take(*frames) == frames
    counted = replica.statistics
    assert (counted.packets, counted.unread) == (len(frames), 3)
    assert replica.guest.table.count == 3  # two of UDP, one of fragments
    assert replica.guest.get_flow(FlowKey.from_frame(frames[3])).packets == 2


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=st.sampled_from(["0800", "86dd"]), rest=st.binary(max_size=90))
def test_any_bytes_are_forwarded(replicas, head, rest):
    (replica,) = replicas()
    frame = bytes(12) + bytes.fromhex(head) + bytes([0x45 if head == "0800" else 0x60]) + rest
    assert replica.take(frame) == [frame]


def test_a_closed_connection_is_forgotten_after_the_linger_time(talk, replicas):
    (replica,) = replicas(linger=2.0)
    conversation, body = talk(), requests(1, 0)
    replica.take(*conversation.handshake(), conversation.data(0, body, ACK | FIN))
    replica.take(conversation.reply(0, b"", len(body) + 1, ACK | FIN))
    replica.wait(1.9)
    assert replica.guest.table.count == 1
    replica.wait(0.2)
    assert replica.guest.table.count == 0
    assert replica.statistics.expired == 1
    last = conversation.frame(ACK, conversation.isn + 2 + len(body), conversation.server_isn + 2)
    assert replica.take(last) == [last]
    assert replica.guest.table.count == 0, "a straggler brings nothing back"


def test_a_reset_connection_is_forgotten_but_not_if_data_goes_on(talk, replicas):
    (replica,) = replicas(linger=2.0, sqli_thresh=0)
    conversation = talk()
    replica.take(*conversation.handshake(), conversation.data(0, b"", RST))
    replica.take(*segments(conversation, requests(1, 1)))
    replica.wait(10.0)
    assert replica.guest.table.count == 1
    assert replica.statistics.injections == 1
    replica.take(conversation.data(len(requests(1, 1)), b"", RST))
    replica.wait(2.1)
    assert replica.guest.table.count == 0


def test_a_reset_out_of_the_window_is_not_believed(talk, replicas):
    (replica,) = replicas(linger=2.0)
    conversation = talk()
    replica.take(*conversation.handshake(), conversation.data(1 << 20, b"", RST))
    replica.wait(20.0)
    assert replica.guest.table.count == 1


def test_idle_flows_go_and_busy_ones_stay(talk, replicas, udp):
    (replica,) = replicas(udp_idle=10.0, handshake=5.0, tcp_idle=100.0)
    replica.take(talk().handshake()[0], *talk(41000).handshake())
    for _ in range(6):
        replica.take(udp(1), udp(2) if replica.guest.now < 1010 else udp(1))
        replica.wait(5.0)
    assert replica.guest.table.count == 2, "the unanswered SYN and the silent UDP flow are gone"
    replica.wait(205.0)
    assert replica.guest.table.count == 0
    assert replica.statistics.expired == 4


def test_ports_used_again_make_a_new_connection(talk, replicas, alerts):
    (replica,) = replicas(sqli_thresh=0, linger=60.0)
    for isn in (0xFFFFFF00, 77777):
        conversation, body = talk(isn=isn), requests(1, 1)
        replica.take(*conversation.handshake(), conversation.data(0, body, ACK | FIN))
        replica.take(conversation.reply(0, b"", len(body) + 1, ACK | FIN))
    assert [alert["count"] for alert in alerts()] == [1, 1]
    assert replica.statistics.flows == 1


def test_a_connection_is_picked_up_in_its_middle(talk, replicas):
    (replica,) = replicas()
    conversation, body = talk(), requests(2, 2)
    replica.take(conversation.reply(500, b"end of a response", 0), conversation.data(0, b"end of a body"))
    replica.take(*segments(conversation, b"end of a body" + body)[:0], conversation.data(13, body))
    assert (replica.statistics.requests, replica.statistics.injections) == (2, 2)


def test_a_segment_never_seen_is_a_gap_once_it_is_acknowledged(talk, replicas):
    (replica,) = replicas()
    conversation, body = talk(), requests(3, 3)
    first = len(requests(1, 1))
    replica.take(*conversation.handshake(), conversation.data(first, body[first:]))
    assert replica.statistics.requests == 0
    replica.take(conversation.reply(0, b"", len(body)))
    counted = replica.statistics
    assert (counted.requests, counted.gaps, counted.gap_bytes) == (2, 1, first)


def test_retransmissions_count_nothing_twice(talk, replicas):
    (replica,) = replicas()
    conversation = talk()
    frames = segments(conversation, requests(5, 5), 100)
    replica.take(*conversation.handshake(), *frames, *frames, *reversed(frames))
    assert (replica.statistics.requests, replica.statistics.injections) == (5, 5)


def test_a_syn_that_carries_data_is_read(talk, replicas):
    (replica,) = replicas()
    conversation, body = talk(), requests(1, 1)
    replica.take(conversation.frame(SYN, conversation.isn, 0, body))
    assert replica.statistics.injections == 1


# -- configuration and statistics ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"sqli_tresh": 3},
        {"sqli_thresh": -1},
        {"sqli_thresh": "many"},
        {"linger": 0},
        {"max_body": 10**9},
        {"alerts": 3},
        {"tls_names": [""]},
        {"tls_names": ["a.test", "."]},
    ],
)
def test_a_wrong_configuration_is_refused_with_its_place(values):
    with pytest.raises(IdsConfigError, match="middlebox ids"):
        Ids().setup(Guest(values))


def test_the_default_configuration_is_the_papers():
    assert IdsConfig.of({}).sqli_thresh == 30


NUMBERS = [name for name, default in Statistics.__annotations__.items() if default == "int"]
COUNTS = st.dictionaries(st.sampled_from("abc"), st.integers(1, 2**40), max_size=3)


@given(
    st.lists(
        st.builds(Statistics, messages=COUNTS, signs=COUNTS, **dict.fromkeys(NUMBERS, st.integers(0, 2**40))),
        min_size=1,
        max_size=5,
    )
)
def test_combining_is_a_sum(elements):
    assert combine([]) == Statistics()
    total = combine(elements)
    assert total == combine(elements[::-1]) == combine([combine(elements[:1]), *elements[1:]])
    for name in NUMBERS:
        assert getattr(total, name) == sum(getattr(each, name) for each in elements)
    for name in ("messages", "signs"):
        assert getattr(total, name) == dict(sum((Counter(getattr(each, name)) for each in elements), Counter()))


# -- the smallest middlebox ------------------------------------------------------------------------------------------


def test_forward_counts_and_forgets(replica_of, talk, udp, move_flows):
    here, there = replica_of(Forward(), {"idle": 5.0}), replica_of(Forward(), {"idle": 5.0}, 2)
    frames = [*talk().handshake(), udp(), b"\xff" * 20]
    assert here.take(*frames) == frames
    keys = [FlowKey.from_frame(udp())]
    move_flows(here, there, keys, 1)
    assert here.take(udp()) == []
    assert here.guest.figures["migrated"] == 1
    there.take(udp(back=True))
    with there.guest.flow(keys[0]) as flow:
        assert (flow.packets, flow.bytes) == (2, 2 * len(udp()))
    here.wait(5.1)
    assert here.guest.table.count == 0
