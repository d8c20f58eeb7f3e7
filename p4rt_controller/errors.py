"""Errors of the controller.

SplitmergeError
└── ControllerError
    ├── SwitchUnavailable   the switch is away, restarts, or has another primary: repeat the call later
    ├── WriteRejected       the switch refused table updates: says which, and why
    ├── ScopeConflict       a part of the scope belongs to another move that is under way
    ├── StaleEpoch          this move was finished already
    ├── ReplicaSilent       a replica took no marker or no packet in time, though the switch sent them
    └── UnknownReplica      no replica of that number is registered
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from splitmerge.errors import SplitmergeError, Timeout


class ControllerError(SplitmergeError):
    """Base of every error of the controller."""


class SwitchUnavailable(ControllerError):
    """The switch cannot be programmed now. Every operation is idempotent: call it again after `SwitchReady`."""

    def __init__(self, what: str, reason: str) -> None:
        self.what = what
        self.reason = reason
        super().__init__(f"{what}: {reason}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One table update that the switch refused. ``code`` is the name of a gRPC status code."""

    update: str
    code: str
    message: str
    flow: bytes | None = None
    """The key of the flow whose entry it is, if it is one."""


class WriteRejected(ControllerError):
    """The switch refused some updates for good; the others of the same call were made."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        self.refusals = tuple(refusals)
        first = self.refusals[0]
        more = f" (and {len(self.refusals) - 1} more)" if len(self.refusals) > 1 else ""
        super().__init__(f"the switch refused {first.update}: {first.code} {first.message}{more}")

    @property
    def flows(self) -> frozenset[bytes]:
        """The flows that have not got their entries."""
        return frozenset(refusal.flow for refusal in self.refusals if refusal.flow is not None)

    @property
    def is_table_full(self) -> bool:
        """Whether nothing but room is missing. BMv2 answers UNKNOWN for a full table, others RESOURCE_EXHAUSTED."""
        return all(
            refusal.code == "RESOURCE_EXHAUSTED" or "full" in refusal.message.lower() for refusal in self.refusals
        )


class ScopeConflict(ControllerError):
    """Flows or buckets of this scope belong to another move. ``other`` is that move's epoch."""

    def __init__(self, epoch: int, other: int, what: str) -> None:
        self.epoch = epoch
        self.other = other
        super().__init__(f"move {epoch}: {what} belongs to move {other}, which is under way")


class StaleEpoch(ControllerError):
    """The move of this epoch has been resumed already; nothing may be suspended under its number again."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        super().__init__(f"move {epoch} is finished")


class ReplicaSilent(ControllerError, Timeout):
    """This replica gave no sign on the data plane before the deadline."""

    def __init__(self, replica: int, what: str, seconds: float) -> None:
        self.replica = replica
        Timeout.__init__(self, what, seconds)


class UnknownReplica(ControllerError):
    """No replica of that number is registered."""

    def __init__(self, replica: int) -> None:
        self.replica = replica
        super().__init__(f"replica {replica} is not registered with the controller")
