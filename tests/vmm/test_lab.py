"""A lab with process and machine slots: TCP and a ledger through machines, flows moved between all kinds, deaths."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitmerge import messages as m
from splitmerge.client import OrchestratorClient
from splitmerge.tls import ORCHESTRATOR, Identity
from splitmerge.wire import Decoder, encode
from tests.integration.labs import SERVER, TestLab, build_lab, whole
from tests.vmm.rig import processes
from topo.enter import descendants
from topo.links import CONTROL_HOST, CONTROL_PORT
from topo.model import one_switch
from topo.namespaces import run_in
from traffic.http_client import ClientReport
from traffic.udp_report import SideReport, account

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(900)]
FLOWS, RATE = 8, 10.0
FULL = 1472
"""Bytes of payload that fill a packet of 1,500."""
SLOW = 120.0
"""Seconds; emulated machines on a busy host take their time."""
LATE = ("--quiet", "10", "--deadline", "12")
"""What an emulated machine has taken is late on a busy host, not lost; nobody waits so long once all is there."""
SERVED = 8.0
"""Seconds of traffic at least: twelve requests are asked for in each, and emulated machines may manage three."""


@pytest.fixture(scope="module")
def lab(namespaces: None, vm_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestLab]:
    """Replica 1 is a process; three more are machines; both agents are elsewhere, reached over mutual TLS."""
    directory = tmp_path_factory.mktemp("v")
    topology = one_switch(1, 3)
    machines = {"vm_image": str(vm_image), "vm_accelerator": "emulated"}
    with build_lab(directory, topology=topology, tls=True, silent=5.0, **machines) as lab:
        with slow_client(lab) as client:
            assert client.post("/scale-out", {"count": 3, "kind": "vm"})["added"] == [2, 3, 4]
        yield lab
    assert [line for _, line in processes() if str(directory) in line] == []


def slow_client(lab: TestLab) -> OrchestratorClient:
    return OrchestratorClient(Path(lab.record.api_socket), timeout=SLOW)


def move(lab: TestLab, source: int, target: int, buffer: str) -> None:
    with slow_client(lab) as client:
        wanted = {"all": True, "source": source, "target": target, "buffer": buffer}
        moves = client.post("/migrate", wanted)["moves"]
    assert all(each["step"] == "done" for each in moves), moves


def test_tcp_and_a_ledger_while_flows_move_between_machines_and_processes(lab: TestLab) -> None:
    """Machine to machine, machine to process, process to machine, waiting at the target or at the controller.

    Nothing is lost, repeated or reordered, although relayed packets are longer than an Ethernet frame may be.
    """
    web = lab.command("server", "http_server", "--bind", SERVER, "--port", "80")
    server = lab.command("server", "udp", "server", "--bind", SERVER, "--size", str(FULL))
    http = lab.command("client", "http_client", "--server", SERVER, "--connections", "6", "--rate", "2")
    load = ("--flows", str(FLOWS), "--rate", str(RATE), "--size", str(FULL), *LATE)
    udp = lab.command("client", "udp", "client", "--server", SERVER, *load)
    begun = time.monotonic()
    lab.wait("flows in machines", lambda client: {2, 3, 4} & {r for held in lab.owners().values() for r in held})
    for number, (source, target) in enumerate(((2, 3), (3, 4), (4, 1), (1, 2), (2, 4), (4, 3))):
        move(lab, source, target, ("replica", "cpu")[number % 2])
        time.sleep(0.5)  # so that each of them serves for a while
    assert {each for held in lab.owners().values() for each in held} == {3}
    time.sleep(max(0.0, begun + SERVED - time.monotonic()))
    udp.ask_to_stop()
    http.ask_to_stop()
    sent, requests = udp.report(SideReport), http.report(ClientReport)
    server.ask_to_stop()
    report = account(sent, server.report(SideReport))
    web.kill()
    assert whole(report), report
    assert requests.errors == 0 and requests.responses == requests.requests > 20


SWAPPED = [
    ("a replica of the other agent's", m.Hello(role="replica", replica=1), "not of the agent that makes replica 1"),
    ("the other agent", m.Hello(role="agent", name="process agent"), "is for replica, vm-agent.agent, not for process"),
]


@pytest.mark.parametrize(("hello", "reason"), [each[1:] for each in SWAPPED], ids=[each[0] for each in SWAPPED])
def test_with_an_agents_certificate_nobody_can_be_another(lab: TestLab, hello: m.Hello, reason: str) -> None:
    """The certificate is valid, and of the machines' agent; who takes it is told off, and the right one goes on."""
    certs = lab.directory / "lab" / "certs"
    identity = Identity(certs / "ca.pem", certs / "vm-agent.pem", certs / "vm-agent.key")

    def ask() -> list[m.Message]:
        plain = socket.create_connection((CONTROL_HOST, CONTROL_PORT), 10)
        with identity.client().wrap_socket(plain, server_hostname=ORCHESTRATOR) as secured:
            secured.sendall(encode(hello))
            decoder = Decoder()
            while not (answers := list(decoder.messages())):
                decoder.receive_data(secured.recv(65536))
            return answers

    namespace = os.open(lab.record.namespaces["switch"], os.O_RDONLY)
    try:
        (answer,) = run_in(namespace, ask)
    finally:
        os.close(namespace)
    assert isinstance(answer, m.Refused) and reason in answer.reason
    with lab.client() as client:
        assert all(each["connected"] for each in client.get("/replicas"))
        assert len(client.get("/status")["agents"]) == 2


