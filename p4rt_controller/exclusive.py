"""One operation of an epoch at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Exclusive:
    """``known``: whether the epoch has a move; its lock is kept as long as that."""

    def __init__(self, known: Callable[[int], bool]) -> None:
        self._known = known
        self._locks: dict[int, asyncio.Lock] = {}

    @asynccontextmanager
    async def of(self, epoch: int) -> AsyncIterator[None]:
        """While the block runs, no other of this epoch does."""
        lock = self._locks.setdefault(epoch, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not self._known(epoch) and not lock.locked():
                self._locks.pop(epoch, None)
