"""Figure 12 of the paper: TCP throughput through a middlebox in samples of a second, with moves and without."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.migration.bed import WITHIN, Bed, Mode
from splitmerge.errors import SplitmergeError
from topo.enter import popen_in

SERVER, PORT = "10.0.2.2", 5201
CONGESTION = "cubic"
"""Linux's default. BBR would hide what is measured: every ten seconds, so also where the moves are, it sends next to
nothing for 200 ms to look for the shortest round trip."""
PACED = 400.0
"""Mbit/s of a stream that is held to a rate, as by a link: about half of what two cores carry here. Without, the
processor is what bounds it, and what a move takes of that is lost in what seconds differ by anyway. The kernel paces
segments and does not make up for what was missed (SO_MAX_PACING_RATE): a stream that stood for 20 ms lacks 2 % of that
second."""
NEAR = (-1, 0, 1)
"""Samples about a move in which a dip is looked for. Moves are timed by our clock and samples by iperf3's, which starts
part of a sample later: what a move at 20 s does may all be in the sample that ends then."""


def available() -> str:
    """Why there can be no iperf3 here; empty if there can. Installs Debian's package where this user may."""
    if shutil.which("iperf3"):
        return ""
    if os.geteuid() or shutil.which("apt-get") is None:
        return "iperf3 is not installed: sudo apt-get install iperf3"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "iperf3"]):
        done = subprocess.run(["apt-get", *words], env=environment, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            return f"apt-get {words[0]} failed: install iperf3 by hand"
    return ""


def measure(
    bed: Bed,
    seconds: int,
    at: tuple[float, ...],
    mode: Mode | None,
    sample: float = 1.0,
    congestion: str = CONGESTION,
    *,
    rate: float = 0.0,
    everything: bool = False,
    received: bool = False,
) -> dict[str, Any]:
    """One run; the stream moves to the other replica at each of these times (``mode`` None: never).

    ``everything``: all that the replica owns moves, 4,096 buckets with it, and not just iperf3's two flows.
    ``rate``: Mbit/s that the sender is held to; 0: as fast as it goes. ``sample``: seconds of a sample, 0.1 at least.
    ``received``: samples are what the server has read, which is smoother than what the client's socket has taken.
    Samples in which segments were sent again are in ``retransmits_at``; the sender's congestion window and round trip
    at the end of each are there to tell why a rate is what it is.
    """
    listen = ["iperf3", "-s", "-1", "-p", str(PORT), "-i", f"{sample:g}", "-J"]
    server = popen_in(bed.record, "server", listen, stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        words = ["iperf3", "-c", SERVER, "-p", str(PORT), "-t", str(seconds), "-i", f"{sample:g}", "-J"]
        words += ["-C", congestion, "--get-server-output"]
        words += ["--fq-rate", f"{rate:g}M"] if rate else []
        client = popen_in(bed.record, "client", words, stdout=subprocess.PIPE)
        mover = Mover(bed, at, mode, everything=everything)
        out, _ = client.communicate(timeout=seconds + WITHIN)
        moved = mover.finish()
    finally:
        server.kill()
        server.wait()
    report = json.loads(out)
    if "error" in report:
        raise SplitmergeError(f"iperf3: {report['error']}")
    side = report["server_output_json"] if received else report
    rates = [interval["sum"]["bits_per_second"] / 1e6 for interval in side["intervals"]]
    return {
        "mode": None if mode is None else mode.name,
        "held_to_mbit_per_s": rate,
        "mbit_per_s": [round(each, 1) for each in rates],
        "retransmits_at": [
            round(interval["sum"]["start"], 1)
            for interval in report["intervals"]
            if interval["sum"].get("retransmits", 0)
        ],
        "retransmits": report["end"]["sum_sent"].get("retransmits", 0),
        "window_kib": [interval["streams"][0].get("snd_cwnd", 0) // 1024 for interval in report["intervals"]],
        "round_trip_ms": [round(interval["streams"][0].get("rtt", 0) / 1000, 2) for interval in report["intervals"]],
        "moves_at": list(at) if mode is not None else [],
        "moved": moved,
    }


class Mover:
    """A thread that moves iperf3's flows, or ``everything``, to the other replica at each of these times from now.

    ``mode`` None: never.
    """

    def __init__(self, bed: Bed, at: tuple[float, ...], mode: Mode | None, *, everything: bool = False) -> None:
        self._bed, self._at, self._mode, self._everything = bed, at, mode, everything
        self._moved: list[dict[str, Any]] = []
        self._problem: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="moves")
        self._thread.start()

    def finish(self) -> list[dict[str, Any]]:
        """What each move did, once all are over. :raises SplitmergeError: of the first that did not end well.

        A run whose moves failed is none with moves: nothing disturbed it, so it would show how little moves cost.
        """
        self._thread.join()
        if self._problem is not None:
            raise self._problem
        return self._moved

    def _run(self) -> None:
        try:
            self._move_all()
        except Exception as error:  # handed to whoever waits
            self._problem = error

    def _move_all(self) -> None:
        mode = self._mode
        if mode is None:
            return
        started = time.monotonic()
        first, second = (int(each["replica"]) for each in self._bed.live())
        for number, seconds in enumerate(self._at):
            time.sleep(max(0.0, started + seconds - time.monotonic()))
            source, target = (first, second) if number % 2 == 0 else (second, first)
            what = {"all": True} if self._everything else {"keys": self._flows(source)}
            self._moved.append(self._bed.move(what, source, target, mode))

    def _flows(self, replica: int) -> list[str]:
        """The stream and iperf3's own connection beside it, as the replica says. :raises SplitmergeError: not there."""
        found = [flow for flow, holder in self._bed.flows_to(SERVER, PORT).items() if holder == replica]
        if not found:
            raise SplitmergeError(f"no stream at replica {replica}")
        return found


def near(rates: Sequence[float], places: Sequence[float], first: int) -> list[list[float]]:
    """For each place (in samples), the samples about it, none before ``first``; places beyond the end are left out."""
    found = ([int(place) + step for step in NEAR] for place in places)
    samples = [[rates[number] for number in numbers if first <= number < len(rates)] for numbers in found]
    return [each for each in samples if each]


def apart(rates: Sequence[float], places: Sequence[float], first: int) -> list[float]:
    """The samples, from ``first`` on, that are about none of these places."""
    touched = {int(place) + step for place in places for step in NEAR}
    return [rate for number, rate in enumerate(rates) if number >= first and number not in touched]


def dip(
    with_moves: list[dict[str, Any]], without: list[dict[str, Any]], at: tuple[float, ...]
) -> dict[str, float | None]:
    """How much less passes in a move's lowest sample, in percent; None where there are too few samples.

    ``within``: than in its run's samples apart from moves, medians. ``noise``: the same at the same places of the runs
    without moves, for the lowest of three samples is low where nothing happens too. ``percent``: the first beyond the
    second.
    """
    moved, still = _rest_of(with_moves, at), _rest_of(without, at)
    return {
        "percent": _less(moved / still) if moved is not None and still else None,
        "within_percent": None if moved is None else _less(moved),
        "noise_percent": None if still is None else _less(still),
    }


def _rest_of(runs: list[dict[str, Any]], at: tuple[float, ...]) -> float | None:
    """The median of the moves' lowest samples, as a part of the median of those apart from moves."""
    lowest = [min(each) for run in runs for each in near(run["mbit_per_s"], at, 2)]
    others = [rate for run in runs for rate in apart(run["mbit_per_s"], at, 2)]
    return median(lowest) / median(others) if lowest and others and median(others) else None


def after(
    with_moves: list[dict[str, Any]], without: list[dict[str, Any]], at: tuple[float, ...]
) -> dict[str, float | None]:
    """Whether a stream that has moved is as fast as before: what the samples behind the first move and apart from all
    are of those before it, beside the same places of the runs without moves; None where there are too few samples.

    ``percent``: how much less it is with moves, medians over runs; ``noise``: how much the runs without differ in it.
    """
    moved, still = ([part for run in runs if (part := _kept(run, at)) is not None] for runs in (with_moves, without))
    if not moved or not still:
        return {"percent": None, "noise_percent": None}
    noise = 100 * (max(still) - min(still)) if len(still) > 1 else None
    return {
        "percent": _less(median(moved) / median(still)),
        "noise_percent": None if noise is None else round(noise, 2),
    }


def _kept(run: dict[str, Any], at: tuple[float, ...]) -> float | None:
    """The median rate behind the first move, as a part of that before it."""
    rates, first = run["mbit_per_s"], int(at[0])
    quiet = [place for place in at if place >= first]
    before = apart(rates[: first - 1], quiet, 2)
    behind = apart(rates, quiet, first + 2)
    return median(behind) / median(before) if before and behind and median(before) else None


def _less(part: float) -> float:
    return round(100 * (1 - part), 2)
