"""Real replicas in processes of their own, killed and paused while they hold locks, and the hub and etcd killed too.

All of it is judged by the history checker: SYNCH is linearizable, the counter under LOCAL, PUSH and PULL never wrong.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest

from benchmarks import coherent
from guestlib import LOCAL, PULL, PUSH, SYNCH, Guest, LockLost, Packet, run_replica
from guestlib.coherence.history import Add, Outcome, Pull, Recorder, check_counter, check_linearizable, load
from splitmerge.errors import Timeout
from tests.guestlib.conftest import Count, PairInterface, frame_of
from tests.guestlib.etcd_server import PROGRAM, EtcdServer
from tests.guestlib.harness import add, config_for
from tests.guestlib.hub_process import serve_coherent

pytestmark = [pytest.mark.integ, pytest.mark.timeout(120)]

FORK = multiprocessing.get_context("fork")
LEASE = 1.0
WITHIN = 20.0
HOLD = b"\x01"
"""First byte of a frame that makes a replica hold the lock until it is killed, or let go on."""


class Worker:
    """Every frame is one transaction under SYNCH and one addition; every eighth one also pulls."""

    def __init__(self, directory: Path, number: int) -> None:
        self._directory = directory
        self._number = number
        self._recorder = Recorder(directory / f"history-{number}", str(number))
        self._frames = 0
        self._unsafe: list[int] = []

    def setup(self, guest: Guest) -> None:
        guest.register_state(Count)
        guest.create_shared("value", Count())
        guest.create_shared("hits", Count(), add)

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        self._frames += 1
        if self._number == LAST:
            self._update(guest, hold=False)
            while not self._pull(guest):  # the hub may be slow: it is writing down what the others have left
                pass
            return
        self._update(guest, hold=packet.frame[:1] == HOLD)
        self._add(guest)
        if self._frames % 8 == 0:
            self._pull(guest)

    def _update(self, guest: Guest, *, hold: bool) -> None:
        call = self._recorder.begin("value")
        try:
            value = guest.get_shared("value", SYNCH)
        except Timeout:
            return
        call.read(value.packets)
        if hold:
            (self._directory / f"holds-{self._number}").touch()
            while not (self._directory / f"goes-on-{self._number}").exists():
                time.sleep(0.01)
        value.packets = self._number * 1_000_000 + self._frames
        call.write(value.packets)
        try:
            guest.put_shared("value", SYNCH)
        except LockLost:
            call.end(Outcome.NOT_WRITTEN)
            (self._directory / f"lost-{self._number}").touch()
        except Timeout:
            call.end(Outcome.UNKNOWN)
        else:
            call.end(Outcome.WRITTEN)

    def _add(self, guest: Guest) -> None:
        if not guest.coherent.unconfirmed:
            for number in self._unsafe:
                self._recorder.note(number, "safe", 0)
            self._unsafe.clear()
        call = self._recorder.begin("hits")
        guest.get_shared("hits").packets += 1
        guest.put_shared("hits", PUSH if self._frames % 2 else LOCAL)
        call.end(Outcome.WRITTEN)
        if self._frames % 2:
            self._unsafe.append(call.number)

    def _pull(self, guest: Guest) -> bool:
        """Whether it was answered: not while another one is paused."""
        call = self._recorder.begin("pull")
        try:
            call.read(guest.get_shared("hits", PULL).packets)
        except Timeout:
            return False
        guest.put_shared("hits")
        (self._directory / f"pulled-{self._number}").touch()
        return True


LAST = 9
"""Replica that only looks at the end."""


class Lab:
    """Replicas 1 to 3, the hub, perhaps etcd, and frames for the replicas."""

    def __init__(self, directory: Path, etcd: EtcdServer | None) -> None:
        self.directory = directory
        self.etcd = etcd
        self.hub: ForkProcess | None = None
        self.replicas: dict[int, ForkProcess] = {}
        self._far: dict[int, socket.socket] = {}
        self._holding = 0
        """The replica that gets frames that make it hold the lock."""
        self._ending = threading.Event()
        self._feeder = threading.Thread(target=self._feed)

    def start_hub(self) -> None:
        locks = "" if self.etcd is None else self.etcd.address
        self.hub = FORK.Process(target=serve_coherent, args=(self.directory, LEASE, {1, 2, 3}, locks))
        self.hub.start()

    def kill_hub(self) -> None:
        assert self.hub is not None
        self.hub.kill()
        self.hub.join(WITHIN)

    def start(self, number: int) -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # a frame or two wait, no more
        far.setblocking(False)
        process = FORK.Process(target=self._replica, args=(number, near))
        process.start()
        near.close()
        self.replicas[number], self._far[number] = process, far

    def _replica(self, number: int, near: socket.socket) -> None:
        config = config_for(self.directory, number, synch_deadline=3.0, pull_deadline=1.0, term_deadline=5.0)
        os._exit(run_replica(Worker(self.directory, number), config, packets=PairInterface(near)))

    def begin(self) -> None:
        self._feeder.start()

    def _feed(self) -> None:
        while not self._ending.wait(0.002):
            for number in list(self._far):
                frame = frame_of(1)
                self.give(number, HOLD + frame[1:] if number == self._holding else frame)

    def give(self, number: int, frame: bytes) -> bool:
        """Whether the replica takes it now."""
        try:
            self._far[number].send(frame)
        except OSError:  # it is busy, or dead
            return False
        return True

    def hold(self, number: int) -> int:
        """Its process id, as soon as it holds the lock."""
        self._holding = number
        self.until((self.directory / f"holds-{number}").exists, f"{number} holds the lock")
        self._holding = 0
        pid = self.replicas[number].pid
        assert pid is not None
        return pid

    def written(self) -> int:
        """Transactions that were confirmed, of all replicas."""
        return sum(path.read_text().count('"written"') for path in self.directory.glob("history-*"))

    def go_on(self, transactions: int) -> None:
        """Wait until so many more have been confirmed."""
        goal = self.written() + 2 * transactions  # an addition says so, too
        self.until(lambda: self.written() >= goal, f"{transactions} transactions")

    def until(self, true: Callable[[], object], what: str) -> None:
        until = time.monotonic() + WITHIN
        while not true():
            assert time.monotonic() < until, what
            time.sleep(0.01)

    def end(self) -> None:
        """Every living replica pushes a last time."""
        self._ending.set()
        self._feeder.join()
        for number, process in self.replicas.items():
            if process.is_alive():
                os.kill(process.pid, signal.SIGTERM)  # type: ignore[arg-type]
            process.join(WITHIN)
            assert process.exitcode in (0, -signal.SIGKILL), f"replica {number}: {process.exitcode}"
            (self.directory / f"dead-{number}").touch()

    def close(self) -> None:
        self._ending.set()
        for process in self.replicas.values():
            if process.is_alive():
                process.kill()
            process.join(WITHIN)
        for far in self._far.values():
            far.close()
        if self.hub is not None:
            self.kill_hub()


@pytest.fixture(params=["in-process", "etcd"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    if request.param == "etcd" and PROGRAM is None:
        pytest.skip("needs etcd (Debian: etcd-server)")
    etcd = EtcdServer(tmp_path) if request.param == "etcd" else None
    lab = Lab(tmp_path, etcd)
    try:
        if etcd is not None:
            etcd.start()
        lab.start_hub()
        yield lab
    finally:
        lab.close()
        if etcd is not None:
            etcd.kill()


def test_nothing_is_lost_or_done_twice_whoever_is_killed(lab: Lab) -> None:
    for number in (1, 2, 3):
        lab.start(number)
    lab.begin()
    lab.go_on(12)

    os.kill(lab.hold(2), signal.SIGKILL)
    lab.replicas[2].join(WITHIN)
    (lab.directory / "dead-2").touch()
    lab.go_on(12)

    zombie = lab.hold(3)
    os.kill(zombie, signal.SIGSTOP)
    lab.go_on(10)  # another one has taken the lock, and written
    (lab.directory / "goes-on-3").touch()
    os.kill(zombie, signal.SIGCONT)
    lab.until((lab.directory / "lost-3").exists, "the late write is fenced")

    lab.kill_hub()
    lab.start_hub()
    lab.go_on(12)
    if lab.etcd is not None:
        lab.etcd.kill()
        lab.etcd.start()
        lab.go_on(12)
    lab.until((lab.directory / "pulled-1").exists, "1 pulls at a time when nobody is paused")

    lab.end()
    lab.start(LAST)
    lab.until(lambda: lab.give(LAST, frame_of(1)), "the last one takes a frame")
    lab.until((lab.directory / f"pulled-{LAST}").exists, "the last one looks")

    values = load(lab.directory.glob("history-*"))["value"]
    assert values[-1].process and len(values) > 40
    assert check_linearizable(values, 0) is not None, "\n".join(map(str, sorted(values, key=lambda each: each.begun)))
    adds, pulls = counted(lab.directory)
    assert {pull.process for pull in pulls} >= {"1", str(LAST)}
    assert check_counter(adds, pulls, died=["2"]) == []


def test_the_benchmark_measures_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coherent, "ROUNDS", [(*each[:3], 20) for each in coherent.ROUNDS])
    found = coherent.figures(tmp_path, "")
    assert set(found) == {each[0] for each in coherent.ROUNDS}
    assert all(0 < each["median"] <= each["p99"] < 5e6 for each in found.values())


def counted(directory: Path) -> tuple[list[Add], list[Pull]]:
    """Additions and pulls of every history."""
    calls: dict[tuple[str, int], dict[str, tuple[float, int]]] = {}
    kinds: dict[tuple[str, int], str] = {}
    for path in directory.glob("history-*"):
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                found = json.loads(line)
                call = (found["process"], found["call"])
                calls.setdefault(call, {})[found["event"]] = (found["at"], found["value"])
                if found["event"] == "begin":
                    kinds[call] = found["value"]
    never = (float("inf"), 0)
    adds = [
        Add(process, 1, events["begin"][0], events.get("end", never)[0], events.get("safe", never)[0])
        for (process, number), events in calls.items()
        if kinds[process, number] == "hits"
    ]
    pulls = [
        Pull(process, events["read"][1], events["begin"][0], events["read"][0])
        for (process, number), events in calls.items()
        if kinds[process, number] == "pull" and "read" in events
    ]
    return adds, pulls
