"""Replicas that come and go by themselves (§5.1), and new flows that the controller assigns (§3.2)."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.labs import SERVER, TestLab, build_lab, troubled, whole
from traffic.http_client import ClientReport
from traffic.udp_report import SideReport, account

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.usefixtures("namespaces")]


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e")


def udp_run(lab: TestLab, stack: ExitStack, flows: int, rate: float):
    echo = lab.command("server", "udp", "server", "--bind", SERVER)
    stack.callback(echo.kill)
    client = lab.command("client", "udp", "client", "--server", SERVER, "--flows", str(flows), "--rate", str(rate))
    stack.callback(client.kill)
    return client, echo


def test_a_burst_of_flows_splits_and_its_end_merges(directory: Path) -> None:
    """Above 20 flows a replica is added; when they are gone, it goes. Not a packet is lost."""
    thresholds = {"settings": {"split_above": 20, "merge_below": 10}}
    config = {"udp_idle": 1.0, "alerts": str(directory / "alerts.jsonl")}
    with (
        build_lab(directory, policy="flow-count", elasticity=thresholds, middlebox_config=config) as lab,
        ExitStack() as stack,
    ):
        base, base_echo = udp_run(lab, stack, 4, 10)
        burst = lab.command("client", "udp", "client", "--server", SERVER, "--flows", "30", "--rate", "4")
        stack.callback(burst.kill)
        lab.wait("the split", lambda client: len(lab.live()) >= 2)
        lab.wait_quiet()
        burst.ask_to_stop()
        burst_side = burst.report(SideReport)
        lab.wait("the merge", lambda client: len(lab.live()) == 1, within=60)
        lab.wait_quiet()
        base.ask_to_stop()
        base_side = base.report(SideReport)
        base_echo.ask_to_stop()
        served = base_echo.report(SideReport)
        for side in (base_side, burst_side):
            result = account(side, served)
            assert whole(result), troubled(result)


def test_utilisation_adds_a_replica_and_uneven_load_is_evened(directory: Path) -> None:
    """800 packets a second for a replica that should have 600; then all of it at one of two. Not a packet is lost."""
    pace = {"interval": 0.25, "window": 1.0, "consecutive": 2, "cool_down": 1.5}
    settings = {"by": "packets", "capacity": 800, "high": 0.75, "low": 0.1}
    with (
        build_lab(directory, policy="utilisation", elasticity={"settings": settings, **pace}) as lab,
        ExitStack() as stack,
    ):
        client, echo = udp_run(lab, stack, 20, 20)
        lab.wait("another replica", lambda api: api.get("/elasticity")["actions"])
        with lab.client() as api:
            told = api.patch("/elasticity", {"policy": "explicit", "even_above": 0})
            assert told["actions"][0]["outcome"] == "done" and "packets" in told["actions"][0]["why"]
            assert lab.live() == [1, 2] and told["start_up"] > 0
            api.post("/migrate", {"all": True, "source": 2, "target": 1})
            assert {replica for held in lab.owners().values() for replica in held} == {1}
            api.patch("/elasticity", {"even_above": 1.5, "even_by": "packets"})
        lab.wait("it is even again", lambda api: api.get("/elasticity")["actions"][-1]["action"] == "rebalance")
        held = [replica for replicas in lab.owners().values() for replica in replicas]
        assert len(held) == 20 and abs(held.count(1) - held.count(2)) <= 2, held
        loads = lab.wait("its figures", lambda api: _even(api.get("/elasticity")["replicas"]))
        assert all(load["packets"] > 300 and 0 < load["cpu"] < 1 for load in loads.values())
        client.ask_to_stop()
        sent = client.report(SideReport)
        echo.ask_to_stop()
        result = account(sent, echo.report(SideReport))
        assert whole(result), troubled(result)


def _even(loads: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The loads once all of them are measured anew; else nothing."""
    rates = [load["packets"] for load in loads.values()]
    return loads if min(rates) > 300 and max(rates) < 500 else {}


@pytest.mark.parametrize("assignment", ["least-loaded", "round-robin"])
def test_the_controller_assigns_new_flows_evenly(directory: Path, assignment: str) -> None:
    with build_lab(directory, assignment=assignment) as lab, ExitStack() as stack:
        with lab.client() as client:
            client.post("/scale-out", {})
        udp, echo = udp_run(lab, stack, 12, 20)
        web = lab.command("server", "http_server", "--bind", SERVER, "--port", "80")
        stack.callback(web.kill)
        http = lab.command("client", "http_client", "--server", SERVER, "--connections", "4", "--rate", "10")
        stack.callback(http.kill)
        lab.wait("all flows", lambda client: len(lab.owners()) == 16)
        held = [replica for replicas in lab.owners().values() for replica in replicas]
        assert len(held) == 16 and abs(held.count(1) - held.count(2)) <= 2
        with lab.client() as client:
            moves = client.post("/migrate", {"all": True, "source": 1, "target": 2})["moves"]
            assert moves and all(move["step"] == "done" for move in moves)
        assert {replica for replicas in lab.owners().values() for replica in replicas} == {2}
        for command in (udp, http):
            command.ask_to_stop()
        sent, report = udp.report(SideReport), http.report(ClientReport)
        echo.ask_to_stop()
        result = account(sent, echo.report(SideReport))
        assert whole(result), troubled(result)
        assert report.errors == 0 and lab.statistics().injections == report.injections_sent
