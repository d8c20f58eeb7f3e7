"""The asyncio shell over real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from guestlib import LOCAL, PULL, SYNCH, AsyncReplica, FlowMigrated, SharedError
from splitmerge import wire
from splitmerge.errors import BadInput, Timeout
from splitmerge.messages import (
    Export,
    Exported,
    Finish,
    Finished,
    FlowList,
    Hello,
    ListFlows,
    Message,
    Scope,
    SharedAbandon,
    SharedElement,
    SharedLock,
    SharedLocked,
    SharedPull,
    SharedPulled,
    SharedPush,
    SharedPushed,
    SharedWrite,
    SharedWritten,
    Stage,
    Staged,
    Stats,
    Welcome,
)
from tests.guestlib.conftest import frame_of, key_of, number_in
from tests.guestlib.harness import Counter, config_for


class Stream:
    """One connection to a replica, awaited."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._decoder = reader, writer, wire.Decoder()

    def say(self, message: Message) -> None:
        self._writer.write(wire.encode(message))

    async def hear(self, kind: type) -> Message:
        async with asyncio.timeout(10):
            while True:
                message = await self.next()
                if isinstance(message, kind):
                    return message
                assert isinstance(message, Stats | SharedPull), message  # a pull that nobody answers is asked again

    async def next(self) -> Message:
        while (message := self._decoder.next_message()) is None:
            data = await self._reader.read(65536)
            assert data, "closed"
            self._decoder.receive_data(data)
        return message

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@pytest.fixture
async def desk(tmp_path: Path):
    """Connections to ``o`` and to ``t`` (a target), as they come."""
    queue: asyncio.Queue[Stream] = asyncio.Queue()
    streams: list[Stream] = []

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        streams.append(Stream(reader, writer))
        queue.put_nowait(streams[-1])

    servers = [await asyncio.start_unix_server(connected, tmp_path / name) for name in ("o", "t")]

    async def accept() -> Stream:
        async with asyncio.timeout(10):
            stream = await queue.get()
        await stream.hear(Hello)
        stream.say(Welcome())
        return stream

    yield accept
    for stream in streams:
        await stream.close()
    for server in servers:
        server.close()


async def finish(stream: Stream, run: asyncio.Task[int]) -> int:
    stream.say(Finish(request=3))
    push = await stream.hear(SharedPush)
    stream.say(SharedPushed(request=push.request))
    await stream.hear(Finished)
    async with asyncio.timeout(10):
        return await run


async def test_a_replica_in_an_event_loop(desk, tmp_path: Path, wires) -> None:
    interface, far = wires()
    config = config_for(tmp_path)
    async with AsyncReplica(Counter(), config, packets=interface) as replica, asyncio.TaskGroup() as tasks:
        run = tasks.create_task(replica.run())
        stream = await desk()
        for number in range(50):
            far.send(frame_of(1, number))
        got = [number_in(await asyncio.to_thread(far.recv, 65536)) for _ in range(50)]
        assert got == list(range(50))
        assert await finish(stream, run) == 0


async def test_a_move_waits_for_a_transaction_held_over_an_await(desk, tmp_path: Path, wires) -> None:
    interface, far = wires()
    config = config_for(tmp_path)
    async with AsyncReplica(Counter(), config, packets=interface) as replica, asyncio.TaskGroup() as tasks:
        run = tasks.create_task(replica.run())
        stream = await desk()
        far.send(frame_of(1, 1))
        await asyncio.to_thread(far.recv, 65536)
        key = key_of(1)
        state = replica.guest.get_flow(key)
        scope = Scope(keys=(bytes(key),))
        stream.say(Export(epoch=5, scope=scope, target=2, address=f"unix:{tmp_path}/t", deadline=10.0))
        stream.say(Export(epoch=5, scope=scope, target=2, address=f"unix:{tmp_path}/t", deadline=10.0))
        stream.say(ListFlows(request=1))  # answered behind the exports
        assert (await stream.hear(FlowList)).keys == (bytes(key),)
        state.packets = 42
        replica.guest.put_flow(key)
        with pytest.raises(FlowMigrated):
            replica.guest.get_flow(key)
        target = await desk()
        stage = await target.hear(Stage)
        assert replica.guest.types.decode("Count", stage.flows[0].state).packets == 42
        target.say(Staged(epoch=5, part=0))
        assert (await stream.hear(Exported)).staged == 1
        assert await finish(stream, run) == 0


