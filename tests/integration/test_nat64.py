"""NAT64 with real peers: an IPv6-only client and an IPv4-only server, while every flow moves again and again."""

from __future__ import annotations

import ipaddress
import itertools
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import msgspec
import pytest
from scapy.layers.inet import IP, UDP, UDPerror
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6, IPv6ExtHdrFragment
from scapy.packet import Packet as Scapy

from middleboxes.nat64.bib import candidates
from splitmerge.client import OrchestratorClient
from splitmerge.colocation import PortRange
from splitmerge.errors import BadInput
from tests.integration.labs import SERVER, TestLab, build_lab
from tests.integration.peers import feed, finish, peer, python, run
from topo.model import Topology, one_switch
from traffic.http_client import ClientReport
from traffic.udp_report import SideReport

pytestmark = [pytest.mark.integ, pytest.mark.timeout(180), pytest.mark.usefixtures("namespaces")]

SERVER6, CLIENT6, POOL = "64:ff9b::10.0.2.2", "fd00:1::2", "10.0.2.100"
MOVES = 10
"""Of every flow."""
HELD = 4.0
"""Seconds for which a SYN from outside is held: long beside a look at the figures, which come four times a second."""
SETTINGS = {
    # RFC 6146 as it is, but a SYN from outside is not held for 6 s.
    "endpoint-independent": {"mapping": "endpoint-independent", "filtering": "address-dependent", "incoming_syn": HELD},
    "endpoint-dependent": {"mapping": "endpoint-dependent"},
}


def one_version_each() -> Topology:
    """The lab, but the client has no IPv4 and the server no IPv6."""
    lab = one_switch(4)
    client, server = lab.hosts
    hosts = (
        msgspec.structs.replace(client, addresses=client.addresses[1:], gateways=client.gateways[1:]),
        msgspec.structs.replace(server, addresses=server.addresses[:1], gateways=server.gateways[:1]),
    )
    topology = msgspec.structs.replace(lab, hosts=hosts, virtual=(POOL,))
    topology.validate()
    return topology


