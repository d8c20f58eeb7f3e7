"""The blocking shell over real sockets: in threads, and in forked processes where signals matter."""

from __future__ import annotations

import multiprocessing
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from guestlib import Guest, ReplicaConfig, prepare, run_replica
from guestlib.blocking import SelectorPoller
from guestlib.shell import Shell
from splitmerge.errors import BadInput
from splitmerge.messages import (
    PROTOCOL,
    AllStaged,
    Commit,
    Committed,
    Discard,
    Discarded,
    Export,
    Exported,
    Finish,
    Finished,
    FlowList,
    FlowsGone,
    Hello,
    ListFlows,
    Message,
    Refused,
    Release,
    Released,
    Scope,
    SharedAbandon,
    SharedCollect,
    SharedCollected,
    SharedElement,
    SharedLock,
    SharedLocked,
    SharedPull,
    SharedPulled,
    SharedPush,
    SharedPushed,
    SharedWrite,
    SharedWritten,
    Stage,
    Staged,
    Stats,
    Thaw,
    Thawed,
    Welcome,
)
from splitmerge.tag import Tag, TagKind, pop
from tests.guestlib.conftest import frame_of, key_of, number_in
from tests.guestlib.harness import PULL_FRAME, SYNCH_FRAME, Counter, Desk, Peer, config_for


class Running:
    """A replica in a thread."""

    def __init__(self, config: ReplicaConfig, interface, far: socket.socket, guest: Guest | None = None) -> None:
        self.middlebox = Counter()
        self.guest = guest or prepare(self.middlebox, config)
        self.far = far
        self.status: list[int] = []
        self._thread = threading.Thread(target=self._run, args=(config, interface), daemon=True)
        self._thread.start()

    def _run(self, config: ReplicaConfig, interface) -> None:
        self.status.append(run_replica(self.middlebox, config, guest=self.guest, packets=interface))

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            self.far.send(frame)

    def receive(self) -> bytes:
        return self.far.recv(65536)

    def pass_through(self, flow: int, *numbers: int) -> None:
        self.send(*(frame_of(flow, number) for number in numbers))
        assert [number_in(self.receive()) for _ in numbers] == list(numbers)

    def end(self, peer: Peer) -> int:
        peer.say(Finish(request=77))
        while not isinstance(message := peer.next(), Finished):
            assert message is not None
            if isinstance(message, SharedPush):
                peer.say(SharedPushed(request=message.request))
        assert message.request == 77
        return self.joined()

    def joined(self) -> int:
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.status[0]


@pytest.fixture
def desk(tmp_path: Path):
    desk = Desk(tmp_path / "o")
    yield desk
    desk.close()


@pytest.fixture
def run(tmp_path: Path, wires):
    def start(replica: int = 1, **fields: object) -> Running:
        return Running(config_for(tmp_path, replica, **fields), *wires())

    return start


def test_a_replica_from_hello_to_finished(desk: Desk, run: Callable[..., Running], tmp_path: Path) -> None:
    replica = run()
    peer, hello = desk.accept()
    assert hello == Hello(role="replica", replica=1, name="replica 1", address=f"unix:{tmp_path}/p1", incarnation="i1")
    replica.pass_through(1, *range(200))
    replica.send(bytes(60))  # the middlebox fails on it, and the replica lives
    replica.pass_through(2, 0)
    peer.say(ListFlows(request=4))
    assert peer.hear(FlowList).keys == tuple(sorted(bytes(key_of(n)) for n in (1, 2)))
    while (stats := peer.hear(Stats)).packets < 202:
        pass
    assert (stats.flows, stats.drops, stats.held) == (2, {"middlebox_error": 1}, 0)
    assert stats.bytes == 60 + 201 * len(frame_of(1)) and stats.cpu_seconds > 0
    peer.say(Finish(request=8))
    push = peer.hear(SharedPush)
    assert push.final and push.element.version == 201
    peer.say(SharedPushed(request=push.request))
    assert peer.hear(Stats).packets == 202
    assert peer.hear(Finished) == Finished(request=8)
    assert peer.next() is None
    assert (replica.joined(), replica.middlebox.finished) == (0, 1)
    assert not (tmp_path / "p1").exists()


