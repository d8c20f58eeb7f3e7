"""A lab: one process that owns a sandbox and keeps a switch, an orchestrator and a VMM agent running in it.

    sandbox (user + network + mount namespaces)
    ├── switch          p4switch or simple_switch_grpc, one interface a port
    ├── orchestrator    with the controller inside; REST API on a Unix socket
    ├── agent           zygote; forks a replica into a slot's namespace when asked
    ├── client, server  namespaces with one interface each
    └── slot1 … slotN   namespaces for replicas, all with the middlebox's MAC and IP addresses

A process that ends is started again; the journal, the guest libraries and the switch's tables survive it. The lab's own
end takes everything with it: each process asked the kernel to die with its parent, and namespaces go with their last
descriptor.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from splitmerge.client import OrchestratorClient
from splitmerge.errors import BadInput, PeerError, SplitmergeError
from topo.configs import write_agent_config, write_orchestrator_config, write_vm_agent_config
from topo.errors import NeverReady, TopologyError
from topo.found import ENDING, RECORD, began
from topo.links import Wiring, wire
from topo.model import PROCESS_AGENT, VM_AGENT
from topo.names import write_names
from topo.namespaces import die_with_parent, enter_sandbox
from topo.processes import Command, Supervised, unix_listens
from topo.spec import ENDED, READY, LabRecord, LabSpec
from topo.switches import grpc_address, switch_argv
from topo.switches import ready as switch_ready

log = logging.getLogger("splitmerge.topo")

ENDED_AT_ONCE = 2
"""Replicas that end as they start before the first of a lab is not waited for any more: one may be chance."""
LIVED = 0.2
"""Seconds for which the first replica must have lived: many that cannot work end right behind their Hello."""
READY_WITHIN = 90.0
"""Seconds until a started lab must serve; `splitmerge up` waits as long."""


class Lab:
    """Builds the lab of a `LabSpec` on links that are wired already, and keeps it running."""

    def __init__(self, spec: LabSpec, wiring: Wiring) -> None:
        self.spec = spec
        self._wiring = wiring
        self._processes: list[Supervised] = []
        self._served = False
        self._lives_since = math.inf
        """When a replica, before the lab serves, was first seen to live, and has been at each look since."""

    async def run(self, stop: asyncio.Event) -> None:
        """Build everything, write ``lab.json``, print ``ready``, and serve until ``stop`` is set.

        If that is before all is built, the rest is not built, and ``ended`` is printed when nothing runs any more.
        :raises SplitmergeError: if a part cannot be built or keeps ending.
        """
        try:
            built = await self._built(stop)
            if built:
                await self._serve(stop)
        finally:
            await self._take_down()
        if not built:
            _tell(ENDED)

    async def _built(self, stop: asyncio.Event) -> bool:
        """Whether everything is built, rather than called off by ``stop``."""
        building = asyncio.create_task(self._build(), name="build")
        stopped = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait([building, stopped], return_when=asyncio.FIRST_COMPLETED)
            if building.done():
                building.result()
            return building.done()
        finally:
            building.cancel()
            stopped.cancel()
            await asyncio.gather(building, stopped, return_exceptions=True)

    async def _build(self) -> None:
        spec = self.spec
        (spec.root / "logs").mkdir(parents=True, exist_ok=True)
        write_names(spec.root, spec.topology)
        orchestrator = write_orchestrator_config(spec)
        python = [sys.executable, "-m"]
        names = spec.topology.shown_switches()
        for position, name in enumerate(spec.topology.switches):
            await self._start(
                "switch" if len(names) == 1 else f"switch-{name}",
                await asyncio.to_thread(switch_argv, spec, position, self._wiring.ports[name]),
                partial(switch_ready, spec.target, position),
                stop_within=3.0,
            )
        await self._start(
            "orchestrator",
            [*python, "orchestrator", "--config", str(orchestrator)],
            partial(unix_listens, spec.api_socket),
        )
        if spec.topology.slots_of("process"):
            agent = write_agent_config(spec, self._wiring.paths())
            await self._start(
                "agent",
                [*python, "orchestrator.vmm", "--config", str(agent)],
                partial(self._replica_lives, "process"),
                namespace=PROCESS_AGENT,
            )
        if spec.topology.slots_of("vm"):
            await self._start(
                "vm-agent",
                [*python, "orchestrator.vmm", "--config", str(write_vm_agent_config(spec))],
                partial(self._replica_lives, "vm"),
                ready_within=spec.start_within - READY_WITHIN / 3,
                namespace=VM_AGENT,
            )

    async def _start(
        self,
        name: str,
        argv: list[str],
        ready: Callable[[], Awaitable[bool]],
        stop_within: float = 8.0,
        ready_within: float = READY_WITHIN / 3,
        namespace: str = "",
    ) -> None:
        command = Command(
            name=name,
            namespace=self._wiring.namespaces.get(namespace),
            argv=argv,
            log=self.spec.root / "logs" / f"{name}.log",
            log_kept=not self.spec.ephemeral,
            ready=ready,
            ready_within=ready_within,
            stop_within=stop_within,
        )
        process = Supervised(command)
        self._processes.append(process)
        await process.start()

    async def _replica_lives(self, kind: str) -> bool:
        """Whether the orchestrator is ready, a replica works, and an agent of this kind is there to make more.

        Until the lab serves it must have lived for `LIVED` seconds, and after tries that failed be on trial no more.

        :raises NeverReady: while the lab is being built: its replicas end by themselves. Later somebody may scale out.
        """
        status = await asyncio.to_thread(_status, self.spec.api_socket)
        if status is None:
            return False
        if not self._served and (problem := _stillborn(status)):
            raise NeverReady(f"middlebox {self.spec.middlebox}", problem)
        here = any(agent["kind"] == kind for agent in status["agents"])
        on_trial = any(each["ended"] for each in status["replacements"]["on_trial"])
        lives = status["replicas"] > 0 and not on_trial
        now = time.monotonic()
        self._lives_since = min(self._lives_since, now) if lives else math.inf
        well = now >= self._lives_since + LIVED or (self._served and status["replicas"] > 0)
        return bool(status["ready"]) and well and here

    async def _serve(self, stop: asyncio.Event) -> None:
        self._write_record()
        self._served = True
        _tell(READY)
        watchers = [
            asyncio.create_task(process.watch(), name=f"watch {process.command.name}") for process in self._processes
        ]
        stopped = asyncio.create_task(stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait([*watchers, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*watchers, stopped):
                task.cancel()
            await asyncio.gather(*watchers, stopped, return_exceptions=True)

    def _write_record(self) -> None:
        spec, wiring = self.spec, self._wiring
        record = LabRecord(
            name=spec.name,
            pid=os.getpid(),
            began=began(os.getpid()),
            directory=spec.directory,
            target=spec.target,
            api_socket=str(spec.api_socket),
            namespaces={name: str(path) for name, path in wiring.paths().items()},
            switches={name: grpc_address(position) for position, name in enumerate(spec.topology.shown_switches())},
        )
        path = spec.root / RECORD
        path.with_suffix(".tmp").write_bytes(msgspec.json.format(msgspec.json.encode(record)))
        path.with_suffix(".tmp").replace(path)

    async def _take_down(self) -> None:
        """End the processes, last started first, and let the namespaces go."""
        with suppress(OSError):  # whoever waits for the end may have removed the directory
            (self.spec.root / ENDING).touch()
        for process in reversed(self._processes):
            await process.stop()
        # Whoever finds no record looks for the namespaces here (`topo.launch.call_off`).
        (self.spec.root / RECORD).unlink(missing_ok=True)
        self._wiring.close()
        if self.spec.ephemeral and self._served:  # else whoever started it wants to read the logs
            shutil.rmtree(self.spec.root, ignore_errors=True)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _status(api: Path) -> dict[str, Any] | None:
    """The orchestrator's, if it answers."""
    try:
        with OrchestratorClient(api, timeout=2.0) as client:
            return dict(client.get("/status"))
    except PeerError:  # it is about to listen, or is being started again
        return None


