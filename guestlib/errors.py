"""Errors of the guest library.

SplitmergeError
└── GuestError
    ├── FlowError            about one flow; ``key`` says which
    │   ├── FlowMissing      there is no such flow: create it
    │   ├── FlowExists       create_flow of a flow that is here
    │   └── FlowMigrated     the flow lives elsewhere, or is on its way there: drop the packet
    ├── TransactionError     put without get, or what may not happen inside a transaction
    ├── StateError           a state type that is not registered, or bytes that are not of that type
    ├── SharedError          about one coherent object; ``key`` says which
    │   ├── SharedMissing
    │   ├── SharedExists
    │   ├── SynchUnavailable the lock service refuses a lock
    │   └── LockLost         somebody else has got the lock meanwhile: nothing was written
    └── MiddleboxError       a middlebox that cannot be loaded, or is none (also `BadInput`)
"""

from __future__ import annotations

from splitmerge.errors import BadInput, SplitmergeError
from splitmerge.flowkey import FlowKey


class GuestError(SplitmergeError):
    """Base of every error of this package."""


class FlowError(GuestError):
    """About one flow. ``key`` is its key as it was given."""

    problem = "flow error"

    def __init__(self, key: bytes) -> None:
        # Not formatted here: a FlowMissing is raised for every new flow, and nearly always caught at once.
        self.key = key
        super().__init__(key)

    def __str__(self) -> str:
        return f"{show_key(self.key)}: {self.problem}"


class FlowMissing(FlowError):
    """There is no such flow here, and none has moved away."""

    problem = "no such flow here"


class FlowExists(FlowError):
    """`create_flow` of a key that a flow here already has."""

    problem = "a flow with this key is here already"


class FlowMigrated(FlowError):
    """The flow left (or is leaving) in move ``epoch``. The packet should be dropped: the new owner has the flow."""

    problem = "the flow has migrated"

    def __init__(self, key: bytes, epoch: int) -> None:
        self.epoch = epoch
        super().__init__(key)

    def __str__(self) -> str:
        return f"{show_key(self.key)}: migrated in epoch {self.epoch}"


class TransactionError(GuestError):
    """References were not paired, or something was asked for that may not happen inside a transaction."""


class StateError(GuestError):
    """State whose type is not registered, or bytes that are not of the type they claim."""


class SharedError(GuestError):
    """About the coherent object ``key``."""

    def __init__(self, key: str, problem: str) -> None:
        self.key = key
        super().__init__(f"shared object {key!r}: {problem}")


class SharedMissing(SharedError):
    def __init__(self, key: str) -> None:
        super().__init__(key, "not created here")


class SharedExists(SharedError):
    def __init__(self, key: str) -> None:
        super().__init__(key, "created already")


class SynchUnavailable(SharedError):
    """The lock service refuses; ``reason`` is what it says."""

    def __init__(self, key: str, reason: str) -> None:
        self.reason = reason
        super().__init__(key, f"the lock service refuses: {reason}")


class LockLost(SharedError):
    """The lease of ``token`` ran out and somebody else has got the lock. Nothing was written: begin again."""

    def __init__(self, key: str, token: int) -> None:
        self.token = token
        super().__init__(key, f"its lock (token {token}) was lost before the value could be written: nothing changed")


class MiddleboxError(GuestError, BadInput):
    """The middlebox named cannot be loaded, or is no middlebox."""


def show_key(key: bytes) -> str:
    """The key for people; hexadecimal if it is no flow key."""
    try:
        return str(FlowKey.from_wire(bytes(key)))
    except BadInput:
        return bytes(key).hex()