@pytest.fixture(scope="module", params=["endpoint-independent", "endpoint-dependent"])
def lab(
    namespaces: None, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[TestLab]:
    settings = {
        "middlebox": "middleboxes.nat64:Nat64",
        "middlebox_config": SETTINGS[request.param],
        "topology": one_version_each(),
    }
    with build_lab(tmp_path_factory.mktemp("n"), **settings) as built, built.client() as client:
        client.post("/scale-out", {})
        yield built


def move_everything(client: OrchestratorClient, source: int, target: int) -> bool:
    """Whether there was something, and all of it moved."""
    try:
        moves = client.post("/migrate", {"all": True, "source": source, "target": target})["moves"]
    except BadInput as error:  # nothing is there to move
        assert "has all of it" in str(error) or "nobody" in str(error), error
        return False
    return bool(moves) and all(move["step"] == "done" for move in moves)


def test_an_ipv6_only_client_loses_nothing_while_its_flows_move(lab: TestLab) -> None:
    assert "10." not in run(lab.record, "client", "ip", "-4", "addr", "show", "scope", "global")
    with ExitStack() as stack, lab.client() as api:
        echo = lab.command("server", "udp", "server", "--bind", SERVER)
        stack.callback(echo.kill)
        web = lab.command("server", "http_server", "--bind", SERVER, "--port", "80")
        stack.callback(web.kill)
        udp = lab.command("client", "udp", "client", "--server", SERVER6, "--flows", "8", "--rate", "20")
        stack.callback(udp.kill)
        http = lab.command("client", "http_client", "--server", SERVER6, "--connections", "3", "--rate", "5")
        stack.callback(http.kill)
        lab.wait("flows", lambda client: len(client.get("/flows", limit=100)) >= 8)
        first, second = lab.live()
        done = 0
        for number in range(MOVES + 2):
            source, target = (first, second) if number % 2 == 0 else (second, first)
            done += move_everything(api, source, target)
            time.sleep(0.1)
        curl = ("curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code} %{remote_ip}")
        page = run(lab.record, "client", *curl, f"http://[{SERVER6}]/")
        for command in (udp, http):
            command.ask_to_stop()
        sent, report = udp.report(SideReport), http.report(ClientReport)
        echo.ask_to_stop()
        served = echo.report(SideReport)
    assert done >= MOVES and page.startswith("200 64:ff9b::")
    assert sent.sent > 0 and report.errors == 0 and report.requests > 0
    for here, there in ((sent, served), (served, sent)):  # flow by flow they have other names there
        counts = [flow.arrived for flow in there.flows]
        assert sum(count.unique for count in counts) == here.sent
        assert not any(count.duplicated or count.reordered for count in counts)


PING = """
import socket, sys
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
    raw.settimeout(10)
    raw.sendto(bytes([128, 0, 0, 0, 0x12, 0x34, 0, 1]) + b"ping" * 10, (sys.argv[1], 0))  # the kernel adds the checksum
    while True:
        got, (source, *_) = raw.recvfrom(2048)
        if got[0] == 129:
            print(source, got[4:8].hex(), got[8:].decode())
            break
"""


def test_ping_goes_through_too(lab: TestLab) -> None:
    answer = run(lab.record, "client", sys.executable, "-c", PING, SERVER6).split()
    assert answer == ["64:ff9b::a00:202", "12340001", "ping" * 10]


WHO = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind((sys.argv[1], 7779))
    print("ready", flush=True)
    while True:
        _, (address, port) = sock.recvfrom(100)
        sock.sendto(f"{address} {port}".encode(), (address, port))
"""
PAIR = """
import contextlib, socket, sys
with contextlib.ExitStack() as stack:
    pair = [stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) for _ in range(2)]
    seen = []
    for each in pair:
        each.settimeout(20)
        each.sendto(b"who am I?", (sys.argv[1], 7779))
        address, port = each.recv(100).decode().split()
        seen.append(("64:ff9b::" + address, int(port)))
    came = []
    for number in range(10):  # the first one is filtered: the other has not sent yet
        for me in (0, 1):
            pair[me].sendto(f"{me} says {number}".encode(), seen[1 - me])
    for me in (0, 1):
        data, source = pair[me].recvfrom(100)
        ours = socket.inet_pton(socket.AF_INET6, source[0]) == socket.inet_pton(socket.AF_INET6, seen[1 - me][0])
        came.append(data.decode().startswith(f"{1 - me} says") and ours and source[1] == seen[1 - me][1])
    print(*came)
"""


def only_of(lab: TestLab, request: pytest.FixtureRequest) -> None:
    if "endpoint-independent" not in request.node.name:
        pytest.skip("with endpoint-dependent mapping nobody outside knows a host's port")


def test_two_sockets_inside_meet_by_their_external_endpoints(lab: TestLab, request: pytest.FixtureRequest) -> None:
    only_of(lab, request)
    with peer(lab.record, "server", sys.executable, "-c", WHO, SERVER):
        assert run(lab.record, "client", sys.executable, "-c", PAIR, SERVER6).split() == ["True", "True"]


CALLER = """
import socket, sys, time
address, port, own = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((sys.argv[4], own))
    sock.settimeout(15)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    try:
        sock.connect((address, port))
        sock.sendall(b"from outside")
        print("met", sock.recv(100).decode(), flush=True)
    except ConnectionRefusedError:
        print("refused", round(time.monotonic() - began, 1), flush=True)
"""
CALLED = """
import socket, sys
with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("::", int(sys.argv[2])))
    sock.settimeout(15)
    print("ready", flush=True)
    sys.stdin.readline()
    sock.connect((sys.argv[1], int(sys.argv[3])))
    sock.sendall(b"from inside")
    print("met", sock.recv(100).decode())
