"""What moves cost, on a lab of its own: times by guarantee, buffer, number and size of flows; latency; TCP throughput.

    python -m benchmarks.bench_migration [--target bmv2] [--flows 1,500] [--parts moves,latency,tcp] [--output FILE]

Prints tables, writes build/bench-migration.json. Half an hour in full; ``--quick`` takes three. The
middlebox itself counts lost and overtaken packets (`benchmarks.migration.middlebox`). Needs what `make demo` needs, and
iperf3 for ``tcp``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.migration import bars, cells, dips, latency, tcp
from benchmarks.migration.bed import MODES, Bed, bed
from benchmarks.migration.population import CLASSES
from orchestrator.migration import Options
from splitmerge.errors import SplitmergeError

PARTS = ("moves", "latency", "tcp")
COUNTS = (1, 500, 5000, 100_000)
TCP_RUNS = 3
"""Runs with moves, and as many without, in turn."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A TCP stream, and what moves under it."""

    paced: bool
    """Whether the sender is held to a rate (`tcp.pace`); else it is as fast as it goes."""
    moves_at: tuple[float, ...]
    """In parts of a run."""
    everything: bool
    """Whether all that the replica owns moves, or the stream alone."""
    often: bool = False
    """No samples are apart from moves: there is no dip to tell of, only their mean."""


TCP_STREAMS = {
    "paced": Stream(True, (1 / 3, 2 / 3), everything=True),
    "unbounded": Stream(False, tuple(number / 12 for number in range(2, 12)), everything=False),
    "often": Stream(False, tuple(number / 40 for number in range(2, 39)), everything=False, often=True),
}
"""As in figure 12 (20 and 40 of 60 s); and where the processor is the bound: there writing 4,096 buckets would be most
of what is measured, so that the stream alone moves, ten times, since runs without moves differ by several percent; and
once more every 1.5 s, for the mean over a hundred moves and more."""
TCP_SAMPLE = 0.1
"""Seconds of a sample."""
LATENCY_ROUNDS = 3
"""Rounds of `latency.ROUND`."""


