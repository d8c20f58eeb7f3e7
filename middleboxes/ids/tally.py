"""Signs by client, over all flows and replicas: the coherent part of detection (§2.2: an IDS's attack threshold).

Each replica counts the signs that it saw in an element of its own; the combiner adds the elements up. Counts are of two
windows, the present one and the one before, so that an attack is not divided by a window's end. Windows are numbered by
the time of day: replicas whose clocks differ by less than a window agree on at least one of the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from middleboxes.ids.detector import Rule


class Tally(msgspec.Struct):
    """One replica's element, and the sum of all."""

    window: int = 0
    now: dict[str, int] = {}
    """Signs of this window, by ``kind client``."""
    before: dict[str, int] = {}
    """Those of the window before."""
    alerted: dict[str, int] = {}
    """The window in which an alert was written, by ``kind client``."""
    uncounted: int = 0
    """Signs of clients beyond the most that are counted."""


class Excess(msgspec.Struct, frozen=True):
    """A client that passed a threshold."""

    kind: str
    client: str
    count: int


def roll(tally: Tally, window: int) -> None:
    """It is this window now. A clock that steps back changes nothing."""
    if window <= tally.window:
        return
    tally.before = tally.now if window == tally.window + 1 else {}
    tally.now = {}
    tally.window = window
    tally.alerted = {name: when for name, when in tally.alerted.items() if when >= window - 1}


def count(tally: Tally, kind: str, client: str, most: int) -> None:
    """One more sign; ``most`` clients are counted in a window."""
    name = f"{kind} {client}"
    if name not in tally.now and len(tally.now) >= most:
        tally.uncounted += 1
        return
    tally.now[name] = tally.now.get(name, 0) + 1


def combine(elements: Sequence[Tally]) -> Tally:
    """The sum, in the newest window that any replica is in."""
    total = Tally(window=max((each.window for each in elements), default=0))
    for each in elements:
        aged = Tally(each.window, dict(each.now), dict(each.before), dict(each.alerted))
        roll(aged, total.window)
        _add(total.now, aged.now)
        _add(total.before, aged.before)
        total.uncounted += each.uncounted
        for name, when in aged.alerted.items():
            total.alerted[name] = max(when, total.alerted.get(name, 0))
    return total


def excesses(total: Tally, rules: Mapping[str, Rule]) -> list[Excess]:
    """The clients beyond a threshold that nobody has alerted about in these two windows.

    Also those of whom no sign came since the window's end: who looks does so a while after the last one.
    """
    found: list[Excess] = []
    for name in {**total.before, **total.now}:
        kind, _, client = name.partition(" ")
        seen = total.now.get(name, 0) + total.before.get(name, 0)
        rule = rules.get(kind)
        if rule is not None and rule.client is not None and seen > rule.client and name not in total.alerted:
            found.append(Excess(kind, client, seen))
    return found


def note(tally: Tally, excess: Excess) -> None:
    """An alert was written about it."""
    tally.alerted[f"{excess.kind} {excess.client}"] = tally.window


def _add(total: dict[str, int], counts: Mapping[str, int]) -> None:
    for name, number in counts.items():
        total[name] = total.get(name, 0) + number
