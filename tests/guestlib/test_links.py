"""Links and connections over real sockets: back-off, idleness, bounds."""

from __future__ import annotations

import itertools
import socket
import threading
from pathlib import Path

import pytest

from guestlib.blocking import SelectorPoller
from guestlib.config import Address
from guestlib.links import Connection, Link
from orchestrator.config import Deadlines
from splitmerge.messages import Discard, FlowsGone, Hello, Stage, Welcome
from tests.guestlib.harness import Desk, Peer


def link_to(address: str, poller: SelectorPoller, *, keep: bool) -> Link:
    return Link(Address.parse(address), poller, lambda: Hello(role="peer"), lambda connection, message: None, keep=keep)


def test_a_link_backs_off_and_comes_back(tmp_path: Path, poller: SelectorPoller) -> None:
    link = link_to(f"unix:{tmp_path}/o", poller, keep=True)
    tries = []
    now = 0.0
    while now < 10.0:
        link.tick(now)
        assert not link.connected and not link.send(Stage(epoch=1, source=1, part=0, parts=1, flows=()), now)
        tries.append(now)
        now = link.next_due()
    gaps = [round(later - earlier, 3) for earlier, later in itertools.pairwise(tries)]
    assert gaps[:5] == [0.05, 0.1, 0.2, 0.25, 0.25]
    assert max(gaps) <= Deadlines().reconnect / 8, "who does not come back in time is ended"
    desk = Desk(tmp_path / "o")
    link.tick(now)
    desk.accept()
    poller.run(1.0)
    assert link.connected and link.welcome == Welcome(epoch=3) and link.next_due() is None
    desk.close()
    poller.run(1.0)
    assert not link.connected and link.welcome is None
    link.close()
    assert link.next_due() is None


def test_an_idle_link_to_a_peer_is_closed_and_opened_again(tmp_path: Path, poller: SelectorPoller) -> None:
    desk = Desk(tmp_path / "o")
    link = link_to(f"unix:{tmp_path}/o", poller, keep=False)
    link.tick(0.0)
    assert not link.connected and link.next_due() is None
    assert link.send(Discard(epoch=1), 0.0)
    peer, _ = desk.accept()
    assert peer.hear(Discard) and link.unsent == 0
    link.tick(29.0)
    assert link.connected and link.next_due() == 30.0
    link.tick(30.0)
    assert not link.connected and link.unsent == 0
    assert link.disused(30.0) and not link.disused(29.0)
    assert link.send(Discard(epoch=2), 31.0)
    link.close()
    desk.close()


def test_a_listener_that_does_not_accept_is_given_up(poller: SelectorPoller) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = f"tcp:127.0.0.1:{server.getsockname()[1]}"
        links = [link_to(address, poller, keep=True) for _ in range(8)]
        for link in links:
            link.tick(0.0)
        poller.run(0.2)
        waiting = [link for link in links if not link.connected]
        assert waiting and waiting[0].next_due() == 5.0
        waiting[0].tick(5.0)
        assert not waiting[0].connected and waiting[0].next_due() > 5.0
        for link in links:
            link.close()


def test_a_host_that_does_not_resolve_is_tried_again(poller: SelectorPoller) -> None:
    link = link_to("tcp:no.such.host.invalid:1", poller, keep=True)
    link.tick(0.0)
    assert not link.connected and link.next_due() == 0.05


def test_a_peer_that_does_not_read_is_cut_off(poller: SelectorPoller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guestlib.links.SEND_LIMIT", 1_000_000)
    near, far = socket.socketpair()
    near.setblocking(False)
    closed: list[Connection] = []
    connection = Connection(near, poller, lambda connection, message: None, closed.append)
    message = Stage(epoch=1, source=1, part=0, parts=1, flows=())
    big = FlowsGone(keys=(bytes(300_000),))
    sent = 0
    while connection.send(big):
        sent += 1
    assert sent >= 3 and closed == [connection] and not connection.open and not connection.send(message)
    connection.close()
    assert closed == [connection]
    far.close()


def test_a_message_that_fits_no_frame_is_not_sent(poller: SelectorPoller) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    connection = Connection(near, poller, lambda connection, message: None, lambda connection: None)
    assert not connection.send(FlowsGone(keys=(bytes(17 << 20),)))
    assert connection.open
    far.close()
    while connection.send(FlowsGone(keys=())):
        pass  # until the kernel says that nobody is there
    assert not connection.open


def test_what_the_socket_does_not_take_at_once_is_sent_later(poller: SelectorPoller) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    connection = Connection(near, poller, lambda connection, message: None, lambda connection: None)
    peer = Peer(far)
    for number in range(3):
        assert connection.send(FlowsGone(keys=(bytes(400_000 + number),)))
    assert connection.unsent
    heard: list[int] = []
    reader = threading.Thread(target=lambda: heard.extend(len(peer.hear(FlowsGone).keys[0]) for _ in range(3)))
    reader.start()
    while connection.unsent:
        poller.run(1.0)
    reader.join(10)
    assert heard == [400_000, 400_001, 400_002]
    connection.close()
    peer.close()


def test_whom_it_cannot_reach_is_told_by_name(poller: SelectorPoller, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as free:  # bound, and nobody listens
        free.bind(("127.0.0.1", 0))
        address = f"tcp:127.0.0.1:{free.getsockname()[1]}"
        link = link_to(address, poller, keep=True)
        link.tick(0.0)
        poller.run(1.0)
    assert not link.connected
    said = f"connection with orchestrator at {address} closed: cannot connect: Connection refused"
    assert said in caplog.messages


def test_that_nobody_is_at_an_address_is_told_once_until_somebody_was(
    tmp_path: Path, poller: SelectorPoller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    link = link_to(f"unix:{tmp_path}/o", poller, keep=True)
    for now in (0.0, 1.0, 2.0):
        link.tick(now)
    said = f"cannot connect to orchestrator at unix:{tmp_path}/o: No such file or directory"
    assert caplog.messages == [said]
    desk = Desk(tmp_path / "o")
    link.tick(5.0)
    desk.accept()
    poller.run(1.0)
    assert link.connected
    desk.close()
    (tmp_path / "o").unlink(missing_ok=True)
    poller.run(1.0)
    for now in (10.0, 20.0):
        link.tick(now)
    assert caplog.messages.count(said) == 2
    link.close()
