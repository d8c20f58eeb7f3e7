"""Transactions under SYNCH: the sequences around a lock, from ``get_shared`` to ``put_shared``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from guestlib.coherence.objects import SharedObject
from guestlib.coherence.synch import Locks, Phase
from guestlib.errors import LockLost, SharedError, StateError, SynchUnavailable, TransactionError
from guestlib.instructions import Await, Instruction, Waiting
from guestlib.state import StateTypes
from splitmerge.messages import SharedElement

VALUE_MOST = 8 * 1024 * 1024
"""Bytes of one value under SYNCH."""


class Synch:
    """SYNCH transactions of one replica. ``on_end`` is called when one has ended, whoever may wait for that."""

    def __init__(self, types: StateTypes, on_end: Callable[[], object]) -> None:
        self.origin = ""
        self.concurrent = False
        """As `Coherent.concurrent`."""
        self.locks = Locks()
        self.given_up: list[Instruction] = []
        """To be sent: what is not wanted any more."""
        self._types = types
        self._on_end = on_end

    def lock(self, shared: SharedObject, now: float) -> Waiting:
        """The sequence of ``get_shared(key, SYNCH)``.

        :raises SharedError: the object has a combiner.  :raises TransactionError: it would wait for itself.
        :raises SynchUnavailable:
        """
        key, what = shared.key, f"get_shared({shared.key!r}, SYNCH)"
        if shared.combiner is not None:
            raise SharedError(key, "SYNCH is for objects without a combiner: this one has a part at every replica")
        while self.locks.find(key) is not None:
            if not self.concurrent:
                raise TransactionError(f"{what} inside a SYNCH transaction on it")
            now = yield Await([], lambda: self.locks.find(key) is None, what)
        lock, steps = self.locks.start(key, now)
        try:
            yield Await(steps, lambda: lock.settled, what)
            if lock.phase is Phase.REFUSED:
                raise SynchUnavailable(key, lock.reason)
            if lock.value is not None:
                shared.own = self._types.decode(lock.value.kind, lock.value.value)
            shared.locked = self._types.decode(self._types.kind_of(shared.own), self._types.encode(shared.own))
        except BaseException:
            self.given_up += self.locks.end(lock)
            self._on_end()
            raise
        return shared.locked

    def write(self, shared: SharedObject, now: float) -> Waiting:
        """The sequence of ``put_shared(key, SYNCH)``: the value is the newest one when it ends.

        However it ends, the transaction is closed. :raises TransactionError: if none is open.
        :raises LockLost: nothing was written.  :raises StateError: the value cannot travel; nothing was written.
        :raises Timeout: (thrown in) nobody knows whether it was.
        """
        key = shared.key
        lock = self.locks.find(key)
        if lock is None or lock.phase not in (Phase.HELD, Phase.LOST):
            raise TransactionError(f"put_shared({key!r}, SYNCH) without get_shared({key!r}, SYNCH)")
        value, shared.locked = shared.locked, None
        try:
            if lock.phase is Phase.HELD:
                element = SharedElement(origin=self.origin, version=lock.token, **self._travelling(value))
                steps = self.locks.write(lock, element, now)
                what = f"put_shared({key!r}, SYNCH): whether it was written is not known"
                yield Await(steps, lambda: lock.settled, what)
            if lock.phase is Phase.LOST:
                raise LockLost(key, lock.token)
            shared.own = value
        finally:
            self.given_up += self.locks.end(lock)
            self._on_end()

    def drop(self, shared: SharedObject) -> None:
        """Close a SYNCH transaction without writing. :raises TransactionError: if none is open."""
        lock = self.locks.find(shared.key)
        if lock is None or lock.phase not in (Phase.HELD, Phase.LOST):
            raise TransactionError(f"no SYNCH transaction is open on {shared.key!r}")
        shared.locked = None
        self.given_up += self.locks.end(lock)
        self._on_end()

    def _travelling(self, value: Any) -> dict[str, Any]:
        kind, encoded = self._types.kind_of(value), self._types.encode(value)
        if len(encoded) > VALUE_MOST:
            raise StateError(f"{kind} of {len(encoded)} bytes: a value under SYNCH may have {VALUE_MOST}")
        return {"kind": kind, "value": encoded}
