"""The packet modifier's gateway for FTP: announcements, sequence numbers, what is expected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet as Scapy
from scapy.packet import Raw

from guestlib.instructions import ToOrchestrator, Transmit
from guestlib.partitioned.fences import Fate
from guestlib.partitioned.flows import Flow
from guestlib.partitioned.steering import GIVE_UP
from middleboxes.alg import EXPECTED, Expectation, Expectations
from middleboxes.alg.expect import combine
from middleboxes.alg.ftp import command, reply
from middleboxes.alg.sequence import Edit, Gap, Shift
from splitmerge.flowkey import FlowKey
from splitmerge.messages import AddKeys, Claim, KeysAdded, Owns
from tests.middleboxes.alg_box import CLIENT, EXTERNAL, SERVER, Box, back, out


@pytest.mark.parametrize(
    ("line", "address", "port", "rewritten"),
    [
        (b"PORT 10,0,1,2,156,64\r\n", "0a000102", 40000, b"PORT 10,0,2,100,4,1\r\n"),
        (b"port 10,0,1,2,0,21\n", "0a000102", 21, b"port 10,0,2,100,4,1\n"),
        (b"EPRT |1|10.0.1.2|40000|\r\n", "0a000102", 40000, b"EPRT |1|10.0.2.100|1025|\r\n"),
        (b"EPRT !1!10.0.1.2!7!\r\n", "0a000102", 7, b"EPRT !1!10.0.2.100!1025!\r\n"),
    ],
)
def test_commands_are_read_and_written(line: bytes, address: str, port: int, rewritten: bytes) -> None:
    said = command(line)
    assert said is not None and (said.address.hex(), said.port) == (address, port)
    assert said.rewritten(bytes([10, 0, 2, 100]), 1025) == rewritten


@pytest.mark.parametrize(
    ("line", "rewritten"),
    [
        (b"227 Entering Passive Mode (10,0,1,2,156,64).\r\n", b"227 Entering Passive Mode (10,0,2,100,4,1).\r\n"),
        (b"227 =10,0,1,2,156,64\r\n", b"227 =10,0,2,100,4,1\r\n"),
        (b"229 Entering Extended Passive Mode (|||40000|)\r\n", b"229 Entering Extended Passive Mode (|||1025|)\r\n"),
    ],
)
def test_replies_are_read_and_written(line: bytes, rewritten: bytes) -> None:
    said = reply(line)
    assert said is not None and said.port == 40000
    assert said.rewritten(bytes([10, 0, 2, 100]), 1025) == rewritten


@pytest.mark.parametrize(
    "line",
    [
        b"PORT 10,0,1,2,156\r\n", b"PORT 10,0,1,256,1,1\r\n", b"PORT 10,0,1,2,0,0\r\n", b"PORT 10,0,1,2,1,1",
        b"EPRT |1|fd00::1|40|\r\n", b"EPRT |1|10.0.1.2|99999|\r\n", b"EPRT |3|10.0.1.2|40|\r\n", b"EPRT |1|::::|4|\r\n",
        b"RETR PORT 10,0,1,2,156,64\r\n", b"229 (|||0|)\r\n", b"227 Bye\r\n", b"\r\n",
    ],
)  # fmt: skip
def test_what_announces_nothing_is_left_alone(line: bytes) -> None:
    assert command(line) is None and reply(line) is None


@given(st.binary(max_size=80))
def test_any_line_is_read_or_left(line: bytes) -> None:
    for prefix in (b"", b"PORT ", b"EPRT |", b"227 ", b"229 (|||"):
        command(prefix + line + b"\r\n")
        reply(prefix + line + b"\r\n")


PORT = b"PORT 10,0,1,2,156,64\r\n"


def control(box: Box, sport: int = 5000) -> Scapy:
    """An open control connection; the translated SYN."""
    sent = box.through(out(sport=sport, dport=21, seq=99))
    assert sent is not None
    box.through(back(sent, "SA", seq=499, ack=100))
    box.through(out("A", sport=sport, dport=21, seq=100, ack=500))
    return sent


def control_flow(box: Box) -> Flow:
    """The flow of the control connection, made if there is none."""
    key = FlowKey.parse(f"tcp,{CLIENT}:5000,{SERVER}:21")
    if not box.guest.has_flow(key):
        control(box)
    return box.guest.table.find(key)


def announced(sent: Scapy | None) -> tuple[str, int]:
    """The endpoint in a PORT command."""
    assert sent is not None
    said = command(bytes(sent[Raw]))
    assert said is not None
    return ".".join(map(str, said.address)), said.port


def test_a_control_connection_of_the_endpoints_of_a_closed_one_is_read_afresh() -> None:
    """Its numbers have nothing to do with the old one's, in which something was rewritten."""
    box = Box()
    control(box)
    box.through(out("PA", PORT, dport=21, seq=1_000_000, ack=500))
    box.through(out("R", dport=21, seq=1_000_100))
    control(box)
    assert announced(box.through(out("PA", PORT, dport=21, seq=100, ack=500)))[0] == EXTERNAL


