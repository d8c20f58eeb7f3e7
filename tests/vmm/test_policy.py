"""The orchestrator's policy adds machines by itself, under load, and the load does not notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.labs import SERVER, build_lab, whole
from topo.model import one_switch
from traffic.udp_report import SideReport, account

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(400)]
SLOW = 120.0


def test_a_machine_comes_before_it_is_needed_and_nothing_is_lost(
    namespaces: None, vm_image: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Flows grow past the threshold of one replica: half of them move to a new machine while packets go on."""
    directory = tmp_path_factory.mktemp("p")
    settings = {
        "policy": "flow-count",
        "elasticity": {"settings": {"split_above": 16, "merge_below": 2}},
        "topology": one_switch(1, 1),
    }
    with build_lab(directory, vm_image=str(vm_image), vm_accelerator="emulated", **settings) as lab:
        assert lab.live() == [1]
        server = lab.command("server", "udp", "server", "--bind", SERVER)
        client = lab.command("client", "udp", "client", "--server", SERVER, "--flows", "24", "--rate", "10")
        lab.wait("the policy's machine", lambda api: lab.live() == [1, 2], within=SLOW)
        lab.wait("flows at it", lambda api: any(2 in held for held in lab.owners().values()), within=SLOW)
        lab.wait_quiet()
        client.ask_to_stop()
        sent = client.report(SideReport)
        server.ask_to_stop()
        report = account(sent, server.report(SideReport))
        with lab.client() as api:
            kinds = {each["replica"]: each["pid"] for each in api.get("/replicas")}
            drops = api.get("/status")["drops"]
    assert whole(report), (report, drops)
    command = Path(f"/proc/{kinds[2]}/cmdline")
    assert not command.exists(), "it ended with its lab"