def test_a_move_between_two_replicas(desk: Desk, run: Callable[..., Running]) -> None:
    replicas, peers, addresses = {}, {}, {}
    for number in (1, 2):
        replicas[number] = run(number, peer="tcp:127.0.0.1:0" if number == 2 else f"unix:{desk.path.parent}/p1")
        peers[number], hello = desk.accept()
        addresses[number] = hello.address
    assert addresses[2].startswith("tcp:127.0.0.1:") and not addresses[2].endswith(":0")
    scope = Scope(buckets=tuple(sorted({key_of(n).bucket for n in range(300)})))
    for flow in range(300):
        replicas[1].pass_through(flow, 1)
    marker = Tag(TagKind.MARKER, 5, 1).push(frame_of(0))
    replicas[1].send(marker)
    assert pop(replicas[1].receive())[0] == Tag(TagKind.MARKER_ECHO, 5, 1)
    peers[1].say(Export(epoch=5, scope=scope, target=2, address=addresses[2], deadline=1.0))
    assert peers[2].hear(AllStaged).staged == 300
    assert peers[1].hear(Exported).staged == 300
    peers[2].say(Commit(epoch=5, scope=scope))
    assert peers[2].hear(Committed).flows == 300
    peers[1].say(Release(epoch=5, scope=scope))
    peers[1].hear(Released)
    replicas[2].send(frame_of(7, 4), frame_of(7, 5))  # direct: held
    for sequence, number in ((1, 2), (2, 3)):
        replicas[2].send(Tag(TagKind.RELAYED, 5, sequence).push(frame_of(7, number)))
    replicas[2].send(Tag(TagKind.END, 5, 3).push(frame_of(0)))
    frames = [replicas[2].receive() for _ in range(4)]
    while len(data := [frame for frame in frames if pop(frame) is None]) < 4:
        frames.append(replicas[2].receive())
    assert [number_in(frame) for frame in data] == [2, 3, 4, 5]
    acks = [popped[0] for frame in frames if (popped := pop(frame))]
    while Tag(TagKind.RELAY_ACK, 5, 4) not in acks:
        acks.append(pop(replicas[2].receive())[0])
    replicas[1].send(frame_of(7, 9))  # a straggler at the source is dropped and counted
    while (stats := peers[1].hear(Stats)).drops != {"flow_migrated": 1}:
        pass
    assert stats.flows == 0
    assert [replicas[n].end(peers[n]) for n in (1, 2)] == [0, 0]
    assert replicas[2].guest.table.find(key_of(7)).state.log == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("room", [128, 256])
def test_what_a_hold_releases_leaves_as_fast_as_the_switch_is_said_to_take_it(
    desk: Desk, run: Callable[..., Running], room: int
) -> None:
    replica = run()
    peer, _ = desk.accept(Welcome(room=room))
    peer.say(Commit(epoch=5, scope=Scope(keys=(bytes(key_of(7)),))))
    peer.hear(Committed)
    numbers = range(300)
    for number in numbers:
        replica.send(frame_of(7, number))
    while peer.hear(Stats).held < 300:
        pass
    replica.send(Tag(TagKind.END, 5, 1).push(frame_of(0)))
    data, loops = [], []
    while len(loops) < 1 + room // 128:  # the last one again: nothing else comes before it is answered
        frame = replica.receive()
        popped = pop(frame)
        if popped is None:
            data.append(number_in(frame))
        elif popped[0].kind is TagKind.LOOP:
            loops.append(popped[0].sequence)
    assert loops == [*range(128, room + 1, 128), room]
    assert room <= len(data) <= room + 1, "END itself has come in: one may leave for it"
    replica.send(frame)
    while len(data) < 300:
        frame = replica.receive()
        if pop(frame) is None:
            data.append(number_in(frame))
        else:
            replica.send(frame)  # as the switch does with a LOOP
    assert data == list(numbers)
    assert replica.end(peer) == 0


def test_packets_flow_while_the_orchestrator_is_away(desk: Desk, run: Callable[..., Running]) -> None:
    replica = run(settings={"idle": 0.2})
    peer, _ = desk.accept()
    peer.close()
    replica.pass_through(1, 1, 2, 3)
    peer, hello = desk.accept()
    assert hello.incarnation == "i1"
    gone = peer.hear(FlowsGone)  # told later what it missed
    assert gone.keys == (bytes(key_of(1)),)
    assert replica.end(peer) == 0


