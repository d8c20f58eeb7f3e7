"""A real etcd for the tests, on a free port of the loopback; it can be killed and started again."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from etcd3gw.client import Etcd3Client
from etcd3gw.exceptions import Etcd3Exception

from guestlib.coherence.etcd import EtcdAddress, connect
from splitmerge.tls import Identity
from tests.ports import free_port

PROGRAM = shutil.which("etcd")
WITHIN = 30.0


class EtcdServer:
    """Leases may be as short as a second. With ``identity`` it shows and wants certificates, by the name localhost."""

    def __init__(self, directory: Path, identity: Identity | None = None) -> None:
        self._identity = identity
        self.port, self._peers = free_port(), free_port()
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"etcd://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it serves."""
        assert PROGRAM is not None
        scheme = "http" if self._identity is None else "https"
        here, peers = f"{scheme}://127.0.0.1:{self.port}", f"http://127.0.0.1:{self._peers}"
        argv = [
            PROGRAM, "--data-dir", str(self._directory / "etcd"), "--name", "one", "--log-level", "error",
            "--listen-client-urls", here, "--advertise-client-urls", here, "--listen-peer-urls", peers,
            "--initial-advertise-peer-urls", peers, "--initial-cluster", f"one={peers}",
            "--heartbeat-interval", "50", "--election-timeout", "500",
        ]  # fmt: skip
        if (own := self._identity) is not None:
            argv += ["--cert-file", str(own.certificate), "--key-file", str(own.key)]
            argv += ["--trusted-ca-file", str(own.ca), "--client-cert-auth"]
        with (self._directory / "etcd.log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        until = time.monotonic() + WITHIN
        while True:
            try:
                self.client().put("splitmerge-test", "1")
                return
            except Etcd3Exception:
                if time.monotonic() > until or self._process.poll() is not None:
                    self.kill()
                    raise
                time.sleep(0.05)

    def client(self) -> Etcd3Client:
        """One that waits for a slow disk: etcd answers when it has written."""
        client = connect(EtcdAddress("localhost", self.port, self._identity is not None), self._identity)
        client.timeout = WITHIN
        return client

    def kill(self) -> None:
        """As ``kill -9``."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(WITHIN)
            self._process = None
