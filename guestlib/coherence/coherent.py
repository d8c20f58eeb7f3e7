"""Coherent state: one object a key. With a combiner every replica holds a part of it; without one it has one value.

**With a combiner.** Each replica writes only its own element. An element has an origin (the incarnation that writes it)
and a version (which grows with every transaction); of one origin the higher version replaces the lower, so elements may
come twice, late or in any order, and nothing is counted twice or lost. The value of the object is the combiner over the
newest element of every origin. A replica that ends pushes its element a last time; the orchestrator keeps it.

    LOCAL  this replica's own element, to read and write
    PULL   the value over all replicas: a copy, to read (writing goes under LOCAL)
    PUSH   as LOCAL when getting; after the transaction the element goes to the orchestrator

Combiners run on elements of their own (copies), never inside a transaction on the object: a PULL waits until none is
open here (or is an error, where it would wait for itself), a PUSH comes after the last one that is, and a Collect waits
until none is.

**Without one** the value is the same for all (`guestlib.coherence.synch`):

    SYNCH  lock, newest value, to read and write; put_shared writes it and frees the lock
    LOCAL  the copy that this replica saw last: cheap, perhaps old, to read

Everything that may wait is a *sequence*: a generator that yields `Await` and returns the result. Each shell has its own
way to wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from guestlib.coherence.objects import LOCAL, ONE_VALUE, PULL, PUSH, SYNCH, Combiner, Flags, SharedObject
from guestlib.coherence.transactions import Synch
from guestlib.errors import SharedError, SharedExists, SharedMissing, TransactionError
from guestlib.instructions import Await, Instruction, ToOrchestrator, Waiting
from guestlib.state import StateTypes
from splitmerge.errors import Timeout
from splitmerge.messages import (
    Message,
    SharedCollect,
    SharedCollected,
    SharedElement,
    SharedFold,
    SharedFolded,
    SharedPull,
    SharedPulled,
    SharedPush,
    SharedPushed,
)

logger = logging.getLogger("guestlib")

RETRY = 0.5
"""Seconds after which a push or pull without an answer is sent again."""
COLLECTS_MOST = 1024
"""Collects that wait for a transaction to end; of more the oldest are forgotten, and asked again."""
HUB_SHARE = 0.9
"""Part of a PULL's deadline after which the hub says who has not answered, rather than nothing."""


@dataclass(slots=True)
class _Pending:
    """A request without an answer yet."""

    message: SharedPush | SharedPull
    sent_at: float
    others: tuple[SharedElement, ...] = ()
    """What a pull was answered, without this replica's own."""
    missing: tuple[int, ...] = ()
    """Replicas that did not answer a pull in time."""
    too_large: int = 0
    """Bytes of the answer to a pull that has no room in a message."""


