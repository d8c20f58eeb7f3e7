"""Switch nodes for any Mininet script: `EmbeddedSwitch` and `Bmv2Switch`.

    net.addSwitch("s1", cls=EmbeddedSwitch)

A node runs its switch in a network namespace of its own (so a P4Runtime port on 127.0.0.1 meets nobody else's), on the
interfaces that Mininet gave it, with no P4 program: a controller brings that. Port numbers are those of
``net.addLink(…, port2=11)``.
"""

from __future__ import annotations

import select
import shutil
import subprocess
import sys
import time
from typing import IO, Any

from mininet.node import Switch

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
        **params: Any,
    ) -> None:
        params["inNamespace"] = True
        super().__init__(name, **params)
        self.argv = argv
        self.device_id = device_id
        self.grpc_address = grpc_address
        self.cpu_port = cpu_port
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The whole command line."""
        ports = [(number, interface.name) for interface, number in self.ports.items() if interface.name != "lo"]
        interfaces = [word for number, name in sorted(ports) for word in ("-i", f"{number}@{name}")]
        return [
            *self.argv,
            *("--device-id", str(self.device_id)),
            *interfaces,
            "--no-p4",
            "--",
            *("--grpc-server-addr", self.grpc_address, "--cpu-port", str(self.cpu_port)),
        ]

    def start(self, controllers: list[object]) -> None:
        """Start the program and wait until it serves. :raises RuntimeError: if it does not, with its last words."""
        self.cmd("ip link set lo up")
        self.process = self.popen(self.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self.process.stdout is not None
        said = _read_until(self.process.stdout, b"Server listening on", READY_WITHIN)
        if b"Server listening on" not in said:
            self.stop()
            raise RuntimeError(f"{self.name}: {self.argv[0]} does not serve:\n{said.decode(errors='replace')}")

    def stop(self, deleteIntfs: bool = True) -> None:
        """SIGTERM, then SIGKILL after `STOP_WITHIN`."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(STOP_WITHIN)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None
        super().stop(deleteIntfs)


class EmbeddedSwitch(P4RuntimeSwitch):
    """This project's own switch."""

    def __init__(self, name: str, **params: Any) -> None:
        super().__init__(name, argv=(sys.executable, "-m", "p4switch"), **params)


class Bmv2Switch(P4RuntimeSwitch):
    """``simple_switch_grpc`` from PATH. :raises RuntimeError: if it is not there."""

    def __init__(self, name: str, **params: Any) -> None:
        path = shutil.which("simple_switch_grpc")
        if path is None:
            raise RuntimeError("simple_switch_grpc is not on PATH; install BMv2 or use EmbeddedSwitch")
        super().__init__(name, argv=(path,), **params)


def _read_until(stream: IO[bytes], mark: bytes, seconds: float) -> bytes:
    """What the stream gives until the mark, its end, or the deadline."""
    said, deadline = b"", time.monotonic() + seconds
    while mark not in said and (left := deadline - time.monotonic()) > 0:
        if not select.select([stream], [], [], left)[0]:
            break
        chunk = stream.read1(4096)  # type: ignore[attr-defined]  # a BufferedReader, which IO does not say
        if not chunk:
            break
        said += chunk
    return said
