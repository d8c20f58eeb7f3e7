"""The whole orchestrator in one process: real service, journal, sessions, REST application and real replicas.

Only two things are not real: the switch (`Tables`, which carries out what it is asked at once) and the agent, which
starts replicas as asyncio peers that speak the control network with guestlib's engine behind them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from guestlib import PUSH, SYNCH, Guest, ReplicaConfig, SynchUnavailable
from guestlib.engine import Counters, Engine
from orchestrator.api import make_app
from orchestrator.config import Config, Deadlines, ElasticityConfig, LocksConfig, ReplacementConfig, SwitchConfig
from orchestrator.errors import JournalError, NoSuchReplica
from orchestrator.fleet import ReplicaState
from orchestrator.journal import Journal
from orchestrator.migration import Options, Times
from orchestrator.service import Orchestrator
from p4rt_controller import NewFlow, PacketFigures, ReplicaSilent, RestoredState, SwitchState, SwitchUnavailable
from p4src import DropReason
from splitmerge import messages as m
from splitmerge.errors import SplitmergeError
from splitmerge.flowkey import BUCKETS, FlowKey
from splitmerge.tag import Tag, TagKind, pop
from splitmerge.wire import Decoder, encode

FLOWS = [FlowKey.of(17, bytes((10, 0, 1, 2)), port, bytes((10, 0, 2, 2)), 9) for port in range(3000, 3040)]
WITHIN = 10.0


@dataclass(frozen=True)
class Done:
    relayed: int = 0
    dropped: int = 0


class Tables:
    """A switch that does everything at once. ``stuck`` names an operation that does not end before `go_on`."""

    def __init__(self) -> None:
        self.ports: dict[int, int] = {}
        self.buckets: dict[int, int | None] = {}
        self.flows: dict[bytes, int] = {}
        self.counted: Counter[bytes] = Counter()
        self.stuck = ""
        self.away = False
        self.calls: list[str] = []
        self.restored: RestoredState | None = None
        self.peers: dict[int, Peer] = {}
        self.fail: Callable[[str, m.Scope | int], SplitmergeError | None] = lambda name, what: None
        """By operation and its scope or replica: the error that it ends with, if any."""
        self._stuck: list[asyncio.Future[None]] = []

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
        if self.stuck == name:
            self._stuck.append(asyncio.get_running_loop().create_future())
            await self._stuck[-1]

    async def register_replica(self, replica: int, port: int) -> None:
        assert port not in self.ports.values() or self.ports.get(replica) == port, "the port is another replica's"
        self.ports[replica] = port
        if (error := self.fail("register", replica)) is not None:
            raise error
        if self.away:
            raise SwitchUnavailable("write", "away")

    async def unregister_replica(self, replica: int) -> None:
        self.ports.pop(replica, None)

    async def set_buckets(self, owners: Mapping[int, int | None]) -> None:
        self.buckets.update(owners)

    async def suspend(self, epoch: int, scope: m.Scope, source: int) -> None:
        await self._do("suspend", scope)

    async def redirect(self, epoch: int, scope: m.Scope, source: int, target: int) -> None:
        await self._do("redirect")
        self.buckets.update(dict.fromkeys(scope.buckets, target))
        self.flows.update(dict.fromkeys(scope.keys, target))

    async def drain(self, epoch: int, replica: int) -> None:
        await self._do("drain", replica)
        if replica in self.peers:
            if self.peers[replica].stopped or self.peers[replica].unreached:
                await asyncio.sleep(0.05)
                raise ReplicaSilent(replica, "drain", 0.05)
            marker = Tag(TagKind.MARKER, epoch, 1).push(bytes(60))
            self.peers[replica].engine.frames([marker], asyncio.get_running_loop().time())

    async def resume(self, epoch: int, scope: m.Scope, target: int, *, ordered: bool = True) -> Done:
        await self._do("resume")
        if target not in self.ports:
            raise SwitchUnavailable("resume", f"replica {target} is not registered")
        self.buckets.update(dict.fromkeys(scope.buckets, target))
        self.flows.update(dict.fromkeys(scope.keys, target))
        if target in self.peers:
            end = Tag(TagKind.END, epoch, 1).push(bytes(60))
            self.peers[target].engine.frames([end], asyncio.get_running_loop().time())
        return Done()

    async def steer(self, keys: Mapping[bytes, int], second: Iterable[bytes]) -> None:
        await self._do("steer")
        if self.away:
            raise SwitchUnavailable("write", "away")
        self.flows.update(keys)

    def packet_figures(self) -> PacketFigures:
        return PacketFigures({"packet_ins": 7}, {"packets": 2}, {"buffer_full": 5, "punt_ring": 0})

    async def switch_drops(self) -> dict[DropReason, int]:
        return {DropReason.NO_ROUTE: 3, DropReason.NONE: 0, DropReason.PUNTED: 7}

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
    def setup(self, guest: Guest) -> None:
        guest.register_state(State)

    def on_packet(self, guest: Guest, packet: object) -> None:
        raise AssertionError("no packets here")


class Peer:
    """A replica: guestlib's engine over asyncio streams, to the orchestrator and to its peers."""

    def __init__(self, number: int, directory: Path, control: str) -> None:
        self.number = number
        self.address = f"unix:{directory}/r{number}.sock"
        self.control = control
        middlebox = Nothing()
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
        self.unreached = False
        """Nothing that the switch sends comes to it; it is well otherwise."""
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
        await _read(reader, self._message, 1)
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
        self.engine.message(message, self.to_orchestrator, asyncio.get_running_loop().time())
        self.engine.frames([], asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Live: connect, again and again; listen for peers; tick."""

        loop = asyncio.get_running_loop()

        async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            def staged(message: m.Message) -> None:
                self.engine.message(message, lambda answer: writer.write(encode(answer)), loop.time())

            await _read(reader, staged)
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
            await _read(reader, self._message)
        finally:
            self.orchestrator = None
            self.later.clear()
            writer.close()

    async def _tick(self) -> None:
        while True:
            if not self.stopped:
                self.engine.tick(asyncio.get_running_loop().time())
            await asyncio.sleep(0.02)


async def _read(reader: asyncio.StreamReader, handle: Callable[[m.Message], object], most: int | None = None) -> None:
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
            await _read(reader, self._asked)
            writer.close()

    def _asked(self, message: m.Message) -> None:
        assert self.writer is not None
        match message:
            case m.CreateReplica(request=request) if self.refuses:
                self.writer.write(encode(m.AgentError(request=request, reason="no memory")))
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
            deadlines=Deadlines(hello=3, reattach=2, reconnect=0.3, finish=2, destroy=2, empty=3),
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
        assert status == 200 or set(body) == {"error", "where", "remedy"}
        return body

    def give_flows(self, replica: int, flows: list[FlowKey]) -> None:
        for number, key in enumerate(flows):
            self.agent.peers[replica].guest.create_flow(key, State(number))

    def holders(self, key: FlowKey) -> list[int]:
        return [number for number, peer in self.agent.peers.items() if key in peer.guest.table.active]


@pytest.fixture
async def make_lab(tmp_path: Path) -> AsyncIterator[Callable[..., Lab]]:
    ends: list[Callable[[], Awaitable[None]]] = []

    def make(**settings: Any) -> Lab:
        agent = Agent(tmp_path, f"unix:{tmp_path}/control.sock")
        task = asyncio.create_task(agent.run())

        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])
            await agent.end()

        ends.append(end)
        tables = Tables()
        tables.peers = agent.peers
        return Lab(tmp_path, tables, agent, settings)

    yield make
    for end in ends:
        await end()


@pytest.fixture
async def lab(make_lab: Callable[..., Lab]) -> AsyncIterator[Lab]:
    made = make_lab()
    async with made.up():
        yield made


async def test_the_first_replica_gets_all_buckets(lab: Lab) -> None:
    assert lab.tables.ports == {1: 11} and lab.tables.buckets == dict.fromkeys(range(BUCKETS), 1)
    status = await lab.get("/status")
    assert status["ready"] and status["agent"] and status["replicas"] == 1


async def test_status_shows_drops_and_who_is_silent(lab: Lab) -> None:
    lab.orchestrator.switch_ready = True
    replica = lab.orchestrator.fleet.get(1)
    now = asyncio.get_running_loop().time()
    counts = m.Stats(replica=1, flows=0, packets=9, bytes=9, cpu_seconds=0, held=0, drops={"middlebox_error": 2})
    replica.stats, replica.told = counts, now - 5
    status = await lab.get("/status")
    assert status["drops"]["replicas"]["middlebox_error"] == 2 and status["drops"]["switch"] == {"no_route": 3}
    assert status["drops"]["controller"] == {"buffer_full": 5}
    assert status["controller"] == {"packets": {"packet_ins": 7}, "waiting": {"packets": 2}}
    assert status["punted"] == 7
    assert status["silent_replicas"] == [1]


async def test_a_replica_that_hangs_is_ended_and_its_buckets_go_to_others(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": True})
    replica = lab.orchestrator.fleet.get(2)

    def mute() -> bool:
        replica.told = asyncio.get_running_loop().time() - 3600  # as if it had not spoken, whatever it says
        return set(lab.tables.buckets.values()) == {1}

    await lab.until(mute)
    assert (await lab.get("/status"))["replicas_died"] == 1


async def test_more_replicas_than_slots_are_refused_at_once(lab: Lab) -> None:
    refusal = await lab.post("/scale-out", {"count": 99}, status=409)
    assert "99 replicas wanted" in refusal["error"] and set(lab.agent.peers) == {1}


async def test_split_and_merge_keep_every_flow(lab: Lab) -> None:
    lab.give_flows(1, FLOWS)
    assert await lab.post("/scale-out", {"count": 1}) == {"added": [2], "replicas": [1, 2]}
    assert 10 <= lab.agent.peers[2].guest.table.count <= 20, "about half"
    for key in FLOWS:
        assert lab.holders(key) == [lab.tables.buckets[key.bucket]]
    assert await lab.post("/scale-in", {"replica": 1}) == {"removed": 1, "replicas": [2]}
    assert lab.tables.ports == {2: 12} and lab.tables.buckets == dict.fromkeys(range(BUCKETS), 2)
    assert all(lab.holders(key) == [2] for key in FLOWS)
    await lab.post("/scale-out", {"rebalance": False})
    assert set(lab.agent.peers) == {2, 3}, "ids are never used twice, slots are"
    assert lab.tables.ports[3] == 11


async def test_a_replica_that_the_switch_could_not_be_told_of_leaves_nothing(lab: Lab) -> None:
    lab.tables.away = True
    assert "away" in (await lab.post("/scale-out", {}, status=503))["error"]
    assert lab.tables.ports == {1: 11} and set(lab.agent.peers) == {1}
    lab.tables.away = False
    assert (await lab.post("/scale-out", {}))["added"] == [3]
    assert lab.tables.ports == {1: 11, 3: 12}


async def test_single_flows_move_and_come_home_when_they_end(lab: Lab) -> None:
    lab.give_flows(1, FLOWS[:3])
    await lab.post("/scale-out", {"rebalance": False})
    body = {"keys": [str(FLOWS[0]), str(FLOWS[1])], "target": 2}
    (move,) = (await lab.post("/migrate", body))["moves"]
    assert (move["step"], move["source"], move["target"], move["staged"]) == ("done", 1, 2, 2)
    assert lab.holders(FLOWS[0]) == [2] and lab.tables.flows == {bytes(key): 2 for key in FLOWS[:2]}
    flows = await lab.get("/flows?replica=2")
    assert {each["flow"] for each in flows} == {str(key) for key in FLOWS[:2]} and flows[0]["entry"] == 2
    lab.agent.peers[2].guest.delete_flow(FLOWS[0])
    await lab.until(lambda: bytes(FLOWS[0]) not in lab.tables.flows)
    assert lab.orchestrator.placement.entry(FLOWS[0]) is None
    assert (await lab.get(f"/moves/{move['epoch']}"))["epoch"] == move["epoch"]
    assert (await lab.get("/moves?limit=1"))[0]["keys"] == 1


async def test_flows_in_use_stay_and_the_rest_moves(lab: Lab) -> None:
    lab.give_flows(1, FLOWS[:3])
    await lab.post("/scale-out", {"rebalance": False})
    lab.agent.peers[1].guest.get_flow(FLOWS[0])
    first, second = (await lab.post("/migrate", {"keys": [str(key) for key in FLOWS[:3]], "target": 2}))["moves"]
    assert (first["step"], first["pinned"], second["step"]) == ("undone", [str(FLOWS[0])], "done")
    assert [lab.holders(key) for key in FLOWS[:3]] == [[1], [2], [2]]


async def test_overlapping_moves_wait_for_each_other(lab: Lab) -> None:
    lab.give_flows(1, FLOWS)
    await lab.post("/scale-out", {"rebalance": False})
    bodies = [{"all": True, "source": 1, "target": 2}, {"buckets": [FLOWS[0].bucket], "target": 2}]
    both = await asyncio.gather(*(lab.post("/migrate", body) for body in bodies))
    (first,), (second,) = [each["moves"] for each in both]
    assert (first["step"], second["step"]) == ("done", "undone") and first["epoch"] < second["epoch"]
    assert second["reason"] == "nothing of it was replica 1's any more when its turn came"
    assert all(lab.holders(key) == [2] for key in FLOWS)


async def test_a_dead_replicas_buckets_go_to_the_others(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": True})
    lab.agent.kill(1)
    await lab.until(lambda: set(lab.tables.buckets.values()) == {2} and lab.tables.ports == {2: 12})
    # Packets of the dead one's flows may be with the controller, from a move that its death ended.
    move = (await lab.get("/moves?limit=1"))[0]
    assert (move["source"], move["buffer"], move["step"]) == (1, "cpu", "done")


@pytest.mark.parametrize("clings", ["error", "silent"])
async def test_nobody_takes_over_from_a_replica_that_its_agent_has_not_ended(lab: Lab, clings: str) -> None:
    await lab.post("/scale-out", {"rebalance": False})
    lab.give_flows(1, FLOWS)
    lab.agent.clings = clings
    lab.agent.peers[1].control = "unix:/nowhere"  # it lives, and does not come back
    session = lab.orchestrator.fleet.replicas[1].session
    assert session is not None
    session.close("test")
    await asyncio.sleep(0.3 + 2 * 2 + 0.5)  # deadlines: reconnect, twice destroy
    assert set(lab.tables.buckets.values()) == {1} and all(lab.holders(key) == [1] for key in FLOWS)
    assert lab.orchestrator.fleet.replicas[1].state is ReplicaState.LIVE
    lab.agent.clings = ""
    await lab.until(lambda: set(lab.tables.buckets.values()) == {2})


async def test_an_agent_that_is_away_for_long_has_taken_its_replicas_along(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": False})
    lab.agent.control = "unix:/nowhere"
    for session in lab.orchestrator.fleet.agents:
        session.close("test")
    lab.agent.peers[1].control = "unix:/nowhere"
    replica = lab.orchestrator.fleet.replicas[1]
    assert replica.session is not None
    replica.session.close("test")
    await lab.until(lambda: set(lab.tables.buckets.values()) == {2})


async def test_a_slot_is_not_free_before_its_replica_has_ended(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": False})
    lab.agent.clings = "error"
    ending = asyncio.create_task(lab.post("/scale-in", {"replica": 2}))
    done, _ = await asyncio.wait([ending], timeout=1.5)
    assert not done and lab.tables.ports == {1: 11, 2: 12}
    lab.agent.clings = ""
    assert (await ending)["removed"] == 2


async def test_a_new_process_does_not_wait_for_one_replica_that_does_not_end(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": False})
    lab.agent.clings = "error"
    lab.agent.peers[2].control = "unix:/nowhere"
    async with lab.up():
        assert lab.orchestrator.fleet.replicas[2].state is ReplicaState.LIVE
        lab.agent.clings = ""
        await lab.until(lambda: 2 not in lab.orchestrator.fleet.replicas)


async def test_when_the_last_replica_dies_a_new_one_takes_over(lab: Lab) -> None:
    lab.agent.kill(1)
    await lab.until(lambda: set(lab.tables.buckets.values()) == {2})


async def test_a_target_that_dies_as_a_policys_move_begins_ends_nothing_else(make_lab: Callable[..., Lab]) -> None:
    """The move fails in a task group of its own: what comes out of it must not end the orchestrator."""
    settings = ElasticityConfig(
        policy="flow-count", settings={"split_above": 30, "merge_below": 0}, interval=0.05, consecutive=2, cool_down=60
    )
    lab = make_lab(elasticity=settings)
    async with lab.up():
        scaler = lab.orchestrator.scaler
        loads = scaler.loads

        async def late(replica: int) -> Any:
            found = await loads(replica)
            lab.agent.kill(2)
            await lab.until(lambda: 2 not in [each.number for each in lab.orchestrator.fleet.live()])
            return found

        scaler.loads = late  # type: ignore[method-assign]  # the moment that matters is inside
        lab.give_flows(1, FLOWS)
        await lab.until(lambda: lab.orchestrator.replicas_died == 1 and not scaler.scaling.locked())
        assert (await lab.get("/status"))["replicas"] == 1


async def test_a_scale_in_whose_moves_fail_can_be_asked_for_again(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": True})
    journal = lab.orchestrator.journal
    plan = journal.plan

    def fail(*arguments: Any, **named: Any) -> Any:
        raise JournalError("journal", "the disk is full")

    journal.plan = fail  # type: ignore[method-assign]
    assert "disk is full" in (await lab.post("/scale-in", {"replica": 2}, status=503))["error"]
    assert [each["state"] for each in await lab.get("/replicas")] == ["live", "live"]
    journal.plan = plan  # type: ignore[method-assign]
    assert (await lab.post("/scale-in", {"replica": 2}))["removed"] == 2


async def test_a_replica_is_not_ended_while_new_flows_are_on_their_way_to_it(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(assignment="round-robin")
    async with lab.up():
        await lab.post("/scale-out")
        lab.tables.stuck = "resume"
        for key in FLOWS[:2]:
            lab.orchestrator.network_event(NewFlow(key))
        await lab.until(lambda: lab.tables.calls.count("resume") == 2)
        ending = asyncio.create_task(lab.post("/scale-in", {"replica": 2}))
        await lab.until(lambda: lab.orchestrator.fleet.replicas[2].state.value == "finishing")
        done, _ = await asyncio.wait([ending], timeout=0.3)
        assert not done and 2 in lab.agent.peers
        lab.tables.go_on()
        assert (await ending)["removed"] == 2
        assert lab.tables.flows == {bytes(key): 1 for key in FLOWS[:2]}


async def test_new_flows_chosen_for_a_replica_that_is_ending_go_to_another(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(assignment="round-robin")
    async with lab.up():
        await lab.post("/scale-out")
        fleet = lab.orchestrator.fleet
        fleet.set_state(fleet.replicas[2], ReplicaState.FINISHING)
        with pytest.raises(NoSuchReplica):
            await lab.orchestrator.scaler.adopt_new(2, FLOWS[:1])
        assert not lab.orchestrator.mover.running()


async def test_a_replica_that_dies_while_its_move_waits_to_be_taken_up_again(make_lab: Callable[..., Lab]) -> None:
    """The move must learn of it, or it asks the dead for ever and the flows stay suspended."""
    lab = make_lab()
    async with lab.up():
        lab.give_flows(1, FLOWS)
        await lab.post("/scale-out", {"rebalance": False})
        lab.tables.stuck = "drain"
        await lab.post("/migrate", {"all": True, "source": 1, "target": 2, "wait": False})
        await lab.until(lambda: "drain" in lab.tables.calls)
    lab.tables.calls.clear()
    async with lab.up(wait=False):  # the owner's drain is stuck, so the move waits to be taken up
        await lab.until(lambda: "drain" in lab.tables.calls)
        lab.agent.kill(1)
        await lab.until(lambda: lab.orchestrator.replicas_died == 1)
        lab.tables.go_on()
        await lab.until(lambda: lab.orchestrator.ready.is_set() and not lab.orchestrator.mover.running())
        await lab.until(lambda: set(lab.tables.buckets.values()) == {2})


async def test_a_replica_that_only_lost_its_connection_keeps_its_flows(lab: Lab) -> None:
    lab.give_flows(1, FLOWS)
    session = lab.orchestrator.fleet.replicas[1].session
    assert session is not None
    session.close("test")
    await lab.until(lambda: lab.orchestrator.fleet.replicas[1].session not in (None, session))
    await lab.post("/scale-out")
    assert all(len(lab.holders(key)) == 1 for key in FLOWS)


async def test_a_move_is_called_off_and_its_flows_stay(lab: Lab) -> None:
    lab.give_flows(1, FLOWS)
    await lab.post("/scale-out", {"rebalance": False})
    lab.tables.stuck = "redirect"
    await lab.post("/moves", {"all": True, "source": 1, "target": 2, "wait": False, "deadline": 30})
    await lab.until(lambda: "redirect" in lab.tables.calls)
    (move,) = lab.orchestrator.mover.running()
    call_off = asyncio.create_task(lab.delete(f"/moves/{move.plan.epoch}"))
    await asyncio.sleep(0)
    await lab.until(lambda: move.reason != "")
    lab.tables.go_on()
    ended = await call_off
    assert (ended["step"], ended["reason"]) == ("undone", "called off by request")
    assert (ended["guarantee"], ended["buffer"]) == ("order-preserving", "replica")
    assert all(lab.holders(key) == [1] for key in FLOWS)
    assert (await lab.delete(f"/moves/{move.plan.epoch}", status=409))["error"] == "is over"
    assert (await lab.delete("/moves/999", status=404))["error"] == "there is no move 999"


async def test_who_calls_a_move_off_waits_for_its_end_only_so_long(lab: Lab) -> None:
    lab.give_flows(1, FLOWS)
    await lab.post("/scale-out", {"rebalance": False})
    lab.tables.stuck = "redirect"
    await lab.post("/moves", {"all": True, "source": 1, "target": 2, "wait": False})
    await lab.until(lambda: "redirect" in lab.tables.calls)
    (move,) = lab.orchestrator.mover.running()
    for _ in range(2):  # nothing changes by being asked again
        response = await lab.http.delete(f"/moves/{move.plan.epoch}?wait=1")
        assert (response.status_code, response.json()["step"]) == (202, "redirecting")
    lab.tables.go_on()
    await lab.until(lambda: move.ended)
    assert (await lab.get(f"/moves/{move.plan.epoch}"))["reason"] == "called off by request"
    assert all(lab.holders(key) == [1] for key in FLOWS)
    assert "wait" in (await lab.delete(f"/moves/{move.plan.epoch}?wait=soon", status=400))["where"]


async def test_a_move_that_went_forward_all_the_same_was_not_called_off(lab: Lab) -> None:
    """Its source dies before the switch has answered: the target takes over, and whoever asked must hear of it."""
    await lab.post("/scale-out", {"rebalance": False})
    lab.tables.stuck = "redirect"
    await lab.post("/moves", {"all": True, "source": 1, "target": 2, "wait": False})
    await lab.until(lambda: "redirect" in lab.tables.calls)
    (move,) = lab.orchestrator.mover.running()
    call_off = asyncio.create_task(lab.delete(f"/moves/{move.plan.epoch}", status=409))
    await lab.until(lambda: move.reason != "")
    lab.agent.kill(1)
    await lab.until(lambda: move.source_gone)
    lab.tables.go_on()
    assert "is decided (done)" in (await call_off)["error"]


async def test_who_connects_again_during_a_move_knows_its_buckets_when_it_is_over(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(defaults=Options(guarantee="none"))
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": False})
        lab.tables.stuck = "drain"  # the target has adopted the flows, and owns the buckets
        await lab.post("/migrate", {"buckets": [1, 2, 3], "source": 1, "target": 2, "wait": False})
        await lab.until(lambda: "drain" in lab.tables.calls)
        fleet = lab.orchestrator.fleet
        sessions = {replica: fleet.replicas[replica].session for replica in (1, 2)}
        for session in sessions.values():
            assert session is not None
            session.close("test")
        await lab.until(lambda: all(fleet.replicas[each].session not in (None, sessions[each]) for each in sessions))
        lab.tables.go_on()
        await lab.until(lambda: not lab.orchestrator.mover.running())
        owned = {1: set(range(BUCKETS)) - {1, 2, 3}, 2: {1, 2, 3}}
        for replica, buckets in owned.items():
            fences = lab.agent.peers[replica].guest.table.fences
            await lab.until(lambda fences=fences, buckets=buckets: fences.owned == buckets)  # type: ignore[misc]


async def test_what_a_replica_had_no_room_for_after_its_answer_is_in_the_moves_figures(lab: Lab) -> None:
    lab.give_flows(1, FLOWS)
    await lab.post("/scale-out", {"rebalance": False})
    lab.tables.stuck = "resume"
    body = {"all": True, "source": 1, "target": 2, "buffer": "cpu", "wait": False}
    await lab.post("/moves", body)
    await lab.until(lambda: "resume" in lab.tables.calls)
    (move,) = lab.orchestrator.mover.running()
    epoch = move.plan.epoch
    lab.agent.peers[2].to_orchestrator(m.HoldDropped(epoch=epoch, dropped=3))
    await lab.until(lambda: move.figures.dropped == 3)
    lab.tables.go_on()
    await lab.until(lambda: move.ended)
    assert (await lab.get(f"/moves/{epoch}"))["dropped"] == 3
    lab.agent.peers[2].to_orchestrator(m.HoldDropped(epoch=epoch, dropped=3))  # again: nothing new
    stats = m.Stats(replica=2, flows=0, packets=0, bytes=0, cpu_seconds=0, held=0, drops={}, hold_dropped={epoch: 5})
    lab.agent.peers[2].to_orchestrator(stats)  # what was told meanwhile has not arrived
    await lab.until(lambda: list(lab.orchestrator.mover.reports)[-1].dropped == 5)
    lab.agent.peers[1].to_orchestrator(m.HoldDropped(epoch=epoch, dropped=1))
    await lab.until(lambda: list(lab.orchestrator.mover.reports)[-1].dropped == 6)
    lab.agent.peers[1].to_orchestrator(m.HoldDropped(epoch=epoch, dropped=0))
    assert (await lab.get(f"/moves/{epoch}"))["dropped"] == 6


@pytest.mark.parametrize("guarantee", ["none", "loss-free", "order-preserving", "no-buffer"])
@pytest.mark.parametrize("buffer", ["cpu", "replica"])
async def test_every_guarantee_moves_the_flows(lab: Lab, guarantee: str, buffer: str) -> None:
    lab.give_flows(1, FLOWS)
    await lab.post("/scale-out", {"rebalance": False})
    body = {"all": True, "source": 1, "target": 2, "guarantee": guarantee, "buffer": buffer}
    if buffer == "cpu" and guarantee in ("none", "no-buffer"):
        assert (await lab.post("/moves", body, 400))["where"] == "body.buffer"
        return
    (move,) = (await lab.post("/moves", body))["moves"]
    assert (move["step"], move["guarantee"], move["dropped"]) == ("done", guarantee, 0)
    assert move["buffer"] == (buffer if guarantee in ("loss-free", "order-preserving") else "")
    assert all(lab.holders(key) == [2] for key in FLOWS)
    assert set(lab.tables.buckets.values()) == {2}


async def test_flows_in_use_are_reported_soon_and_the_others_move(lab: Lab) -> None:
    lab.give_flows(1, FLOWS)
    await lab.post("/scale-out", {"rebalance": False})
    source = lab.agent.peers[1].guest
    source.get_flow(FLOWS[0])
    body = {"keys": [str(key) for key in FLOWS], "target": 2, "references": 0.05}
    first, second = (await lab.post("/moves", body))["moves"]
    assert (first["step"], first["pinned"], second["step"]) == ("undone", [str(FLOWS[0])], "done")
    assert lab.holders(FLOWS[0]) == [1] and all(lab.holders(key) == [2] for key in FLOWS[1:])
    source.put_flow(FLOWS[0])


CPU, REPLICA = Options(buffer="cpu"), Options(buffer="replica")
FORWARD, NONE = Options(guarantee="no-buffer"), Options(guarantee="none")


@pytest.mark.parametrize(
    ("options", "step", "owner"),
    [
        (CPU, "suspend", 1), (CPU, "drain", 1), (CPU, "resume", 2), (REPLICA, "redirect", 1), (REPLICA, "drain", 1),
        (FORWARD, "redirect", 2), (FORWARD, "drain", 2), (NONE, "redirect", 2), (NONE, "drain", 2),
    ],
    ids=str,
)  # fmt: skip
async def test_a_killed_orchestrator_is_followed_by_one_that_puts_everything_right(
    make_lab: Callable[..., Lab], options: Options, step: str, owner: int
) -> None:
    lab = make_lab(defaults=options)
    async with lab.up():
        lab.give_flows(1, FLOWS)
        await lab.post("/scale-out", {"rebalance": False})
        lab.tables.stuck = step
        await lab.post("/migrate", {"all": True, "source": 1, "target": 2, "wait": False})
        await lab.until(lambda: step in lab.tables.calls)
    lab.tables.stuck = ""
    async with lab.up():
        await lab.until(lambda: not lab.orchestrator.mover.running())
        assert set(lab.tables.buckets.values()) == {owner}
        assert all(lab.holders(key) == [owner] for key in FLOWS)
        newest = (await lab.get("/moves"))[0]
        assert newest["step"] == ("done" if owner == 2 else "undone")
        await lab.post("/migrate", {"all": True, "source": owner, "target": 3 - owner})
        assert all(lab.holders(key) == [3 - owner] for key in FLOWS)


@pytest.mark.parametrize("stimulus", ["timer", "callback"])
async def test_a_fault_while_a_move_goes_on_ends_the_process_and_the_next_one_puts_it_right(
    make_lab: Callable[..., Lab], stimulus: str
) -> None:
    lab = make_lab()

    def fail(*arguments: Any, **named: Any) -> Any:
        raise JournalError("journal", "the disk is full")

    async with lab.up(dies=True):
        lab.give_flows(1, FLOWS)
        await lab.post("/scale-out", {"rebalance": False})
        guest = lab.agent.peers[1].guest
        guest.get_flow(FLOWS[0])
        lab.tables.stuck = "drain" if stimulus == "callback" else ""
        deadline = 0.3 if stimulus == "timer" else None
        await lab.post("/moves", {"all": True, "source": 1, "target": 2, "wait": False, "references": 9} | (
            {"deadline": deadline, "guarantee": "no-buffer"} if deadline else {}
        ))  # fmt: skip
        await lab.until(lab.orchestrator.mover.running)
        (move,) = lab.orchestrator.mover.running()
        await lab.until(lambda: move.step.value == ("exporting" if stimulus == "timer" else "draining"))
        lab.orchestrator.journal.record = fail  # type: ignore[method-assign]
        if stimulus == "callback":
            lab.orchestrator.mover.cancel(move.plan.epoch, "off")
        await lab.until(lab.life.done)
    lab.tables.stuck = ""
    async with lab.up():
        await lab.until(lambda: not lab.orchestrator.mover.running())
        assert all(lab.holders(key) == [1] for key in FLOWS)
        guest.put_flow(FLOWS[0])


async def test_new_flows_are_assigned_by_the_controller(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(assignment="round-robin")
    async with lab.up():
        assert set(lab.tables.buckets.values()) == {None}
        await lab.post("/scale-out")
        for key in FLOWS[:6]:
            lab.orchestrator.network_event(NewFlow(key))
        await lab.until(lambda: len(lab.tables.flows) == 6)
        assert sorted(lab.tables.flows.values()) == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(("options", "step"), [(CPU, "suspend"), (CPU, "resume"), (REPLICA, "redirect")], ids=str)
async def test_a_flow_that_ends_during_its_move_leaves_no_entry(
    make_lab: Callable[..., Lab], options: Options, step: str
) -> None:
    lab = make_lab(assignment="round-robin", defaults=options)
    async with lab.up():
        lab.orchestrator.network_event(NewFlow(FLOWS[0]))
        await lab.until(lambda: lab.orchestrator.placement.entry(FLOWS[0]) == 1)
        lab.give_flows(1, FLOWS[:1])
        await lab.post("/scale-out", {"rebalance": False})
        lab.tables.calls.clear()
        lab.tables.stuck = step
        await lab.post("/migrate", {"keys": [str(FLOWS[0])], "target": 2, "wait": False})
        await lab.until(lambda: step in lab.tables.calls)
        lab.agent.peers[2 if step == "resume" else 1].guest.delete_flow(FLOWS[0])
        await asyncio.sleep(0.2)  # FlowsGone comes meanwhile
        lab.tables.go_on()
        await lab.until(lambda: not lab.orchestrator.mover.running() and not lab.tables.flows)
        assert lab.orchestrator.placement.entry(FLOWS[0]) is None


async def test_a_new_flow_that_ends_at_once_leaves_no_entry(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(assignment="round-robin")
    async with lab.up():
        lab.tables.stuck = "resume"
        lab.orchestrator.network_event(NewFlow(FLOWS[0]))
        await lab.until(lambda: "resume" in lab.tables.calls)
        lab.give_flows(1, FLOWS[:1])
        lab.agent.peers[1].guest.delete_flow(FLOWS[0])
        await asyncio.sleep(0.2)  # FlowsGone comes meanwhile
        lab.tables.go_on()
        await lab.until(lambda: "resume" in lab.tables.calls and not lab.orchestrator.mover.running())
        await lab.until(lambda: not lab.tables.flows and lab.orchestrator.placement.entry(FLOWS[0]) is None)


async def test_a_failing_agent_is_told_about(lab: Lab) -> None:
    lab.agent.refuses = True
    error = await lab.post("/scale-out", status=503)
    assert error["error"] == "no memory" and error["where"] == "agent"
    lab.agent.refuses = False
    await lab.post("/scale-out")


async def test_shared_objects(lab: Lab) -> None:
    guest = lab.agent.peers[1].guest
    assert "'nothing/at/all'" in (await lab.get("/shared/nothing/at/all", 404))["error"]
    guest.create_shared("hits", State(5), combiner=lambda mine, other: mine)
    assert (await lab.get("/shared/hits"))["elements"] == [], "it is there, and nobody has put anything into it yet"
    guest.get_shared("hits")
    guest.put_shared("hits")
    found = await lab.get("/shared/hits")
    assert [(each["origin"], each["value"]) for each in found["elements"]] == [("incarnation-1", {"number": 5})]


async def test_what_a_replica_pushed_outlives_it_and_the_orchestrator(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    async with lab.up():
        await lab.post("/scale-out")
        guest = lab.agent.peers[1].guest
        guest.create_shared("hits", State(5), combiner=lambda elements: elements[0])
        with guest.shared("hits", PUSH):
            assert not lab.orchestrator.shared_state.hub.keys()
        await lab.until(lambda: lab.orchestrator.shared_state.hub.keys() and not guest.coherent.unconfirmed)
        lab.agent.kill(1)
    async with lab.up():
        found = await lab.get("/shared/hits")
    assert [(each["origin"], each["value"]) for each in found["elements"]] == [("incarnation-1", {"number": 5})]


async def test_a_pull_waits_for_replicas_that_have_not_come_back_yet(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    async with lab.up():
        guest = lab.agent.peers[1].guest
        guest.create_shared("hits", State(5), combiner=lambda elements: elements[0])
        with guest.shared("hits"):
            assert guest.replica == 1
    async with lab.up(wait=False):
        await lab.until(lambda: lab.orchestrator.started)
        found = await lab.orchestrator.shared("hits")  # which nobody has connected to yet
    assert [each.origin for each in found.elements] == ["incarnation-1"] and not found.missing


async def test_the_lock_of_a_replica_that_ends_is_free_and_its_value_stays(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()

    async def locked(peer: Peer) -> State:
        sequence = peer.guest.coherent.get("limit", SYNCH, 0.0, 5.0)
        peer.engine.carry_out(next(sequence).steps)
        await lab.until(lambda: peer.guest.coherent.locks.find("limit").settled)
        with pytest.raises(StopIteration) as stop:
            sequence.send(0.0)
        return stop.value.value

    async with lab.up():
        await lab.post("/scale-out")
        first, second = lab.agent.peers[1], lab.agent.peers[2]
        for peer in (first, second):
            peer.guest.create_shared("limit", State(5))
        await locked(first)
        shown = await lab.get("/shared/limit")
        assert shown == {"key": "limit", "value": None, "token": 1, "holder": 1}
        lab.agent.kill(1)
        (await locked(second)).number = 7
        write = second.guest.coherent.write("limit", 0.0)  # a sequence that nobody holds gives up
        second.engine.carry_out(next(write).steps)
        await lab.until(lambda: second.guest.coherent.locks.find("limit").settled)
    async with lab.up():
        shown = await lab.get("/shared/limit")
    write.close()
    assert (shown["value"]["value"], shown["token"], shown["holder"]) == ({"number": 7}, 2, None)


async def test_there_are_never_two_lock_services(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(locks=LocksConfig(service="etcd://h:1"))
    async with lab.up():
        peer = lab.agent.peers[1]
        peer.guest.create_shared("limit", State(5))
        sequence = peer.guest.coherent.get("limit", SYNCH, 0.0, 5.0)
        peer.engine.carry_out(next(sequence).steps)  # this replica has not listened to its Welcome
        await lab.until(lambda: peer.guest.coherent.locks.find("limit").settled)
        with pytest.raises(SynchUnavailable, match="the lock service is etcd://h:1"):
            sequence.send(0.0)


async def test_metrics(lab: Lab) -> None:
    await lab.post("/scale-out")
    text = (await lab.http.get("/metrics")).text
    assert "splitmerge_locks_taken_over_total 0.0" in text and "splitmerge_fenced_writes_total 0.0" in text
    assert "splitmerge_replicas 2.0" in text and 'splitmerge_moves_total{outcome="done"} 1.0' in text
    assert 'splitmerge_controller_packets_total{what="packet_ins"} 7.0' in text
    assert 'splitmerge_controller_drops_total{reason="buffer_full"} 5.0' in text
    assert 'splitmerge_controller_waiting{what="packets"} 2.0' in text


REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("unknown field", "/migrate", {"target": 1, "colour": 1}, 400, "body"),
    ("wrong type", "/migrate", {"target": "one"}, 400, "body.target"),
    ("no JSON", "/migrate", b"{", 400, "body"),
    ("no object", "/scale-in", b"[]", 400, "body"),
    ("missing field", "/migrate", {"all": True}, 400, "body"),
    ("nothing named", "/migrate", {"target": 1}, 400, "body"),
    ("two things named", "/migrate", {"target": 1, "buckets": [1], "all": True}, 400, "body"),
    ("no guarantee", "/moves", {"target": 1, "all": True, "guarantee": "hope"}, 400, "body.guarantee"),
    ("no deadline", "/moves", {"target": 1, "buckets": [1], "deadline": -1}, 400, "body: deadline"),
    ("no flow", "/migrate", {"target": 1, "keys": ["tcp"]}, 400, "flow 'tcp'"),
    ("no such bucket", "/migrate", {"target": 1, "buckets": [1024]}, 409, "buckets"),
    ("no such replica", "/migrate", {"target": 9, "buckets": [1]}, 404, "replica 9"),
    ("no such source", "/migrate", {"target": 1, "source": 9, "all": True}, 404, "replica 9"),
    ("all of whom", "/migrate", {"target": 1, "all": True}, 409, "source"),
    ("there already", "/migrate", {"target": 1, "buckets": [1]}, 409, "migrate"),
    ("the last one", "/scale-in", {}, 409, "scale-in"),
    ("none", "/scale-out", {"count": 0}, 400, "count"),
    ("too many", "/scale-out", {"count": 99}, 409, "scale-out"),
]


@pytest.mark.parametrize(("path", "body", "status", "where"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
async def test_bad_requests_are_refused(lab: Lab, path: str, body: Any, status: int, where: str) -> None:
    error = await lab.post(path, body, status)
    assert error["where"] == where and error["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/flows?limit=x", 400),
        ("/flows?limits=5", 400),
        ("/moves?replica=1", 400),
        ("/status?x", 400),
        ("/flows?replica=9", 404),
        ("/moves/99", 404),
        ("/moves/x", 400),
        ("/nothing", 404),
    ],
)
async def test_bad_queries_are_refused(lab: Lab, path: str, status: int) -> None:
    await lab.get(path, status)


async def test_nothing_is_begun_before_it_is_ready(tmp_path: Path) -> None:
    """No agent: the orchestrator waits for one, and says so."""
    lab = Lab(tmp_path, Tables(), Agent(tmp_path, f"unix:{tmp_path}/control.sock"), {})
    async with lab.up(wait=False):
        assert (await lab.get("/status"))["ready"] is False
        assert (await lab.post("/scale-out", status=503))["remedy"]


HELLOS = [
    ("other protocol", m.Hello(protocol=99, role="replica", replica=1), "protocol"),
    ("unknown replica", m.Hello(role="replica", replica=77), "not one of mine"),
    ("unknown role", m.Hello(role="king"), "role"),
    ("another process", m.Hello(role="replica", replica=1, incarnation="other"), "another process"),
]


@pytest.mark.parametrize(("hello", "reason"), [each[1:] for each in HELLOS], ids=[each[0] for each in HELLOS])
async def test_strangers_are_refused(lab: Lab, hello: m.Hello, reason: str) -> None:
    reader, writer = await asyncio.open_unix_connection(lab.agent.control.removeprefix("unix:"))
    writer.write(encode(hello))
    answers: list[m.Message] = []
    async with asyncio.timeout(WITHIN):
        await _read(reader, answers.append)
    writer.close()
    assert isinstance(answers[0], m.Refused) and reason in answers[0].reason


@pytest.mark.parametrize("raw", [b"\xff\xff\xff\xff", b"\0\0\0\1x", encode(m.Released(epoch=1))])
async def test_what_is_no_hello_is_cut_off(lab: Lab, raw: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(lab.agent.control.removeprefix("unix:"))
    writer.write(raw)
    async with asyncio.timeout(WITHIN):
        assert await reader.read() == b""
    writer.close()
