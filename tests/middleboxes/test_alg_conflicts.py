"""The packet modifier's gateway for FTP, where a client's port is another connection's: nobody waits for ever."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import IP, TCP
from scapy.packet import Raw

from middleboxes.alg import EXPECTED
from middleboxes.alg.gateway import CONFLICT
from splitmerge.flowkey import FlowKey
from tests.middleboxes.alg_box import CLIENT, EXTERNAL, SERVER, Box, back, out
from tests.middleboxes.test_alg_ftp import INNER, PORT, announced, asked, away, control, control_flow, told

EPRT = b"EPRT |1|10.0.1.2|40000|\r\n"


def refused(box: Box, key: bytes = INNER) -> None:
    """Another replica has a living flow with that key."""
    assert told(box, asked(box), key) == []


@pytest.mark.parametrize(
    ("said", "becomes"),
    [(PORT, b"PORT 10,0,2,100,0,0\r\n"), (EPRT, b"EPRT |1|10.0.2.100|0|\r\n")],
    ids=["PORT", "EPRT"],
)
def test_a_port_that_another_connection_goes_on_to_have_is_refused_by_the_server(said: bytes, becomes: bytes) -> None:
    """The server answers a port that is none at once (RFC 959), and the connection goes on behind that."""
    box = Box()
    away(box)
    segment = out("PA", said, dport=21, seq=100, ack=500)
    for repeated in (0.0, 0.3, CONFLICT + 0.1):
        box.now = 1000.0 + repeated
        assert box.through(segment) is None
        refused(box)
    for _ in range(2):  # it may be lost on its way, and said again
        sent = box.through(segment)
        assert sent is not None and bytes(sent[Raw]) == becomes
    assert box.guest.figures["ftp_conflict"] == 1 and box.guest.table.count == 1
    assert box.guest.get_shared(EXPECTED).entries == {}
    box.guest.put_shared(EXPECTED)
    following = box.through(out("PA", b"QUIT\r\n", dport=21, seq=100 + len(said), ack=530))
    assert following is not None and following[TCP].seq == 100 + len(becomes)


def test_each_announcement_has_as_long() -> None:
    box = Box()
    away(box)
    first = out("PA", PORT, dport=21, seq=100, ack=500)
    for _ in range(2):
        assert box.through(first) is None
        refused(box)
        box.now += CONFLICT
    assert box.through(first) is not None and box.guest.figures["ftp_conflict"] == 1
    assert box.through(out("PA", PORT, dport=21, seq=100 + len(PORT), ack=500)) is None, "asked for like any other"
    (sent,) = told(box, asked(box))
    assert announced(sent)[0] == EXTERNAL


def test_a_port_outside_that_is_another_flows_is_no_reason_to_give_up() -> None:
    """There are others."""
    box = Box()
    away(box)
    segment = out("PA", PORT, dport=21, seq=100, ack=500)
    for number in range(3):
        box.now, box.choice = 1000.0 + number * CONFLICT, number * 100
        assert box.through(segment) is None
        request = asked(box)
        assert told(box, request, *(each.key for each in request.keys if each.key != INNER)) == []
    assert "ftp_conflict" not in box.guest.figures


@pytest.mark.parametrize("ends", [True, False], ids=["ends", "goes on"])
def test_a_port_of_a_connection_at_the_same_replica_is_waited_for_as_long(ends: bool) -> None:
    box = Box()
    control(box)
    _, port = announced(box.through(out("PA", PORT, dport=21, seq=100, ack=500)))
    there, here = (SERVER, 20, EXTERNAL, port), (CLIENT, 40000, SERVER, 20)

    def data(ends: tuple[str, int, str, int], flags: str) -> None:
        packet = IP(src=ends[0], dst=ends[2]) / TCP(sport=ends[1], dport=ends[3], flags=flags)
        assert box.through(packet) is not None

    for way, flags in ((there, "S"), (here, "SA"), (there, "A")):
        data(way, flags)
    again = out("PA", PORT, dport=21, seq=100 + len(PORT), ack=500)
    assert box.dropped(again) == "dropped_ftp_later"
    box.now += CONFLICT
    if ends:
        for way in (there, here):
            data(way, "FA")
        assert announced(box.through(again)) not in ((EXTERNAL, 0), (EXTERNAL, port))
        return
    sent = box.through(again)
    assert sent is not None and bytes(sent[Raw]).endswith(b",0,0\r\n") and box.guest.figures["ftp_conflict"] == 1


def test_what_was_given_up_says_nothing_of_the_next_announcement() -> None:
    """The first is refused elsewhere, the second by a connection here: that has its time, too."""
    box = Box()
    control(box)
    _, port = announced(box.through(out("PA", PORT, dport=21, seq=100, ack=500)))
    there, here = (SERVER, 20, EXTERNAL, port), (CLIENT, 40000, SERVER, 20)
    for ends, flags in ((there, "S"), (here, "SA"), (there, "A")):
        assert box.through(IP(src=ends[0], dst=ends[2]) / TCP(sport=ends[1], dport=ends[3], flags=flags)) is not None
    away(box)
    elsewhere, number = b"PORT 10,0,1,2,156,65\r\n", 100 + len(PORT)
    inner = FlowKey.of(6, IPv4Address(CLIENT).packed, 40001, IPv4Address(SERVER).packed, 20)
    for _ in range(2):
        assert box.through(out("PA", elsewhere, dport=21, seq=number, ack=500)) is None
        refused(box, inner)
        box.now += CONFLICT
    assert box.through(out("PA", elsewhere, dport=21, seq=number, ack=500)) is not None
    assert box.guest.figures["ftp_conflict"] == 1
    again = out("PA", PORT, dport=21, seq=number + len(elsewhere), ack=500)
    for _ in range(2):
        assert box.dropped(again) == "dropped_ftp_later"
        box.now += 0.2
    assert box.guest.figures["ftp_conflict"] == 1


def test_a_client_that_announces_a_port_twice_at_once_is_rewritten_twice() -> None:
    """By two control connections: the first announcement has not left, and is not to leave as if somebody waited."""
    box = Box()
    for sport in (5000, 6000):
        control(box, sport)
    away(box)
    first = out("PA", PORT, dport=21, seq=100, ack=500)
    assert box.through(first) is None
    earlier = asked(box)
    box.choice = 500
    second = out("PA", PORT, sport=6000, dport=21, seq=100, ack=500)
    assert box.through(second) is None
    assert box.guest.figures["ftp_withdrawn"] == 1 and told(box, earlier) == []
    (sent,) = told(box, asked(box))
    latest = announced(sent)[1]
    assert [each.outside_port for each in box.guest.get_shared(EXPECTED).entries.values()] == [latest]
    box.guest.put_shared(EXPECTED)
    assert control_flow(box).state.ftp.gap, "what was withdrawn is announced anew when it comes again"
    box.guest.table.validate_state()


def test_a_fin_that_may_not_leave_yet_does_not_close_the_connection() -> None:
    box = Box(external=["203.0.113.77"])
    away(box)
    assert box.through(out("PA", PORT, dport=21, seq=100, ack=500)) is None
    refused(box)
    fin = out("FA", dport=21, seq=100 + len(PORT), ack=501)
    flow = control_flow(box)
    assert box.dropped(fin) == "dropped_ftp_later" and flow.state.stage.ends == 0
    assert box.through(out("PA", PORT, dport=21, seq=100, ack=500)) is None
    (announcement,) = told(box, asked(box))
    last = box.through(fin)
    assert last is not None and last[TCP].seq == 100 + len(bytes(announcement[Raw])) and flow.state.stage.ends == 1


RESET = out("R", dport=21, seq=100 + len(PORT))
"""The client has gone: nobody says again what does not leave."""


def test_a_reset_behind_what_was_withdrawn_reaches_the_server_with_the_number_that_it_waits_for() -> None:
    box = Box(external=["203.0.113.77"])
    away(box)
    assert box.through(out("PA", PORT, dport=21, seq=100, ack=500)) is None
    refused(box)
    sent = box.through(RESET)
    assert sent is not None and sent[TCP].flags == "R" and sent[TCP].seq == 100
    assert control_flow(box).state.stage.closed


@pytest.mark.parametrize("confirmed", [True, False], ids=["confirmed", "refused"])
def test_a_reset_behind_an_announcement_that_waits_is_not_dropped_with_it(confirmed: bool) -> None:
    """Refused, it has a number in the server's window, which asks back (RFC 5961 §3.2); the client answers."""
    box = Box(external=["203.0.113.77"])
    away(box)
    assert [box.through(each) for each in (out("PA", PORT, dport=21, seq=100, ack=500), RESET)] == [None, None]
    request = asked(box)
    left = told(box, request) if confirmed else told(box, request, INNER)
    assert [str(each[TCP].flags) for each in left] == (["PA", "R"] if confirmed else ["R"])
    if confirmed:
        assert left[1][TCP].seq == 100 + len(bytes(left[0][Raw]))
        return
    asks_back = box.through(back(left[0], "A", seq=500, ack=100))
    assert asks_back is not None and (asks_back.dst, asks_back[TCP].ack) == (CLIENT, 100)
    answer = box.through(out("R", dport=21, seq=asks_back[TCP].ack))
    assert answer is not None and answer[TCP].seq == 100