def test_an_active_data_connection_comes_to_the_client() -> None:
    box = Box()
    control(box)
    address, port = announced(box.through(out("PA", PORT, dport=21, seq=100, ack=500)))
    assert address == EXTERNAL
    syn = IP(src=SERVER, dst=EXTERNAL) / TCP(sport=20, dport=port, flags="S")
    got = box.through(syn)
    assert got is not None and (got.dst, got.dport, got.sport) == (CLIENT, 40000, 20)
    answer = box.through(IP(src=CLIENT, dst=SERVER) / TCP(sport=40000, dport=20, flags="SA"))
    assert answer is not None and (answer.src, answer.sport) == (EXTERNAL, port)
    flows = list(box.guest.table.flows())
    assert len(flows) == 2 and len({flow.group for flow in flows}) == 1
    assert len({flow.key.bucket for flow in flows}) == 1, "data and control are one bucket's"


def test_a_server_may_connect_from_any_port_but_only_from_its_address() -> None:
    box = Box()
    control(box)
    _, port = announced(box.through(out("PA", PORT, dport=21, seq=100, ack=500)))
    stranger = IP(src="10.0.2.9", dst=EXTERNAL) / TCP(sport=20, dport=port, flags="S")
    assert box.dropped(stranger) == "dropped_unsolicited"
    got = box.through(IP(src=SERVER, dst=EXTERNAL) / TCP(sport=41234, dport=port, flags="S"))
    assert got is not None and (got.dst, got.dport) == (CLIENT, 40000)
    box.now += 61
    late = IP(src=SERVER, dst=EXTERNAL) / TCP(sport=41235, dport=port, flags="S")
    box.guest.now = 100.0
    assert box.dropped(late) == "dropped_unsolicited"


def test_a_server_that_never_uses_the_usual_port_leaves_nothing_expected_behind() -> None:
    """A bucket has 63 ports; each would be taken for a minute, and so would the client's be, at any replica."""
    box = Box()
    control(box)
    for number in range(100, 170):
        line = b"PORT 10,0,1,2,156,%d\r\n" % number
        _, port = announced(box.through(out("PA", line, dport=21, seq=number * len(line), ack=500)))
        got = box.through(IP(src=SERVER, dst=EXTERNAL) / TCP(sport=30000 + number, dport=port, flags="S"))
        assert got is not None and (got.dst, got.dport) == (CLIENT, 156 * 256 + number)
        box.guest.now += 1.0  # between two pulls
    assert not any(flow.state.expected for flow in box.guest.table.flows())


def test_a_server_inside_announces_as_often_as_it_likes() -> None:
    """Its clients connect from any port: what is kept for each announcement would stay for a minute."""
    box = Box(forward=[{"port": 2121, "to": CLIENT, "to_port": 21}])
    assert box.through(IP(src=SERVER, dst=EXTERNAL) / TCP(sport=6000, dport=2121, flags="S", seq=9)) is not None
    number, ports = 70, []
    for _ in range(150):
        said = b"229 Entering Extended Passive Mode (|||40000|)\r\n"
        sent = box.through(IP(src=CLIENT, dst=SERVER) / TCP(sport=21, dport=6000, flags="PA", seq=number) / Raw(said))
        assert sent is not None
        found = reply(bytes(sent[Raw]))
        assert found is not None
        ports.append(found.port)
        number += len(said)
        got = box.through(IP(src=SERVER, dst=EXTERNAL) / TCP(sport=30000 + number, dport=found.port, flags="S"))
        assert got is not None and (got.dst, got.dport) == (CLIENT, 40000)
        box.guest.now += 1.0  # between two pulls
    assert sum(flow.state.expected for flow in box.guest.table.flows()) == 1


