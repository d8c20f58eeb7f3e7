"""Why a move is as it is, in words."""

from __future__ import annotations

from collections.abc import Iterable

WORTH_SAYING = 0.1
"""Seconds that say something about a replica which lets a move wait: each takes a few milliseconds."""


def joined(reason: str, more: str) -> str:
    """A move's reason, and one that has come to it."""
    return f"{reason}; {more}" if reason else more


def is_gone(replica: int) -> str:
    """One of the move's two replicas has ended."""
    return f"replica {replica} is gone"


def unanswered(replica: int) -> str:
    """The replica was asked, before the move began, what belongs to it."""
    return f"replica {replica} does not say what belongs to it"


def is_behind(replica: int, seconds: float) -> str:
    """It has much to do, and has not come to the marker for so long: the end of a reason, or nothing."""
    if seconds < WORTH_SAYING:
        return ""
    return f": replica {replica} is busy, {seconds:.1f} s behind at least; wait until it has caught up"


def no_owner(flows: int, refusal: str) -> str:
    """The switch had no room for so many flows that nobody had had."""
    return f"{_of_flows(flows, 'has', 'have')} no owner: {refusal}"


def were_in_use(flows: int) -> str:
    """A move has left so many flows, and nobody takes them."""
    return f"{_of_flows(flows, 'was', 'were')} in use, and {'stays' if flows == 1 else 'stay'}"


def lead_elsewhere(keys: int, replicas: Iterable[int]) -> str:
    """So many keys of flows that go along are not known to be the source's alone: they lead to these replicas."""
    what = "1 key that goes along leads" if keys == 1 else f"{keys} keys that go along lead"
    numbers = [str(each) for each in replicas]
    there = f"replica{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
    return f"{what} to {there}, and may have a flow there; try again, or wait longer for it (references)"


def why_stays(used: int, torn: int) -> str:
    """How many flows kept a move from going on, and by what."""
    parts = [f"{_of_flows(used, 'is', 'are')} in use at the source"] if used else []
    parts += [f"{torn} of its flows got another key meanwhile"] if torn else []
    return ", ".join(parts)


def _of_flows(count: int, verb: str, verbs: str) -> str:
    """So many of a move's flows, with the verb in its number."""
    return f"{count} of its flows {verb if count == 1 else verbs}"
