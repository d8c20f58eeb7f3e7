"""The whole orchestrator in one process: real service, journal, sessions, REST application and real replicas.

Only two things are not real: the switch (`Tables`, which carries out what it is asked at once) and the agent, which
starts replicas as asyncio peers that speak the control network with guestlib's engine behind them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec

from guestlib import Guest, Packet, ReplicaConfig
from guestlib.engine import Counters, Engine
from orchestrator.config import Config, Deadlines, ElasticityConfig, LocksConfig, ReplacementConfig, SwitchConfig
from orchestrator.errors import JournalError
from orchestrator.journal import Journal
from orchestrator.migration import Options, Times
from orchestrator.rest.api import make_app
from orchestrator.service import Orchestrator
from p4rt_controller import (
    DropCounts,
    PacketFigures,
    Refusal,
    ReplicaSilent,
    RestoredState,
    Room,
    SwitchState,
    SwitchUnavailable,
    WriteRejected,
)
from p4src import DropReason
from splitmerge import messages as m
from splitmerge.errors import SplitmergeError
from splitmerge.flowkey import FlowKey
from splitmerge.tag import Tag, TagKind, pop
from splitmerge.wire import Decoder, encode
from topo.processes import unix_listens

FLOWS = [FlowKey.of(17, bytes((10, 0, 1, 2)), port, bytes((10, 0, 2, 2)), 9) for port in range(3000, 3040)]


WITHIN = 10.0


@dataclass(frozen=True)
class Done:
    relayed: int = 0
    dropped: int = 0
    refused: tuple[bytes, ...] = ()
    refusal: str = ""


class Tables:
    """A switch that does everything at once. ``stuck`` names an operation that does not end before `go_on`."""

    def __init__(self) -> None:
        self.ports: dict[int, int] = {}
        self.buckets: dict[int, int | None] = {}
        self.flows: dict[bytes, int] = {}
        self.counted: Counter[bytes] = Counter()
        self.stuck = ""
        self.away = False
        self.loads = 1
        self.no_route = 3
        self.calls: list[str] = []
        self.marked: dict[int, list[bool]] = {}
        """Epoch → whether a drain was to follow, of each of its writes."""
        self.rooms: dict[int, Room | None] = {}
        """What may be kept at the controller, by epoch."""
        self.restored: RestoredState | None = None
        self.peers: dict[int, Peer] = {}
        self.fail: Callable[[str, m.Scope | int], SplitmergeError | None] = lambda name, what: None
        """By operation and its scope or replica: the error that it ends with, if any."""
        self.no_room: frozenset[bytes] = frozenset()
        """Flows for whose entries there is no room, if they have none yet."""
        self.waits: dict[bytes, list[bytes]] = {}
        """Packets of flows that nobody has: those of a `resume` are relayed."""
        self.awaited: Callable[[Iterable[bytes]], Collection[bytes]] = lambda keys: ()
        self.second: set[bytes] = set()
        """Keys that it has been told are second ones."""
        self._stuck: list[asyncio.Future[None]] = []

    def _refused(self, keys: Iterable[bytes]) -> list[bytes]:
        return [key for key in keys if key in self.no_room and key not in self.flows]

    def _point(self, keys: Iterable[bytes], replica: int) -> WriteRejected | None:
        """Make entries, but where the bucket says the same; the refusal of those that there is no room for."""
        refused = [key for key in self._refused(keys) if self.buckets.get(FlowKey(key).bucket) != replica]
        self.flows.update(dict.fromkeys(set(keys).difference(self._refused(keys)), replica))
        return self._full(refused)

    @staticmethod
    def _full(refused: Iterable[bytes]) -> WriteRejected | None:
        full = [Refusal(f"insert flow[{FlowKey(key)}]", "RESOURCE_EXHAUSTED", "full", bytes(key)) for key in refused]
        return WriteRejected(full) if full else None

    def go_on(self) -> None:
        """What is stuck ends, and nothing gets stuck any more."""
        self.stuck = ""
        for future in self._stuck:
            if not future.done():
                future.set_result(None)

    def restore(self, state: RestoredState) -> None:
        self.restored = state
        self.ports = dict(state.replicas)
        self.buckets = dict(state.buckets or {})
        self.flows = dict(state.flows or {})

    async def _do(self, name: str, what: m.Scope | int = 0) -> None:
        self.calls.append(name)
        await asyncio.sleep(0)
        if (error := self.fail(name, what)) is not None:
            raise error
        await self._until_freed(name)

    async def _until_freed(self, name: str) -> None:
        if self.stuck == name:
            self._stuck.append(asyncio.get_running_loop().create_future())
            await self._stuck[-1]

    async def register_replica(self, replica: int, port: int) -> None:
        assert port not in self.ports.values() or self.ports.get(replica) == port, "the port is another replica's"
        self.ports[replica] = port
        await self._until_freed("register")
        if (error := self.fail("register", replica)) is not None:
            raise error
        if self.away:
            raise SwitchUnavailable("write", "away")

    async def unregister_replica(self, replica: int) -> None:
        self.ports.pop(replica, None)

    async def set_buckets(self, owners: Mapping[int, int | None]) -> None:
        self.buckets.update(owners)

    async def reserve(self, keys: Iterable[bytes], replica: int) -> None:
        await self._do("reserve")
        wanted = list(keys)
        if (error := self._full(self._refused(wanted))) is not None:
            raise error
        self.flows = dict.fromkeys(wanted, replica) | self.flows

    async def suspend(
        self, epoch: int, scope: m.Scope, source: int, room: Room | None = None, *, mark: bool = False
    ) -> None:
        self.marked.setdefault(epoch, []).append(mark)
        self.rooms[epoch] = room
        await self._do("suspend", scope)
        if (error := self._full(self._refused(scope.keys))) is not None:
            raise error

    async def redirect(self, epoch: int, scope: m.Scope, source: int, target: int, *, mark: bool = False) -> None:
        self.marked.setdefault(epoch, []).append(mark)
        await self._do("redirect", scope)
        error = self._point(scope.keys, target)
        self.buckets.update(dict.fromkeys(scope.buckets, target))
        if error is not None:
            raise error

    async def drain(self, epoch: int, replica: int, busy: Callable[[], bool] = lambda: False) -> None:
        await self._do("drain", replica)
        if replica in self.peers:
            if self.peers[replica].stopped or self.peers[replica].unreached:
                await asyncio.sleep(0.05)
                raise ReplicaSilent(replica, "drain", 0.05)
            while self.peers[replica].behind:
                await asyncio.sleep(0.05)
                if self.peers[replica].behind and not busy():
                    raise ReplicaSilent(replica, "drain", 0.05)
            marker = Tag(TagKind.MARKER, epoch, 1).push(bytes(60))
            self.peers[replica].engine.frames([marker], asyncio.get_running_loop().time())

    async def resume(
        self,
        epoch: int,
        scope: m.Scope,
        target: int,
        *,
        ordered: bool = True,
        new: bool = False,
        busy: Callable[[], bool] = lambda: False,
    ) -> Done:
        await self._do("resume", scope)
        if target not in self.ports:
            raise SwitchUnavailable("resume", f"replica {target} is not registered")
        error = self._point(scope.keys, target)
        self.buckets.update(dict.fromkeys(scope.buckets, target))
        if error is not None and not new:
            raise error
        if target in self.peers:
            waited = [frame for key in scope.keys for frame in self.waits.pop(key, [])]
            frames = [Tag(TagKind.RELAYED, epoch, number).push(frame) for number, frame in enumerate(waited, 1)]
            end = Tag(TagKind.END, epoch, len(waited) + 1).push(bytes(60))
            self.peers[target].engine.frames([*frames, end], asyncio.get_running_loop().time())
        return Done() if error is None else Done(refused=tuple(error.flows), refusal=str(error))

    async def steer(self, keys: Mapping[bytes, int], second: Iterable[bytes]) -> None:
        await self._do("steer")
        if self.away:
            raise SwitchUnavailable("write", "away")
        self.flows.update(keys)
        self.second.update(second)

    def waiting(self, keys: Iterable[bytes]) -> list[bytes]:
        return [key for key in keys if key in self.waits]

    def keep_for(self, awaited: Callable[[Iterable[bytes]], Collection[bytes]]) -> None:
        self.awaited = awaited

    def packet_figures(self) -> PacketFigures:
        return PacketFigures({"packet_ins": 7}, {"packets": 2}, {"buffer_full": 5, "punt_ring": 0})

    async def switch_drops(self) -> dict[str, DropCounts]:
        await self._until_freed("drops")
        packets = {DropReason.NO_ROUTE: self.no_route, DropReason.NONE: 0, DropReason.PUNTED: 7}
        return {} if self.away else {"switch": DropCounts(self.loads, packets)}

    def switches(self) -> dict[str, SwitchState]:
        return {"switch": SwitchState(not self.away, "nowhere", 1, "")}

    async def flow_packets(self) -> dict[bytes, int]:
        """Flow number n of a test sends n packets between two looks."""
        self.counted.update({key: number for number, key in enumerate(FLOWS)})
        return {key: self.counted[key] for key in self.flows}

    async def forget(self, keys: Iterable[bytes]) -> int:
        return sum(self.flows.pop(key, None) is not None for key in list(keys))

    def abandon(self, epoch: int) -> int:
        return 0


class State(msgspec.Struct):
    number: int = 0


class Nothing:
    def __init__(self) -> None:
        self.got: list[bytes] | None = None
        """Its packets, where some are meant to come."""

    def setup(self, guest: Guest) -> None:
        guest.register_state(State)

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        assert self.got is not None, "no packets here"
        self.got.append(packet.frame)


class Peer:
    """A replica: guestlib's engine over asyncio streams, to the orchestrator and to its peers."""

    def __init__(self, number: int, directory: Path, control: str) -> None:
        self.number = number
        self.address = f"unix:{directory}/r{number}.sock"
        self.control = control
        self.middlebox = middlebox = Nothing()
        self.guest = Guest()
        middlebox.setup(self.guest)
        self.guest.begin(number, f"incarnation-{number}")
        config = ReplicaConfig(replica=number, interface="none", control=control, peer=self.address)
        self.engine = Engine(middlebox, self.guest, config, self)
        self.orchestrator: asyncio.StreamWriter | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.sent: list[bytes] = []
        self.stopped = False
        """As by SIGSTOP: it neither reads nor says anything."""
        self.stops_at: type[m.Message] | None = None
        """It stops when it is sent a message of this kind."""
        self.deaf_to: type[m.Message] | None = None
        """It does not answer messages of this kind."""
        self.unreached = False
        """Nothing that the switch sends comes to it; it is well otherwise."""
        self.behind = False
        """It has much to do: it takes packets, and has not come to any marker yet."""
        self.later: list[m.Message] = []
        self.guest.send = self.transmit

    def transmit(self, frame: bytes) -> None:
        popped = pop(frame)
        if popped is None:
            self.sent.append(frame)
        else:
            assert popped[0].kind in (TagKind.RELAY_ACK, TagKind.MARKER_ECHO)

    def to_locks(self, message: m.Message) -> bool:
        return self.to_orchestrator(message)

    def to_orchestrator(self, message: m.Message) -> bool:
        if self.orchestrator is not None:
            self.orchestrator.write(encode(message))
        return self.orchestrator is not None

    def to_peer(self, address: str, message: m.Message, *, again: bool = False) -> None:
        self._task(self._deliver(address, message))

    def counters(self) -> Counters:
        return Counters(0.0, {})

    def _task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _deliver(self, address: str, message: m.Message) -> None:
        reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
        writer.write(encode(message))
        await read_messages(reader, self._message, 1)
        writer.close()

    def go_on(self) -> None:
        """As by SIGCONT."""
        self.stopped = False
        for message in self.later:
            self._message(message)
        self.later.clear()

    def _message(self, message: m.Message) -> None:
        self.stopped = self.stopped or type(message) is self.stops_at
        if self.stopped:
            self.later.append(message)
            return
        if type(message) is self.deaf_to:
            return
        self.engine.message(message, self.to_orchestrator, asyncio.get_running_loop().time())
        self.engine.frames([], asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Live: connect, again and again; listen for peers; tick."""

        loop = asyncio.get_running_loop()

        async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            def staged(message: m.Message) -> None:
                self.engine.message(message, lambda answer: writer.write(encode(answer)), loop.time())

            await read_messages(reader, staged)
            writer.close()

        server = await asyncio.start_unix_server(peer, self.address.removeprefix("unix:"))
        try:
            async with server, asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tick())
                while True:
                    await self._connect_once()
                    await asyncio.sleep(0.02)
        finally:
            for task in list(self.tasks):
                task.cancel()

    async def _connect_once(self) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(self.control.removeprefix("unix:"))
        except OSError:
            return
        hello = m.Hello(
            role="replica", replica=self.number, address=self.address, incarnation=f"incarnation-{self.number}"
        )
        writer.write(encode(hello))
        self.orchestrator = writer
        try:
            with contextlib.suppress(ConnectionError):  # it ended before it read what was said last
                await read_messages(reader, self._message)
        finally:
            self.orchestrator = None
            self.later.clear()
            writer.close()

    async def _tick(self) -> None:
        while True:
            self.engine._frames += self.behind and not self.stopped
            if not self.stopped:
                self.engine.tick(asyncio.get_running_loop().time())
            await asyncio.sleep(0.02)


async def read_messages(
    reader: asyncio.StreamReader, handle: Callable[[m.Message], object], most: int | None = None
) -> None:
    decoder = Decoder()
    while data := await reader.read(65536):
        decoder.receive_data(data)
        for message in decoder.messages():
            if not isinstance(message, m.Welcome):
                handle(message)
            if most == 1:
                return


class Agent:
    """An agent whose replicas are tasks."""

    def __init__(self, directory: Path, control: str) -> None:
        self.directory = directory
        self.control = control
        self.peers: dict[int, Peer] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.refuses = False
        self.stillborn = False
        """Its replicas end as they start."""
        self.clings: str = ""
        """What it does when told to end a replica: `error` it says that it cannot, `silent` it says nothing."""
        self.writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self.control.removeprefix("unix:"))
            except OSError:
                await asyncio.sleep(0.02)
                continue
            self.writer = writer
            writer.write(encode(m.Hello(role="agent")))
            for replica in self.peers:
                writer.write(encode(m.ReplicaCreated(request=replica, replica=replica)))
            with contextlib.suppress(ConnectionError):
                await read_messages(reader, self._asked)
            writer.close()

    def _asked(self, message: m.Message) -> None:
        assert self.writer is not None
        match message:
            case m.CreateReplica(request=request) if self.refuses:
                self.writer.write(encode(m.AgentError(request=request, reason="no memory")))
            case m.CreateReplica(request=request, replica=replica) if self.stillborn:
                self.writer.write(encode(m.ReplicaCreated(request=request, replica=replica)))
                self.writer.write(encode(m.ReplicaGone(request=replica, replica=replica, status="exit 1")))
            case m.CreateReplica(request=request, replica=replica):
                if replica not in self.peers:
                    self.peers[replica] = Peer(replica, self.directory, self.control)
                    self.tasks[replica] = asyncio.get_running_loop().create_task(self.peers[replica].run())
                self.writer.write(encode(m.ReplicaCreated(request=request, replica=replica)))
            case m.DestroyReplica(request=request) if self.clings:
                if self.clings == "error":
                    self.writer.write(encode(m.AgentError(request=request, reason="it does not die")))
            case m.DestroyReplica(replica=replica):
                self.kill(replica)

    def kill(self, replica: int) -> None:
        self.peers.pop(replica, None)
        task = self.tasks.pop(replica, None)
        if task is not None:
            task.cancel()
        if self.writer is not None:
            self.writer.write(encode(m.ReplicaGone(request=replica, replica=replica, status="signal SIGKILL")))

    async def end(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


@dataclass
class Lab:
    """What a test gets."""

    directory: Path
    tables: Tables
    agent: Agent
    settings: dict[str, Any]
    orchestrator: Orchestrator = None  # type: ignore[assignment]  # set by `up`
    http: httpx.AsyncClient = None  # type: ignore[assignment]  # likewise
    life: asyncio.Task[None] = None  # type: ignore[assignment]  # likewise

    def config(self) -> Config:
        return Config(
            control=self.agent.control, api="unix:/none", journal=self.directory / "journal.db",
            slots={slot: 10 + slot for slot in range(1, 1 + self.settings.get("slots", 4))},
            switch=SwitchConfig(address="none:1", assignment=self.settings.get("assignment", "hash")),
            deadlines=Deadlines(
                hello=3, reattach=2, reconnect=1.0, finish=2, destroy=2, empty=3,
                silent=self.settings.get("silent", 20.0), drain=self.settings.get("drain", 3600.0),
            ),
            elasticity=self.settings.get("elasticity", ElasticityConfig()),
            replacement=self.settings.get("replacement", ReplacementConfig(enabled=False)),
            locks=self.settings.get("locks", LocksConfig()),
            defaults=self.settings.get("defaults", Options()), moves=self.settings.get("moves", Times()),
        )  # fmt: skip

    @asynccontextmanager
    async def up(self, *, wait: bool = True, dies: bool = False) -> AsyncIterator[None]:
        """One life of the orchestrator; leaving the block is as good as kill -9 to everybody else.

        ``dies``: it ends of itself, by the journal's fault.
        """
        journal = Journal(self.directory / "journal.db")
        self.orchestrator = Orchestrator(self.config(), journal)
        self.orchestrator.restore(self.tables)

        async def connect() -> None:
            await asyncio.get_running_loop().create_future()

        life = self.life = asyncio.create_task(self.orchestrator.run(self.tables, connect()))
        transport = httpx.ASGITransport(make_app(self.orchestrator))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://orchestrator")
        try:
            if wait:
                await self.until(self.orchestrator.ready.is_set)
            yield
        finally:
            await self.http.aclose()
            life.cancel()
            await asyncio.wait([life])
            journal.close()
            fault = None if life.cancelled() else life.exception()
            assert (fault is not None) == dies, fault
            assert fault is None or (isinstance(fault, ExceptionGroup) and fault.subgroup(JournalError)), fault

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for something that nobody signals."""
        async with asyncio.timeout(WITHIN):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def get(self, path: str, status: int = 200) -> Any:
        return self._body(await self.http.get(path), status)

    async def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body or {})
        async with asyncio.timeout(WITHIN):
            return self._body(await self.http.post(path, content=raw), status)

    async def patch(self, path: str, body: Any, status: int = 200) -> Any:
        async with asyncio.timeout(WITHIN):
            return self._body(await self.http.patch(path, json=body), status)

    async def delete(self, path: str, status: int = 200) -> Any:
        async with asyncio.timeout(WITHIN):
            return self._body(await self.http.delete(path), status)

    @staticmethod
    def _body(response: httpx.Response, status: int) -> Any:
        assert response.status_code == status, response.text
        body = response.json()
        assert response.is_success or set(body) == {"error", "where", "remedy"}
        return body

    def give_flows(self, replica: int, flows: list[FlowKey]) -> None:
        for number, key in enumerate(flows):
            self.agent.peers[replica].guest.create_flow(key, State(number))

    def holders(self, key: FlowKey) -> list[int]:
        return [number for number, peer in self.agent.peers.items() if key in peer.guest.table.active]

    async def live(self) -> list[int]:
        return [each["replica"] for each in await self.get("/replicas") if each["state"] == "live"]


async def until_listens(path: Path) -> None:
    """Wait until somebody listens at this Unix socket."""
    async with asyncio.timeout(WITHIN):
        while not await unix_listens(path):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
