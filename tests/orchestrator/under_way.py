"""What is on its way between the parts of `tests.orchestrator.world`: a network's steps, and messages."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator import migration as core
from splitmerge import messages as m


@dataclass
class Operation:
    """A step of the network under way."""

    epoch: int
    instruction: core.Reserve | core.Suspend | core.Redirect | core.Drain | core.Resume
    begun: bool = False
    turned: bool = False
    """Of a Resume: the switch points to the target, direct packets flow; what is buffered follows later."""
    awaited: int = 0


@dataclass
class Wire:
    """The control network: messages that have not arrived. ``to`` 0 is the orchestrator."""

    flying: list[tuple[int, int, m.Message]] = field(default_factory=list)

    def send(self, sender: int, to: int, message: m.Message) -> None:
        self.flying.append((sender, to, message))

    def of(self, *, carried: bool) -> list[int]:
        """Where those stand that carry packets from replica to replica, and their answers; or all the others."""
        kinds = (m.Carry, m.Carried)
        return [index for index, (*_, message) in enumerate(self.flying) if isinstance(message, kinds) is carried]
