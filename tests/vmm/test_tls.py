"""Mutual TLS on the control network: who is let in, over the orchestrator's real sessions and agents' real links."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guestlib.blocking import SelectorPoller
from guestlib.config import Address, ReplicaConfig
from guestlib.links import Connection, Link, Listener
from orchestrator.journal import Journal
from orchestrator.replicas.fleet import Fleet, Replica
from orchestrator.replicas.sessions import Session, serve
from splitmerge import messages as m
from splitmerge.certs import issue, make_ca, show
from splitmerge.cli.app import app
from splitmerge.errors import BadInput, PeerError
from splitmerge.tls import ORCHESTRATOR, REPLICA, Channel, Identity, agent_name
from splitmerge.wire import Decoder, encode

ROOT = Path(__file__).resolve().parents[2]
WITHIN = 10.0


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab's authority, another lab's, and certificates of all sorts."""
    directory = tmp_path_factory.mktemp("certs")
    for name in ("own", "other"):
        make_ca(directory / name)
        issue(directory / name, "orchestrator", (ORCHESTRATOR,))
        issue(directory / name, "left", (agent_name("left"), REPLICA))
    issue(directory / "own", "right", (agent_name("right"), REPLICA))
    issue(directory / "own", "stale", (agent_name("left"), REPLICA), days=-0.01)
    issue(directory / "own", "stale-orchestrator", (ORCHESTRATOR,), days=-0.01)
    return directory


def identity(here: Path, name: str, lab: str = "own", ca: str = "own") -> Identity:
    return Identity(here / ca / "ca.pem", here / lab / f"{name}.pem", here / lab / f"{name}.key")


class Welcoming:
    """An orchestrator that lets everybody in who gets so far."""

    def __init__(self) -> None:
        self.came: list[m.Hello] = []

    def hello(self, session: Session, hello: m.Hello) -> m.Welcome:
        self.came.append(hello)
        return m.Welcome()

    def message(self, session: Session, message: m.Message) -> None:
        raise AssertionError(message)

    def closed(self, session: Session) -> None:
        pass


async def attempt(
    server: Identity, client: Identity, hello: m.Hello, seconds: float = WITHIN
) -> tuple[bool, Welcoming]:
    """Whether a link with this certificate is welcomed by an orchestrator with that one."""
    handler = Welcoming()
    async with serve("tls:127.0.0.1:0", handler, server) as listening:
        port = listening.sockets[0].getsockname()[1]

        def run() -> bool:
            poller, loop = SelectorPoller(), asyncio.new_event_loop()
            link = Link(
                Address.parse(f"tls:127.0.0.1:{port}"), poller, lambda: hello, lambda c, w: None,
                keep=True, identity=client,
            )  # fmt: skip
            until = loop.time() + seconds
            while link.welcome is None and loop.time() < until:
                link.tick(loop.time())
                poller.run(0.02)
            welcomed = link.welcome is not None
            link.close()
            poller.close()
            loop.close()
            return welcomed

        return await asyncio.to_thread(run), handler


AGENT = m.Hello(role="agent", name="left")


@pytest.mark.parametrize("hello", [AGENT, m.Hello(role="replica", replica=3)], ids=["agent", "its replica"])
async def test_who_has_the_right_certificate_is_welcome(here: Path, hello: m.Hello) -> None:
    welcomed, handler = await attempt(identity(here, "orchestrator"), identity(here, "left"), hello)
    assert welcomed and handler.came == [hello]


REFUSED: list[tuple[str, Callable[[Path], Identity], Callable[[Path], Identity]]] = [
    ("another lab's agent", lambda h: identity(h, "orchestrator"), lambda h: identity(h, "left", "other")),
    ("an expired agent", lambda h: identity(h, "orchestrator"), lambda h: identity(h, "stale")),
    ("an agent with another's name", lambda h: identity(h, "orchestrator"), lambda h: identity(h, "right")),
    ("another lab's orchestrator", lambda h: identity(h, "orchestrator", "other"), lambda h: identity(h, "left")),
    ("an expired orchestrator", lambda h: identity(h, "stale-orchestrator"), lambda h: identity(h, "left")),
    ("an agent as orchestrator", lambda h: identity(h, "right"), lambda h: identity(h, "left")),
]


