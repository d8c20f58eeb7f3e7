"""A process of a lab is started again whenever it ends, within reason."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from topo import processes
from topo.errors import ProcessFailed
from topo.processes import Command, Supervised


@asynccontextmanager
async def kept(
    directory: Path, ready: Callable[[Supervised], bool]
) -> AsyncIterator[tuple[Supervised, asyncio.Task[None]]]:
    """A process that sleeps, and whoever keeps it running."""

    async def is_ready() -> bool:
        return ready(process)

    process = Supervised(Command("sleeper", ["sleep", "60"], directory / "log", is_ready))
    await process.start()
    keeper = asyncio.create_task(process.watch())
    try:
        yield process, keeper
    finally:
        await process.stop()
        with suppress(ProcessFailed):
            await keeper


def end(process: Supervised) -> int:
    """Kill it; the number that it had. If it has ended by itself, that is as good, and may not be known yet."""
    former = process.pid
    if former:  # 0 would be this process's group
        with suppress(ProcessLookupError):
            os.kill(former, signal.SIGKILL)
    return former


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_one_that_is_killed_again_before_it_is_ready_is_started_again(tmp_path: Path) -> None:
    """A restarted orchestrator takes seconds: whatever killed it may be there still."""
    async with kept(tmp_path, lambda process: process.restarts in (0, 3)) as (process, keeper):
        for number in range(3):
            former = end(process)
            await until(lambda former=former: process.pid not in (0, former))  # type: ignore[misc]
            assert process.restarts == number + 1
        assert not keeper.done()


async def test_one_that_keeps_ending_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(process: Supervised) -> bool:
        if process.restarts:
            end(process)
        return not process.restarts

    monkeypatch.setattr(processes, "_POLL", 0.001)
    async with kept(tmp_path, ends) as (process, keeper):
        end(process)
        with pytest.raises(ProcessFailed, match=r"^sleeper: ended 20 times in a row; log: "):
            await asyncio.wait_for(keeper, 10)


async def test_one_that_is_told_to_end_while_it_starts_again_is_not_started_once_more(tmp_path: Path) -> None:
    async with kept(tmp_path, lambda process: process.restarts == 0) as (process, keeper):
        former = end(process)
        await until(lambda: process.pid not in (0, former))
        await process.stop()
        await asyncio.wait_for(keeper, 10)
        assert process.restarts == 1 and process.pid == 0
