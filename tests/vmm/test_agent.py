"""The agent: its core as a table, and real forks."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.vmm.agent import AgentCore, End, Instruction, Kill, Make, Tell
from orchestrator.vmm.life import ImpossibleEvent
from splitmerge import messages as m
from splitmerge.wire import Decoder, encode

ROOT = Path(__file__).parents[2]
WITHIN = 15.0


def living() -> AgentCore:
    """Replica 1 lives on slot 1 as process 100."""
    core = AgentCore(frozenset({1, 2}))
    assert core.handle(m.CreateReplica(request=1, replica=1, slot=1), 0.0) == [Make(1, 1)]
    assert core.made(1, 100, 0.0) == [Tell(m.ReplicaCreated(request=1, replica=1, pid=100))]
    return core


def ended() -> AgentCore:
    core = living()
    core.ended(1, "exit 0", 0.0)
    return core


def create(replica: int, slot: int) -> m.CreateReplica:
    return m.CreateReplica(request=9, replica=replica, slot=slot)


def error(reason: str) -> list[Instruction]:
    return [Tell(m.AgentError(request=9, reason=reason))]


ASKED: list[tuple[str, AgentCore, m.Message, list[Instruction]]] = [
    ("again", living(), create(1, 1), [Tell(m.ReplicaCreated(request=9, replica=1, pid=100))]),
    ("slot taken", living(), create(2, 1), error("slot 1 has replica 1")),
    ("no such slot", living(), create(2, 7), error("there is no slot 7: [1, 2]")),
    ("used id", ended(), create(1, 1), error("replica 1 has ended: exit 0")),
    ("free slot", ended(), create(2, 1), [Make(2, 1)]),
    ("destroy", living(), m.DestroyReplica(request=9, replica=1), [End(1)]),
    (
        "destroy what has ended", ended(), m.DestroyReplica(request=9, replica=1),
        [Tell(m.ReplicaGone(request=9, replica=1, status="exit 0"))],
    ),
    (
        "destroy what never lived", living(), m.DestroyReplica(request=9, replica=5),
        [Tell(m.ReplicaGone(request=9, replica=5, status="its agent does not know it"))],
    ),
    ("not for agents", living(), m.Finish(request=1), []),
]  # fmt: skip


@pytest.mark.parametrize(("core", "asked", "expected"), [each[1:] for each in ASKED], ids=[each[0] for each in ASKED])
def test_requests(core: AgentCore, asked: m.Message, expected: list[Instruction]) -> None:
    assert core.handle(asked, 5.0) == expected


def test_sigkill_at_the_deadline_and_then_every_second() -> None:
    core = living()
    core.handle(m.DestroyReplica(request=9, replica=1, deadline=2.0), 5.0)
    assert core.handle(m.DestroyReplica(request=9, replica=1, deadline=2.0), 6.0) == []
    assert core.timer == 7.0 and core.tick(6.9) == []
    assert core.tick(7.0) == [Kill(1)] == core.tick(8.0)
    assert core.ended(1, "signal SIGKILL", 8.5) == [Tell(m.ReplicaGone(request=9, replica=1, status="signal SIGKILL"))]
    assert core.timer is None and core.living == {}


def test_what_the_orchestrator_may_have_missed() -> None:
    core = ended()
    core.handle(m.CreateReplica(request=2, replica=2, slot=1), 0.0)
    core.made(2, 200, 0.0)
    assert core.greeting() == [
        m.ReplicaCreated(request=2, replica=2, pid=200),
        m.ReplicaGone(replica=1, status="exit 0"),
    ]


def being_made() -> AgentCore:
    core = AgentCore(frozenset({1, 2}))
    core.handle(create(1, 1), 0.0)
    return core


def test_what_is_being_made_is_not_made_twice() -> None:
    core = being_made()
    assert core.handle(create(1, 1), 1.0) == [] and core.living == {} and core.busy
    assert core.handle(create(2, 1), 1.0) == error("slot 1 has replica 1")


def test_what_could_not_be_made_leaves_nothing_and_may_be_asked_for_again() -> None:
    core = being_made()
    assert core.failed(1, "no memory", 1.0) == error("no memory") and not core.busy
    assert core.handle(create(1, 1), 2.0) == [Make(1, 1)]


def test_destroyed_before_it_is_made_it_ends_as_soon_as_it_is() -> None:
    core = being_made()
    assert core.handle(m.DestroyReplica(request=10, replica=1, deadline=1.0), 1.0) == []
    assert core.handle(create(1, 1), 1.5) == error("it is being ended")
    assert core.tick(2.0) == [], "there is nothing to end yet"
    assert core.made(1, 100, 2.5) == [End(1)] and core.tick(3.0) == [Kill(1)]
    assert core.ended(1, "signal SIGKILL", 3.1) == [Tell(m.ReplicaGone(request=10, replica=1, status="signal SIGKILL"))]


def test_destroyed_before_it_failed_to_be_made_it_is_gone() -> None:
    core = being_made()
    core.handle(m.DestroyReplica(request=10, replica=1), 1.0)
    assert core.failed(1, "no memory", 2.0) == [Tell(m.ReplicaGone(request=10, replica=1, status="no memory"))]


def test_what_cannot_happen_is_said() -> None:
    with pytest.raises(ImpossibleEvent, match="replica 1: made while living"):
        living().made(1, 200, 1.0)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["create", "destroy", "advance", "make", "fail", "end"]), st.integers(1, 3))))
def test_a_slot_never_has_two_and_only_what_runs_is_ended(steps: list[tuple[str, int]]) -> None:
    """Whatever the orchestrator asks in whatever order, and however the backend fares."""
    core, now, making, running = AgentCore(frozenset({1})), 0.0, set[int](), set[int]()

    def carry_out(instructions: list[Instruction]) -> None:
        for each in instructions:
            if isinstance(each, Make):
                assert not making and not running, "the slot is taken"
                making.add(each.replica)
            if isinstance(each, End | Kill):
                assert each.replica in running

    for what, replica in steps:
        now += 0.5
        if what == "create":
            carry_out(core.handle(create(replica, 1), now))
        elif what == "destroy":
            carry_out(core.handle(m.DestroyReplica(request=1, replica=replica, deadline=1.0), now))
        elif what == "make" and replica in making:
            making.remove(replica)
            running.add(replica)
            carry_out(core.made(replica, replica, now))
        elif what == "fail" and replica in making:
            making.remove(replica)
            carry_out(core.failed(replica, "no memory", now))
        elif what == "end" and replica in running:
            running.remove(replica)
            carry_out(core.ended(replica, "exit 0", now))
        carry_out(core.tick(now))
        assert set(core.living) == running and core.busy == bool(making or running)


async def test_nothing_that_starts_threads_is_in_the_process_that_forks() -> None:
    modules = "orchestrator.vmm.__main__, orchestrator.vmm.process"
    program = f"import {modules}, sys; print([m for m in ('grpc', 'finsy', 'uvicorn') if m in sys.modules])"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), WITHIN)
    assert out == b"[]\n"


EARLY = """
import json, signal, sys, time
from orchestrator.vmm.agent import Make
from orchestrator.vmm.config import AgentConfig
from orchestrator.vmm.process import ProcessBackend
from orchestrator.config import load
from pathlib import Path