@pytest.mark.parametrize(("server", "client"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED])
async def test_who_has_not_is_refused(
    here: Path, server: Callable[[Path], Identity], client: Callable[[Path], Identity]
) -> None:
    welcomed, handler = await attempt(server(here), client(here), AGENT, seconds=0.5)
    assert not welcomed and handler.came == []


async def test_without_a_certificate_or_without_tls_nobody_is_heard(here: Path) -> None:
    handler = Welcoming()
    async with serve("tls:127.0.0.1:0", handler, identity(here, "orchestrator")) as listening:
        port = listening.sockets[0].getsockname()[1]
        context = ssl.create_default_context(cafile=str(here / "own" / "ca.pem"))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname=ORCHESTRATOR
            )  # TLS 1.3: the refusal comes with the first answer
            writer.write(b"x")
            assert await asyncio.wait_for(reader.read(), WITHIN) == b""
            raise ConnectionError("closed without a word")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes(64))
        assert b"Welcome" not in await asyncio.wait_for(reader.read(), WITHIN)
        writer.close()
    assert handler.came == []


def test_state_goes_from_replica_to_replica_over_tls(here: Path) -> None:
    poller, got = SelectorPoller(), list[m.Message]()
    own = identity(here, "left")

    def received(connection: Connection, message: m.Message) -> None:
        got.append(message)

    listener = Listener(Address.parse("tls:127.0.0.1:0"), poller, m.Welcome, received, own)
    link = Link(
        listener.address, poller, lambda: m.Hello(role="peer"), received, keep=False, identity=own, expected=REPLICA
    )
    stages = [m.Stage(epoch=1, source=1, part=part, parts=40, flows=()) for part in range(40)]
    for stage in stages:
        assert link.send(stage, 0.0)
    for _ in range(500):
        poller.run(0.01)
        if len(got) == len(stages):
            break
    assert got == stages and str(listener.address).startswith("tls:")
    link.close()
    listener.close()
    poller.close()


@pytest.mark.parametrize(
    ("listens", "connects"),
    [("left", "orchestrator"), ("orchestrator", "left"), ("left", "stale"), ("stale", "left")],
    ids=[
        "who connects is no replica",
        "who listens is no replica",
        "who connects is expired",
        "who listens is expired",
    ],
)
def test_no_state_goes_from_or_to_whom_no_valid_certificate_calls_a_replica(
    here: Path, listens: str, connects: str
) -> None:
    poller, got = SelectorPoller(), list[m.Message]()

    def received(connection: Connection, message: m.Message) -> None:
        got.append(message)

    listener = Listener(Address.parse("tls:127.0.0.1:0"), poller, m.Welcome, received, identity(here, listens))
    link = Link(
        listener.address, poller, lambda: m.Hello(role="peer"), received, keep=False,
        identity=identity(here, connects), expected=REPLICA,
    )  # fmt: skip
    link.send(m.Stage(epoch=1, source=1, part=0, parts=1, flows=()), 0.0)
    for _ in range(20):
        poller.run(0.01)
    assert got == [] and link.welcome is None
    link.close()
    listener.close()
    poller.close()


def shake(one: Channel, two: Channel, step: int) -> tuple[bytes, bytes]:
    """Carry bytes to and fro, so many at a time; what each has heard."""
    heard = [bytearray(), bytearray()]
    ends = (one, two)
    for _ in range(20):
        for index in (0, 1):
            data = ends[index].outgoing()
            for at in range(0, len(data), step):
                heard[1 - index] += ends[1 - index].receive_data(data[at : at + step])
    return bytes(heard[0]), bytes(heard[1])


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_bytes_arrive_whole_in_pieces_of_any_size(here: Path, step: int) -> None:
    server = Channel(identity(here, "orchestrator"), (agent_name("left"),), server=True)
    client = Channel(identity(here, "left"), (ORCHESTRATOR,), server=False)
    client.send(b"a" * 30_000)
    assert client.waiting == 30_000
    server.send(b"b" * 10)
    assert shake(client, server, step) == (b"b" * 10, b"a" * 30_000)
    assert client.established and server.established and client.waiting == 0


def test_what_is_no_tls_is_a_peers_error(here: Path) -> None:
    server = Channel(identity(here, "orchestrator"), (REPLICA,), server=True)
    with pytest.raises(PeerError, match="TLS"):
        server.receive_data(b"GET / HTTP/1.1\r\n\r\n")


