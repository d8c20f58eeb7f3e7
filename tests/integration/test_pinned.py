"""One flow is in use for long: the others of its move are held no longer than without it, and it is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from splitmerge.flowkey import FlowKey
from tests.integration.labs import SERVER, TestLab, build_lab, troubled, whole
from tests.integration.pinning import PIN, PINNED
from traffic.udp_report import Account, SideReport, account

pytestmark = [pytest.mark.integ, pytest.mark.timeout(120), pytest.mark.usefixtures("namespaces")]

FLOWS = 12
REFERENCES = 3.0
"""Seconds for which the flow in use is waited for."""
HELD = 1500.0
"""Milliseconds. Without such a flow a move holds packets back for about ten; on a machine that is busy, for more."""

Scope = Callable[[list[str]], dict[str, Any]]
SCOPES: list[Scope] = [
    lambda flows: {"keys": flows},
    lambda flows: {"buckets": sorted(set(map(bucket_of, flows)))},
    lambda flows: {"all": True},
]


@contextmanager
def traffic(lab: TestLab) -> Iterator[Callable[[], tuple[SideReport, Account]]]:
    """Datagrams of all flows in both directions; what is yielded ends them, and says what became of each."""
    with ExitStack() as stack:
        echo = lab.command("server", "udp", "server", "--bind", SERVER)
        stack.callback(echo.kill)
        udp = lab.command("client", "udp", "client", "--server", SERVER, "--flows", str(FLOWS), "--rate", "100")
        stack.callback(udp.kill)

        def end() -> tuple[SideReport, Account]:
            udp.ask_to_stop()
            sent = udp.report(SideReport)
            echo.ask_to_stop()
            return sent, account(sent, echo.report(SideReport))

        yield end


def pin(lab: TestLab, flow: str) -> None:
    """A transaction on the flow begins and does not end before `free`."""
    (lab.directory / PIN).write_text(flow)
    lab.wait("the flow in use", lambda client: any(each["custom"].get(PINNED) for each in client.get("/replicas")))


def free(lab: TestLab) -> None:
    (lab.directory / PIN).unlink()
    lab.wait("no flow in use", lambda client: not any(each["custom"].get(PINNED) for each in client.get("/replicas")))


def bucket_of(flow: str) -> int:
    return FlowKey.parse(flow).bucket


def check_parted(lab: TestLab, moves: list[dict[str, Any]], pinned: str, target: int) -> None:
    """The others have moved at once, and the flow in use is where it was, and reported."""
    others, own = moves
    assert (others["step"], others["pinned"], others["dropped"]) == ("done", [], 0), moves
    assert (own["step"], own["pinned"], own["follows"]) == ("undone", [pinned], others["epoch"]), moves
    assert own["reason"] == "1 of its flows is in use at the source" and own["suspended_ms"] == 0
    assert 0 < others["suspended_ms"] < HELD
    assert own["steps_ms"] == {"undone": 0.0}, "it has not begun"
    assert {flow: where == [target] for flow, where in lab.owners().items()} == {
        flow: flow != pinned for flow in lab.owners()
    }


def test_a_flow_in_use_holds_nobody_up_and_moves_when_it_is_given_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = Path(tmp_path_factory.mktemp("p"))  # short, for the paths of Unix sockets
    settings = {
        "middlebox": "tests.integration.pinning:Pinning", "middlebox_config": {"directory": str(directory)},
    }  # fmt: skip
    with build_lab(directory, **settings) as lab, traffic(lab) as end, lab.client() as client:
        lab.wait("flows", lambda _: len(lab.owners()) == FLOWS)
        client.post("/scale-out", {"rebalance": False})
        flows = sorted(lab.owners())
        homes = [bucket_of(flow) for flow in flows]
        pinned = next(flow for flow in flows if homes.count(bucket_of(flow)) == 1)
        there, back = {"source": 1, "target": 2, "references": REFERENCES}, {"source": 2, "target": 1}
        for scope in SCOPES:
            pin(lab, pinned)
            check_parted(lab, client.post("/moves", scope(flows) | there)["moves"], pinned, 2)
            (refused,) = client.post("/moves", scope([pinned]) | there | {"references": 0.1})["moves"]
            assert (refused["step"], refused["pinned"], refused["suspended_ms"]) == ("undone", [pinned], 0)
            free(lab)
            (later,) = client.post("/moves", scope([pinned]) | there)["moves"]
            assert later["step"] == "done" and set(map(tuple, lab.owners().values())) == {(2,)}
            (alone,) = client.post("/moves", scope(flows) | back)["moves"]
            assert (alone["step"], alone["suspended_ms"] < HELD) == ("done", True), "nothing was in use"
        sent, result = end()
        drops = client.get("/status")["drops"]["replicas"]
    assert "middlebox_error" not in drops and "flow_migrated" not in drops, drops
    assert whole(result), troubled(result)
    assert max(flow.longest_gap_ms for flow in sent.flows) < HELD, "nor did it wait itself"
