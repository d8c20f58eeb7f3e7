"""The embedded switch against BMv2 and a bare forwarder, side by side, on veth pairs in a namespace of its own.

    python -m benchmarks.bench_switch [--rounds 3] [--targets native,bare] [--entries 10000,100000] [--output FILE]

Needs no root where user namespaces are allowed; leaves nothing behind. Prints a table and the bars, and writes
build/bench-switch.json: medians by target, ``bars`` (measured beside limit, met or not), and ``rounds``, everything as
it was measured. ``simple_switch_grpc`` takes part where it is on PATH. Each round takes about a minute and a half, the
growing tables another minute.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.switch import measures
from benchmarks.switch.bars import pick
from benchmarks.switch.rounds import Bench
from benchmarks.switch.targets import TARGETS
from splitmerge.cli.output import make_console
from topo.namespaces import enter_sandbox


def say(text: str) -> None:
    """Progress, to standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def rows(result: dict[str, Any]) -> list[tuple[str, str, list[Any]]]:
    """(what, unit, one value a target)."""

    def of(key: str, *path: str) -> list[Any]:
        return [pick(result[key], name, *path) for name in TARGETS]

    lines: list[tuple[str, str, list[Any]]] = []
    for size in map(str, measures.SIZES):
        lines.append((f"forwarding, no loss, {size} bytes", "pps", of("forwarding_pps", "loss_free", size)))
        lines.append((f"forwarding, saturated, {size} bytes", "pps", of("forwarding_pps", "saturated", size)))
    lines.append(("rate of the latencies", "pps", of("latency_us", "rate")))
    for way in ("without_writes", "with_writes"):
        said = f"latency {way.replace('_', ' ')}"
        lines += [(f"{said}, {share}", "µs", of("latency_us", way, share)) for share in ("p50", "p99")]
    batches = map(str, measures.INSERTS)
    lines += [(f"inserts, {batch} a request", "1/s", of("inserts_per_s", batch)) for batch in batches]
    lines += [(f"modify, {share}", "µs", of("modify_us", share)) for share in ("p50", "p99")]
    lines.append(("packet-in", "1/s", of("packet_in_per_s")))
    lines.append(("packet-in, never came", "", of("packet_in_lost")))
    lines.append(("pipeline alone, in memory", "pps", of("pipeline_pps")))
    lines.append(("compilation", "s", of("compile_s")))
    for count in ("10000", "100000", "1000000"):
        lines.append((f"inserts up to {int(count):,} entries", "1/s", of("growth", count, "inserts_per_s")))
        lines.append((f"memory with {int(count):,} entries", "MiB", of("growth", count, "rss_mib")))
    return lines


def show(result: dict[str, Any]) -> None:
    """The tables."""
    console = make_console(width=120)
    table = Table("", "", *TARGETS)
    for what, unit, values in rows(result):
        table.add_row(what, unit, *("–" if value is None else f"{value:,}" for value in values))
    console.print(table)
    table = Table("bar", "limit", "measured", "met", "rounds")
    for bar in result["bars"]:
        limit = f"≥ {bar['at_least']:,}" if bar["at_least"] is not None else f"≤ {bar['at_most']:,}"
        met = {True: "yes", False: "NO", None: "not measured"}[bar["met"]]
        measured = "–" if bar["measured"] is None else f"{bar['measured']:,}"
        table.add_row(bar["what"], limit, measured, met, " ".join(f"{value:,}" for value in bar["rounds"]))
    console.print(table)


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=3, help="how often each target has its turn (default %(default)s)"
    )
    parser.add_argument("--targets", default=",".join(TARGETS), help="default %(default)s")
    parser.add_argument("--entries", default="10000,100000,1000000", help="table sizes (default %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("build/bench-switch.json"), help="default %(default)s")
    options = parser.parse_args()
    names = tuple(name for name in TARGETS if name in options.targets.split(","))
    entries = tuple(int(text) for text in options.entries.split(",") if text)
    enter_sandbox()
    result = Bench(names, options.rounds, say).run(entries)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    show(result)
    say(f"written to {options.output}")


if __name__ == "__main__":
    main()
