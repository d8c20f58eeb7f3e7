"""Link state of the interfaces behind ports, and their coming back.

The kernel's notices (rtnetlink(7)) only say when to look; what counts is what the interface says then. So a notice that
was lost, or came twice, does no harm.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Sequence

from p4switch.ports.interface import InterfacePort

log = logging.getLogger("p4switch")

_RTMGRP_LINK = 1
_SIOCGIFFLAGS, _SIOCGIFINDEX = 0x8913, 0x8933
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_REQUEST = struct.Struct("16si12x")
_PIECE = 1 << 16


class LinkMonitor:
    """Tells ``report`` (port, whether it is up) of each port that is down at the start, then of each change.

    Up means: there, administratively up, and with a carrier. An interface that was deleted and made again under its
    name is attached to its port again; frames are received from then on, and sent.
    """

    def __init__(self, ports: Sequence[InterfacePort], report: Callable[[int, bool], None]) -> None:
        self._report = report
        self._lock = threading.Lock()
        """Held while ports are looked at, added or removed."""
        self._ports: tuple[InterfacePort, ...] = ()
        self._up: dict[int, bool] = {}
        self._index: dict[int, int | None] = {}
        self._probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for port in ports:
            self._watch(port)
        self._notices = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._notices.bind((0, _RTMGRP_LINK))
        self._stop = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="p4switch-links", daemon=True)

    def start(self) -> None:
        """Look once, then whenever the kernel says that something changed."""
        self._look()
        self._thread.start()

    def add(self, port: InterfacePort) -> None:
        """Watch one more port, which whoever hears the reports takes to be up."""
        with self._lock:
            self._watch(port)
            self._look_at(port)

    def remove(self, number: int) -> None:
        """Watch a port no longer."""
        with self._lock:
            self._ports = tuple(port for port in self._ports if port.port != number)
            self._up.pop(number, None)
            self._index.pop(number, None)

    def up(self, number: int) -> bool:
        """Whether a port's link was up when it was last looked at."""
        return self._up.get(number, False)

    def _watch(self, port: InterfacePort) -> None:
        self._ports += (port,)
        self._up[port.port] = True
        self._index[port.port] = self._ask(port, _SIOCGIFINDEX)

    def close(self) -> None:
        """Look no more. Again is harmless."""
        if self._closed:
            return
        self._closed = True
        os.eventfd_write(self._stop, 1)
        if self._thread.is_alive():
            self._thread.join()
        for end in (self._notices, self._probe):
            end.close()
        os.close(self._stop)

    def _run(self) -> None:
        poll = select.poll()
        for descriptor in (self._notices.fileno(), self._stop):
            poll.register(descriptor, select.POLLIN)
        while self._stop not in dict(poll.poll()):
            self._drain()
            self._look()

    def _drain(self) -> None:
        try:
            while self._notices.recv(_PIECE):
                pass
        except BlockingIOError:
            return
        except OSError as error:  # ENOBUFS: notices were lost
            log.debug("link notices: %s", error)

    def _look(self) -> None:
        with self._lock:
            for port in self._ports:
                self._look_at(port)

    def _look_at(self, port: InterfacePort) -> None:
        self._reattach(port)
        flags = self._ask(port, _SIOCGIFFLAGS) or 0
        up = flags & (_IFF_UP | _IFF_RUNNING) == _IFF_UP | _IFF_RUNNING
        if up == self._up[port.port]:
            return
        self._up[port.port] = up
        log.info("port %d (%s) is %s", port.port, port.interface, "up" if up else "down")
        self._report(port.port, up)

    def _reattach(self, port: InterfacePort) -> None:
        index = self._ask(port, _SIOCGIFINDEX)
        if index is None or index == self._index[port.port]:
            return
        try:
            port.attach()
        except OSError as error:  # gone again: its next notice is under way
            log.info("port %d (%s): %s", port.port, port.interface, error.strerror)
            return
        self._index[port.port] = index
        log.info("port %d: %s is another interface now, and attached", port.port, port.interface)

    def _ask(self, port: InterfacePort, request: int) -> int | None:
        """Flags or index of the interface; None if it is not there."""
        try:
            answer = fcntl.ioctl(self._probe, request, _REQUEST.pack(port.interface.encode()[:15], 0))
        except OSError:
            return None
        if request == _SIOCGIFFLAGS:
            return int(struct.unpack_from("H", answer, 16)[0])
        return int(struct.unpack_from("i", answer, 16)[0])
