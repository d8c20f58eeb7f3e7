"""What a move did, in figures."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.migration.steps import Step
from splitmerge import messages as m

_ENDS = (Step.RELEASING, Step.DISCARDING, Step.DONE, Step.UNDONE)
_BY_NETWORK = ((Step.SUSPENDING, Step.REDIRECTING), _ENDS)
_AT_SOURCE = ((Step.EXPORTING,), (Step.SWITCHING, *_ENDS))
"""Steps of which the first that was entered begins, and ends, the time for which packets wait."""


@dataclass(slots=True)
class Figures:
    """What a move did, for reports."""

    staged: int = 0
    """Flows whose state was staged at the target."""
    relayed: int = 0
    """Packets that the controller kept and delivered."""
    held: int = 0
    """Packets that the target kept until the state was there."""
    held_seconds: float = 0.0
    """How long the first of them waited."""
    peak: int = 0
    """Packets that waited at once, at the controller or at the target, at most."""
    carried: int = 0
    """Packets that one replica passed on to the other."""
    dropped: int = 0
    """Packets that there was no room for, or that the guarantee says nothing about."""
    returned: m.Returned | None = None
    """What the target says that it gave back: `Sealed` says what of that the source has taken."""
    unroomed: dict[int, int] = field(default_factory=dict)
    """Of those, what replicas told after their answers: by the epoch of the hold, times 65,536, plus the replica."""
    entered: dict[Step, float] = field(default_factory=dict)
    """When each step was last entered, in the shell's clock."""
    at_source: bool = False
    """Packets wait at the source: from when it is asked to freeze the flows until it passes on what came."""
    since_unknown: bool = False
    """Packets were held back already when this process took the move up from an earlier one."""

    @property
    def suspended(self) -> float | None:
        """Seconds for which packets were held back, by network, target or source; 0 while they still are, or never.

        None if nobody knows: an earlier process had begun.
        """
        if self.since_unknown:
            return None
        begins, ends = _AT_SOURCE if self.at_source else _BY_NETWORK
        begun = next((self.entered[step] for step in begins if step in self.entered), None)
        ended = next((self.entered[step] for step in ends if step in self.entered), None)
        return 0.0 if begun is None or ended is None else max(0.0, ended - begun)

    def count(self, message: m.Message) -> None:
        """Add up what an answer tells."""
        if isinstance(message, m.Returned):
            self.returned = message
            return
        if isinstance(message, m.Sealed):
            sent, lost = (0, 0) if self.returned is None else (self.returned.carried, self.returned.dropped)
            self.dropped += lost + max(0, sent - message.taken)
            self.carried += message.taken
            return
        self.dropped += getattr(message, "dropped", 0)
        self.carried += getattr(message, "carried", 0)
        if isinstance(message, m.Committed):
            self.held += message.held
            self.peak = max(self.peak, message.held)
            self.held_seconds = max(self.held_seconds, message.held_seconds)
