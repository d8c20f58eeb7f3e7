"""One switch, its two wires, the punt port's, and a controller on it, in this process's network namespace."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from benchmarks.switch.wires import IN, OUT, Wires
from p4rt_controller import Controller, ControllerOptions, PuntPort
from p4src import P4BLOB, P4INFO
from splitmerge.flowkey import BUCKETS
from topo.model import PUNT_INTERFACE, one_switch
from topo.spec import LabSpec
from topo.switches import device_id, grpc_address, ready, switch_argv

Target = Literal["embedded", "bmv2"]
Way = Literal["packet-in", "ethernet"]
REPLICA, PUNT_PORT = 7, 509
CABLES = Wires.of(9)
"""Traffic comes in at the first, the replica is at the second."""
_ROOM = 4_000_000
_READY = 20.0


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process that has said ``ready``; killed at the end."""
    made = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert made.stdout is not None
        assert (await asyncio.wait_for(made.stdout.readline(), _READY)).strip() == b"ready"
        yield made
    finally:
        if made.returncode is None:
            made.kill()
        await made.wait()


@asynccontextmanager
async def switch(target: Target) -> AsyncIterator[None]:
    """The switch, as a lab starts it: BMv2's queues are deepened where simple_switch_CLI is on PATH."""
    with tempfile.TemporaryDirectory(prefix="bench-punt-") as directory:
        spec = LabSpec(name="bench", directory=directory, topology=one_switch(1), target=target)
        ports = {**CABLES.names, PUNT_PORT: f"{PUNT_INTERFACE}-sw"}
        argv = await asyncio.to_thread(switch_argv, spec, 0, ports)
        with (Path(directory) / "switch.log").open("wb") as log:
            made = await asyncio.create_subprocess_exec(*argv, stdout=log, stderr=log)
        try:
            async with asyncio.timeout(_READY):
                while not await ready(target, 0):  # noqa: ASYNC110  (another process's doing has no event)
                    await asyncio.sleep(0.05)
            yield
        finally:
            made.terminate()
            await made.wait()


@asynccontextmanager
async def controller(way: Way) -> AsyncIterator[Controller]:
    """The controller, with one replica that has all buckets; its buffers have room for all that is sent."""
    options = ControllerOptions(
        address=grpc_address(),
        p4info=P4INFO,
        p4blob=P4BLOB,
        device_id=device_id(),
        host_ports=(IN,),
        punt=PuntPort(PUNT_INTERFACE, PUNT_PORT) if way == "ethernet" else None,
        buffer_packets=_ROOM,
        buffer_bytes=_ROOM * 1600,
        move_packets=_ROOM,
        move_bytes=_ROOM * 1600,
        relay_deadline=60.0,
    )
    async with Controller(options, lambda _event: None) as made:
        await made.wait_ready(_READY)
        await made.register_replica(REPLICA, OUT)
        await made.set_buckets(dict.fromkeys(range(BUCKETS), REPLICA))
        yield made