def say(text: str) -> None:
    """Progress, to standard error."""
    sys.stderr.write(text + "\n")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All parts; what is measured is written after each, so that a late failure costs only what it hit."""
    result: dict[str, Any] = {
        "target": options.target,
        "machine": {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]},
        "default_buffer": Options().buffer,
        "cells": [],
        "left_out": [],
        "latency": [],
        "tcp": None,
    }
    if "moves" in options.parts:
        for state, counts in _populations(options.flows, options.states):
            if missing := cells.lacking(max(counts), state, _memory()):
                say(f"left out: {max(counts):,} flows of {state} B, for want of {missing / 2**30:.1f} GiB of memory")
                result["left_out"].append({"flows": max(counts), "state_bytes": state, "bytes_lacking": missing})
                continue
            with bed(options.target) as made:
                result["cells"] += _moves(made, state, counts)
            write(options.output, result)
    if "latency" in options.parts:
        with bed(options.target) as made, bed(options.target, name="beside") as other:
            for number in range(options.latency_rounds):
                for each in latency.ROUND:
                    say(f"latency, round {number + 1}: {each.name}")
                    result["latency"].append(latency.measure(made, other, each))
        write(options.output, result)
    if "tcp" in options.parts:
        result["tcp"] = _tcp(options)
    result["machine"]["load_after"] = os.getloadavg()[0]
    result["bars"] = bars.bars(result)
    return result


def _memory() -> int:
    """Bytes that the kernel says new work can have."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def write(output: Path, result: dict[str, Any]) -> None:
    """As JSON."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n")


def _populations(counts: tuple[int, ...], states: tuple[int, ...]) -> list[tuple[int, tuple[int, ...]]]:
    """(state, counts) for each lab: the largest populations in labs of their own, so that `all` means just them."""
    small = tuple(count for count in counts if count < cells.BY_BUCKET)
    large = tuple(count for count in counts if count >= cells.BY_BUCKET)
    return [(state, group) for group in (small, large) if group for state in states]


def _moves(made: Bed, state: int, counts: tuple[int, ...]) -> list[dict[str, Any]]:
    say(f"making {max(counts):,} flows of {state} B …")
    made.fill(state, max(counts))
    made.gather()
    return [cells.measure(made, cell, say) for cell in cells.cells(counts) if cell.state == state]


def _tcp(options: argparse.Namespace) -> dict[str, Any]:
    missing = tcp.available()
    if missing:
        say(missing)
        return {name: {"skipped": missing} for name in options.tcp_streams}
    with bed(options.target, "middleboxes.forward:Forward") as made:
        return {name: _stream(options, made, TCP_STREAMS[name]) for name in options.tcp_streams}


def _stream(options: argparse.Namespace, made: Bed, stream: Stream) -> dict[str, Any]:
    """Runs with moves and without, in turn."""
    seconds, carries = options.tcp_seconds, None
    if stream.paced:
        say(f"TCP as fast as it goes for {tcp.TRIAL} s: what this machine carries")
        carries = tcp.carried(made)
    rate = 0.0 if carries is None else tcp.pace(carries)
    at = tuple(part * seconds for part in stream.moves_at)
    runs: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    speed = f"at {rate:g} Mbit/s" if rate else "as fast as it goes"
    for number in range(options.tcp_runs):
        for moving in (False, True):
            say(f"TCP {speed} for {seconds} s, {'with' if moving else 'without'} moves, run {number + 1}")
            made.gather()
            mode = MODES[0] if moving else None
            runs[moving].append(
                tcp.measure(made, seconds, at, mode, TCP_SAMPLE, rate=rate, everything=stream.everything, received=True)
            )
    result = {
        "held_to_mbit_per_s": rate,
        "carried_mbit_per_s": carries,
        "sample_seconds": TCP_SAMPLE,
        "with_moves": runs[True],
        "without": runs[False],
        "lost": dips.lost(runs[True], runs[False], at, TCP_SAMPLE),
    }
    if stream.often:
        return result
    moved, still = ([dips.seconds(each, TCP_SAMPLE) for each in runs[moving]] for moving in (True, False))
    return {**result, "dip": dips.dip(moved, still, at), "after": dips.after(moved, still, at)}


def _counts(text: str) -> tuple[int, ...]:
    found = tuple(sorted({int(word) for word in text.split(",") if word.isdecimal()}))
    if not found or not set(found) <= set(COUNTS):
        raise argparse.ArgumentTypeError(f"{text!r}: numbers of flows out of {', '.join(map(str, COUNTS))}")
    return found


def _states(text: str) -> tuple[int, ...]:
    found = tuple(sorted({int(word) for word in text.split(",") if word.isdecimal()}))
    if not found or not set(found) <= set(CLASSES):
        raise argparse.ArgumentTypeError(f"{text!r}: bytes out of {', '.join(map(str, CLASSES))}")
    return found


def _parts(text: str) -> tuple[str, ...]:
    found = tuple(word for word in text.split(",") if word)
    if not set(found) <= set(PARTS):
        raise argparse.ArgumentTypeError(f"{text!r}: parts out of {', '.join(PARTS)}")
    return found


def _streams(text: str) -> tuple[str, ...]:
    found = tuple(word for word in text.split(",") if word)
    if not found or not set(found) <= set(TCP_STREAMS):
        raise argparse.ArgumentTypeError(f"{text!r}: streams out of {', '.join(TCP_STREAMS)}")
    return found


def main() -> int:
    """As the module says; exit status 1 if a packet was lost or overtaken where that is promised not to happen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=("embedded", "bmv2"), default="embedded", help="the switch")
    parser.add_argument("--flows", type=_counts, default=COUNTS, help="numbers of flows (default: 1,500,5000,100000)")
    parser.add_argument("--states", type=_states, default=tuple(CLASSES), help="bytes of state (default: all three)")
    parser.add_argument("--parts", type=_parts, default=PARTS, help="default: moves,latency,tcp")
    parser.add_argument("--tcp-seconds", type=int, default=60, help="length of a TCP run (default %(default)s)")
    parser.add_argument("--tcp-runs", type=int, default=TCP_RUNS, help="runs of each kind (default %(default)s)")
    parser.add_argument(
        "--tcp-streams", type=_streams, default=tuple(TCP_STREAMS), help="default: paced,unbounded,often"
    )
    parser.add_argument(
        "--latency-rounds", type=int, default=LATENCY_ROUNDS, help="rounds of latency runs (default %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="1 and 500 flows, one round of latency, one TCP run of 12 s"
    )
    parser.add_argument("--output", type=Path, default=Path("build/bench-migration.json"), help="default %(default)s")
    options = parser.parse_args()
    if options.quick:
        options.flows, options.tcp_seconds, options.tcp_runs, options.latency_rounds = (1, 500), 12, 1, 1
    try:
        result = run(options)
    except SplitmergeError as error:
        say(f"error: {error}")
        return 1
    write(options.output, result)
    bars.show(result)
    say(f"written to {options.output}")
    clean = [row for row in result["bars"] if row["what"].startswith("packets")]
    return int(not all(row["met"] for row in clean))


if __name__ == "__main__":
    sys.exit(main())
