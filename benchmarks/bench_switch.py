"""The embedded switch against BMv2 and a bare forwarder, side by side, on veth pairs in a namespace of its own.

    python -m benchmarks.bench_switch [--targets native,bare] [--entries 10000,100000] [--output FILE]

Needs no root where user namespaces are allowed; leaves nothing behind. Prints a table, writes build/bench-switch.json.
``simple_switch_grpc`` takes part where it is on PATH. About three and a half minutes.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.switch import measures, pipeline, wires
from benchmarks.switch.client import Client
from benchmarks.switch.targets import ADDRESS, TARGETS, Running, running
from p4src import P4BLOB, P4INFO
from topo.namespaces import enter_sandbox

DEADLINE = 200.0
"""Seconds in all; the growing tables give way."""
KEYS = ("forwarding_pps", "latency_us", "inserts_per_s", "modify_us", "packet_in_per_s", "pipeline_pps", "growth")


def measure(target: Running) -> dict[str, Any]:
    """Everything of one target but the growing tables."""
    found: dict[str, Any] = {}
    client = None
    if target.programmable:
        client = Client(ADDRESS, measures.ELECTION)
        client.configure(P4INFO, P4BLOB)
        client.prepare()
        client.fill()
    found["forwarding_pps"] = measures.forwarding()
    found["latency_us"] = measures.latency(found["forwarding_pps"]["loss_free"]["64"], target)
    if client is not None:
        found["inserts_per_s"] = measures.inserts(client)
        found["modify_us"] = measures.modify(client)
        found["packet_in_per_s"] = measures.packet_ins(client)
        client.close()
    return found


def run(names: tuple[str, ...], entries: tuple[int, ...]) -> dict[str, Any]:
    """All targets, one after the other."""
    end = time.monotonic() + DEADLINE
    result: dict[str, Any] = {key: dict.fromkeys(TARGETS) for key in KEYS}
    result["machine"] = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    for name in names:
        with running(name) as target:
            if target is None:
                continue
            say(f"{name} …")
            for key, value in measure(target).items():
                result[key][name] = value
    result["pipeline_pps"].update(native=pipeline.native(), interpreter=pipeline.interpreter())
    for name in ("native", "simple_switch_grpc"):
        counts = entries if name == "native" else tuple(count for count in entries if count <= 100_000)
        if name not in names or not counts:
            continue
        with running(name) as target:
            if target is not None:
                say(f"{name}, growing tables …")
                result["growth"][name] = measures.growth(target, counts, end)
    result["machine"]["load_after"] = os.getloadavg()[0]
    return result


def say(text: str) -> None:
    """Progress, to standard error."""
    sys.stderr.write(text + "\n")


def rows(result: dict[str, Any]) -> list[tuple[str, str, list[Any]]]:
    """(what, unit, one value a target)."""

    def pick(key: str, *path: str) -> list[Any]:
        values = []
        for name in TARGETS:
            value = result[key][name]
            for step in path:
                value = None if value is None else value.get(step)
            values.append(value)
        return values

    lines: list[tuple[str, str, list[Any]]] = []
    for size in map(str, measures.SIZES):
        lines.append((f"forwarding, no loss, {size} bytes", "pps", pick("forwarding_pps", "loss_free", size)))
        lines.append((f"forwarding, saturated, {size} bytes", "pps", pick("forwarding_pps", "saturated", size)))
    lines.append(("rate of the latencies", "pps", pick("latency_us", "rate")))
    for way in ("without_writes", "with_writes"):
        said = f"latency {way.replace('_', ' ')}"
        lines += [(f"{said}, {share}", "µs", pick("latency_us", way, share)) for share in ("p50", "p99")]
    batches = ("1", "10", "100", "1000")
    lines += [(f"inserts, {batch} a request", "1/s", pick("inserts_per_s", batch)) for batch in batches]
    lines += [(f"modify, {share}", "µs", pick("modify_us", share)) for share in ("p50", "p99")]
    lines.append(("packet-in", "1/s", pick("packet_in_per_s")))
    lines.append(("pipeline alone, in memory", "pps", pick("pipeline_pps")))
    for count in ("10000", "100000", "1000000"):
        lines.append((f"inserts up to {int(count):,} entries", "1/s", pick("growth", count, "inserts_per_s")))
        lines.append((f"memory with {int(count):,} entries", "MiB", pick("growth", count, "rss_mib")))
    return lines


def show(result: dict[str, Any]) -> None:
    """The table."""
    table = Table("", "", *TARGETS)
    for what, unit, values in rows(result):
        table.add_row(what, unit, *("–" if value is None else f"{value:,}" for value in values))
    Console(width=120).print(table)


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", default=",".join(TARGETS), help="default %(default)s")
    parser.add_argument("--entries", default="10000,100000,1000000", help="table sizes (default %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("build/bench-switch.json"), help="default %(default)s")
    options = parser.parse_args()
    names = tuple(name for name in TARGETS if name in options.targets.split(","))
    entries = tuple(int(text) for text in options.entries.split(",") if text)
    enter_sandbox()
    wires.build()
    result = run(names, entries)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    show(result)
    say(f"written to {options.output}")


if __name__ == "__main__":
    main()
