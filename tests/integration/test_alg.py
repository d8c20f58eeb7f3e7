"""The packet modifier with real peers, while flows move all the time: an FTP server and client, UDP, HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from splitmerge.client import OrchestratorClient
from splitmerge.errors import SplitmergeError
from tests.integration.labs import SERVER, TestLab, build_lab
from tests.integration.peers import finish, peer, python
from traffic.http_client import ClientReport
from traffic.udp_report import SideReport

pytestmark = [pytest.mark.integ, pytest.mark.timeout(180), pytest.mark.usefixtures("namespaces")]

CLIENT, SERVER6, EXTERNAL, EXTERNAL6 = "10.0.1.2", "fd00:2::2", "10.0.2.100", "fd00:2::100"
MOVES = 4


@pytest.fixture(scope="module", params=["hash", "least-loaded"])
def lab(
    namespaces: None, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[TestLab]:
    """NAT between the two, with a forwarded FTP port for a server inside; two replicas."""
    config = {
        "forward": [
            {"port": 2121, "to": CLIENT, "to_port": 21},
            {"port": 2121, "to": "fd00:1::2", "to_port": 21},
        ],
        "tcp_closed": 0.5,
    }
    directory = tmp_path_factory.mktemp("a")
    settings = {"middlebox": "middleboxes.alg:Alg", "middlebox_config": config, "assignment": request.param}
    with build_lab(directory, **settings) as built, built.client() as client:
        client.post("/scale-out", {})
        yield built


def everything(client: OrchestratorClient, source: int, target: int) -> list[dict]:
    """The moves of all that the source has; none if it has nothing."""
    try:
        moves: list[dict] = client.post("/migrate", {"all": True, "source": source, "target": target})["moves"]
    except SplitmergeError as error:
        assert "has nothing to move" in str(error) or "nobody" in str(error), error
        return []
    return moves


def move_about(lab: TestLab, client: OrchestratorClient, times: int = MOVES) -> int:
    """All flows from here to there and back; how many moves were done."""
    done = 0
    for _ in range(times):
        for source, target in (sorted(lab.live())[:2], sorted(lab.live(), reverse=True)[:2]):
            moves = everything(client, source, target)
            done += sum(move["step"] == "done" for move in moves)
            time.sleep(0.1 if moves else 0)
    return done


def figures(lab: TestLab, name: str) -> float:
    with lab.client() as client:
        return sum(each["custom"].get(name, 0) for each in client.get("/replicas"))


@pytest.mark.parametrize(
    ("server", "data_port"), [(SERVER, "20"), (SERVER, "0"), (SERVER6, "20")], ids=["PORT", "any data port", "EPRT"]
)
def test_active_ftp_goes_on_while_its_connections_move(
    lab: TestLab, server: str, data_port: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A server and a client that know nothing of NAT, dozens of data connections, and not one byte wrong."""
    files = tmp_path_factory.mktemp("f")
    before = figures(lab, "ftp_rewritten")
    serve = python("tests.integration.ftp_server", server, "21", str(files), data_port)
    use = python("tests.integration.ftp_client", server, "21", "active", "200000", "200")
    with peer(lab.record, "server", *serve), peer(lab.record, "client", *use) as client, lab.client() as api:
        done = move_about(lab, api)
        report = json.loads(finish(client, 60))
    assert report["transfers"] >= 2 and done >= MOVES
    lab.wait("figures", lambda _: figures(lab, "ftp_rewritten") - before >= report["transfers"])


@pytest.mark.parametrize("server", [SERVER, SERVER6], ids=["PORT", "EPRT"])
def test_a_control_connection_that_moves_without_its_bucket_goes_on_announcing(
    lab: TestLab, server: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """To the replica that had everything before, and now has no bucket at all."""
    with lab.client() as api:
        for source, target in ((2, 1), (1, 2)):
            everything(api, source, target)
        earlier = {each["flow"] for each in api.get("/flows", limit=1000)}
    serve = python("tests.integration.ftp_server", server, "21", str(tmp_path_factory.mktemp("f")), "20")
    use = python("tests.integration.ftp_client", server, "21", "active", "20000", "200")
    with peer(lab.record, "server", *serve), peer(lab.record, "client", *use) as client, lab.client() as api:
        there = {each["flow"]: each["replica"] for each in api.get("/flows", limit=1000) if each["flow"] not in earlier}
        (control,) = [flow for flow in there if flow.endswith((f"{server}:21", f"[{server}]:21"))]
        move = {"keys": [control], "target": 3 - there[control]}
        while not any(each["step"] == "done" for each in api.post("/migrate", move)["moves"]):
            pass  # a data connection was just being announced: undone
        before = figures(lab, "ftp_rewritten")
        lab.wait("announcements", lambda _: figures(lab, "ftp_rewritten") - before >= 10)
        assert json.loads(finish(client, 60))["transfers"] >= 10


@pytest.mark.parametrize("external", [EXTERNAL, EXTERNAL6], ids=["PASV", "EPSV"])
def test_a_passive_server_inside_is_used_from_outside(
    lab: TestLab, external: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = tmp_path_factory.mktemp("f")
    inside = CLIENT if "." in external else "fd00:1::2"
    serve = python("tests.integration.ftp_server", inside, "21", str(files))
    use = python("tests.integration.ftp_client", external, "2121", "passive", "200000", "200")
    with peer(lab.record, "client", *serve), peer(lab.record, "server", *use) as client, lab.client() as api:
        done = move_about(lab, api)
        report = json.loads(finish(client, 60))
    assert report["transfers"] >= 2 and done >= MOVES


def test_udp_and_http_lose_nothing_while_they_are_translated_and_moved(lab: TestLab) -> None:
    with ExitStack() as stack, lab.client() as api:
        echo = lab.command("server", "udp", "server", "--bind", SERVER)
        stack.callback(echo.kill)
        web = lab.command("server", "http_server", "--bind", SERVER, "--port", "80")
        stack.callback(web.kill)
        udp = lab.command("client", "udp", "client", "--server", SERVER, "--flows", "12", "--rate", "30")
        stack.callback(udp.kill)
        http = lab.command("client", "http_client", "--server", SERVER, "--connections", "4", "--rate", "10")
        stack.callback(http.kill)
        assert move_about(lab, api) >= MOVES
        for command in (udp, http):
            command.ask_to_stop()
        sent, report = udp.report(SideReport), http.report(ClientReport)
        echo.ask_to_stop()
        served = echo.report(SideReport)
    assert sent.sent > 0 and report.errors == 0
    for here, there in ((sent, served), (served, sent)):  # flow by flow they have other names there
        counts = [flow.arrived for flow in there.flows]
        assert sum(count.unique for count in counts) == here.sent
        assert not any(count.duplicated or count.reordered for count in counts)
