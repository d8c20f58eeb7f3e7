"""Why a move is as it is, in words."""

from __future__ import annotations


def joined(reason: str, more: str) -> str:
    """A move's reason, and one that has come to it."""
    return f"{reason}; {more}" if reason else more


def no_owner(flows: int, refusal: str) -> str:
    """The switch had no room for so many flows that nobody had had."""
    return f"{_of_flows(flows, 'has', 'have')} no owner: {refusal}"


def why_stays(used: int, torn: int) -> str:
    """How many flows kept a move from going on, and by what."""
    parts = [f"{_of_flows(used, 'is', 'are')} in use at the source"] if used else []
    parts += [f"{torn} of its flows got another key meanwhile"] if torn else []
    return ", ".join(parts)


def _of_flows(count: int, verb: str, verbs: str) -> str:
    """So many of a move's flows, with the verb in its number."""
    return f"{count} of its flows {verb if count == 1 else verbs}"