class Slow(ProcessBackend):
    def _become(self, parent, mask):
        time.sleep(0.5)  # a fork on a busy machine
        super()._become(parent, mask)

signal.signal(signal.SIGTERM, lambda number, frame: None)  # the agent has a handler of its own, and children inherit it
backend = Slow(load(Path(sys.argv[1]), AgentConfig).check())
backend.attach(None, lambda: None, lambda: None)
backend.make(Make(1, 1))
backend.end(1)
end, news = time.monotonic() + 5, []
while time.monotonic() < end and len(news) < 2:
    news += backend.news()
    time.sleep(0.02)
print([str(each) for each in news[1:]])
"""


async def test_a_replica_that_is_ended_before_it_is_quite_one_ends(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", EARLY, str(config), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), WITHIN)
    assert b"signal SIGTERM" in out


NO_FORK = """
import os, signal, sys
from orchestrator.vmm.agent import Make
from orchestrator.vmm.config import AgentConfig
from orchestrator.vmm.process import ProcessBackend
from orchestrator.config import load
from pathlib import Path

def refused():  # as fork(2) does; limits do not hold for root
    raise OSError(int(sys.argv[2]), os.strerror(int(sys.argv[2])))

def held():
    return len(os.listdir("/proc/self/fd")), signal.pthread_sigmask(signal.SIG_BLOCK, ())

backend = ProcessBackend(load(Path(sys.argv[1]), AgentConfig).check())
backend.attach(None, lambda: None, lambda: None)
fork, os.fork, before = os.fork, refused, held()
backend.make(Make(1, 1))
(failed,) = backend.news()
assert (held(), backend.news()) == (before, [])
os.fork = fork
backend.make(Make(2, 2))
print(failed.replica, failed.reason, type(backend.news()[0]).__name__)
"""


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.EAGAIN, "end some: a limit"), (errno.ENOMEM, "end something that takes memory")]
)
async def test_where_no_process_can_be_made_it_is_said_why_and_nothing_is_left(
    tmp_path: Path, number: int, remedy: str
) -> None:
    config = write_config(tmp_path)
    slots = {"1": {"interface": "lo", "netns": "/proc/self/ns/net"}, "2": {"interface": "lo"}}
    config.write_text(json.dumps({**json.loads(config.read_text()), "slots": slots}))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NO_FORK, str(config), str(number), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), WITHIN)
    said = f"1 replica 1: no process can be made for it: {os.strerror(number)} ({remedy}"
    assert out.decode().startswith(said) and out.endswith(b"Made\n")


class Control:
    """The orchestrator's side of the control network, as far as an agent and its replicas need it."""

    def __init__(self) -> None:
        self.news: asyncio.Queue[tuple[m.Hello, m.Message]] = asyncio.Queue()
        self.put_back: list[tuple[m.Hello, m.Message]] = []
        self.writers: dict[tuple[str, int], asyncio.StreamWriter] = {}

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
                    self.news.put_nowait((who, message))
        writer.close()

    async def expect(self, kind: type[m.Message], role: str) -> m.Message:
        """The next message of this kind from this role; what else comes meanwhile waits for others.

        A replica that was made may be heard before the agent that says so.
        """
        for who, message in self.put_back:
            if who.role == role and isinstance(message, kind):
                self.put_back.remove((who, message))
                return message
        async with asyncio.timeout(WITHIN):
            while True:
                who, message = await self.news.get()
                if who.role == role and isinstance(message, kind):
                    return message
                self.put_back.append((who, message))

    def ask(self, message: m.Message) -> None:
        self.writers["agent", 0].write(encode(message))


