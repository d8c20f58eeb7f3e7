"""Packets out that cannot be sent: the operation they belong to fails, not whoever was reading packets of others."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from p4rt_controller import ControllerOptions
from p4rt_controller.errors import ReplicaSilent, SwitchUnavailable
from p4rt_controller.frames import FrameCodec
from p4rt_controller.intake import Intake
from p4rt_controller.moves import Move, MoveBook
from p4rt_controller.packets import MarkerEcho, Punted, RelayAck
from p4rt_controller.schema import Pipeline
from p4rt_controller.traffic import Traffic
from p4src import P4BLOB, P4INFO
from splitmerge.flowkey import FlowKey
from splitmerge.tag import TagKind

OPTIONS = ControllerOptions(address="127.0.0.1:1", p4info=P4INFO, p4blob=P4BLOB, relay_retry=30.0, relay_deadline=60.0)
CODEC = FrameCodec(Pipeline(P4INFO, P4BLOB).schema)


def key(flow: int) -> FlowKey:
    return FlowKey.parse(f"udp,10.0.1.2:{flow},10.0.2.2:9")


def packet(flow: int, number: int) -> Punted:
    return Punted(key(flow), bytes([flow, number]) * 32, new=False)


class BreakingPath:
    """`PacketPath` that takes ``left`` packets."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.sent: list[int] = []

    def send(self, port: int, kind: TagKind, epoch: int, sequence: int, frame: bytes | None) -> None:
        if not self.left:
            raise SwitchUnavailable("packet-out", "the interface is down")
        self.left -= 1
        self.sent.append(sequence)


class World:
    """Two moves, of which the first is delivered over a path that breaks."""

    def __init__(self, left: int) -> None:
        self.book = MoveBook.of(OPTIONS)
        self.traffic = Traffic(OPTIONS, self.book, lambda _: None, lambda _: None)
        self.path = BreakingPath(left)
        self.traffic.attach(self.path)
        self.moves: list[Move] = [self.book.open(epoch, {key(epoch)}, set(), [], 0.0) for epoch in (1, 2)]


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(RelayAck(7, 1, 2), id="an acknowledgement"),
        pytest.param(packet(1, 9), id="a packet of the move"),
    ],
)
async def test_a_path_that_breaks_on_an_event_fails_the_delivery_and_not_the_reader(event: RelayAck | Punted):
    world = World(left=1)
    world.moves[0].lane.append(b"first")
    sealed = asyncio.Event()

    async def seal() -> None:
        await sealed.wait()

    delivery = asyncio.create_task(world.traffic.deliver(world.moves[0], 7, 11, seal))
    await asyncio.sleep(0)
    assert world.path.sent == [1]
    if isinstance(event, RelayAck):
        world.moves[0].lane.append(b"second")
    world.traffic.handle(event)
    sealed.set()
    with pytest.raises(SwitchUnavailable, match="interface is down"):
        await delivery


async def test_packets_read_behind_the_one_that_finds_the_path_broken_are_kept(monkeypatch: pytest.MonkeyPatch):
    world = World(left=0)
    events: list[RelayAck | Punted] = [packet(1, 1), packet(2, 1), packet(1, 2), packet(2, 2)]
    monkeypatch.setattr(FrameCodec, "decode", lambda self, head, frame: events[head[0]])
    sealed = asyncio.Event()

    async def seal() -> None:
        await sealed.wait()

    delivery = asyncio.create_task(world.traffic.deliver(world.moves[0], 7, 11, seal))
    await asyncio.sleep(0)
    intake = Intake(CODEC, world.book, world.traffic.handle, world.traffic.appended)
    intake.take([(bytes([number]), b"") for number in range(len(events))])
    sealed.set()
    with pytest.raises(SwitchUnavailable):
        await delivery
    assert [len(move.lane) for move in world.moves] == [2, 2]


async def test_a_delivery_that_failed_sends_nothing_more():
    world = World(left=1)
    world.moves[0].lane.append(b"first")
    sealed = asyncio.Event()

    async def seal() -> None:
        await sealed.wait()

    delivery = asyncio.create_task(world.traffic.deliver(world.moves[0], 7, 11, seal))
    await asyncio.sleep(0)
    world.traffic.fail("the interface went away")
    world.path.left = 9
    world.moves[0].lane.append(b"second")
    world.traffic.appended(world.moves[0])
    world.traffic.handle(RelayAck(7, 1, 2))
    assert world.path.sent == [1]
    sealed.set()
    with pytest.raises(SwitchUnavailable, match="went away"):
        await delivery
    assert [bytes(world.moves[0].lane[n]) for n in range(2)] == [b"first", b"second"]


async def test_the_first_timer_of_a_relay_follows_what_the_moves_markers_took():
    world = World(left=9)
    move = world.moves[0]
    drain = asyncio.create_task(world.traffic.markers.round_trip(TagKind.MARKER, 1, 7, 11))
    await asyncio.sleep(0.03)
    world.traffic.handle(MarkerEcho(7, 1, world.path.sent[0]))
    await drain
    assert 0.02 <= move.round_trip < 5.0


class ReplicaPath:
    """`PacketPath` to a replica that takes each number once, in sequence, and cannot be heard at first."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.heard = False
        self.expected = 1
        self.accepted: list[bytes | None] = []

    def send(self, port: int, kind: TagKind, epoch: int, sequence: int, frame: bytes | None) -> None:
        if kind is TagKind.MARKER:
            asyncio.get_running_loop().call_soon(self.traffic.handle, MarkerEcho(7, epoch, sequence))
            return
        if sequence == self.expected:
            self.expected += 1
            self.accepted.append(frame)
        if self.heard:
            asyncio.get_running_loop().call_soon(self.traffic.handle, RelayAck(7, epoch, self.expected))


async def test_a_replica_whose_answers_came_too_late_gets_nothing_twice():
    """It hung, or its way back was cut: the delivery was given up, and is tried again."""
    options = dataclasses.replace(OPTIONS, relay_retry=0.02, relay_deadline=0.1)
    book = MoveBook.of(options)
    traffic = Traffic(options, book, lambda _: None, lambda _: None)
    path = ReplicaPath(traffic)
    traffic.attach(path)
    move = book.open(1, {key(1)}, set(), [], 0.0)
    frames = [bytes([number]) * 64 for number in range(5)]
    for frame in frames:
        move.lane.append(frame)
    with pytest.raises(ReplicaSilent):
        await traffic.deliver(move, 7, 11)
    path.heard = True
    await traffic.deliver(move, 7, 11)
    assert path.accepted == [*frames, None]
    assert traffic.counts.relayed == 5 and not len(move.lane)
