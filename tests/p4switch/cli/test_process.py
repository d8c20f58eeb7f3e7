"""The switch as a process: what it prints, how it ends, its metrics, TLS."""

from __future__ import annotations

import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from finsy.proto import p4r, p4r_grpc

from tests.ports import free_port

DEADLINE = 20.0


class Process:
    """A running p4switch."""

    def __init__(self, words: list[str]) -> None:
        command = [sys.executable, "-m", "p4switch", *words]
        self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self._lines.put(line.rstrip())

    def until(self, words: str) -> list[str]:
        lines = [self._lines.get(timeout=DEADLINE)]
        while words not in lines[-1]:
            lines.append(self._lines.get(timeout=DEADLINE))
        return lines

    def error(self) -> str:
        """What it said on standard error; waits for its end."""
        assert self.popen.stderr is not None
        text = self.popen.stderr.read()
        self.popen.wait(DEADLINE)
        return text

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        self._reader.join(DEADLINE)
        assert self.popen.stdout is not None and self.popen.stderr is not None
        self.popen.stdout.close()
        self.popen.stderr.close()


@pytest.fixture
def run() -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def start(*words: str) -> Process:
        processes.append(Process(list(words)))
        return processes[-1]

    yield start
    for process in processes:
        process.close()


def version(channel: grpc.Channel) -> str:
    stub = p4r_grpc.P4RuntimeStub(channel)
    return str(
        stub.Capabilities(p4r.CapabilitiesRequest(), timeout=DEADLINE, wait_for_ready=True).p4runtime_api_version
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_with_0(run: Callable[..., Process], tmp_path: Path, number: signal.Signals) -> None:
    address = f"unix:{tmp_path}/s"
    process = run("--no-p4", "--", "--grpc-server-addr", address)
    assert process.until("Server listening on") == [f"Server listening on {address}"]
    with grpc.insecure_channel(address) as channel:
        stream = p4r_grpc.P4RuntimeStub(channel).StreamChannel(iter([]), timeout=DEADLINE)
        assert version(channel) == "1.4.1"
        started = time.monotonic()
        process.popen.send_signal(number)
        assert process.popen.wait(DEADLINE) == 0
        assert time.monotonic() - started < 3
        stream.cancel()


def test_address_in_use_is_one_line(run: Callable[..., Process]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = run("--no-p4", "--", "--grpc-server-addr", f"127.0.0.1:{taken.getsockname()[1]}")
        err = process.error()
    assert process.popen.returncode == 1
    assert [line for line in err.splitlines() if "p4switch" in line or "__main__" in line][-1].count(
        "--grpc-server-addr"
    ) == 2


def test_metrics_and_counts_in_the_log(run: Callable[..., Process], tmp_path: Path) -> None:
    port = free_port()
    words = ["--no-p4", "--log-console", "--packet-in", f"ipc://{tmp_path}/p", "--metrics-addr", f"127.0.0.1:{port}"]
    process = run(*words, "--", "--grpc-server-addr", f"unix:{tmp_path}/s", "--cpu-port", "510")
    process.until("Server listening on")
    import pynng  # here, as its import starts threads that only this test needs

    with pynng.Pair0(dial=f"ipc://{tmp_path}/p", send_timeout=5000) as wire:
        wire.send(b"\3\0\0\0\7\0\0\0\4\0\0\0abcd")
        url = f"http://127.0.0.1:{port}/metrics"
        wanted = 'p4switch_drops_total{place="port 7",reason="no_pipeline"} 1.0'
        end = time.monotonic() + DEADLINE
        text = ""
        while wanted not in text and time.monotonic() < end:
            text = urllib.request.urlopen(url, timeout=DEADLINE).read().decode()
        assert wanted in text
        assert 'p4switch_received_packets_total{port="7"} 1.0' in text
        process.popen.send_signal(signal.SIGUSR1)
        assert "no_pipeline" in process.until("no_pipeline")[-1]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    common = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    try:
        subprocess.run([*common, *names, *subject], check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return folder


@pytest.mark.parametrize("client_auth", [False, True])
def test_tls(run: Callable[..., Process], pki: Path, client_auth: bool) -> None:
    port = free_port()
    words = ["--grpc-server-addr", f"localhost:{port}", "--grpc-server-ssl", "--grpc-server-cert", f"{pki}/cert.pem"]
    words += ["--grpc-server-key", f"{pki}/key.pem", "--grpc-server-cacert", f"{pki}/cert.pem"]
    process = run("--no-p4", "--", *words, *(["--grpc-server-with-client-auth"] if client_auth else []))
    process.until("Server listening on")
    cert, key = (pki / "cert.pem").read_bytes(), (pki / "key.pem").read_bytes()
    with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(cert, key, cert)) as channel:
        assert version(channel) == "1.4.1"
    if client_auth:
        anonymous = grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(cert))
        with anonymous as channel, pytest.raises(grpc.RpcError):
            p4r_grpc.P4RuntimeStub(channel).Capabilities(p4r.CapabilitiesRequest(), timeout=5)


@pytest.mark.parametrize("what", ["empty", "no JSON", "no parsers"])
def test_bad_program_is_one_line(run: Callable[..., Process], tmp_path: Path, what: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text({"empty": "", "no JSON": "p4 program", "no parsers": "{}"}[what])
    process = run(str(path), "--", "--grpc-server-addr", f"unix:{tmp_path}/s")
    err = process.error()
    assert process.popen.returncode == 1
    assert err.count("\n") == 1 and "bad.json" in err
