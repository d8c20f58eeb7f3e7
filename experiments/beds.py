"""What the experiments do with a lab besides what `benchmarks.migration.bed` does: traffic commands, and a diary."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.migration.bed import MODES, Bed, Mode
from experiments.errors import ExperimentFailed
from orchestrator.elasticity.settings import BOUNDS
from orchestrator.migration.steps import TERMINAL
from splitmerge.client import OrchestratorClient
from splitmerge.demo.commands import TrafficCommand
from splitmerge.errors import PeerError
from traffic.streams import Received, Sent

CLIENT, SERVER = "10.0.1.2", "10.0.2.2"
HTTP_PORT, STREAM_PORT = 80, 9100
MODE: Mode = MODES[0]
"""How flows are moved where an experiment says nothing else: nothing lost, nothing overtaken."""
LEAD = 0.5
"""Seconds between starting commands that begin together and their beginning."""
LOOK = 0.2
"""Seconds between two looks at the replicas; their statistics come four times a second."""


_ENDS = frozenset(step.value for step in TERMINAL)
_THERE = frozenset({"live", "finishing"})
"""One that gives its flows away, or waits for their end, still serves them and still costs."""


def command(
    bed: Bed, stack: ExitStack, namespace: str, module: str, *words: object, told: bool = False
) -> TrafficCommand:
    """A traffic command that is ready; it is gone when the stack is."""
    made = TrafficCommand(bed.record, namespace, module, *map(str, words), told=told)
    stack.callback(made.kill)
    made.wait_ready()
    return made


def heard(experiment: str, receive: TrafficCommand) -> Received:
    """What the receiver of streams saw; it ends.

    :raises ExperimentFailed: its own socket dropped some, which would count as lost on the way.
    """
    receive.ask_to_stop()
    found = receive.report(Received)
    if found.kernel_drops:
        raise ExperimentFailed(experiment, f"{found.kernel_drops} datagrams dropped at the receiver's own socket")
    return found


def left(experiment: str, sent: Sent) -> Sent:
    """The same, if all of it left. :raises ExperimentFailed: if not, for the load was smaller than it says."""
    if sent.send_errors:
        raise ExperimentFailed(experiment, f"{sent.send_errors} datagrams that the sender's kernel did not take")
    return sent


def looks(seconds: float) -> float:
    """Seconds between a policy's looks, no less than it may have."""
    return max(BOUNDS["interval"][0], seconds)


class Diary:
    """What the replicas were doing, look by look, written down by a thread of its own.

    ``pin``: replicas get a processor each, in turn, as soon as they are seen.
    """

    def __init__(self, api: Path, *, pin: bool) -> None:
        self._api = api
        self._pin = Pin() if pin else None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="diary")
        self.looks: list[dict[str, Any]] = []
        """``at`` (CLOCK_MONOTONIC), and ``replicas``: number, whether it serves, flows, packets, cpu (seconds)."""

    def _watch(self) -> None:
        with OrchestratorClient(self._api) as client:
            while not self._stopped.wait(LOOK):
                try:
                    found = client.get("/replicas")
                except PeerError:  # busy or away: the next look
                    continue
                if self._pin is not None:
                    self._pin.take([each["pid"] for each in found if each["pid"]])
                self.looks.append({"at": now(), "replicas": [_line(each) for each in found]})

    def __enter__(self) -> Diary:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self._thread.join()


class Pin:
    """Gives processes a processor each, in turn.

    The kernel may leave two that use half of a processor each on the same one for long: they are no faster than one
    process that does the work of both, and whether it does so differs from run to run.
    """

    def __init__(self) -> None:
        self._processors = sorted(os.sched_getaffinity(0))
        self._home: dict[int, int] = {}

    def take(self, pids: list[int]) -> None:
        """Those that were taken before stay where they are; one that has ended is left out."""
        for pid in pids:
            if pid not in self._home:
                self._home[pid] = self._processors[len(self._home) % len(self._processors)]
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(pid, {self._home[pid]})


def _line(replica: dict[str, Any]) -> dict[str, Any]:
    return {
        "replica": replica["replica"],
        "there": replica["state"] in _THERE,
        "flows": replica["flows"],
        "packets": replica["packets"],
        "cpu": replica["cpu_seconds"],
        "drops": sum(replica["drops"].values()),
    }


@contextmanager
def diary(bed: Bed, *, pin: bool = False) -> Iterator[Diary]:
    """A diary for as long as the block lasts."""
    with Diary(Path(bed.record.api_socket), pin=pin) as made:
        yield made


def replicas_over_time(looks: list[dict[str, Any]], started: float) -> list[tuple[float, int]]:
    """(seconds since ``started``, replicas that serve flows), at each look."""
    return [(look["at"] - started, sum(each["there"] for each in look["replicas"])) for look in looks]


def loads_over_time(looks: list[dict[str, Any]], started: float) -> list[list[float]]:
    """[seconds since ``started``, replica, flows, packets and processor seconds so far]: a line a replica and look."""
    return [
        [look["at"] - started, each["replica"], each["flows"], each["packets"], each["cpu"]]
        for look in looks
        for each in look["replicas"]
    ]


def now() -> float:
    """CLOCK_MONOTONIC in seconds, which the processes of a lab share."""
    return time.monotonic()


def pause_until(when: float) -> None:
    """Sleep until this time of CLOCK_MONOTONIC."""
    time.sleep(max(0.0, when - time.monotonic()))


def dropped(bed: Bed) -> dict[str, int]:
    """What moves dropped, and how many there were, once none is under way; one that did not end well is ``undone``.

    :raises Timeout: if that does not come.
    """
    bed.wait(lambda: not bed.client.get("/status")["moves_running"], "the end of the moves")
    moves = [move for move in bed.client.get("/moves", limit=10_000) if move["source"] and move["step"] in _ENDS]
    return {
        "moves": len(moves),
        "undone": sum(move["step"] != "done" for move in moves),
        "dropped": sum(move.get("dropped", 0) for move in moves),
        "flows": sum(move.get("staged", 0) for move in moves),
    }
