"""Several real switches on nanomsg ports, joined by trunks that may be slow; hosts, and replicas that obey the rules.

client ── port 1 of the first switch           server ── port 2 of the last one
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from p4rt_controller import ControllerOptions, Route
from p4rt_controller.fabric import Fabric, FabricOptions
from p4src.reasons import DropReason
from splitmerge.messages import Scope
from splitmerge.tag import is_tagged
from splitmerge.trunks import Trunk, place_of
from tests.p4rt_controller.conftest import (
    CLIENT_MAC,
    MIDDLEBOX_MAC,
    SERVER_MAC,
    Replica,
    SwitchProcess,
    Wire,
    eventually,
    options_for,
    out_of_order,
    paced,
    sequence_of,
    udp_frame,
)

LINE = (Trunk("s1", 21, "s2", 21), Trunk("s2", 22, "s3", 22))
RING = (*LINE, Trunk("s3", 23, "s1", 23))


def answer_frame(sport: int, dport: int, sequence: int) -> bytes:
    """Server to client, numbered: the mirror of `udp_frame`."""
    frame = udp_frame(sport, dport, sequence)
    macs = bytes.fromhex((MIDDLEBOX_MAC + SERVER_MAC).replace(":", ""))
    return macs + frame[12:26] + frame[30:34] + frame[26:30] + frame[36:38] + frame[34:36] + frame[38:]


class TrunkLine:
    """One direction of a trunk: everything comes out ``delay`` seconds later, in order, once the line is ``open``."""

    def __init__(self, source: Wire, source_port: int, target: Wire, target_port: int) -> None:
        self.delay = 0.0
        self.cut = False
        self.open = asyncio.Event()
        self.open.set()
        self.frames = 0
        self._target, self._port = target, target_port
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._news = asyncio.Event()
        source.handlers[source_port] = self._take

    def _take(self, frame: bytes) -> None:
        self.frames += 1
        if self.cut:
            return
        self._waiting.append((asyncio.get_running_loop().time() + self.delay, frame))
        self._news.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                await self.open.wait()
                due, frame = self._waiting.popleft()
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                self._target.send(self._port, frame)


class Books:
    """What was sent and got, by direction and flow."""

    def __init__(self, client: Wire, server: Wire) -> None:
        self._wires = {"there": client, "back": server}
        self.sent: dict[tuple[str, int], int] = defaultdict(int)
        self.got: dict[tuple[str, int], list[int]] = defaultdict(list)
        self.tagged = 0
        server.handlers[2] = lambda frame: self._receive("there", frame, 34)
        client.handlers[1] = lambda frame: self._receive("back", frame, 36)

    def send(self, way: str, sport: int) -> None:
        """The next datagram of this flow: ``there`` from the client, ``back`` from the server."""
        number = self.sent[way, sport]
        make, port = (udp_frame, 1) if way == "there" else (answer_frame, 2)
        self._wires[way].send(port, make(sport, 9, number))
        self.sent[way, sport] += 1

    def _receive(self, way: str, frame: bytes, offset: int) -> None:
        self.tagged += is_tagged(frame)
        self.got[way, struct.unpack_from("!H", frame, offset)[0]].append(sequence_of(frame))

    async def settled(self, seconds: float = 15.0) -> None:
        """Everything sent has arrived; or the time is over, and `problems` tells."""
        with contextlib.suppress(TimeoutError):
            await eventually(lambda: sum(self.sent.values()) <= sum(map(len, self.got.values())), seconds)

    def problems(self) -> dict[tuple[str, int], str]:
        """Flows whose packets did not arrive once and in order."""
        return out_of_order(self.sent, self.got)


def traffic(books: Books, sports: Sequence[int], rate: int) -> contextlib.AbstractAsyncContextManager[None]:
    """``rate`` datagrams a second each way, over the flows in turn, while the block runs."""

    def send(count: int) -> None:
        books.send("there", sports[count % len(sports)])
        books.send("back", sports[count % len(sports)])

    return paced(send, rate)


async def drops_of(fabric: Fabric) -> Counter[DropReason]:
    """What all switches together have dropped."""
    counted: Counter[DropReason] = Counter()
    for each in (await fabric.switch_drops()).values():
        counted.update(each.packets)
    return counted


@dataclass
class FabricWorld:
    """Everything, running."""

    processes: dict[str, SwitchProcess]
    wires: dict[str, Wire]
    trunks: dict[tuple[str, str], TrunkLine]
    """By (from, to)."""
    fabric: Fabric
    books: Books
    replicas: dict[int, Replica] = field(default_factory=dict)
    events: list[object] = field(default_factory=list)
    dropped: Counter[DropReason] = field(default_factory=Counter)
    """What the switches had dropped before."""

    async def add_replica(self, number: int, switch: str, port: int, loss: float = 0.0) -> None:
        self.replicas[number] = Replica(self.wires[switch], number, port, loss=loss)
        await self.fabric.register_replica(number, place_of(list(self.wires).index(switch), port))

    async def move(self, epoch: int, scope: Scope, source: int, target: int) -> object:
        """What the orchestrator does, without the state."""
        await self.fabric.suspend(epoch, scope, source)
        await self.fabric.drain(epoch, source)
        self.replicas[target].commit(epoch, scope)
        return await self.fabric.resume(epoch, scope, target)

    async def redirect(self, epoch: int, scope: Scope, source: int, target: int) -> None:
        """The same with the target keeping the packets (footnote 1 of the paper)."""
        self.replicas[target].commit(epoch, scope)
        await self.fabric.redirect(epoch, scope, source, target)
        await self.fabric.drain(epoch, source)
        self.replicas[target].release(epoch)

    async def buffered(self, packets: int) -> None:
        """Until so many packets of suspended flows wait at the controllers."""
        await eventually(lambda: self.fabric.packet_figures().waiting["packets"] >= packets)

    async def event(self, kind: type, seconds: float = 40.0, after: int = 0) -> object:
        """The first event of this kind, from the one numbered ``after`` on."""
        async with asyncio.timeout(seconds):
            while not (found := [each for each in self.events[after:] if isinstance(each, kind)]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found[0]


def fabric_options(processes: dict[str, SwitchProcess], trunks: tuple[Trunk, ...], **changes: object) -> FabricOptions:
    names = list(processes)
    to_client = (Route.parse("10.0.1.0/24", 1, MIDDLEBOX_MAC, CLIENT_MAC),)
    to_server = (Route.parse("10.0.2.0/24", 2, MIDDLEBOX_MAC, SERVER_MAC),)
    own = dict.fromkeys(names, ((), ())) | {names[0]: ((1,), to_client), names[-1]: ((2,), to_server)}

    def options(name: str) -> ControllerOptions:
        host_ports, routes = own[name]
        return options_for(processes[name], host_ports=host_ports, routes=routes, **changes)

    return FabricOptions(switches={name: options(name) for name in names}, trunks=trunks)


@contextlib.asynccontextmanager
async def running_fabric(
    processes: dict[str, SwitchProcess], trunks: tuple[Trunk, ...], **changes: object
) -> AsyncIterator[FabricWorld]:
    """A world of these switches, which run. ``changes``: of every switch's `ControllerOptions`."""
    names = tuple(processes)
    events: list[object] = []
    async with contextlib.AsyncExitStack() as stack:
        wires = {name: await stack.enter_async_context(Wire(process.wire)) for name, process in processes.items()}
        lines = {
            (here, there): TrunkLine(wires[here], port, wires[there], far)
            for trunk in trunks
            for here, port, there, far in (
                (trunk.a, trunk.a_port, trunk.b, trunk.b_port),
                (trunk.b, trunk.b_port, trunk.a, trunk.a_port),
            )
        }
        tasks = [asyncio.create_task(line.run(), name=f"trunk {ends}") for ends, line in lines.items()]
        stack.push_async_callback(_end, tasks)
        fabric = await stack.enter_async_context(Fabric(fabric_options(processes, trunks, **changes), events.append))
        await fabric.wait_ready(60)
        yield FabricWorld(
            processes,
            wires,
            lines,
            fabric,
            Books(wires[names[0]], wires[names[-1]]),
            events=events,
            dropped=await drops_of(fabric),
        )


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
