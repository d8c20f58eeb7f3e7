"""Statistics, storage, drawing and the table, on an experiment whose runs are arithmetic."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from rich.console import Console

from experiments import table
from experiments.catalogue import figures, of_figures
from experiments.errors import ExperimentFailed, UnknownFigure
from experiments.experiment import Experiment, Results
from experiments.figure import Figure, Headline, Mark, Panel, Raw, over_runs
from experiments.flow import Flow
from experiments.output import read
from experiments.runner import Runner
from experiments.spread import Spread
from experiments.tcp import Tcp
from splitmerge.errors import BadInput, SplitmergeError

ROOT = Path(__file__).resolve().parents[2]
CALLS: list[tuple[str, int]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums(Experiment):
    """A figure whose points are known."""

    name: ClassVar[str] = "sums"
    figures: ClassVar[tuple[int, ...]] = (99,)
    variants: ClassVar[tuple[str, ...]] = ("a", "b")
    fails: tuple[int, ...] = field(default=())

    @property
    def seconds(self) -> float:
        return 0.0

    def measure(self, variant: str, run: int) -> Raw:
        CALLS.append((variant, run))
        if run in self.fails:
            raise SplitmergeError("no")
        return {"points": [[x, x * (run + 1)] for x in range(3)]}

    def draw(self, number: int, results: Results) -> Figure:
        series = [over_runs(name, runs, lambda run: dict(run["points"])) for name, runs in results.items()]
        line = Headline(what="the last", unit="x", paper=2.0, ours=series[0].points[-1].y, bar=3.0, better="above")
        panels = [
            Panel(title=kind, y="y", series=series, marks=[Mark("x", 1, "here")], kind=kind)
            for kind in ("line", "bars")
        ]
        return Figure(number=number, title="Sums", x="x", panels=panels, headlines=[line])


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


def runner(directory: Path, runs: int) -> Runner:
    return Runner(directory, runs, Console(file=open("/dev/null", "w"), width=80))


@pytest.mark.parametrize(
    ("values", "mean", "half"),
    [
        ([2.0, 2.0, 2.0], 2.0, 0.0),
        ([1.0, 3.0], 2.0, 12.706),  # t(1) times a standard error of 1
        ([1.0, 2.0, 3.0, 4.0, 5.0], 3.0, 2.776 * math.sqrt(2.5 / 5)),
    ],
)
def test_the_interval_is_students(values: list[float], mean: float, half: float) -> None:
    spread = Spread.of(values)
    assert (spread.mean, spread.runs) == (mean, len(values))
    assert (spread.low, spread.high) == (pytest.approx(mean - half), pytest.approx(mean + half))


def test_one_run_has_no_interval_and_none_no_mean() -> None:
    assert math.isnan(Spread.of([1.0]).low)
    with pytest.raises(ValueError, match="no runs"):
        Spread.of([])


def test_runs_take_turns_are_kept_and_are_not_made_again(tmp_path: Path) -> None:
    runner(tmp_path, 2).measure([Sums()])
    assert CALLS == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    runner(tmp_path, 3).measure([Sums()])
    assert CALLS[4:] == [("a", 2), ("b", 2)]
    (tmp_path / "raw/sums/a-1.json").write_text("{")  # cut short
    assert runner(tmp_path, 3).missing(Sums()) == [("a", 1)]


def test_other_parameters_are_other_runs(tmp_path: Path) -> None:
    runner(tmp_path, 1).measure([Sums()])
    assert runner(tmp_path, 1).missing(Sums()) == []
    assert len(runner(tmp_path, 1).missing(Sums(time_scale=0.5))) == 2
    with pytest.raises(ExperimentFailed, match="no run of a, b"):
        runner(tmp_path, 1).draw(Sums(load=0.5))


def test_a_run_that_fails_is_made_once_more_and_what_was_made_stays(tmp_path: Path) -> None:
    with pytest.raises(SplitmergeError, match="no"):
        runner(tmp_path, 2).measure([Sums(fails=(1,))])
    assert CALLS == [("a", 0), ("b", 0), ("a", 1), ("a", 1)]
    assert runner(tmp_path, 2).missing(Sums(fails=(1,))) == [("a", 1), ("b", 1)]


def test_a_figure_is_three_files_and_a_line_of_the_table(tmp_path: Path) -> None:
    runner(tmp_path, 2).measure([Sums(load=0.5)])
    (summary,) = runner(tmp_path, 2).draw(Sums(load=0.5))
    rows = list(csv.DictReader((tmp_path / "fig99.csv").open()))
    assert len(rows) == 12 and {row["load"] for row in rows} == {"0.5"}
    last = next(row for row in rows if (row["panel"], row["series"], row["x"]) == ("line", "a", "2"))
    assert (last["mean"], last["median"], last["runs"]) == ("3", "3", "2")
    assert (tmp_path / "fig99.png").read_bytes().startswith(b"\x89PNG")
    assert read(tmp_path) == [summary] and summary.runs == {"a": 2, "b": 2}
    text = table.markdown([summary])
    assert "| 99 | the last | 2 x | 3 x (-9.71 to 15.7) | 1.50 | > 3 x | no | `make fig99` |" in text
    assert "load factor 0.5" in text


def test_one_run_is_read_back_without_an_interval(tmp_path: Path) -> None:
    runner(tmp_path, 1).measure([Sums()])
    runner(tmp_path, 1).draw(Sums())
    (summary,) = read(tmp_path)
    assert math.isnan(summary.headlines[0].ours.low) and "(nan" not in table.markdown([summary])


def test_the_table_goes_between_its_marks_only(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.write_into(page, [])
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text and "| Figure |" in text
    page.write_text("nothing")
    with pytest.raises(BadInput, match="no place for the table"):
        table.write_into(page, [])


@pytest.mark.parametrize(
    ("better", "bar", "met"),
    [("above", 1.0, False), ("above", 0.9, True), ("below", 1.0, False), ("least", 1.0, True), ("most", 1.0, True)],
)
def test_a_bar_is_met_by_the_mean(better: str, bar: float, met: bool) -> None:
    assert Headline(what="", unit="", paper=None, ours=Spread.of([1.0]), bar=bar, better=better).met is met  # type: ignore[arg-type]


def test_every_figure_of_the_section_has_one_experiment() -> None:
    assert {kind.name for kind in of_figures([13, 14])} == {"flow"}
    assert set(figures()) >= {12, 13, 14, 15}
    with pytest.raises(UnknownFigure, match="figure 7"):
        of_figures([7])


def test_parameters_are_the_papers_unless_said_otherwise() -> None:
    assert (Tcp().duration, Tcp().moves_at, Flow().duration, Flow().move_at) == (60.0, (20.0, 40.0), 10.0, 3.0)
    assert Tcp(time_scale=0.5).seconds == 30
    assert json.loads(json.dumps(Flow().parameters())) == Flow().parameters()


def test_a_dip_is_that_of_the_moves_samples() -> None:
    rates = [10.0, 50.0] + [100.0] * 58  # the first two: warming up
    for second in (20, 41):
        rates[second] = 80.0
    assert Tcp().dip({"mbit_per_s": rates}) == pytest.approx(10.0)
    with pytest.raises(ExperimentFailed, match="too few"):
        Tcp().dip({"mbit_per_s": [1.0, 1.0, 1.0]})


def test_a_flows_disturbance_is_looked_for_after_its_move() -> None:
    flow = Flow(rates=(1.0,))
    bins = [[n / 100, 1, 100, 1.0, 1.0] for n in range(1000)]
    bins[305][4] = bins[305][3] = 9.0  # 3.05 s: the move
    bins[700][4] = 50.0  # something else, later
    del bins[306:308]
    run = {"packets": 1000, "lost": 5, "move_at": 3.0, "bins": bins}
    assert flow._extra_latency(run) == 8.0
    assert flow._throughput_drop(run) == pytest.approx(40.0)
    latency = flow.draw(13, {"baseline": [{"1": run}], "splitmerge": [{"1": run}]})
    assert [line.ours.mean for line in latency.headlines] == [8.0, 8.0]
    assert flow.draw(14, {"splitmerge": [{"1": run}]}).headlines[0].ours.mean == 0.5


@pytest.mark.parametrize(
    ("words", "said"),
    [(["7"], "figure 7"), (["--runs", "0"], "--runs"), (["--time-scale", "0"], "--time-scale")],
)
def test_the_command_says_what_is_wrong(words: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *words], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_fields_of_an_experiment_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Flow().load = 2.0  # type: ignore[misc]
