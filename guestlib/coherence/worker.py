"""A lock service outside, in a thread of its own, so that no packet waits for its answers."""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from guestlib.coherence.etcd import EtcdAddress, EtcdLocks, connect
from guestlib.links import Poller
from splitmerge.errors import BadInput
from splitmerge.messages import Message, SharedLock, SharedLockRefused
from splitmerge.tls import Identity

logger = logging.getLogger("guestlib")

WAITING_MOST = 1024
"""Requests that wait for the thread; more are dropped (and asked again)."""
JOIN = 3.0
"""Seconds that closing waits for the thread."""


class LockWorker:
    """Carries lock requests out by etcd. ``deliver`` gets the answers, from the poller, in the caller's thread."""

    def __init__(
        self,
        address: EtcdAddress,
        identity: Identity | None,
        owner: str,
        lease: float,
        poller: Poller,
        deliver: Callable[[Message], object],
    ) -> None:
        self.dropped = 0
        self._address, self._identity, self._owner, self._lease = address, identity, owner, lease
        self._poller = poller
        self._deliver = deliver
        self._requests: queue.Queue[Message | None] = queue.Queue(WAITING_MOST)
        self._answers: deque[Message] = deque()
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        poller.watch(self._reading, self._ready, None)
        self._thread = threading.Thread(target=self._run, name="lock service", daemon=True)
        self._thread.start()

    def take(self, message: Message) -> None:
        """Carry this out some time."""
        try:
            self._requests.put_nowait(message)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """End the thread; what it does is waited for, but not for long."""
        self._poller.unwatch(self._reading)
        with contextlib.suppress(queue.Full):
            self._requests.put_nowait(None)
        self._thread.join(JOIN)
        if self._thread.is_alive():
            logger.warning("lock service etcd: does not answer; left alone")
            return
        self._reading.close()
        self._writing.close()

    def _ready(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._reading.recv(4096)
        while self._answers:
            self._deliver(self._answers.popleft())

    # -- in the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._serve()
        except BadInput as error:
            logger.error("lock service etcd: %s", error)
            self._refuse(str(error))
        except Exception as error:  # nobody else would hear of it, and whoever waits would wait for ever
            logger.exception("lock service etcd: failed; every lock is refused from now on")
            self._refuse(f"it failed: {type(error).__name__}: {error}")

    def _serve(self) -> None:
        client = connect(self._address, self._identity)
        locks = EtcdLocks(client, self._address.prefix, self._owner, self._lease, time.monotonic)
        while True:
            due = locks.next_due()
            wait = None if due is None else max(0.0, due - time.monotonic())
            try:
                message = self._requests.get(timeout=wait)
            except queue.Empty:
                self._answer(locks.poll())
                continue
            if message is None:
                return
            self._answer(locks.handle(message))

    def _refuse(self, reason: str) -> None:
        """Until it is closed. A write is not answered: whether it was carried out is not known (`Timeout`)."""
        while (message := self._requests.get()) is not None:
            if isinstance(message, SharedLock):
                self._answer([SharedLockRefused(request=message.request, key=message.key, reason=reason)])

    def _answer(self, messages: list[Message]) -> None:
        if not messages:
            return
        self._answers.extend(messages)
        with contextlib.suppress(BlockingIOError):  # then it is awake already
            self._writing.send(b"\0")
