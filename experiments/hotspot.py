"""Figures 9 and 10: the hotspot that an uneven load leaves, with rebalancing and without (§5.2)."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any, ClassVar

from benchmarks.migration.bed import Bed, bed
from experiments.beds import (
    LEAD,
    SERVER,
    STREAM_PORT,
    command,
    diary,
    dropped,
    heard,
    left,
    loads_over_time,
    looks,
    now,
    pause_until,
    replicas_over_time,
)  # fmt: skip
from experiments.errors import ExperimentFailed
from experiments.experiment import Experiment, Results
from experiments.figure import Figure, Headline, Mark, Panel, Raw, headline, late, lost, over_runs
from traffic.streams import OVERHEAD, Sent, account

PAPER_MAX, PAPER_DEVIATION = 26.0, 73.0
"""Percent; §5.2: reduction of the average maximum latency, and of its standard deviation, during the hotspot."""
_WITH, _WITHOUT = "splitmerge", "no-rebalancing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hotspot(Experiment):
    """Flows are added one by one; at `split_at` a replica is added. Then one has 100 flows, unless load is evened.

    A packet costs so much that ``split_at`` flows use `busy` of a processor: the policy lets a replica fill up, as in
    the paper. The middlebox's own cost is what is left beside the work that is set.
    """

    name: ClassVar[str] = "hotspot"
    figures: ClassVar[tuple[int, ...]] = (9, 10)
    variants: ClassVar[tuple[str, ...]] = (_WITHOUT, _WITH)

    load: float = 0.04
    """1 Mbit/s a flow is 100 packets/s of 1250 bytes; 100 flows of 4 packets/s are what one Python process serves at
    2 ms of work a packet, beside the rest of the lab on two cores."""
    flows: int = 101
    """§5.2."""
    mbit: float = 1.0
    """Of a flow (§5.2), headers included."""
    every: float = 0.5
    """Seconds between two flows (§5.2)."""
    split_at: int = 100
    """Flows of one replica (§5.2)."""
    duration: float = 90.0
    """Figure 10's end."""
    hot_from: float = 51.0
    """The hotspot is looked at from here: 101 flows are there at 50.5 s (§5.2), plus the time to act."""
    bin: float = 1.0
    """Seconds of a point. Ours."""
    size: int = 1250 - OVERHEAD
    """Bytes of payload. Ours."""
    poisson: bool = True
    """Packets of a flow leave at exponential intervals: so few a second, evenly spaced, would repeat one pattern of
    waiting for ever, where 100 packets/s of senders with clocks of their own do not. Ours."""
    busy: float = 0.95
    """Of one processor, by ``split_at`` flows: they are what it can serve (§5.2). Ours."""
    own_us: float = 75.0
    """What a packet costs beside the work that is set, about, on the machine that the other figures were chosen on."""
    pinned: bool = True
    """Each replica has a processor of its own (`experiments.beds.Pin`), as a machine of its own would. Ours."""

    @property
    def seconds(self) -> float:
        """As in the paper's figures."""
        return self.scaled(self.duration)

    @property
    def pps(self) -> float:
        """Packets a second of a flow."""
        return self.mbit * self.load * 1e6 / 8 / (self.size + OVERHEAD)

    @property
    def cost_us(self) -> float:
        """Work that is set for a packet."""
        return max(0.0, self.busy * 1e6 / (self.split_at * self.pps) - self.own_us)

    def measure(self, variant: str, run: int) -> Raw:
        """One run."""
        settings = {"split_above": self.split_at - 1, "merge_below": 0}
        section = {
            "settings": settings, "rebalance": variant == _WITH, "max_replicas": 2,
            "consecutive": 1, "interval": looks(min(0.1, self.scaled(0.1))), "cool_down": 0.0,
        }  # fmt: skip
        with bed(
            self.target,
            "middleboxes.compute:Compute",
            replicas=1,
            middlebox_config={"cost_us": self.cost_us, "idle": 10.0},
            assignment="least-loaded",
            policy="flow-count",
            elasticity=section,
        ) as made:
            return self._run(made, run)

    def _run(self, made: Bed, run: int) -> Raw:
        every, width = self.scaled(self.every), self.scaled(self.bin)
        with ExitStack() as stack:
            book = stack.enter_context(diary(made, pin=self.pinned))
            receive = command(
                made, stack, "server", "streams", "receive", "--bind", SERVER, "--port", STREAM_PORT, "--bin", width
            )
            begin = now() + LEAD
            send = command(
                made, stack, "client", "streams", "send", "--server", SERVER, "--port", STREAM_PORT,
                "--flows", self.flows, "--rate", self.pps, "--size", self.size, "--every", every,
                "--seed", run + 1, "--at", begin, *(["--poisson"] if self.poisson else []),
            )  # fmt: skip
            pause_until(begin + self.seconds)
            send.ask_to_stop()
            sent = left(self.name, send.report(Sent))
            received = heard(self.name, receive)
        replicas = replicas_over_time(book.looks, sent.started)
        if replicas[-1][1] != 2:
            raise ExperimentFailed(self.name, f"{replicas[-1][1]} replicas at the end, 2 wanted")
        tally = account(sent, received)
        return {
            "packets": tally.sent,
            "lost": tally.lost,
            "moves": dropped(made),
            "late": sent.late,
            "loads": loads_over_time(book.looks, sent.started),
            "bins": [[each.at - sent.started, each.packets, each.mean_ms, each.max_ms] for each in received.bins],
        }

    # -- figures -------------------------------------------------------------------------------------------------

    def draw(self, number: int, results: Results) -> Figure:
        """9: maximum latency over time; 10: average latency in the hotspot."""
        return self._maximum(results) if number == 9 else self._average(results)

    def _maximum(self, results: Results) -> Figure:
        series = [over_runs(name, runs, lambda run: self._curve(run, 2)) for name, runs in results.items()]
        marks = [Mark("x", self.every * (self.split_at - 1), "100 flows")]
        panel = Panel(title="Maximum latency", y="ms", series=series, marks=marks)
        lines = [
            *self._reduction(results, "average maximum latency in the hotspot, reduction", fmean, PAPER_MAX),
            *self._reduction(results, "its standard deviation, reduction", pstdev, PAPER_DEVIATION),
            *lost(results, bars={_WITH: 0.0}),
            *late(results),
        ]
        title = "Maximum latency, with rebalancing and without"
        return Figure(number=9, title=title, x="time (s of the paper)", panels=[panel], headlines=lines)

    def _average(self, results: Results) -> Figure:
        series = [
            over_runs(name, runs, lambda run: {x: y for x, y in self._curve(run, 1).items() if x >= self.hot_from - 1})
            for name, runs in results.items()
        ]
        panel = Panel(title="Average latency in the hotspot", y="ms", series=series)
        lines = [
            line
            for name, runs in results.items()
            for line in headline(
                f"average latency in the hotspot, {name}", "ms", [fmean(self._hot(run, 1)) for run in runs]
            )
        ]
        title = "Average latency in the hotspot"
        return Figure(number=10, title=title, x="time (s of the paper)", panels=[panel], headlines=lines)

    def _reduction(self, results: Results, what: str, of: Any, paper: float) -> list[Headline]:
        """Of each run with rebalancing against the run without it of the same number, which came just before it."""
        pairs = zip(results.get(_WITHOUT, []), results.get(_WITH, []), strict=False)
        values = [100 * (1 - of(self._hot(cool, 2)) / of(self._hot(hot, 2))) for hot, cool in pairs]
        return headline(what, "%", values, paper=paper, bar=paper, better="above")

    def _curve(self, run: Raw, column: int) -> dict[float, float]:
        """Paper's seconds → 1: mean, 2: largest latency, in the bin nearest to it."""
        return {
            round(at / self.time_scale / self.bin) * self.bin: values[column]
            for at, *values in run["bins"]
            if 0 <= at < self.seconds
        }

    def _hot(self, run: Raw, column: int) -> list[float]:
        values = [y for x, y in self._curve(run, column).items() if x >= self.hot_from]
        if len(values) < 2:
            raise ExperimentFailed(self.name, "too few points in the hotspot: use a larger --time-scale")
        return values