def test_certificates_are_private_shown_and_not_made_over(here: Path, tmp_path: Path) -> None:
    assert (here / "own" / "left.key").stat().st_mode & 0o777 == 0o600
    assert {each.certificate.stem: each.names for each in show(here / "own")[0]}["left"] == ("left.agent", "replica")
    with pytest.raises(BadInput, match="there is an authority here already"):
        make_ca(here / "own")
    with pytest.raises(BadInput, match="make an authority first"):
        issue(tmp_path, "left", ("left.agent",))


def test_an_address_that_needs_certificates_says_so() -> None:
    with pytest.raises(BadInput, match="needs certificates"):
        ReplicaConfig(replica=1, interface="lo", control="tls:10.0.0.1:9560", peer="unix:/p")


class Creating(Welcoming):
    """Asks the agent for a replica as soon as it is here."""

    def __init__(self) -> None:
        super().__init__()
        self.news: asyncio.Queue[m.Message] = asyncio.Queue()
        self.agent: Session | None = None

    def hello(self, session: Session, hello: m.Hello) -> m.Welcome:
        self.news.put_nowait(hello)
        self.agent = session if hello.role == "agent" else self.agent
        return m.Welcome()

    def message(self, session: Session, message: m.Message) -> None:
        if not isinstance(message, m.Stats):
            self.news.put_nowait(message)


class Making(Welcoming):
    """Makes replicas, and lets in who can be one of them."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self.fleet = Fleet(journal, {1: 11, 2: 12})
        self.fleet.load(journal.load().replicas.values())
        self.heard: list[m.Message] = []

    def hello(self, session: Session, hello: m.Hello) -> m.Welcome | m.Refused:
        if hello.role == "agent":
            self.fleet.agents.add(session)
            return m.Welcome()
        replica = self.fleet.replicas.get(hello.replica)
        if replica is not None and self.fleet.vouched(replica, session.certified):
            return m.Welcome()
        return m.Refused(epoch=0, request="Hello", reason="not one of that agent's")

    def message(self, session: Session, message: m.Message) -> None:
        self.fleet.agent_answered(session, message)
        self.heard.append(message)

    async def until_heard(self, number: int) -> None:
        async with asyncio.timeout(WITHIN):
            while len(self.heard) < number:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def said_to(port: int, who: Identity, hello: m.Hello, stay: AsyncExitStack, *more: m.Message) -> m.Message:
    """The answer to a Hello over TLS; then ``more`` is said, and the connection stays until the end of ``stay``."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=who.client(), server_hostname=ORCHESTRATOR
    )  # fmt: skip
    stay.callback(writer.close)
    writer.write(encode(hello))
    decoder = Decoder()
    while (answer := decoder.next_message()) is None:
        data = await asyncio.wait_for(reader.read(65_536), WITHIN)
        assert data, "closed without a word"
        decoder.receive_data(data)
    for message in more:
        writer.write(encode(message))
    return answer


async def test_an_agent_vouches_for_the_replicas_that_it_was_asked_to_make_and_no_others(
    here: Path, tmp_path: Path
) -> None:
    """Another agent with a good certificate says later that the slots are its own, also to the next orchestrator."""
    journal = Journal(tmp_path / "journal.db")
    handler = Making(journal)
    left, right = identity(here, "left"), identity(here, "right")
    async with serve("tls:127.0.0.1:0", handler, identity(here, "orchestrator")) as server, AsyncExitStack() as stay:
        port = server.sockets[0].getsockname()[1]
        await said_to(port, left, m.Hello(role="agent", name="left", slots=(1,)), stay)
        making = asyncio.create_task(handler.fleet.create(WITHIN))
        await asyncio.sleep(0)
        (number,) = handler.fleet.replicas
        await said_to(port, right, m.Hello(role="agent", name="right", slots=(1, 2)), stay)
        tried = [(right, number), (left, number + 1), (left, number)]
        answers = [await said_to(port, who, m.Hello(role="replica", replica=which), stay) for who, which in tried]
        making.cancel()
    assert [type(answer) for answer in answers] == [m.Refused, m.Refused, m.Welcome]

    handler = Making(journal)
    replica = handler.fleet.replicas[number]
    gone = m.ReplicaGone(request=number, replica=number, status="it says so")
    async with serve("tls:127.0.0.1:0", handler, identity(here, "orchestrator")) as server, AsyncExitStack() as stay:
        port = server.sockets[0].getsockname()[1]
        created = m.ReplicaCreated(request=number, replica=number, pid=666)
        await said_to(port, right, m.Hello(role="agent", name="right", slots=(1, 2)), stay, created, gone)
        await handler.until_heard(2)
        answers = [await said_to(port, who, m.Hello(role="replica", replica=number), stay) for who in (right, left)]
        assert (replica.pid, replica.ended.is_set()) == (0, False)
        begun = asyncio.get_running_loop().time()
        ending = asyncio.create_task(handler.fleet.end(replica, WITHIN))
        await asyncio.sleep(0.1)
        assert not ending.done(), "its agent is not here, and the other one is not asked"
        await said_to(port, left, m.Hello(role="agent", name="left", slots=(1,)), stay, gone)
        await ending
        assert replica.ended.is_set() and asyncio.get_running_loop().time() - begun < WITHIN
    assert [type(answer) for answer in answers] == [m.Refused, m.Welcome]
    journal.close()