"""


def external_port(inside: int) -> int:
    """The first candidate for a TCP port of the client."""
    source = ipaddress.ip_address(CLIENT6).packed
    pool = (ipaddress.ip_address(POOL).packed,)
    return next(candidates(b"", socket.IPPROTO_TCP, source, inside, pool, PortRange(1024, 65_535)))[1]


def unmapped(lab: TestLab) -> Iterator[int]:
    """TCP ports of the client whose candidates no connection has, of those that went before and linger."""
    taken = [f"{flow}," for flow in lab.owners()]
    return (inside for inside in range(5555, 5655) if not any(f"{POOL}:{external_port(inside)}," in x for x in taken))


def test_a_connection_from_outside_waits_for_the_host_to_begin_it_too(
    lab: TestLab, request: pytest.FixtureRequest
) -> None:
    """Two kernels open one connection at the same time, the IPv4 one first; where nobody answers it is told so.

    All programs are there before the first SYN: starting one may take a busy machine as long as a SYN is held.
    """
    only_of(lab, request)
    answered, alone = itertools.islice(unmapped(lab), 2)
    inside = (sys.executable, "-c", CALLED, SERVER6, str(answered), "7000")
    with ExitStack() as stack:
        callers = [
            stack.enter_context(
                peer(lab.record, "server", sys.executable, "-c", CALLER, POOL, *map(str, ports), SERVER)
            )
            for ports in ((external_port(answered), 7000), (external_port(alone), 7001))
        ]
        called = stack.enter_context(peer(lab.record, "client", *inside))
        for each in callers:
            feed(each, "go")
        lab.wait("both SYNs held", lambda client: held(client) >= 2)
        feed(called, "go")
        got = finish(called, 20)
        said = [finish(each, 15) for each in callers]
    assert (got.strip(), said[0].strip()) == ("met from outside", "met from inside")
    what, seconds = said[1].split()
    assert what == "refused" and HELD - 0.2 <= float(seconds) < HELD + 3


def held(client: OrchestratorClient) -> float:
    """SYNs held so far, at all replicas."""
    return sum(each["custom"].get("syns_held", 0) for each in client.get("/replicas"))


ECHO = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind((sys.argv[1], 7777))
    print("ready", flush=True)
    while True:
        data, source = sock.recvfrom(65536)
        sock.sendto(data, source)
"""
ASK = """
import os, select, socket, sys, time
sizes = [int(each) for each in sys.argv[2:]]
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0x28)
    sock.settimeout(10)
    sock.connect((sys.argv[1], 7777))
    asked = 0
    while not select.select([sys.stdin], [], [], 0)[0] or asked < 3 * len(sizes):
        data = asked.to_bytes(4, "big") + os.urandom(sizes[asked % len(sizes)])
        sock.send(data)
        answer = sock.recv(65536)
        assert answer == data, (asked, len(answer))
        asked += 1
        time.sleep(0.002)  # so many questions need not be captured and read
    closed = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    closed.settimeout(10)
    closed.connect((sys.argv[1], 7778))
    closed.send(b"nobody is here")
    try:
        closed.recv(10)
    except ConnectionRefusedError:
        print(asked, "refused")
"""


def packets_of(captured: str) -> list[Scapy]:
    """What a capture printed, read by scapy."""
    raw = [bytes.fromhex(line) for line in captured.split()]
    return [IPv6(each) if each[0] >> 4 == 6 else IP(each) for each in raw]


