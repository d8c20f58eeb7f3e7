"""Figure 12: one TCP stream through the compute-bound middlebox, moved twice (§5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, median
from typing import ClassVar

from benchmarks.migration import dips, tcp
from benchmarks.migration.bed import bed
from experiments.beds import MODE
from experiments.errors import ExperimentFailed
from experiments.experiment import Experiment, Results
from experiments.figure import Figure, Headline, Mark, Panel, Raw, headline, over_runs

PAPER_DIP = 14.0
"""Percent; §5.4: 14 to 31."""
BAR = 2.0
_MOVED, _STILL = "splitmerge", "baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcp(Experiment):
    """iperf3 held to a rate, as by a link; everything moves to the other replica at each of ``moves_at``."""

    name: ClassVar[str] = "tcp"
    figures: ClassVar[tuple[int, ...]] = (12,)
    variants: ClassVar[tuple[str, ...]] = (_STILL, _MOVED)

    duration: float = 60.0
    """§5.4, figure 12."""
    moves_at: tuple[float, ...] = (20.0, 40.0)
    """§5.4."""
    rate: float = 100.0
    """Mbit/s at most, half of what a replica has processor time for; 0: as fast as it goes. Ours: the paper does not
    say what bound its stream. One that the replica bounds fills its receive ring, 10 MB of packets to be processed
    before the state can leave (docs/evaluation.md)."""
    sample: float = 1.0
    """Seconds of a sample (§5.4)."""
    cost_us: float = 20.0
    """CPU that a packet costs in the middlebox. Ours: the paper states none."""
    warm_up: float = 2.0
    """Seconds in which the stream finds its speed, not looked at."""
    congestion: str = tcp.CONGESTION
    """Congestion control of both ends: runs with another one are other runs. Ours: the paper states none."""

    @property
    def seconds(self) -> float:
        """Whole seconds: iperf3 knows no others."""
        return max(3, round(self.scaled(self.duration)))

    @property
    def sample_seconds(self) -> float:
        """A sample here; iperf3's shortest is 0.1 s."""
        return max(0.1, self.scaled(self.sample))

    def measure(self, variant: str, run: int) -> Raw:
        """One run of iperf3. :raises ExperimentFailed: if a move did not move the stream."""
        if missing := tcp.available():
            raise ExperimentFailed(self.name, missing)
        at = tuple(self.scaled(each) for each in self.moves_at)
        mode = MODE if variant == _MOVED else None
        config = {"cost_us": self.cost_us}
        with bed(self.target, "middleboxes.compute:Compute", middlebox_config=config) as made:
            result = tcp.measure(
                made, int(self.seconds), at, mode, self.sample_seconds, self.congestion,
                rate=self.rate, everything=True, received=True,
            )  # fmt: skip
        if not all(move["staged"] for move in result["moved"]):
            raise ExperimentFailed(self.name, f"a move without a flow: {result['moved']}")
        return result

    def draw(self, number: int, results: Results) -> Figure:
        """Throughput over time; how low it is about a move, with moves and without; segments sent again."""
        series = [over_runs(variant, runs, self._over_time) for variant, runs in results.items()]
        marks = [Mark("x", at, "move") for at in self.moves_at]
        panel = Panel(title="One TCP stream", y="Mbit/s", series=series, marks=marks)
        title = "TCP throughput while the flow moves"
        lines = self._headlines(results)
        return Figure(number=number, title=title, x="time (s of the paper)", panels=[panel], headlines=lines)

    def _headlines(self, results: Results) -> list[Headline]:
        moved, still = results.get(_MOVED, []), results.get(_STILL, [])
        low, again = "drop of throughput in a move's lowest sample", "TCP segments sent again"
        beyond = [100 - 100 * (100 - self.dip(a)) / (100 - self.dip(b)) for a, b in zip(moved, still, strict=False)]
        return [
            *headline(low, "%", [self.dip(run) for run in moved], paper=PAPER_DIP),
            *headline(f"{low}, nothing moved", "%", [self.dip(run) for run in still]),
            *headline("the first beyond the second, run by run", "%", beyond, bar=BAR),
            *headline(again, "segments", [run["retransmits"] for run in moved]),
            *headline(f"{again}, nothing moved", "segments", [run["retransmits"] for run in still]),
        ]

    def _over_time(self, run: Raw) -> dict[float, float]:
        width = self.sample_seconds / self.time_scale
        return {number * width: rate for number, rate in enumerate(run["mbit_per_s"])}

    def dip(self, run: Raw) -> float:
        """Percent: the moves' lowest samples on average, against the median of those apart from moves."""
        rates = run["mbit_per_s"]
        first, *places = (self.scaled(at) / self.sample_seconds for at in (self.warm_up, *self.moves_at))
        about, others = dips.near(rates, places, round(first)), dips.apart(rates, places, round(first))
        if len(about) < len(places) or not others:
            raise ExperimentFailed(self.name, f"{len(rates)} samples are too few: use a larger --time-scale")
        return 100 * (1 - fmean(map(min, about)) / median(others))
