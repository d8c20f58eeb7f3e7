"""One move, without I/O: `Move` and its vocabulary.

Beside it: the steps and the ways that a move can take (`steps`), the tables that say which follows which (`paths`), the
pages' drawing of those (`diagram`, a command), and what of a scope can move without flows in use (`apart`). What is
decided about a move belongs here, what carries it out to `orchestrator.moves`. Imports `orchestrator.errors` and the
messages, nothing else of the orchestrator, nor any clock or socket.
"""

from orchestrator.migration.events import (
    Abandon,
    Accepted,
    Answer,
    Begin,
    BufferFull,
    Cancel,
    Doubt,
    Drain,
    Event,
    Instruction,
    InUse,
    NetworkDone,
    NetworkFailed,
    Record,
    Recover,
    Redirect,
    Replan,
    ReplicaBack,
    ReplicaLost,
    Reserve,
    Resume,
    Send,
    Suspend,
    Tick,
)
from orchestrator.migration.figures import Figures
from orchestrator.migration.move import HISTORY, Move
from orchestrator.migration.plan import NOBODY, Buffer, Guarantee, Options, Plan, Times, WhenFull
from orchestrator.migration.reasons import joined, unanswered, were_in_use

__all__ = [
    "HISTORY",
    "NOBODY",
    "Abandon",
    "Accepted",
    "Answer",
    "Begin",
    "Buffer",
    "BufferFull",
    "Cancel",
    "Doubt",
    "Drain",
    "Event",
    "Figures",
    "Guarantee",
    "InUse",
    "Instruction",
    "Move",
    "NetworkDone",
    "NetworkFailed",
    "Options",
    "Plan",
    "Record",
    "Recover",
    "Redirect",
    "Replan",
    "ReplicaBack",
    "ReplicaLost",
    "Reserve",
    "Resume",
    "Send",
    "Suspend",
    "Tick",
    "Times",
    "WhenFull",
    "joined",
    "unanswered",
    "were_in_use",
]
