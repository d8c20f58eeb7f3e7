"""Three switches in a ring, replicas behind each: kernel traffic while flows move between them, and nothing is lost."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from splitmerge.demo.commands import TrafficCommand
from splitmerge.flowkey import BUCKETS
from tests.integration.labs import SERVER, TestLab, build_lab, troubled, whole
from tests.integration.test_crash import crash
from tests.integration.test_failures import ledger
from topo.enter import descendants
from topo.model import load_topology
from traffic.udp_report import SideReport, account

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(180)]

MOVES = 5 * 6
"""Times around, over all pairs of switches, and everything is at the first replica again."""


@pytest.fixture(scope="module")
def ring(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestLab]:
    """A replica behind every switch, each with a third of the buckets."""
    with build_lab(tmp_path_factory.mktemp("r"), topology=load_topology(Path("three-switches"))) as lab:
        with lab.client() as client:
            client.post("/scale-out", {"count": 2})
        yield lab


def test_replicas_are_behind_different_switches_and_every_switch_is_shown(ring: TestLab) -> None:
    with ring.client() as client:
        replicas, status = client.get("/replicas"), client.get("/status")
    assert [(each["switch"], each["port"]) for each in replicas] == [("s1", 11), ("s2", 11), ("s3", 11)]
    assert {name: each["ready"] for name, each in status["switches"].items()} == {"s1": True, "s2": True, "s3": True}


@pytest.mark.parametrize("buffer", ["cpu", "replica"])
def test_moves_around_the_ring_lose_nothing(ring: TestLab, buffer: str) -> None:
    """Everything that one replica owns goes to another one, again and again, over all pairs of switches."""
    one, two, three = ring.live()
    pairs = itertools.pairwise(itertools.cycle([one, two, three, one, three, two]))
    echo = ring.command("server", "udp", "server", "--bind", SERVER)
    sender = TrafficCommand(ring.record, "client", "udp", "client", "--server", SERVER, "--flows", "12", "--rate", "25")
    try:
        sender.wait_ready()
        done: list[dict[str, Any]] = []
        with ring.client() as client:
            for source, target in itertools.islice(pairs, MOVES):
                wanted = {"all": True, "source": source, "target": target, "buffer": buffer}
                done += client.post("/moves", wanted)["moves"]
        sender.ask_to_stop()
        sent = sender.report(SideReport)
        echo.ask_to_stop()
        result = account(sent, echo.report(SideReport))
    finally:
        sender.kill()
        echo.kill()
    assert [move for move in done if move["step"] != "done"] == []
    assert len(done) >= MOVES
    assert sum(move["staged"] for move in done) > MOVES
    assert whole(result), troubled(result)


KILLED = [
    ("suspending", "cpu"),
    ("exporting", "replica"),
    ("resuming", "cpu"),
]
SOME = [bucket for bucket in range(BUCKETS) if bucket % 7 < 3]
"""Every replica keeps some of the others, however they were shared out."""


def test_the_orchestrator_may_die_in_a_move(killing_ring: TestLab) -> None:
    """What it changed at the edges is put right at all of them: one owner a flow, and traffic is whole again."""
    lab = killing_ring
    with lab.client() as client:
        client.post("/scale-out", {"count": 2})
    for number, (step, buffer) in enumerate(KILLED):
        source, target = lab.live()[number % 3], lab.live()[(number + 1) % 3]
        body = {"all": True, "source": source, "target": target, "buffer": buffer}
        crash(lab, step, body, partial(lab.tell, "/migrate", {"buckets": SOME, "target": source}))
        with lab.client() as client:
            assert client.get("/moves", limit=1)[0]["step"] in ("done", "undone")
        assert all(len(replicas) == 1 for replicas in lab.owners().values())
        assert whole(ledger(lab)), step


def kill_switch(lab: TestLab, name: str) -> None:
    """SIGKILL to this switch's process; waits until the lab has started another."""
    marker = f"--grpc-server-addr {lab.record.switches[name]}"

    def find() -> int:
        return next((pid for pid, line in descendants(lab.record.pid) if marker in line), 0)

    killed = lab.pid_of(marker)
    os.kill(killed, signal.SIGKILL)
    lab.wait(f"another switch {name}", lambda client: find() not in (0, killed))


@pytest.mark.parametrize("name", ["s1", "s2", "s3"])
def test_a_restarted_switch_gets_its_tables_back(ring: TestLab, name: str) -> None:
    ring.wait_quiet()
    kill_switch(ring, name)
    ring.wait("the switch", lambda client: client.get("/status")["switch_ready"])
    ring.wait("traffic", lambda client: whole(ledger(ring)), within=60)
