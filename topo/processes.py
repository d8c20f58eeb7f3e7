"""The processes of a lab: started with their output in a log file, watched, restarted within reason, ended for sure."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from topo.errors import NeverReady, ProcessFailed
from topo.namespaces import CLONE_NEWNET, die_with_parent, setns

log = logging.getLogger("splitmerge.topo")

_POLL = 0.02
_RESTARTS, _RESTART_WINDOW = 20, 30.0
"""More restarts than this within so many seconds: something is wrong that restarting does not mend."""


@dataclass(frozen=True, slots=True)
class Command:
    """A process to run."""

    name: str
    argv: Sequence[str]
    log: Path
    ready: Callable[[], Awaitable[bool]]
    """Asked until it says True; may raise `NeverReady`."""
    ready_within: float = 20.0
    """Seconds."""
    stop_within: float = 5.0
    """Seconds from SIGTERM to SIGKILL."""
    namespace: int | None = None
    """Descriptor of the network namespace that it runs in; None: this process's own."""
    log_kept: bool = True
    """Whether the log is still there when somebody reads of a failed start."""

    def failed(self, problem: str, who: str = "") -> ProcessFailed:
        """The error to raise. ``who``: to blame, if that is not this process itself."""
        return ProcessFailed(who or self.name, problem, self.log, kept=self.log_kept)


def _become(parent: int, namespace: int | None) -> None:
    if namespace is not None:
        setns(namespace, CLONE_NEWNET)
    die_with_parent(parent)


class Supervised:
    """One process that is kept running until `stop`."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.restarts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._starts: deque[float] = deque(maxlen=_RESTARTS)

    @property
    def pid(self) -> int:
        """Process id of the present incarnation; 0 if there is none."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def start(self) -> None:
        """Start it and wait until it is ready.

        :raises ProcessFailed: if it ends, is not ready in time, or never will be.
        """
        if not await self._begin():
            raise self.command.failed(f"ended with status {self._status}")

    @property
    def _status(self) -> int | None:
        return None if self._process is None else self._process.returncode

    async def _begin(self) -> bool:
        """Whether it has become ready; else it has ended. :raises ProcessFailed: if it is there, and does not."""
        command = self.command
        self._starts.append(time.monotonic())
        with command.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=partial(_become, os.getpid(), command.namespace),
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        deadline = time.monotonic() + command.ready_within
        while not await self._is_ready():
            if self._status is not None:
                return False
            if time.monotonic() > deadline:
                raise command.failed(f"not ready within {command.ready_within:g} s")
            await asyncio.sleep(_POLL)
        return True

    async def _is_ready(self) -> bool:
        try:
            return await self.command.ready()
        except NeverReady as error:
            raise self.command.failed(error.problem, error.where) from None

    async def watch(self) -> None:
        """Restart it whenever it ends, also before it is ready again, until `stop`.

        :raises ProcessFailed: if it keeps ending, or is there and does not become ready.
        """
        while self._process is not None:
            status = await self._process.wait()
            if self._stopping:
                return
            log.warning("%s ended with status %s: restarting it", self.command.name, status)
            if len(self._starts) == _RESTARTS and time.monotonic() - self._starts[0] < _RESTART_WINDOW:
                raise self.command.failed(f"ended {_RESTARTS} times in a row")
            self.restarts += 1
            await self._begin()

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after `Command.stop_within`; again is harmless."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self.command.stop_within)
        except TimeoutError:
            log.warning("%s does not end within %g s: killing it", self.command.name, self.command.stop_within)
            process.kill()
            await process.wait()


async def tcp_listens(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        _reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


async def unix_listens(path: Path) -> bool:
    """Whether something accepts connections on this Unix socket."""
    try:
        _reader, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return False
    writer.close()
    return True
