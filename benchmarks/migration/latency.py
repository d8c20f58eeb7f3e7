"""What packets notice of moves: one-way latency of the flow that moves, and of flows that do not.

On a machine that everything shares, a move costs those that do not move in two ways: it may be in their way (in the
switch, in the two replicas), and it takes processor time from whatever else runs. So there are two labs, alike, with
the same traffic in every run; only where moves are made differs:

- *still*: nowhere;
- with moves: in the lab that is measured;
- *beside*: as often, in the other lab, whose switch and replicas no packet that is measured crosses.

What flows that do not move see with moves beyond *still* is all that a user would notice. What they see of it *beside*
too is processor time, which a larger machine has; only the rest is in the way of packets. Runs come in rounds, each
kind in each; the yardstick is how much *still* runs differ among themselves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from statistics import median
from typing import Any

from benchmarks.migration.bed import MODES, Bed, Mode
from splitmerge.demo.commands import TrafficCommand
from traffic.udp_report import Account, FlowSide, SideReport, account

SECONDS = 8.0
FLOWS, RATE = 10, 100.0
"""Flows, and datagrams a second on each, in both directions; beside them the other lab has one such flow."""
STEADY, BUSY = 1.0, 9.0
"""Moves a second: as a policy that follows its load makes them at most, and nearly as fast as one flow can be moved."""
SHARES = ("p50", "p99")
_SERVER = "10.0.2.2"
_PORTS = count(9000)
"""Of the servers, a new one for each block of traffic: what the replicas still know of earlier ones is not mistaken."""


@dataclass(frozen=True, slots=True)
class Run:
    """What happens meanwhile: moves of one flow to and fro, so many a second; ``beside``: in the other lab."""

    mode: Mode | None = None
    rate: float = 0.0
    beside: bool = False

    @property
    def name(self) -> str:
        """For tables."""
        if self.mode is None:
            return "still"
        return f"{self.mode.name}, {self.rate:g}/s{', beside' if self.beside else ''}"


STILL = Run()
ROUND = (
    STILL,
    Run(MODES[0], STEADY),
    Run(MODES[0], BUSY),
    Run(MODES[0], BUSY, beside=True),
    STILL,
    *(Run(mode, BUSY) for mode in MODES[1:]),
)


@dataclass(slots=True)
class Traffic:
    """Flows through one lab; what both sides saw is there when the block of `traffic` is over."""

    chosen: str
    """The flow that moves, if one does."""
    ours: SideReport | None = None
    theirs: SideReport | None = None

    @property
    def sides(self) -> list[FlowSide]:
        """Every flow at both sides."""
        return [flow for side in (self.ours, self.theirs) if side is not None for flow in side.flows]

    @property
    def account(self) -> Account:
        """What became of every datagram."""
        assert self.ours is not None and self.theirs is not None
        return account(self.ours, self.theirs)


@contextmanager
def traffic(bed: Bed, flows: int) -> Iterator[Traffic]:
    """So many flows of `RATE` in both directions while the block lasts."""
    port = next(_PORTS)
    server = TrafficCommand(bed.record, "server", "udp", "server", "--bind", _SERVER, "--port", str(port))
    client = None
    try:
        server.wait_ready()
        words = ("--server", _SERVER, "--port", str(port), "--flows", str(flows), "--rate", str(RATE))
        client = TrafficCommand(bed.record, "client", "udp", "client", *words)
        client.wait_ready()
        bed.wait(lambda: len(bed.flows_to(_SERVER, port)) == flows, f"{flows} flows")
        made = Traffic(min(bed.flows_to(_SERVER, port)))
        yield made
        client.ask_to_stop()
        made.ours = client.report(SideReport)
        server.ask_to_stop()
        made.theirs = server.report(SideReport)
    finally:
        for command in filter(None, (client, server)):
            command.kill()


def measure(bed: Bed, other: Bed, run: Run) -> dict[str, Any]:
    """One run. Milliseconds; of the flows of ``bed`` one is moved, if ``run`` is not about ``other``."""
    with traffic(other, 1) as beside, traffic(bed, FLOWS) as here:
        moves = _move(other, run, beside.chosen) if run.beside else _move(bed, run, here.chosen)
    settled = here.account
    return {
        "run": run.name,
        "mode": None if run.mode is None else run.mode.name,
        "rate": run.rate,
        "beside": run.beside,
        "moves": moves,
        "moved": _worst([flow for flow in here.sides if flow.flow == here.chosen]),
        "others": _worst([flow for flow in here.sides if flow.flow != here.chosen]),
        "lost": settled.lost,
        "duplicated": settled.duplicated,
        "reordered": settled.reordered,
        "sent": settled.sent,
    }


def _move(bed: Bed, run: Run, chosen: str) -> int:
    """Move the flow to and fro for `SECONDS`, and back to where it was; how often."""
    if run.mode is None:
        time.sleep(SECONDS)
        return 0
    first, second = (int(each["replica"]) for each in bed.live())
    started, moves = time.monotonic(), 0
    while (due := started + moves / run.rate) < started + SECONDS:
        time.sleep(max(0.0, due - time.monotonic()))
        source, target = (first, second) if moves % 2 == 0 else (second, first)
        bed.move({"keys": [chosen]}, source, target, run.mode)
        moves += 1
    if moves % 2:
        bed.move({"keys": [chosen]}, second, first, run.mode)
    return moves


def _worst(flows: Sequence[FlowSide]) -> dict[str, float]:
    """Over these flows at both sides: median of medians, the median and the largest of what each saw at worst."""
    medians = sorted(flow.latency_ms.p50 for flow in flows)
    p99 = sorted(flow.latency_ms.p99 for flow in flows)
    worst = sorted(flow.latency_ms.max for flow in flows)
    return {
        "p50": round(medians[len(medians) // 2], 3),
        "p99": round(p99[len(p99) // 2], 3),
        "max_typical": round(worst[len(worst) // 2], 3),
        "max": round(worst[-1], 3),
    }


# -- over rounds -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Noticed:
    """How much later flows that do not move arrive than ``against`` (medians over rounds, milliseconds)."""

    run: Run
    against: Run
    share: str
    rise: float
    noise: float
    """Between the smallest and the largest of the *still* runs."""

    @property
    def what(self) -> str:
        """For tables."""
        of = f"{self.share} of flows not moved, {self.run.rate:g} moves/s"
        return f"{of}, beyond {'as many beside' if self.against.beside else 'no moves'}, ms"


COMPARED = (
    (Run(MODES[0], STEADY), STILL),
    (Run(MODES[0], BUSY), Run(MODES[0], BUSY, beside=True)),
    (Run(MODES[0], BUSY), STILL),
)


def of_run(rows: Sequence[dict[str, Any]], run: Run, who: str, share: str) -> list[float]:
    """This figure in each round."""
    return [float(row[who][share]) for row in rows if row["run"] == run.name]


def noticed(rows: Sequence[dict[str, Any]]) -> list[Noticed]:
    """`COMPARED`, as far as it was measured; nothing if there is only one *still* run, which says nothing of noise."""
    found = []
    for run, against in COMPARED:
        for share in SHARES:
            ours, theirs = of_run(rows, run, "others", share), of_run(rows, against, "others", share)
            still = of_run(rows, STILL, "others", share)
            if ours and theirs and len(still) > 1:
                rise, noise = median(ours) - median(theirs), max(still) - min(still)
                found.append(Noticed(run, against, share, round(rise, 3), round(noise, 3)))
    return found
