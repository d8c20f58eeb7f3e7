"""What an operator should know and do something about, in words: a line each, in `GET /status`."""

from __future__ import annotations

import time
from collections.abc import Iterator

from orchestrator.replicas import health
from orchestrator.replicas.fleet import ReplicaState
from orchestrator.replicas.noticed import WINDOW
from orchestrator.service import Orchestrator


def problems(orchestrator: Orchestrator, now: float) -> list[str]:
    """Empty if all is well; ``now`` by the event loop's clock, in seconds."""
    return list(_all(orchestrator, now))


def _all(o: Orchestrator, now: float) -> Iterator[str]:
    yield from o.replacements.problems(now)
    if not o.ready.is_set():
        yield f"the orchestrator is starting: {awaited(o)}"
    elif not o.fleet.live() and not o.replacements.owed:
        yield "no replica lives: nobody takes packets; `splitmerge scale-out` adds one"
    if o.ready.is_set() and not o.fleet.agents.connected:
        yield "no VMM agent is connected: no replica can be made or ended; see its log"
    for name, state in o.switches().items():
        if not state.ready:
            why = f": {state.last_error}" if state.last_error else ""
            yield f"switch {name} at {state.address} is away{why}; see its log"
    for replica in health.silent(o.fleet, now):
        yield f"replica {replica} has said nothing for {health.SILENT:g} s: busy, or it hangs; see the agent's log"
    for each in o.fleet.working():
        failed, packets = each.recent.failed(now)
        if failed and 2 * failed >= packets:
            told = f"{failed:,} of {packets:,} in the last {WINDOW:g} s"
            yield f"the middlebox of replica {each.number} fails on packets: {told}; see the agent's log"
    yield from o.deaths.told(time.time())
    yield from o.failures.told(time.time())
    if o.started:
        yield from o.assigner.no_room.told(now)
    if o.started and o.autoscaler.problem:
        yield o.autoscaler.problem


def awaited(o: Orchestrator) -> str:
    """What an orchestrator that is not ready waits for."""
    if not o.started:
        return "it opens its control network"
    if not o.fleet.agents.connected:
        return "no VMM agent has connected yet"
    away = [each for each in o.fleet.working() if not each.heard.is_set()]
    if away:
        return f"replica {', '.join(str(each.number) for each in away)} of before has not connected again yet"
    coming = [each for each in o.fleet.replicas.values() if each.state is ReplicaState.STARTING]
    if coming:
        return f"replica {', '.join(str(each.number) for each in coming)} is being made"
    if o.replacements.owed:
        return f"{o.replacements.owed[0].what} is to be made"
    return "flows of ended replicas are given to others"
