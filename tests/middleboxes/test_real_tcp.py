"""The IDS fed with what the kernel's own TCP sends: every packet of a run of the HTTP client, captured on loopback."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from middleboxes.ids import Ids
from splitmerge.flowkey import FlowKey
from traffic import command, http_client, http_server

pytestmark = pytest.mark.integ
_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33


@pytest.fixture
def tap():
    """Every frame on the loopback interface."""
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    except PermissionError:
        pytest.skip("capturing packets needs CAP_NET_RAW")
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        sock.bind(("lo", 0))
        sock.setblocking(False)
        yield sock


def captured(sock: socket.socket, port: int) -> list[bytes]:
    """The frames of this TCP port, in the order sent; loopback shows each twice, going out and coming in."""
    frames = []
    while True:
        try:
            frame, address = sock.recvfrom(1 << 17)
        except BlockingIOError:
            return frames
        key = FlowKey.from_frame(frame)
        if address[2] == socket.PACKET_OUTGOING and key and key.protocol == 6 and port in (key.low_port, key.high_port):
            frames.append(frame)


async def test_counts_and_alerts_are_exactly_what_the_client_sent(tap, replica_of, move_flows, tmp_path):
    serving, asking = command.Control(), command.Control()
    ports: asyncio.Queue[int] = asyncio.Queue()
    serving.ready = lambda address, port: ports.put_nowait(port)
    asking.ready = lambda address, port: None
    async with asyncio.TaskGroup() as group:
        server = group.create_task(http_server.serve("127.0.0.1", 0, serving))
        port = await asyncio.wait_for(ports.get(), 10)
        options = http_client.ClientOptions(
            server="127.0.0.1", port=port, connections=6, rate=400, requests=100, attackers=3, strays=0.05
        )
        sent = await http_client.run(options, asking)
        serving.stopped.set()
    assert (sent.errors, sent.responses) == (0, 600) == (server.result().errors, server.result().requests)

    pair = [replica_of(Ids(), {"alerts": str(tmp_path / "alerts")}, number) for number in (1, 2)]
    here = 0
    frames = captured(tap, port)
    for number, frame in enumerate(frames, 1):
        assert pair[here].take(frame) == [frame]
        if number % 50 == 0:
            keys = list(pair[here].guest.table.active)
            move_flows(pair[here], pair[1 - here], keys, number)
            here = 1 - here
    counted = [replica.statistics for replica in pair]
    assert sum(each.requests for each in counted) == sent.requests
    assert sum(each.injections for each in counted) == sent.injections_sent
    assert sum(each.gaps + each.malformed + each.overflows + each.unread for each in counted) == 0
    alerts = [json.loads(line) for line in (tmp_path / "alerts").read_text().splitlines()]
    expected = {flow.flow for flow in sent.flows if flow.injections > 30}
    assert sorted(alert["flow"] for alert in alerts) == sorted(expected)
    assert len(expected) == sent.alerts_expected == 3
    pair[here].wait(10.0)
    assert pair[here].guest.table.count == 0, "every connection was closed, and has been forgotten"
