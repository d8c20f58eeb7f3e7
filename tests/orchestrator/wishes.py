"""Flows in transactions that do not end, and moves of them: what the tests of wishes share."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.moves.running import Running
from splitmerge.flowkey import FlowKey
from tests.orchestrator.lab import FLOWS, Lab, State

A, B, C = FLOWS[0], *[key for key in FLOWS if key.bucket != FLOWS[0].bucket][:2]
assert len({key.bucket for key in (A, B, C)}) == 3
OTHERS = [FlowKey.of(17, bytes((10, 0, 1, 2)), port, bytes((10, 0, 2, 2)), 9) for port in range(4000, 60000)]
NEAR = next(key for key in OTHERS if key.bucket == A.bucket)
"""Another flow of A's bucket."""
SOON = {"references": 0.05}
NOTHING = "nothing of it was replica 1's any more when its turn came"


def make(lab: Lab, replica: int, key: FlowKey, group: str = "") -> None:
    lab.agent.peers[replica].guest.create_flow(key, State(1), group=group)


def use(lab: Lab, key: FlowKey) -> None:
    """A transaction on the flow begins and does not end."""
    lab.agent.peers[lab.holders(key)[0]].guest.get_flow(key)


def give_back(lab: Lab, key: FlowKey) -> None:
    """It ends."""
    lab.agent.peers[lab.holders(key)[0]].guest.put_flow(key)


async def use_late(lab: Lab, key: FlowKey) -> None:
    """A transaction on the flow begins when its move has begun."""
    await lab.until(lambda: "redirect" in lab.tables.calls)
    use(lab, key)
    lab.tables.go_on()


def impatient(lab: Lab) -> None:
    """Who does not answer Relate is given up, or asked again, soon."""
    scaler = lab.orchestrator.scaler
    scaler.turns = replace(scaler.turns, deadline=0.1)
    scaler.sequel = replace(scaler.sequel, turns=scaler.turns, deadline=0.1)


async def moved(lab: Lab, **body: object) -> list[tuple[str, str]]:
    moves = (await lab.post("/moves", {"target": 2, **SOON, **body}))["moves"]
    return [(move["step"], move["reason"]) for move in moves]


async def waiting(lab: Lab, *, after: int = 1) -> Running:
    """A move that waits for flows in use, when so many have been planned before it."""
    await lab.until(lambda: [each for each in lab.orchestrator.mover._running.values() if "in use" in each.move.reason])
    (running,) = lab.orchestrator.mover._running.values()
    assert len(lab.orchestrator.mover.reports._reports) == after
    return running


def where(lab: Lab, *keys: FlowKey) -> list[list[int]]:
    return [lab.holders(key) for key in keys]
