"""What transactions on coherent state cost a blocking middlebox: three replicas and the hub, a process each, no switch.

    python -m benchmarks.coherent [--locks etcd://host:port] [--json]

The first replica measures while the other two serve; nobody else wants its lock. Times are from ``get_shared`` to the
end of ``put_shared``, in microseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from guestlib import LOCAL, PULL, PUSH, SYNCH, Flags, Guest, Packet, ReplicaConfig, run_replica
from orchestrator.errors import JournalError
from orchestrator.journal import Journal
from orchestrator.replicas.sessions import Session, serve
from orchestrator.shared import SharedState
from splitmerge import messages as m

REPLICAS = (1, 2, 3)
ROUNDS: tuple[tuple[str, str, Flags, int], ...] = (
    ("LOCAL", "hits", LOCAL, 20_000),
    ("PUSH", "hits", PUSH, 500),
    ("PULL", "hits", PULL, 500),
    ("SYNCH", "value", SYNCH, 500),
    ("LOCAL, no combiner", "value", LOCAL, 20_000),
)
"""Name, object, flags, transactions."""
WITHIN = 120.0
CONNECTED_WITHIN = 20.0
FORK = multiprocessing.get_context("fork")


class Count(msgspec.Struct):
    """The state that is shared."""

    packets: int = 0


def add(elements: Sequence[Count]) -> Count:
    """The combiner."""
    return Count(sum(element.packets for element in elements))


class Measuring:
    """Its first packet makes replica 1 measure, and the others write something."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def setup(self, guest: Guest) -> None:
        guest.register_state(Count)
        guest.create_shared("hits", Count(), add)
        guest.create_shared("value", Count())

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        if guest.replica != REPLICAS[0]:
            with guest.shared("hits") as hits:
                hits.packets += 1
            return
        figures = {name: _measure(guest, key, flags, count) for name, key, flags, count in ROUNDS}
        (self._directory / "part").write_text(json.dumps(figures))
        (self._directory / "part").rename(self._directory / "figures")


def _measure(guest: Guest, key: str, flags: Flags, count: int) -> dict[str, float]:
    reads = flags is PULL or (flags is LOCAL and key == "value")
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        with guest.shared(key, flags) as value:
            value.packets += 0 if reads else 1
        times.append(1e6 * (time.perf_counter() - begun))
    times.sort()
    return {"median": statistics.median(times), "p99": times[int(0.99 * count)]}


def _end(fault: JournalError) -> None:
    raise SystemExit(str(fault))


class Hub:
    """`orchestrator.replicas.sessions.Handler`: coherent state and nothing else."""

    def __init__(self, directory: Path, locks: str) -> None:
        self._directory = directory
        self._sessions: dict[int, Session] = {}
        self._locks = locks
        journal = Journal(directory / "journal.db")
        self._shared = SharedState(journal, journal.load(), self._send, fault=_end)
        self._shared.begin()

    def _send(self, replica: int, message: m.Message) -> None:
        if (session := self._sessions.get(replica)) is not None:
            session.send(message)

    def hello(self, session: Session, hello: m.Hello) -> m.Welcome:
        self._sessions[hello.replica] = session
        (self._directory / f"here-{hello.replica}").touch()
        return m.Welcome(locks=self._locks)

    def message(self, session: Session, message: m.Message) -> None:
        self._shared.handle(session.peer.replica, message, REPLICAS)

    def closed(self, session: Session) -> None:
        self._sessions.pop(session.peer.replica, None)


def serve_hub(directory: Path, locks: str) -> None:
    """The hub's process."""

    async def run() -> None:
        async with serve(f"unix:{directory}/hub", Hub(directory, locks)):
            await asyncio.get_running_loop().create_future()

    asyncio.run(run())


class Interface:
    """A traffic interface that brings one frame, as soon as somebody writes a byte."""

    drops = 0

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def fileno(self) -> int:
        return self._sock.fileno()

    def receive(self, limit: int) -> list[bytes]:
        try:
            return [bytes(60)] if self._sock.recv(1, socket.MSG_DONTWAIT) else []
        except BlockingIOError:
            return []

    def send(self, frame: bytes) -> object:
        return len(frame)

    def close(self) -> None:
        self._sock.close()


def run(directory: Path, number: int, sock: socket.socket) -> None:
    """A replica's process."""
    config = ReplicaConfig(
        replica=number, interface="-", control=f"unix:{directory}/hub", peer=f"unix:{directory}/{number}"
    )
    os._exit(run_replica(Measuring(directory), config, packets=Interface(sock)))


def _wait(files: Sequence[Path], seconds: float) -> None:
    """Until all of them are there. :raises TimeoutError:"""
    until = time.monotonic() + seconds
    while missing := [file.name for file in files if not file.exists()]:
        if time.monotonic() > until:
            raise TimeoutError(f"no {', '.join(missing)} within {seconds:g} s")
        time.sleep(0.05)


def figures(directory: Path, locks: str) -> dict[str, dict[str, float]]:
    """Measure once. :raises TimeoutError: if that does not end."""
    processes = [FORK.Process(target=serve_hub, args=(directory, locks))]
    ends: list[socket.socket] = []
    for number in REPLICAS:
        near, far = socket.socketpair()
        ends += [near, far]
        processes.append(FORK.Process(target=run, args=(directory, number, near)))
    try:
        for process in processes:
            process.start()
        _wait([directory / f"here-{number}" for number in REPLICAS], CONNECTED_WITHIN)
        for far in reversed(ends[1::2]):
            far.send(b"\0")
        _wait([directory / "figures"], WITHIN)
        found: dict[str, dict[str, float]] = json.loads((directory / "figures").read_text())
        return found
    finally:
        for process in processes:
            process.kill()
            process.join()
        for end in ends:
            end.close()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--locks", default="", metavar="etcd://HOST:PORT", help="lock service; default: the hub")
    parser.add_argument("--json", action="store_true", help="figures as one JSON object")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        found = figures(Path(directory), options.locks)
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"{'transaction':20} {'median us':>10} {'p99 us':>10}")
    for name, each in found.items():
        print(f"{name:20} {each['median']:10.1f} {each['p99']:10.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
