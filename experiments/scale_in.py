"""Figure 11: scaling in, by killing replicas that have become empty, and by merging (§5.3)."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar

from benchmarks.migration.bed import Bed, bed
from experiments.beds import (
    CLIENT,
    LEAD,
    SERVER,
    STREAM_PORT,
    command,
    diary,
    dropped,
    heard,
    left,
    looks,
    now,
    pause_until,
    replicas_over_time,
)  # fmt: skip
from experiments.errors import ExperimentFailed
from experiments.experiment import Experiment, Results
from experiments.figure import Figure, Headline, Panel, Raw, headline, late, over_runs
from splitmerge.demo.commands import TrafficCommand
from splitmerge.flowkey import UDP, FlowKey
from traffic.streams import OVERHEAD, Sent, account

PAPER_FASTER, PAPER_BETTER, PAPER_DROPS = 50.0, 43.0, 0.9
"""Percent; §5.3: the first replica killed sooner, utilisation in the worst case, packets dropped."""
_FIRST_PORT = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleIn(Experiment):
    """Four replicas with 50 flows each, of which one ends every half second.

    Best case: all of a replica's flows, then all of the next one's. Worst: one of each replica in turn. A replica is
    used by so much as its flows are of the 50 that it can serve.
    """

    name: ClassVar[str] = "scale-in"
    figures: ClassVar[tuple[int, ...]] = (11,)
    variants: ClassVar[tuple[str, ...]] = ("kill-best", "splitmerge-best", "kill-worst", "splitmerge-worst")

    load: float = 0.05
    """1 Mbit/s a flow is 100 packets/s of 1250 bytes: 200 flows of 5 packets/s are what two cores carry beside four
    replicas."""
    replicas: int = 4
    """§5.3."""
    flows_each: int = 50
    """§5.3; also what a replica can serve, and the average below which is scaled in."""
    mbit: float = 1.0
    """Of a flow (§5.3), headers included."""
    every: float = 0.5
    """Seconds between two ends (§5.3)."""
    size: int = 1250 - OVERHEAD
    """Bytes of payload. Ours."""
    cost_us: float = 200.0
    """CPU that a packet costs. Ours."""
    idle: float = 1.0
    """Seconds without a packet after which a flow is over for the middlebox. Ours."""
    bin: float = 1.0
    """Seconds of a point. Ours."""

    @property
    def flows(self) -> int:
        """All."""
        return self.replicas * self.flows_each

    @property
    def seconds(self) -> float:
        """Until the last flow ends."""
        return self.scaled(self.flows * self.every)

    @property
    def pps(self) -> float:
        """Packets a second of a flow."""
        return self.mbit * self.load * 1e6 / 8 / (self.size + OVERHEAD)

    def measure(self, variant: str, run: int) -> Raw:
        """One run."""
        strategy, _, case = variant.partition("-")
        section = {
            "settings": {"split_above": self.flows_each, "merge_below": self.flows_each},
            "scale_in": "drain" if strategy == "kill" else "move",
            "consecutive": 1, "interval": looks(min(0.25, self.scaled(0.5))), "cool_down": self.scaled(1.0),
        }  # fmt: skip
        with bed(
            self.target,
            "middleboxes.compute:Compute",
            replicas=self.replicas,
            slots=self.replicas,
            middlebox_config={"cost_us": self.cost_us, "idle": max(self.scaled(self.idle), 2.5 / self.pps)},
            assignment="round-robin",
        ) as made:
            return self._run(made, case, section, run)

    def _run(self, made: Bed, case: str, section: dict[str, Any], run: int) -> Raw:
        with ExitStack() as stack:
            receive = command(made, stack, "server", "streams", "receive", "--bind", SERVER, "--port", STREAM_PORT)
            begin = now() + LEAD
            send = command(
                made, stack, "client", "streams", "send", "--server", SERVER, "--port", STREAM_PORT,
                "--flows", self.flows, "--rate", self.pps, "--size", self.size, "--first-port", _FIRST_PORT,
                "--seed", run + 1, "--at", begin, "--every", 0.002, "--orders", told=True,
            )  # fmt: skip
            book = stack.enter_context(diary(made))
            order = self._order(self._placed(made), case)
            started = self._let_expire(made, send, order, section)
            pause_until(started + self.seconds + self.scaled(2.0))
            sent = left(self.name, send.report(Sent))
            received = heard(self.name, receive)
        tally = account(sent, received)
        return {
            "packets": tally.sent,
            "lost": tally.lost,
            "moves": dropped(made),
            "late": sent.late,
            "replicas": replicas_over_time(book.looks, started),
        }

    def _placed(self, made: Bed) -> dict[int, list[int]]:
        """Replica → its flows, when all are there and evenly so. :raises ExperimentFailed: if they never are."""
        keys = {key(flow): flow for flow in range(self.flows)}

        def held() -> dict[int, list[int]]:
            found: dict[int, list[int]] = {}
            for each in made.client.get("/flows", limit=10_000):
                if each["flow"] in keys:
                    found.setdefault(each["replica"], []).append(keys[each["flow"]])
            return found

        made.wait(lambda: sum(map(len, held().values())) == self.flows, f"{self.flows} flows")
        placed = held()
        if sorted(map(len, placed.values())) != [self.flows_each] * self.replicas:
            raise ExperimentFailed(self.name, f"flows by replica: { {n: len(each) for n, each in placed.items()} }")
        return {replica: sorted(flows) for replica, flows in sorted(placed.items())}

    def _order(self, placed: dict[int, list[int]], case: str) -> list[int]:
        """In which flows end."""
        if case == "best":
            return [flow for flows in placed.values() for flow in flows]
        return [flow for turn in zip(*placed.values(), strict=True) for flow in turn]

    def _let_expire(self, made: Bed, send: TrafficCommand, order: list[int], section: dict[str, Any]) -> float:
        """From now on flows end, and replicas with them; when that began."""
        started = now()
        ends = [[flow, self.scaled(self.every) * (number + 1)] for number, flow in enumerate(order)]
        send.tell(json.dumps(ends).encode())
        made.client.patch("/elasticity", {"policy": "average-flows", **section})
        return started

    # -- figure --------------------------------------------------------------------------------------------------

    def draw(self, number: int, results: Results) -> Figure:
        """Average utilisation over time, best case and worst; replicas too."""
        panels = [
            Panel(
                title=f"Average utilisation, {case} case",
                y="%",
                series=[
                    over_runs(name, runs, self._utilisation) for name, runs in results.items() if name.endswith(case)
                ],
            )
            for case in ("best", "worst")
        ]
        panels.append(
            Panel(
                title="Replicas",
                y="replicas",
                series=[over_runs(name, runs, self._replicas) for name, runs in results.items()],
            )
        )
        title = "Scaling in by merging, and by killing what has become empty"
        lines = self._headlines(results)
        return Figure(number=number, title=title, x="time (s of the paper)", panels=panels, headlines=lines)

    def _headlines(self, results: Results) -> list[Headline]:
        pairs = list(zip(results.get("kill-worst", []), results.get("splitmerge-worst", []), strict=False))
        sooner = [100 * (1 - self.first_gone(ours) / self.first_gone(theirs)) for theirs, ours in pairs]
        better = [100 * (self.average(ours) / self.average(theirs) - 1) for theirs, ours in pairs]
        moved = [run for name, runs in results.items() if name.startswith("splitmerge") for run in runs]
        drops = [100.0 * run["moves"]["dropped"] / run["packets"] for run in moved]
        lost = [100.0 * run["lost"] / run["packets"] for run in moved]
        gone, used = "first replica gone sooner, worst case", "average utilisation higher, worst case"
        return [
            *headline(gone, "%", sooner, paper=PAPER_FASTER, bar=PAPER_FASTER, better="least"),
            *headline(used, "%", better, paper=PAPER_BETTER, bar=PAPER_BETTER, better="above"),
            *headline("packets dropped by moves", "%", drops, paper=PAPER_DROPS, bar=0.0),
            *headline("packets lost anywhere, merging", "%", lost, paper=PAPER_DROPS, bar=0.0),
            *late(results),
        ]

    # -- one run -------------------------------------------------------------------------------------------------

    def _alive(self, at: float) -> int:
        """Flows that have not ended by then (seconds of the run)."""
        return max(0, self.flows - int(at / self.scaled(self.every)))

    def _steps(self, run: Raw) -> list[tuple[float, int]]:
        """(seconds, replicas) on a grid of `bin` within the run."""
        width = self.scaled(self.bin)
        steps = []
        for place in range(round(self.seconds / width)):
            at = (place + 0.5) * width
            count = self.replicas
            for when, replicas in run["replicas"]:
                if when > at:
                    break
                count = replicas
            steps.append((at, count))
        return steps

    def _utilisation(self, run: Raw) -> dict[float, float]:
        return {
            at / self.time_scale: 100.0 * self._alive(at) / (self.flows_each * max(count, 1))
            for at, count in self._steps(run)
        }

    def _replicas(self, run: Raw) -> dict[float, float]:
        return {at / self.time_scale: float(count) for at, count in self._steps(run)}

    def average(self, run: Raw) -> float:
        """Utilisation over the whole run, in percent."""
        return fmean(self._utilisation(run).values())

    def first_gone(self, run: Raw) -> float:
        """When the first replica was gone, in seconds of the paper; the run's end if none was."""
        gone = (at for at, replicas in run["replicas"] if at > 0 and replicas < self.replicas)
        return min(next(gone, self.seconds), self.seconds) / self.time_scale


def key(flow: int) -> str:
    """The flow's key."""
    here, there = (bytes(map(int, each.split("."))) for each in (CLIENT, SERVER))
    return str(FlowKey.of(UDP, here, _FIRST_PORT + flow, there, STREAM_PORT))
