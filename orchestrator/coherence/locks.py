"""The lock service of strong consistency (`SYNCH`, §3.1): one lock and one value for each key.

Every grant has a token, larger than any before it for the key, which is journalled before anybody hears of it. A write
frees the lock, and counts only with the newest token: a holder that was paused while its lease ran out, and wakes up
when another one has the lock, is *fenced*. A lease that runs out takes the lock away only when somebody waits for it.

    free -- SharedLock --> held -- SharedWrite (its token) --> free, value written
                           held -- SharedAbandon, or the holder has ended --> free, value unchanged
                           held -- lease over, somebody waits --> held by the next, with a larger token

Every message may come twice, late or in another order. Numbers of one replica's requests grow, so one that it has
given up is known by its number; a write that is repeated because its answer was lost is answered again. A request that
is repeated when its lock was taken away waits again: its grant may have been lost.

Sans-IO: every method returns instructions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.coherence.hub import KEYS_MOST, Tell
from splitmerge.messages import (
    Message,
    SharedAbandon,
    SharedElement,
    SharedLock,
    SharedLocked,
    SharedLockRefused,
    SharedLost,
    SharedRenew,
    SharedWrite,
    SharedWritten,
)

logger = logging.getLogger("orchestrator")

NOBODY = 0
LEASE = 5.0
"""Seconds that a grant lasts unless it is renewed."""


@dataclass(frozen=True, slots=True)
class LockRow:
    """A lock as journalled."""

    token: int
    """The newest that was given."""
    holder: int = NOBODY
    request: int = 0
    """The holder's."""
    value: SharedElement | None = None
    """Its version is the token that it was written with."""
    written: Mapping[int, int] = field(default_factory=dict)
    """Of each replica the token that it wrote with last: so that it can be told again."""


@dataclass(frozen=True, slots=True)
class KeepLock:
    """Write this lock to the journal before anything that follows."""

    key: str
    row: LockRow
    wrote: bool = False
    """The value is a new one; else it is as it was kept before."""


Step = Tell | KeepLock


@dataclass(slots=True)
class _Lock:
    key: str
    token: int = 0
    holder: int = NOBODY
    request: int = 0
    """The holder's."""
    until: float = 0.0
    """The holder's lease."""
    value: SharedElement | None = None
    queue: dict[int, int] = field(default_factory=dict)
    """Replicas that wait, first come first served, with their newest request."""
    settled: dict[int, int] = field(default_factory=dict)
    """Of each replica the newest request that is over: late repeats of it are ignored."""
    written: dict[int, int] = field(default_factory=dict)

    def row(self) -> LockRow:
        return LockRow(self.token, self.holder, self.request, self.value, dict(self.written))

    def free(self) -> None:
        """The holder's request is over."""
        self._settle(self.request)

    def take(self) -> None:
        """The holder's lease is over, but not its request: if the grant was lost, it still asks. Those before are."""
        self._settle(self.request - 1)

    def _settle(self, request: int) -> None:
        self.settled[self.holder] = max(request, self.settled.get(self.holder, 0))
        self.holder = NOBODY


