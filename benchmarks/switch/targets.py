"""The switches that are compared, as processes in this namespace."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.switch.client import CPU, DEVICE
from benchmarks.switch.wires import IN, OUT, Wires
from topo import bmv2

TARGETS = ("native", "interpreter", "bare", "simple_switch_grpc")


@dataclass
class Running:
    """A target under test, between its own cables."""

    name: str
    process: subprocess.Popen[str]
    cables: Wires
    address: str

    @property
    def programmable(self) -> bool:
        return self.name != "bare"

    def resident_mib(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return round(pages * 4096 / 2**20, 1)


def _number(name: str) -> int:
    return TARGETS.index(name)


def address_of(name: str) -> str:
    """Where a target serves P4Runtime."""
    return f"127.0.0.1:{19559 + _number(name)}"


def command(name: str, cables: Wires) -> list[str] | None:
    """The command line; None if the target is not installed."""
    if name == "bare":
        return [sys.executable, "-m", "benchmarks.switch.bare", cables.names[IN], cables.names[OUT]]
    rest = ["--device-id", str(DEVICE)]
    for port, interface in cables.names.items():
        rest += ["-i", f"{port}@{interface}"]
    rest += ["--no-p4", "--", "--grpc-server-addr", address_of(name), "--cpu-port", str(CPU)]
    if name == "simple_switch_grpc":
        path = bmv2.find()
        return None if path is None else [path, *rest]
    return [sys.executable, "-m", "p4switch", *rest, "--backend", name]


@contextmanager
def running(name: str) -> Iterator[Running | None]:
    """The target, until the block is left; None if it is not installed. Its cables must be there."""
    cables = Wires.of(_number(name))
    words = command(name, cables)
    if words is None:
        yield None
        return
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert process.stdout is not None
            if name != "simple_switch_grpc":
                line = process.stdout.readline()
                while line and not line.startswith(("ready", "Server listening")):
                    line = process.stdout.readline()
            yield Running(name, process, cables, address_of(name))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
