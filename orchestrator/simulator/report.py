"""A result as a CSV file, as lines of blocks, and as a picture: SVG text, or PNG by matplotlib."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from html import escape
from itertools import pairwise
from pathlib import Path

from orchestrator.simulator.simulation import Look, Result
from orchestrator.simulator.trace import STDIO
from splitmerge.errors import BadInput

BLOCKS = " ▁▂▃▄▅▆▇█"
WIDTH, HEIGHT, LEFT, GAP = 720, 110, 60, 34
"""Of one panel of the picture, in pixels; its left margin; what is below it."""
POINTS = 360
"""Of a line in the picture at most."""

COLUMNS = ("time", "replicas", "ending", "flows", "packets", "utilisation", "highest")


def write_csv(result: Result, path: Path) -> None:
    """The timeline, one line a look; ``-``: to standard output. :raises BadInput: if it cannot be written."""
    rows = [[round(getattr(look, name), 6) for name in COLUMNS] for look in result.looks]
    try:
        with nullcontext(sys.stdout) if str(path) == STDIO else path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(rows)
    except OSError as error:
        raise _unwritable("--csv", path, error) from None


def blocks(values: Sequence[float], width: int = 50) -> str:
    """The highest values of ``width`` stretches of time, as a row of blocks; full is the highest of all."""
    parts = thinned(values, width)
    top = max(parts, default=0.0)
    return "".join(BLOCKS[round(value / top * (len(BLOCKS) - 1))] if top else BLOCKS[0] for value in parts)


def thinned(values: Sequence[float], width: int) -> list[float]:
    """At most ``width`` values: the highest of each stretch."""
    count = min(width, len(values))
    edges = [round(part * len(values) / count) for part in range(count + 1)] if count else []
    return [max(values[begin:end]) for begin, end in pairwise(edges)]


_Panel = tuple[str, tuple[tuple[str, str, Callable[[Look], float]], ...]]


def _panels(capacity: float) -> tuple[_Panel, ...]:
    """Title; label, colour and value of each line."""
    return (
        (
            "packets per second",
            (
                ("offered", "#c0392b", lambda look: look.packets),
                ("capacity", "#2c3e50", lambda look: capacity * (look.replicas + look.ending)),
            ),
        ),
        ("replicas", (("replicas", "#2c3e50", lambda look: look.replicas + look.ending),)),
        (
            "utilisation",
            (
                ("busiest replica", "#e67e22", lambda look: look.highest),
                ("all", "#2980b9", lambda look: look.utilisation),
            ),
        ),
    )


def write_svg(result: Result, capacity: float, title: str, path: Path) -> None:
    """Load, replicas and utilisation over time. :raises BadInput: if it cannot be written."""
    try:
        path.write_text(svg(result, capacity, title), encoding="utf-8")
    except OSError as error:
        raise _unwritable("--svg", path, error) from None


def svg(result: Result, capacity: float, title: str) -> str:
    """The picture as text."""
    panels = _panels(capacity)
    height = 30 + len(panels) * (HEIGHT + GAP)
    size = f"0 0 {WIDTH + LEFT + 20} {height}"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        out += _svg_panel(result.looks, panel, 30 + number * (HEIGHT + GAP))
    middle = LEFT + WIDTH // 2
    out += [f'<text x="{middle}" y="{height - 4}" text-anchor="middle">seconds</text>', "</svg>"]
    return "\n".join(out) + "\n"


def _svg_panel(looks: Sequence[Look], panel: _Panel, top: int) -> list[str]:
    name, lines = panel
    series = [thinned([value(look) for look in looks], POINTS) for _, _, value in lines]
    highest = max((max(each, default=0.0) for each in series), default=0.0) or 1.0
    bottom, end = top + HEIGHT, looks[-1].time if looks else 0.0
    out = [
        f'<path d="M{LEFT} {top}V{bottom}H{LEFT + WIDTH}" fill="none" stroke="#888"/>',
        f'<text x="{LEFT - 6}" y="{top + 10}" text-anchor="end">{highest:.4g}</text>',
        f'<text x="{LEFT - 6}" y="{bottom}" text-anchor="end">0</text>',
        f'<text x="{LEFT}" y="{bottom + 14}">0</text>',
        f'<text x="{LEFT + WIDTH}" y="{bottom + 14}" text-anchor="end">{end:g}</text>',
    ]
    for position, ((label, colour, _), values) in enumerate(zip(lines, series, strict=True)):
        across = LEFT + 90 + 130 * position
        out.append(f'<text x="{across}" y="{bottom + 14}" fill="{colour}">{escape(label)}</text>')
        steps = _steps([bottom - HEIGHT * value / highest for value in values])
        out.append(f'<path d="{steps}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    if len(lines) == 1:
        return out
    return [*out, f'<text x="{LEFT + WIDTH}" y="{top + 10}" text-anchor="end" fill="#888">{name}</text>']


def _steps(heights: Sequence[float]) -> str:
    """A line of steps through these heights, from the left to the right."""
    if not heights:
        return ""
    width = WIDTH / len(heights)
    turns = [
        f"H{LEFT + width * number:.4g}V{after:.4g}"
        for number, (before, after) in enumerate(pairwise(heights), 1)
        if before != after
    ]
    return f"M{LEFT} {heights[0]:.4g}{''.join(turns)}H{LEFT + WIDTH}"


def write_png(result: Result, capacity: float, title: str, path: Path) -> None:
    """As `write_svg`. :raises BadInput: without matplotlib, or if it cannot be written."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        remedy = "pip install 'splitmerge[figures]'; --svg needs nothing"
        raise BadInput("--png", "matplotlib is not installed", remedy) from None
    figure = Figure(figsize=(9, 7), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    panels = _panels(capacity)
    times = [look.time for look in result.looks]
    for number, (name, lines) in enumerate(panels, 1):
        axes = figure.add_subplot(len(panels), 1, number)
        axes.set_ylabel(name)
        for label, colour, value in lines:
            axes.plot(times, [value(look) for look in result.looks], color=colour, label=label, drawstyle="steps-post")
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left")
    axes.set_xlabel("seconds")
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        raise _unwritable("--png", path, error) from None


def _unwritable(option: str, path: Path, error: OSError) -> BadInput:
    return BadInput(f"{option} {path}", error.strerror or str(error), "name a file that can be written")