def test_numbers_behind_a_rewritten_command_are_shifted_and_acknowledgements_back() -> None:
    box = Box(external=["203.0.113.77"])
    control(box)
    sent = box.through(out("PA", PORT, dport=21, seq=100, ack=500))
    assert sent is not None
    text = bytes(sent[Raw])
    growth = len(text) - len(PORT)
    assert growth != 0 and sent[TCP].seq == 100
    following = box.through(out("PA", b"RETR x\r\n", dport=21, seq=100 + len(PORT), ack=500))
    assert following is not None and following[TCP].seq == 100 + len(text)
    options = [("SAck", (100 + len(text), 108 + len(text)))]
    acknowledged = box.through(back(sent, "A", seq=500, ack=100, options=options))
    assert acknowledged is not None and acknowledged[TCP].ack == 100
    assert dict(acknowledged[TCP].options)["SAck"] == (100 + len(PORT), 108 + len(PORT))
    done = box.through(back(sent, "PA", b"200 ok\r\n", seq=500, ack=100 + len(text)))
    assert done is not None and (done[TCP].ack, done[TCP].seq) == (100 + len(PORT), 500)
    partly = box.through(back(sent, "A", seq=508, ack=100 + 3))
    assert partly is not None and partly[TCP].ack == 100, "the client repeats the whole command"


def test_a_command_that_comes_again_is_rewritten_alike_also_together_with_others() -> None:
    box = Box()
    control(box)
    first = box.through(out("PA", PORT, dport=21, seq=100, ack=500))
    again = box.through(out("PA", PORT + b"LIST\r\n", dport=21, seq=100, ack=500))
    assert first is not None and again is not None
    assert bytes(again[Raw]) == bytes(first[Raw]) + b"LIST\r\n"
    assert len(list(box.guest.table.flows())) == 2
    assert box.guest.figures["ftp_rewritten"] == 1


def test_an_announcement_that_no_port_is_left_for_is_not_let_out_and_is_rewritten_when_it_comes_again() -> None:
    box = Box()
    home = control_flow(box).key.bucket
    box.guest.table.fences.set_buckets([home], Fate.FROZEN, 1)
    assert box.dropped(out("PA", PORT, dport=21, seq=100, ack=500)) == "dropped_no_port"
    box.guest.table.fences.set_buckets([home], Fate.HERE, 1)
    assert announced(box.through(out("PA", PORT, dport=21, seq=100, ack=500)))[0] == EXTERNAL


def test_what_follows_a_dropped_announcement_is_dropped_until_that_has_come_again() -> None:
    """Else it would leave with other numbers than the rewritten announcement gives it, and be rewritten before it."""
    box = Box(external=["203.0.113.77"])
    home, fences, other = control_flow(box).key.bucket, box.guest.table.fences, b"PORT 10,0,1,2,156,65\r\n"
    first = out("PA", PORT, dport=21, seq=100, ack=500)
    second = out("PA", other, dport=21, seq=100 + len(PORT), ack=500)
    end = 100 + len(PORT) + len(other)
    fences.set_buckets([home], Fate.FROZEN, 1)
    assert box.dropped(first) == "dropped_no_port"
    fences.set_buckets([home], Fate.HERE, 1)
    assert box.dropped(second) == "dropped_ftp_later", "there is a port now"
    assert box.dropped(out("FA", dport=21, seq=end, ack=500)) == "dropped_ftp_later"
    assert box.guest.figures["dropped_no_port"] == 1
    assert box.through(out("A", dport=21, seq=end, ack=500)) is not None, "an acknowledgement is no text"
    sent = [box.through(packet) for packet in (first, second)]
    assert {announced(each)[0] for each in sent} == {"203.0.113.77"} and len({announced(each) for each in sent}) == 2
    assert sent[0] is not None and sent[1] is not None
    assert sent[1][TCP].seq == 100 + len(bytes(sent[0][Raw])) != 100 + len(PORT)
    fin = box.through(out("FA", dport=21, seq=end, ack=500))
    assert fin is not None and fin[TCP].seq == sent[1][TCP].seq + len(bytes(sent[1][Raw]))


