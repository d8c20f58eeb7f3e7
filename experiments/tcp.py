"""Figure 12: one TCP stream through the compute-bound middlebox, moved twice (§5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from benchmarks.migration import tcp
from benchmarks.migration.bed import bed
from experiments.beds import MODE
from experiments.errors import ExperimentFailed
from experiments.experiment import Experiment, Results
from experiments.figure import Figure, Headline, Mark, Panel, Raw, over_runs
from experiments.spread import Spread

PAPER_DIP = 14.0
"""Percent; §5.4: 14 to 31."""
BAR = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcp(Experiment):
    """iperf3 as fast as it goes; everything moves to the other replica at each of ``moves_at``."""

    name: ClassVar[str] = "tcp"
    figures: ClassVar[tuple[int, ...]] = (12,)
    variants: ClassVar[tuple[str, ...]] = ("baseline", "splitmerge")

    duration: float = 60.0
    """§5.4, figure 12."""
    moves_at: tuple[float, ...] = (20.0, 40.0)
    """§5.4."""
    sample: float = 1.0
    """Seconds of a sample (§5.4)."""
    cost_us: float = 20.0
    """CPU that a packet costs in the middlebox. Ours: the paper states none."""
    warm_up: float = 2.0
    """Seconds in which the stream finds its speed, not looked at."""

    @property
    def seconds(self) -> float:
        """Whole seconds: iperf3 knows no others."""
        return max(3, round(self.scaled(self.duration)))

    @property
    def sample_seconds(self) -> float:
        """A sample here; iperf3's shortest is 0.1 s."""
        return max(0.1, self.scaled(self.sample))

    def measure(self, variant: str, run: int) -> Raw:
        """One run of iperf3."""
        if missing := tcp.available():
            raise ExperimentFailed(self.name, missing)
        at = tuple(self.scaled(each) for each in self.moves_at)
        mode = MODE if variant == "splitmerge" else None
        config = {"cost_us": self.cost_us}
        with bed(self.target, "middleboxes.compute:Compute", middlebox_config=config) as made:
            return tcp.measure(made, int(self.seconds), at, mode, self.sample_seconds, received=True)

    def draw(self, number: int, results: Results) -> Figure:
        """Throughput over time, and the dip: of the samples of a move and the next, against the run's others."""
        series = [over_runs(variant, runs, self._over_time) for variant, runs in results.items()]
        marks = [Mark("x", at, "move") for at in self.moves_at]
        what = "drop of throughput in the samples of a move"
        dips = [
            Headline(
                what=what if variant == "splitmerge" else f"{what}, nothing moved",
                unit="%",
                paper=PAPER_DIP if variant == "splitmerge" else None,
                ours=Spread.of([self.dip(run) for run in runs]),
                bar=BAR if variant == "splitmerge" else None,
            )
            for variant, runs in results.items()
        ]
        panel = Panel(title="One TCP stream", y="Mbit/s", series=series, marks=marks)
        title = "TCP throughput while the flow moves"
        return Figure(number=number, title=title, x="time (s of the paper)", panels=[panel], headlines=dips)

    def _over_time(self, run: Raw) -> dict[float, float]:
        return {number * self.sample: rate for number, rate in enumerate(run["mbit_per_s"])}

    def dip(self, run: Raw) -> float:
        """Percent; negative if more passed while a flow moved."""
        rates = run["mbit_per_s"]
        first = round(self.warm_up / self.sample)
        moving = {int(at / self.sample) + step for at in self.moves_at for step in (0, 1)}
        touched = [rate for number, rate in enumerate(rates) if number >= first and number in moving]
        others = [rate for number, rate in enumerate(rates) if number >= first and number not in moving]
        if not touched or not others:
            raise ExperimentFailed(self.name, f"{len(rates)} samples are too few: use a larger --time-scale")
        return 100 * (1 - fmean(touched) / fmean(others))
