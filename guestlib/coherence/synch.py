"""Strong consistency: this replica's side of the lock service (`SYNCH`, §3.1).

An object without a combiner has one value. ``get_shared(key, SYNCH)`` gets its lock with the newest value,
``put_shared(key, SYNCH)`` writes and frees it. The grant's *token* is larger than any before; the service takes a write
only with the newest token, so a holder that was paused until another one had the lock cannot write any more.

    none -- start --> WAITING -- SharedLocked --> HELD -- write --> WRITING -- SharedWritten --> WRITTEN
                      WAITING -- SharedLockRefused --> REFUSED
                      HELD, WRITING -- SharedLost --> LOST
    HELD: renewed every third of the lease, for `HELD_MOST` seconds at most

Sans-IO. Which service it is (the orchestrator, or etcd) only the shell knows.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from guestlib.instructions import Instruction, ToLocks, ToOrchestrator
from splitmerge.messages import (
    Message,
    SharedAbandon,
    SharedElement,
    SharedLock,
    SharedLocked,
    SharedLockRefused,
    SharedLost,
    SharedPull,
    SharedPulled,
    SharedRenew,
    SharedWrite,
    SharedWritten,
)

logger = logging.getLogger("guestlib")

RETRY = 0.5
"""Seconds after which a request without an answer is sent again."""
HELD_MOST = 60.0
"""Seconds for which a lock that the middlebox holds is renewed."""


class Phase(enum.Enum):
    """How far a transaction under a lock is."""

    WAITING = "waiting"
    REFUSED = "refused"
    HELD = "held"
    WRITING = "writing"
    WRITTEN = "written"
    LOST = "lost"


@dataclass(slots=True)
class Lock:
    """One transaction under a lock."""

    key: str
    request: int
    phase: Phase
    said: Message
    """What is repeated until it is answered."""
    next_at: float
    token: int = 0
    lease: float = 0.0
    held_until: float = 0.0
    value: SharedElement | None = None
    """The newest value, as of the grant; None if nothing was written yet."""
    reason: str = ""
    """Why it is refused."""

    @property
    def settled(self) -> bool:
        """Whether nothing is waited for."""
        return self.phase not in (Phase.WAITING, Phase.WRITING)


class Locks:
    """The locks that this replica asks for or holds, at most one for each key."""

    def __init__(self) -> None:
        self._locks: dict[str, Lock] = {}
        self._requests = 0

    def find(self, key: str) -> Lock | None:
        """The open transaction on this object."""
        return self._locks.get(key)

    def held(self) -> list[str]:
        """Keys of the objects whose lock the middlebox has."""
        return [key for key, lock in self._locks.items() if lock.phase in (Phase.HELD, Phase.LOST)]

    def start(self, key: str, now: float) -> tuple[Lock, list[Instruction]]:
        """Ask for the lock; there must be no open transaction on the object."""
        assert key not in self._locks
        self._requests += 1
        ask = SharedLock(request=self._requests, key=key)
        lock = self._locks[key] = Lock(key, self._requests, Phase.WAITING, ask, now + RETRY)
        return lock, [ToLocks(ask)]

    def write(self, lock: Lock, element: SharedElement, now: float) -> list[Instruction]:
        """Write this and free the lock. Its version must be the lock's token."""
        assert lock.phase is Phase.HELD and element.version == lock.token
        lock.phase, lock.said, lock.next_at = Phase.WRITING, SharedWrite(key=lock.key, element=element), now + RETRY
        return [ToLocks(lock.said)]

    def end(self, lock: Lock) -> list[Instruction]:
        """The transaction is over. What the service may still think that this replica wants or holds is given up."""
        if self._locks.get(lock.key) is lock:
            del self._locks[lock.key]
        return [] if lock.phase in (Phase.WRITTEN, Phase.LOST, Phase.REFUSED) else [_abandon(lock.request, lock.key)]

    def handle(self, message: Message, now: float) -> list[Instruction]:
        """Take one message of the lock service. Others are ignored."""
        match message:
            case SharedLocked():
                return self._granted(message, now)
            case SharedLockRefused(request=request, key=key, reason=reason):
                if (lock := self._waiting(key, request)) is not None:
                    lock.phase, lock.reason = Phase.REFUSED, reason
            case SharedWritten(key=key, token=token):
                if (lock := self._of(key, token)) is not None and lock.phase is Phase.WRITING:
                    lock.phase = Phase.WRITTEN
            case SharedLost(key=key, token=token):
                if (lock := self._of(key, token)) is not None:
                    lock.phase = Phase.LOST
        return []

    def next_due(self) -> float | None:
        """When `poll` has something to say."""
        return min((lock.next_at for lock in self._active()), default=None)

    def poll(self, now: float) -> list[Instruction]:
        """Repeat what nobody has answered, and renew what is held."""
        return [step for lock in list(self._active()) if now >= lock.next_at for step in self._again(lock, now)]

    def abandon_all(self) -> list[Instruction]:
        """The replica ends."""
        return [step for lock in list(self._locks.values()) for step in self.end(lock)]

    def _active(self) -> Iterator[Lock]:
        return (lock for lock in self._locks.values() if lock.phase in (Phase.WAITING, Phase.HELD, Phase.WRITING))

    def _again(self, lock: Lock, now: float) -> list[Instruction]:
        if lock.phase is not Phase.HELD:
            lock.next_at = now + RETRY
            return [ToLocks(lock.said)]
        if now >= lock.held_until:
            logger.error("shared object %r: its lock is held for %g s: not renewed any more", lock.key, HELD_MOST)
            lock.next_at = float("inf")
            return []
        lock.next_at = now + lock.lease / 3
        return [ToLocks(SharedRenew(key=lock.key, token=lock.token))]

    def _granted(self, message: SharedLocked, now: float) -> list[Instruction]:
        lock = self._locks.get(message.key)
        if lock is None or lock.request != message.request:
            return [_abandon(message.request, message.key)]  # nobody waits for it any more
        if lock.phase is not Phase.WAITING:  # a newer grant: a late repeat of the request came when this one was lost
            return [_abandon(message.request, message.key)] if message.token > lock.token else []
        lock.phase, lock.token, lock.value, lock.lease = Phase.HELD, message.token, message.value, message.lease
        lock.next_at, lock.held_until = now + message.lease / 3, now + HELD_MOST
        return []

    def _waiting(self, key: str, request: int) -> Lock | None:
        lock = self._locks.get(key)
        return lock if lock is not None and lock.request == request and lock.phase is Phase.WAITING else None

    def _of(self, key: str, token: int) -> Lock | None:
        lock = self._locks.get(key)
        return lock if lock is not None and lock.token == token else None


def _abandon(request: int, key: str) -> Instruction:
    return ToLocks(SharedAbandon(request=request, key=key))


class Alone:
    """Orchestrator and lock service of a guest without a shell (in unit tests of a middlebox): answers at once."""

    def __init__(self) -> None:
        self._values: dict[str, SharedElement] = {}
        self._token = 0

    def answer(self, step: Instruction) -> Message | None:
        """What the service says to this."""
        match step:
            case ToLocks(SharedLock(request=request, key=key)):
                self._token += 1
                value = self._values.get(key)
                return SharedLocked(request=request, key=key, token=self._token, lease=HELD_MOST, value=value)
            case ToOrchestrator(SharedPull(request=request, key=key)):
                return SharedPulled(request=request, key=key, elements=())
            case ToLocks(SharedWrite(key=key, element=element)):
                self._values[key] = element
                return SharedWritten(key=key, token=element.version)
            case _:
                return None
