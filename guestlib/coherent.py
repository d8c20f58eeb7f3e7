"""Coherent state: one object a key, of which every replica holds a part.

Each replica writes only its own element. An element has an origin (the incarnation that writes it) and a version (which
grows with every transaction); of one origin the higher version replaces the lower, so elements may come twice, late or
in any order, and nothing is counted twice or lost. The value of the object is the combiner over the newest element of
every origin. A replica that ends pushes its element a last time; the orchestrator keeps it.

    LOCAL  this replica's own element, to read and write
    PULL   the value over all replicas: a copy, to read (writing goes under LOCAL)
    PUSH   as LOCAL when getting; after the transaction the element goes to the orchestrator

Combiners run on elements of their own (copies), never inside a transaction on the object: a PULL while one is open
here is an error, and a Collect waits until none is.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from guestlib.errors import SharedError, SharedExists, SharedMissing, SynchUnavailable, TransactionError
from guestlib.instructions import Instruction, ToOrchestrator
from guestlib.state import StateTypes
from splitmerge.messages import (
    Message,
    SharedCollect,
    SharedCollected,
    SharedElement,
    SharedPull,
    SharedPulled,
    SharedPush,
    SharedPushed,
)

logger = logging.getLogger("guestlib")

RETRY = 0.5
"""Seconds after which a push or pull without an answer is sent again."""
Combiner = Callable[[Sequence[Any]], Any]
"""From one element of each origin to the value of all. Combining one element gives its equal; order does not matter."""


class Flags(enum.Enum):
    """How `get_shared` and `put_shared` treat the other replicas."""

    LOCAL = "local"
    PULL = "pull"
    PUSH = "push"
    SYNCH = "synch"


LOCAL, PULL, PUSH, SYNCH = Flags.LOCAL, Flags.PULL, Flags.PUSH, Flags.SYNCH


class SharedObject:
    """One object as this replica knows it."""

    def __init__(self, key: str, own: Any, combiner: Combiner | None) -> None:
        self.key = key
        self.own = own
        self.combiner = combiner
        self.version = 0
        self.refs = 0
        """Open transactions on ``own``."""
        self.others: dict[str, SharedElement] = {}
        self.combined: Any = None
        """What the combiner gave last."""
        self.view: Any = None
        """The copy that an open PULL transaction reads."""
        self.view_bytes = b""
        self.waiting: dict[int, None] = {}
        """Collects to answer when the open transactions end."""


@dataclass(slots=True)
class _Pending:
    """A request without an answer yet."""

    message: SharedPush | SharedPull
    sent_at: float


class Coherent:
    """Every coherent object of this replica."""

    def __init__(self, types: StateTypes) -> None:
        self.origin = ""
        self._types = types
        self._objects: dict[str, SharedObject] = {}
        self._pushes: dict[str, _Pending] = {}
        self._pulls: dict[int, _Pending] = {}
        self._requests = 0

    # -- what the middlebox does ---------------------------------------------------------------------------

    def create(self, key: str, initial: Any, combiner: Combiner | None) -> None:
        """:raises SharedExists: :raises StateError: if the type is not registered."""
        if key in self._objects:
            raise SharedExists(key)
        self._types.kind_of(initial)
        self._objects[key] = SharedObject(key, initial, combiner)

    def delete(self, key: str) -> list[Instruction]:
        """Forget the object here. :raises SharedMissing: :raises TransactionError: while a transaction is open."""
        shared = self.find(key)
        if shared.refs or shared.view is not None:
            raise TransactionError(f"delete_shared({key!r}) inside a transaction on it")
        del self._objects[key]
        self._pushes.pop(key, None)
        return []

    def find(self, key: str) -> SharedObject:
        """:raises SharedMissing:"""
        shared = self._objects.get(key)
        if shared is None:
            raise SharedMissing(key)
        return shared

    def get_local(self, key: str) -> Any:
        """Open a transaction on this replica's element."""
        shared = self.find(key)
        shared.refs += 1
        return shared.own

    def start_pull(self, key: str, now: float) -> tuple[int, list[Instruction]]:
        """Ask for everybody's elements; the request number, for `pull_answered`.

        :raises TransactionError: inside a transaction on the object, where no combiner may run.
        :raises SharedError: if it has no combiner.
        """
        shared = self.find(key)
        if shared.combiner is None:
            raise SharedError(key, "PULL needs a combiner, and it was created without one")
        if shared.refs or shared.view is not None:
            raise TransactionError(f"get_shared({key!r}, PULL) inside a transaction on it: combiners run between them")
        message = SharedPull(request=self._next_request(), key=key)
        self._pulls[message.request] = _Pending(message, now)
        return message.request, [ToOrchestrator(message)]

    def pull_answered(self, request: int) -> bool:
        """Whether the elements have come."""
        return request not in self._pulls

    def abandon_pull(self, request: int) -> None:
        """Nobody waits for it any more."""
        self._pulls.pop(request, None)

    def open_view(self, key: str) -> Any:
        """Combine what is known, and open a transaction that reads it. :raises TransactionError: as `start_pull`."""
        shared = self.find(key)
        if shared.refs or shared.view is not None:
            raise TransactionError(f"get_shared({key!r}, PULL) inside a transaction on it: combiners run between them")
        shared.view = self.combine(shared)
        shared.view_bytes = self._types.encode(shared.view)
        return shared.view

    def put(self, key: str, flags: Flags, now: float) -> list[Instruction]:
        """Close a transaction.

        :raises TransactionError: if none is open, or what PULL gave was written to (the change would be lost).
        :raises SynchUnavailable:
        """
        shared = self.find(key)
        if flags is SYNCH:
            raise SynchUnavailable(key)
        if shared.view is not None and not shared.refs:
            self._close_view(shared)
        elif shared.refs:
            shared.refs -= 1
            shared.version += 1
        else:
            raise TransactionError(f"put_shared({key!r}) without get_shared")
        out = self._answer_waiting(shared)
        if flags is PUSH:
            out += self._push(shared, now, final=False)
        return out

    def _close_view(self, shared: SharedObject) -> None:
        written = self._types.encode(shared.view) != shared.view_bytes
        shared.view = None
        if written:
            raise TransactionError(
                f"shared object {shared.key!r}: what PULL gave was written to; write under get_shared(key, LOCAL)"
            )

    def combine(self, shared: SharedObject) -> Any:
        """The value over this replica's element and the newest known of every other. :raises SharedError:"""
        if shared.combiner is None:
            raise SharedError(shared.key, "has no combiner")
        # Copies, so that a combiner that adds into its first argument changes nobody's element.
        own = self._types.decode(self._types.kind_of(shared.own), self._types.encode(shared.own))
        others = [self._types.decode(e.kind, e.value) for _, e in sorted(shared.others.items())]
        combined = shared.combiner([own, *others])
        self._types.kind_of(combined)
        shared.combined = combined
        return combined

    # -- messages and time ---------------------------------------------------------------------------------

    def handle(self, message: Message, now: float) -> list[Instruction]:
        """Take one message about coherent state. Others are ignored."""
        match message:
            case SharedCollect(request=request, key=key):
                return self._collect(request, key)
            case SharedPulled(request=request, key=key):
                self._absorb(message)
                self._pulls.pop(request, None)
            case SharedPushed(request=request):
                self._pushes = {k: p for k, p in self._pushes.items() if p.message.request != request}
        return []

    def next_due(self) -> float | None:
        """When `poll` has something to repeat."""
        pending = [*self._pushes.values(), *self._pulls.values()]
        return min(each.sent_at for each in pending) + RETRY if pending else None

    def poll(self, now: float) -> list[Instruction]:
        """Repeat requests that nobody has answered."""
        out: list[Instruction] = []
        for each in (*self._pushes.values(), *self._pulls.values()):
            if now >= each.sent_at + RETRY:
                each.sent_at = now
                out.append(ToOrchestrator(each.message))
        return out

    def finish(self, now: float) -> list[Instruction]:
        """The replica ends: combine once more, and push every element that was ever written."""
        out: list[Instruction] = []
        for shared in self._objects.values():
            if shared.refs:
                logger.warning("shared object %r: %d transactions open at the end", shared.key, shared.refs)
            out += self._push(shared, now, final=True)
        return out

    @property
    def unconfirmed(self) -> int:
        """Pushes without an answer."""
        return len(self._pushes)

    def _collect(self, request: int, key: str) -> list[Instruction]:
        shared = self._objects.get(key)
        if shared is None:
            return [ToOrchestrator(SharedCollected(request=request, key=key))]
        if shared.refs:
            shared.waiting[request] = None
            return []
        return [ToOrchestrator(SharedCollected(request=request, key=key, element=self._element(shared)))]

    def _answer_waiting(self, shared: SharedObject) -> list[Instruction]:
        if shared.refs or not shared.waiting:
            return []
        requests = list(shared.waiting)
        shared.waiting.clear()
        return [step for request in requests for step in self._collect(request, shared.key)]

    def _absorb(self, message: SharedPulled) -> None:
        shared = self._objects.get(message.key)
        if shared is None:
            return
        for element in message.elements:
            known = shared.others.get(element.origin)
            if element.origin != self.origin and (known is None or known.version < element.version):
                shared.others[element.origin] = element

    def _element(self, shared: SharedObject) -> SharedElement | None:
        """This replica's element; None if it was never written."""
        if not shared.version:
            return None
        kind = self._types.kind_of(shared.own)
        value = self._types.encode(shared.own)
        return SharedElement(origin=self.origin, version=shared.version, kind=kind, value=value)

    def _push(self, shared: SharedObject, now: float, *, final: bool) -> list[Instruction]:
        if shared.refs and not final:
            raise TransactionError(f"put_shared({shared.key!r}, PUSH): another transaction on it is open")
        if shared.combiner is not None and not shared.refs:
            self.combine(shared)
        element = self._element(shared)
        if element is None:
            return []
        message = SharedPush(request=self._next_request(), key=shared.key, element=element, final=final)
        self._pushes[shared.key] = _Pending(message, now)
        return [ToOrchestrator(message)]

    def _next_request(self) -> int:
        self._requests += 1
        return self._requests