def test_garbage_from_the_orchestrator_costs_the_connection_only(desk: Desk, run: Callable[..., Running]) -> None:
    replica = run()
    peer, _ = desk.accept()
    peer.sock.sendall(b"\x00\x00\x00\x02\xff\xff")
    while peer.next() is not None:
        pass
    peer, _ = desk.accept(Welcome(protocol=99))
    while peer.next() is not None:
        pass
    peer, _ = desk.accept(Refused(epoch=0, request="Hello", reason="not now"))
    while peer.next() is not None:
        pass
    peer, _ = desk.accept()
    replica.pass_through(1, 1)
    assert replica.end(peer) == 0


def connect(address: str) -> Peer:
    assert address.startswith("unix:")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(address.removeprefix("unix:"))
    return Peer(sock)


NO_PEER = f"this side speaks protocol {PROTOCOL} to role peer, not {PROTOCOL} to 'agent'"


@pytest.mark.parametrize(
    ("messages", "answers"),
    [
        ([Discard(epoch=3)], []),
        ([Hello(role="peer", replica=2), Discard(epoch=3)], [Welcome(epoch=0)]),
        ([Hello(role="agent")], [Refused(epoch=0, request="Hello", reason=NO_PEER)]),
    ],
    ids=["before Hello", "not a peer's", "no peer"],
)
def test_a_peer_may_only_stage(
    desk: Desk, run: Callable[..., Running], messages: list[Message], answers: list[Message]
) -> None:
    replica = run()
    peer, hello = desk.accept()
    other = connect(hello.address)
    for message in messages:
        other.say(message)
    assert [other.next() for _ in answers] == answers
    assert other.next() is None
    other.close()
    good = connect(hello.address)
    good.say(Hello(role="peer", replica=2))
    assert good.hear(Welcome).epoch == 0
    good.say(Stage(epoch=9, source=2, part=0, parts=1, flows=()))
    assert good.hear(Staged) == Staged(epoch=9, part=0)
    peer.say(Discard(epoch=9))
    assert peer.hear(Discarded) == Discarded(epoch=9)
    assert replica.end(peer) == 0
    assert good.next() is None
    good.close()


def test_an_export_to_nowhere_waits_until_it_is_called_off(desk: Desk, run: Callable[..., Running]) -> None:
    replica = run()
    peer, _ = desk.accept()
    replica.pass_through(1, 1)
    for epoch, address in ((5, f"unix:{desk.path}.nobody"), (6, "carrier pigeon"), (7, "tcp:127.0.0.1:1")):
        scope = Scope(keys=(bytes(key_of(1)),))
        peer.say(Export(epoch=epoch, scope=scope, target=2, address=address, deadline=0.0))
        peer.say(ListFlows(request=epoch))
        assert peer.hear(FlowList).keys == ()
        peer.say(Discard(epoch=epoch))
        assert peer.hear(Refused).request == "Discard"
        peer.say(Thaw(epoch=epoch, scope=scope, hold=False))
        assert peer.hear(Thawed).epoch == epoch
    replica.pass_through(1, 2)
    assert replica.end(peer) == 0


def test_pull_waits_for_the_others_and_serves_control_meanwhile(desk: Desk, run: Callable[..., Running]) -> None:
    replica = run(pull_deadline=5.0)
    peer, _ = desk.accept()
    replica.pass_through(1, 1, 2)
    replica.send(PULL_FRAME, frame_of(1, 3))
    pull = peer.hear(SharedPull)
    peer.say(SharedCollect(request=6, key="total"))
    assert peer.hear(SharedCollected).element.version == 2
    value = replica.guest.types.encode(replica.guest.coherent.find("total").own)
    other = SharedElement(origin="i2", version=4, kind="Count", value=value)
    peer.say(SharedPulled(request=pull.request, key="total", elements=(other,)))
    assert number_in(replica.receive()) == 3  # only behind the pull
    assert replica.end(peer) == 0
    assert replica.middlebox.pulled == [4]


