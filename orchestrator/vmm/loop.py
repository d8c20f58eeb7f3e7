"""The loop that every VMM agent is: the control network on one side, a backend that makes replicas on the other.

One thread, one selector. A backend's slow work (a virtual machine takes a second to restore) happens in threads of its
own, which wake the loop; what is made of a replica's life is `AgentCore`'s affair alone.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from guestlib.blocking import SelectorPoller
from guestlib.config import Address
from guestlib.links import Connection, Link
from orchestrator.vmm.agent import AgentCore, End, Instruction, Kill, Make, Tell
from orchestrator.vmm.config import AgentConfig
from splitmerge.errors import BadInput
from splitmerge.messages import Hello, Message, Welcome

logger = logging.getLogger("agent")

LONGEST_SLEEP = 1.0
"""Seconds after which the loop looks around even if nothing is due."""
TERM_DEADLINE = 3.0
"""Seconds that replicas get to end when the agent is told to."""


@dataclass(frozen=True, slots=True)
class Made:
    """A replica runs. ``pid``: of its process, or of QEMU's."""

    replica: int
    pid: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A replica could not be made; nothing is left of it."""

    replica: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A replica has ended, asked to or not."""

    replica: int
    status: str


News = Made | Failed | Ended


class Backend(Protocol):
    """What makes replicas. All methods are called from the loop's thread and return at once."""

    def attach(self, poller: SelectorPoller, wake: Callable[[], None], detach: Callable[[], None]) -> None:
        """Before anything else.

        :param wake: makes the loop ask for `news`; may be called from any thread and from a signal handler.
        :param detach: closes the loop's own sockets, in a forked child.
        """

    def make(self, make: Make) -> None:
        """Begin to make a replica; `Made` or `Failed` comes as news."""

    def end(self, replica: int) -> None:
        """Ask a replica to end; `Ended` comes as news."""

    def kill(self, replica: int) -> None:
        """End a replica by force; `Ended` comes as news."""

    def news(self) -> list[News]:
        """What has happened since the last call."""

    def close(self) -> None:
        """Let go of everything; no replica is left when this is called in good order."""


class Agent:
    """The loop. `run` returns when SIGTERM or SIGINT has ended the agent and all its replicas."""

    def __init__(self, config: AgentConfig, backend: Backend) -> None:
        self._config = config
        self._backend = backend
        self._core = AgentCore(frozenset(config.slots))
        self._poller = SelectorPoller()
        control = Address.parse(config.control, "control")
        identity = config.tls.identity if config.tls else None
        if control.tls and identity is None:
            raise BadInput("control", f"{config.control!r} needs certificates", "give tls: ca, certificate and key")
        if control.tls and identity is not None:
            identity.client()  # files that are not right show now
        self._link = Link(control, self._poller, self._hello, self._received, keep=True, identity=identity)
        self._greeted: Welcome | None = None
        self._stopping = False
        self._wakeup, self._waker = socket.socketpair()
        for end in (self._wakeup, self._waker):
            end.setblocking(False)
        backend.attach(self._poller, self._wake, self._detach)

    def run(self) -> None:
        """Serve until told to end."""
        self._poller.watch(self._wakeup, self._woken, None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_end)
        # A handler, or the kernel would not wake us; what has ended is read with waitpid.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        try:
            while not (self._stopping and not self._core.busy):
                self._once()
        finally:
            self._backend.close()
            self._link.close()
            self._poller.close()

    def _once(self) -> None:
        now = time.monotonic()
        self._link.tick(now)
        self._greet()
        if self._stopping:
            self._carry_out(self._core.destroy_all(now, TERM_DEADLINE))
        self._carry_out(self._core.tick(now))
        self._learn()
        due = [at for at in (self._link.next_due(), self._core.timer) if at is not None]
        wait = min([LONGEST_SLEEP, *(max(0.0, at - time.monotonic()) for at in due)])
        if not (self._stopping and not self._core.busy):
            self._poller.run(wait)

    def _learn(self) -> None:
        for news in self._backend.news():
            now = time.monotonic()
            match news:
                case Made(replica, pid):
                    self._carry_out(self._core.made(replica, pid, now))
                case Failed(replica, reason):
                    logger.error("replica %d could not be made: %s", replica, reason)
                    self._carry_out(self._core.failed(replica, reason, now))
                case Ended(replica, status):
                    logger.info("replica %d has ended: %s", replica, status)
                    self._carry_out(self._core.ended(replica, status, now))

    def _on_end(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _wake(self) -> None:
        try:
            self._waker.send(b"\0")
        except BlockingIOError:
            logger.debug("already woken many times")

    def _woken(self) -> None:
        self._wakeup.recv(4096)

    def _detach(self) -> None:
        """In a forked child: leave the agent's sockets."""
        signal.set_wakeup_fd(-1)
        # First the poller: unregistering a socket would change the epoll set, which is shared with the agent.
        self._poller.close()
        self._link.close()
        self._wakeup.close()
        self._waker.close()

    # -- the orchestrator --------------------------------------------------------------------------------------

    def _hello(self) -> Hello:
        return Hello(
            role="agent",
            name=self._config.agent_name,
            incarnation=str(os.getpid()),
            kind=self._config.kind,
            slots=tuple(sorted(self._config.slots)),
        )

    def _greet(self) -> None:
        """On every new connection: what it may have missed."""
        welcome = self._link.welcome
        if welcome is self._greeted:
            return
        self._greeted = welcome
        if welcome is None:
            return
        logger.info("connected to the orchestrator at %s", self._config.control)
        for message in self._core.greeting():
            self._link.send(message, time.monotonic())

    def _received(self, connection: Connection, message: Message) -> None:
        if not self._stopping:
            self._carry_out(self._core.handle(message, time.monotonic()))

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Tell(message):
                    self._link.send(message, time.monotonic())
                case Make():
                    self._backend.make(instruction)
                    self._learn()
                case End(replica):
                    self._backend.end(replica)
                case Kill(replica):
                    self._backend.kill(replica)
