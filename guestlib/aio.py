"""The asyncio shell: the same replica inside somebody's event loop.

    async with AsyncReplica(middlebox, config) as replica:
        status = await replica.run()

``on_packet`` is called from the loop and must not block; a middlebox may start tasks that keep references (`get_flow` …
`put_flow`) over an await, and a move then waits for them. What may wait is awaited: ``get_shared`` with PULL or SYNCH
and ``put_shared`` with SYNCH are the replica's own (``await replica.get_shared(key, PULL)``), and so is
``async with replica.shared(key, SYNCH)``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, NoReturn, Self

from guestlib.blocking import LONGEST_SLEEP
from guestlib.coherence.objects import LOCAL, SYNCH, Flags
from guestlib.config import ReplicaConfig
from guestlib.errors import SharedError
from guestlib.guest import Guest
from guestlib.instructions import Await, Begin
from guestlib.links import Ready
from guestlib.middlebox import Middlebox
from guestlib.shell import RING_BYTES, FrameSocket, Shell, prepare
from splitmerge.errors import Timeout
from splitmerge.linux.afpacket import PacketSocket


class _LoopPoller:
    """`guestlib.links.Poller` over an event loop. ``after`` is called after every callback."""

    def __init__(self, loop: asyncio.AbstractEventLoop, after: Ready) -> None:
        self._loop = loop
        self._after = after

    def watch(self, sock: socket.socket, on_read: Ready | None, on_write: Ready | None) -> None:
        if on_read is not None:
            self._loop.add_reader(sock, self._call, on_read)
        else:
            self._loop.remove_reader(sock)
        if on_write is not None:
            self._loop.add_writer(sock, self._call, on_write)
        else:
            self._loop.remove_writer(sock)

    def unwatch(self, sock: socket.socket) -> None:
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)

    def _call(self, callback: Ready) -> None:
        callback()
        self._after()


class AsyncReplica:
    """One replica in the running event loop. Enter it, `run` it; leaving closes its sockets.

    The parameters are those of `guestlib.run_replica`, and so are the errors (raised on entering).
    """

    def __init__(
        self,
        middlebox: Middlebox,
        config: ReplicaConfig,
        *,
        guest: Guest | None = None,
        packets: FrameSocket | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.guest = guest or prepare(middlebox, config)
        self._middlebox = middlebox
        self._config = config
        self._packets = packets
        self._clock = clock
        self._wake = asyncio.Event()
        self._waiters: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self._shell: Shell | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        packets = self._packets or PacketSocket(self._config.interface, ring_bytes=RING_BYTES)
        try:
            poller = _LoopPoller(loop, self._control_served)
            shell = Shell(self._middlebox, self.guest, self._config, packets, poller, self._clock)
        except BaseException:
            packets.close()
            raise
        self.guest.begin(self._config.replica, shell.incarnation, _must_await)
        self.guest.coherent.concurrent = True
        self.guest.coherent.on_end = self._control_served
        loop.add_reader(packets.fileno(), self._packets_ready, shell)
        self._packets = packets
        self._shell = shell
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._shell is not None and self._packets is not None:
            asyncio.get_running_loop().remove_reader(self._packets.fileno())
            self._shell.close()
            self._shell = None

    async def run(self) -> int:
        """Serve until Finish or `terminate`; 0, or 1 if a final push was not confirmed."""
        shell = self._running()
        while not shell.engine.done:
            self._wake.clear()
            shell.tick()
            await self._sleep(shell.next_due() - self._clock())
        until = self._clock() + self._config.term_deadline
        while shell.control.unsent and self._clock() < until:
            self._wake.clear()
            await self._sleep(0.1)
        return 0 if shell.engine.clean else 1

    def terminate(self) -> None:
        """End as after SIGTERM: final pushes if the orchestrator is there, then `run` returns."""
        self._running().terminate()
        self._wake.set()

    async def get_shared(self, key: str, flags: Flags = LOCAL) -> Any:
        """As `Guest.get_shared`, without blocking the loop. Close PULL and LOCAL with ``guest.put_shared``.

        PULL and SYNCH wait for this replica's own transactions on the object, too.
        """
        if flags is LOCAL:
            return self.guest.get_shared(key)
        return await self._sequence(lambda now, deadline: self.guest.coherent.get(key, flags, now, deadline), flags)

    async def put_shared(self, key: str, flags: Flags = LOCAL) -> None:
        """As `Guest.put_shared`, without blocking the loop."""
        if flags is SYNCH:
            await self._sequence(lambda now, deadline: self.guest.coherent.write(key, now), flags)
        else:
            self.guest.put_shared(key, flags)

    @contextlib.asynccontextmanager
    async def shared(self, key: str, flags: Flags = LOCAL) -> AsyncIterator[Any]:
        """As `Guest.shared`, without blocking the loop."""
        value = await self.get_shared(key, flags.opens)
        try:
            yield value
        except BaseException:
            if flags is SYNCH:
                self.guest.drop_shared(key)
            else:
                self.guest.put_shared(key, flags.closes)
            raise
        await self.put_shared(key, flags.closes)

    async def _sequence(self, begin: Begin, flags: Flags) -> Any:
        """`guestlib.instructions.drive`, awaited. :raises Timeout:"""
        seconds = self._config.waits_for(flags)
        until = self._clock() + seconds
        sequence = begin(self._clock(), seconds)
        try:
            awaited = next(sequence)
            while True:
                try:
                    await self._until(awaited, until, seconds)
                except BaseException as error:
                    awaited = sequence.throw(error)
                else:
                    awaited = sequence.send(self._clock())
        except StopIteration as stop:
            return stop.value
        finally:
            self._wake.set()

    async def _until(self, awaited: Await, until: float, seconds: float) -> None:
        self._running().engine.carry_out(awaited.steps)
        self._wake.set()
        if awaited.done():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[future] = awaited.done
        try:
            async with asyncio.timeout(until - self._clock()):
                await future
        except TimeoutError:
            raise Timeout(awaited.what, seconds) from None
        finally:
            del self._waiters[future]

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(seconds, 0.0), LONGEST_SLEEP)):
                await self._wake.wait()

    def _control_served(self) -> None:
        """Something has changed: whoever waits for that goes on."""
        self._wake.set()
        for future, done in self._waiters.items():
            if not future.done() and done():
                future.set_result(None)

    def _packets_ready(self, shell: Shell) -> None:
        shell.packets_ready()
        self._wake.set()

    def _running(self) -> Shell:
        if self._shell is None:
            raise RuntimeError("AsyncReplica is used inside `async with`")
        return self._shell


def _must_await(key: str, begin: Begin, flags: Flags) -> NoReturn:
    call = "get_shared or put_shared" if flags is SYNCH else "get_shared"
    raise SharedError(key, f"inside asyncio {flags.name} is awaited: `await replica.{call}(key, {flags.name})`")
