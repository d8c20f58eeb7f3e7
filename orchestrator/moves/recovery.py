"""What a new process asks of the network before it takes up the moves that an earlier one left.

Every move waits for its own: a switch that refuses one scope, or a replica that does not echo, keeps no other waiting.
A replica that several moves ask about is drained once: a marker is behind all that was sent before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from orchestrator.migration import Doubt
from orchestrator.network import Network
from p4rt_controller import ReplicaSilent, WriteRejected
from splitmerge.errors import SplitmergeError
from splitmerge.messages import Scope

logger = logging.getLogger("orchestrator.moves")


@dataclass(slots=True)
class Recovery:
    """``tasks`` owns the drains; ``pause``: seconds between two tries.

    ``doubt``: a replica that does not echo for ``unreached`` seconds, though the switch does its part, is ended, unless
    it is busy: ``works`` tells whether it takes packets.
    """

    network: Network
    tasks: asyncio.TaskGroup
    pause: float
    unreached: float
    doubt: Callable[[Doubt], None]
    works: Callable[[int], bool]
    _gone: set[int] = field(default_factory=set)
    _waiting: dict[int, list[asyncio.Future[None]]] = field(default_factory=dict)
    _drains: dict[int, asyncio.Task[None]] = field(default_factory=dict)

    async def suspend(self, relay: int, scope: Scope, replica: int) -> None:
        """Suspend the scope under this epoch, however long it takes.

        What the switch refuses for good was not pointed anywhere either, and the rest is fenced off (as in RECALLING).
        """
        while True:
            try:
                await self.network.suspend(relay, scope, replica)
                return
            except WriteRejected as error:
                logger.warning("epoch %d: a part of its flows cannot be suspended: %s", relay, error)
                return
            except (SplitmergeError, OSError) as error:
                logger.warning("epoch %d: cannot suspend its flows yet: %s", relay, error)
            await asyncio.sleep(self.pause)

    def drained(self, relay: int, replica: int) -> asyncio.Future[None]:
        """Resolves when the replica has met a marker that was sent after this call, or is gone."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if replica in self._gone:
            future.set_result(None)
            return future
        self._waiting.setdefault(replica, []).append(future)
        if replica not in self._drains:
            work = self._drain(relay, replica)
            self._drains[replica] = self.tasks.create_task(work, name=f"drain replica {replica} again")
        return future

    def lost(self, replica: int) -> None:
        """The replica has ended for good: nothing is in its queue."""
        self._gone.add(replica)
        drain = self._drains.pop(replica, None)
        if drain is not None:
            drain.cancel()
        _resolve(self._waiting.pop(replica, ()))

    async def _drain(self, relay: int, replica: int) -> None:
        waiting, begun = self._waiting[replica], asyncio.get_running_loop().time()
        while waiting:
            behind = len(waiting)
            if await self._echoes(relay, replica, begun):
                _resolve(waiting[:behind])
                del waiting[:behind]
            else:
                await asyncio.sleep(self.pause)
        del self._drains[replica]

    async def _echoes(self, relay: int, replica: int, begun: float) -> bool:
        try:
            await self.network.drain(relay, replica, lambda: self.works(replica))
        except ReplicaSilent as error:
            logger.warning("epoch %d: %s", relay, error)
            if asyncio.get_running_loop().time() >= begun + self.unreached:
                self.doubt(Doubt(replica, self.unreached, "packets"))
            return False
        except (SplitmergeError, OSError) as error:
            logger.warning("epoch %d: cannot drain replica %d yet: %s", relay, replica, error)
            return False
        return True


def _resolve(futures: Iterable[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
