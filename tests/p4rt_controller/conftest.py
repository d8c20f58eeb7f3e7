"""A whole small world without privileges: a switch process on nanomsg ports, hosts, and replicas that obey the rules.

The switch is the embedded one, or BMv2's where ``simple_switch_grpc`` is on PATH; both are started with the same flags.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import shutil
import struct
import subprocess
import sys
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pynng
import pytest

from p4rt_controller import AddressReply, Controller, ControllerOptions, Route
from p4src import P4BLOB, P4INFO
from splitmerge import tag as tags
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope
from splitmerge.tag import Tag, TagKind
from tests.bmv2 import bmv2_with_nanomsg
from tests.ports import free_port

MIDDLEBOX_MAC = "02:00:00:00:00:fe"
CLIENT_MAC, SERVER_MAC = "02:00:00:00:01:02", "02:00:00:00:02:02"
CLIENT, SERVER = "10.0.1.2", "10.0.2.2"
_HEADER = struct.Struct("=iii")
_PACKET_IN, _PACKET_OUT = 3, 4
F = TypeVar("F")


def udp_frame(sport: int, dport: int, sequence: int) -> bytes:
    """Client to server, numbered."""
    payload = struct.pack("!I", sequence) + bytes(18)
    udp = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), sequence & 0xFFFF, 0, 64, 17, 0,
        ipaddress.IPv4Address(CLIENT).packed, ipaddress.IPv4Address(SERVER).packed,
    )  # fmt: skip
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    ip = head[:10] + checksum.to_bytes(2, "big") + head[12:]
    macs = bytes.fromhex((MIDDLEBOX_MAC + CLIENT_MAC).replace(":", ""))
    return macs + b"\x08\x00" + ip + udp


def sequence_of(frame: bytes) -> int:
    return int(struct.unpack_from("!I", frame, 14 + 20 + 8)[0])


def flow_key(sport: int, dport: int = 9) -> FlowKey:
    return FlowKey.parse(f"udp,{CLIENT}:{sport},{SERVER}:{dport}")


class Wire:
    """The switch's ports, over its nanomsg socket."""

    def __init__(self, address: str) -> None:
        self._socket = pynng.Pair0(recv_buffer_size=8192, send_buffer_size=8192)
        self._address = address
        self.handlers: dict[int, Callable[[bytes], None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._out: asyncio.Queue[bytes] = asyncio.Queue()
        self._closing = False  # pynng forgets a cancellation that comes together with a message

    async def __aenter__(self) -> Wire:
        self._socket.dial(self._address, block=False)
        self._tasks = [
            asyncio.create_task(self._receive(), name="wire:receive"),
            asyncio.create_task(self._send(), name="wire:send"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()

    def send(self, port: int, frame: bytes) -> None:
        self._out.put_nowait(_HEADER.pack(_PACKET_IN, port, len(frame)) + frame)

    async def _send(self) -> None:
        while not self._closing:
            await self._socket.asend(await self._out.get())

    async def _receive(self) -> None:
        while not self._closing:
            message = await self._socket.arecv()
            kind, port, _ = _HEADER.unpack_from(message)
            if kind == _PACKET_OUT and port in self.handlers:
                self.handlers[port](message[_HEADER.size :])


@dataclass
class Hold:
    keys: frozenset[bytes]
    buckets: frozenset[int]
    waiting: deque[bytes] = field(default_factory=deque)

    def takes(self, key: FlowKey) -> bool:
        return key in self.keys or key.bucket in self.buckets


class Replica:
    """Obeys the data-plane rules. ``loss``: probability that it does not see, or answer, a tagged frame."""

    def __init__(self, wire: Wire, number: int, port: int, *, loss: float = 0.0) -> None:
        self.number, self.port = number, port
        self._wire = wire
        self._loss = loss
        self._random = random.Random(number)
        self.deaf = False
        self.holds: dict[int, Hold] = {}
        self.expected: dict[int, int] = defaultdict(lambda: 1)
        self.early: dict[int, dict[int, tuple[Tag, bytes]]] = defaultdict(dict)
        self.processed: list[tuple[FlowKey, int]] = []
        self.relayed = 0
        self.delay = 0.0
        wire.handlers[port] = self.receive

    def commit(self, epoch: int, scope: Scope) -> None:
        """The orchestrator's Commit: hold direct packets of the scope until END."""
        self.holds[epoch] = Hold(frozenset(scope.keys), frozenset(scope.buckets))

    def release(self, epoch: int) -> None:
        """The orchestrator's Commit of a move whose packets were kept here."""
        for frame in self.holds.pop(epoch).waiting:
            self._process(frame)

    def give_back(self, epoch: int, source: Replica) -> None:
        """The orchestrator's Return: the source processes what was kept here."""
        for frame in self.holds.pop(epoch).waiting:
            source._process(frame)

    def receive(self, frame: bytes) -> None:
        if self.delay:
            asyncio.get_running_loop().call_later(self.delay, self._receive, frame)
        else:
            self._receive(frame)

    def _receive(self, frame: bytes) -> None:
        if self.deaf:
            return
        popped = tags.pop(frame)
        if popped is None:
            self._direct(frame)
            return
        mark, inner = popped
        if self._random.random() < self._loss:
            return
        match mark.kind:
            case TagKind.MARKER:
                self._answer(TagKind.MARKER_ECHO, mark.epoch, mark.sequence)
            case TagKind.RELAYED | TagKind.END:
                self._relayed(mark, inner)

    def _direct(self, frame: bytes) -> None:
        key = FlowKey.from_frame(frame)
        assert key is not None
        for hold in self.holds.values():
            if hold.takes(key):
                hold.waiting.append(frame)
                return
        self._process(frame)

    def _relayed(self, mark: Tag, inner: bytes) -> None:
        early = self.early[mark.epoch]
        if mark.sequence == 0:
            early.clear()
        elif mark.sequence >= self.expected[mark.epoch]:
            early[mark.sequence] = mark, inner
        while (due := early.pop(self.expected[mark.epoch], None)) is not None:
            self._accept(*due)
        expected = self.expected[mark.epoch]
        if self._random.random() >= self._loss:
            have = sum(1 << (number - expected - 1) for number in early)
            self._answer(TagKind.RELAY_ACK, mark.epoch, expected, have)

    def _accept(self, mark: Tag, inner: bytes) -> None:
        self.expected[mark.epoch] += 1
        if mark.kind is TagKind.RELAYED:
            self.relayed += 1
            self._process(inner)
        elif mark.epoch in self.holds:
            self.release(mark.epoch)

    def _answer(self, kind: TagKind, epoch: int, sequence: int, have: int = 0) -> None:
        macs = bytes.fromhex((MIDDLEBOX_MAC + MIDDLEBOX_MAC).replace(":", ""))
        frame = tags.with_relay_ahead(macs + b"\x88\xb6" + bytes(46), have)
        self._wire.send(self.port, Tag(kind, epoch, sequence).push(frame))

    def _process(self, frame: bytes) -> None:
        key = FlowKey.from_frame(frame)
        assert key is not None
        self.processed.append((key, sequence_of(frame)))
        self._wire.send(self.port, frame)


class Ledger:
    """What the client sent and the server got, by source port of the flow."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.sent: dict[int, int] = defaultdict(int)
        self.got: dict[int, list[int]] = defaultdict(list)
        wire.handlers[2] = self._receive

    def send(self, sport: int) -> None:
        self._wire.send(1, udp_frame(sport, 9, self.sent[sport]))
        self.sent[sport] += 1

    def _receive(self, frame: bytes) -> None:
        self.got[struct.unpack_from("!H", frame, 34)[0]].append(sequence_of(frame))

    @property
    def under_way(self) -> int:
        """Packets that were sent and have not arrived: in the switch, at a replica, at the controller, or lost."""
        return sum(self.sent.values()) - sum(map(len, self.got.values()))

    async def settled(self, seconds: float = 10.0) -> None:
        """Everything sent has arrived; or the time is over, and `problems` tells."""
        with contextlib.suppress(TimeoutError):
            await eventually(lambda: self.under_way <= 0, seconds)

    def lost_or_doubled(self) -> dict[int, int]:
        """Flows whose packets did not arrive once, in whatever order, and how many are missing or too many."""
        differences = {sport: len(self.got[sport]) - count for sport, count in self.sent.items()}
        return {sport: n for sport, n in differences.items() if n or len(set(self.got[sport])) != len(self.got[sport])}

    def problems(self) -> dict[int, str]:
        """Flows whose packets did not arrive once and in order."""
        return out_of_order(self.sent, self.got)


def out_of_order(sent: Mapping[F, int], got: Mapping[F, list[int]]) -> dict[F, str]:
    """Flows whose packets did not arrive once and in order, and what did."""
    return {
        flow: f"{count} sent, {len(got[flow])} got, first difference at "
        + str(next((i for i, s in enumerate(got[flow]) if i != s), "the end"))
        for flow, count in sent.items()
        if got[flow] != list(range(count))
    }


def traffic(
    ledger: Ledger, sports: Sequence[int], rate: int, under_way: int = sys.maxsize
) -> contextlib.AbstractAsyncContextManager[None]:
    """``rate`` packets a second, over the flows in turn, while the block runs; none while so many are ``under_way``.

    What a slow BMv2 is sent beyond what it carries stands in its queues, and each marker behind seconds of it.
    """

    def send(count: int) -> None:
        if ledger.under_way < under_way:
            ledger.send(sports[count % len(sports)])

    return paced(send, rate)


@contextlib.asynccontextmanager
async def paced(send: Callable[[int], None], rate: int) -> AsyncIterator[None]:
    """``send(0)``, ``send(1)`` …, ``rate`` times a second, while the block runs."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        due, count = loop.time(), 0
        while True:
            due = max(due + 1 / rate, loop.time() - 0.02)  # a busy machine slows the traffic, it does not pile it up
            send(count)
            count += 1
            await asyncio.sleep(max(0.0, due - loop.time()))

    task = asyncio.create_task(run(), name="traffic")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class SwitchProcess:
    """The switch; may be killed and started again at the same addresses."""

    def __init__(self, command: list[str], directory: Path) -> None:
        self._command = command
        self._directory = directory
        self.grpc = f"127.0.0.1:{free_port()}"
        self.wire = f"ipc://{directory}/p"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        thrift = free_port()
        arguments = [
            "--device-id", "1", "--no-p4", "--packet-in", self.wire, "--thrift-port", str(thrift),
            "--notifications-addr", f"ipc://{self._directory}/n",
            "--", "--grpc-server-addr", self.grpc, "--cpu-port", "510",
        ]  # fmt: skip
        with open(self._directory / "switch.log", "ab") as log:
            self._process = subprocess.Popen(self._command + arguments, stdout=log, stderr=log, cwd=self._directory)
        if "simple_switch_grpc" in self._command[0]:
            deepen_queues(thrift)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


def deepen_queues(thrift: int) -> None:
    """BMv2's queues of 64 drop silently when a replica releases more held packets at once on a busy machine (seen)."""
    client = shutil.which("simple_switch_CLI")
    if client is None:
        return
    for _ in range(50):
        command = [client, "--thrift-port", str(thrift)]
        result = subprocess.run(command, input="set_queue_depth 8192\n", capture_output=True, text=True, timeout=20)
        if result.returncode == 0 and "Could not connect" not in result.stdout:
            return
    pytest.fail(f"queue depth: {result.stdout} {result.stderr}")


@pytest.fixture(params=["embedded", "bmv2"])
def switch(request: pytest.FixtureRequest, short_dir: Path) -> Iterator[SwitchProcess]:
    """A running switch without a pipeline."""
    command = [bmv2_with_nanomsg()] if request.param == "bmv2" else [sys.executable, "-m", "p4switch"]
    process = SwitchProcess(command, short_dir)
    process.start()
    yield process
    process.kill()


def options_for(switch: SwitchProcess, **changes: object) -> ControllerOptions:
    settings: dict[str, object] = {
        "address": switch.grpc,
        "p4info": P4INFO,
        "p4blob": P4BLOB,
        "host_ports": (1, 2),
        "routes": (
            Route.parse("10.0.1.0/24", 1, MIDDLEBOX_MAC, CLIENT_MAC),
            Route.parse("10.0.2.0/24", 2, MIDDLEBOX_MAC, SERVER_MAC),
            Route.parse("fd00:2::/64", 2, MIDDLEBOX_MAC, SERVER_MAC),
        ),
        "addresses": (
            AddressReply.parse("10.0.1.1", MIDDLEBOX_MAC),
            AddressReply.parse("fd00:1::1", MIDDLEBOX_MAC),
        ),
        "mastership_retry": 0.2,
        "health_interval": 0.5,
        "ready_deadline": 20.0,
    }
    return ControllerOptions(**{**settings, **changes})  # type: ignore[arg-type]


@dataclass
class World:
    switch: SwitchProcess
    controller: Controller
    wire: Wire
    ledger: Ledger
    replicas: dict[int, Replica]
    events: list[object]
    new_event: asyncio.Event

    async def event(self, kind: type, seconds: float = 40.0, after: int = 0) -> object:
        """The first event of this kind, from the one numbered ``after`` on."""
        async with asyncio.timeout(seconds):
            while not (found := [event for event in self.events[after:] if isinstance(event, kind)]):
                self.new_event.clear()
                await self.new_event.wait()
        return found[0]

    async def move(self, epoch: int, scope: Scope, source: int, target: int) -> object:
        """What the orchestrator does, without the state."""
        await self.controller.suspend(epoch, scope, source, mark=True)
        await self.controller.drain(epoch, source)
        self.replicas[target].commit(epoch, scope)
        return await self.controller.resume(epoch, scope, target)


@pytest.fixture
def make_world(switch: SwitchProcess) -> Callable[..., contextlib.AbstractAsyncContextManager[World]]:
    """Builds a world: replicas 101, 102 … on ports 11, 12 …; ``loss`` as in `Replica`."""

    @contextlib.asynccontextmanager
    async def make(*, replicas: int = 2, loss: float = 0.0, **changes: object) -> AsyncIterator[World]:
        events: list[object] = []
        news = asyncio.Event()

        def on_event(event: object) -> None:
            events.append(event)
            news.set()

        async with Wire(switch.wire) as wire, Controller(options_for(switch, **changes), on_event) as controller:
            fakes = {101 + i: Replica(wire, 101 + i, 11 + i, loss=loss) for i in range(replicas)}
            await controller.wait_ready(40)
            for fake in fakes.values():
                await controller.register_replica(fake.number, fake.port)
            yield World(switch, controller, wire, Ledger(wire), fakes, events, news)

    return make


async def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Until the condition is true. :raises TimeoutError: if it does not become so."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  (counters of another process's doing have no event)
            await asyncio.sleep(0.01)


class Kit:
    """Helpers for tests, which cannot import this file."""

    eventually = staticmethod(eventually)
    traffic = staticmethod(traffic)
    flow_key = staticmethod(flow_key)
    options_for = staticmethod(options_for)
    udp_frame = staticmethod(udp_frame)


@pytest.fixture
def kit() -> Kit:
    return Kit()
