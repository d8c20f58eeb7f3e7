"""Figure 12 of the paper: TCP throughput through a middlebox in samples of a second, with moves and without."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from statistics import median
from typing import Any

from benchmarks.migration.bed import WITHIN, Bed, Mode
from splitmerge.errors import SplitmergeError
from topo.enter import popen_in

SERVER, PORT = "10.0.2.2", 5201
CONGESTION = "cubic"
"""Linux's default. BBR would hide what is measured: every ten seconds, so also where the moves are, it sends next to
nothing for 200 ms to look for the shortest round trip."""
PACE_MOST = 400.0
"""Mbit/s of a stream that is held to a rate, as by a link, at most. Without, or where the machine carries hardly more,
the processor is what bounds it, and what a move takes is lost in what seconds differ by anyway. The kernel paces
segments and does not make up for what was missed (SO_MAX_PACING_RATE): a stream that stood for 20 ms lacks 2 % of that
second."""
PACE_PART = 0.5
"""Of what the machine carries, at most."""
TRIAL = 12
"""Seconds of the run that shows what this machine carries."""


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


def carried(bed: Bed) -> float:
    """Mbit/s that a stream has on this machine that nothing holds back. Takes `TRIAL` seconds."""
    return float(median(measure(bed, TRIAL, (), None)["mbit_per_s"]))


def pace(carries: float) -> float:
    """Mbit/s that a stream is held to on a machine that carries so much: see `PACE_MOST`."""
    return min(PACE_MOST, round(PACE_PART * carries, -1) or 1.0)


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
