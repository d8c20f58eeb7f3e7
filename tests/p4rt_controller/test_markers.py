"""Who waits for which marker, and those that are sent before anybody does."""

from __future__ import annotations

import asyncio

import pytest

from p4rt_controller import ControllerOptions, ReplicaSilent, SwitchUnavailable
from p4rt_controller.markers import Markers
from p4rt_controller.moves import MoveBook
from p4src import P4BLOB, P4INFO
from splitmerge.tag import TagKind

OPTIONS = ControllerOptions(address="127.0.0.1:1", p4info=P4INFO, p4blob=P4BLOB, marker_retry=0.05, marker_deadline=0.2)
PORT, EPOCH, SOURCE, TARGET = 11, 7, 1, 2


class World:
    """Markers that a switch would send. ``down``: it cannot be reached; ``fault``: what sending raises else."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, TagKind, int, int]] = []
        self.down = False
        self.fault: Exception | None = None
        self.book = MoveBook.of(OPTIONS)
        self.markers = Markers(OPTIONS, self.book, self)

    def send(self, port: int, kind: TagKind, epoch: int, sequence: int, frame: bytes | None) -> None:
        if self.down:
            raise SwitchUnavailable("packet-out", "down")
        if self.fault is not None:
            raise self.fault
        self.sent.append((port, kind, epoch, sequence))

    def echo(self, number: int, replica: int = SOURCE) -> bool:
        """The marker sent with this place in ``sent`` comes back."""
        _, kind, epoch, sequence = self.sent[number]
        return self.markers.returned(kind, epoch, replica, sequence)

    async def proves_nothing(self, stale: int, drain: asyncio.Task[int]) -> None:
        """The echo of an earlier marker is not what is waited for; that of the newest is."""
        self.echo(stale)
        await asyncio.sleep(0)
        assert not drain.done()
        self.echo(len(self.sent) - 1)
        await drain

    def drain(self, epoch: int = EPOCH, replica: int = SOURCE) -> asyncio.Task[int]:
        return asyncio.create_task(self.markers.round_trip(TagKind.MARKER, epoch, replica, PORT))


async def test_a_marker_sent_ahead_is_the_one_that_is_waited_for():
    world = World()
    world.markers.mark(EPOCH, SOURCE, PORT)
    assert [(port, kind, epoch) for port, kind, epoch, _ in world.sent] == [(PORT, TagKind.MARKER, EPOCH)]
    drain = world.drain()
    await asyncio.sleep(0)
    assert world.echo(0)
    assert await drain == 1
    assert len(world.sent) == 1
    assert not world.echo(0)  # nobody waits any more


async def test_its_echo_may_come_before_anybody_waits():
    world = World()
    world.markers.mark(EPOCH, SOURCE, PORT)
    assert world.echo(0)
    assert await world.drain() == 1
    assert len(world.sent) == 1


async def test_it_counts_for_one_drain_only():
    world = World()
    world.markers.mark(EPOCH, SOURCE, PORT)
    world.echo(0)
    await world.drain()
    second = world.drain()
    await asyncio.sleep(0)
    assert len(world.sent) == 2
    await world.proves_nothing(0, second)


@pytest.mark.parametrize(("epoch", "replica"), [(EPOCH + 1, SOURCE), (EPOCH, TARGET)])
async def test_others_send_their_own(epoch: int, replica: int):
    world = World()
    world.markers.mark(EPOCH, SOURCE, PORT)
    drain = world.drain(epoch, replica)
    await asyncio.sleep(0)
    assert len(world.sent) == 2
    world.echo(1, replica)
    await drain
    assert world.echo(0)  # still there for its own


async def test_one_that_stands_before_a_later_write_is_not_waited_for():
    world = World()
    world.markers.mark(EPOCH, SOURCE, PORT)
    world.markers.unmark(EPOCH)
    drain = world.drain()
    await asyncio.sleep(0)
    assert len(world.sent) == 2
    await world.proves_nothing(0, drain)


async def test_a_newer_one_takes_the_place_of_an_older_one():
    world = World()
    world.markers.mark(EPOCH, SOURCE, PORT)
    world.markers.mark(EPOCH, SOURCE, PORT)
    drain = world.drain()
    await asyncio.sleep(0)
    await world.proves_nothing(0, drain)
    assert len(world.sent) == 2


@pytest.mark.parametrize("echoed", [True, False])
async def test_if_its_way_breaks_the_drain_sends_another_back_or_not(echoed: bool):
    """Tables may be others when the switch is there again."""
    world = World()
    world.markers.mark(EPOCH, SOURCE, PORT)
    assert not echoed or world.echo(0)
    world.markers.fail("the connection broke")
    world.sent = []
    drain = world.drain()
    await asyncio.sleep(0)
    assert world.echo(0)
    assert await drain == 1


async def test_if_it_could_not_leave_the_drain_sends_it():
    world = World()
    world.down = True
    world.markers.mark(EPOCH, SOURCE, PORT)
    world.down = False
    drain = world.drain()
    await asyncio.sleep(0)
    assert world.echo(0)
    assert await drain == 1


async def test_one_that_went_another_way_is_not_waited_for():
    """The replica has another port by now."""
    world = World()
    world.markers.mark(EPOCH, SOURCE, PORT + 1)
    drain = world.drain()
    await asyncio.sleep(0)
    assert [port for port, *_ in world.sent] == [PORT + 1, PORT]
    world.echo(1)
    await drain


async def test_a_fault_in_sending_leaves_nothing_behind():
    world = World()
    world.fault = ValueError("no such frame")
    with pytest.raises(ValueError, match="no such frame"):
        world.markers.mark(EPOCH, SOURCE, PORT)
    assert not world.markers.returned(TagKind.MARKER, EPOCH, SOURCE, 0)


async def test_no_more_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("p4rt_controller.markers._AHEAD", 2)
    world = World()
    for epoch in (1, 2, 3):
        world.markers.mark(epoch, SOURCE, PORT)
    assert [world.echo(number) for number in range(3)] == [False, True, True]


async def test_who_waits_late_has_the_whole_deadline_and_learns_how_long_it_took():
    world = World()
    move = world.book.open(EPOCH, (), (1,), (), 0.0)
    world.markers.mark(EPOCH, SOURCE, PORT)
    await asyncio.sleep(OPTIONS.marker_deadline + 0.05)
    drain = world.drain()
    await asyncio.sleep(0.02)
    assert len(world.sent) == 2
    world.echo(1)
    await drain
    world.markers.mark(EPOCH + 1, SOURCE, PORT)
    second = world.book.open(EPOCH + 1, (), (2,), (), 0.0)
    world.echo(2)
    await asyncio.sleep(0.1)
    await world.drain(EPOCH + 1)
    assert second.round_trip < 0.1 < move.round_trip


async def test_the_next_round_follows_if_it_is_lost():
    world = World()
    world.markers.mark(EPOCH, SOURCE, PORT)
    drain = world.drain()
    await asyncio.sleep(0.08)
    assert len(world.sent) == 2
    world.echo(1)
    assert await drain == 2


async def test_the_deadline_holds_and_a_busy_replica_is_waited_for():
    world = World()
    world.markers.mark(EPOCH, SOURCE, PORT)
    with pytest.raises(ReplicaSilent):
        await world.drain()
    world.markers.mark(EPOCH, SOURCE, PORT)
    sent = len(world.sent)
    drain = asyncio.create_task(world.markers.round_trip(TagKind.MARKER, EPOCH, SOURCE, PORT, busy=lambda: True))
    await asyncio.sleep(0.3)
    world.echo(sent - 1)
    assert await drain > 1


async def test_who_is_cancelled_leaves_nothing_behind():
    world = World()
    world.markers.mark(EPOCH, SOURCE, PORT)
    drain = world.drain()
    await asyncio.sleep(0)
    drain.cancel()
    await asyncio.gather(drain, return_exceptions=True)
    assert not world.echo(0)
