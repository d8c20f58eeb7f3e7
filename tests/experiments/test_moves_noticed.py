"""What `make bench-migration` makes of its runs: whether flows that do not move, and TCP behind a move, notice it."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.migration import dips
from benchmarks.migration.bars import bars
from benchmarks.migration.latency import BUSY, MODES, ROUND, STEADY, STILL, Run, noticed

OFTEN, BESIDE, STEADILY = Run(MODES[0], BUSY), Run(MODES[0], BUSY, beside=True), Run(MODES[0], STEADY)


def rows(**p99: list[float]) -> list[dict[str, Any]]:
    """Runs by kind; p50 is a tenth of p99."""
    kinds = {"still": STILL, "often": OFTEN, "beside": BESIDE, "steadily": STEADILY}
    return [
        {"run": kinds[kind].name, "others": {"p50": value / 10, "p99": value}}
        for kind, of in p99.items()
        for value in of
    ]


def of_p99(found: list[dict[str, Any]]) -> dict[tuple[str, str], tuple[float, float]]:
    return {
        (each.run.name, each.against.name): (each.rise, each.noise) for each in noticed(found) if each.share == "p99"
    }


def test_every_kind_has_a_name_of_its_own_and_still_runs_come_twice_a_round() -> None:
    names = [each.name for each in ROUND]
    assert names.count("still") == 2 and len(set(names)) == len(names) - 1
    assert {OFTEN, BESIDE, STEADILY} <= set(ROUND)


def test_the_rise_is_of_medians_and_the_noise_is_the_range_of_still_runs() -> None:
    found = rows(still=[0.4, 0.5, 0.7, 0.5], steadily=[0.5, 0.6, 9.0], often=[1.1, 1.2, 1.0], beside=[1.0, 1.1, 0.9])
    assert of_p99(found) == {
        (STEADILY.name, STILL.name): (0.1, 0.3),
        (OFTEN.name, BESIDE.name): (0.1, 0.3),
        (OFTEN.name, STILL.name): (0.6, 0.3),
    }


@pytest.mark.parametrize(
    "found",
    [rows(), rows(still=[0.4, 0.5]), rows(often=[1.0], beside=[1.0]), rows(still=[0.4], often=[1.0])],
    ids=["nothing", "no moves", "no still run", "one still run tells nothing of noise"],
)
def test_what_was_not_measured_has_no_bar(found: list[dict[str, Any]]) -> None:
    assert noticed(found) == []


def test_a_bar_is_missed_by_what_still_runs_do_not_explain() -> None:
    result = {"cells": [], "default_buffer": "replica", "latency": rows(still=[0.4, 0.5], often=[1.0], beside=[0.95])}
    met = {row["what"]: row["met"] for row in bars(result) if row["what"].startswith("p99")}
    assert list(met.values()) == [True, False]
    assert ["beside" in what for what in met] == [True, False]


def test_every_stream_has_its_own_bar_and_one_that_was_not_measured_has_no_verdict() -> None:
    streams = {
        "paced": {"dip": {"percent": 0.4}, "after": {"percent": 3.0, "noise_percent": 1.0}},
        "unbounded": {"dip": {"percent": 2.1}, "after": {"percent": None, "noise_percent": None}},
        "often": {"lost": {"percent": 1.7, "margin_percent": 0.5, "moves": 111}},
        "absent": {"skipped": "no iperf3"},
    }
    found = bars({"cells": [], "default_buffer": "replica", "latency": [], "tcp": streams})
    met = [(row["what"].partition(":")[0], row["met"]) for row in found if row["what"].startswith("TCP")]
    assert met == [
        ("TCP paced", True),
        ("TCP paced", False),
        ("TCP unbounded", False),
        ("TCP often", True),
        ("TCP absent", None),
    ]


def run(before: float, behind: float, seconds: int = 60) -> dict[str, Any]:
    """Samples of a second; those about the moves are of no matter."""
    rates = [before if second < 20 else behind for second in range(seconds)]
    return {"mbit_per_s": [0.0 if second in (19, 20, 21, 39, 40, 41) else rate for second, rate in enumerate(rates)]}


@pytest.mark.parametrize(
    ("moved", "still", "percent", "noise"),
    [
        ([run(800, 800)], [run(800, 800)], 0.0, None),
        ([run(800, 720)], [run(800, 800), run(700, 686)], 9.09, 2.0),
        ([run(400, 360)], [run(800, 720), run(800, 720)], 0.0, 0.0),
        ([run(800, 0)], [run(800, 800), run(800, 800)], 100.0, 0.0),
    ],
    ids=["alike", "slower behind the move", "still runs are slower as well", "it stands"],
)
def test_a_stream_behind_the_first_move(
    moved: list[dict[str, Any]], still: list[dict[str, Any]], percent: float, noise: float | None
) -> None:
    assert dips.after(moved, still, (20.0, 40.0)) == {"percent": percent, "noise_percent": noise}


def test_a_run_without_samples_behind_a_move_tells_nothing() -> None:
    short = [run(800, 800, seconds=21)]
    assert dips.after(short, short, (20.0, 40.0)) == {"percent": None, "noise_percent": None}


def tenths(*missing: tuple[float, float]) -> dict[str, Any]:
    """Twenty seconds in samples of 0.1 s; a tenth of the rate is missing between these seconds."""
    rates = [1000.0] * 200
    for begin, end in missing:
        rates[round(begin * 10) : round(end * 10)] = [900.0] * round((end - begin) * 10)
    return {"mbit_per_s": rates}


@pytest.mark.parametrize(
    ("missing", "percent"),
    [
        ([], 0.0),
        ([(5.0, 5.2), (10.0, 10.2)], 2.0),
        ([(4.8, 5.3)], 2.5),
        ([(4.3, 5.8)], 0.0),
        ([(5.8, 7.5)], 0.0),
        ([(19.0, 20.0)], 0.0),
    ],
    ids=[
        "nothing",
        "a tenth of two tenths each",
        "one of two, from our clock's early side on",
        "its neighbours are as slow",
        "later",
        "after them all",
    ],
)
def test_what_a_move_takes_of_a_second(missing: list[tuple[float, float]], percent: float) -> None:
    found = dips.lost([tenths(*missing)], [tenths()], (5.0, 10.0, 19.9), 0.1)
    assert (found["percent"], found["moves"]) == (percent, 2)


def test_what_runs_without_moves_lose_too_is_not_the_moves() -> None:
    steady, noisy = tenths(), tenths((5.0, 5.2))
    assert dips.lost([noisy], [noisy], (5.0, 10.0), 0.1)["percent"] == 0
    found = dips.lost([noisy], [steady], (5.0, 10.0), 0.1)
    assert (found["margin_percent"] or 0) > (found["percent"] or 9), "one of two moves: it says little"


def test_one_move_tells_nothing_of_its_second() -> None:
    assert dips.lost([tenths()], [tenths()], (5.0,), 0.1) == {"percent": None, "margin_percent": None, "moves": 1}


def test_samples_of_a_second_are_made_of_finer_ones() -> None:
    assert dips.seconds(tenths((5.0, 6.0)), 0.1)["mbit_per_s"] == [1000.0] * 5 + [900.0] + [1000.0] * 14
