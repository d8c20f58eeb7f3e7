"""The shell of coherent state: the hub and the lock service with journal, connections and timers around them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterable

from orchestrator.coherence.hub import Found, Hub, Keep, KeepFolded, Tell
from orchestrator.coherence.hub import Instruction as HubInstruction
from orchestrator.coherence.locks import LEASE, KeepLock, LockRow, Locks
from orchestrator.coherence.locks import Step as LockStep
from orchestrator.errors import JournalError
from orchestrator.journal import Journal, JournalState
from splitmerge.alarm import Alarm
from splitmerge.messages import Message, SharedAbandon, SharedLock, SharedLockRefused, SharedRenew, SharedWrite


class SharedState:
    """Coherent state of one orchestrator. ``send`` gives a message to a replica, if it is connected.

    ``fault`` must end the process: something was not written down that hub or lock service have in mind already. From
    then on nothing is sent or written here, and what is asked ends in that error. The next process begins with what
    the journal has, and replicas repeat what was not confirmed.
    ``elsewhere``: address of the lock service, if it is another one; there must not be two.
    """

    def __init__(
        self,
        journal: Journal,
        state: JournalState,
        send: Callable[[int, Message], object],
        lease: float = LEASE,
        elsewhere: str = "",
        *,
        fault: Callable[[JournalError], object],
    ) -> None:
        self._elsewhere = elsewhere
        owners = {row.incarnation: row.replica for row in state.replicas.values() if row.state != "gone"}
        self.hub = Hub(kept=state.finals.items(), first=time.time_ns(), owners=owners)
        self.locks = Locks(lease, state.locks.items())
        self._journal = journal
        self._send = send
        self._on_fault = fault
        self._fault: JournalError | None = None
        self._finds: dict[int, asyncio.Future[Found]] = {}
        self._numbers = itertools.count(1)
        self._alarm = Alarm(self._due, self._tick)

    def begin(self) -> None:
        """In the running loop, before any message."""
        self.locks.restart(asyncio.get_running_loop().time())

    def close(self) -> None:
        """No timer is left."""
        self._alarm.stop()

    def handle(self, replica: int, message: Message, living: Iterable[int]) -> None:
        """A replica's message about coherent state. ``living``: replicas that have not ended.

        One that has ended may still be read: its agent's word came over another connection. What it pushed counts,
        but it wants no lock any more, and nobody would take one from it again before the lease is over.
        """
        now = asyncio.get_running_loop().time()
        living = frozenset(living)
        if isinstance(message, SharedLock | SharedRenew | SharedWrite | SharedAbandon) and replica not in living:
            return
        if self._elsewhere and isinstance(message, SharedLock):
            reason = f"the lock service is {self._elsewhere}"
            self._send(replica, SharedLockRefused(request=message.request, key=message.key, reason=reason))
        elif isinstance(message, SharedLock | SharedRenew | SharedWrite | SharedAbandon):
            self._attempt(self.locks.handle(replica, message, now))
        else:
            self._attempt(self.hub.handle(replica, message, living, now))

    def gone(self, replica: int) -> None:
        """A replica has ended. :raises JournalError: what must be kept of it is not; that is a fault, too."""
        now = asyncio.get_running_loop().time()
        self._do([*self.hub.gone(replica, now), *self.locks.gone(replica, now)])

    async def find(self, key: str, living: Iterable[int]) -> Found:
        """Everybody's newest contribution to an object with a combiner, after asking the living replicas.

        :raises JournalError: what they said cannot be written down.
        """
        number = next(self._numbers)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Found] = loop.create_future()
        self._finds[number] = future
        try:
            self._do(self.hub.pull_here(number, key, living, loop.time()))
            return await future
        finally:
            del self._finds[number]

    def lock(self, key: str) -> LockRow | None:
        """The lock and the one value of an object without a combiner; None if nobody ever asked for it."""
        return self.locks.row(key)

    def _attempt(self, steps: Iterable[HubInstruction | LockStep]) -> None:
        """For callbacks: nobody above would do anything about a fault that `fault` has not been told."""
        with contextlib.suppress(JournalError):
            self._do(steps)

    def _do(self, steps: Iterable[HubInstruction | LockStep]) -> None:
        """In order. :raises JournalError: not all of it, now or since an earlier fault."""
        if self._fault is not None:
            raise self._fault
        try:
            for step in steps:
                self._step(step)
        except JournalError as fault:
            self._fail(fault)
            raise
        self._alarm.follow()

    def _step(self, step: HubInstruction | LockStep) -> None:
        match step:
            case Keep(key, element):
                self._journal.keep_final(key, element)
            case KeepFolded(key, element, origins):
                self._journal.keep_folded(key, element, origins)
            case KeepLock(key, row, wrote):
                self._journal.keep_lock(key, row, wrote=wrote)
            case Tell(replica, message):
                self._send(replica, message)
            case Found() as found:
                self._found(found)

    def _fail(self, fault: JournalError) -> None:
        self._fault = fault
        self.close()
        for future in self._finds.values():
            if not future.done():
                future.set_exception(fault)
        self._on_fault(fault)

    def _found(self, found: Found) -> None:
        future = self._finds.get(found.request)
        if future is not None and not future.done():
            future.set_result(found)

    def _due(self) -> float | None:
        return min((due for due in (self.hub.timer, self.locks.timer) if due is not None), default=None)

    def _tick(self) -> None:
        now = asyncio.get_running_loop().time()
        self._attempt([*self.hub.tick(now), *self.locks.tick(now)])
