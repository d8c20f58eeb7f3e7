"""One timer for a core whose dues come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from splitmerge.alarm import Alarm


class World:
    """Notes when it rang; due as it is set, in seconds from its beginning."""

    def __init__(self, *dues: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.dues = [self.began + due for due in dues]
        self.rang: list[float] = []
        self.alarm = Alarm(self.due, self.ring)

    def due(self) -> float | None:
        return min(self.dues, default=None)

    def ring(self) -> None:
        self.rang.append(round(self.loop.time() - self.began, 3))
        self.dues.remove(min(self.dues))
        self.alarm.follow()


async def test_it_rings_at_each_due_and_not_before_anybody_follows() -> None:
    world = World(0.02, 0.04)
    await asyncio.sleep(0.06)
    assert world.rang == []
    world.dues = [world.loop.time() + 0.02, world.loop.time() + 0.04]
    world.began = world.loop.time()
    world.alarm.follow()
    await asyncio.sleep(0.08)
    assert len(world.rang) == 2
    assert world.rang[0] >= 0.019 and world.rang[1] >= 0.039


async def test_a_due_that_is_put_off_is_looked_at_again_and_one_that_is_brought_forward_is_kept() -> None:
    world = World(0.02)
    world.alarm.follow()
    world.dues = [world.began + 0.06]
    world.alarm.follow()
    await asyncio.sleep(0.04)
    assert world.rang == []
    world.dues = [world.began + 0.05]
    world.alarm.follow()
    await asyncio.sleep(0.03)
    assert len(world.rang) == 1 and 0.049 <= world.rang[0] < 0.059


async def test_many_changes_cost_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(10.0)
    made: list[float] = []
    call_at = world.loop.call_at

    def counted(when: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        made.append(when)
        return call_at(when, callback, *args)

    monkeypatch.setattr(world.loop, "call_at", counted)
    for number in range(100):
        world.dues = [world.began + 10.0 + number]
        world.alarm.follow()
    assert made == [world.began + 10.0]
    world.alarm.stop()


async def test_stopped_it_is_silent_until_it_follows_again() -> None:
    world = World(0.01)
    world.alarm.follow()
    world.alarm.stop()
    await asyncio.sleep(0.03)
    assert world.rang == []
    world.alarm.follow()
    await asyncio.sleep(0.01)
    assert len(world.rang) == 1


async def test_a_core_that_goes_on_being_due_is_not_rung_for_ever() -> None:
    """What `ring` tells may end in a fault: nobody follows then."""
    rang: list[int] = []
    alarm = Alarm(lambda: 0.0, lambda: rang.append(1))
    alarm.follow()
    await asyncio.sleep(0.02)
    assert rang == [1]
