"""A flood at a flow that is held back must not slow the others.

    python -m benchmarks.flood [--kind cpu|replica] [--rate 3000] [--target embedded|bmv2] [--json build/flood.json]

Numbered UDP flows of one replica are measured four times: alone; beside a flood of another flow that passes through;
beside the same flood while that flow is being moved and the move cannot go on (the replica that it waits for is stopped
in that moment), so that the flood piles up in the buffer; and beside the flood again, which passes through its new
replica then: what else the machine does changes from run to run. Every packet of the flood is accounted for: delivered
in order, or dropped and counted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from chaos.lab import SERVER, ChaosLab, chaos_lab
from splitmerge.demo.commands import TrafficCommand
from splitmerge.errors import SplitmergeError
from traffic.summary import Latency
from traffic.udp_report import Account, SideReport, account

FLOWS, RATE, COUNT = 8, 50, 150
"""Of the flows that are measured: how many, datagrams a second, and datagrams, on each."""
STOPPED = {"cpu": ("target", "draining"), "replica": ("source", "redirecting")}
"""Who is stopped, and in which step, so that a move with this buffer holds packets back and cannot go on."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Round trips of the flows beside the flood, and what became of all."""

    kind: str
    target: str
    rate: float
    alone: Latency
    beside_flood: Latency
    beside_flood_held: Latency
    beside_flood_again: Latency
    lost_beside: int
    """Datagrams of the measured flows that were lost in any of the four runs."""
    flood_sent: int
    flood_lost: int
    """But for those that a socket of the traffic programs had no room for."""
    kernel_drops: int
    drops: dict[str, dict[str, int]]
    """What switch and replicas dropped, by reason, since they began."""
    flood_reordered: int
    flood_duplicated: int
    buffered: int
    """Packets of the flood that were relayed, or held by the target, and then delivered."""
    dropped: int
    """Packets of the flood for which the move's buffer had no room."""
    step: str
    """In which the move waited."""


class Sides:
    """An echo server that stays, and clients that come and go."""

    def __init__(self, lab: ChaosLab) -> None:
        self._lab = lab
        self._echoes: list[TrafficCommand] = []

    def echo(self, port: int) -> TrafficCommand:
        """A server on this port."""
        return self._start("server", "server", "--bind", SERVER, "--port", str(port))

    def client(self, port: int, *arguments: str) -> TrafficCommand:
        """A client of the server on this port."""
        return self._start("client", "client", "--server", SERVER, "--port", str(port), *arguments)

    def _start(self, namespace: str, *arguments: str) -> TrafficCommand:
        command = TrafficCommand(self._lab.record, namespace, "udp", *arguments)
        self._echoes.append(command)
        command.wait_ready()
        return command

    def measured(self, port: int) -> tuple[Account, Latency]:
        """One run of the flows beside the flood."""
        echo = self.echo(port)
        client = self.client(port, "--flows", str(FLOWS), "--rate", str(RATE), "--count", str(COUNT))
        sent = client.report(SideReport)
        echo.ask_to_stop()
        return account(sent, echo.report(SideReport)), sent.rtt_ms

    def close(self) -> None:
        """End what still runs."""
        for each in self._echoes:
            each.kill()


@contextmanager
def stopped(lab: ChaosLab, pid: int, step: str) -> Iterator[None]:
    """A process that does not run any more when the next move has come to this step, until this is over."""
    lab.wish({"step": step, "stop": [pid]})
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def measure(lab: ChaosLab, kind: str, rate: float) -> Report:
    """All four runs. :raises SplitmergeError: if it cannot be done."""
    while len(lab.live()) < 2:
        lab.tell("/scale-out", {"rebalance": False})
    live = lab.live()
    here = max(live, key=lambda replica: live[replica]["buckets"])
    there = next(replica for replica in live if replica != here)
    sides = Sides(lab)
    try:
        account_alone, alone = sides.measured(9101)
        before = set(lab.owners())
        echo = sides.echo(9100)
        flood = sides.client(9100, "--flows", "1", "--rate", str(rate), "--size", "200", "--deadline", "20")
        key = _new_flow(lab, before)
        account_through, through = sides.measured(9102)
        source, target = (here, there) if kind == "cpu" else (there, here)
        if source == there:
            lab.tell("/moves", {"keys": [key], "target": there})
        who, stops_in = STOPPED[kind]
        victim = lab.live()[target if who == "target" else source]["pid"]
        with stopped(lab, victim, stops_in):
            body = {"keys": [key], "source": source, "target": target, "buffer": kind, "wait": False}
            lab.tell("/moves", body)
            lab.wait(f"the move to come to {stops_in}", lambda client: lab.struck)
            step = lab.wait("the move to wait", lambda client: _waiting(client.get("/status")["moves_running"], kind))
            account_held, held = sides.measured(9103)
        lab.wait_well()
        time.sleep(0.5)
        account_again, again = sides.measured(9104)
        flood.ask_to_stop()
        sent = flood.report(SideReport)
        echo.ask_to_stop()
        flooded = account(sent, echo.report(SideReport))
        move = lab.ask("/moves", limit=1)[0]
    finally:
        sides.close()
    if move["step"] != "done":
        raise SplitmergeError(f"the move ended in {move['step']}: {move['reason']}")
    return Report(
        kind=kind,
        target=lab.record.target,
        rate=rate,
        alone=alone,
        beside_flood=through,
        beside_flood_held=held,
        beside_flood_again=again,
        lost_beside=sum(each.lost for each in (account_alone, account_through, account_held, account_again)),
        flood_sent=flooded.sent,
        flood_lost=flooded.lost - flooded.kernel_drops,
        kernel_drops=flooded.kernel_drops,
        drops=lab.ask("/status")["drops"],
        flood_reordered=flooded.reordered,
        flood_duplicated=flooded.duplicated,
        buffered=move["relayed"] + move.get("held", 0),
        dropped=move["dropped"],
        step=step,
    )


def _new_flow(lab: ChaosLab, before: set[str]) -> str:
    for _ in range(100):
        if new := [flow for flow in lab.owners() if flow not in before and ":9100" in flow]:
            return new[0]
        time.sleep(0.05)
    raise SplitmergeError("the flood's flow is at no replica")


def _waiting(moves: list[dict[str, Any]], kind: str) -> str:
    """The step in which the move holds packets back and waits; empty if it has not come to it."""
    steps = {"cpu": ("draining", "exporting", "committing"), "replica": ("draining", "exporting")}[kind]
    return next((str(move["step"]) for move in moves if move["step"] in steps), "")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.flood", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=STOPPED, action="append")
    parser.add_argument("--rate", type=float, default=3000.0, help="datagrams a second of the flood")
    parser.add_argument("--target", choices=("embedded", "bmv2"), default="embedded")
    parser.add_argument("--json", type=Path, default=Path("build/flood.json"), metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flood") as name, chaos_lab(Path(name), options.target) as lab:
        reports = [measure(lab, kind, options.rate) for kind in options.kind or STOPPED]
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(reports)) + b"\n")
    for report in reports:
        for name in Report.__struct_fields__:
            sys.stdout.write(f"{name:20} {getattr(report, name)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
