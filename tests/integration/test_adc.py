"""The load balancer with real HTTP servers and curl, while its connections move and its servers come and go."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.integration.labs import TestLab, build_lab
from tests.integration.peers import finish, peer, python
from topo.enter import descendants

pytestmark = [
    pytest.mark.integ,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("namespaces"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl"),
]

VIRTUAL = "10.0.1.100"
PORTS = (8001, 8002, 8003)
BIG = 3_000_000
HEALTH = {"kind": "http", "path": "/name", "interval": 1.0, "falls": 2, "rises": 1}
"""A busy machine may let a server take its time."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the servers serve: each its name, all one big file."""
    root = tmp_path_factory.mktemp("w")
    content = os.urandom(BIG)
    for port in PORTS:
        (root / str(port)).mkdir()
        (root / str(port) / "name").write_text(f"{port}\n")
        (root / str(port) / "big").write_bytes(content)
    return root


@pytest.fixture(scope="module")
def lab(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestLab]:
    """Port 80 hides the clients from the servers, port 81 does not; two replicas."""
    servers = [{"address": "10.0.2.2", "port": port} for port in PORTS]
    config = {
        "services": [
            {"address": VIRTUAL, "port": 80, "servers": servers, "health": HEALTH},
            {
                "address": VIRTUAL, "port": 81, "servers": servers, "health": HEALTH,
                "source": "client", "policy": "least-connections",
            },
        ],
        "tcp_closed": 0.3,
    }  # fmt: skip
    directory = tmp_path_factory.mktemp("b")
    with build_lab(directory, middlebox="middleboxes.adc:Adc", middlebox_config=config) as built:
        with built.client() as client:
            client.post("/scale-out", {})
        yield built


@contextmanager
def web(lab: TestLab, files: Path, port: int) -> Iterator[None]:
    """One HTTP server."""
    argv = python("tests.integration.web_server", "10.0.2.2", str(port), str(files / str(port)))
    with peer(lab.record, "server", *argv):
        yield


@pytest.fixture(scope="module")
def servers(lab: TestLab, files: Path) -> Iterator[dict[int, ExitStack]]:
    """All of them, each with what ends it."""
    with ExitStack() as all_of_them:
        found = {port: all_of_them.enter_context(ExitStack()) for port in PORTS}
        for port, stack in found.items():
            stack.enter_context(web(lab, files, port))
        lab.wait("healthy servers", lambda _: healthy(lab), within=60)
        yield found


def healthy(lab: TestLab) -> bool:
    """Whether every server gets connections, by both services."""
    return all(set(ask(lab, port, 9)) == set(map(str, PORTS)) for port in (80, 81))


def url(port: int, count: int) -> str:
    return f"http://{VIRTUAL}:{port}/name?[1-{count}]"


def ask(lab: TestLab, port: int, count: int) -> Counter[str]:
    """So many connections, one after the other; who answered. A failure is nobody's answer."""
    with peer(lab.record, "client", "curl", "-s", "--max-time", "20", url(port, count), ready=False) as curl:
        out, _ = curl.communicate(timeout=60)
    return Counter(out.decode().split())


def move_everything(lab: TestLab, times: int) -> int:
    """There and back; how many moves were done."""
    done = 0
    with lab.client() as client:
        for number in range(times):
            source, target = (1, 2) if number % 2 == 0 else (2, 1)
            moves = client.post("/migrate", {"all": True, "source": source, "target": target})["moves"]
            done += sum(move["step"] == "done" for move in moves)
            time.sleep(0.05)
    return done


@pytest.mark.parametrize("port", [80, 81], ids=["own source", "client source"])
def test_every_connection_is_served_by_some_server_while_all_of_them_move(
    lab: TestLab, servers: dict[int, ExitStack], port: int
) -> None:
    argv = ("curl", "-sS", "-f", "--max-time", "30", "--rate", "30/s", url(port, 60))
    with peer(lab.record, "client", *argv, ready=False) as curl:
        done = move_everything(lab, 6)
        answers = Counter(finish(curl, 60).split())
    assert sum(answers.values()) == 60 and done >= 5
    assert set(answers) == set(map(str, PORTS)) and min(answers.values()) >= 10, answers


@pytest.mark.parametrize("port", [80, 81], ids=["own source", "client source"])
def test_a_download_is_whole_though_it_moves_many_times(
    lab: TestLab, servers: dict[int, ExitStack], files: Path, port: int
) -> None:
    out = files / f"got{port}"
    argv = (
        "curl",
        "-sS",
        "-f",
        "--max-time",
        "60",
        "--limit-rate",
        "1M",
        "-o",
        str(out),
        f"http://{VIRTUAL}:{port}/big",
    )
    with peer(lab.record, "client", *argv, ready=False) as curl:
        assert move_everything(lab, 6) >= 5
        finish(curl, 60)
    want = hashlib.sha256((files / str(PORTS[0]) / "big").read_bytes()).digest()
    assert hashlib.sha256(out.read_bytes()).digest() == want


def test_a_killed_orchestrator_forgets_no_second_key(lab: TestLab, servers: dict[int, ExitStack], files: Path) -> None:
    """A download goes on over its death and over moves by its successor; new connections are served again."""
    out = files / "got"
    argv = ("curl", "-sS", "-f", "--max-time", "60", "--limit-rate", "400k", "-o", str(out), f"http://{VIRTUAL}:81/big")
    with peer(lab.record, "client", *argv, ready=False) as curl:
        lab.wait("it has begun", lambda _: out.exists() and out.stat().st_size > 0)
        (pid,) = [pid for pid, line in descendants(lab.record.pid) if "-m orchestrator --config" in line]
        os.kill(pid, signal.SIGKILL)
        lab.wait("another process", lambda _: all(each != pid for each, _ in descendants(lab.record.pid)))
        lab.wait("it is ready", lambda client: (s := client.get("/status"))["ready"] and not s["moves_running"])
        assert move_everything(lab, 4) >= 3
        assert ask(lab, 81, 12).total() == 12
        finish(curl, 60)
    assert out.read_bytes() == (files / str(PORTS[0]) / "big").read_bytes()


def test_a_server_that_ends_is_not_asked_any_more_until_it_is_back(
    lab: TestLab, servers: dict[int, ExitStack], files: Path
) -> None:
    first, others = str(PORTS[0]), set(map(str, PORTS[1:]))
    lab.wait("all are asked", lambda _: set(ask(lab, 80, 12)) == {first, *others})
    servers[PORTS[0]].close()
    lab.wait("only the others", lambda _: (got := ask(lab, 80, 20)).total() == 20 and got.keys() == others)
    answers = ask(lab, 80, 40)
    assert answers.total() == 40 and answers.keys() == others
    servers[PORTS[0]].enter_context(web(lab, files, PORTS[0]))
    lab.wait("it is back", lambda _: first in ask(lab, 80, 12))
