"""Ports of the loopback for servers that other processes will open."""

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path

_FIRST, _EACH = 20_000, 700
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_count = itertools.count(os.getpid())


def free_port() -> int:
    """One that nobody has, and that nobody gets before it is used.

    Below those that the kernel gives to clients, for these come and go all the time, and of this worker of
    pytest-xdist's own. Where the kernel gives nearly all ports to clients: any.
    """
    first = _FIRST + _WORKER % 16 * _EACH
    own = (first + number % _EACH for number in itertools.islice(_count, _EACH))
    for port in itertools.chain(own if first + _EACH <= _given_to_clients() else (), [0]):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("no port is free")


def _given_to_clients() -> int:
    """The lowest port that the kernel gives to clients."""
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