@pytest.mark.parametrize(("acknowledged", "passes"), [(len(PORT), True), (0, False)], ids=["all", "nothing"])
def test_what_the_other_side_has_is_not_waited_for(acknowledged: int, passes: bool) -> None:
    """The client would never say it again."""
    box = Box()
    sent = control(box)
    home = control_flow(box).key.bucket
    box.guest.table.fences.set_buckets([home], Fate.FROZEN, 1)
    assert box.dropped(out("PA", PORT, dport=21, seq=100, ack=500)) == "dropped_no_port"
    box.through(back(sent, "A", seq=500, ack=100 + acknowledged))
    following = box.through(out("PA", b"NOOP\r\n", dport=21, seq=100 + len(PORT), ack=500))
    assert (following is not None) is passes


def test_a_control_connection_away_from_its_bucket_announces_in_one_that_is_here() -> None:
    """Its group had to move: a data connection of it has keys in other buckets, and these moved."""
    box = Box()
    home = control_flow(box).key.bucket
    box.guest.begin(1, "i")
    box.guest.handle(Owns(buckets=(home + 1, home + 2)), 1.0)
    box.guest.table.fences.set_buckets([home], Fate.GONE, 1)
    assert box.through(out("PA", PORT, dport=21, seq=100, ack=500)) is None, "it waits until the switch knows the key"
    request = asked(box)
    assert {each.key for each in request.keys} == {INNER, request.keys[0].flow}
    (sent,) = told(box, request)
    address, port = announced(sent)
    flow = box.guest.table.find(FlowKey.parse(f"tcp,{SERVER}:20,{EXTERNAL}:{port}"))
    assert address == EXTERNAL and flow.key.bucket in (home + 1, home + 2)
    assert flow.group == control_flow(box).group != ""


def away(box: Box) -> None:
    """A control connection at a replica that has no bucket: what it announces needs entries in the switch."""
    home = control_flow(box).key.bucket
    box.guest.begin(1, "i")
    box.guest.handle(Owns(buckets=()), 1.0)
    box.guest.table.fences.set_buckets([home], Fate.GONE, 1)


def asked(box: Box) -> AddKeys:
    """What the orchestrator is asked."""
    asking = [each.message for each in box.guest.poll(box.guest.now) if isinstance(each, ToOrchestrator)]
    (request,) = [message for message in asking if isinstance(message, AddKeys)]
    return request


def told(box: Box, request: AddKeys, *refused: bytes) -> list[Scapy]:
    """The packets that leave when the orchestrator has answered."""
    keys = tuple(each.key for each in request.keys if each.key not in refused)
    steps = box.guest.handle(KeysAdded(request=request.request, keys=keys, refused=refused), box.guest.now)
    return [Ether(each.frame).payload for each in steps if isinstance(each, Transmit)]


INNER = bytes(FlowKey.parse(f"tcp,{CLIENT}:40000,{SERVER}:20"))


