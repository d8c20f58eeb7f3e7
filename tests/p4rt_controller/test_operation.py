"""The loop around a core: when its timer runs, and how its wait ends."""

from __future__ import annotations

import asyncio

import pytest

from p4rt_controller.errors import SwitchUnavailable
from p4rt_controller.operation import Operation


class Core:
    """Says when a tick came; done with the ``ticks``-th that was due. A number sets the timer so many seconds from now.

    Any other event comes back as an instruction.
    """

    def __init__(self, after: float | None, ticks: int = 1) -> None:
        self.timer = None if after is None else asyncio.get_running_loop().time() + after
        self.left = ticks

    def handle(self, event: str | float, now: float) -> list[str]:
        if isinstance(event, float):
            self.timer = now + event
            return []
        if event != "tick":
            return [event]
        if self.timer is None or now < self.timer:
            return []
        self.left -= 1
        self.timer = now + 0.02 if self.left else None
        return ["tick"] if self.left else ["tick", "done"]


def operation(core: Core, done: list[str]) -> Operation[str | float, str]:
    def execute(instruction: str) -> bool | None:
        if instruction == "fault":
            raise ValueError("fault")
        if instruction == "lost":
            raise SwitchUnavailable("relay", "lost")
        done.append(instruction)
        return {"done": True, "gave up": False}.get(instruction)

    return Operation(core, "tick", execute)


async def test_its_timer_runs_while_it_is_waited_for_and_as_often_as_it_is_set() -> None:
    done: list[str] = []
    made = operation(Core(0.0, ticks=3), done)
    await asyncio.sleep(0.03)
    assert done == [], "nobody waits yet"
    assert await made.wait()
    assert done == ["tick", "tick", "tick", "done"]


async def test_a_timer_may_be_set_put_off_and_brought_forward_while_it_is_waited_for() -> None:
    done: list[str] = []
    loop = asyncio.get_running_loop()
    made = operation(Core(None), done)
    waiting = asyncio.create_task(made.wait())
    started = loop.time()
    for seconds in (5.0, 0.01, 0.05):
        await asyncio.sleep(0)
        made.feed(seconds)
    assert await asyncio.wait_for(waiting, 2.0)
    assert 0.05 <= loop.time() - started < 1.0 and done == ["tick", "done"]


@pytest.mark.parametrize(("event", "outcome"), [("done", True), ("gave up", False)])
async def test_what_the_core_says_ends_the_wait_and_what_comes_later_is_ignored(event: str, outcome: bool) -> None:
    done: list[str] = []
    made = operation(Core(0.01), done)
    made.feed(event)
    assert await made.wait() is outcome
    made.feed("again")
    made.fail(SwitchUnavailable("relay", "late"))
    await asyncio.sleep(0.03)
    assert done == [event] and await made.wait() is outcome


async def test_who_waits_is_told_of_a_lost_switch_and_who_feeds_is_not() -> None:
    made = operation(Core(5.0), [])
    waiting = asyncio.create_task(made.wait())
    await asyncio.sleep(0)
    made.feed("lost")
    with pytest.raises(SwitchUnavailable, match="lost"):
        await waiting


async def test_who_waits_is_told_of_a_fault_in_a_tick() -> None:
    class Faulty(Core):
        def handle(self, event: str | float, now: float) -> list[str]:
            return ["fault"]

    with pytest.raises(ValueError, match="fault"):
        await asyncio.wait_for(operation(Faulty(0.0), []).wait(), 2.0)


async def test_who_waits_no_more_ends_it() -> None:
    done: list[str] = []
    made = operation(Core(0.01), done)
    waiting = asyncio.create_task(made.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    made.feed("again")
    made.fail(SwitchUnavailable("relay", "late"))
    await asyncio.sleep(0.03)
    assert done == []
