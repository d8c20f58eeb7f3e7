"""Mean, median and an interval over runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t for 95 % two-sided, by degrees of freedom from 1; the normal distribution's beyond."""
_NORMAL = 1.96


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Of one figure over runs. ``low`` to ``high`` is the 95 % confidence interval of the mean (Student's t)."""

    mean: float
    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Over these runs. Of one run there is no interval: ``low`` and ``high`` are not numbers then.

        :raises ValueError: for no runs.
        """
        if not values:
            raise ValueError("no runs")
        mean, count = statistics.fmean(values), len(values)
        half = math.nan
        if count > 1:
            half = (_T[count - 2] if count - 2 < len(_T) else _NORMAL) * statistics.stdev(values) / math.sqrt(count)
        return cls(mean=mean, median=statistics.median(values), low=mean - half, high=mean + half, runs=count)
