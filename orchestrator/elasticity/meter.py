"""From what replicas report (counts since they started) to loads over a window, and to the trend of them all."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.elasticity.observation import FIGURES, Load, Observation
from splitmerge.errors import BadInput

TREND = 4.0
"""The trend is taken over so many windows: it must not follow every wave."""
SAMPLES = 512
"""Samples kept of each replica at most; a window with more of them is cut."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a replica says of itself. Counts are since it started."""

    at: float
    """When it said so, in seconds."""
    flows: int
    packets: int
    cpu_seconds: float


class Meter:
    """Feed it samples of the living replicas; ask what they amount to. ``window`` in seconds."""

    def __init__(self, window: float) -> None:
        if not 0 < window < float("inf"):
            raise BadInput("elasticity: window", f"{window} is out of range", "more than 0 seconds")
        self._window = window
        self._samples: dict[int, deque[Sample]] = {}
        self._totals: deque[tuple[float, Load]] = deque(maxlen=SAMPLES)

    def observe(
        self, samples: Mapping[int, Sample | None], now: float, start_up: float = 0.0, absent: int = 0
    ) -> Observation:
        """The newest sample of every living replica, None before it has said anything; others are forgotten.

        A sample seen before changes nothing.
        """
        for gone in self._samples.keys() - samples.keys():
            del self._samples[gone]
        loads = {replica: self._load(replica, sample) for replica, sample in sorted(samples.items())}
        seen = Observation(loads, start_up)
        self._totals.append((now, Load(*(seen.total(figure) for figure in FIGURES))))
        while self._totals[0][0] < now - self._window * TREND:
            self._totals.popleft()
        return Observation(loads, start_up, self._trend(), absent)

    def settle(self) -> None:
        """Flows have moved: rates of single replicas are measured anew. What they add up to has not changed."""
        for samples in self._samples.values():
            while len(samples) > 1:
                samples.popleft()

    def _load(self, replica: int, newest: Sample | None) -> Load:
        if newest is None:
            return Load()
        samples = self._samples.setdefault(replica, deque(maxlen=SAMPLES))
        if not samples or newest.at > samples[-1].at:
            samples.append(newest)
        # One sample older than the window stays: the rate is over at least the window.
        while len(samples) > 2 and samples[1].at <= newest.at - self._window:
            samples.popleft()
        oldest = samples[0]
        seconds = newest.at - oldest.at
        if seconds <= 0:
            return Load(flows=newest.flows)
        packets, cpu = newest.packets - oldest.packets, newest.cpu_seconds - oldest.cpu_seconds
        return Load(newest.flows, max(0.0, packets / seconds), max(0.0, cpu / seconds))

    def _trend(self) -> Load:
        """Slopes of straight lines through the totals, by least squares; 0 until a window is full."""
        first, last = self._totals[0][0], self._totals[-1][0]
        if last - first < self._window:
            return Load()
        times = [at for at, _ in self._totals]
        middle = sum(times) / len(times)
        spread = sum((at - middle) ** 2 for at in times)
        return Load(*(sum((at - middle) * load.of(name) for at, load in self._totals) / spread for name in FIGURES))
