"""Moves under way, as the loop that runs them keeps them; and whether those that were asked for together are late."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from orchestrator import migration as core
from orchestrator.moves.reports import Report
from splitmerge.alarm import Alarm


class Late:
    """Whether moves that were asked for together take too long: an event that `asyncio.wait` takes without a task."""

    def __init__(self) -> None:
        self.told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done as soon as they do."""
        self.moves: list[Running] = []
        """Those that were asked for, and what has followed from them so far."""

    def watch(self, running: Running) -> None:
        """One more of them, which is told of if it is late."""
        running.late = self
        self.moves.append(running)

    def set(self) -> None:
        """They do."""
        if not self.told.done():
            self.told.set_result(None)

    def is_set(self) -> bool:
        """Whether they do."""
        return self.told.done()


@dataclass(slots=True)
class Running:
    """A move under way."""

    move: core.Move
    ended: asyncio.Future[Report]
    alarm: Alarm
    """One for all of its steps: each has a deadline of its own, which nearly always is over before."""
    recovered: bool = False
    """Read back from the journal, and not taken up yet."""
    full: bool = False
    """It has been told that there is little room left for its packets; replicas go on saying so."""
    resumed: bool = False
    """It is about to be taken up."""
    orphaned: bool = False
    """As `Recover.orphaned`."""
    operation: asyncio.Task[None] | None = None
    abandoned: bool = False
    late: Late = field(default_factory=Late)
    """Set when it takes too long (`Times.late`, `Times.stuck`), a switch that is away, say: nobody need wait for it."""
    watch: asyncio.TimerHandle | None = None
    late_at: float = 0.0
    """When it does, in the loop's clock; ``watch`` may be due earlier, and is then set anew."""
    report: Report | None = None
    """Its figures, once it is over."""
    deadline: float | None = None
    """Seconds from ``asked`` until it is to be decided; None: it has none, or an earlier process planned it. Then it is
    late when it has been in one step for `Times.stuck`."""
    asked: float = 0.0
    """When it was asked for, or that which it is a part of, in the loop's clock."""
    gathers: bool = False
    """It is done, and flows of its groups at other replicas are being looked for: moves for them may follow."""
    off: bool = False
    """What was to follow from it is called off, after its own end."""
