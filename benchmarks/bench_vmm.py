"""From scale-out to the first packet that the new replica serves, and what it costs in memory, by kind of replica.

    python -m benchmarks.bench_vmm [--kinds process,vm,boot] [--rounds N] [--accelerator emulated] [--output FILE]

``vm``: restored from the snapshot; ``boot``: a machine that boots anew. Numbered UDP flows run through the lab
meanwhile, and a packet socket on the new replica's switch port sees its first packet come out. Writes
build/bench-vmm.json. Needs root, and what docs/vmm.md names; `make vm-image` first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.table import Table

from splitmerge.cli.output import make_console
from splitmerge.client import OrchestratorClient
from splitmerge.demo.commands import TrafficCommand
from splitmerge.errors import SplitmergeError
from topo.enter import popen_in
from topo.launch import start_lab, stop_lab
from topo.model import one_switch
from topo.spec import LabRecord, LabSpec
from traffic.udp_report import SideReport, account

KINDS = ("process", "vm", "boot")
SERVER = "10.0.2.2"
FLOWS, RATE = 64, 10.0
SERVED_WITHIN = 240.0
BARS = {"process": 0.100, "vm": 3.0}
"""Seconds; and a restored machine takes at most a third of its cold boot."""
_SNIFF = """
import select, sys, time
from splitmerge.linux.afpacket import PacketSocket
from splitmerge.flowkey import FlowKey
with PacketSocket(sys.argv[1]) as port:
    print("ready", flush=True)
    while True:
        select.select([port], [], [])
        if any((key := FlowKey.from_frame(frame)) is not None for frame in port.receive(64)):
            print(time.monotonic(), flush=True)
            break
"""


@contextmanager
def lab(kind: str, image: Path, accelerator: str) -> Iterator[LabRecord]:
    """Replica 1 is a process; the next one is of this kind."""
    with tempfile.TemporaryDirectory(prefix="splitmerge-bench-") as directory:
        spec = LabSpec(
            name="bench", directory=f"{directory}/lab", ephemeral=True,
            topology=one_switch(2) if kind == "process" else one_switch(1, 1),
            middlebox_config={"alerts": f"{directory}/alerts.jsonl"}, vm_image=str(image.absolute()),
            vm_start="boot" if kind == "boot" else "snapshot", vm_accelerator=accelerator,  # type: ignore[arg-type]
        )  # fmt: skip
        record = start_lab(spec)
        try:
            yield record
        finally:
            stop_lab(record)


def measure(kind: str, record: LabRecord, rounds: int) -> dict[str, Any]:
    """Seconds of each round, memory of the last replica, and the ledger over all of it."""
    server = TrafficCommand(record, "server", "udp", "server", "--bind", SERVER)
    server.wait_ready()
    flows = ["--flows", str(FLOWS), "--rate", str(RATE)]
    client = TrafficCommand(record, "client", "udp", "client", "--server", SERVER, *flows)
    client.wait_ready()
    with OrchestratorClient(Path(record.api_socket), timeout=SERVED_WITHIN) as api:
        results = [_round("process" if kind == "process" else "vm", record, api) for _ in range(rounds)]
    client.ask_to_stop()
    sent = client.report(SideReport)
    server.ask_to_stop()
    ledger = account(sent, server.report(SideReport))
    seconds = [each["seconds"] for each in results]
    return {
        "kind": kind,
        "first_packet_seconds": seconds,
        "median_seconds": statistics.median(seconds),
        "memory_mib": results[-1]["memory_mib"],
        "ledger": {name: getattr(ledger, name) for name in ("sent", "lost", "duplicated", "reordered")},
    }


def _round(kind: str, record: LabRecord, api: OrchestratorClient) -> dict[str, Any]:
    argv = [sys.executable, "-c", _SNIFF, "slot2-sw"]
    sniffer = popen_in(record, "switch", argv, stdout=subprocess.PIPE)
    assert sniffer.stdout is not None
    try:
        assert sniffer.stdout.readline() == b"ready\n"
        started = time.monotonic()
        (added,) = api.post("/scale-out", {"kind": kind})["added"]
        served = float(sniffer.stdout.readline())
    finally:
        sniffer.kill()
        sniffer.communicate()
    pid = next(each["pid"] for each in api.get("/replicas") if each["replica"] == added)
    memory = _memory(pid)
    api.post("/scale-in", {"replica": added})
    return {"seconds": round(served - started, 4), "memory_mib": memory}


def _memory(pid: int) -> dict[str, float]:
    """MiB: resident, its fair share of what is shared (Pss), and its own alone (proc(5), smaps_rollup)."""
    values = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, amount = line.split(":")
        values[name] = int(amount.split()[0]) / 1024
    own = values["Private_Clean"] + values["Private_Dirty"]
    return {"resident": round(values["Rss"], 1), "share": round(values["Pss"], 1), "own": round(own, 1)}


def bars(found: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """Which bars are met, of those that were measured."""
    median = {kind: result["median_seconds"] for kind, result in found.items()}
    met = {f"{kind} within {bar:g} s": median[kind] <= bar for kind, bar in BARS.items() if kind in median}
    if {"vm", "boot"} <= set(median):
        met["vm within a third of boot"] = median["vm"] <= median["boot"] / 3
    met["nothing lost"] = all(result["ledger"]["lost"] == 0 for result in found.values())
    return met


def main() -> int:
    """The command; the exit status is 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_vmm", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kinds", default=",".join(KINDS), help="of %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="scale-outs of each kind")
    parser.add_argument("--image", type=Path, default=Path("build/vm-image"), help="default: %(default)s")
    parser.add_argument("--accelerator", choices=("auto", "kvm", "emulated"), default="emulated")
    parser.add_argument("--output", type=Path, default=Path("build/bench-vmm.json"))
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    try:
        for kind in options.kinds.split(","):
            with lab(kind, options.image, options.accelerator) as record:
                found[kind] = measure(kind, record, options.rounds)
    except SplitmergeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    met = bars(found)
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps({"accelerator": options.accelerator, "results": found, "bars": met}, indent=2))
    table = Table("kind", "first packet, s", "own memory, MiB", "share, MiB", "lost", title="scale-out to first packet")
    for kind, result in found.items():
        memory, lost = result["memory_mib"], result["ledger"]["lost"]
        row = (f"{result['median_seconds']:.3f}", f"{memory['own']}", f"{memory['share']}", str(lost))
        table.add_row(kind, *row)
    console = make_console()
    console.print(table)
    for bar, is_met in met.items():
        console.print(f"{'met   ' if is_met else 'MISSED'} {bar}", style=None if is_met else "red")
    return int(not all(met.values()))


if __name__ == "__main__":
    sys.exit(main())