@pytest.mark.parametrize("of_client", [False, True], ids=["outside", "inside"])
def test_an_announced_connection_with_a_key_of_another_flow_is_announced_anew(of_client: bool) -> None:
    """The server must hear of no port that nobody waits at, nor the client's next words have numbers behind that."""
    box = Box(external=["203.0.113.77"])
    away(box)
    first = out("PA", PORT, dport=21, seq=100, ack=500)
    following = out("PA", b"NOOP\r\n", dport=21, seq=100 + len(PORT), ack=500)
    assert [box.through(each) for each in (first, following)] == [None, None], "until the switch knows the keys"
    request = asked(box)
    (refused,) = [each.key for each in request.keys if (each.key == INNER) is of_client]
    assert told(box, request, refused) == []
    assert box.guest.table.steering.drops == {"second_key_refused": 2} and box.guest.table.count == 1
    assert box.guest.get_shared(EXPECTED).entries == {}
    box.guest.put_shared(EXPECTED)
    assert box.dropped(following) == "dropped_ftp_later"
    box.choice = 700
    assert [box.through(each) for each in (first, following)] == [None, None]
    sent = told(box, asked(box))
    _, port = announced(sent[0])
    flow = box.guest.table.find(FlowKey.parse(f"tcp,{SERVER}:20,203.0.113.77:{port}"))
    assert flow.key != refused and flow.pending is None and box.guest.table.count == 2
    assert [each[TCP].seq for each in sent] == [100, 100 + len(bytes(sent[0][Raw]))]
    assert bytes(sent[1][Raw]) == b"NOOP\r\n"
    box.guest.table.validate_state()


def test_an_announcement_that_the_switch_was_not_told_of_in_time_is_made_anew() -> None:
    """The orchestrator was away for longer than an announced connection is waited for."""
    box = Box(expect=60)
    away(box)
    first = out("PA", PORT, dport=21, seq=100, ack=500)
    assert box.through(first) is None
    late = asked(box)
    box.guest.fire_timers(70.0)
    assert box.guest.sent == [] and box.guest.table.count == 1 and told(box, late) == []
    assert box.guest.table.steering.drops == {"second_key_unconfirmed": 1}
    assert box.through(first) is None
    (sent,) = told(box, asked(box))
    assert box.guest.has_flow(FlowKey.parse(f"tcp,{SERVER}:20,{EXTERNAL}:{announced(sent)[1]}"))


def test_one_announcement_at_a_time_waits_for_the_switch() -> None:
    """All that follows would have other numbers if the first one came to nothing."""
    box = Box()
    away(box)
    first = out("PA", PORT, dport=21, seq=100, ack=500)
    second = out("PA", b"PORT 10,0,1,2,156,65\r\n", dport=21, seq=100 + len(PORT), ack=500)
    assert box.through(first) is None and box.dropped(second) == "dropped_ftp_later"
    assert box.through(first) is None, "said again, it waits again"
    assert len(told(box, asked(box))) == 2
    assert box.through(second) is None
    (sent,) = told(box, asked(box))
    assert announced(sent)[0] == EXTERNAL


def test_an_announcement_that_was_given_up_still_waits_when_it_comes_again() -> None:
    box = Box()
    away(box)
    first = out("PA", PORT, dport=21, seq=100, ack=500)
    assert box.through(first) is None
    request = asked(box)
    box.guest.poll(box.guest.now + 1.0 + GIVE_UP)
    box.guest.now += 2.0 + GIVE_UP
    assert box.through(first) is None
    assert len(told(box, request)) == 1


def test_a_flow_whose_second_key_is_refused_begins_anew() -> None:
    box = Box()
    box.guest.begin(1, "i")
    box.guest.handle(Owns(buckets=()), 1.0)
    assert box.through(out("S")) is None
    request = asked(box)
    assert told(box, request, request.keys[0].key) == [] and box.guest.table.count == 0
    assert box.through(out("S")) is None and asked(box).request != request.request


def claims(box: Box, key: FlowKey) -> bool:
    """Whether a new flow elsewhere gets this key."""
    box.guest.handle(Claim(request=1, key=key, flow=bytes(37)), 1.0)
    return not box.guest.has_flow(key)


@pytest.mark.parametrize(
    ("flags", "inside", "outside"),
    [((), True, False), (("S",), True, False), (("S", "A"), False, False), (("S", "FA", "FA"), True, True)],
    ids=["announced", "opening", "open", "closed"],
)
def test_a_data_connection_gives_its_keys_up_when_it_is_over(
    flags: tuple[str, ...], inside: bool, outside: bool
) -> None:
    """The client listens on the port again; another external port is as good, unless the connection has closed."""
    for far, gives in ((False, inside), (True, outside)):
        box = Box()
        control(box)
        _, port = announced(box.through(out("PA", PORT, dport=21, seq=100, ack=500)))
        for number, flag in enumerate(flags):
            there = IP(src=SERVER, dst=EXTERNAL) / TCP(sport=20, dport=port, flags=flag)
            here = IP(src=CLIENT, dst=SERVER) / TCP(sport=40000, dport=20, flags=flag)
            assert box.through(here if number == 2 else there) is not None
        outer = f"tcp,{SERVER}:20,{EXTERNAL}:{port}"
        assert claims(box, FlowKey.parse(outer if far else f"tcp,{CLIENT}:40000,{SERVER}:20")) is gives


