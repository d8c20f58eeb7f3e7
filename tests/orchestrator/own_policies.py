"""Policies of somebody's own; each is tried in a process of its own first, which imports nothing but this."""

from __future__ import annotations

import threading

from orchestrator.elasticity import Add, Merge, Observation, Recommendation


class Broken:
    """Somebody's first policy."""

    def recommend(self, seen: Observation) -> Recommendation:
        return Merge(1 // (seen.count - 1))


class Confused:
    """Somebody's second."""

    def recommend(self, seen: Observation) -> Recommendation:
        return Merge(77)


class Stillborn:
    """Somebody's third."""

    def __init__(self) -> None:
        raise OSError("no such table")

    def recommend(self, seen: Observation) -> Recommendation:
        raise NotImplementedError


class Slow:
    """Somebody's fourth."""

    let_go = threading.Event()
    asked = 0

    def recommend(self, seen: Observation) -> Recommendation:
        Slow.asked += 1
        Slow.let_go.wait(30)
        return Add()
