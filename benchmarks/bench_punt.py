"""How packets of suspended flows reach the controller's buffers: P4Runtime's packet-ins against an Ethernet punt port.

    python -m benchmarks.bench_punt [--targets embedded,bmv2] [--ways packet-in,ethernet] [--output FILE]

Needs no root where user namespaces are allowed; leaves nothing behind. Prints a table, writes build/bench-punt.json.
``simple_switch_grpc`` takes part where it is on PATH (with ``simple_switch_CLI`` its queues are deepened, as in a lab).
About two minutes a target.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from rich.table import Table

from benchmarks.punt.measures import measure
from benchmarks.punt.world import CABLES, controller, switch
from splitmerge.cli.output import make_console
from topo import bmv2
from topo.links import PUNT_MTU, offloads_off
from topo.model import PUNT_INTERFACE
from topo.namespaces import enter_sandbox

TARGETS, WAYS = ("embedded", "bmv2"), ("packet-in", "ethernet")


def build() -> None:
    """The wires of the switch, and the punt port's."""
    CABLES.build()
    outside = f"{PUNT_INTERFACE}-sw"
    with IPRoute() as ip:
        peer = {"ifname": PUNT_INTERFACE, "mtu": PUNT_MTU}
        ip.link("add", ifname=outside, kind="veth", mtu=PUNT_MTU, peer=peer)
        for name in (outside, PUNT_INTERFACE):
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
            offloads_off(name)
            ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")


async def run(targets: list[Any], ways: list[Any]) -> dict[str, Any]:
    """Every target, every way."""
    result: dict[str, Any] = {"machine": {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]}}
    for target in targets:
        if target == "bmv2" and bmv2.find() is None:
            say("simple_switch_grpc is not on PATH: left out")
            continue
        result[target] = {}
        for way in ways:
            say(f"{target}, {way} …")
            async with switch(target), controller(way) as made:
                result[target][way] = await measure(made)
    result["machine"]["load_after"] = os.getloadavg()[0]
    return result


def say(text: str) -> None:
    """Progress, to standard error."""
    sys.stderr.write(text + "\n")


ROWS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("into the buffers without loss, 64 bytes", "packets/s", ("loss_free_pps", "64")),
    ("into the buffers without loss, 1,400 bytes", "packets/s", ("loss_free_pps", "1400")),
    ("into the buffers, saturated, 64 bytes", "packets/s", ("saturated_pps", "64")),
    ("into the buffers, saturated, 1,400 bytes", "packets/s", ("saturated_pps", "1400")),
    ("drain, idle, p50", "µs", ("drain_us", "idle", "p50")),
    ("drain, idle, p99", "µs", ("drain_us", "idle", "p99")),
    ("drain, 4,000 punted/s, p50", "µs", ("drain_us", "at_4000_pps", "p50")),
    ("drain, 4,000 punted/s, p99", "µs", ("drain_us", "at_4000_pps", "p99")),
    ("relayed to the replica", "packets/s", ("relay", "per_s")),
)


def show(result: dict[str, Any]) -> None:
    """The table."""
    columns = [(target, way) for target in TARGETS for way in WAYS if way in result.get(target, {})]
    table = Table("", "", *(f"{target}, {way}" for target, way in columns))
    for what, unit, path in ROWS:
        values = []
        for target, way in columns:
            value: Any = result[target][way]
            for step in path:
                value = value[step]
            values.append("–" if value is None else f"{value:,}")
        table.add_row(what, unit, *values)
    make_console(width=130).print(table)


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", default=",".join(TARGETS), help="default %(default)s")
    parser.add_argument("--ways", default=",".join(WAYS), help="default %(default)s")
    parser.add_argument("--output", type=Path, default=Path("build/bench-punt.json"), help="default %(default)s")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # its processes end with it
    enter_sandbox()
    build()
    logging.getLogger("p4rt_controller").setLevel("ERROR")  # abandoned moves are what is measured
    targets = [name for name in TARGETS if name in options.targets.split(",")]
    result = asyncio.run(run(targets, [name for name in WAYS if name in options.ways.split(",")]))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    show(result)
    say(f"written to {options.output}")


if __name__ == "__main__":
    main()
