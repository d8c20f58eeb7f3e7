"""The switch that a lab runs: the same command line for both, since one is a drop-in for the other.

BMv2's egress queues, the CPU port's included, hold 64 packets and drop the rest without a counter (simple_switch's
default); only Thrift changes that. A burst released to or from a replica can be longer, so the lab deepens them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress

from topo import bmv2
from topo.errors import TopologyError
from topo.processes import tcp_listens
from topo.spec import LabSpec

GRPC_HOST, GRPC_PORT = "127.0.0.1", 9559
"""In the sandbox's own network namespace, so that nothing outside can meet it."""
THRIFT_PORT = 9090
"""BMv2's default. Of several switches each has the next port of both kinds, and the next device id."""
BMV2_QUEUE = 16_384
"""Packets in each of its egress queues."""
CLI_WITHIN = 10.0
"""Seconds for one run of simple_switch_CLI."""

log = logging.getLogger("splitmerge.topo")


def device_id(position: int = 0) -> int:
    """P4Runtime device id of the switch at this position of the topology."""
    return 1 + position


def grpc_address(position: int = 0, ports: Sequence[int] = ()) -> str:
    """Where it serves P4Runtime; ``ports``: of all switches, where they are not the usual ones."""
    return f"{GRPC_HOST}:{ports[position] if ports else GRPC_PORT + position}"


def free_ports(count: int) -> tuple[int, ...]:
    """TCP ports of 127.0.0.1 that nobody has at this moment, in this network namespace."""
    with ExitStack() as held:
        return tuple(held.enter_context(socket.create_server((GRPC_HOST, 0))).getsockname()[1] for _ in range(count))


def switch_argv(spec: LabSpec, position: int, ports: Mapping[int, str]) -> list[str]:
    """The command that runs the target on these ports. It blocks until BMv2 has named its options, once.

    :raises TopologyError: if it is not installed.
    """
    interfaces = [word for port, name in sorted(ports.items()) for word in ("-i", f"{port}@{name}")]
    program = _program(spec.target)
    return [
        *program,
        "--device-id",
        str(device_id(position)),
        *interfaces,
        "--log-console",
        "--log-level",
        "warn",
        "--thrift-port",
        str(THRIFT_PORT + position),
        *bmv2.notifications(program, f"ipc://{spec.root}/notifications{position or ''}.ipc"),
        "--no-p4",
        "--",
        "--grpc-server-addr",
        grpc_address(position),
        "--cpu-port",
        str(spec.topology.cpu_port),
    ]


async def ready(target: str, position: int) -> bool:
    """Whether the switch serves P4Runtime; then BMv2's queues are deepened too, at every start of it."""
    if not await tcp_listens(GRPC_HOST, GRPC_PORT + position):
        return False
    return target != "bmv2" or await _deepen_queues(THRIFT_PORT + position)


async def _deepen_queues(thrift: int) -> bool:
    """Whether they are; if not, it is to be tried again. Nothing of a try is left."""
    client = shutil.which("simple_switch_CLI")
    if client is None:
        log.warning("simple_switch_CLI is not on PATH: bursts of more than 64 packets may be lost by BMv2's queues")
        return True
    process = await asyncio.create_subprocess_exec(
        client,
        "--thrift-port",
        str(thrift),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(CLI_WITHIN):
            said, _ = await process.communicate(f"set_queue_depth {BMV2_QUEUE}\n".encode())
    except TimeoutError:
        log.warning("simple_switch_CLI has not ended within %g s: it is killed, and run again", CLI_WITHIN)
        return False
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # who has it in a script of his own: what that runs, too
            await process.wait()
    if process.returncode == 0 and b"Could not connect" not in said:
        return True
    log.debug("simple_switch_CLI: %s", said.decode(errors="replace"))
    return False


def _program(target: str) -> list[str]:
    if target == "embedded":
        return [sys.executable, "-m", "p4switch"]
    path = bmv2.find()
    if path is None:
        raise TopologyError(
            "simple_switch_grpc is not on PATH. Install BMv2 (github.com/p4lang/behavioral-model), "
            "or use the embedded switch (--target embedded, with make: TARGET=embedded)"
        )
    return [path]
