"""What a figure is before it is drawn: panels, series of points with their spread, the paper's figures, headlines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from experiments.spread import Spread

Raw = dict[str, Any]
"""What one run brought, as it is stored."""


Better = Literal["above", "below", "least", "most"]


class Point(msgspec.Struct, frozen=True):
    """One x with its figure over runs."""

    x: float
    y: Spread


class Series(msgspec.Struct, frozen=True):
    """A line."""

    name: str
    points: list[Point]


class Mark(msgspec.Struct, frozen=True):
    """A straight line that is not measured: an event (``x``), or a figure that the paper states (``y``)."""

    axis: Literal["x", "y"]
    at: float
    label: str


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One system of axes; all of a figure share their x."""

    title: str
    y: str
    series: list[Series]
    marks: list[Mark] = []
    kind: Literal["line", "bars"] = "line"


class Headline(msgspec.Struct, frozen=True, kw_only=True):
    """A figure that the paper states, or that the project has set itself as a bar."""

    what: str
    unit: str
    paper: float | None
    """None: the paper states none."""
    ours: Spread
    bar: float | None = None
    """That the project has set itself; None: none."""
    better: Better = "most"
    """How ours must stand to the bar: above or below it, at least, or at most."""

    @property
    def met(self) -> bool | None:
        """Whether the mean of ours clears the bar, so that no run escapes; None if there is none."""
        ours, bar = self.ours.mean, self.bar
        if bar is None:
            return None
        return {"above": ours > bar, "below": ours < bar, "least": ours >= bar, "most": ours <= bar}[self.better]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One of the paper's figures, measured here."""

    number: int
    title: str
    x: str
    panels: list[Panel]
    headlines: list[Headline]


def headline(
    what: str,
    unit: str,
    values: Sequence[float],
    *,
    paper: float | None = None,
    bar: float | None = None,
    better: Better = "most",
) -> list[Headline]:
    """A headline over these runs; none if its variants were left out."""
    if not values:
        return []
    return [Headline(what=what, unit=unit, paper=paper, ours=Spread.of(values), bar=bar, better=better)]


def over_runs(name: str, runs: Sequence[Raw], pick: Callable[[Raw], Mapping[float, float]]) -> Series:
    """A series whose points are the spread over runs of what ``pick`` finds; x that no run has are left out."""
    columns: dict[float, list[float]] = {}
    for run in runs:
        for x, y in pick(run).items():
            columns.setdefault(round(x, 6), []).append(y)
    return Series(name, [Point(x, Spread.of(values)) for x, values in sorted(columns.items())])


def late(results: Mapping[str, Sequence[Raw]]) -> list[Headline]:
    """Packets that left more than 50 ms after their time: the machine was busy."""
    return _of_packets(results, "late", "packets sent late")


def lost(results: Mapping[str, Sequence[Raw]], what: str = "packets", bars: Mapping[str, float] = {}) -> list[Headline]:
    """Packets that never arrived, of each variant: one that loses some has a lower latency, and less to do.

    ``bars``: by variant.
    """
    return _of_packets(results, "lost", f"{what} lost anywhere", bars)


def _of_packets(
    results: Mapping[str, Sequence[Raw]], name: str, what: str, bars: Mapping[str, float] = {}
) -> list[Headline]:
    """This count in percent of ``packets``, of each variant."""
    return [
        line
        for variant, runs in results.items()
        for line in headline(
            f"{what}, {variant}",
            "%",
            [100.0 * run[name] / max(run["packets"], 1) for run in runs],
            bar=bars.get(variant),
        )
    ]
