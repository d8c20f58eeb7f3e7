"""The steps of a move, why it goes from one to the next, and the ways it can take.

Which step follows which is in `orchestrator.migration.paths`, one table a way; what is done on entering a step is in
`orchestrator.migration`.
"""

from __future__ import annotations

import enum


class Path(enum.Enum):
    """The way a move takes: chosen by its guarantee and buffer (`orchestrator.migration.Plan.path`)."""

    CPU = "cpu"
    """The scope is suspended; the controller keeps its packets (§4.2 of the paper)."""
    REPLICA = "replica"
    """The switch points to the target at once, which keeps the packets (footnote 1)."""
    FORWARD = "forward"
    """Nothing is kept in the network: the source passes late packets on (guarantee no-buffer)."""
    NONE = "none"
    """Late packets are dropped and counted."""


class Step(enum.Enum):
    """Where a move is. Values are written to the journal."""

    PLANNED = "planned"
    """Accepted and journalled; nothing was done yet."""
    RESERVING = "reserving"
    """The flows named get entries of their own, to the source: after the decision there must be room for them."""
    PREPARING = "preparing"
    """The target is told to keep what comes for the scope."""
    REDIRECTING = "redirecting"
    """The network points to the target, which keeps the packets."""
    SUSPENDING = "suspending"
    """The network is buffering the packets of the scope."""
    DRAINING = "draining"
    """A marker follows the last packets to the source."""
    EXPORTING = "exporting"
    """The source freezes the flows and stages their state at the target."""
    COMMITTING = "committing"
    """Decided: the target owns the flows. It adopts what is staged."""
    RESUMING = "resuming"
    """Decided; the network points to the target and delivers the buffered packets in order."""
    FORWARDING = "forwarding"
    """Decided; the source is told to pass on what it kept, and what still comes."""
    SWITCHING = "switching"
    """Decided; the network points to the target."""
    SETTLING = "settling"
    """Decided; a marker follows the last packets to the source, so that it has passed on, or counted, them all."""
    RELEASING = "releasing"
    """The target works; the source drops its frozen copies and keeps tombstones."""
    DONE = "done"
    """The flows live at the target."""
    RECALLING = "recalling"
    """Off: the network buffers the packets of the scope, so that none goes to either replica any more."""
    CLEARING = "clearing"
    """Off, but the source may have packets in its queue: a marker follows them, before it holds what comes later."""
    THAWING = "thawing"
    """Off: the source makes the flows active again."""
    GATHERING = "gathering"
    """Off: a marker follows the last packets to the target: it keeps all that it was sent."""
    RETURNING = "returning"
    """Off: the target gives the source what it kept, and the source processes it."""
    SEALING = "sealing"
    """Off: the source takes nothing more of what the target gave back, and says what it has taken."""
    RESTORING = "restoring"
    """Off; the network points to the source and delivers the buffered packets in order."""
    DISCARDING = "discarding"
    """Off; the source works; the target forgets what was staged."""
    UNDONE = "undone"
    """The flows live where they lived."""


class Trigger(enum.Enum):
    """Why a move goes on. Each event of `orchestrator.migration` becomes one trigger."""

    BEGIN = "begin"
    NEW = "begin, flows that nobody has"
    NAMED = "begin, flows named"
    CANCEL = "cancelled"
    OK = "network did it"
    EXPORTED = "network did it, flows exported already"
    FAILED = "network failed"
    FULL = "no room in the switch"
    ANSWERED = "answered"
    FENCED = "answered, scope suspended"
    ALONE = "answered, other replica gone"
    TURNED = "answered, switch may point to the target"
    PINNED = "answered, flows in use"
    REFUSED = "refused"
    DEADLINE = "deadline"
    SOURCE_GONE = "source gone"
    TARGET_GONE = "target gone"
    BOTH_GONE = "both gone"
    RECOVER = "orchestrator restarted"


_S = Step
TERMINAL = frozenset({_S.DONE, _S.UNDONE})
DECIDED = frozenset({
    _S.COMMITTING, _S.RESUMING, _S.FORWARDING, _S.SWITCHING, _S.SETTLING, _S.RELEASING, _S.DONE,
})  # fmt: skip
"""Steps in which the target is the owner: a crash here ends in DONE, one elsewhere in UNDONE."""
NETWORK = frozenset({
    _S.RESERVING, _S.REDIRECTING, _S.SUSPENDING, _S.DRAINING, _S.RESUMING, _S.SWITCHING, _S.SETTLING, _S.RECALLING,
    _S.CLEARING, _S.GATHERING, _S.RESTORING,
})  # fmt: skip
"""Steps that wait for the network; the others that are not terminal wait for a replica's answer (or for BEGIN)."""
BEHIND = frozenset({_S.DRAINING, _S.RESUMING})
"""Of those, steps that the network begins before they are journalled, since somebody's packets wait: a new process does
from the step before each what it would do from that one (but that a move whose target has died too turns, as from any
COMMITTING)."""
POINTED = frozenset({_S.SETTLING, _S.RELEASING})
"""Steps in which the switch points to the target and nothing is held back: a new process leaves it so."""
RESERVED = frozenset({_S.COMMITTING, _S.FORWARDING, _S.SWITCHING})
"""Decided steps in which, without a buffer, the switch may still point to the source, and has entries to be pointed."""
