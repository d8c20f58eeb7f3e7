"""Coherent state (§3.1 of the paper): parts that are pushed and pulled, values under a lock."""

from __future__ import annotations

import msgspec

from splitmerge.messages.base import Message

ENDED = "ended"
"""Origin of what ended replicas have written, combined into one element."""


class SharedElement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One replica's contribution to a coherent object. A higher version replaces a lower one of the same origin."""

    origin: str
    """Incarnation that wrote it; `ENDED`: combined from those of replicas that have ended."""
    version: int
    kind: str
    value: bytes
    """msgpack of the type registered as ``kind``."""


class SharedPush(Message, frozen=True, kw_only=True):
    """Replica to orchestrator: my contribution to ``key`` as of now. ``final``: this replica is about to end."""

    request: int
    key: str
    element: SharedElement
    final: bool = False


class SharedPushed(Message, frozen=True, kw_only=True):
    request: int


class SharedPull(Message, frozen=True, kw_only=True):
    """Replica to orchestrator: everybody's newest contribution to ``key``, please, within ``deadline`` seconds.

    ``element`` is mine, None if I have none: it is kept before the answer, for what I show with it must outlive me.
    """

    request: int
    key: str
    deadline: float = 2.0
    element: SharedElement | None = None


class SharedCollect(Message, frozen=True, kw_only=True):
    """Orchestrator to the other replicas: send me your contribution, once no transaction is open on it."""

    request: int
    key: str


class SharedCollected(Message, frozen=True, kw_only=True):
    """Replica to orchestrator. ``element`` is None if this replica has none."""

    request: int
    key: str
    element: SharedElement | None = None
    known: bool = False
    """It has such an object, though perhaps nothing in it yet."""


class SharedPulled(Message, frozen=True, kw_only=True):
    """Orchestrator to the replica that pulled: one element per origin, its own included."""

    request: int
    key: str
    elements: tuple[SharedElement, ...]
    missing: tuple[int, ...] = ()
    """Replicas that did not answer within the deadline: their elements may be old."""
    too_large: int = 0
    """Bytes that the elements have, if that is more than an answer holds: then none are here."""


class SharedFold(Message, frozen=True, kw_only=True):
    """Orchestrator to a replica: combine these elements, of replicas that have ended. It changes nothing at yours."""

    request: int
    key: str
    elements: tuple[SharedElement, ...]


class SharedFolded(Message, frozen=True, kw_only=True):
    """Replica to orchestrator: what the combiner made of them; empty if I have no such object, or it failed.

    Not answered while a transaction is open on the object: ask again.
    """

    request: int
    key: str
    kind: str = ""
    value: bytes = b""


class SharedLock(Message, frozen=True, kw_only=True):
    """Replica to lock service: the lock of ``key``, please. Numbers of a replica's requests grow."""

    request: int
    key: str


class SharedLocked(Message, frozen=True, kw_only=True):
    """Lock service to replica: it is yours for ``lease`` seconds, and longer if you renew it.

    ``token`` is larger than any before for this key: what comes with an older one is refused from now on.
    """

    request: int
    key: str
    token: int
    lease: float
    value: SharedElement | None = None
    """What was written last; its version is the token that it was written with. None if nothing was."""


class SharedLockRefused(Message, frozen=True, kw_only=True):
    """Lock service to replica: this request will not be granted."""

    request: int
    key: str
    reason: str


class SharedRenew(Message, frozen=True, kw_only=True):
    """Replica to lock service: I still hold the lock. Answered only if that is not so (`SharedLost`)."""

    key: str
    token: int


class SharedWrite(Message, frozen=True, kw_only=True):
    """Replica to lock service: write this (its version is my token) and free the lock, if it is still mine."""

    key: str
    element: SharedElement


class SharedWritten(Message, frozen=True, kw_only=True):
    """Lock service to replica: what you wrote with this token is the newest value, or was."""

    key: str
    token: int


class SharedLost(Message, frozen=True, kw_only=True):
    """Lock service to replica: this token holds the lock no more; nothing was written with it."""

    key: str
    token: int


class SharedAbandon(Message, frozen=True, kw_only=True):
    """Replica to lock service: the lock that I asked for by this request is not wanted (any more). Not answered."""

    request: int
    key: str