def test_a_middlebox_that_waits_for_a_lock_stops_packets_but_no_moves(desk: Desk, run: Callable[..., Running]) -> None:
    replica = run(synch_deadline=5.0)
    peer, _ = desk.accept()
    replica.pass_through(1, 1)
    replica.pass_through(2, 2)
    replica.send(SYNCH_FRAME, frame_of(1, 3))
    ask = peer.hear(SharedLock)
    scope = Scope(keys=(bytes(key_of(2)),))
    peer.say(Export(epoch=7, scope=scope, target=2, address=f"unix:{desk.path.parent}/t", deadline=5.0))
    peer.say(ListFlows(request=1))
    flows = peer.hear(FlowList).keys
    assert flows == (bytes(key_of(1)),), "it is frozen, and on its way"
    peer.say(Thaw(epoch=7, scope=scope, hold=False))
    peer.hear(Thawed)
    peer.say(SharedLocked(request=ask.request, key="value", token=4, lease=0.3))
    write = peer.hear(SharedWrite)
    assert write.element.version == 4
    peer.say(SharedWritten(key="value", token=4))
    assert number_in(replica.receive()) == 3  # only behind the transaction
    assert replica.end(peer) == 0


def test_a_lock_is_asked_of_nobody_before_it_is_known_whom_to_ask(
    desk: Desk, run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where etcd is the lock service the orchestrator must not become a second one."""
    taken: list[Message] = []
    monkeypatch.setattr("guestlib.coherence.worker.LockWorker._run", lambda worker: None)
    monkeypatch.setattr("guestlib.coherence.worker.LockWorker.take", lambda worker, message: taken.append(message))
    replica = run(synch_deadline=0.3)
    peer, _ = desk.accept(Welcome(locks="etcd://127.0.0.1:1"))
    replica.pass_through(1, 1)
    replica.send(SYNCH_FRAME, frame_of(1, 3))
    assert number_in(replica.receive()) == 3
    assert replica.end(peer) == 0, "the orchestrator heard of no lock"
    assert [type(message) for message in taken] == [SharedLock, SharedAbandon]


def test_pull_has_a_deadline(desk: Desk, run: Callable[..., Running]) -> None:
    replica = run(pull_deadline=0.2)
    peer, _ = desk.accept()
    replica.send(PULL_FRAME, frame_of(1, 3))
    assert number_in(replica.receive()) == 3
    assert replica.middlebox.pulled == ["get_shared('total', PULL): nothing within 0.2 s"]
    peer.hear(SharedPull)
    assert replica.end(peer) == 0


def test_final_pushes_that_nobody_confirms_are_an_error_status(desk: Desk, run: Callable[..., Running]) -> None:
    replica = run(finish_deadline=0.3)
    peer, _ = desk.accept()
    replica.pass_through(1, 1)
    peer.say(Finish(request=1))
    peer.say(Finish(request=2))
    assert peer.hear(SharedPush) and replica.joined() == 1
    while not isinstance(message := peer.next(), Finished):
        assert isinstance(message, SharedPush | Stats)
    assert message.request == 2


def _child(config: ReplicaConfig, interface, guest: Guest, middlebox: Counter) -> None:
    raise SystemExit(run_replica(middlebox, config, guest=guest, packets=interface))


@pytest.mark.parametrize("orchestrator", ["there", "away"])
def test_sigterm_finishes_with_or_without_an_orchestrator(tmp_path: Path, wires, orchestrator: str) -> None:
    config = config_for(tmp_path)
    middlebox = Counter()
    guest = prepare(middlebox, config)  # before the fork, as a snapshot is
    interface, far = wires()
    desk = Desk(tmp_path / "o") if orchestrator == "there" else None
    process = multiprocessing.get_context("fork").Process(target=_child, args=(config, interface, guest, middlebox))
    process.start()
    try:
        peer = desk.accept()[0] if desk else None
        far.send(frame_of(1, 5))
        assert number_in(far.recv(65536)) == 5
        process.terminate()
        if peer:
            push = peer.hear(SharedPush)
            assert push.final
            peer.say(SharedPushed(request=push.request))
            assert peer.hear(Stats).packets == 1
        process.join(10)
        assert process.exitcode == (0 if desk else 1)  # without an orchestrator its count is lost: say so
    finally:
        process.kill()
        process.join(10)
        if desk:
            desk.close()


def test_signal_handlers_are_given_back(tmp_path: Path, wires) -> None:
    interface, far = wires()
    before = signal.getsignal(signal.SIGTERM)
    desk = Desk(tmp_path / "o")

    def orchestrate() -> None:
        peer, _ = desk.accept()
        peer.say(Finish(request=1))
        peer.hear(Finished)

    thread = threading.Thread(target=orchestrate)
    thread.start()
    assert run_replica(Counter(), config_for(tmp_path), packets=interface) == 0
    thread.join(10)
    desk.close()
    assert signal.getsignal(signal.SIGTERM) is before
    assert far.fileno() >= 0


def test_a_peer_address_that_cannot_be_listened_on_is_refused(tmp_path: Path, wires) -> None:
    config = config_for(tmp_path, peer=f"unix:{tmp_path}/absent/p")
    interface, _ = wires()
    with pytest.raises(BadInput, match="cannot listen on"):
        run_replica(Counter(), config, packets=interface)
    assert interface.fileno() == -1


def test_a_socket_left_behind_is_taken_over_but_a_file_is_not(tmp_path: Path, wires) -> None:
    (tmp_path / "p1").write_text("precious")
    with pytest.raises(BadInput, match="cannot listen on"):
        run_replica(Counter(), config_for(tmp_path), packets=wires()[0])
    assert (tmp_path / "p1").read_text() == "precious"


# -- the shell without a loop ----------------------------------------------------------------------------------


class Clock:
    """A clock that is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def shell(tmp_path: Path, wires, poller: SelectorPoller):
    config = config_for(tmp_path)
    middlebox = Counter()
    shell = Shell(middlebox, prepare(middlebox, config), config, wires()[0], poller, Clock())
    yield shell
    shell.close()


def test_frames_of_a_length_that_is_never_sent_are_counted_apart_and_logged_once(
    shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    shell.packets.send_failures = 1
    assert shell.counters().drops == {"send_failed": 1} and not caplog.messages
    shell.packets.send_failures, shell.packets.bad_frames, shell.packets.bad_length = 4, 3, 2
    for _ in range(2):
        assert shell.counters().drops == {"send_failed": 1, "bad_frame": 3}
    (line,) = caplog.messages
    assert "unused never takes, one of 2 bytes: dropped (bad_frame)" in line


def test_a_slow_orchestrator_gets_no_statistics(
    desk: Desk, shell: Shell, poller: SelectorPoller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guestlib.shell.CONGESTED", 100_000)
    shell.tick()
    desk.accept()
    assert shell.to_orchestrator(FlowsGone(keys=(bytes(1_000_000),)))
    assert not shell.to_orchestrator(FlowsGone(keys=(b"",)))
    assert not shell.to_orchestrator(shell.engine.stats())
    assert shell.to_orchestrator(Finished(request=1))


def test_what_was_sent_before_is_not_sent_again_while_bytes_wait_for_the_target(
    desk: Desk, shell: Shell, poller: SelectorPoller
) -> None:
    address = f"unix:{desk.path}"
    assert shell.to_peer(address, FlowsGone(keys=(bytes(1_000_000),)))
    peer, _ = desk.accept()
    assert not shell.to_peer(address, Discard(epoch=1), again=True)
    assert shell.to_peer(address, Discard(epoch=2))
    reader = threading.Thread(target=lambda: (peer.hear(FlowsGone), peer.hear(Discard)))
    reader.start()
    while shell._peers[address].unsent:
        poller.run(1.0)
    reader.join(10)
    assert shell.to_peer(address, Discard(epoch=3), again=True)


def test_a_slow_target_gets_no_repeats_and_an_old_one_is_forgotten(
    desk: Desk, shell: Shell, poller: SelectorPoller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guestlib.shell.CONGESTED", 100_000)
    address = f"unix:{desk.path}"
    big = FlowsGone(keys=(bytes(1_000_000),))
    assert shell.to_peer(address, big)
    peer, _ = desk.accept()
    assert not shell.to_peer(address, big)
    reader = threading.Thread(target=lambda: peer.hear(FlowsGone))
    reader.start()
    while not shell.to_peer(address, Discard(epoch=1)):
        poller.run(1.0)
    while shell._peers[address].unsent:  # before the join: the reader waits for the rest
        poller.run(1.0)
    reader.join(10)
    assert peer.hear(Discard)
    peer.say(Discard(epoch=1))  # what a target may not say
    while shell._peers[address].connected:
        poller.run(1.0)
    shell.clock.now += 31
    shell._peers[address].tick(131.0)
    shell.tick()
    assert not shell._peers


def test_a_poller_that_is_closed_forgets_without_complaint() -> None:
    """A forked child closes the poller first: the epoll set is shared with its parent."""
    poller = SelectorPoller()
    near, far = socket.socketpair()
    poller.watch(near, lambda: None, None)
    poller.close()
    poller.unwatch(near)
    near.close()
    far.close()