def write_config(directory: Path) -> Path:
    """An agent's, with two slots: the loopback of this namespace, and of one that is not there."""
    config = {
        "control": f"unix:{directory / 'control.sock'}", "middlebox": "tests.idle:Idle", "directory": str(directory),
        "slots": {"1": {"interface": "lo"}, "2": {"interface": "lo", "netns": str(directory / "none")}},
    }  # fmt: skip
    path = directory / "agent.json"
    path.write_text(json.dumps(config))
    return path


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[tuple[Control, asyncio.subprocess.Process]]:
    """A real agent; its slot is the loopback interface of this namespace."""
    control = Control()
    config = write_config(tmp_path)
    server = await asyncio.start_unix_server(control.accept, str(tmp_path / "control.sock"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator.vmm", "--config", str(config),
        cwd=ROOT, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await control.expect(m.Hello, "agent")
        yield control, process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        server.close()


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(WITHIN):
        while not gone(pid):  # noqa: ASYNC110 - not a child of ours: nobody tells
            await asyncio.sleep(0.02)


@pytest.mark.integ
async def test_a_replica_lives_and_is_ended(agent: tuple[Control, asyncio.subprocess.Process]) -> None:
    control, process = agent
    control.ask(create(1, 1))
    created = await control.expect(m.ReplicaCreated, "agent")
    hello = await control.expect(m.Hello, "replica")
    assert isinstance(created, m.ReplicaCreated) and isinstance(hello, m.Hello) and hello.replica == 1
    assert os.getpgid(created.pid) == created.pid, "a signal to the agent's group is not for its replicas"
    control.ask(m.DestroyReplica(request=3, replica=1, deadline=5.0))
    assert await control.expect(m.ReplicaGone, "agent") == m.ReplicaGone(request=3, replica=1, status="exit 0")
    process.terminate()
    assert await asyncio.wait_for(process.wait(), WITHIN) == 0


@pytest.mark.integ
async def test_a_replica_that_crashes_is_reported(agent: tuple[Control, asyncio.subprocess.Process]) -> None:
    control, _ = agent
    control.ask(create(1, 1))
    created = await control.expect(m.ReplicaCreated, "agent")
    await control.expect(m.Hello, "replica")
    assert isinstance(created, m.ReplicaCreated)
    os.kill(created.pid, signal.SIGKILL)
    assert await control.expect(m.ReplicaGone, "agent") == m.ReplicaGone(replica=1, status="signal SIGKILL")


@pytest.mark.integ
async def test_no_replica_outlives_the_agent(agent: tuple[Control, asyncio.subprocess.Process]) -> None:
    control, process = agent
    control.ask(create(1, 1))
    created = await control.expect(m.ReplicaCreated, "agent")
    await control.expect(m.Hello, "replica")
    assert isinstance(created, m.ReplicaCreated)
    process.kill()
    await until_gone(created.pid)


@pytest.mark.integ
async def test_on_a_new_connection_it_tells_who_lives(agent: tuple[Control, asyncio.subprocess.Process]) -> None:
    control, _ = agent
    control.ask(create(1, 1))
    created = await control.expect(m.ReplicaCreated, "agent")
    assert isinstance(created, m.ReplicaCreated)
    control.writers["agent", 0].close()
    await control.expect(m.Hello, "agent")
    again = await control.expect(m.ReplicaCreated, "agent")
    assert again == m.ReplicaCreated(request=1, replica=1, pid=created.pid)


async def test_a_namespace_that_is_not_there(agent: tuple[Control, asyncio.subprocess.Process]) -> None:
    control, _ = agent
    control.ask(create(1, 2))
    answer = await control.expect(m.AgentError, "agent")
    assert isinstance(answer, m.AgentError) and "slot 2" in answer.reason


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "not JSON"), ("{}", "control"), ('{"control": "unix:/c", "middlebox": "a:B", "slots": {}}', "directory")],
)
async def test_a_bad_configuration_ends_it_with_status_2(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "agent.json"
    path.write_text(text)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator.vmm", "--config", str(path),
        cwd=ROOT, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await asyncio.wait_for(process.communicate(), WITHIN)
    assert process.returncode == 2 and said in errors.decode()
