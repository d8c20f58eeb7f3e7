"""Counts as metrics: those of one look fit together, whatever happens meanwhile."""

from __future__ import annotations

from collections import Counter
from typing import Any

from p4switch import metrics
from p4switch.ports import DropReason


class Busy:
    """An engine that receives one frame more, and loses it, before each look at its counts; and a control plane."""

    pipeline = None
    ports = ()

    def __init__(self) -> None:
        self.drops = self
        self.lost_below: Counter[tuple[str, str]] = Counter()
        self._frames = 0

    @property
    def received(self) -> dict[int, list[int]]:
        self._frames += 1
        return {7: [self._frames, 60 * self._frames]}

    def by_reason_and_port(self) -> dict[tuple[DropReason, int], int]:
        self._frames += 1
        return {(DropReason.NO_PIPELINE, 7): self._frames}

    def outputs(self) -> dict[int, Any]:
        return {}

    def streams(self) -> list[Any]:
        return []


def test_no_frame_shows_as_lost_that_does_not_show_as_received() -> None:
    busy: Any = Busy()
    counts = {sample.name: sample.value for sample in metrics.samples(busy, busy)}
    assert counts == {"received_packets": 2, "received_bytes": 120, "drops": 1}