def test_other_flows_give_their_keys_up_when_they_have_closed() -> None:
    box = Box()
    box.through(out("S"))
    udp = box.through(IP(src=CLIENT, dst=SERVER) / UDP(sport=5000, dport=53))
    assert udp is not None and not claims(box, FlowKey.parse(f"udp,{SERVER}:53,{EXTERNAL}:{udp.sport}"))
    key = FlowKey.parse(f"tcp,{CLIENT}:5000,{SERVER}:80")
    assert not claims(box, key)
    box.through(out("R"))
    assert claims(box, key)


@pytest.mark.parametrize("used", [True, False], ids=["closed", "never came"])
def test_a_client_that_listens_on_a_port_again_gets_the_new_connection(used: bool) -> None:
    """The earlier one, of the same port inside, has not timed out yet."""
    box = Box()
    control(box)
    _, first = announced(box.through(out("PA", PORT, dport=21, seq=100, ack=500)))
    if used:
        box.through(IP(src=SERVER, dst=EXTERNAL) / TCP(sport=20, dport=first, flags="S"))
        box.through(IP(src=SERVER, dst=EXTERNAL) / TCP(sport=20, dport=first, flags="FA"))
        box.through(IP(src=CLIENT, dst=SERVER) / TCP(sport=40000, dport=20, flags="FA"))
    _, port = announced(box.through(out("PA", PORT, dport=21, seq=100 + len(PORT), ack=500)))
    got = box.through(IP(src=SERVER, dst=EXTERNAL) / TCP(sport=20, dport=port, flags="S"))
    assert got is not None and (got.dst, got.dport) == (CLIENT, 40000)
    answer = box.through(IP(src=CLIENT, dst=SERVER) / TCP(sport=40000, dport=20, flags="SA"))
    assert answer is not None and (answer.src, answer.sport) == (EXTERNAL, port)


def test_addresses_of_others_are_left_alone() -> None:
    """FTP's bounce attack (RFC 2577)."""
    box = Box()
    control(box)
    bounce = b"PORT 10,0,9,9,0,25\r\n"
    sent = box.through(out("PA", bounce, dport=21, seq=100, ack=500))
    assert sent is not None and bytes(sent[Raw]) == bounce
    assert box.guest.figures["ftp_foreign"] == 1


def test_a_passive_server_inside_is_reached_where_its_reply_says() -> None:
    box = Box(forward=[{"port": 2121, "to": CLIENT, "to_port": 21}])
    assert box.through(IP(src=SERVER, dst=EXTERNAL) / TCP(sport=6000, dport=2121, flags="S", seq=9)) is not None
    said = b"227 Entering Passive Mode (10,0,1,2,156,64).\r\n"
    reply_out = IP(src=CLIENT, dst=SERVER) / TCP(sport=21, dport=6000, flags="PA", seq=70, ack=10) / Raw(said)
    sent = box.through(reply_out)
    assert sent is not None
    found = reply(bytes(sent[Raw]))
    assert found is not None and found.address == bytes([10, 0, 2, 100])
    got = box.through(IP(src=SERVER, dst=EXTERNAL) / TCP(sport=6001, dport=found.port, flags="S"))
    assert got is not None and (got.dst, got.dport) == (CLIENT, 40000)
    answer = box.through(IP(src=CLIENT, dst=SERVER) / TCP(sport=40000, dport=6001, flags="SA"))
    assert answer is not None and (answer.src, answer.sport) == (EXTERNAL, found.port)


