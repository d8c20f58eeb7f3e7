"""What moves take from a TCP stream, out of what passed in each sample: pure functions over runs of `tcp.measure`.

Two measures. `dip` is figure 12's, in samples of a second, and for steady streams. A stream as fast as it goes is not
steady: seconds of it differ by several percent where nothing moves, and the lowest of three is low. What moves take of
such a one is a mean over many moves (`lost`), each beside the half seconds before and behind it, with the interval that
the mean is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import mean, median, variance
from typing import Any

NEAR = (-1, 0, 1)
"""Samples about a move in which a dip is looked for. Moves are timed by our clock and samples by iperf3's, which starts
part of a sample later: what a move at 20 s does may all be in the sample that ends then."""
EARLY = 0.2
"""Seconds before a move at which what is its own begins, for the same reason."""
HALF = 0.5
"""Seconds that are a move's own, and as many before and behind them which they are compared with. What a stream's speed
does by itself takes seconds, so that a move's neighbours say best what would have passed."""
CERTAIN = 1.96
"""Standard errors to either side of a mean that hold 95 of 100."""


def near(rates: Sequence[float], places: Sequence[float], first: int) -> list[list[float]]:
    """For each place (in samples), the samples about it, none before ``first``; places beyond the end are left out."""
    found = ([int(place) + step for step in NEAR] for place in places)
    samples = [[rates[number] for number in numbers if first <= number < len(rates)] for numbers in found]
    return [each for each in samples if each]


def apart(rates: Sequence[float], places: Sequence[float], first: int) -> list[float]:
    """The samples, from ``first`` on, that are about none of these places."""
    touched = {int(place) + step for place in places for step in NEAR}
    return [rate for number, rate in enumerate(rates) if number >= first and number not in touched]


def dip(
    with_moves: list[dict[str, Any]], without: list[dict[str, Any]], at: tuple[float, ...]
) -> dict[str, float | None]:
    """How much less passes in a move's lowest sample, in percent; None where there are too few samples.

    ``within``: than in its run's samples apart from moves, medians. ``noise``: the same at the same places of the runs
    without moves, for the lowest of three samples is low where nothing happens too. ``percent``: the first beyond the
    second.
    """
    moved, still = _rest_of(with_moves, at), _rest_of(without, at)
    return {
        "percent": _less(moved / still) if moved is not None and still else None,
        "within_percent": None if moved is None else _less(moved),
        "noise_percent": None if still is None else _less(still),
    }


def _rest_of(runs: list[dict[str, Any]], at: tuple[float, ...]) -> float | None:
    """The median of the moves' lowest samples, as a part of the median of those apart from moves."""
    lowest = [min(each) for run in runs for each in near(run["mbit_per_s"], at, 2)]
    others = [rate for run in runs for rate in apart(run["mbit_per_s"], at, 2)]
    return median(lowest) / median(others) if lowest and others and median(others) else None


def after(
    with_moves: list[dict[str, Any]], without: list[dict[str, Any]], at: tuple[float, ...]
) -> dict[str, float | None]:
    """Whether a stream that has moved is as fast as before: what the samples behind the first move and apart from all
    are of those before it, beside the same places of the runs without moves; None where there are too few samples.

    ``percent``: how much less it is with moves, medians over runs; ``noise``: how much the runs without differ in it.
    """
    moved, still = ([part for run in runs if (part := _kept(run, at)) is not None] for runs in (with_moves, without))
    if not moved or not still:
        return {"percent": None, "noise_percent": None}
    noise = 100 * (max(still) - min(still)) if len(still) > 1 else None
    return {
        "percent": _less(median(moved) / median(still)),
        "noise_percent": None if noise is None else round(noise, 2),
    }


def _kept(run: dict[str, Any], at: tuple[float, ...]) -> float | None:
    """The median rate behind the first move, as a part of that before it."""
    rates, first = run["mbit_per_s"], int(at[0])
    quiet = [place for place in at if place >= first]
    before = apart(rates[: first - 1], quiet, 2)
    behind = apart(rates, quiet, first + 2)
    return median(behind) / median(before) if before and behind and median(before) else None


def lost(
    with_moves: list[dict[str, Any]], without: list[dict[str, Any]], at: tuple[float, ...], sample: float
) -> dict[str, float | int | None]:
    """How much less passes about a move than before and behind it, in percent of what passes in a second, beyond the
    same at the same places of the runs without moves. Means over all moves; None where there are too few.

    ``margin``: half the interval that the mean is in with a probability of 95 %. ``sample``: seconds of a sample.
    """
    moved, still = ([_taken(run, place, sample) for run in runs for place in at] for runs in (with_moves, without))
    parts = [[each for each in side if each is not None] for side in (moved, still)]
    if min(map(len, parts)) < 2:
        return {"percent": None, "margin_percent": None, "moves": len(parts[0])}
    error = sqrt(sum(variance(side) / len(side) for side in parts))
    return {
        "percent": round(mean(parts[0]) - mean(parts[1]), 2),
        "margin_percent": round(CERTAIN * error, 2),
        "moves": len(parts[0]),
    }


def _taken(run: dict[str, Any], place: float, sample: float) -> float | None:
    """Of one move, in percent of a second; None too near to an end of the run. A run's first second is nobody's."""
    rates, count = run["mbit_per_s"], round(HALF / sample)
    begin = round((place - EARLY) / sample)
    before, own, behind = (rates[begin + step * count : begin + (step + 1) * count] for step in (-1, 0, 1))
    around = [*before, *behind]
    if begin - count < round(1 / sample) or len(around) < 2 * count or not mean(around):
        return None
    return float(100 * HALF * (1 - mean(own) / mean(around)))


def seconds(run: dict[str, Any], sample: float) -> dict[str, Any]:
    """The run in samples of a second."""
    count, rates = round(1 / sample), run["mbit_per_s"]
    whole = range(0, len(rates) - count + 1, count)
    return {**run, "mbit_per_s": [mean(rates[start : start + count]) for start in whole]}


def _less(part: float) -> float:
    return round(100 * (1 - part), 2)
