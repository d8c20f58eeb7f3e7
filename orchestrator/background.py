"""Work that goes on though nobody may wait for it: in tasks that end with the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from orchestrator.errors import JournalError
from splitmerge.errors import SplitmergeError, first_of

logger = logging.getLogger("orchestrator")

T = TypeVar("T")


class Background:
    """``acted`` is called when an operation has succeeded. Nothing but `stop` before `begin`."""

    def __init__(self, acted: Callable[[], None]) -> None:
        self._acted = acted
        self._tasks: asyncio.TaskGroup
        self._stopped = False

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """The owner of all tasks from now on."""
        self._tasks = tasks

    def stop(self) -> None:
        """The process ends: `later` begins nothing more."""
        self._stopped = True

    def later(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Do this; what goes wrong is logged."""
        if self._stopped:
            work.close()
            return
        self._tasks.create_task(self._logged(work, name), name=name)

    async def _logged(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except SplitmergeError as error:
            logger.warning("%s: %s", name, error)

    def operation(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Future[T]:
        """Do this, which goes on though whoever awaits the result stops waiting."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._tasks.create_task(self._fulfil(future, work, name), name=name)
        return future

    async def _fulfil(self, future: asyncio.Future[T], work: Coroutine[Any, Any, T], name: str) -> None:
        try:
            result = await work
        except* SplitmergeError as group:
            error = first_of(group)
            logger.warning("%s: %s", name, error)
            _settle_future(future, error=error)
        else:
            _settle_future(future, result)
            self._acted()

    def end_with(self, fault: JournalError) -> None:
        """This process knows what the journal does not: it ends, and the next one begins with what the journal has."""
        logger.critical("the process ends: %s", fault)
        work = _raise(fault)
        try:
            self._tasks.create_task(work, name="end: the journal cannot be written")
        except RuntimeError:  # it is ending already
            work.close()


async def _raise(fault: Exception) -> None:
    """The end of the process: the next one puts right what the journal knows."""
    raise fault


def _settle_future(future: asyncio.Future[T], result: T | None = None, error: SplitmergeError | None = None) -> None:
    """Give an answer to whoever still waits for it."""
    if future.done():
        return
    if error is None:
        future.set_result(result)  # type: ignore[arg-type]  # None only where T allows it
        return
    future.set_exception(error)
    future.exception()  # nobody may be waiting: it has been logged