def _stillborn(status: dict[str, Any]) -> str:
    """How the first replicas end by themselves, if they do; empty while there is hope."""
    if status["replicas"]:
        return ""
    waiting, lost = status["replacements"]["owed"], status["replacements"]["given_up"]
    worst = max((*waiting, *lost), key=lambda each: int(each["ended"]), default=None)
    if worst is None or not worst["ended"] or (worst not in lost and worst["ended"] < ENDED_AT_ONCE):
        return ""
    died = "" if status["replacements"]["enabled"] or not worst["replica"] else "it died "
    if worst["ended"] == 1:
        return f"its first replica has ended by itself as it started: {died}{worst['reason']}"
    return f"{worst['ended']} replicas have ended by themselves as they started, the last: {died}{worst['reason']}"


async def _run(spec: LabSpec, wiring: Wiring) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Lab(spec, wiring).run(stop)


def main() -> int:
    """``python -m topo.lab --spec FILE``: the process behind `splitmerge up`."""
    parser = argparse.ArgumentParser(prog="python -m topo.lab", description="Run a lab until SIGTERM.")
    parser.add_argument("--spec", type=Path, required=True, help="JSON file of a LabSpec; `splitmerge up` writes it")
    parser.add_argument("--die-with", type=int, default=0, metavar="PID", help="end when this parent process ends")
    arguments = parser.parse_args()
    try:
        spec = msgspec.json.decode(arguments.spec.read_bytes(), type=LabSpec)
        spec.validate()
        if arguments.die_with:
            die_with_parent(arguments.die_with)
        enter_sandbox()
        logging.basicConfig(level=spec.log_level.upper(), format="%(asctime)s %(name)s %(levelname)s %(message)s")
        logging.getLogger("httpx").setLevel("WARNING")  # it is asked every few milliseconds at the start
        asyncio.run(_run(spec, wire(spec.topology, punt=spec.punt == "ethernet", apart=spec.tls)))
    except (OSError, msgspec.DecodeError) as error:
        return _complain(f"{arguments.spec}: {error}")
    except (BadInput, TopologyError, SplitmergeError) as error:
        return _complain(str(error))
    return 0


def _complain(problem: str) -> int:
    sys.stderr.write(f"error: {problem}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
