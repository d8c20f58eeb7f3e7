"""Runs a sans-IO core (`RelaySender`, `Rounds`) until it ends: feeds it events, carries its instructions out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from p4rt_controller.errors import SwitchUnavailable
from splitmerge.alarm import Alarm

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
        self._alarm = Alarm(lambda: core.timer, self._tell)
        self._waited = False

    def feed(self, event: _E) -> None:
        """Hand an event to the core, at once; after the end, and after `fail`, nothing happens.

        Raises no `SwitchUnavailable`: see ``execute``.
        """
        if self._outcome.done():
            return
        try:
            for instruction in self._core.handle(event, self._loop.time()):
                self._carry_out(instruction)
        except SwitchUnavailable as error:
            self.fail(error)
        if self._waited:
            self._alarm.follow()

    def _carry_out(self, instruction: _I) -> None:
        outcome = self._execute(instruction)
        if outcome is not None and not self._outcome.done():
            self._outcome.set_result(outcome)

    def fail(self, error: Exception) -> None:
        """End it: `wait` raises this."""
        if not self._outcome.done():
            self._outcome.set_exception(error)
            self._outcome.exception()  # seen: who fails before `wait` has an error of its own to raise

    @property
    def failed(self) -> bool:
        """Whether `fail` has ended it, and who waits is told so."""
        return self._outcome.done() and self._outcome.exception() is not None

    async def wait(self) -> bool:
        """True when the core is done, False when it gave up. Runs its timer; who is cancelled ends the operation."""
        self._waited = True
        self._alarm.follow()
        try:
            return await self._outcome
        finally:
            self._waited = False
            self._alarm.stop()

    def _tell(self) -> None:
        try:
            self.feed(self._tick)
        except Exception as fault:  # of who waits, not of the event loop
            self.fail(fault)
