"""A real etcd for the tests, on a free port of the loopback; it can be killed and started again."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

from etcd3gw.client import Etcd3Client
from etcd3gw.exceptions import Etcd3Exception

PROGRAM = shutil.which("etcd")
WITHIN = 10.0


class EtcdServer:
    """Leases may be as short as a second."""

    def __init__(self, directory: Path) -> None:
        self.port, self._peers = _free_port(), _free_port()
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"etcd://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it serves."""
        assert PROGRAM is not None
        here, peers = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self._peers}"
        argv = [
            PROGRAM, "--data-dir", str(self._directory / "etcd"), "--name", "one", "--log-level", "error",
            "--listen-client-urls", here, "--advertise-client-urls", here, "--listen-peer-urls", peers,
            "--initial-advertise-peer-urls", peers, "--initial-cluster", f"one={peers}",
            "--heartbeat-interval", "50", "--election-timeout", "500",
        ]  # fmt: skip
        with (self._directory / "etcd.log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        until = time.monotonic() + WITHIN
        while True:
            try:
                self.client().put("splitmerge-test", "1")
                return
            except Etcd3Exception:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def client(self) -> Etcd3Client:
        return Etcd3Client("127.0.0.1", self.port, timeout=2.0)

    def kill(self) -> None:
        """As ``kill -9``."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(WITHIN)
            self._process = None


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
