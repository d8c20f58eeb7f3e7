"""The demo's account of its moves."""

from __future__ import annotations

from middleboxes.ids import Statistics
from splitmerge.demo.result import Evidence, settle, suspended
from traffic.http_client import ClientReport
from traffic.summary import Latency
from traffic.udp_report import SideReport, account


def test_a_move_that_an_orchestrator_left_and_another_ended_counts_though_nobody_timed_it() -> None:
    """Else a demo whose orchestrator is killed, which is a thing to try, would end in a traceback."""
    moves = [{"suspended_ms": 2.0}, {"suspended_ms": None}, {"suspended_ms": 0.0}]
    silent = SideReport(
        role="", seconds=1.0, sent=0, received=0, kernel_drops=0, send_errors=0, malformed=0, rtt_ms=Latency(),
        latency_ms=Latency(), longest_gap_ms=0.0, flows=[],
    )  # fmt: skip
    result = settle(
        Evidence(
            target="embedded",
            http=ClientReport(
                requests=0, responses=0, errors=0, injections_sent=0, threshold=1, alerts_expected=0, seconds=1.0,
                latency_ms=Latency(), flows=[],
            ),
            udp=account(silent, silent),
            alerts=(), statistics=Statistics(), suspended=suspended(moves), undone=(), moves_wanted=3, flows_moved=0,
            added=0, removed=0, died=0, seconds=1.0,
        )
    )  # fmt: skip
    assert (result.migrations, result.problems) == (3, ())
    assert (result.suspend_ms.p50, result.suspend_ms.max) == (0.0, 2.0)
