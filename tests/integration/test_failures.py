"""Any other process of the lab is killed: what it alone held is lost, and traffic flows again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitmerge.client import OrchestratorClient
from splitmerge.demo.commands import TrafficCommand
from tests.integration.labs import SERVER, TestLab, build_lab, whole
from topo.enter import descendants, popen_in
from topo.launch import start_lab
from topo.model import one_switch
from topo.spec import LabSpec
from traffic.udp_report import Account, SideReport, account

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def split_lab(lab: TestLab) -> Iterator[TestLab]:
    """Two replicas, each with half of the buckets."""
    with lab.client() as client:
        client.post("/scale-out", {})
    yield lab


def ledger(lab: TestLab, count: int = 50) -> Account:
    """The account of a short run of eight numbered flows."""
    echo = lab.command("server", "udp", "server", "--bind", SERVER)
    try:
        client = TrafficCommand(
            lab.record, "client", "udp", "client", "--server", SERVER, "--flows", "8", "--rate", "50",
            "--count", str(count),
        )  # fmt: skip
        client.wait_ready()
        sent = client.report(SideReport)
        echo.ask_to_stop()
        return account(sent, echo.report(SideReport))
    finally:
        echo.kill()


def kill(lab: TestLab, marker: str) -> None:
    """SIGKILL to the lab's process whose command line has the marker; waits until it is another one."""
    (pid,) = [pid for pid, line in descendants(lab.record.pid) if marker in line][:1]
    os.kill(pid, signal.SIGKILL)
    lab.wait(
        f"another {marker}",
        lambda client: any(marker in line and other != pid for other, line in descendants(lab.record.pid)),
    )


SWITCH = "simple_switch_grpc" if os.environ.get("SPLITMERGE_TEST_TARGET") == "bmv2" else "p4switch"


def test_nothing_is_lost_to_begin_with(split_lab: TestLab) -> None:
    assert whole(ledger(split_lab))


def test_a_restarted_switch_gets_its_tables_back(split_lab: TestLab) -> None:
    before = split_lab.live()
    kill(split_lab, SWITCH)
    split_lab.wait("the switch", lambda client: client.get("/status")["switch_ready"])
    split_lab.wait("traffic", lambda client: whole(ledger(split_lab)), within=60)
    assert split_lab.live() == before


def test_a_killed_replicas_flows_go_to_the_others_and_another_comes_in_its_place(split_lab: TestLab) -> None:
    with split_lab.client() as client:
        victim = client.get("/replicas")[-1]
        before = client.get("/status")
    os.kill(victim["pid"], signal.SIGKILL)
    died = before["replicas_died"] + 1
    split_lab.wait("its end noticed", lambda client: client.get("/status")["replicas_died"] == died)
    split_lab.wait("a replacement", lambda client: replaced(client) > before["replacements"]["made"])
    split_lab.wait_quiet()
    split_lab.wait("traffic", lambda client: whole(ledger(split_lab)), within=60)
    assert victim["replica"] not in split_lab.live() and len(split_lab.live()) == 2
    # It counts as one that came before it is given something.
    buckets = split_lab.wait("its share", lambda client: found if all(found := shares(client)) else None)
    assert sum(buckets) == 1024


def shares(client: OrchestratorClient) -> list[int]:
    """Buckets of each replica that lives."""
    return [each["buckets"] for each in client.get("/replicas") if each["state"] == "live"]


def replaced(client: OrchestratorClient) -> int:
    """Replacements that came, once none is owed any more; else 0."""
    replacements = client.get("/status")["replacements"]
    return 0 if replacements["owed"] else int(replacements["made"])


def test_a_killed_agent_takes_its_replicas_along_and_new_ones_come(split_lab: TestLab) -> None:
    old = split_lab.live()
    kill(split_lab, "orchestrator.vmm")
    split_lab.wait("as many anew", lambda client: len(set(split_lab.live()) - set(old)) == len(old), within=60)
    split_lab.wait_quiet()
    split_lab.wait("traffic", lambda client: whole(ledger(split_lab)), within=60)


