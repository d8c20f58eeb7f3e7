"""The tables of transitions, one for each way a move can take.

Everything that decides *which step follows* is in this file. The diagrams in ``docs/migration.md`` are drawn from it.

A row that leads to its own step means "stay": nothing is begun again (a retry has its own timer).
A pair that has no row is a bug and raises.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.migration.steps import TERMINAL, Path, Step, Trigger

_S, _T = Step, Trigger

Rows = Mapping[Trigger, Step]
Table = Mapping[Step, Rows]


def _planned(first: Step) -> Rows:
    return {
        _T.BEGIN: first,
        _T.PINNED: _S.UNDONE,
        _T.CANCEL: _S.UNDONE,
        _T.SOURCE_GONE: _S.PLANNED,
        _T.TARGET_GONE: _S.UNDONE,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.UNDONE,
    }


def _fencing(back: Step) -> Rows:
    """The step from which on nothing new goes to the source."""
    return {
        _T.OK: _S.DRAINING,
        _T.FAILED: back,
        _T.CANCEL: back,
        _T.SOURCE_GONE: _S.COMMITTING,
        _T.TARGET_GONE: back,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.THAWING,
    }


def _draining(back: Step, drained: Step) -> Rows:
    """``drained``: the way back of a source that has met the marker."""
    return {
        _T.OK: _S.EXPORTING,
        _T.EXPORTED: _S.COMMITTING,
        _T.PINNED: drained,
        _T.REFUSED: drained,
        _T.FAILED: back,
        _T.CANCEL: back,
        _T.SOURCE_GONE: _S.COMMITTING,
        _T.TARGET_GONE: back,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.THAWING,
    }


def _exporting(back: Step) -> Rows:
    return {
        _T.ANSWERED: _S.COMMITTING,
        _T.PINNED: back,
        _T.REFUSED: back,
        _T.DEADLINE: back,
        _T.CANCEL: back,
        _T.SOURCE_GONE: _S.COMMITTING,
        _T.TARGET_GONE: back,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.THAWING,
    }


def _clearing(orphaned: Step) -> Rows:
    """``orphaned``: where the target begins to take over from a source that died."""
    return {
        _T.OK: _S.THAWING,
        _T.FAILED: _S.CLEARING,
        _T.SOURCE_GONE: orphaned,
        _T.TARGET_GONE: _S.THAWING,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.THAWING,
    }


_RESUMING: Rows = {
    _T.OK: _S.RELEASING,
    _T.FAILED: _S.RESUMING,
    _T.SOURCE_GONE: _S.DONE,
    _T.TARGET_GONE: _S.RELEASING,
    _T.BOTH_GONE: _S.DONE,
    _T.RECOVER: _S.COMMITTING,
}
_RELEASING: Rows = {
    _T.ANSWERED: _S.DONE,
    _T.REFUSED: _S.DONE,
    _T.SOURCE_GONE: _S.DONE,
    _T.TARGET_GONE: _S.RELEASING,
    _T.BOTH_GONE: _S.DONE,
    _T.RECOVER: _S.RELEASING,
}
_RESTORING: Rows = {
    _T.OK: _S.DISCARDING,
    _T.FAILED: _S.RESTORING,
    _T.SOURCE_GONE: _S.DISCARDING,
    _T.TARGET_GONE: _S.UNDONE,
    _T.BOTH_GONE: _S.UNDONE,
    _T.RECOVER: _S.THAWING,
}
_DISCARDING: Rows = {
    _T.ANSWERED: _S.UNDONE,
    _T.REFUSED: _S.UNDONE,
    _T.SOURCE_GONE: _S.DISCARDING,
    _T.TARGET_GONE: _S.UNDONE,
    _T.BOTH_GONE: _S.UNDONE,
    _T.RECOVER: _S.DISCARDING,
}

_CPU: Table = {
    _S.PLANNED: {**_planned(_S.SUSPENDING), _T.NEW: _S.COMMITTING},
    _S.SUSPENDING: _fencing(_S.CLEARING),
    _S.DRAINING: _draining(_S.CLEARING, _S.THAWING),
    _S.EXPORTING: _exporting(_S.THAWING),
    _S.COMMITTING: {
        _T.ANSWERED: _S.RESUMING,
        _T.REFUSED: _S.THAWING,
        _T.SOURCE_GONE: _S.COMMITTING,
        _T.TARGET_GONE: _S.THAWING,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.COMMITTING,
    },
    _S.RESUMING: _RESUMING,
    _S.RELEASING: _RELEASING,
    _S.CLEARING: _clearing(_S.COMMITTING),
    _S.THAWING: {
        _T.ANSWERED: _S.RESTORING,
        _T.REFUSED: _S.RESTORING,
        _T.SOURCE_GONE: _S.COMMITTING,
        _T.TARGET_GONE: _S.THAWING,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.THAWING,
    },
    _S.RESTORING: _RESTORING,
    _S.DISCARDING: _DISCARDING,
    _S.DONE: {},
    _S.UNDONE: {},
}

_REPLICA: Table = {
    _S.PLANNED: _planned(_S.PREPARING),
    _S.PREPARING: {
        _T.ANSWERED: _S.REDIRECTING,
        _T.REFUSED: _S.DISCARDING,
        _T.CANCEL: _S.DISCARDING,
        _T.SOURCE_GONE: _S.PREPARING,
        _T.TARGET_GONE: _S.UNDONE,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.DISCARDING,
    },
    _S.REDIRECTING: _fencing(_S.RECALLING),
    _S.DRAINING: _draining(_S.RECALLING, _S.RECALLING),
    _S.EXPORTING: _exporting(_S.RECALLING),
    _S.COMMITTING: {
        _T.ANSWERED: _S.RELEASING,
        _T.FENCED: _S.RESUMING,
        _T.ALONE: _S.DONE,
        _T.REFUSED: _S.RECALLING,
        _T.SOURCE_GONE: _S.COMMITTING,
        _T.TARGET_GONE: _S.RECALLING,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.COMMITTING,
    },
    _S.RESUMING: _RESUMING,
    _S.RELEASING: _RELEASING,
    _S.RECALLING: {
        _T.OK: _S.CLEARING,
        _T.FAILED: _S.RECALLING,
        _T.SOURCE_GONE: _S.GATHERING,
        _T.TARGET_GONE: _S.CLEARING,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.THAWING,
    },
    _S.CLEARING: _clearing(_S.GATHERING),
    _S.THAWING: {
        _T.ANSWERED: _S.GATHERING,
        _T.ALONE: _S.SEALING,
        _T.REFUSED: _S.GATHERING,
        _T.SOURCE_GONE: _S.GATHERING,
        _T.TARGET_GONE: _S.THAWING,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.THAWING,
    },
    _S.GATHERING: {
        _T.OK: _S.RETURNING,
        _T.FAILED: _S.GATHERING,
        _T.SOURCE_GONE: _S.COMMITTING,
        _T.TARGET_GONE: _S.SEALING,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.THAWING,
    },
    _S.RETURNING: {
        _T.ANSWERED: _S.SEALING,
        _T.REFUSED: _S.SEALING,
        _T.SOURCE_GONE: _S.COMMITTING,
        _T.TARGET_GONE: _S.SEALING,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.THAWING,
    },
    _S.SEALING: {
        _T.ANSWERED: _S.RESTORING,
        _T.REFUSED: _S.RESTORING,
        _T.SOURCE_GONE: _S.COMMITTING,
        _T.TARGET_GONE: _S.SEALING,
        _T.BOTH_GONE: _S.UNDONE,
        _T.RECOVER: _S.THAWING,
    },
    _S.RESTORING: _RESTORING,
    _S.DISCARDING: _DISCARDING,
    _S.DONE: {},
    _S.UNDONE: {},
}


def _unbuffered(after_commit: Step) -> Table:
    """Nothing is kept in the network; no packet is ever held back for the sake of order."""
    return {
        _S.PLANNED: {**_planned(_S.EXPORTING), _T.NAMED: _S.RESERVING},
        _S.RESERVING: {
            _T.OK: _S.EXPORTING,
            _T.FULL: _S.UNDONE,
            _T.FAILED: _S.RESTORING,
            _T.CANCEL: _S.UNDONE,
            _T.SOURCE_GONE: _S.COMMITTING,
            _T.TARGET_GONE: _S.UNDONE,
            _T.BOTH_GONE: _S.UNDONE,
            _T.RECOVER: _S.UNDONE,
        },
        _S.EXPORTING: _exporting(_S.THAWING),
        _S.COMMITTING: {
            _T.ANSWERED: after_commit,
            _T.ALONE: _S.SWITCHING,
            _T.REFUSED: _S.THAWING,
            _T.SOURCE_GONE: _S.COMMITTING,
            _T.TARGET_GONE: _S.THAWING,
            _T.BOTH_GONE: _S.UNDONE,
            _T.RECOVER: _S.COMMITTING,
        },
        _S.SWITCHING: {
            _T.OK: _S.SETTLING,
            _T.FAILED: _S.SWITCHING,
            _T.SOURCE_GONE: _S.DONE,
            _T.TARGET_GONE: _S.THAWING,
            _T.BOTH_GONE: _S.DONE,
            _T.RECOVER: _S.SWITCHING,
        },
        _S.SETTLING: {
            _T.OK: _S.RELEASING,
            _T.FAILED: _S.SETTLING,
            _T.SOURCE_GONE: _S.DONE,
            _T.TARGET_GONE: _S.RELEASING,
            _T.BOTH_GONE: _S.DONE,
            _T.RECOVER: _S.SETTLING,
        },
        _S.RELEASING: _RELEASING,
        _S.THAWING: {
            _T.ANSWERED: _S.DISCARDING,
            _T.ALONE: _S.UNDONE,
            _T.TURNED: _S.RESTORING,
            _T.REFUSED: _S.DISCARDING,
            _T.SOURCE_GONE: _S.COMMITTING,
            _T.TARGET_GONE: _S.THAWING,
            _T.BOTH_GONE: _S.UNDONE,
            _T.RECOVER: _S.THAWING,
        },
        _S.RESTORING: _RESTORING,
        _S.DISCARDING: _DISCARDING,
        _S.DONE: {},
        _S.UNDONE: {},
    }


_FORWARD: Table = {
    **_unbuffered(_S.FORWARDING),
    _S.FORWARDING: {
        _T.ANSWERED: _S.SWITCHING,
        _T.REFUSED: _S.SWITCHING,
        _T.SOURCE_GONE: _S.SWITCHING,
        _T.TARGET_GONE: _S.THAWING,
        _T.BOTH_GONE: _S.DONE,
        _T.RECOVER: _S.FORWARDING,
    },
}

TRANSITIONS: Mapping[Path, Table] = {
    Path.CPU: _CPU,
    Path.REPLICA: _REPLICA,
    Path.FORWARD: _FORWARD,
    Path.NONE: _unbuffered(_S.SWITCHING),
}
"""way → step → trigger → next step. See the module's text for what a row to itself means."""