class Locks:
    """Every lock. ``lease``: seconds. ``kept``: what was journalled; call `restart` then."""

    def __init__(self, lease: float = LEASE, kept: Iterable[tuple[str, LockRow]] = ()) -> None:
        self._lease = lease
        self._locks: dict[str, _Lock] = {}
        self.fenced = 0
        """Writes refused since another one had the lock."""
        self.taken_over = 0
        """Locks that were given on since the holder's lease had run out."""
        for key, row in kept:
            self._locks[key] = _Lock(
                key, row.token, row.holder, row.request, value=row.value, written=dict(row.written)
            )

    def restart(self, now: float) -> None:
        """Holders of an earlier process get a whole lease from now: nobody could renew meanwhile."""
        for lock in self._locks.values():
            lock.until = now + self._lease

    @property
    def timer(self) -> float | None:
        """When to call `tick`."""
        return min((lock.until for lock in self._locks.values() if lock.queue), default=None)

    def row(self, key: str) -> LockRow | None:
        """The lock and the value of a key; None if nobody ever asked for it."""
        lock = self._locks.get(key)
        return None if lock is None else lock.row()

    def handle(self, replica: int, message: Message, now: float) -> list[Step]:
        """A replica's message; other kinds than the lock service's are ignored."""
        match message:
            case SharedLock(request=request, key=key):
                return self._ask(replica, request, key, now)
            case SharedRenew(key=key, token=token):
                return self._renew(replica, key, token, now)
            case SharedWrite(key=key, element=element):
                return self._write(replica, key, element, now)
            case SharedAbandon(request=request, key=key):
                return self._abandon(replica, request, key, now)
            case _:
                return []

    def gone(self, replica: int, now: float) -> list[Step]:
        """A replica has ended: what it holds is free, and it waits for nothing. No message of it may follow."""
        out: list[Step] = []
        for lock in self._locks.values():
            lock.queue.pop(replica, None)
            lock.written.pop(replica, None)
            if lock.holder == replica:
                lock.free()
                out += self._give(lock, now, changed=True)
            lock.settled.pop(replica, None)
        return out

    def tick(self, now: float) -> list[Step]:
        """Give on what holders have let run out."""
        due = [lock for lock in self._locks.values() if lock.queue and now >= lock.until]
        return [step for lock in due for step in self._give(lock, now)]

    def _ask(self, replica: int, request: int, key: str, now: float) -> list[Step]:
        lock = self._locks.get(key)
        if lock is None and len(self._locks) >= KEYS_MOST:
            reason = f"the lock service has {KEYS_MOST} keys already"
            return [Tell(replica, SharedLockRefused(request=request, key=key, reason=reason))]
        if lock is None:
            lock = self._locks[key] = _Lock(key)
        if request <= lock.settled.get(replica, 0):
            return []
        changed = False
        if lock.holder == replica:
            if request <= lock.request:
                return self._granted(lock) if request == lock.request else []
            lock.free()  # it asks anew: it has given up what it had
            changed = True
        lock.queue[replica] = max(request, lock.queue.get(replica, 0))
        return self._give(lock, now, changed=changed)

    def _give(self, lock: _Lock, now: float, *, changed: bool = False, wrote: bool = False) -> list[Step]:
        """To the first that waits, if it is free; the row is kept first if anything has changed."""
        expired = lock.holder != NOBODY and now >= lock.until
        if not lock.queue or (lock.holder != NOBODY and not expired):
            return [KeepLock(lock.key, lock.row(), wrote)] if changed else []
        if expired:
            logger.warning("lock of %r: replica %d let its lease run out", lock.key, lock.holder)
            self.taken_over += 1
            lock.take()
        replica = next(iter(lock.queue))
        lock.request, lock.holder = lock.queue.pop(replica), replica
        lock.token += 1
        lock.until = now + self._lease
        return [KeepLock(lock.key, lock.row(), wrote), *self._granted(lock)]

    def _granted(self, lock: _Lock) -> list[Step]:
        message = SharedLocked(
            request=lock.request, key=lock.key, token=lock.token, lease=self._lease, value=lock.value
        )
        return [Tell(lock.holder, message)]

    def _renew(self, replica: int, key: str, token: int, now: float) -> list[Step]:
        lock = self._locks.get(key)
        if lock is not None and lock.written.get(replica, 0) == token:
            return []  # said before the write, and late
        if lock is None or not self.holds(replica, token, key):
            return [Tell(replica, SharedLost(key=key, token=token))]
        lock.until = now + self._lease
        return []

    def holds(self, replica: int, token: int, key: str) -> bool:
        """Whether this is the newest token, and still this replica's."""
        lock = self._locks.get(key)
        return lock is not None and lock.holder == replica and lock.token == token

    def _write(self, replica: int, key: str, element: SharedElement, now: float) -> list[Step]:
        token = element.version
        lock = self._locks.get(key)
        if lock is not None and lock.written.get(replica, 0) == token:
            return [Tell(replica, SharedWritten(key=key, token=token))]
        if lock is None or not self.holds(replica, token, key):
            logger.warning("lock of %r: replica %d writes with old token %d: fenced", key, replica, token)
            self.fenced += 1
            return [Tell(replica, SharedLost(key=key, token=token))]
        lock.value = element
        lock.written[replica] = token
        lock.free()
        given = self._give(lock, now, changed=True, wrote=True)
        # What is kept comes first: nobody hears of a write that could be forgotten.
        return [given[0], Tell(replica, SharedWritten(key=key, token=token)), *given[1:]]

    def _abandon(self, replica: int, request: int, key: str, now: float) -> list[Step]:
        lock = self._locks.get(key)
        if lock is None:
            return []
        if lock.queue.get(replica, request + 1) <= request:
            del lock.queue[replica]
        held = lock.holder == replica and lock.request <= request
        if held:
            lock.free()
        lock.settled[replica] = max(request, lock.settled.get(replica, 0))
        return self._give(lock, now, changed=True) if held else []