def test_the_lab_itself_killed_takes_all_along(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    from splitmerge.errors import SplitmergeError
    from tests.integration.labs import build_lab

    directory = tmp_path_factory.mktemp("x")
    with pytest.raises(SplitmergeError), build_lab(directory) as lab:
        pids = [pid for pid, _ in descendants(lab.record.pid)]
        assert len(pids) >= 4
        os.kill(lab.record.pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while left := [pid for pid in pids if Path(f"/proc/{pid}").exists() and not zombie(pid)]:
            assert time.monotonic() < deadline, f"processes stay behind: {left}"
            time.sleep(0.02)


def test_a_lab_without_a_record_takes_along_what_runs_in_its_namespaces(
    namespaces: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of another version's record, say, `down` can read nothing."""
    directory = tmp_path_factory.mktemp("g") / "x"
    record = start_lab(LabSpec(name="x", directory=str(directory), topology=one_switch(1), ephemeral=True))
    argv = ["sh", "-c", "trap '' TERM; sleep 600 >/dev/null & echo $!"]
    with popen_in(record, "client", argv, stdout=subprocess.PIPE) as guest:
        sleeper = int(guest.communicate(timeout=20)[0])
    assert not zombie(sleeper)
    (directory / "lab.json").write_text("{}")
    words = ["down", "--name", "x", "--state-dir", str(directory.parent), "--json"]
    subprocess.run([sys.executable, "-m", "splitmerge", *words], timeout=60, check=True)
    assert zombie(sleeper) and zombie(record.pid) and not directory.exists()


def zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def kill_replicas(lab: TestLab, seconds: float) -> tuple[int, set[str]]:
    """As a middlebox that crashes soon after its start: SIGKILL to every replica that takes flows.

    How many, and what was told as a problem meanwhile; of more than one death, something always is.
    """
    killed: set[int] = set()
    told: set[str] = set()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with lab.client() as client:
            there = [each for each in client.get("/replicas") if each["state"] == "live" and each["pid"]]
            status = client.get("/status")
        told.update(status["problems"])
        assert status["problems"] or status["replicas_died"] < 2
        for each in there:
            if each["replica"] not in killed:
                killed.add(each["replica"])
                os.kill(each["pid"], signal.SIGKILL)
        time.sleep(0.05)
    return len(killed), told


def test_a_sole_replica_that_dies_again_and_again_is_made_ever_more_seldom_and_told_of(
    namespaces: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with build_lab(tmp_path_factory.mktemp("f")) as lab:
        killed, told = kill_replicas(lab, 5.0)
        assert 2 <= killed <= 6, "after 0.25, 0.5, 1, 2 and 4 s"
        assert any("in place of replica 1: " in each and "of 8 tries failed" in each for each in told), told
        lab.wait("another", lambda client: lab.live() and not client.get("/status")["problems"])
        lab.wait("traffic", lambda client: whole(ledger(lab)))


def test_without_replacing_the_last_one_too_stays_dead_until_somebody_scales_out(
    namespaces: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("f")
    with build_lab(directory, replace=False) as lab:
        killed, _ = kill_replicas(lab, 3.0)
        assert killed == 1
        status = subprocess.run(
            [sys.executable, "-m", "splitmerge", "status", "--name", "lab", "--state-dir", str(directory)],
            capture_output=True, text=True, timeout=30, check=True,
        ).stdout  # fmt: skip
        assert "problem: replica 1 died" in status
        assert f"`splitmerge scale-out --state-dir {directory}` adds one" in status
        with lab.client() as client:
            assert client.post("/scale-out", {})["added"] == [2]
        lab.wait("traffic", lambda client: whole(ledger(lab)))
        with lab.client() as client:
            assert client.get("/status")["problems"] == []
