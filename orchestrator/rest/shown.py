"""Moves, replicas, switches as the API shows them: values that become JSON."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from orchestrator.elasticity import FIGURES, Load
from orchestrator.journal import MoveRow
from orchestrator.moves.reports import Report, buffer_of
from orchestrator.replicas.fleet import Replica
from orchestrator.scaling.replacements import Owed
from orchestrator.service import Orchestrator
from p4rt_controller import PacketFigures, SwitchState
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope, SharedElement
from splitmerge.trunks import split_place

MOVE_FIELDS = (
    "epoch", "source", "target", "follows", "step", "reason", "moot", "keys", "buckets", "staged", "stateless",
    "pinned", "unknown", "untaken",
    "guarantee", "buffer", "relayed", "held", "peak_buffer", "carried", "dropped", "suspended_ms", "waited_ms",
    "planned_at", "steps_ms",
)  # fmt: skip
"""Of every move, in this order."""


def move_json(result: Report) -> dict[str, Any]:
    """A move as the API shows it; times in milliseconds."""
    return {
        "epoch": result.epoch,
        "source": result.source,
        "target": result.target,
        "follows": result.follows or None,
        "step": result.step.value,
        "reason": result.why,
        "moot": result.moot,
        "keys": result.keys,
        "buckets": result.buckets,
        "staged": result.staged,
        "stateless": result.stateless,
        "pinned": [str(FlowKey(key)) for key in result.pinned],
        "unknown": {"keys": result.unknown, "flows": [str(FlowKey(key)) for key in result.unknown_keys]}
        if result.unknown
        else None,
        "untaken": {"keys": result.untaken_keys, "buckets": result.untaken_buckets} if result.untaken else None,
        "guarantee": result.guarantee,
        "buffer": result.buffer,
        "relayed": result.relayed,
        "held": result.held,
        "peak_buffer": result.peak,
        "carried": result.carried,
        "dropped": result.dropped,
        "suspended_ms": None if result.suspended is None else round(result.suspended * 1000, 3),
        "waited_ms": round(result.waited * 1000, 3),
        "planned_at": round(result.planned, 3) or None,
        "steps_ms": {step: round(at * 1000, 3) for step, at in result.steps.items()},
    }


def row_json(row: MoveRow) -> dict[str, Any]:
    """A move that only the journal knows, in the shape of the others: what nobody knows any more is None."""
    plan = row.plan
    return dict.fromkeys(MOVE_FIELDS) | {
        "epoch": plan.epoch,
        "source": plan.source,
        "target": plan.target,
        "follows": row.follows or None,
        "step": row.step.value,
        "reason": row.reason,
        "keys": len(plan.scope.keys),
        "buckets": len(plan.scope.buckets),
        "guarantee": plan.options.guarantee,
        "buffer": buffer_of(plan),
        "planned_at": round(row.planned, 3) or None,
    }


def scope_json(scope: Scope) -> dict[str, Any]:
    """What a move takes: flows, also those that came along with their buckets, and buckets."""
    return {"keys": [str(FlowKey(key)) for key in scope.keys], "buckets": list(scope.buckets)}


def controller_json(figures: PacketFigures | None) -> dict[str, Any]:
    """Packets that came to the controller, and what waits there; empty before it runs."""
    return {} if figures is None else {"packets": figures.passed, "waiting": figures.waiting}


def switch_json(state: SwitchState) -> dict[str, Any]:
    """One switch, as `GET /status` has it."""
    return {
        "ready": state.ready,
        "address": state.address,
        "connections": state.connections,
        "restarts": state.restarts,
        "last_error": state.last_error,
    }


def replacements_json(orchestrator: Orchestrator) -> dict[str, Any]:
    """Replicas in place of dead ones: made, owed, given up."""
    core = orchestrator.replacements

    def rows(of: list[Owed]) -> list[dict[str, Any]]:
        return [
            {name: getattr(each, name) for name in ("replica", "kind", "failures", "ended", "reason")} for each in of
        ]

    return {
        "enabled": orchestrator.config.replacement.enabled,
        "made": core.made,
        "failed": core.tries_failed,
        "owed": rows(core.owed),
        "given_up": rows(core.given_up),
        "on_trial": rows(core.on_trial(asyncio.get_running_loop().time())),
    }


def replica_json(orchestrator: Orchestrator, replica: Replica) -> dict[str, Any]:
    """One replica, as `GET /replicas` has it."""
    stats = replica.stats
    position, port = split_place(replica.port)
    return {
        "replica": replica.number,
        "slot": replica.slot,
        "switch": list(orchestrator.config.all_switches())[position],
        "port": port,
        "state": replica.state.value,
        "connected": replica.session is not None,
        "pid": replica.pid,
        "address": replica.address,
        "buckets": len(orchestrator.placement.buckets_of(replica.number)),
        "flows": replica.flows,
        "packets": stats.packets if stats else 0,
        "bytes": stats.bytes if stats else 0,
        "cpu_seconds": stats.cpu_seconds if stats else 0.0,
        "load": load_json(replica.load),
        "held": stats.held if stats else 0,
        "drops": dict(stats.drops) if stats else {},
        "custom": dict(stats.custom) if stats else {},
    }


def load_json(load: Load) -> dict[str, float]:
    """By figure, rounded."""
    return {figure: round(load.of(figure), 3) or 0.0 for figure in FIGURES}  # what rounds to -0.0 is no less than none


def element_json(element: SharedElement) -> dict[str, Any]:
    """One replica's contribution to a coherent object."""
    value = msgspec.to_builtins(msgspec.msgpack.decode(element.value), str_keys=True)
    return {"origin": element.origin, "version": element.version, "kind": element.kind, "value": value}
