"""The orchestrator is killed in every step of a move, while TCP and UDP flow through the move.

After each kill a new process with the same journal completes or undoes the move; every flow has one owner; no state is
lost, so that in the end the IDS has counted every injection. Lost are at most packets that the dead process held: TCP
sends them again, and none is duplicated or reordered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from splitmerge.client import OrchestratorClient
from splitmerge.errors import BadInput, PeerError
from splitmerge.flowkey import BUCKETS, FlowKey
from tests.integration.labs import SERVER, TestLab
from traffic.http_client import ClientReport
from traffic.udp_report import SideReport, account

STEPS = {
    "cpu": ("planned", "suspending", "draining", "exporting", "committing", "resuming", "releasing", "done"),
    "replica": ("preparing", "redirecting", "exporting", "committing"),
}
"""Buffer → steps; those of the way by the target's buffer that the other way has too are left to `chaos`."""
PASSED_OVER = "exporting"
"""A source that answers before the echo of its marker arrives saves its move this step, whoever buffers."""
ATTEMPTS = 10
PATIENCE = "120"
"""Seconds for an answer: a request that several deaths in a row meet waits ever longer to be sent again (RFC 6298)."""
DECIDED = ("committing", "resuming", "releasing", "done")
"""From the first of them on a move is completed, before it undone."""

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def split_lab(killing_lab: TestLab) -> Iterator[TestLab]:
    """Two replicas, each with half of the buckets."""
    with killing_lab.client() as client:
        client.post("/scale-out", {})
    yield killing_lab


def crash_once(lab: TestLab, step: str, body: dict[str, object]) -> bool:
    """Ask for a move in whose ``step`` the orchestrator dies, and wait until another one has put things right.

    Where the one that came after the last death does not take requests yet, they are asked for again. False if the move
    ended without that step, as it may (`PASSED_OVER`): nobody died.
    """
    lab.kill_at(step)
    answers: list[str] = []

    def asked(client: OrchestratorClient) -> bool:
        try:
            answers.append(repr(client.post("/migrate", body)))
        except PeerError as error:  # it died, or takes none yet
            answers.append(str(error))
            return lab.killed
        except BadInput as error:
            answers.append(str(error))
        return True

    lab.wait(f"a move in {step}", asked)
    killed = lab.killed
    lab.spare()
    assert killed or step == PASSED_OVER, f"no move came to {step}: {answers}"
    lab.wait_quiet()
    return killed


def crash(lab: TestLab, step: str, body: dict[str, object], put_back: Callable[[], None]) -> None:
    """`crash_once`, asked for again as often as a move passes the step over; ``put_back`` undoes what that one did."""
    for _ in range(ATTEMPTS):
        if crash_once(lab, step, body):
            return
        put_back()
    pytest.fail(f"no move of {ATTEMPTS} took the step {step}")


def udp_flows(lab: TestLab) -> list[FlowKey]:
    return sorted(FlowKey.parse(flow) for flow in lab.owners() if flow.startswith("udp"))


def halves(flows: list[FlowKey]) -> list[int]:
    """Half of the buckets, with the first two of these four flows and not the others, whatever ports they have."""
    here, there = ([flow.bucket for flow in pair] for pair in (flows[:2], flows[2:]))
    rest = [bucket for bucket in range(BUCKETS) if bucket not in (*here, *there)]
    return list(dict.fromkeys([*here, *rest]))[: BUCKETS // 2]


def share(lab: TestLab, source: int, target: int, half: list[int]) -> None:
    """The target has these buckets, and the source the others."""
    with lab.client() as client:
        moves = client.post("/migrate", {"all": True, "source": target, "target": source})["moves"]
        moves += client.post("/migrate", {"buckets": half, "target": target})["moves"]
    assert all(move["step"] == "done" for move in moves), moves


def test_every_step(split_lab: TestLab) -> None:
    lab = split_lab
    with ExitStack() as stack:

        def start(namespace: str, module: str, *arguments: str):
            command = lab.command(namespace, module, *arguments)
            stack.callback(command.kill)
            return command

        web = start("server", "http_server", "--bind", SERVER, "--port", "80")
        echo = start("server", "udp", "server", "--bind", SERVER)
        http = start(
            "client", "http_client", "--server", SERVER, "--connections", "4", "--rate", "8", "--attackers", "2",
            "--attack-within", "20", "--timeout", PATIENCE,
        )  # fmt: skip
        udp = start("client", "udp", "client", "--server", SERVER, "--flows", "4", "--rate", "20")
        lab.wait("flows", lambda client: len(udp_flows(lab)) == 4)
        half = halves(udp_flows(lab))
        source, target = lab.live()[:2]
        share(lab, source, target, half)
        outcomes = {}
        for buffer, step in [(buffer, step) for buffer, steps in STEPS.items() for step in steps]:
            body = {"all": True, "source": source, "target": target, "buffer": buffer}
            crash(lab, step, body, lambda: share(lab, source, target, half))
            with lab.client() as client:
                newest = client.get("/moves", limit=1)[0]
            outcomes[buffer, step] = newest["step"]
            assert newest["step"] in ("done", "undone")
            assert all(len(replicas) == 1 for replicas in lab.owners().values())
            assert lab.live()[:2] == [source, target]
            share(lab, source, target, half)  # and back, undisturbed
        http.ask_to_stop()
        udp.ask_to_stop()
        report, client_side = http.report(ClientReport), udp.report(SideReport)
        echo.ask_to_stop()
        web.ask_to_stop()
        ledger = account(client_side, echo.report(SideReport))
    assert outcomes == {each: "done" if each[1] in DECIDED else "undone" for each in outcomes}
    assert report.errors == 0 and report.responses == report.requests > 0
    statistics = lab.statistics()
    assert (statistics.requests, statistics.injections) == (report.requests, report.injections_sent)
    assert sorted(alert.flow for alert in lab.alerts()) == sorted(
        flow.flow for flow in report.flows if flow.injections > 30
    )
    assert (ledger.duplicated, ledger.reordered) == (0, 0)
    assert ledger.lost < ledger.sent / 4, "flows were interrupted far longer than a restart takes"
