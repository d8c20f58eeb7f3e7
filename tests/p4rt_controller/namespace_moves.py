"""Moves through the controller's buffers over a punt port, on real interfaces; run by test_punt.py in its own process.

Arguments: the program that is the switch, and ``simple_switch_CLI`` or nothing. Prints what the ledger says.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

from pyroute2 import IPRoute

from p4rt_controller import Controller, PuntPort
from splitmerge.linux.afpacket import PacketSocket
from splitmerge.messages import Scope
from tests.p4rt_controller.conftest import Ledger, Replica, deepen_queues, flow_key, free_port, options_for, traffic
from topo import bmv2
from topo.links import PUNT_MTU, offloads_off
from topo.namespaces import enter_sandbox

PORTS = {1: "client", 2: "server", 11: "one", 12: "two", 509: "punt"}
FLOWS = list(range(40001, 40009))
MOVES, RATE = 150, 3000
UNDER_WAY = 200
"""Packets at most; a switch that carries all has some twenty."""
TAKEN_WITHIN = 5.0
"""Seconds until the kernel has room for a frame again."""


def wires() -> None:
    """A veth pair a port; ``NAME-sw`` is the switch's end."""
    with IPRoute() as ip:
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
        for name in PORTS.values():
            peer = {"ifname": name, "mtu": PUNT_MTU}
            ip.link("add", ifname=f"{name}-sw", kind="veth", mtu=PUNT_MTU, peer=peer)
            for end in (name, f"{name}-sw"):
                Path(f"/proc/sys/net/ipv6/conf/{end}/disable_ipv6").write_text("1")
                ip.link("set", index=ip.link_lookup(ifname=end)[0], state="up", arp=False)
                offloads_off(end)


class Wire:
    """The far ends of the wires, but for the punt port's: what `conftest.Wire` is over nanomsg."""

    def __init__(self, stack: ExitStack) -> None:
        self.handlers: dict[int, Callable[[bytes], None]] = {}
        self._sockets = {port: PacketSocket(name) for port, name in PORTS.items() if name != "punt"}
        loop = asyncio.get_running_loop()
        for port, made in self._sockets.items():
            stack.callback(made.close)
            loop.add_reader(made.fileno(), self._readable, port)

    def send(self, port: int, frame: bytes) -> None:
        """A replica that releases many at once may be ahead of a busy kernel, which then takes no more for a moment."""
        until = time.monotonic() + TAKEN_WITHIN
        while not self._sockets[port].send(frame):
            assert time.monotonic() < until, f"port {port} takes nothing"

    def _readable(self, port: int) -> None:
        for frame in self._sockets[port].receive():
            if port in self.handlers:
                self.handlers[port](frame)


async def start_switch(program: list[str], grpc: str, directory: str) -> asyncio.subprocess.Process:
    thrift = free_port()
    interfaces = [word for port, name in PORTS.items() for word in ("-i", f"{port}@{name}-sw")]
    command = [
        *program, "--device-id", "1", *interfaces, "--no-p4", "--thrift-port", str(thrift),
        *(await asyncio.to_thread(bmv2.notifications, program, f"ipc://{directory}/n")),
        "--", "--grpc-server-addr", grpc, "--cpu-port", "510",
    ]  # fmt: skip
    with (Path(directory) / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    if "simple_switch_grpc" in program[0]:
        await asyncio.to_thread(deepen_queues, thrift)
    return process


async def moves(controller: Controller, replicas: dict[int, Replica], ledger: Ledger) -> int:
    """Flows and buckets to and fro, each through the controller's buffer; packets relayed.

    So many moves, and as many more as it takes until enough has been sent and relayed.
    """
    chance = random.Random(2013)
    owner = dict.fromkeys(FLOWS, 101)
    epoch = relayed = 0
    while epoch < MOVES or relayed <= MOVES or sum(ledger.sent.values()) <= 5 * MOVES:
        epoch += 1
        source = chance.choice((101, 102))
        chosen = [sport for sport in FLOWS if owner[sport] == source and chance.random() < 0.7]
        by_bucket = [sport for sport in chosen if chance.random() < 0.3]
        keys = tuple(bytes(flow_key(sport)) for sport in chosen if sport not in by_bucket)
        scope = Scope(keys=keys, buckets=tuple({flow_key(sport).bucket for sport in by_bucket}))
        target = 203 - source
        await controller.suspend(epoch, scope, source)
        await controller.drain(epoch, source)
        replicas[target].commit(epoch, scope)
        resumed = await controller.resume(epoch, scope, target)
        relayed += resumed.relayed
        owner |= dict.fromkeys(chosen, target)
    return relayed


async def main(program: list[str]) -> None:
    grpc = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="punt-") as directory, ExitStack() as stack:
        process = await start_switch(program, grpc, directory)
        try:
            wire = Wire(stack)
            options = options_for(SimpleNamespace(grpc=grpc), punt=PuntPort("punt", 509))
            async with Controller(options, lambda event: None) as controller:
                await controller.wait_ready(40)
                replicas = {number: Replica(wire, number, port) for number, port in ((101, 11), (102, 12))}
                for fake in replicas.values():
                    await controller.register_replica(fake.number, fake.port)
                await controller.set_buckets(dict.fromkeys(range(1024), 101))
                ledger = Ledger(wire)
                async with traffic(ledger, FLOWS, RATE, UNDER_WAY):
                    relayed = await moves(controller, replicas, ledger)
                await ledger.settled()
                stats = controller.stats()
                lost = (stats.dropped_punt_ring, stats.dropped_punt_link, stats.packet_outs_refused)
                print("problems", ledger.problems(), "lost", lost)
                sent = sum(ledger.sent.values())
                assert stats.packet_path == "ethernet" and relayed > MOVES and sent > 5 * MOVES, (relayed, sent)
        finally:
            process.kill()
            await process.wait()


if __name__ == "__main__":
    enter_sandbox()
    wires()
    asyncio.run(main(sys.argv[1:] or [sys.executable, "-m", "p4switch"]))
