"""The process agent: replicas are forks of a process that has set the middlebox up (§3.4, "snapshot").

One process, one thread, one loop. It imports the middlebox and runs its ``setup`` (internal state); there it stops:
that is the snapshot. Every CreateReplica forks it; the child enters its slot's network namespace and becomes a replica
(`guestlib.run_replica`). Children share the snapshot's memory until they write to it (``gc.freeze`` keeps the collector
from writing), so a replica starts in milliseconds. They die with the agent (PR_SET_PDEATHSIG).

    python -m orchestrator.vmm.process --config FILE
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from guestlib import Guest, Middlebox, load_middlebox, prepare, run_replica
from guestlib.blocking import SelectorPoller
from guestlib.config import Address
from guestlib.links import Connection, Link
from orchestrator.config import load
from orchestrator.vmm.agent import AgentCore, Create, Instruction, Signal, Tell
from orchestrator.vmm.config import AgentConfig
from splitmerge.errors import BadInput, SplitmergeError
from splitmerge.messages import Hello, Message, Welcome
from topo.namespaces import CLONE_NEWNET, die_with_parent, setns

logger = logging.getLogger("agent")

LONGEST_SLEEP = 1.0
"""Seconds after which the loop looks around even if nothing is due."""
TERM_DEADLINE = 3.0
"""Seconds that replicas get to end when the agent is told to."""
CRASHED = 70
"""Exit status of a replica that ended by an exception (sysexits.h: EX_SOFTWARE)."""
_RESET = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP)


class ProcessAgent:
    """The loop. `run` returns when SIGTERM or SIGINT has ended the agent and all its replicas."""

    def __init__(self, config: AgentConfig, middlebox: Middlebox, guest: Guest) -> None:
        self._config = config
        self._middlebox = middlebox
        self._guest = guest
        self._core = AgentCore(frozenset(config.slots))
        self._poller = SelectorPoller()
        control = Address.parse(config.control, "control")
        self._link = Link(control, self._poller, self._hello, self._received, keep=True)
        self._greeted: Welcome | None = None
        self._stopping = False
        self._wakeup, self._waker = socket.socketpair()
        for end in (self._wakeup, self._waker):
            end.setblocking(False)

    def run(self) -> None:
        """Serve until told to end."""
        self._poller.watch(self._wakeup, self._woken, None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_end)
        # A handler, or the kernel would not wake us; what has ended is read with waitpid.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        try:
            while not (self._stopping and not self._core.living):
                self._once()
        finally:
            self._link.close()
            self._poller.close()

    def _once(self) -> None:
        now = time.monotonic()
        self._link.tick(now)
        self._greet()
        if self._stopping:
            self._carry_out(self._core.destroy_all(now, TERM_DEADLINE))
        self._carry_out(self._core.tick(now))
        self._reap()
        due = [at for at in (self._link.next_due(), self._core.timer) if at is not None]
        wait = min([LONGEST_SLEEP, *(max(0.0, at - time.monotonic()) for at in due)])
        if not (self._stopping and not self._core.living):
            self._poller.run(wait)

    def _on_end(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _woken(self) -> None:
        self._wakeup.recv(4096)

    # -- the orchestrator --------------------------------------------------------------------------------------

    def _hello(self) -> Hello:
        return Hello(role="agent", name=self._config.name, incarnation=str(os.getpid()))

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
                case Create():
                    self._carry_out(self._create(instruction))
                case Signal(pid, number):
                    os.kill(pid, number)

    # -- replicas ----------------------------------------------------------------------------------------------

    def _create(self, create: Create) -> list[Instruction]:
        parent = os.getpid()
        netns = self._config.slots[create.slot].netns
        try:
            namespace = -1 if netns is None else os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return self._core.failed(create, f"slot {create.slot}: {netns}: {error.strerror}")
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._child(create, namespace, parent)
        if namespace >= 0:
            os.close(namespace)
        logger.info("replica %d is process %d on slot %d", create.replica, pid, create.slot)
        return self._core.created(create, pid)

    def _child(self, create: Create, namespace: int, parent: int) -> None:
        """The forked child; never returns: nothing of the agent's own code may run on here."""
        status = CRASHED
        try:
            self._detach(parent)
            if namespace >= 0:
                setns(namespace, CLONE_NEWNET)
                os.close(namespace)
            config = self._config.replica_config(create.replica, create.slot)
            _log(f"replica {create.replica}", self._config.log_level)
            status = run_replica(self._middlebox, config, guest=self._guest)
        except (SplitmergeError, OSError) as error:
            logger.error("ended: %s", error)
        except BaseException:
            logger.exception("ended by an exception")
        finally:
            logging.shutdown()
            os._exit(status)

    def _detach(self, parent: int) -> None:
        """Leave the agent's sockets, signals and process group; die when it does."""
        die_with_parent(parent)
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in _RESET:
            signal.signal(number, signal.SIG_DFL)
        # First the poller: unregistering a socket would change the epoll set, which is shared with the agent.
        self._poller.close()
        self._link.close()
        self._wakeup.close()
        self._waker.close()
        random.seed()

    def _reap(self) -> None:
        while self._core.living:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            said = f"exit {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
            logger.info("process %d has ended: %s", pid, said)
            self._carry_out(self._core.ended(pid, said))


def _log(who: str, level: str) -> None:
    form = f"%(asctime)s {who} %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(stream=sys.stderr, level=level, format=form, force=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.vmm.process", description="VMM agent: processes")
    parser.add_argument("--config", type=Path, required=True, help="TOML or JSON; see orchestrator/vmm/config.py")
    arguments = parser.parse_args(argv)
    _log("agent", "INFO")
    try:
        config = load(arguments.config, AgentConfig)
        if not config.slots:
            raise BadInput("slots", "there is none", "give at least one")
        _log("agent", config.log_level)
        # Every slot's configuration is made once, so that mistakes show now and not at the first scale-out.
        templates = [config.replica_config(1, slot) for slot in config.slots]
        middlebox = load_middlebox(config.middlebox)
        guest = prepare(middlebox, templates[0])
    except SplitmergeError as error:
        logger.error("%s", error)
        return 2
    gc.collect()
    gc.freeze()
    logger.info("snapshot taken of %s, process %d", config.middlebox, os.getpid())
    ProcessAgent(config, middlebox, guest).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
