"""The policy adds machines by itself, under load, before the load needs them, and the load does not notice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.integration.labs import SERVER, build_lab, whole
from topo.model import one_switch
from traffic.udp_report import SideReport, account

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(900)]
SLOW = 150.0
FULL, STEP, MOST = 40, 3, 16
"""Flows that one replica is to have; how many come at a time; how often at most."""


def test_a_machine_comes_before_it_is_needed_and_nothing_is_lost(
    namespaces: None, vm_image: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Flows come, a few a second. The policy sees where that leads by the time that a machine takes to start.

    So the second machine lives before the first one has more flows than it is to have; then it has its share of them.
    """
    directory = tmp_path_factory.mktemp("p")
    foresight = {
        "settings": {"split_above": FULL, "merge_below": 1},
        "headroom": 6.0,  # it may take as many times longer under load than the first one did
        "interval": 0.5,
        "consecutive": 2,
    }
    settings = {"policy": "flow-count", "elasticity": foresight, "topology": one_switch(0, 2)}
    with build_lab(directory, vm_image=str(vm_image), vm_accelerator="emulated", **settings) as lab:
        assert lab.live() == [1]
        server = lab.command("server", "udp", "server", "--bind", SERVER)
        clients = []
        while lab.live() == [1] and len(clients) < MOST:
            load = ("--server", SERVER, "--flows", str(STEP), "--rate", "10")
            clients.append(lab.command("client", "udp", "client", *load))
            time.sleep(0.3)
        needed = len(lab.owners())
        lab.wait("the policy's machine", lambda api: lab.live() == [1, 2], within=SLOW)
        lab.wait("flows at it", lambda api: any(2 in held for held in lab.owners().values()), within=SLOW)
        lab.wait_quiet()
        for client in clients:
            client.ask_to_stop()
        sent = [client.report(SideReport) for client in clients]
        server.ask_to_stop()
        arrived = server.report(SideReport)
        accounts = [account(each, arrived) for each in sent]
        with lab.client() as api:
            kinds = {each["replica"]: each["pid"] for each in api.get("/replicas")}
            drops = api.get("/status")["drops"]
        log = (directory / "lab" / "logs" / "orchestrator.log").read_text()
    assert all(map(whole, accounts)), (accounts, drops)
    assert needed <= FULL and "elasticity: split: in " in log, "it was foreseen"
    command = Path(f"/proc/{kinds[2]}/cmdline")
    assert not command.exists(), "it ended with its lab"
