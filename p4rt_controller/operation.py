"""Runs a sans-IO core (`RelaySender`, `Rounds`) until it ends: feeds it events, carries its instructions out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from p4rt_controller.errors import SwitchUnavailable

_E = TypeVar("_E")
_I = TypeVar("_I")
_E_contra = TypeVar("_E_contra", contravariant=True)


class Core(Protocol[_E_contra, _I]):
    """What a core offers."""

    timer: float | None

    def handle(self, event: _E_contra, now: float) -> list[_I]:
        """Instructions."""


class Operation(Generic[_E, _I]):
    """One core at work.

    ``execute`` carries an instruction out; it returns None, or True (done) or False (given up) at the end. If it raises
    `SwitchUnavailable` the operation has failed: whoever waits for it is told, not who fed it, and who may have been
    reading packets of others.
    """

    def __init__(self, core: Core[_E, _I], tick: _E, execute: Callable[[_I], bool | None]) -> None:
        self._core = core
        self._tick = tick
        self._execute = execute
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[bool] = self._loop.create_future()
        self._timer_set = asyncio.Event()

    def feed(self, event: _E) -> None:
        """Hand an event to the core, at once; after the end, and after `fail`, nothing happens.

        Raises no `SwitchUnavailable`: see ``execute``.
        """
        if self._outcome.done():
            return
        had_timer = self._core.timer is not None
        try:
            for instruction in self._core.handle(event, self._loop.time()):
                self._carry_out(instruction)
        except SwitchUnavailable as error:
            self.fail(error)
        if not had_timer and self._core.timer is not None:
            self._timer_set.set()

    def _carry_out(self, instruction: _I) -> None:
        outcome = self._execute(instruction)
        if outcome is not None and not self._outcome.done():
            self._outcome.set_result(outcome)

    def fail(self, error: Exception) -> None:
        """End it: `wait` raises this."""
        if not self._outcome.done():
            self._outcome.set_exception(error)
            self._outcome.exception()  # seen: who fails before `wait` has an error of its own to raise

    async def wait(self) -> bool:
        """True when the core is done, False when it gave up. Runs its timer."""
        while not self._outcome.done():
            await self._pause()
            self.feed(self._tick)
        return self._outcome.result()

    async def _pause(self) -> None:
        """Until the outcome is there, the timer's time has come, or a timer is set where there was none."""
        if self._core.timer is not None:
            delay = max(0.0, self._core.timer - self._loop.time())
            await asyncio.wait([self._outcome], timeout=delay)
            return
        self._timer_set.clear()
        waiter: asyncio.Future[Any] = asyncio.ensure_future(self._timer_set.wait())
        try:
            await asyncio.wait((self._outcome, waiter), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
