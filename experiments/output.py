"""A figure on disk: ``figN.csv`` (every point), ``figN.png``, ``figN.json`` (headlines, and how they were made)."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import msgspec

from experiments.draw import draw
from experiments.experiment import Experiment
from experiments.figure import Figure, Headline
from experiments.store import Run
from splitmerge.errors import BadInput

COLUMNS = ("panel", "series", "x", "mean", "median", "low", "high", "runs", "load", "time_scale")


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """``figN.json``."""

    figure: int
    title: str
    experiment: str
    headlines: list[Headline]
    parameters: dict[str, Any]
    machine: dict[str, Any]
    runs: dict[str, int]
    """Variant → runs."""
    seconds: float
    """That all runs took."""
    thrown_away: list[str] = []
    """Variant and reason of every attempt that was made once more instead of counted."""
    revisions: list[str] = []
    """Of the code that the runs were made with."""


def write(directory: Path, experiment: Experiment, figure: Figure, runs: dict[str, list[Run]]) -> Summary:
    """All three files of one figure."""
    directory.mkdir(parents=True, exist_ok=True)
    made = [run for each in runs.values() for run in each]
    summary = Summary(
        figure=figure.number,
        title=figure.title,
        experiment=experiment.name,
        headlines=figure.headlines,
        parameters=experiment.parameters(),
        machine=made[0].machine if made else {},
        runs={variant: len(each) for variant, each in runs.items()},
        seconds=round(sum(run.seconds for run in made), 1),
        thrown_away=[f"{name}: {why}" for name, each in runs.items() for run in each for why in run.thrown_away],
        revisions=sorted({run.revision for run in made if run.revision}),
    )
    _write_csv(directory / f"fig{figure.number}.csv", figure, experiment)
    draw(figure, directory / f"fig{figure.number}.png")
    path = directory / f"fig{figure.number}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    return summary


def read(directory: Path) -> list[Summary]:
    """The summaries that are there, by figure. :raises BadInput: if there is none, or one cannot be read."""
    found = [_read(path) for path in directory.glob("fig*.json")]
    if not found:
        raise BadInput(str(directory), "no figures there", "make some: python -m experiments")
    return sorted(found, key=lambda each: each.figure)


def _read(path: Path) -> Summary:
    try:
        return msgspec.msgpack.decode(_with_nan(path.read_bytes()), type=Summary)
    except msgspec.DecodeError as error:  # another version's
        raise BadInput(str(path), str(error), "draw it again: python -m experiments --redraw") from None


def _with_nan(data: bytes) -> bytes:
    """Not-a-numbers, which JSON writes as null, back where an interval of one run has them."""
    loaded = msgspec.json.decode(data)
    for line in loaded.get("headlines", []):
        for name in ("low", "high"):
            if line["ours"][name] is None:
                line["ours"][name] = math.nan
    return msgspec.msgpack.encode(loaded)


def _write_csv(path: Path, figure: Figure, experiment: Experiment) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for panel in figure.panels:
            for series in panel.series:
                for point in series.points:
                    numbers = (point.x, point.y.mean, point.y.median, point.y.low, point.y.high)
                    cells = ["" if math.isnan(each) else f"{each:.6g}" for each in numbers]
                    table.writerow(
                        [panel.title, series.name, *cells, point.y.runs, experiment.load, experiment.time_scale]
                    )
