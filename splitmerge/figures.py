"""A middlebox's own figures, checked: one that cannot be told is left out, and nothing else is lost for it.

They are anybody's: `guest.figures` is a plain dict, which is written for every packet, so that it is not checked there
but when statistics are made; and where they come in, for a replica may be of another make.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from itertools import islice
from numbers import Real
from typing import NamedTuple

from splitmerge.errors import shortened

MOST = 1000
"""Figures of one middlebox; those that it made last are left out."""
NAME_MOST = 128
"""Bytes of a name, in UTF-8."""
LEFT_OUT = "figures_left_out"
"""The figure that says how many were left out; it is there only if some were."""
REMEDY = f"figures are finite numbers, by names of 1 to {NAME_MOST} bytes; at most {MOST}"
_LOGGED = 20
"""Lines of a log about figures that are left out."""


class Checked(NamedTuple):
    """Figures that can be told, as floats; how many cannot; and what is wrong with these, one text each."""

    right: dict[str, float]
    left_out: int
    wrong: list[str]


def checked(figures: object, most: int = MOST) -> Checked:
    """What of them can be told. Of far too many only the first ones are looked at."""
    if not isinstance(figures, dict):
        return Checked({}, 1, [f"all of them: guest.figures is a {_kind(figures)}, no dict"])
    right: dict[str, float] = {}
    wrong: list[str] = []
    for name, value in list(islice(dict.items(figures), 2 * most)):
        problem = _wrong_name(name) or _wrong_value(value)
        if problem is None and len(right) >= most:
            problem = f"is one more than {most}"
        if problem is None:
            right[str.__str__(name)] = float(value)
        else:
            wrong.append(f"{_shown(name)} {problem}")
    return Checked(right, len(figures) - len(right), wrong)


class FigureCheck:
    """The figures of one middlebox, time after time: what is wrong with one is logged once.

    :param whose: how the log's lines begin.
    """

    def __init__(self, whose: str, logger: logging.Logger, most: int = MOST) -> None:
        self._whose = whose
        self._logger = logger
        self._most = most
        self._logged: set[str] = set()

    def of(self, figures: object) -> dict[str, float]:
        """Those that can be told; with `LEFT_OUT`, if some cannot."""
        right, left_out, wrong = checked(figures, self._most)
        for problem in self._news(wrong):
            self._logger.warning("%s: figure left out: %s (%s)", self._whose, problem, REMEDY)
        return right | {LEFT_OUT: right.get(LEFT_OUT, 0.0) + left_out} if left_out else right

    def _news(self, wrong: list[str]) -> Iterator[str]:
        for problem in wrong:
            if len(self._logged) >= _LOGGED:
                return
            if problem not in self._logged:
                self._logged.add(problem)
                yield problem


def _wrong_name(name: object) -> str | None:
    if not isinstance(name, str):
        return "has a name that is no str"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "has a name that is no Unicode text"
    return None if 1 <= size <= NAME_MOST else f"has a name of {size} bytes"


def _wrong_value(value: object) -> str | None:
    if not isinstance(value, Real):  # bool and int are; so are numpy's
        return f"is a {_kind(value)}"
    try:
        number = float(value)
    except Exception as error:  # an int beyond any float, or a class of anybody's
        return f"cannot be a float: {type(error).__name__}"
    return None if math.isfinite(number) else f"is {number}"


def _shown(name: object) -> str:
    # Anybody's object: its own repr may be long, or fail.
    return repr(shortened(str.__str__(name), NAME_MOST)) if isinstance(name, str) else f"(a {_kind(name)})"


def _kind(value: object) -> str:
    return type(value).__name__
