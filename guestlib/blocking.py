"""The blocking shell: one loop, no threads.

Two selectors: the control sockets have one of their own, which is itself watched by the main one. While a middlebox
waits inside ``get_shared(key, PULL)`` (or SYNCH) only the inner one is served, so no packet and no timer interrupts it.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from guestlib.coherence.objects import Flags
from guestlib.config import ReplicaConfig
from guestlib.guest import Guest
from guestlib.instructions import Await, Begin, drive
from guestlib.links import Ready
from guestlib.middlebox import Middlebox
from guestlib.shell import RING_BYTES, FrameSocket, Shell, prepare
from splitmerge.errors import Timeout
from splitmerge.linux.afpacket import PacketSocket

logger = logging.getLogger("guestlib")

LONGEST_SLEEP = 1.0
"""Seconds after which the loop looks around even if nothing is due."""


class SelectorPoller:
    """`guestlib.links.Poller` over a selector."""

    def __init__(self) -> None:
        self._selector = selectors.EpollSelector()

    def fileno(self) -> int:
        """Readable when a socket is ready."""
        return self._selector.fileno()

    def watch(self, sock: socket.socket, on_read: Ready | None, on_write: Ready | None) -> None:
        events = (selectors.EVENT_READ if on_read else 0) | (selectors.EVENT_WRITE if on_write else 0)
        if sock.fileno() in self._selector.get_map():
            self._selector.modify(sock, events, (on_read, on_write))
        else:
            self._selector.register(sock, events, (on_read, on_write))

    def unwatch(self, sock: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):  # it was not watched, and may be closed
            self._selector.unregister(sock)

    def run(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds, then call back for every socket that is ready."""
        for key, mask in self._selector.select(timeout):
            on_read, on_write = key.data
            if on_write is not None and mask & selectors.EVENT_WRITE:
                on_write()
            # Writing may have closed it.
            if on_read is not None and mask & selectors.EVENT_READ and key.fileobj.fileno() >= 0:  # type: ignore[union-attr]
                on_read()

    def close(self) -> None:
        self._selector.close()


def run_replica(
    middlebox: Middlebox,
    config: ReplicaConfig,
    *,
    guest: Guest | None = None,
    packets: FrameSocket | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Run one replica until Finish or SIGTERM; the exit status: 0, or 1 if a final push was not confirmed.

    :param guest: what `prepare` gave before the snapshot; made (and ``setup`` called) here if None.
    :param packets: the traffic interface, closed at the end; ``config.interface`` is opened if None.
    :raises BadInput: if the interface cannot be opened or the peer address not be listened on.
    """
    guest = guest or prepare(middlebox, config)
    return _Loop(
        middlebox, guest, config, packets or PacketSocket(config.interface, ring_bytes=RING_BYTES), clock
    ).run()


class _Loop:
    def __init__(
        self,
        middlebox: Middlebox,
        guest: Guest,
        config: ReplicaConfig,
        packets: FrameSocket,
        clock: Callable[[], float],
    ) -> None:
        self._poller = SelectorPoller()
        try:
            self._shell = Shell(middlebox, guest, config, packets, self._poller, clock)
        except BaseException:
            self._poller.close()
            packets.close()
            raise
        guest.begin(config.replica, self._shell.incarnation, self._run_sequence)
        self._clock = clock
        self._terminated = False

    def run(self) -> int:
        shell = self._shell
        with selectors.EpollSelector() as main, _woken_by_signals(self._on_signal) as wakeup:
            main.register(shell.packets, selectors.EVENT_READ, shell.packets_ready)
            main.register(self._poller, selectors.EVENT_READ, self._serve_control)
            main.register(wakeup, selectors.EVENT_READ, lambda: wakeup.recv(256))
            try:
                while not shell.engine.done:
                    self._once(main)
                self._send_rest()
            finally:
                shell.close()
                self._poller.close()
        return 0 if shell.engine.clean else 1

    def _once(self, main: selectors.EpollSelector) -> None:
        wait = self._shell.next_due() - self._clock()
        for key, _ in main.select(min(max(wait, 0.0), LONGEST_SLEEP)):
            key.data()
        if self._terminated:
            self._shell.terminate()
        self._shell.tick()

    def _serve_control(self) -> None:
        self._poller.run(0)

    def _on_signal(self) -> None:
        self._terminated = True

    def _send_rest(self) -> None:
        """Give the last messages their way out, within the deadline for it."""
        until = self._clock() + self._shell.config.term_deadline
        while self._shell.control.unsent and self._clock() < until:
            self._poller.run(0.1)

    def _run_sequence(self, key: str, begin: Begin, flags: Flags) -> Any:
        """Run a sequence of the core, serving control messages only while it waits. :raises Timeout:"""
        shell = self._shell
        seconds = shell.config.waits_for(flags)
        until = self._clock() + seconds

        def wait(awaited: Await) -> float:
            shell.engine.carry_out(awaited.steps)
            while not awaited.done():
                if self._clock() >= until:
                    raise Timeout(awaited.what, seconds)
                self._serve_while_waiting(until)
            return self._clock()

        shell.engine.waiting = True
        try:
            return drive(begin(self._clock(), seconds), wait)
        finally:
            shell.engine.waiting = False

    def _serve_while_waiting(self, until: float) -> None:
        now = self._clock()
        self._shell.control_tick(now)
        self._poller.run(min(max(until - now, 0.0), 0.1))


@contextlib.contextmanager
def _woken_by_signals(on_term: Callable[[], None]) -> Iterator[socket.socket]:
    """A socket that becomes readable when a signal comes; SIGTERM calls ``on_term``. Only in the main thread."""
    reading, writing = socket.socketpair()
    with reading, writing:
        reading.setblocking(False)
        writing.setblocking(False)
        if threading.current_thread() is not threading.main_thread():
            yield reading
            return

        def handler(signum: int, frame: FrameType | None) -> None:
            on_term()

        earlier = signal.signal(signal.SIGTERM, handler)
        earlier_fd = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(earlier_fd)
            signal.signal(signal.SIGTERM, earlier)
