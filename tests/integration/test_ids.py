"""The IDS with real clients and servers beyond HTTP, while every flow moves from replica to replica and back."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from splitmerge.certs import issue, make_ca
from tests.integration.labs import SERVER, TestLab, build_lab
from tests.integration.peers import feed, finish, peer, python, run

pytestmark = [pytest.mark.integ, pytest.mark.timeout(120), pytest.mark.usefixtures("namespaces")]


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}")


@pytest.fixture(scope="module")
def lab(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestLab]:
    directory = tmp_path_factory.mktemp("i")
    config = {
        "alerts": str(directory / "alerts.jsonl"),
        "login_thresh": 2,
        "client_login_thresh": 5,
        "client_nxdomain_thresh": 40,
        "client_scan_thresh": 20,
        "tls_names": ["forbidden.test"],
        "refresh": 0.3,
    }
    with build_lab(directory, middlebox_config=config) as built, built.client() as client:
        client.post("/scale-out", {})
        yield built


def through_moves(lab: TestLab, *argv: str, lines: Sequence[str]) -> str:
    """What a client prints that does what its input says: everything moves each time that it was given a line."""
    with peer(lab.record, "client", *argv, ready=False) as client:
        for line in lines:
            feed(client, line)
            lab.move_all()
        return finish(client, 20)


def alerts(lab: TestLab, kind: str) -> list:
    return [alert for alert in lab.alerts() if alert.kind == kind]


@needs("dig")
@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_dig_is_answered_and_names_that_do_not_exist_alert(lab: TestLab, transport: str) -> None:
    """A dozen questions to every move, each answered after 10 ms; over TCP all of them in one connection."""
    names = [f"{'no' if number % 2 else 'yes'}-{transport[1:]}-{number}.test" for number in range(120)]
    lines = ["\n".join(names[first : first + 12]) for first in range(0, 120, 12)]
    before = lab.statistics()
    options = ("+noall", "+comments", "+answer", "+tries=1", "+timeout=5", "+keepopen", transport, "-f", "-")
    with peer(lab.record, "server", *python("tests.integration.dns_server", SERVER, "53", "0.01")):
        said = through_moves(lab, "dig", f"@{SERVER}", *options, lines=lines)
    assert (said.count("status: NXDOMAIN"), said.count("192.0.2.1")) == (60, 60)
    assert "timed out" not in said
    now = lab.statistics()
    assert now.messages["dns"] - before.messages.get("dns", 0) == 240
    assert now.signs["dns-nxdomain"] - before.signs.get("dns-nxdomain", 0) == 60
    assert (now.malformed, now.migrated) == (before.malformed, before.migrated)
    found = lab.wait("the alert", lambda _: alerts(lab, "dns-nxdomain"))
    assert {(alert.client, alert.scope, alert.analyser) for alert in found} == {("10.0.1.2", "client", "dns")}
    assert all(alert.count > 40 and alert.evidence.startswith("no-") for alert in found)


GUESS = """
import ftplib, sys
for attempt in range(3):
    with ftplib.FTP() as ftp:
        ftp.connect(sys.argv[1], 21, timeout=20)
        for number in range(3):
            guess = sys.stdin.readline().strip()
            try:
                ftp.login("lab", guess)
            except ftplib.error_perm as error:
                assert str(error).startswith("530"), error
        ftp.close()
"""


def test_guessed_passwords_alert_by_connection_and_by_client(lab: TestLab, tmp_path: Path) -> None:
    with peer(lab.record, "server", *python("tests.integration.ftp_server", SERVER, "21", str(tmp_path))):
        through_moves(lab, sys.executable, "-c", GUESS, SERVER, lines=[f"guess {number}" for number in range(9)])
    assert lab.statistics().signs["ftp-login"] == 9  # a packet is sent, then read: who is asked this has read them all
    lab.wait("the client's alert", lambda _: [a for a in alerts(lab, "ftp-login") if a.scope == "client"])
    found = alerts(lab, "ftp-login")
    flows = [alert for alert in found if alert.scope == "flow"]
    assert len(flows) == len({alert.flow for alert in flows}) == 3
    assert all(alert.count == 3 and alert.evidence.startswith("lab: 530") for alert in flows)
    assert all(alert.count > 5 for alert in found if alert.scope == "client")


@needs("curl")
def test_curl_to_a_forbidden_server_alerts(lab: TestLab, tmp_path: Path) -> None:
    make_ca(tmp_path / "ca")
    issue(tmp_path / "ca", "server", ("www.forbidden.test", "www.allowed.test"))
    (tmp_path / "index.html").write_text("a page")
    keys = (str(tmp_path / "ca" / "server.pem"), str(tmp_path / "ca" / "server.key"))
    serve = python("tests.integration.web_server", SERVER, "443", str(tmp_path), *keys)
    with peer(lab.record, "server", *serve):
        for name in ("www.forbidden.test", "www.allowed.test"):
            trust = ("--cacert", str(tmp_path / "ca" / "ca.pem"), "--resolve", f"{name}:443:{SERVER}")
            assert run(lab.record, "client", "curl", "-sS", "-m", "20", *trust, f"https://{name}/") == "a page"
    (alert,) = lab.wait("the alert", lambda _: alerts(lab, "tls-name"))
    assert (alert.evidence, alert.scope, alert.count) == ("www.forbidden.test", "flow", 1)
    assert not alerts(lab, "tls-version")


SCAN = """
import socket, sys
for port in range(6000, 6030):
    with socket.socket() as sock:
        sock.settimeout(5)
        assert sock.connect_ex((sys.argv[1], port)) == 111
"""


def test_a_scan_of_ports_alerts(lab: TestLab) -> None:
    run(lab.record, "client", sys.executable, "-c", SCAN, SERVER)
    found = lab.wait("the alert", lambda _: alerts(lab, "scan"))
    assert all(20 < alert.count <= 30 and alert.evidence == "refused" for alert in found)
    assert lab.statistics().signs["scan"] == 30


LEAST = 4
"""Moves that iperf3's flows live through at least: it is run again until so many were made."""


@needs("iperf3")
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_iperf3_goes_on_while_its_flows_move(lab: TestLab, kind: str) -> None:
    """UDP: every datagram comes, in order. TCP: what was sent arrives. As often as it takes for moves enough.

    TCP is given bytes and not seconds: how much comes in two seconds of nothing but moves is the machine's affair.
    """
    options = ("-t", "2", "-u", "-b", "500K", "-l", "200") if kind == "udp" else ("-n", "2M", "-b", "20M")
    done = 0
    while done < LEAST:
        with (
            peer(lab.record, "server", "iperf3", "-s", "-1", "-B", SERVER, ready=False),
            peer(lab.record, "client", *listening(lab), "-J", *options, ready=False) as client,
        ):
            while client.poll() is None:
                done += lab.move_all()
            report = json.loads(finish(client, 20))
        assert "error" not in report
        end = report["end"]
        if kind == "udp":
            assert end["sum"]["packets"] > 400 and end["sum"]["lost_packets"] == 0
        else:
            assert end["sum_received"]["bytes"] > 1_000_000


def listening(lab: TestLab) -> tuple[str, ...]:
    """The command of iperf3's client, once its server listens."""
    lab.wait("the server", lambda _: run(lab.record, "server", "ss", "-Hltn", "src", f"{SERVER}:5201"))
    return ("iperf3", "-c", SERVER)
