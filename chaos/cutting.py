"""Connections of a running lab ended where they are, by the kernel: the processes that have them take no part in it.

A socket of another process is reached through a copy of its descriptor (pidfd_getfd(2), Linux 5.6; whoever may trace
the process may have it). Shut down, it ends for both sides as when a peer has died, and what was in it and not read
yet is taken out.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PIDFD_GETFD = 438
_CONNECTED = "03"
"""SS_CONNECTED, as /proc/net/unix writes it."""
_EVERYTHING = 1 << 24
"""Bytes that are taken out of a socket at once: more than it can hold."""
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1
"""SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP: netdevice(7)."""
_REQUEST = struct.Struct("16sh22x")


def accepted(pid: int, paths: Collection[str]) -> Iterator[socket.socket]:
    """Copies of the process's Unix connections that it accepted at one of these paths; empty if it has ended.

    :raises OSError: if it may not be looked into.
    """
    try:
        lines = Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]
        rows = [line.split(maxsplit=7) for line in lines]
        names = {f"socket:[{row[6]}]" for row in rows if len(row) == 8 and row[5] == _CONNECTED and row[7] in paths}
        yield from _copies(pid, names)
    except (FileNotFoundError, ProcessLookupError):
        return


def _copies(pid: int, names: set[str]) -> Iterator[socket.socket]:
    with _process(pid) as process:
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):
                if os.readlink(f"/proc/{pid}/fd/{number}") in names:
                    yield _copy(process, int(number))


@contextmanager
def _process(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _copy(process: int, number: int) -> socket.socket:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(_PIDFD_GETFD, process, number, 0)
    if descriptor < 0:
        problem = ctypes.get_errno()
        raise OSError(problem, f"pidfd_getfd: {os.strerror(problem)}")
    return socket.socket(fileno=descriptor)


def own_connections(ports: Collection[int]) -> Iterator[socket.socket]:
    """Copies of this process's TCP connections to these ports."""
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            if not os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                continue
            copy = socket.socket(fileno=os.dup(int(number)))
            if _leads_to(copy, ports):
                yield copy
            else:
                copy.close()


def _leads_to(sock: socket.socket, ports: Collection[int]) -> bool:
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        return False
    try:
        return sock.getpeername()[1] in ports
    except OSError:  # not connected
        return False


def end(copy: socket.socket) -> None:
    """End this connection and take out what is in it, at once: a part of it would be no message. The copy is closed."""
    with copy:
        with suppress(OSError):  # the other side was faster
            copy.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            copy.recv(_EVERYTHING, socket.MSG_DONTWAIT)


def set_up(interface: str, *, up: bool) -> None:
    """Put a network interface of this namespace up or down. :raises OSError: if it cannot be."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        _, flags = _REQUEST.unpack(fcntl.ioctl(sock, _GET_FLAGS, _REQUEST.pack(interface.encode(), 0)))
        flags = flags | _UP if up else flags & ~_UP
        fcntl.ioctl(sock, _SET_FLAGS, _REQUEST.pack(interface.encode(), flags))