def test_libvirtd_restarted_machines_go_on_and_new_ones_come(lab: TestLab) -> None:
    before = lab.live()
    daemons = [pid for pid, line in descendants(lab.record.pid) if line.startswith("libvirtd")]
    os.kill(daemons[0], signal.SIGKILL)
    with slow_client(lab) as client:
        gone = client.post("/scale-in", {"replica": 4})["removed"]
        added = client.post("/scale-out", {"kind": "vm"})["added"]
    assert gone == 4 and lab.live() == sorted({*before, *added} - {4})


@pytest.mark.parametrize(
    ("how", "within"), [(signal.SIGKILL, 20.0), (signal.SIGSTOP, 40.0)], ids=["it dies", "it hangs"]
)
def test_a_machine_that_does_not_work_is_ended_and_replaced(lab: TestLab, how: signal.Signals, within: float) -> None:
    """A hang is known by silence. Its flows go to the others, then a new machine gets its share of them."""
    with lab.client() as client:
        machines = {each["replica"]: each["pid"] for each in client.get("/replicas") if is_machine(each["pid"])}
        before = client.get("/status")
    victim = min(machines)
    os.kill(machines[victim], how)
    died = before["replicas_died"] + 1
    lab.wait("its end noticed", lambda client: client.get("/status")["replicas_died"] == died, within=within)
    lab.wait("another machine", lambda client: made(client) == before["replacements"]["made"] + 1, within=SLOW)
    lab.wait_quiet()
    lab.wait("others own all", lambda client: sum(each["buckets"] for each in client.get("/replicas")) == 1024)
    with lab.client() as client:
        now = {each["replica"]: each["pid"] for each in client.get("/replicas") if is_machine(each["pid"])}
    assert victim not in now and len(now) == len(machines)
    assert not Path(f"/proc/{machines[victim]}").exists()


def is_machine(pid: int) -> bool:
    return b"qemu-system" in Path(f"/proc/{pid}/cmdline").read_bytes()


def made(client: OrchestratorClient) -> int:
    return int(client.get("/status")["replacements"]["made"])


def test_all_machines_destroyed_their_flows_go_to_the_process(lab: TestLab) -> None:
    with slow_client(lab) as client:
        for replica in [each for each in lab.live() if each != 1]:
            client.post("/scale-in", {"replica": replica})
    assert lab.live() == [1]
    agents = [pid for pid, line in descendants(lab.record.pid) if "vm-agent.json" in line]
    assert [line for _, line in descendants(agents[0]) if "qemu-system" in line.split()[0]] == []
