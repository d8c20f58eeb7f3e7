"""What packets notice: one-way latency of a flow that moves, of flows that do not, and of all when nothing moves."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.migration.bed import Bed, Mode
from splitmerge.demo.commands import TrafficCommand
from traffic.udp_report import SideReport, account

SECONDS = 6.0
FLOWS, RATE = 10, 100.0
"""Flows, and datagrams a second on each, in both directions."""
PAUSE = 0.1
"""Seconds between two moves of the one flow."""
_SERVER, _PORT = "10.0.2.2", 9000


def measure(bed: Bed, mode: Mode | None) -> dict[str, Any]:
    """``mode`` None: nothing is moved. Milliseconds; flows 2 to 10 are never moved."""
    earlier = _flows(bed)
    server = TrafficCommand(bed.record, "server", "udp", "server", "--bind", _SERVER, "--port", str(_PORT))
    client = None
    try:
        server.wait_ready()
        words = ("--server", _SERVER, "--port", str(_PORT), "--flows", str(FLOWS), "--rate", str(RATE))
        client = TrafficCommand(bed.record, "client", "udp", "client", *words)
        client.wait_ready()
        time.sleep(0.5)
        chosen = min(_flows(bed) - earlier)
        moves = _move(bed, mode, chosen)
        client.ask_to_stop()
        ours = client.report(SideReport)
        server.ask_to_stop()
        theirs = server.report(SideReport)
    finally:
        for command in filter(None, (client, server)):
            command.kill()
    settled = account(ours, theirs)
    sides = [flow for side in (ours, theirs) for flow in side.flows]
    moved = [flow for flow in sides if flow.flow == chosen]
    others = [flow for flow in sides if flow.flow != chosen]
    return {
        "mode": None if mode is None else mode.name,
        "moves": moves,
        "moved": _worst(moved),
        "others": _worst(others),
        "lost": settled.lost,
        "duplicated": settled.duplicated,
        "reordered": settled.reordered,
        "sent": settled.sent,
    }


def _flows(bed: Bed) -> set[str]:
    """The traffic's flows that a replica knows; those of an earlier measurement are there until they idle out."""
    return {each["flow"] for each in bed.client.get("/flows", limit=100_000) if f":{_PORT}" in each["flow"]}


def _move(bed: Bed, mode: Mode | None, chosen: str) -> int:
    """Move the flow to and fro for `SECONDS`; how often."""
    first, second = (int(each["replica"]) for each in bed.live())
    moves, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        if mode is not None:
            source, target = (first, second) if moves % 2 == 0 else (second, first)
            bed.move({"keys": [chosen]}, source, target, mode)
            moves += 1
        time.sleep(PAUSE)
    if moves % 2 and mode is not None:
        bed.move({"keys": [chosen]}, second, first, mode)
    return moves


def _worst(flows: list[Any]) -> dict[str, float]:
    """Over these flows at both sides: median of medians, the median and the largest of what each saw at worst."""
    medians = sorted(flow.latency_ms.p50 for flow in flows)
    p99 = sorted(flow.latency_ms.p99 for flow in flows)
    worst = sorted(flow.latency_ms.max for flow in flows)
    return {
        "p50": round(medians[len(medians) // 2], 3),
        "p99": round(p99[len(p99) // 2], 3),
        "max_typical": round(worst[len(worst) // 2], 3),
        "max": round(worst[-1], 3),
    }
