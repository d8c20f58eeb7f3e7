"""Errors of the orchestrator.

SplitmergeError
└── OrchestratorError
    ├── InvalidTransition   a move met an event that its table has no row for; carries the move's story (our bug)
    ├── JournalError        the journal cannot be read or written, or is not ours
    │   └── NumbersUsedUp   it is as good as before, but has no number left to give out
    ├── MoveRefused         a move that was asked for cannot be begun; names the place and the remedy
    │   └── AlreadyThere    the target owns all of it
    ├── NoSuchMove          a number that no move has
    ├── NoSuchReplica       a replica id that does not live
    ├── ScalingFailed       a replica could not be added or removed
    │   ├── ReplicaEnded    it ended, unasked, before it was of use
    │   └── SlotsLeaving    no slot is free yet: replicas that have them are being ended
    └── AgentFailed         the VMM agent refused, or is not there
"""

from __future__ import annotations

from collections.abc import Sequence

from splitmerge.errors import PlacedError


class OrchestratorError(PlacedError):
    """Base of the orchestrator's errors. ``where`` names the place, ``remedy`` says what to do."""


class InvalidTransition(OrchestratorError):
    """The transition table has no row for this step and trigger. ``story`` is the move's history, oldest first."""

    def __init__(self, epoch: int, step: str, trigger: str, story: Sequence[str]) -> None:
        self.epoch = epoch
        self.story = tuple(story)
        told = "; ".join(story[-8:])
        super().__init__(f"move {epoch}", f"{trigger} in step {step} is not in the table; lately: {told}")


class JournalError(OrchestratorError):
    """The journal is corrupt, of another program or version, or cannot be written."""


class NumbersUsedUp(JournalError):
    """Nothing was written: every number that there is has been given out. Another process would find none either."""


class MoveRefused(OrchestratorError):
    """Nothing was done: the move cannot be begun."""


class AlreadyThere(MoveRefused):
    """The target owns all of it, as far as the switch's tables say."""


class NoSuchMove(OrchestratorError):
    """No move, under way or ended, has this number."""

    def __init__(self, epoch: int) -> None:
        super().__init__("moves", f"there is no move {epoch}", "see `splitmerge moves`, or GET /moves")


class NoSuchObject(OrchestratorError):
    """No replica has a coherent object of this key, nor has one that ended left it."""

    def __init__(self, key: str) -> None:
        super().__init__("shared", f"there is no object {key!r}", "name one that a middlebox has created")


class NoSuchReplica(OrchestratorError):
    """No living replica has this id."""

    def __init__(self, replica: int, living: Sequence[int]) -> None:
        self.replica = replica
        alive = ", ".join(map(str, living)) or "none"
        super().__init__(f"replica {replica}", "does not live", f"living replicas: {alive}")


class ScalingFailed(OrchestratorError):
    """A replica could not be added or removed; what could be undone was."""


class ReplicaEnded(ScalingFailed):
    """A replica was made, and ended by itself before it was of use: the next one may well do the same."""


class SlotsLeaving(ScalingFailed):
    """Nothing was tried: every slot is somebody's, but some will be free by themselves."""


class AgentFailed(OrchestratorError):
    """The VMM agent answered with an error, or did not answer."""
