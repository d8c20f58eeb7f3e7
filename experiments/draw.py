"""Figures as pictures: matplotlib, without a display."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from experiments.figure import Figure, Panel

_COLOURS = ("#1b6ca8", "#c8553d", "#4a7c59", "#7d5ba6", "#b08900")
"""Apart from each other in print and for most colour-blind people."""
_MARK = "#666666"
_DOTS = 60
"""From so many points on, a line has a band around it instead of bars at its points."""


def draw(figure: Figure, path: Path) -> None:
    """Write the picture: error bars, or bands, are the 95 % interval of the mean over runs."""
    matplotlib.use("Agg")
    rows = max(len(figure.panels), 1)
    canvas = Canvas(figsize=(8.0, 1.2 + 2.4 * rows), layout="constrained")
    canvas.suptitle(f"Figure {figure.number}: {figure.title}")
    axes = canvas.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    for axis, panel in zip(axes, figure.panels, strict=False):
        _panel(axis, panel)
    axes[-1].set_xlabel(figure.x)
    canvas.savefig(path, dpi=110)


def _panel(axis: Axes, panel: Panel) -> None:
    axis.set_title(panel.title, fontsize="medium")
    axis.set_ylabel(panel.y)
    axis.grid(visible=True, alpha=0.25)
    for number, series in enumerate(panel.series):
        colour = _COLOURS[number % len(_COLOURS)]
        x = [point.x for point in series.points]
        y = [point.y.mean for point in series.points]
        half = [0.0 if math.isnan(point.y.high) else point.y.high - point.y.mean for point in series.points]
        if panel.kind == "bars":
            places = [place + number for place in range(0, len(x) * (len(panel.series) + 1), len(panel.series) + 1)]
            axis.bar(places, y, yerr=half, color=colour, label=series.name, capsize=3)
            if number == 0:
                middle = (len(panel.series) - 1) / 2
                axis.set_xticks([place + middle for place in places], [f"{each:g}" for each in x])
        elif len(x) < _DOTS:
            axis.errorbar(x, y, yerr=half, color=colour, label=series.name, capsize=2, linewidth=1.2, marker=".")
        else:
            axis.plot(x, y, color=colour, label=series.name, linewidth=1.0)
            low, high = ([a - sign * b for a, b in zip(y, half, strict=True)] for sign in (1, -1))
            axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    for mark in panel.marks:
        line = axis.axvline if mark.axis == "x" else axis.axhline
        line(mark.at, color=_MARK, linestyle="--", linewidth=1.0, label=mark.label)
    handles, labels = axis.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    if once:
        axis.legend(once.values(), once.keys(), fontsize="small", loc="best")