_HELD_BACK = frozenset({
    _S.DRAINING, _S.EXPORTING, _S.COMMITTING, _S.RESUMING, _S.CLEARING, _S.THAWING, _S.RESTORING,
})  # fmt: skip
SUSPENDED: Mapping[Path, frozenset[Step]] = {
    Path.CPU: _HELD_BACK | {_S.SUSPENDING},
    Path.REPLICA: _HELD_BACK | {_S.REDIRECTING, _S.RECALLING, _S.GATHERING, _S.RETURNING, _S.SEALING},
    Path.FORWARD: frozenset(),
    Path.NONE: frozenset(),
}
"""Steps whose scope a new process suspends first of all: packets may be held back in them, by network or replica."""


def diagram(path: Path) -> str:
    """One table as a Mermaid state diagram: one arrow a pair of steps, its triggers in the table's order.

    Rows that stay are left out, but for retries.
    """
    table = TRANSITIONS[path]
    lines = ["stateDiagram-v2", f"    [*] --> {Step.PLANNED.name}"]
    for step, rows in table.items():
        arrows: dict[Step, list[str]] = {}
        for trigger, following in rows.items():
            if step is not following or trigger is Trigger.FAILED:
                arrows.setdefault(following, []).append(trigger.value)
        lines += [f"    {step.name} --> {following.name}: {' / '.join(why)}" for following, why in arrows.items()]
    lines += [f"    {step.name} --> [*]" for step in Step if step in TERMINAL]
    return "\n".join(lines) + "\n"
