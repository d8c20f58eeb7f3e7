"""Statistics, storage, drawing and the table, on an experiment whose runs are arithmetic."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from rich.console import Console

from benchmarks.migration import dips, tcp
from benchmarks.migration.bed import Bed
from experiments import table
from experiments.beds import MODE, Pin, dropped, left
from experiments.burst import detected
from experiments.catalogue import figures, of_figures
from experiments.errors import ExperimentFailed, UnknownFigure
from experiments.experiment import Experiment, Results
from experiments.figure import Figure, Headline, Mark, Panel, Raw, headline, over_runs
from experiments.flow import Flow
from experiments.hotspot import Hotspot
from experiments.output import read
from experiments.runner import Runner
from experiments.spread import Spread
from experiments.tcp import Tcp
from splitmerge.client import OrchestratorClient
from splitmerge.errors import BadInput, SplitmergeError
from topo.spec import LabRecord
from traffic.attacks import Attack
from traffic.streams import Sent

ROOT = Path(__file__).resolve().parents[2]
CALLS: list[tuple[str, int]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums(Experiment):
    """A figure whose points are known."""

    name: ClassVar[str] = "sums"
    figures: ClassVar[tuple[int, ...]] = (99,)
    variants: ClassVar[tuple[str, ...]] = ("a", "b")
    fails: tuple[int, ...] = field(default=())
    stumbles: bool = False

    @property
    def seconds(self) -> float:
        return 0.0

    def measure(self, variant: str, run: int) -> Raw:
        CALLS.append((variant, run))
        if run in self.fails:
            raise SplitmergeError("no")
        if self.stumbles and CALLS.count((variant, run)) == 1:
            raise SplitmergeError("stumbled")
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
    return Runner(directory, runs, Console(quiet=True))


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
    assert {"congestion": tcp.CONGESTION, "rate": 100.0}.items() <= Tcp().parameters().items()
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
    assert "| 99 | the last | 2 x | 3 x (-9.71 to 15.7) | 3 x | 1.50 | > 3 x | no | `make fig99` |" in text
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


def test_no_run_escapes_a_bar() -> None:
    (line,) = headline("", "ms", [1.0, 1.0, 9.0], bar=2.0)
    assert not line.met and table.bar(line) == "≤ 2 ms"


def attack(flow: str, due: float) -> Attack:
    return Attack(client=1, flow=flow, due=due, requests=31, answered=31)


@pytest.mark.parametrize(
    ("alerts", "found"),
    [
        ([("a", 9.0), ("a", 91.0), ("b", 21.9)], [True, True, True]),  # the port came again
        ([("a", 9.0), ("b", 20.0)], [True, True, False]),
        ([("a", 91.0), ("b", 20.0)], [False, True, True]),
        ([("a", 9.0), ("a", 9.5), ("a", 91.0)], [False, False, True]),  # twice
        ([("a", 9.0), ("a", 93.0), ("b", 22.1)], [True, False, False]),  # late
        ([("a", 9.0), ("a", 91.0), ("a", 200.0), ("b", 20.0), ("b", 30.0)], [True, False, False]),  # and once more
    ],
)
def test_an_attack_is_detected_by_one_alert_of_its_own(alerts: list[tuple[str, float]], found: list[bool]) -> None:
    assert detected([attack("a", 10.0), attack("b", 20.0), attack("a", 90.0)], alerts, 2.0) == found


def test_an_attack_that_was_never_connected_is_not_detected() -> None:
    assert detected([attack("", 10.0)], [("", 10.0)], 2.0) == [False]


def test_a_run_whose_packets_did_not_leave_does_not_count() -> None:
    whole = Sent(started=0.0, sent=[5], late=0, send_errors=0)
    assert left("x", whole) is whole
    with pytest.raises(ExperimentFailed, match="3 datagrams that the sender's kernel did not take"):
        left("x", msgspec.structs.replace(whole, send_errors=3))


def test_every_figure_of_the_section_has_one_experiment() -> None:
    assert {kind.name for kind in of_figures([13, 14])} == {"flow"}
    assert set(figures()) >= {12, 13, 14, 15}
    with pytest.raises(UnknownFigure, match="figure 7"):
        of_figures([7])


def test_parameters_are_the_papers_unless_said_otherwise() -> None:
    assert (Tcp().duration, Tcp().moves_at, Flow().duration, Flow().move_at) == (60.0, (20.0, 40.0), 10.0, 3.0)
    assert Tcp(time_scale=0.5).seconds == 30
    assert json.loads(json.dumps(Flow().parameters())) == Flow().parameters()


def stream(retransmits: int = 0, **low: float) -> Raw:
    """A TCP run at 100 Mbit/s; ``s19=80`` is 80 in sample 19."""
    rates = [10.0, 50.0] + [100.0] * 58  # the first two: warming up
    for second, rate in low.items():
        rates[int(second[1:])] = rate
    return {"mbit_per_s": rates, "retransmits": retransmits}


@pytest.mark.parametrize("low", [("s19", "s39"), ("s20", "s40"), ("s21", "s41"), ("s19", "s41")])
def test_a_dip_is_that_of_the_moves_lowest_samples_wherever_in_them_the_move_falls(low: tuple[str, str]) -> None:
    assert Tcp().dip(stream(**dict.fromkeys(low, 80.0))) == pytest.approx(20.0)
    run = {**stream(**dict.fromkeys(low, 80.0)), "mode": "x"}
    assert dips.dip([run], [stream()], (20.0, 40.0)) == {"percent": 20, "within_percent": 20, "noise_percent": 0}


def test_samples_that_cannot_be_as_short_as_the_scale_has_them_are_found_all_the_same() -> None:
    short = Tcp(time_scale=0.05)  # 3 s in samples of 0.1 s: moves at 1 s and 2 s
    rates = [100.0] * 30
    rates[10] = rates[19] = 70.0
    assert short.dip({"mbit_per_s": rates}) == pytest.approx(30.0)
    assert (
        short.draw(12, {"splitmerge": [{"mbit_per_s": rates, "retransmits": 0}]}).panels[0].series[0].points[10].x == 20
    )


def test_dips_elsewhere_are_not_the_moves_and_few_samples_are_no_figure() -> None:
    assert Tcp().dip(stream(s30=1.0, s50=1.0)) == 0
    with pytest.raises(ExperimentFailed, match="too few"):
        Tcp().dip({"mbit_per_s": [1.0, 1.0, 1.0]})
    assert dips.dip([{"mbit_per_s": [1.0]}], [], (20.0,))["percent"] is None


def test_figure_12_takes_off_what_is_low_without_moves_and_shows_segments_sent_again() -> None:
    results = {"baseline": [stream(s19=90.0, s39=90.0)], "splitmerge": [stream(7, s20=72.0, s40=72.0)]}
    found = {line.what: line for line in Tcp().draw(12, results).headlines}
    assert found["drop of throughput in a move's lowest sample"].ours.mean == pytest.approx(28.0)
    beyond = found["the first beyond the second, run by run"]
    assert beyond.ours.mean == pytest.approx(20.0) and beyond.met is False
    assert found["TCP segments sent again"].ours.mean == 7


def test_replicas_get_a_processor_each_in_turn_and_keep_it() -> None:
    processors = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:

        def start() -> int:
            process = stack.enter_context(subprocess.Popen(["sleep", "60"]))
            stack.callback(process.kill)
            return process.pid

        pin, first = Pin(), start()
        pin.take([first])
        others = [start() for _ in processors]
        pin.take([others[0], first])  # in whatever order they are told
        pin.take([first, *others])
        homes = [os.sched_getaffinity(pid) for pid in (first, *others)]
    assert homes == [{each} for each in (*processors, processors[0])]


def test_a_replica_that_has_ended_meanwhile_is_left_out() -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    Pin().take([ended.pid])


def test_a_run_whose_moves_fail_is_no_run_with_moves(tmp_path: Path) -> None:
    socket = tmp_path / "nobody.sock"
    record = LabRecord(name="x", pid=0, directory="", target="embedded", api_socket=str(socket), namespaces={})
    with OrchestratorClient(socket) as client, pytest.raises(SplitmergeError, match="nobody"):
        tcp.Mover(Bed(record, client), (0.0,), MODE).finish()


class Moving:
    """An orchestrator with a move under way, which ends when it has been looked for twice."""

    def __init__(self) -> None:
        self.looks = 0

    def get(self, path: str, **query: object) -> object:
        running = self.looks < 2
        if path == "/status":
            self.looks += 1
            return {"moves_running": [{"epoch": 3}] if running else []}
        moves = [{"source": 1, "step": "done", "staged": 4}, {"source": 0, "step": "done"}]
        return [*moves, {"source": 2, "step": "draining" if running else "done", "dropped": 1}]


def test_a_move_that_is_under_way_is_waited_for_and_not_taken_for_undone() -> None:
    record = LabRecord(name="x", pid=0, directory="", target="embedded", api_socket="", namespaces={})
    made = Bed(record, Moving())  # type: ignore[arg-type]
    assert dropped(made) == {"moves": 2, "undone": 0, "dropped": 1, "flows": 4}


def test_packets_lost_stand_beside_latencies() -> None:
    bins = [[float(second), 10, 1.0, 2.0 + second % 2] for second in range(90)]
    run = {"bins": bins, "packets": 200, "lost": 1, "late": 2}
    lines = Hotspot().draw(9, {"no-rebalancing": [run], "splitmerge": [run]}).headlines
    found = {line.what: line for line in lines}
    assert found["packets lost anywhere, splitmerge"].ours.mean == 0.5
    assert found["packets lost anywhere, splitmerge"].met is False
    assert found["packets lost anywhere, no-rebalancing"].met is None
    assert found["packets sent late, no-rebalancing"].ours.mean == 1.0


def test_runs_are_compared_with_those_of_their_number_only(tmp_path: Path) -> None:
    runner(tmp_path, 3).measure([Sums()])
    (tmp_path / "raw/sums/a-1.json").unlink()
    (summary,) = runner(tmp_path, 3).draw(Sums())
    assert summary.runs == {"a": 2, "b": 2} and summary.headlines[0].ours.mean == 4.0  # 2 and 6, not 4
    for run in (0, 2):
        (tmp_path / f"raw/sums/b-{run}.json").unlink()
    with pytest.raises(ExperimentFailed, match="no number"):
        runner(tmp_path, 3).draw(Sums())


def test_attempts_that_were_not_counted_are_kept_and_shown(tmp_path: Path) -> None:
    runner(tmp_path, 1).measure([Sums(stumbles=True)])
    assert CALLS == [("a", 0), ("a", 0), ("b", 0), ("b", 0)]
    (summary,) = runner(tmp_path, 1).draw(Sums(stumbles=True))
    assert summary.thrown_away == ["a: stumbled", "b: stumbled"]
    assert "2 attempts thrown away (a: stumbled; b: stumbled)" in table.markdown([summary])
    assert "no attempts thrown away" in table.markdown([msgspec.structs.replace(summary, thrown_away=[])])
    assert read(tmp_path)[0].thrown_away == summary.thrown_away


def test_no_figures_and_figures_of_another_version_are_errors_not_an_empty_table(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no figures there"):
        read(tmp_path)
    (tmp_path / "fig8.json").write_text('{"figure": 8}')
    with pytest.raises(BadInput, match=r"fig8\.json"):
        read(tmp_path)


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
        [sys.executable, "-m", "experiments", *words], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_fields_of_an_experiment_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Flow().load = 2.0  # type: ignore[misc]
