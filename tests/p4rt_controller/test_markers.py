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
    """Markers that a switch would send; ``down``: it cannot be reached."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, TagKind, int, int]] = []
        self.down = False
        self.markers = Markers(OPTIONS, MoveBook.of(OPTIONS), self.send)

    def send(self, port: int, kind: TagKind, epoch: int, sequence: int, frame: bytes | None) -> None:
        if self.down:
            raise SwitchUnavailable("packet-out", "down")
        self.sent.append((port, kind, epoch, sequence))

    def echo(self, number: int, replica: int = SOURCE) -> bool:
        """The marker sent with this place in ``sent`` comes back."""
        _, kind, epoch, sequence = self.sent[number]
        return self.markers.returned(kind, epoch, replica, sequence)

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
    world.echo(0)
    await asyncio.sleep(0)
    assert not second.done()
    world.echo(1)
    await second


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
    world.echo(0)
    await asyncio.sleep(0)
    assert not drain.done()
    world.echo(1)
    await drain


async def test_a_newer_one_takes_the_place_of_an_older_one():
    world = World()
    world.markers.mark(EPOCH, SOURCE, PORT)
    world.markers.mark(EPOCH, SOURCE, PORT)
    drain = world.drain()
    await asyncio.sleep(0)
    world.echo(0)
    await asyncio.sleep(0)
    assert not drain.done()
    world.echo(1)
    await drain
    assert len(world.sent) == 2


@pytest.mark.parametrize("before", [True, False])
async def test_if_it_could_not_leave_or_its_way_broke_the_drain_sends_another(before: bool):
    """A drain that begins when the switch is back is not told of what happened before."""
    world = World()
    world.down = before
    world.markers.mark(EPOCH, SOURCE, PORT)
    world.markers.fail("the connection broke")
    world.down, world.sent = False, []
    drain = world.drain()
    await asyncio.sleep(0)
    assert world.echo(0)
    assert await drain == 1


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
