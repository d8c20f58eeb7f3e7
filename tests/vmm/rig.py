"""A real agent in a network namespace of its own; the test is the orchestrator, a peer, and the switch's ports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from splitmerge import messages as m
from splitmerge.flowkey import FlowKey
from splitmerge.linux.afpacket import PacketSocket
from splitmerge.wire import Decoder, encode
from topo.configs import write_agent_config, write_vm_agent_config
from topo.links import CONTROL_HOST, CONTROL_PORT, Wiring, wire
from topo.model import one_switch
from topo.namespaces import CLONE_NEWNET, die_with_parent, new_network_namespace, run_in, setns
from topo.spec import LabSpec

ROOT = Path(__file__).resolve().parents[2]
SLOTS = 10
WITHIN = {"process": 15.0, "vm": 240.0}
"""Seconds for anything an agent is asked."""
PEER_PORT = 9999
_M = TypeVar("_M", bound=m.Message)


@dataclass
class Control:
    """The orchestrator's side of the control network, and a peer's."""

    within: float
    news: asyncio.Queue[tuple[m.Hello, m.Message]] = field(default_factory=asyncio.Queue)
    writers: dict[tuple[str, int], asyncio.StreamWriter] = field(default_factory=dict)
    put_back: list[tuple[m.Hello, m.Message]] = field(default_factory=list)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder, who = Decoder(), m.Hello(role="unknown")
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(65536):
                decoder.receive_data(data)
                for message in decoder.messages():
                    if isinstance(message, m.Hello):
                        who = message
                        self.writers[who.role, who.replica] = writer
                        writer.write(encode(m.Welcome()))
                    if isinstance(message, m.Stage):
                        writer.write(encode(m.Staged(epoch=message.epoch, part=message.part)))
                    self.news.put_nowait((who, message))
        writer.close()

    async def expect(self, kind: type[_M], role: str, replica: int | None = None) -> _M:
        """The next message of this kind from this role; what else comes meanwhile waits for others."""

        def fits(who: m.Hello, message: m.Message) -> bool:
            named = getattr(message, "replica", who.replica)
            return who.role == role and isinstance(message, kind) and replica in (None, named, who.replica)

        for waiting in self.put_back:
            if fits(*waiting):
                self.put_back.remove(waiting)
                return waiting[1]  # type: ignore[return-value]
        async with asyncio.timeout(self.within):
            while True:
                who, message = await self.news.get()
                if fits(who, message):
                    return message  # type: ignore[return-value]
                if not isinstance(message, m.Stats):
                    self.put_back.append((who, message))

    def agent(self, *messages: m.Message) -> None:
        """In one go: the agent meets them together."""
        self.writers["agent", 0].write(b"".join(map(encode, messages)))

    def replica(self, number: int, message: m.Message) -> None:
        self.writers["replica", number].write(encode(message))

    async def create(self, replica: int, slot: int) -> m.ReplicaCreated:
        self.agent(m.CreateReplica(request=replica, replica=replica, slot=slot))
        created = await self.expect(m.ReplicaCreated, "agent", replica)
        await self.expect(m.Hello, "replica", replica)
        return created

    async def destroy(self, replica: int, deadline: float = 60.0) -> m.ReplicaGone:
        self.agent(m.DestroyReplica(request=1000 + replica, replica=replica, deadline=deadline))
        return await self.expect(m.ReplicaGone, "agent", replica)


@dataclass
class Rig:
    """One agent and what surrounds it."""

    kind: str
    control: Control
    process: asyncio.subprocess.Process
    namespace: int
    directory: Path
    ports: dict[int, PacketSocket]
    """Slot → the switch's end of it."""
    start: Callable[[], Any]

    async def again(self) -> None:
        """Another agent process, as after a crash."""
        self.process = await self.start()
        await self.control.expect(m.Hello, "agent")

    async def serve(self, slot: int, frame: bytes) -> bytes:
        """Send a frame into the slot; what comes out of it."""
        self.ports[slot].send(frame)
        async with asyncio.timeout(self.control.within):
            while True:
                for found in self.ports[slot].receive(64):
                    if FlowKey.from_frame(found) == FlowKey.from_frame(frame):
                        return found
                await asyncio.sleep(0.01)

    def leftovers(self) -> list[str]:
        """Processes, files and interfaces that should not be there once the agent has ended."""
        found = [line for _, line in processes() if str(self.directory) in line]
        found += [str(path) for pattern in ("vm*/**", "replica-*.sock") for path in self.directory.glob(pattern)]
        return found + [name for name in run_in(self.namespace, interfaces) if name.startswith("sm-")]


