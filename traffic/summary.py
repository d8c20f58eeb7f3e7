"""Latencies in a few numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds; all 0 without samples."""

    samples: int = 0
    p50: float = 0.0
    p99: float = 0.0
    max: float = 0.0


def latency(seconds: Sequence[float]) -> Latency:
    """Nearest-rank percentiles of these samples."""
    if not seconds:
        return Latency()
    ordered = sorted(seconds)
    return Latency(
        samples=len(ordered),
        p50=_rank(ordered, 0.50) * 1000,
        p99=_rank(ordered, 0.99) * 1000,
        max=ordered[-1] * 1000,
    )


def _rank(ordered: Sequence[float], fraction: float) -> float:
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]
