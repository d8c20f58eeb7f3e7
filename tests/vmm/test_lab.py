"""A lab with process and machine slots: TCP and a ledger through machines, flows moved between all kinds, deaths."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitmerge.client import OrchestratorClient
from tests.integration.labs import SERVER, TestLab, build_lab, descendants, whole
from tests.vmm.rig import processes
from topo.model import one_switch
from traffic.http_client import ClientReport
from traffic.udp_report import SideReport, account

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(500)]
FLOWS, RATE = 8, 10.0
SLOW = 120.0
"""Seconds; emulated machines on a busy host take their time."""


@pytest.fixture(scope="module")
def lab(namespaces: None, vm_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestLab]:
    """Replica 1 is a process; three more are machines."""
    directory = tmp_path_factory.mktemp("v")
    topology = one_switch(1, 3)
    with build_lab(directory, topology=topology, vm_image=str(vm_image), vm_accelerator="emulated") as lab:
        with slow_client(lab) as client:
            assert client.post("/scale-out", {"count": 3, "kind": "vm"})["added"] == [2, 3, 4]
        yield lab
    assert [line for _, line in processes() if str(directory) in line] == []


def slow_client(lab: TestLab) -> OrchestratorClient:
    return OrchestratorClient(Path(lab.record.api_socket), timeout=SLOW)


def move(lab: TestLab, source: int, target: int) -> None:
    with slow_client(lab) as client:
        moves = client.post("/migrate", {"all": True, "source": source, "target": target})["moves"]
    assert all(each["step"] == "done" for each in moves), moves


def test_tcp_and_a_ledger_while_flows_move_between_machines_and_processes(lab: TestLab) -> None:
    """Machine to machine, machine to process, process to machine: nothing lost, repeated or reordered."""
    web = lab.command("server", "http_server", "--bind", SERVER, "--port", "80")
    server = lab.command("server", "udp", "server", "--bind", SERVER)
    http = lab.command(
        "client", "http_client", "--server", SERVER, "--connections", "6", "--rate", "2", "--timeout", "40"
    )
    udp = lab.command("client", "udp", "client", "--server", SERVER, "--flows", str(FLOWS), "--rate", str(RATE))
    lab.wait("flows in machines", lambda client: {2, 3, 4} & {r for held in lab.owners().values() for r in held})
    for source, target in ((2, 3), (3, 4), (4, 1), (1, 2), (2, 4), (4, 3)):
        move(lab, source, target)
        time.sleep(0.5)  # so that each of them serves for a while
    assert {each for held in lab.owners().values() for each in held} == {3}
    udp.ask_to_stop()
    http.ask_to_stop()
    sent, requests = udp.report(SideReport), http.report(ClientReport)
    server.ask_to_stop()
    report = account(sent, server.report(SideReport))
    web.kill()
    assert whole(report), report
    assert requests.errors == 0 and requests.responses == requests.requests > 20


def test_libvirtd_restarted_machines_go_on_and_new_ones_come(lab: TestLab) -> None:
    before = lab.live()
    daemons = [pid for pid, line in descendants(lab.record.pid) if line.startswith("libvirtd")]
    os.kill(daemons[0], signal.SIGKILL)
    with slow_client(lab) as client:
        gone = client.post("/scale-in", {"replica": 4})["removed"]
        added = client.post("/scale-out", {"kind": "vm"})["added"]
    assert gone == 4 and lab.live() == sorted({*before, *added} - {4})


def test_a_machine_that_dies_is_noticed_and_its_slot_used_again(lab: TestLab) -> None:
    with lab.client() as client:
        victim = next(each for each in client.get("/replicas") if each["replica"] == 3)
        died = client.get("/status")["replicas_died"]
    os.kill(victim["pid"], signal.SIGKILL)
    lab.wait("its end noticed", lambda client: client.get("/status")["replicas_died"] == died + 1)
    lab.wait_quiet()
    lab.wait("others own all", lambda client: sum(each["buckets"] for each in client.get("/replicas")) == 1024)
    assert 3 not in lab.live()
    with slow_client(lab) as client:
        assert client.post("/scale-out", {"kind": "vm"})["added"]


def test_all_machines_destroyed_their_flows_go_to_the_process(lab: TestLab) -> None:
    with slow_client(lab) as client:
        for replica in [each for each in lab.live() if each != 1]:
            client.post("/scale-in", {"replica": replica})
    assert lab.live() == [1]
    agents = [pid for pid, line in descendants(lab.record.pid) if "vm-agent.json" in line]
    assert [line for _, line in descendants(agents[0]) if "qemu-system" in line.split()[0]] == []