def datagrams(packets: list[Scapy]) -> tuple[list[bytes], int]:
    """UDP datagrams to or from the echo, put together from their fragments; and how many packets were fragments.

    Of a hundred datagrams two have the same identification in one run of fifteen: Linux draws an IPv6 fragment's at
    random, and IPv4 has 16 bits for it. One that has all its pieces is over, for questions go one after the other.
    """
    parts: list[dict[int, bytes]] = []
    newest: dict[int, dict[int, bytes]] = {}
    whole: list[bytes] = []
    fragments = 0
    for packet in packets:
        if IPv6ExtHdrFragment in packet:
            piece = packet[IPv6ExtHdrFragment]
            identification, offset, payload = piece.id, piece.offset * 8, bytes(piece.payload)
        elif IP in packet and (packet.frag or packet.flags.MF):
            identification, offset, payload = packet.id, packet.frag * 8, bytes(packet.payload)
        elif UDP in packet and 7777 in (packet[UDP].sport, packet[UDP].dport):
            whole.append(bytes(packet[UDP].payload))
            continue
        else:
            continue
        fragments += 1
        pieces = newest.get(identification)
        if pieces is None or offset in pieces:
            pieces = newest[identification] = {}
            parts.append(pieces)
        pieces[offset] = payload
    for pieces in parts:
        joined = b""
        for offset in sorted(pieces):
            assert offset == len(joined), "a fragment is missing"
            joined += pieces[offset]
        whole.append(joined[8:])
    return sorted(whole), fragments


def test_what_both_sides_capture_is_translated_as_rfc_7915_says_while_flows_move(
    lab: TestLab, request: pytest.FixtureRequest
) -> None:
    """Datagrams whole and in fragments, a port that nobody has: the same at both ends but for the headers."""
    sizes = ["100", "3000"] if "endpoint-independent" in request.node.name else ["100", "1000"]
    record, capture = lab.record, python("tests.integration.capture")
    with ExitStack() as stack, lab.client() as api:
        stack.enter_context(peer(record, "server", sys.executable, "-c", ECHO, SERVER))
        inside = stack.enter_context(peer(record, "client", *capture))
        outside = stack.enter_context(peer(record, "server", *capture))
        client = stack.enter_context(peer(record, "client", sys.executable, "-c", ASK, SERVER6, *sizes, ready=False))
        first, second = lab.live()
        done = sum(move_everything(api, *pair) for pair in ((first, second), (second, first)) * 4)
        asked, refused = finish(client, 30).split()
        seen6, seen4 = (packets_of(finish(each, 20)) for each in (inside, outside))
    assert done >= 4 and refused == "refused" and int(asked) >= 6
    to4 = [packet for packet in seen4 if IP in packet and packet.src == POOL]
    from4 = [packet for packet in seen4 if IP in packet and packet.dst == POOL]
    to6 = [packet for packet in seen6 if IPv6 in packet and packet.src == "64:ff9b::a00:202"]
    from6 = [packet for packet in seen6 if IPv6 in packet and packet.dst == "64:ff9b::a00:202"]
    for sent, came in ((from6, to4), (from4, to6)):
        (ours, cut), (theirs, cut_there) = datagrams(sent), datagrams(came)
        assert ours == theirs and len(ours) == int(asked)
        assert bool(cut) == bool(cut_there) == ("3000" in sizes)
    assert all(packet.tos == 0x28 for packet in to4 if UDP in packet and packet[UDP].dport == 7777)  # §5.1
    assert all(packet.ttl < from6[0].hlim for packet in to4) and all(len(packet) <= 1500 for packet in to4 + to6)
    (error,) = [packet for packet in to6 if ICMPv6DestUnreach in packet]
    assert error[ICMPv6DestUnreach].code == 4  # port unreachable: §4.2
    inner = error[ICMPv6DestUnreach].payload
    assert (inner.dst, inner[UDPerror].dport) == ("64:ff9b::a00:202", 7778) and inner.src == error.dst
    for packet in [each for each in to4 + to6 if UDP in each and not (IP in each and (each.frag or each.flags.MF))]:
        if IPv6ExtHdrFragment not in packet and ICMPv6DestUnreach not in packet:
            right = type(packet)(bytes(packet))
            del right[UDP].chksum
            assert type(packet)(bytes(right))[UDP].chksum == packet[UDP].chksum, packet.summary()