async def test_pull_is_awaited(desk, tmp_path: Path, wires) -> None:
    interface, _ = wires()
    config = config_for(tmp_path, pull_deadline=1.0)
    async with AsyncReplica(Counter(), config, packets=interface) as replica, asyncio.TaskGroup() as tasks:
        run = tasks.create_task(replica.run())
        stream = await desk()
        guest = replica.guest
        (await replica.get_shared("total", LOCAL)).packets = 5
        guest.put_shared("total")
        with pytest.raises(SharedError, match=r"PULL is awaited: `await replica\.get_shared"):
            guest.get_shared("total", PULL)
        pull = tasks.create_task(replica.get_shared("total", PULL))
        request = (await stream.hear(SharedPull)).request
        value = guest.types.encode(guest.coherent.find("total").own)
        element = SharedElement(origin="i2", version=1, kind="Count", value=value)
        stream.say(SharedPulled(request=request, key="total", elements=(element,)))
        assert (await pull).packets == 10
        guest.put_shared("total")
        with pytest.raises(Timeout, match=r"nothing within 1 s"):
            await replica.get_shared("total", PULL)
        await stream.hear(SharedPull)
        assert await finish(stream, run) == 0


async def test_synch_is_awaited_and_tasks_take_turns(desk, tmp_path: Path, wires) -> None:
    interface, _ = wires()
    config = config_for(tmp_path, synch_deadline=1.2)
    replica = AsyncReplica(Counter(), config, packets=interface)
    async with replica, asyncio.TaskGroup() as tasks:
        run = tasks.create_task(replica.run())
        stream = await desk()
        with pytest.raises(SharedError, match="SYNCH is awaited"):
            replica.guest.get_shared("value", SYNCH)

        async def increment() -> None:
            async with replica.shared("value", SYNCH) as value:
                value.packets += 1

        async def serve(newest: SharedElement | None) -> SharedElement:
            ask = await stream.hear(SharedLock)
            token = ask.request * 10
            stream.say(SharedLocked(request=ask.request, key="value", token=token, lease=5.0, value=newest))
            write = await stream.hear(SharedWrite)
            assert write.element.version == token
            stream.say(SharedWritten(key="value", token=token))
            return write.element

        both = [tasks.create_task(increment()) for _ in range(2)]
        newest = await serve(await serve(None))
        await asyncio.gather(*both)
        assert replica.guest.types.decode("Count", newest.value).packets == 2
        with pytest.raises(Timeout, match=r"get_shared\('value', SYNCH\): nothing within 1\.2 s"):
            await increment()
        async with asyncio.timeout(10):
            asked = [await stream.next()]
            while not isinstance(asked[-1], SharedAbandon):
                asked.append(await stream.next())
        assert {each.request for each in asked if not isinstance(each, Stats)} == {3}, "asked again and given up"
        run.cancel()


async def test_a_block_that_fails_under_synch_gives_the_lock_back(desk, tmp_path: Path, wires) -> None:
    interface, _ = wires()
    replica = AsyncReplica(Counter(), config_for(tmp_path), packets=interface)
    async with replica, asyncio.TaskGroup() as tasks:
        run = tasks.create_task(replica.run())
        stream = await desk()

        async def fail() -> None:
            async with replica.shared("value", SYNCH):
                raise ValueError("no")

        failing = asyncio.create_task(fail())
        request = (await stream.hear(SharedLock)).request
        stream.say(SharedLocked(request=request, key="value", token=1, lease=5.0))
        with pytest.raises(ValueError, match="no"):
            await failing
        assert (await stream.hear(SharedAbandon)).request == request
        run.cancel()


async def test_terminate_ends_without_an_orchestrator(tmp_path: Path, wires) -> None:
    interface, _ = wires()
    config = config_for(tmp_path)
    async with AsyncReplica(Counter(), config, packets=interface) as replica, asyncio.TaskGroup() as tasks:
        run = tasks.create_task(replica.run())
        await asyncio.sleep(0)
        replica.terminate()
        async with asyncio.timeout(10):
            assert await run == 0  # it had counted nothing
    assert interface.fileno() == -1


async def test_misuse_is_named(tmp_path: Path, wires) -> None:
    interface, _ = wires()
    replica = AsyncReplica(Counter(), config_for(tmp_path), packets=interface)
    with pytest.raises(RuntimeError, match="inside `async with`"):
        await replica.run()
    await replica.__aexit__(None, None, None)
    other, _ = wires()
    with pytest.raises(BadInput, match="cannot listen"):
        async with AsyncReplica(Counter(), config_for(tmp_path, peer=f"unix:{tmp_path}/absent/p"), packets=other):
            pytest.fail("entered")
    assert other.fileno() == -1
