"""Switch nodes for any Mininet script: `EmbeddedSwitch` and `Bmv2Switch`.

    net.addSwitch("s1", cls=EmbeddedSwitch)

A node runs its switch in a network namespace of its own (so a P4Runtime port on 127.0.0.1 meets nobody else's), on the
interfaces that Mininet gave it, with no P4 program: a controller brings that. Port numbers are those of
``net.addLink(…, port2=11)``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mininet.node import Switch

from topo import bmv2

READY_WITHIN = 20.0
"""Seconds until the switch must serve P4Runtime."""
STOP_WITHIN = 5.0


class P4RuntimeSwitch(Switch):  # type: ignore[misc]  # mininet has no types
    """A switch that takes ``simple_switch_grpc``'s command line.

    :param argv: the program to run.
    :param grpc_address: where it serves P4Runtime, in its own namespace.
    """

    def __init__(
        self,
        name: str,
        argv: tuple[str, ...] = (),
        device_id: int = 1,
        grpc_address: str = "127.0.0.1:9559",
        cpu_port: int = 510,
        thrift_port: int = 9090,
        **params: Any,
    ) -> None:
        params.setdefault("inNamespace", True)
        super().__init__(name, **params)
        self.argv = argv
        self.device_id = device_id
        self.grpc_address = grpc_address
        self.cpu_port = cpu_port
        self.thrift_port = thrift_port
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The whole command line."""
        ports = [(number, interface.name) for interface, number in self.ports.items() if interface.name != "lo"]
        interfaces = [word for number, name in sorted(ports) for word in ("-i", f"{number}@{name}")]
        return [
            *self.argv,
            *("--device-id", str(self.device_id)),
            *interfaces,
            *("--thrift-port", str(self.thrift_port)),
            *bmv2.notifications(self.argv, f"ipc:///tmp/{self.name}-{self.pid}-notifications.ipc"),
            "--no-p4",
            "--",
            *("--grpc-server-addr", self.grpc_address, "--cpu-port", str(self.cpu_port)),
        ]

    def start(self, controllers: list[object]) -> None:
        """Start the program and wait until it serves. :raises RuntimeError: if it does not, with its last words."""
        self.cmd("ip link set lo up")
        with tempfile.TemporaryFile() as log:
            self.process = self.popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
            if not self._serves():
                self.stop(deleteIntfs=False)
                log.seek(0)
                said = log.read().decode(errors="replace")
                raise RuntimeError(f"{self.name}: {self.argv[0]} does not serve {self.grpc_address}:\n{said}")

    def _serves(self) -> bool:
        """Wait until it listens, seen in the socket tables of its own namespace."""
        port = f":{int(self.grpc_address.rpartition(':')[2]):04X} "
        deadline = time.monotonic() + READY_WITHIN
        while self.process is not None and self.process.poll() is None and time.monotonic() < deadline:
            tables = "".join(Path(f"/proc/{self.pid}/net/{name}").read_text() for name in ("tcp", "tcp6"))
            if any(port in line.split(" 0A ")[0] for line in tables.splitlines() if " 0A " in line):
                return True
            time.sleep(0.05)
        return False

    def stop(self, deleteIntfs: bool = True) -> None:
        """SIGTERM, then SIGKILL after `STOP_WITHIN`."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(STOP_WITHIN)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
        super().stop(deleteIntfs)


class EmbeddedSwitch(P4RuntimeSwitch):
    """This project's own switch."""

    def __init__(self, name: str, **params: Any) -> None:
        super().__init__(name, argv=(sys.executable, "-m", "p4switch"), **params)


class Bmv2Switch(P4RuntimeSwitch):
    """``simple_switch_grpc`` from PATH. :raises RuntimeError: if it is not there."""

    def __init__(self, name: str, **params: Any) -> None:
        path = bmv2.find()
        if path is None:
            raise RuntimeError("simple_switch_grpc is not on PATH; install BMv2 or use EmbeddedSwitch")
        super().__init__(name, argv=(path,), **params)