def test_announced_connections_that_nobody_makes_are_forgotten() -> None:
    box = Box(expect=5)
    control(box)
    box.through(out("PA", PORT, dport=21, seq=100, ack=500))
    assert box.guest.table.count == 2
    for now in range(12):
        box.guest.fire_timers(now)
    assert box.guest.table.count == 1


# -- sequence numbers ------------------------------------------------------------------------------------------

NUMBER = st.integers(0, 2**32 - 1)


@given(NUMBER, st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30), st.integers(1, 30)), max_size=24))
def test_shifting_is_undone_by_shifting_back(first: int, pieces: list[tuple[int, int, int]]) -> None:
    """Byte by byte, a stream in which pieces are replaced; also across the wrap, and beyond what is remembered."""
    shift = Shift()
    position = translated = 0
    for gap, length, text in pieces:
        position += gap
        translated += gap
        shift.add(Edit((first + position) % 2**32, length, bytes(text)))
        position += length
        translated += text
    for offset in range(20):
        assert shift.forth((first + position + offset) % 2**32) == (first + translated + offset) % 2**32
        if offset or not pieces:
            assert shift.back((first + translated + offset) % 2**32) == (first + position + offset) % 2**32
    assert shift.back((first + translated) % 2**32) == (first + position) % 2**32


def test_an_edit_is_found_again_and_only_at_its_place() -> None:
    edit = Edit(100, 10, b"longer than ten")
    shift = Shift(edits=[edit])
    assert shift.of(100) is edit and shift.of(101) is None
    assert shift.covers(105) and not shift.covers(110)
    assert (shift.forth(100), shift.forth(110)) == (100, 115)
    assert (shift.back(100), shift.back(107), shift.back(115)) == (100, 100, 110)


@pytest.mark.parametrize("first", [0, 2**32 - 15], ids=["from 0", "across the wrap"])
def test_a_gap_is_closed_from_its_beginning(first: int) -> None:
    def at(offset: int) -> int:
        return (first + offset) % 2**32

    gap = Gap()
    assert not gap and not gap.behind(at(10))
    gap.open(at(10), at(20))
    gap.open(at(25), at(30))  # what follows is dropped, too
    assert [gap.behind(at(offset)) for offset in (0, 10, 11, 40)] == [False, False, True, True]
    gap.close(at(5))
    gap.close(at(10))
    assert gap == Gap(at(10), at(30))
    gap.close(at(20))
    assert gap == Gap(at(20), at(30)) and not gap.behind(at(20))
    gap.open(at(15), at(20))
    assert gap == Gap(at(15), at(30))
    gap.close(at(40))
    assert not gap and not gap.behind(at(35))


# -- what is expected ----------------------------------------------------------------------------------------


def expectation(until: float, port: int = 5) -> Expectation:
    return Expectation(b"\1\2\3\4", 1024, b"\4\3\2\1", b"\x0a\0\1\2", port, "ftp", until)


def test_expectations_combine_to_the_youngest_and_expire() -> None:
    old, new = Expectations(), Expectations()
    old.add(expectation(10, 5), 0)
    new.add(expectation(20, 6), 0)
    for parts in ([old, new], [new, old]):
        merged = combine(parts)
        found = merged.find(b"\1\2\3\4", 1024, b"\4\3\2\1", 1)
        assert found is not None and found.inside_port == 6
        assert merged.find(b"\1\2\3\4", 1024, b"\4\3\2\1", 21) is None


def test_what_ended_replicas_had_announced_goes_when_it_has_expired() -> None:
    left = Expectations()
    for number in range(100):
        part = Expectations()
        part.add(Expectation(b"\1\2\3\4", number, b"\4\3\2\1", b"\x0a\0\1\2", 5, "ftp", number + 10.0), float(number))
        before, left = left, combine([left, part])
        assert left == combine([part, before]) == combine([combine([part]), before]) and len(left.entries) <= 10


def test_state_is_data() -> None:
    box = Box()
    control(box)
    box.through(out("PA", PORT, dport=21, seq=100, ack=500))
    for flow in box.guest.table.flows():
        types = box.guest.types
        assert types.decode("Mapping", types.encode(flow.state)) == flow.state
