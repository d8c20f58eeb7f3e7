"""Is an outcome as it should be? What may be lost, and how the move may end, depends on who died, and when."""

from __future__ import annotations

import msgspec

from chaos.cells import RESERVING, SHARED, Cell
from chaos.strike import Outcome, sent_in, sent_within
from orchestrator.migration.steps import DECIDED, Step

KILLS = {"source": 1, "target": 1, "agent": 1, "apart": 1}
"""Replicas that a strike must have ended, at least: an agent takes along those that it had, one or two."""
ROUGHLY, AT_LEAST = 1.25, 64
"""The traffic is not that even: it sends what it is late with at once, and a flow's longest silence may have others
beside it."""
DONE, UNDONE = frozenset({"done"}), frozenset({"undone"})
EITHER = DONE | UNDONE
_RACES = {
    # The switch comes back in about the time that the target's answer, or the source's, takes.
    ("switch", "planned"), ("switch", "preparing"), ("switch", "exporting"),
    ("link", "planned"), ("link", "preparing"), ("link", "exporting"),
    # The marker has gone already: its echo may be here before the switch is away.
    ("switch", "draining"), ("link", "draining"),
    # Switch and source may do what they are told before the target's death is known.
    ("target", "forwarding"), ("target", "switching"),
    # The target has begun to give packets back: it goes on until the source's death is known, and may be done with it.
    ("source", "gathering"), ("source", "returning"),
    # The source has been asked what it took: it may answer before its death is known.
    ("source", "sealing"),
}  # fmt: skip
_UNTIL_RETURNED = frozenset({"recalling", "clearing", "thawing"})
"""Steps of the way back in which the source's death makes the target the owner: what it held is its own."""


def ends(cell: Cell, outcome: Outcome) -> frozenset[str]:
    """How the move may end, struck then: as decided, if it was; else as who is left can.

    Two replicas that die at once are noticed in either order, and one that goes on for some milliseconds after its
    agent may decide the move.
    """
    step, component = cell.step, cell.component
    if step in EITHER:
        return frozenset({step})
    decided = Step(step) in DECIDED
    if step == RESERVING and component in ("switch", "far", "link"):
        return UNDONE  # no entry, or nobody knows whether there is one: it is not decided
    if component in ("switch", "far", "link") and step in cell.kind.forward and not cell.kind.buffers:
        return DONE  # the switch is needed only when all is decided, and waited for
    if outcome.passed or (component, step) in _RACES:
        return EITHER
    if component == "far" and not decided and step in cell.kind.forward:
        return EITHER  # another switch may be all that the step needs
    match component:
        case "agent" | "apart" if decided and step not in ("committing", "forwarding", "switching"):
            return DONE
        case "agent" if step in cell.kind.back and outcome.died > 1:
            return UNDONE
        case "agent" | "apart":
            return EITHER
        case "source":
            return DONE if step in cell.kind.forward or step in _UNTIL_RETURNED else UNDONE
        case "target" if step == "committing":
            return UNDONE
        case "control":
            return DONE if step in cell.kind.forward else UNDONE
        case _:
            return DONE if decided else UNDONE


def may_lose(cell: Cell, outcome: Outcome) -> str:
    """What the dead process can have held; empty if nothing may be lost. Passed: nobody died."""
    if outcome.passed:
        return ""
    kind, step = cell.kind, cell.step
    match cell.component:
        case "orchestrator" if step in kind.buffers:
            return "what was in its buffer, and what was suspended while it was away"
        case "link" if step in kind.buffers:
            return "what was suspended, and sent to the controller while it could not be reached"
        case "switch" | "far":
            return "what was in its queues, and what came while it was away"
        case "source" if step in kind.source_has:
            return "what it held, and what was sent to it until its end was known"
        case "target" if step in kind.target_has or outcome.elsewhere:
            return "what it held, and what was sent to it until its end was known"
        case "agent" | "apart":
            return "what the replicas held, and what was sent to them until others were there"
        case _:
            return ""


def judge(cell: Cell, outcome: Outcome) -> Outcome:
    """The outcome with its faults. Where the step was passed nothing was struck, so nothing may be amiss at all."""
    if outcome.problem:
        return msgspec.structs.replace(outcome, faults=(outcome.problem,))
    note, why = "", cell.kind.passes.get(cell.step)
    ran_out = not outcome.passed and outcome.expired > 0 and cell.component in SHARED
    if outcome.reordered and ran_out:
        note = f"{outcome.reordered} reordered: a hold ran out"
    elif outcome.passed and why is not None:
        note = f"the step was passed: {why}"
    faults = _losses(cell, outcome)
    wrong = ("duplicated", "reordered", "owned_twice", "owned_by_none", "misplaced", "torn", "suspended", "waiting")
    fine = {"reordered"} if ran_out or not cell.kind.ordered else set()
    found = {name: getattr(outcome, name) for name in wrong if name not in fine}
    faults.extend(f"{number} {name.replace('_', ' ')}" for name, number in found.items() if number)
    faults.extend(_deaths(cell, outcome))
    if outcome.passed and why is None:
        faults.append(f"the move did not enter the step, and ended in {outcome.end}")
    if outcome.broken:
        faults.append(f"{outcome.broken} TCP connections broke")
    if outcome.state_lost:
        faults.append(f"state of {outcome.state_lost} requests lost")
    if outcome.end not in (possible := ends(cell, outcome)):
        faults.append(f"the move ended in {outcome.end}, and not in {' or '.join(sorted(possible))}")
    return msgspec.structs.replace(outcome, note=note, faults=tuple(faults))


def _losses(cell: Cell, outcome: Outcome) -> list[str]:
    """Guarantee none gives packets up, and the source counts them: what it counted is lost besides."""
    faults: list[str] = []
    gives_up = cell.kind.guarantee == "none"
    counted = sum(n for reason, n in outcome.drops.items() if reason.startswith("replicas ")) if gives_up else 0
    said = ", ".join(f"{count} {reason}" for reason, count in outcome.drops.items()) or "not counted"
    if outcome.lost > counted and not may_lose(cell, outcome):
        faults.append(f"{outcome.lost} packets lost, and nobody who died can have held them ({said})")
    most = min(sent_within(outcome.seconds), round(ROUGHLY * sent_in(outcome.silence)) + AT_LEAST)
    if outcome.lost > most + counted:
        faults.append(f"{outcome.lost} packets lost, and only {most} came until everything was well ({said})")
    if outcome.lost < 0 or not outcome.sent:
        faults.append("the ledger makes no sense")
    return faults


def _deaths(cell: Cell, outcome: Outcome) -> list[str]:
    kills = 0 if outcome.passed else KILLS.get(cell.component, 0)
    if outcome.died < kills:
        return ["a replica died and that is not reported"]
    return [f"{outcome.died} replicas are said to have died"] if outcome.died and not kills else []
