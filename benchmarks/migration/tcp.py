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
AFTER = 2
"""Samples, from a move on, in which a dip is looked for."""


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
    bed: Bed, seconds: int, at: tuple[float, ...], mode: Mode | None, sample: float = 1.0, *, received: bool = False
) -> dict[str, Any]:
    """One run; everything moves to the other replica at each of these times (``mode`` None: never).

    ``sample``: seconds of a sample, 0.1 at least. ``received``: samples are what the server has read, which is smoother
    than what the client's socket has taken. Samples in which segments were sent again are in ``retransmits_at``.
    """
    listen = ["iperf3", "-s", "-1", "-p", str(PORT), "-i", f"{sample:g}", "-J"]
    server = popen_in(bed.record, "server", listen, stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        words = ["iperf3", "-c", SERVER, "-p", str(PORT), "-t", str(seconds), "-i", f"{sample:g}", "-J"]
        words += ["-C", CONGESTION, "--get-server-output"]
        client = popen_in(bed.record, "client", words, stdout=subprocess.PIPE)
        mover = threading.Thread(target=_move, args=(bed, at, mode), name="moves")
        mover.start()
        out, _ = client.communicate(timeout=seconds + WITHIN)
        mover.join()
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
        "mbit_per_s": [round(rate, 1) for rate in rates],
        "retransmits_at": [
            round(interval["sum"]["start"], 1)
            for interval in report["intervals"]
            if interval["sum"].get("retransmits", 0)
        ],
        "retransmits": report["end"]["sum_sent"].get("retransmits", 0),
        "moves_at": list(at) if mode is not None else [],
    }


def _move(bed: Bed, at: tuple[float, ...], mode: Mode | None) -> None:
    started = time.monotonic()
    first, second = (int(each["replica"]) for each in bed.live())
    for number, seconds in enumerate(at):
        time.sleep(max(0.0, started + seconds - time.monotonic()))
        if mode is not None:
            source, target = (first, second) if number % 2 == 0 else (second, first)
            bed.move({"all": True}, source, target, mode)


def dip(with_moves: list[dict[str, Any]], without: list[dict[str, Any]], at: tuple[float, ...]) -> dict[str, float]:
    """How much less passes in the samples with moves, in percent: of the same samples of the runs without, medians.

    ``within``: of the runs' own other samples, which tells more where a machine's speed drifts between runs.
    """
    touched = {int(when) + step for when in at for step in range(AFTER)}

    def samples(runs: list[dict[str, Any]], inside: bool) -> list[float]:
        chosen = [
            rate
            for run in runs
            for second, rate in enumerate(run["mbit_per_s"])
            if second > 1 and (second in touched) == inside
        ]
        return chosen or [0.0]

    moved, same, rest = samples(with_moves, True), samples(without, True), samples(with_moves, False)
    return {
        "percent": round(100 * (1 - median(moved) / median(same)), 2),
        "within_percent": round(100 * (1 - median(moved) / median(rest)), 2),
        "noise_percent": round(100 * (1 - median(same) / median(samples(without, False))), 2),
    }
