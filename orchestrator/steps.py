"""The steps of a move and the table of transitions between them.

Everything that decides *which step follows* is in this file; what is done on entering a step is in
`orchestrator.migration`. The diagram in ``docs/migration.md`` is drawn from `TRANSITIONS`.

A row that leads to its own step means "stay": nothing is begun again (a retry has its own timer).
A pair that has no row is a bug and raises.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class Step(enum.Enum):
    """Where a move is. Values are written to the journal."""

    PLANNED = "planned"
    """Accepted and journalled; nothing was done yet."""
    SUSPENDING = "suspending"
    """The network is buffering the packets of the scope."""
    DRAINING = "draining"
    """A marker follows the last packets to the source."""
    EXPORTING = "exporting"
    """The source freezes the flows and stages their state at the target."""
    COMMITTING = "committing"
    """Decided: the target owns the flows. It adopts what is staged and holds direct packets."""
    RESUMING = "resuming"
    """Decided; the network points to the target and delivers the buffered packets in order."""
    RELEASING = "releasing"
    """The target works; the source drops its frozen copies and keeps tombstones."""
    DONE = "done"
    """The flows live at the target."""
    CLEARING = "clearing"
    """Off, but the source may have packets in its queue: a marker follows them, before it holds what comes later."""
    THAWING = "thawing"
    """Off: the source makes the flows active again and holds their direct packets."""
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
    CANCEL = "cancelled"
    OK = "network did it"
    FAILED = "network failed"
    ANSWERED = "answered"
    PINNED = "answered, flows in use"
    REFUSED = "refused"
    DEADLINE = "deadline"
    SOURCE_GONE = "source gone"
    TARGET_GONE = "target gone"
    BOTH_GONE = "both gone"
    RECOVER = "orchestrator restarted"


_S, _T = Step, Trigger

TRANSITIONS: Mapping[Step, Mapping[Trigger, Step]] = {
    _S.PLANNED: {
        _T.BEGIN: _S.SUSPENDING,
        _T.NEW: _S.COMMITTING,
        _T.CANCEL: _S.UNDONE,
        _T.SOURCE_GONE: _S.PLANNED,
        _T.TARGET_GONE: _S.UNDONE,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.UNDONE,
    },
    _S.SUSPENDING: {
        _T.OK: _S.DRAINING,
        _T.FAILED: _S.CLEARING,
        _T.CANCEL: _S.CLEARING,
        _T.SOURCE_GONE: _S.COMMITTING,
        _T.TARGET_GONE: _S.CLEARING,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.THAWING,
    },
    _S.DRAINING: {
        _T.OK: _S.EXPORTING,
        _T.FAILED: _S.CLEARING,
        _T.CANCEL: _S.CLEARING,
        _T.SOURCE_GONE: _S.COMMITTING,
        _T.TARGET_GONE: _S.CLEARING,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.THAWING,
    },
    _S.EXPORTING: {
        _T.ANSWERED: _S.COMMITTING,
        _T.PINNED: _S.THAWING,
        _T.REFUSED: _S.THAWING,
        _T.DEADLINE: _S.THAWING,
        _T.CANCEL: _S.THAWING,
        _T.SOURCE_GONE: _S.COMMITTING,
        _T.TARGET_GONE: _S.THAWING,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.THAWING,
    },
    _S.COMMITTING: {
        _T.ANSWERED: _S.RESUMING,
        _T.REFUSED: _S.THAWING,
        _T.SOURCE_GONE: _S.COMMITTING,
        _T.TARGET_GONE: _S.THAWING,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.COMMITTING,
    },
    _S.RESUMING: {
        _T.OK: _S.RELEASING,
        _T.FAILED: _S.RESUMING,
        _T.SOURCE_GONE: _S.DONE,
        _T.TARGET_GONE: _S.RELEASING,
        _T.BOTH_GONE: _S.DONE,
        _T.RECOVER: _S.COMMITTING,
    },
    _S.RELEASING: {
        _T.ANSWERED: _S.DONE,
        _T.REFUSED: _S.DONE,
        _T.SOURCE_GONE: _S.DONE,
        _T.TARGET_GONE: _S.RELEASING,
        _T.BOTH_GONE: _S.DONE,
        _T.RECOVER: _S.RELEASING,
    },
    _S.CLEARING: {
        _T.OK: _S.THAWING,
        _T.FAILED: _S.CLEARING,
        _T.SOURCE_GONE: _S.DISCARDING,
        _T.TARGET_GONE: _S.THAWING,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.THAWING,
    },
    _S.THAWING: {
        _T.ANSWERED: _S.RESTORING,
        _T.REFUSED: _S.RESTORING,
        _T.SOURCE_GONE: _S.DISCARDING,
        _T.TARGET_GONE: _S.THAWING,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.THAWING,
    },
    _S.RESTORING: {
        _T.OK: _S.DISCARDING,
        _T.FAILED: _S.RESTORING,
        _T.SOURCE_GONE: _S.DISCARDING,
        _T.TARGET_GONE: _S.UNDONE,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.THAWING,
    },
    _S.DISCARDING: {
        _T.ANSWERED: _S.UNDONE,
        _T.REFUSED: _S.UNDONE,
        _T.DEADLINE: _S.UNDONE,
        _T.SOURCE_GONE: _S.DISCARDING,
        _T.TARGET_GONE: _S.UNDONE,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.DISCARDING,
    },
    _S.DONE: {},
    _S.UNDONE: {},
}
"""step → trigger → next step. See the module's text for what a row to itself means."""

TERMINAL = frozenset(step for step, rows in TRANSITIONS.items() if not rows)
DECIDED = frozenset({_S.COMMITTING, _S.RESUMING, _S.RELEASING, _S.DONE})
"""Steps in which the target is the owner: a crash here ends in DONE, one elsewhere in UNDONE."""
NETWORK = frozenset({_S.SUSPENDING, _S.DRAINING, _S.CLEARING, _S.RESUMING, _S.RESTORING})
"""Steps that wait for the network; the others that are not terminal wait for a replica's answer (or for BEGIN)."""
SUSPENDED = frozenset(_S) - TERMINAL - {_S.PLANNED, _S.RELEASING, _S.DISCARDING}
"""Steps in which the network may hold packets of the scope back."""


def diagram() -> str:
    """The table as a Mermaid state diagram: one arrow a pair of steps, its triggers in the table's order.

    Rows that stay are left out, but for retries.
    """
    lines = ["stateDiagram-v2", f"    [*] --> {Step.PLANNED.name}"]
    for step, rows in TRANSITIONS.items():
        arrows: dict[Step, list[str]] = {}
        for trigger, following in rows.items():
            if step is not following or trigger is Trigger.FAILED:
                arrows.setdefault(following, []).append(trigger.value)
        lines += [f"    {step.name} --> {following.name}: {' / '.join(why)}" for following, why in arrows.items()]
    lines += [f"    {step.name} --> [*]" for step in Step if step in TERMINAL]
    return "\n".join(lines) + "\n"