class Coherent:
    """Every coherent object of this replica."""

    def __init__(self, types: StateTypes) -> None:
        self.on_end: Callable[[], object] = lambda: None
        """Called when a transaction ends."""
        self.synch = Synch(types, lambda: self.on_end())
        self.locks = self.synch.locks
        self._types = types
        self._objects: dict[str, SharedObject] = {}
        self._first = 0
        """Version of a part that is not written yet: larger than of any part deleted here, which it replaces if its key
        is created again. One number for all, since there may be any number of keys."""
        self._pushes: dict[str, _Pending] = {}
        self._pulls: dict[int, _Pending] = {}
        self._requests = 0

    @property
    def origin(self) -> str:
        """The incarnation that writes this replica's elements."""
        return self.synch.origin

    @origin.setter
    def origin(self, incarnation: str) -> None:
        self.synch.origin = incarnation

    @property
    def concurrent(self) -> bool:
        """Whether transactions may end while another one waits to begin (asyncio): it is waited for then."""
        return self.synch.concurrent

    @concurrent.setter
    def concurrent(self, concurrent: bool) -> None:
        self.synch.concurrent = concurrent

    # -- what the middlebox does ---------------------------------------------------------------------------

    def create(self, key: str, initial: Any, combiner: Combiner | None) -> None:
        """:raises SharedExists: :raises StateError: if the type is not registered."""
        if key in self._objects:
            raise SharedExists(key)
        self._types.kind_of(initial)
        shared = self._objects[key] = SharedObject(key, initial, combiner)
        if combiner is not None:
            shared.version = self._first

    def delete(self, key: str) -> list[Instruction]:
        """Forget the object here; what the orchestrator knows of this replica's part counts until it is created again.

        :raises SharedMissing: :raises TransactionError: while a transaction is open.
        """
        shared = self.find(key)
        if shared.busy or self.locks.find(key) is not None:
            raise TransactionError(f"delete_shared({key!r}) inside a transaction on it")
        del self._objects[key]
        self._pushes.pop(key, None)
        if shared.version:
            self._first = max(self._first, shared.version + 1)
        return []

    def find(self, key: str) -> SharedObject:
        """:raises SharedMissing:"""
        shared = self._objects.get(key)
        if shared is None:
            raise SharedMissing(key)
        return shared

    def get(self, key: str, flags: Flags, now: float, deadline: float) -> Waiting:
        """The sequence of ``get_shared`` for PULL and SYNCH; ``deadline`` in seconds from now.

        :raises SharedMissing: :raises SharedError: the object is not of the kind that these flags are for.
        """
        shared = self.find(key)
        if flags is PULL:
            return self._pull(shared, now, deadline)
        if flags is SYNCH:
            return self.synch.lock(shared, now)
        raise SharedError(key, "get_shared takes LOCAL, PULL or SYNCH")

    def get_local(self, key: str) -> Any:
        """Open a transaction on this replica's element, or on its copy of the one value."""
        shared = self.find(key)
        if shared.combiner is None and not shared.refs:
            shared.view_bytes = self._types.encode(shared.own)
        shared.refs += 1
        return shared.own

    def put(self, key: str, flags: Flags, now: float) -> list[Instruction]:
        """Close a transaction that was opened with LOCAL or PULL.

        :raises TransactionError: if none is open, or what is only to be read was written to (it would be lost).
        :raises SharedError: PUSH of an object that has no parts.
        """
        shared = self.find(key)
        if flags not in (LOCAL, PUSH):
            raise SharedError(key, "put_shared takes LOCAL, PUSH or SYNCH")
        if flags is PUSH and shared.combiner is None:
            raise SharedError(key, f"PUSH sends this replica's part, and it has none: {ONE_VALUE}")
        if shared.view is not None and not shared.refs:
            self._close_view(shared)
        elif not shared.refs:
            raise TransactionError(f"put_shared({key!r}) without get_shared")
        elif shared.combiner is None:
            self._close_copy(shared)
        else:
            shared.refs -= 1
            shared.version += 1
        shared.to_push = shared.to_push or flags is PUSH
        out = self._answer_waiting(shared)
        if shared.to_push and not shared.busy:
            out += self._push(shared, now, final=False)
        self.on_end()
        return out

    def _close_view(self, shared: SharedObject) -> None:
        written = self._types.encode(shared.view) != shared.view_bytes
        shared.view = None
        if written:
            self.on_end()
            raise TransactionError(
                f"shared object {shared.key!r}: what PULL gave was written to; write under get_shared(key, LOCAL)"
            )

    def _close_copy(self, shared: SharedObject) -> None:
        shared.refs -= 1
        if shared.refs or self._types.encode(shared.own) == shared.view_bytes:
            return
        shared.own = self._types.decode(self._types.kind_of(shared.own), shared.view_bytes)
        self.on_end()
        raise TransactionError(f"shared object {shared.key!r}: the copy that LOCAL gave was written to; {ONE_VALUE}")

    # -- sequences -------------------------------------------------------------------------------------------

    def _pull(self, shared: SharedObject, now: float, deadline: float) -> Waiting:
        key, until = shared.key, now + deadline
        what = f"get_shared({key!r}, PULL)"
        if shared.combiner is None:
            raise SharedError(key, f"PULL needs a combiner, and it was created without one: {ONE_VALUE}")
        now = yield from self._until_idle(shared, now, what)
        # What is shown must outlive this replica. So its part is given to the orchestrator, which keeps it before it
        # answers; what is added here meanwhile it may never hear of, and the next pull shows it.
        request, own = self._next_request(), self._part(shared)
        element = own if own.version else None
        pull = _Pending(SharedPull(request=request, key=key, deadline=HUB_SHARE * (until - now), element=element), now)
        self._pulls[request] = pull
        try:
            now = yield Await([ToOrchestrator(pull.message)], lambda: request not in self._pulls, what)
        finally:
            self._pulls.pop(request, None)
        if pull.missing:
            raise Timeout(f"{what}: replicas {', '.join(map(str, pull.missing))} did not answer", deadline)
        if pull.too_large:
            problem = f"its parts have {pull.too_large} bytes together, more than an answer to PULL holds"
            raise SharedError(key, f"{problem}: keep less in it, or make several objects of it")
        yield from self._until_idle(shared, now, what)
        shared.view = self.combine(shared, own, pull.others)
        shared.view_bytes = self._types.encode(shared.view)
        return shared.view

    def _until_idle(self, shared: SharedObject, now: float, what: str) -> Waiting:
        """Wait for this replica's own transactions; the time then."""
        while shared.busy:
            if not self.concurrent:
                raise TransactionError(f"{what} inside a transaction on it: combiners run between them")
            now = yield Await([], lambda: not shared.busy, what)
        return now

    def write(self, key: str, now: float) -> Waiting:
        """The sequence of ``put_shared(key, SYNCH)``: `Synch.write`. :raises SharedMissing:"""
        return self.synch.write(self.find(key), now)

    def drop(self, key: str) -> None:
        """Close a SYNCH transaction without writing. :raises SharedMissing: :raises TransactionError: none is open."""
        self.synch.drop(self.find(key))

    def drop_all(self) -> None:
        """The middlebox failed: what it had locked is freed unwritten, since it may never come back to it."""
        for key in self.locks.held():
            logger.warning("shared object %r: freed, unwritten: the middlebox failed while it had the lock", key)
            self.drop(key)

    # -- combining -------------------------------------------------------------------------------------------

    def combine(self, shared: SharedObject, own: SharedElement, others: Iterable[SharedElement]) -> Any:
        """The value over this replica's element and the others'. :raises SharedError:"""
        if shared.combiner is None:
            raise SharedError(shared.key, "has no combiner")
        # Copies, so that a combiner that adds into its first argument changes nobody's element.
        elements = (own, *sorted(others, key=lambda each: each.origin))
        combined = shared.combiner([self._types.decode(each.kind, each.value) for each in elements])
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
                pull = self._pulls.get(request)
                if pull is not None and pull.message.key == key:  # else a repeat, perhaps of former times
                    del self._pulls[request]
                    self._absorb(pull, message)
            case SharedFold():
                return self._fold(message)
            case SharedPushed(request=request):
                self._pushes = {k: p for k, p in self._pushes.items() if p.message.request != request}
            case _:
                return self.locks.handle(message, now)
        return []

    def next_due(self) -> float | None:
        """When `poll` has something to do."""
        if self.synch.given_up:
            return 0.0
        dues = [each.sent_at + RETRY for each in (*self._pushes.values(), *self._pulls.values())]
        if (due := self.locks.next_due()) is not None:
            dues.append(due)
        return min(dues, default=None)

    def poll(self, now: float) -> list[Instruction]:
        """Repeat requests that nobody has answered, and renew locks that are held."""
        out, self.synch.given_up = self.synch.given_up, []
        for each in (*self._pushes.values(), *self._pulls.values()):
            if now >= each.sent_at + RETRY:
                each.sent_at = now
                out.append(ToOrchestrator(each.message))
        return out + self.locks.poll(now)

    def finish(self, now: float) -> list[Instruction]:
        """The replica ends: combine once more, push every element that was ever written, and free every lock."""
        out = self.locks.abandon_all()
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
            if len(shared.waiting) > COLLECTS_MOST:
                del shared.waiting[next(iter(shared.waiting))]
            return []
        element = self._element(shared)
        return [ToOrchestrator(SharedCollected(request=request, key=key, element=element, known=True))]

    def _answer_waiting(self, shared: SharedObject) -> list[Instruction]:
        if shared.refs or not shared.waiting:
            return []
        requests = list(shared.waiting)
        shared.waiting.clear()
        return [step for request in requests for step in self._collect(request, shared.key)]

    def _absorb(self, pull: _Pending, answer: SharedPulled) -> None:
        """All others' elements are in the answer: an origin that is not has gone into another one (`ENDED`)."""
        pull.missing, pull.too_large = answer.missing, answer.too_large
        pull.others = tuple(each for each in answer.elements if each.origin != self.origin)
        shared = self._objects.get(answer.key)
        if shared is not None and not answer.too_large:
            shared.others = pull.others

    def _fold(self, message: SharedFold) -> list[Instruction]:
        """Combine what ended replicas have left; this replica's own element has no part in it."""
        request, key = message.request, message.key
        shared = self._objects.get(key)
        if shared is not None and shared.busy:
            return []
        nothing: list[Instruction] = [ToOrchestrator(SharedFolded(request=request, key=key))]
        if shared is None or shared.combiner is None:
            return nothing
        try:
            combined = shared.combiner([self._types.decode(each.kind, each.value) for each in message.elements])
            kind, value = self._types.kind_of(combined), self._types.encode(combined)
        except Exception:  # the middlebox's own code
            logger.exception("shared object %r: the parts of ended replicas cannot be combined", key)
            return nothing
        if any(each.kind != kind for each in message.elements):  # it would be no part of a later combination
            logger.error("shared object %r: the combiner makes a %s of parts that are something else", key, kind)
            return nothing
        return [ToOrchestrator(SharedFolded(request=request, key=key, kind=kind, value=value))]

    def _element(self, shared: SharedObject) -> SharedElement | None:
        """This replica's element; None if it was never written and takes the place of nothing."""
        return self._part(shared) if shared.version else None

    def _part(self, shared: SharedObject) -> SharedElement:
        """The same, with version 0 if it was never written."""
        kind = self._types.kind_of(shared.own)
        value = self._types.encode(shared.own)
        return SharedElement(origin=self.origin, version=shared.version, kind=kind, value=value)

    def _push(self, shared: SharedObject, now: float, *, final: bool) -> list[Instruction]:
        shared.to_push = False
        if shared.combiner is not None and not shared.refs:
            self.combine(shared, self._part(shared), shared.others)
        element = self._element(shared)
        if element is None:
            return []
        message = SharedPush(request=self._next_request(), key=shared.key, element=element, final=final)
        self._pushes[shared.key] = _Pending(message, now)
        return [ToOrchestrator(message)]

    def _next_request(self) -> int:
        self._requests += 1
        return self._requests
