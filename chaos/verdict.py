"""Is an outcome as it should be? What may be lost depends on who died, and on what it can have held."""

from __future__ import annotations

import msgspec

from chaos.cells import SHARED, Cell
from chaos.strike import Outcome, sent_within

KILLS = {"source": 1, "target": 1, "agent": 1}
"""Replicas that a strike must have ended, at least: an agent takes along those that it had, one or two."""


def may_lose(cell: Cell, *, struck: bool = True) -> str:
    """What the dead process can have held; empty if nothing may be lost. Not ``struck``: nobody died."""
    if cell.kind.guarantee == "none":
        return "late packets, which this guarantee gives up"
    if not struck:
        return ""
    match cell.component:
        case "orchestrator" if cell.step in cell.kind.buffers:
            return "what was in its buffer, and what was suspended while it was away"
        case "switch" | "far":
            return "what was in its queues, and what came while it was away"
        case "source" | "target" | "agent":
            return "what the replicas held, and what was sent to them until their end was known"
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
    wrong = {name: getattr(outcome, name) for name in ("duplicated", "reordered", "owned_twice", "suspended")}
    if ran_out or not cell.kind.ordered:
        del wrong["reordered"]
    faults.extend(f"{number} {name.replace('_', ' ')}" for name, number in wrong.items() if number)
    faults.extend(_deaths(cell, outcome))
    if outcome.passed and why is None:
        faults.append(f"the move did not enter the step, and ended in {outcome.end}")
    if outcome.broken:
        faults.append(f"{outcome.broken} TCP connections broke")
    if outcome.state_lost:
        faults.append(f"state of {outcome.state_lost} requests lost")
    if outcome.end not in ("done", "undone"):
        faults.append(f"the move ended in {outcome.end}")
    return msgspec.structs.replace(outcome, note=note, faults=tuple(faults))


def _losses(cell: Cell, outcome: Outcome) -> list[str]:
    faults: list[str] = []
    if outcome.lost > 0 and not may_lose(cell, struck=not outcome.passed):
        said = ", ".join(f"{count} {reason}" for reason, count in outcome.drops.items())
        faults.append(f"{outcome.lost} packets lost, and nobody who died can have held them ({said or 'not counted'})")
    most = sent_within(outcome.seconds)
    if outcome.lost > most:
        faults.append(f"{outcome.lost} packets lost, and only {most} came until everything was well")
    if outcome.lost < 0 or not outcome.sent:
        faults.append("the ledger makes no sense")
    return faults


def _deaths(cell: Cell, outcome: Outcome) -> list[str]:
    kills = 0 if outcome.passed else KILLS.get(cell.component, 0)
    if outcome.died < kills:
        return ["a replica died and that is not reported"]
    return [f"{outcome.died} replicas are said to have died"] if outcome.died and not kills else []