@pytest.mark.parametrize(
    ("maker", "names", "can_be"),
    [
        ("left.agent", {"left.agent", "replica"}, True),
        ("left.agent", {"right.agent", "replica"}, False),
        ("left.agent", None, False),
        ("", None, True),
        ("", {"left.agent", "replica"}, False),
        (None, None, False),
        (None, {"left.agent", "replica"}, False),
    ],
)
def test_who_can_be_a_replica(tmp_path: Path, maker: str | None, names: set[str] | None, can_be: bool) -> None:
    journal = Journal(tmp_path / "journal.db")
    replica = Replica(1, 1, 11, incarnation="known", maker=maker)
    assert Fleet(journal, {1: 11}).vouched(replica, None if names is None else frozenset(names)) is can_be
    journal.close()


@pytest.mark.integ
async def test_the_agent_command_serves_an_orchestrator_over_tls_and_so_do_its_replicas(
    here: Path, tmp_path: Path, namespaces: None
) -> None:
    handler = Creating()
    async with serve("tls:127.0.0.1:0", handler, identity(here, "orchestrator")) as listening:
        own = here / "own"
        config = {
            "control": f"tls:127.0.0.1:{listening.sockets[0].getsockname()[1]}", "name": "left",
            "middlebox": "tests.idle:Idle", "directory": str(tmp_path),
            "slots": {"1": {"interface": "lo", "control_address": "127.0.0.1/8"}},
            "tls": {"ca": str(own / "ca.pem"), "certificate": str(own / "left.pem"), "key": str(own / "left.key")},
        }  # fmt: skip
        (tmp_path / "agent.json").write_text(json.dumps(config))
        argv = [sys.executable, "-m", "splitmerge", "agent", "--config", str(tmp_path / "agent.json")]
        process = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, stderr=asyncio.subprocess.DEVNULL)
        try:
            async with asyncio.timeout(4 * WITHIN):
                hello = await handler.news.get()
                assert isinstance(hello, m.Hello) and (hello.name, hello.slots, hello.kind) == ("left", (1,), "process")
                assert handler.agent is not None
                await asyncio.sleep(0)  # the welcome goes out first
                handler.agent.send(m.CreateReplica(request=1, replica=7, slot=1))
                kinds: dict[type, object] = {}
                while not {m.Hello, m.ReplicaCreated} <= kinds.keys():  # the agent may say twice that it is there
                    news = await handler.news.get()
                    kinds[type(news)] = news
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), WITHIN)
    replica = kinds[m.Hello]
    assert isinstance(replica, m.Hello) and replica.replica == 7 and replica.address.startswith("tls:127.0.0.1:")
    assert m.ReplicaCreated in kinds and process.returncode == 0


def test_the_certs_command_makes_what_the_lab_needs(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["certs", *arguments, "--directory", str(tmp_path / "c"), "--json"])
        assert result.exit_code == 0, result.exception
        return result.stdout

    run("init")
    run("issue", "orchestrator")
    run("issue", "agent", "--name", "left")
    found = {Path(each["certificate"]).name: each["names"] for each in json.loads(run("show"))}
    assert found == {"ca.pem": [], "left.pem": ["left.agent", "replica"], "orchestrator.pem": ["orchestrator"]}
    result = CliRunner().invoke(app, ["certs", "issue", "agent", "--directory", str(tmp_path / "c")])
    assert isinstance(result.exception, BadInput) and "--name" in str(result.exception)
