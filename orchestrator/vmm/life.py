"""The life of a replica as its agent sees it: a table; what is not in it cannot happen."""

from __future__ import annotations

import enum

from orchestrator.errors import OrchestratorError


class State(enum.StrEnum):
    """Where a replica is in its life."""

    ASKED = "asked"
    """Nobody has heard of it before."""
    MAKING = "making"
    """It is forked, or restored from the snapshot."""
    DOOMED = "doomed"
    """Being made, and to be ended as soon as it is."""
    LIVING = "living"
    ENDING = "ending"
    """Told to end; its deadline runs."""
    KILLING = "killing"
    """Did not end in time: ended by force, again every second."""
    GONE = "gone"
    """Has ended; its number is never used again."""
    FAILED = "failed"
    """Could not be made, nothing is left of it: may be asked for again."""


class Event(enum.StrEnum):
    """What happens to it."""

    CREATE = "CreateReplica"
    DESTROY = "DestroyReplica"
    MADE = "made"
    FAILED = "could not be made"
    DEADLINE = "deadline"
    ENDED = "ended"


class Action(enum.StrEnum):
    """What the agent does about it."""

    NONE = "-"
    MAKE = "make it"
    END = "ask it to end"
    KILL = "end it by force"
    SAY_CREATED = "say ReplicaCreated"
    SAY_GONE = "say ReplicaGone"
    SAY_ERROR = "say AgentError"


TABLE: dict[tuple[State, Event], tuple[State, Action]] = {
    (State.ASKED, Event.CREATE): (State.MAKING, Action.MAKE),
    (State.ASKED, Event.DESTROY): (State.ASKED, Action.SAY_GONE),
    (State.MAKING, Event.CREATE): (State.MAKING, Action.NONE),
    (State.MAKING, Event.MADE): (State.LIVING, Action.SAY_CREATED),
    (State.MAKING, Event.FAILED): (State.FAILED, Action.SAY_ERROR),
    (State.MAKING, Event.DESTROY): (State.DOOMED, Action.NONE),
    (State.DOOMED, Event.CREATE): (State.DOOMED, Action.SAY_ERROR),
    (State.DOOMED, Event.DESTROY): (State.DOOMED, Action.NONE),
    (State.DOOMED, Event.DEADLINE): (State.DOOMED, Action.NONE),
    (State.DOOMED, Event.MADE): (State.ENDING, Action.END),
    (State.DOOMED, Event.FAILED): (State.GONE, Action.SAY_GONE),
    (State.LIVING, Event.CREATE): (State.LIVING, Action.SAY_CREATED),
    (State.LIVING, Event.DESTROY): (State.ENDING, Action.END),
    (State.LIVING, Event.ENDED): (State.GONE, Action.SAY_GONE),
    (State.ENDING, Event.CREATE): (State.ENDING, Action.SAY_ERROR),
    (State.ENDING, Event.DESTROY): (State.ENDING, Action.NONE),
    (State.ENDING, Event.DEADLINE): (State.KILLING, Action.KILL),
    (State.ENDING, Event.ENDED): (State.GONE, Action.SAY_GONE),
    (State.KILLING, Event.CREATE): (State.KILLING, Action.SAY_ERROR),
    (State.KILLING, Event.DESTROY): (State.KILLING, Action.NONE),
    (State.KILLING, Event.DEADLINE): (State.KILLING, Action.KILL),
    (State.KILLING, Event.ENDED): (State.GONE, Action.SAY_GONE),
    (State.GONE, Event.CREATE): (State.GONE, Action.SAY_ERROR),
    (State.GONE, Event.DESTROY): (State.GONE, Action.SAY_GONE),
}


class ImpossibleEvent(OrchestratorError):
    """The table has no row for this state and event (our bug, or a backend's)."""

    def __init__(self, replica: int, state: State, event: Event) -> None:
        super().__init__(f"replica {replica}", f"{event} while {state} is not in the table")


def step(replica: int, state: State, event: Event) -> tuple[State, Action]:
    """The next state and what to do. :raises ImpossibleEvent: for a pair that is not in the table."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise ImpossibleEvent(replica, state, event) from None


def diagram() -> str:
    """The table as a Mermaid state diagram; events that change nothing and do nothing are left out."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.ASKED}"]
    for (state, event), (after, action) in TABLE.items():
        if state is after and action is Action.NONE:
            continue
        done = "" if action is Action.NONE else f" / {action}"
        lines.append(f"    {state} --> {after}: {event}{done}")
    lines += [f"    {State.FAILED} --> [*]", f"    {State.GONE} --> [*]"]
    return "\n".join(lines) + "\n"
