"""NAT64 with real peers: an IPv6-only client and an IPv4-only server, while every flow moves again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import msgspec
import pytest

from splitmerge.client import OrchestratorClient
from splitmerge.errors import BadInput
from tests.integration.labs import SERVER, TestLab, build_lab
from tests.integration.peers import run
from topo.model import Topology, one_switch
from traffic.http_client import ClientReport
from traffic.udp_report import SideReport

pytestmark = [pytest.mark.integ, pytest.mark.timeout(180), pytest.mark.usefixtures("namespaces")]

SERVER6 = "64:ff9b::10.0.2.2"
MOVES = 10
"""Of every flow."""


def one_version_each() -> Topology:
    """The lab, but the client has no IPv4 and the server no IPv6."""
    lab = one_switch(4)
    client, server = lab.hosts
    hosts = (
        msgspec.structs.replace(client, addresses=client.addresses[1:], gateways=client.gateways[1:]),
        msgspec.structs.replace(server, addresses=server.addresses[:1], gateways=server.gateways[:1]),
    )
    topology = msgspec.structs.replace(lab, hosts=hosts, virtual=("10.0.2.100",))
    topology.validate()
    return topology


@pytest.fixture(scope="module", params=["endpoint-independent", "endpoint-dependent"])
def lab(
    namespaces: None, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[TestLab]:
    settings = {
        "middlebox": "middleboxes.nat64:Nat64",
        "middlebox_config": {"mapping": request.param},
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