def interfaces() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def processes() -> list[tuple[int, str]]:
    """Process ids and command lines, zombies left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if line and int(path.name) != os.getpid():
                found.append((int(path.name), line))
    return found


@asynccontextmanager
async def rig(kind: str, directory: Path, image: Path | None) -> AsyncIterator[Rig]:
    """An agent of this kind with ten slots, connected to the test."""
    topology = one_switch(SLOTS) if kind == "process" else one_switch(0, SLOTS)
    spec = LabSpec(
        name="c", directory=str(directory), topology=topology, middlebox="middleboxes.forward:Forward",
        vm_image=str(image or ""),
    )  # fmt: skip
    namespace = new_network_namespace()
    wiring: Wiring = run_in(namespace, lambda: wire(topology))
    control = Control(WITHIN[kind])
    slots = {slot.slot: slot.port for slot in topology.slots}
    ports = {
        slot: run_in(namespace, lambda p=port: PacketSocket(wiring.ports["s1"][p])) for slot, port in slots.items()
    }  # type: ignore[misc]
    servers = []
    if kind == "process":
        config = write_agent_config(spec, wiring.paths())
        servers.append(await asyncio.start_unix_server(control.accept, str(spec.control_socket)))
        servers.append(await asyncio.start_unix_server(control.accept, str(directory / "peer.sock")))
    else:
        config = write_vm_agent_config(spec)
        for port in (CONTROL_PORT, PEER_PORT):
            sock = run_in(namespace, lambda p=port: listening(p))  # type: ignore[misc]
            servers.append(await asyncio.start_server(control.accept, sock=sock))

    async def start() -> asyncio.subprocess.Process:
        parent = os.getpid()

        def enter() -> None:
            setns(namespace, CLONE_NEWNET)
            die_with_parent(parent)

        with (directory / "agent.log").open("ab") as log:
            argv = [sys.executable, "-m", "orchestrator.vmm", "--config", str(config)]
            environment = {**os.environ, "PATH": f"{without_kvm(directory)}:{os.environ['PATH']}"}
            return await asyncio.create_subprocess_exec(*argv, cwd=ROOT, preexec_fn=enter, stderr=log, env=environment)

    the = Rig(kind, control, await start(), namespace, directory, ports, start)
    try:
        await control.expect(m.Hello, "agent")
        yield the
    finally:
        with contextlib.suppress(ProcessLookupError):
            the.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(the.process.wait(), 20)
        except TimeoutError:
            the.process.kill()
            await the.process.wait()
        for each in ports.values():
            each.close()
        for server in servers:
            server.close()
        wiring.close()
        os.close(namespace)


def without_kvm(directory: Path) -> Path:
    """A directory for PATH: with it agents find that KVM fails, on any system, as it does on many."""
    place = directory / "bin"
    place.mkdir(exist_ok=True)
    program = place / "qemu-system-x86_64"
    program.write_text("#!/bin/sh\necho 'no kvm for tests' >&2\nexit 1\n")
    program.chmod(0o755)
    return place


def listening(port: int) -> socket.socket:
    sock = socket.create_server((CONTROL_HOST, port))
    sock.setblocking(False)
    return sock


def peer_address(kind: str, directory: Path) -> str:
    """Where the test takes state as a peer."""
    return f"unix:{directory}/peer.sock" if kind == "process" else f"tcp:{CONTROL_HOST}:{PEER_PORT}"


async def stage_at(the: Rig, address: str, message: m.Stage) -> m.Staged:
    """Bring state to a replica, as a source does."""
    scheme, _, place = address.partition(":")
    if scheme == "unix":
        reader, writer = await asyncio.open_unix_connection(place)
    else:
        host, _, port = place.rpartition(":")
        sock = run_in(the.namespace, lambda: socket.create_connection((host, int(port)), the.control.within))
        sock.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=sock)
    writer.write(encode(m.Hello(role="peer", replica=message.source)) + encode(message))
    decoder = Decoder()
    async with asyncio.timeout(the.control.within):
        while True:
            decoder.receive_data(await reader.read(65536))
            for answer in decoder.messages():
                if isinstance(answer, m.Staged):
                    writer.close()
                    return answer


def describe(path: Path) -> str:
    """The agent's own words, for a failing test."""
    return path.read_text(errors="replace")[-4000:] if path.exists() else json.dumps("no log")
