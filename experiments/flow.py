"""Figures 13, 14 and 15: one UDP flow through the packet modifier, moved once (§5.4)."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar

from benchmarks.migration.bed import Bed, bed
from experiments.beds import MODE, SERVER, STREAM_PORT, command, heard, left, pause_until
from experiments.errors import ExperimentFailed
from experiments.experiment import Experiment, Results
from experiments.figure import Figure, Headline, Mark, Panel, Point, Raw, Series, over_runs
from experiments.spread import Spread
from splitmerge.flowkey import FlowKey
from traffic.streams import OVERHEAD, Sent, account

PAPER_LATENCY, PAPER_DROPS = 1.0, 1.0
"""§5.4: at most 1 ms more latency; less than 1 % dropped."""
Bins = list[list[float]]
"""Of each bin: packets, bytes, mean and largest latency (ms)."""
OfWindow = Callable[[Bins], float | None]
OfRun = Callable[[Raw], float]
_MOVED, _STILL = "splitmerge", "baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow(Experiment):
    """One flow from inside to outside, at one rate after the other; the move is asked for at ``move_at``."""

    name: ClassVar[str] = "flow"
    figures: ClassVar[tuple[int, ...]] = (13, 14, 15)
    variants: ClassVar[tuple[str, ...]] = (_STILL, _MOVED)

    duration: float = 10.0
    """§5.4."""
    move_at: float = 3.0
    """§5.4."""
    rates: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 20.0)
    """Mbit/s, headers included. Ours: the text of §5.4 says "different flow rates"."""
    size: int = 1250 - OVERHEAD
    """Bytes of payload. Ours."""
    bin: float = 0.01
    """Seconds that one figure of the receiver stands for. Not scaled."""
    window: float = 0.05
    """Of the moving average in figure 15 (§5.4). Not scaled."""
    disturbed: float = 0.5
    """Seconds after the move in which latency fluctuates (§5.4). Not scaled."""

    @property
    def seconds(self) -> float:
        """All rates, one after the other."""
        return len(self.rates) * self.scaled(self.duration)

    def measure(self, variant: str, run: int) -> Raw:
        """All rates in one lab; each is a flow of its own."""
        with bed(self.target, "middleboxes.alg:Alg") as made:
            return {
                f"{rate:g}": self._one(made, variant, STREAM_PORT + number, rate)
                for number, rate in enumerate(self.rates)
            }

    def _one(self, made: Bed, variant: str, port: int, rate: float) -> Raw:
        pps = rate * self.load * 1e6 / 8 / (self.size + OVERHEAD)
        moved: dict[str, Any] = {}
        listen = ("receive", "--bind", SERVER, "--port", port, "--bin", self.bin)
        words = (
            "send", "--server", SERVER, "--port", port, "--rate", pps, "--size", self.size, "--first-port", port,
            "--duration", self.scaled(self.duration),
        )  # fmt: skip
        with ExitStack() as stack:
            receive = command(made, stack, "server", "streams", *listen)
            send = command(made, stack, "client", "streams", *words)
            began = time.monotonic()
            pause_until(began + self.scaled(self.move_at))
            if variant == _MOVED:
                at = time.monotonic()
                moved = made.move({"keys": [key(port)]}, *self._where(made, port), MODE) | {"at": at}
            sent = left(self.name, send.report(Sent))
            received = heard(self.name, receive)
        tally = account(sent, received)
        return {
            "packets": tally.sent,
            "lost": tally.lost,
            "reordered": tally.reordered,
            "late": sent.late,
            "move": moved,
            "move_at": moved.get("at", began + self.scaled(self.move_at)) - sent.started,
            "bins": [
                [each.at - sent.started, each.packets, each.bytes, each.mean_ms, each.max_ms] for each in received.bins
            ],
        }

    def _where(self, made: Bed, port: int) -> tuple[int, int]:
        """(the replica that has the flow, the other one)."""
        held = [flow["replica"] for flow in made.client.get("/flows") if flow["flow"] == key(port)]
        live = [int(each["replica"]) for each in made.live()]
        if len(held) != 1 or len(live) != 2:
            raise ExperimentFailed(self.name, f"flow {key(port)} is at replicas {held} of {live}")
        return held[0], next(each for each in live if each != held[0])

    # -- figures -------------------------------------------------------------------------------------------------

    def draw(self, number: int, results: Results) -> Figure:
        """13: latency; 14: drops; 15: throughput."""
        return {13: self._latency, 14: self._drops, 15: self._throughput}[number](results)

    def _latency(self, results: Results) -> Figure:
        panels = self._over_time(results, "Latency", "ms", _mean_latency)
        lines = self._headlines(results, self._extra_latency, "largest extra latency", "ms", PAPER_LATENCY)
        title = "Latency while the flow moves"
        return Figure(number=13, title=title, x="time (s of the paper)", panels=panels, headlines=lines)

    def _drops(self, results: Results) -> Figure:
        series = [Series(variant, self._drops_by_rate(runs)) for variant, runs in results.items()]
        mark = Mark("y", PAPER_DROPS, "paper: below 1 %")
        panel = Panel(title="Packets dropped in the whole flow", y="%", series=series, marks=[mark], kind="bars")
        lines = self._headlines(results, _drop_rate, "packets dropped in the whole flow", "%", PAPER_DROPS, bar=0.0)
        return Figure(number=14, title="Drop rate", x="rate (Mbit/s)", panels=[panel], headlines=lines)

    def _drops_by_rate(self, runs: list[Raw]) -> list[Point]:
        return [Point(rate, Spread.of([_drop_rate(run) for run in _of(runs, rate)])) for rate in self.rates]

    def _throughput(self, results: Results) -> Figure:
        panels = self._over_time(results, f"Throughput in {self.window * 1000:g} ms", "Mbit/s", self._mbit)
        lines = self._headlines(results, self._throughput_drop, "largest drop of throughput in a window", "%", None)
        title = "Throughput while the flow moves"
        return Figure(number=15, title=title, x="time (s of the paper)", panels=panels, headlines=lines)

    def _over_time(self, results: Results, title: str, unit: str, of: OfWindow) -> list[Panel]:
        """A panel a rate."""
        marks = [Mark("x", self.move_at, "move")]
        return [
            Panel(
                title=f"{title}, {rate:g} Mbit/s",
                y=unit,
                marks=marks,
                series=[
                    over_runs(variant, _of(runs, rate), lambda run: self._curve(run, of))
                    for variant, runs in results.items()
                ],
            )
            for rate in self.rates
        ]

    def _headlines(
        self, results: Results, of: OfRun, what: str, unit: str, paper: float | None, bar: float | None = None
    ) -> list[Headline]:
        """The worst rate of each run, over runs; without a move it tells how quiet the machine was."""
        return [
            Headline(
                what=what if variant == _MOVED else f"{what}, nothing moved",
                unit=unit,
                paper=paper if variant == _MOVED else None,
                ours=Spread.of([max(of(run[f"{rate:g}"]) for rate in self.rates) for run in runs]),
                bar=bar if variant == _MOVED else None,
            )
            for variant, runs in results.items()
        ]

    # -- one run -------------------------------------------------------------------------------------------------

    def _curve(self, run: Raw, of: OfWindow) -> dict[float, float]:
        """Paper's seconds → a figure of the window that begins there. The last window may be cut short: left out."""
        count = round(self.window / self.bin)
        bins = {round(at / self.bin): values for at, *values in run["bins"]}
        last = max(bins, default=0) - count
        return {
            place * self.bin / self.time_scale: value
            for place in range(0, last, count)
            if (value := of([bins[n] for n in range(place, place + count) if n in bins])) is not None
        }

    def _mbit(self, bins: Bins) -> float:
        return sum(packets * OVERHEAD + octets for packets, octets, _, _ in bins) * 8 / 1e6 / self.window

    def _windows(self, run: Raw) -> list[tuple[float, float]]:
        """(beginning in seconds, Mbit/s) of every window, moved on bin by bin."""
        count = round(self.window / self.bin)
        bins = {round(at / self.bin): values for at, *values in run["bins"]}
        return [
            (place * self.bin, self._mbit([bins[n] for n in range(place, place + count) if n in bins]))
            for place in range(1, max(bins, default=0) - count)
        ]

    def _is_disturbed(self, run: Raw, at: float) -> bool:
        return bool(run["move_at"] - self.window <= at <= run["move_at"] + self.disturbed)

    def _extra_latency(self, run: Raw) -> float:
        """The largest latency after the move less the median of the largest ones of the bins before it, in ms."""
        before = [most for at, _, _, _, most in run["bins"] if at < run["move_at"] - self.window]
        after = [most for at, _, _, _, most in run["bins"] if self._is_disturbed(run, at)]
        if not before or not after:
            raise ExperimentFailed(self.name, "nothing arrived before or after the move: use a larger --time-scale")
        return float(max(after) - median(before))

    def _throughput_drop(self, run: Raw) -> float:
        """Of the emptiest window after the move, against the median of the others, in percent."""
        windows = self._windows(run)
        usual = [rate for at, rate in windows if not self._is_disturbed(run, at)]
        after = [rate for at, rate in windows if self._is_disturbed(run, at)]
        if not usual or not after:
            raise ExperimentFailed(self.name, "too short for windows: use a larger --time-scale")
        return 100 * (1 - min(after) / median(usual))


def key(port: int) -> str:
    """The flow's key: its port inside is the receiver's."""
    return str(FlowKey.of(17, bytes((10, 0, 1, 2)), port, bytes((10, 0, 2, 2)), port))


def _of(runs: list[Raw], rate: float) -> list[Raw]:
    return [run[f"{rate:g}"] for run in runs]


def _mean_latency(bins: Bins) -> float | None:
    packets = sum(each[0] for each in bins)
    return sum(each[0] * each[2] for each in bins) / packets if packets else None


def _drop_rate(run: Raw) -> float:
    return 100.0 * float(run["lost"]) / float(run["packets"])
