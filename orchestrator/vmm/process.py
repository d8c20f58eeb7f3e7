"""The process backend: replicas are forks of a process that has set the middlebox up (§3.4, "snapshot").

The agent's own process imports the middlebox and runs its ``setup`` (internal state); there it stops: that is the
snapshot. Every replica is a fork; the child enters its slot's network namespace and becomes a replica
(`guestlib.run_replica`). Children share the snapshot's memory until they write to it (``gc.freeze`` keeps the collector
from writing), so a replica starts in milliseconds. They die with the agent (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from guestlib import load_middlebox, prepare, run_replica
from guestlib.blocking import SelectorPoller
from orchestrator.errors import AgentFailed
from orchestrator.vmm.agent import Make
from orchestrator.vmm.config import AgentConfig
from orchestrator.vmm.logs import log_as
from orchestrator.vmm.loop import Ended, Failed, Made, News
from splitmerge import collector
from splitmerge.errors import SplitmergeError
from splitmerge.exits import how_ended
from splitmerge.linux.forks import FORK_REMEDIES
from topo.namespaces import CLONE_NEWNET, die_with_parent, setns

logger = logging.getLogger("agent")

CRASHED = 70
"""Exit status of a replica that ended by an exception (sysexits.h: EX_SOFTWARE)."""
_RESET = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP)


class ProcessBackend:
    """`orchestrator.vmm.loop.Backend` by fork(2).

    :raises SplitmergeError: if the middlebox cannot be loaded or a slot's configuration is wrong.
    """

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        # Every slot's configuration is made once, so that mistakes show now and not at the first scale-out.
        templates = [config.replica_config(1, slot) for slot in config.slots]
        self._middlebox = load_middlebox(config.middlebox)
        self._guest = prepare(self._middlebox, templates[0])
        collector.settle()
        logger.info("snapshot taken of %s, process %d", config.middlebox, os.getpid())
        _remove_dead_sockets(config.directory)
        self._news: list[News] = []
        self._children: dict[int, int] = {}
        self._detach: Callable[[], None]

    def attach(self, poller: SelectorPoller, wake: Callable[[], None], detach: Callable[[], None]) -> None:
        self._detach = detach

    def make(self, make: Make) -> None:
        netns = self._config.slots[make.slot].netns
        try:
            namespace = -1 if netns is None else os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            self._news.append(Failed(make.replica, f"slot {make.slot}: {netns}: {error.strerror}"))
            return
        try:
            pid = self._fork(make, namespace)
        except AgentFailed as error:
            self._news.append(Failed(make.replica, str(error)))
            return
        finally:
            if namespace >= 0:
                os.close(namespace)
        logger.info("replica %d is process %d on slot %d", make.replica, pid, make.slot)
        self._children[make.replica] = pid
        self._news.append(Made(make.replica, pid))

    def _fork(self, make: Make, namespace: int) -> int:
        """The child's process id. :raises AgentFailed: if the kernel makes none; nothing is left of the try."""
        parent = os.getpid()
        sys.stderr.flush()
        # Until the child has left them, the agent's handlers would swallow what is meant to end the child.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _RESET)
        try:
            pid = os.fork()
            if pid == 0:
                self._child(make, namespace, parent, mask)
        except OSError as error:
            remedy = FORK_REMEDIES.get(error.errno or 0, "see fork(2)")
            where, problem = f"replica {make.replica}", f"no process can be made for it: {error.strerror}"
            raise AgentFailed(where, problem, remedy) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return pid

    def end(self, replica: int) -> None:
        self._signal(replica, signal.SIGTERM)

    def kill(self, replica: int) -> None:
        self._signal(replica, signal.SIGKILL)

    def _signal(self, replica: int, number: signal.Signals) -> None:
        # Not reaped yet, so the number cannot be another process's.
        if (pid := self._children.get(replica)) is not None:
            os.kill(pid, number)

    def news(self) -> list[News]:
        news, self._news = self._news, []
        return news + self._reaped()

    def close(self) -> None:
        """Nothing is left: children that live are ended by the kernel with this process."""

    def _reaped(self) -> list[News]:
        news: list[News] = []
        for replica, child in list(self._children.items()):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid == 0:
                continue
            del self._children[replica]
            self._socket(replica).unlink(missing_ok=True)
            code = os.waitstatus_to_exitcode(status)
            news.append(Ended(replica, how_ended(code)))
        return news

    def _socket(self, replica: int) -> Path:
        return self._config.directory / f"replica-{replica}.sock"

    def _child(self, make: Make, namespace: int, parent: int, mask: Iterable[int]) -> None:
        """The forked child; never returns: nothing of the agent's own code may run on here."""
        status = CRASHED
        try:
            self._become(parent, mask)
            if namespace >= 0:
                setns(namespace, CLONE_NEWNET)
                os.close(namespace)
            config = self._config.replica_config(make.replica, make.slot)
            log_as(f"replica {make.replica}", self._config.log_level)
            status = run_replica(self._middlebox, config, guest=self._guest)
        except (SplitmergeError, OSError) as error:
            logger.error("ended: %s", error)
        except BaseException:
            logger.exception("ended by an exception")
        finally:
            logging.shutdown()
            os._exit(status)

    def _become(self, parent: int, mask: Iterable[int]) -> None:
        """Leave the agent's sockets, signals and process group; die when it does. ``mask``: signals blocked then."""
        die_with_parent(parent)
        os.setpgid(0, 0)
        self._detach()
        for number in _RESET:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        random.seed()


def _remove_dead_sockets(directory: Path) -> None:
    """Those of replicas whose agent crashed: nobody listens there any more, and numbers are never used again."""
    for path in directory.glob("replica-*.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("%s: %s", path, error)
