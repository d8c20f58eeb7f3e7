"""A short form of every experiment of docs/evaluation.md: a small part of the paper's seconds, one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.migration import tcp
from experiments.burst import Burst
from experiments.experiment import Experiment
from experiments.flow import Flow
from experiments.hotspot import Hotspot
from experiments.output import Summary
from experiments.runner import Runner
from experiments.scale_in import ScaleIn
from experiments.store import Store
from experiments.tcp import Tcp
from tests.conftest import missing

LOW = "drop of throughput in a move's lowest sample"
pytestmark = [pytest.mark.integ, pytest.mark.timeout(120), pytest.mark.usefixtures("namespaces")]


def drawn(directory: Path, experiment: Experiment, variant: str) -> tuple[dict[str, Any], list[Summary]]:
    """One run of a variant, and its figures; each is there as a table and a picture."""
    runner = Runner(directory, 1, Console(stderr=True, quiet=True), [variant])
    runner.measure([experiment])
    summaries = runner.draw(experiment)
    assert [each.figure for each in summaries] == list(experiment.figures)
    for number in experiment.figures:
        assert len((directory / f"fig{number}.csv").read_text().splitlines()) > 1
        assert (directory / f"fig{number}.png").stat().st_size > 1000
    run = Store(directory).find(experiment, variant, 0)
    assert run is not None
    return run.result, summaries


def test_figure_8_every_attack_is_detected_while_the_ids_splits(tmp_path: Path) -> None:
    experiment = Burst(
        time_scale=0.05, load=0.4, clients=4, attack=11, threshold=10, udp_flows=4, split_above=8, merge_below=6,
        base_busy=0.0, grace=8.0,
    )  # fmt: skip
    run, (summary,) = drawn(tmp_path, experiment, "splitmerge")
    assert len(run["attacks"]) >= 40 and all(found and whole for _, found, whole in run["attacks"])
    assert max(count for _, count in run["replicas"]) == 2
    assert run["moves"]["moves"] > 0 and run["moves"]["undone"] == run["moves"]["dropped"] == 0
    assert run["udp"]["sent"] > 0 and run["udp"]["lost"] == 0
    assert [line.ours.mean for line in summary.headlines] == [100.0, 100.0, 0.0, 0.0]


def test_figures_9_and_10_the_new_replica_gets_its_share(tmp_path: Path) -> None:
    experiment = Hotspot(
        time_scale=0.04, load=0.2, flows=21, split_at=20, every=2.0, hot_from=60.0, busy=0.1, duration=150.0
    )
    run, (_, average) = drawn(tmp_path, experiment, "splitmerge")
    assert run["packets"] > 500 and run["lost"] == 0
    assert run["moves"]["moves"] > 0 and run["moves"]["dropped"] == 0
    held = {replica: flows for _, replica, flows, *_ in run["loads"]}  # the last look's
    assert sorted(held) == [1, 2] and min(held.values()) >= 8, held
    assert average.headlines[0].ours.mean > 0


def test_figure_11_replicas_merge_without_losing_a_packet(tmp_path: Path) -> None:
    experiment = ScaleIn(time_scale=0.04, load=0.2, replicas=3, flows_each=10, every=6.0, idle=20.0, cost_us=50.0)
    run, (summary,) = drawn(tmp_path, experiment, "splitmerge-worst")
    assert run["packets"] > 500 and run["lost"] == 0
    assert run["moves"]["flows"] > 0 and run["moves"]["undone"] == run["moves"]["dropped"] == 0
    assert experiment.first_gone(run) < experiment.seconds / experiment.time_scale
    found = {line.what: line.ours.mean for line in summary.headlines}
    assert found.pop("packets sent late, splitmerge-worst") >= 0  # tells how busy the machine was
    assert list(found.values()) == [0.0, 0.0], found


def test_figure_12_a_tcp_stream_goes_on_while_it_moves(tmp_path: Path) -> None:
    if problem := tcp.available():
        missing(problem)
    run, (summary,) = drawn(tmp_path, Tcp(time_scale=0.05), "splitmerge")
    assert run["moves_at"] == [1.0, 2.0] and run["mode"] == "order-preserving/replica"
    assert [move["staged"] > 0 for move in run["moved"]] == [True, True]
    rates = run["mbit_per_s"][2:-2]  # of a tenth of a second each, in which a busy machine may have other things to do
    assert min(sum(rates[at : at + 10]) for at in range(len(rates) - 9)) > 0, "no second without progress"
    assert {line.what for line in summary.headlines} == {LOW, "TCP segments sent again"}


def test_figures_13_to_15_a_flow_loses_nothing_when_it_moves(tmp_path: Path) -> None:
    run, (latency, drops, throughput) = drawn(tmp_path, Flow(time_scale=0.1, rates=(1.0, 10.0)), "splitmerge")
    for rate, packets in (("1", 100), ("10", 1000)):
        assert run[rate]["move"]["moves"] == 1 and run[rate]["packets"] >= 0.8 * packets
        assert (run[rate]["lost"], run[rate]["reordered"]) == (0, 0)
    assert drops.headlines[0].ours.mean == 0 and drops.headlines[0].met
    assert latency.headlines and throughput.headlines
