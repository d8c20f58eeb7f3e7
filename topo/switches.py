"""The command line of the switch that a lab runs: the same flags for both, since one is a drop-in for the other."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping

from topo.errors import TopologyError
from topo.spec import LabSpec

GRPC_HOST, GRPC_PORT = "127.0.0.1", 9559
"""In the sandbox's own network namespace, so that nothing outside can meet it."""
DEVICE_ID = 1


def switch_argv(spec: LabSpec, ports: Mapping[int, str]) -> list[str]:
    """The command that runs the target on these ports. :raises TopologyError: if it is not installed."""
    interfaces = [word for port, name in sorted(ports.items()) for word in ("-i", f"{port}@{name}")]
    return [
        *_program(spec.target),
        "--device-id",
        str(DEVICE_ID),
        *interfaces,
        "--log-console",
        "--log-level",
        "warn",
        "--no-p4",
        "--",
        "--grpc-server-addr",
        f"{GRPC_HOST}:{GRPC_PORT}",
        "--cpu-port",
        str(spec.topology.cpu_port),
    ]


def _program(target: str) -> list[str]:
    if target == "embedded":
        return [sys.executable, "-m", "p4switch"]
    path = shutil.which("simple_switch_grpc")
    if path is None:
        raise TopologyError(
            "simple_switch_grpc is not on PATH. Install BMv2 (github.com/p4lang/behavioral-model), "
            "or use the embedded switch: TARGET=embedded"
        )
    return [path]
