"""The room for a move's packets at a replica runs out: the move is called off without loss, or drops, and counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from benchmarks.flood import Sides, stopped
from chaos.lab import ChaosLab, chaos_lab
from splitmerge.client import OrchestratorClient
from traffic.udp_report import Account, SideReport, account

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(120)]

ROOM = 2000
"""Packets that may wait at a replica; half of them of one move."""
RATE = 500.0


@pytest.fixture(scope="module")
def small_lab(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosLab]:
    with chaos_lab(tmp_path_factory.mktemp("h"), replica={"hold_packets": ROOM}) as lab:
        lab.tell("/scale-out", {"rebalance": False})
        yield lab


@dataclass(frozen=True)
class Outcome:
    """What became of a flooded flow and its move; ``overflow``: what replicas had no room for meanwhile."""

    move: dict[str, Any]
    flood: Account
    overflow: int


def overflow(lab: ChaosLab) -> int:
    return int(lab.ask("/status")["drops"]["replicas"].get("hold_overflow", 0))


def flooded_move(lab: ChaosLab, port: int, when_full: str, until: Callable[[OrchestratorClient], Any]) -> Outcome:
    """A flow is moved whose source is stopped, so that its packets wait at the target, until there is no room left."""
    before = overflow(lab)
    sides = Sides(lab)
    try:
        echo = sides.echo(port)
        flood = sides.client(port, "--flows", "1", "--rate", str(RATE), "--size", "200", "--deadline", "40")
        ours = f":{port}"
        key = lab.wait("the flow", lambda client: next((flow for flow in lab.owners() if ours in flow), ""))
        (source,) = lab.owners()[key]
        live = lab.live()
        with stopped(lab, live[source]["pid"], "redirecting"):
            target = next(replica for replica in live if replica != source)
            lab.tell("/moves", {"keys": [key], "target": target, "when_full": when_full, "wait": False})
            lab.wait("the room to be used up", until)
        lab.wait_well()
        move = lab.ask("/moves", limit=1)[0]
        flood.ask_to_stop()
        sent = flood.report(SideReport)
        echo.ask_to_stop()
        return Outcome(move, account(sent, echo.report(SideReport)), overflow(lab) - before)
    finally:
        sides.close()


def test_a_move_whose_room_is_nearly_used_up_is_called_off_and_nothing_is_lost(small_lab: ChaosLab) -> None:
    def called_off(client: OrchestratorClient) -> bool:
        return any("nearly used up" in move["reason"] for move in client.get("/status")["moves_running"])

    outcome = flooded_move(small_lab, 9100, "abort", called_off)
    move, flood = outcome.move, outcome.flood
    assert (move["step"], move["dropped"], outcome.overflow) == ("undone", 0, 0), outcome
    assert move["carried"] >= ROOM // 2 * 9 // 10, "what waited was given back"
    assert (flood.lost - flood.kernel_drops, flood.duplicated, flood.reordered) == (0, 0, 0), outcome


def test_a_move_that_may_drop_counts_each_packet_that_had_no_room(small_lab: ChaosLab) -> None:
    before = overflow(small_lab)
    outcome = flooded_move(small_lab, 9110, "drop", lambda client: overflow(small_lab) >= before + 100)
    move, flood = outcome.move, outcome.flood
    assert (move["step"], move["held"]) == ("done", ROOM // 2), outcome
    assert move["dropped"] == outcome.overflow >= 100, outcome
    assert (flood.lost - flood.kernel_drops, flood.duplicated, flood.reordered) == (move["dropped"], 0, 0), outcome
