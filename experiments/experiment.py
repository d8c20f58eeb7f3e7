"""What every experiment is: parameters with the paper's values, variants, one run, and figures out of many runs."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from experiments.figure import Figure, Raw

Target = Literal["embedded", "bmv2"]
Results = Mapping[str, list[Raw]]
"""Variant → its runs."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Experiment(ABC):
    """Parameters are the paper's; two factors take them to this machine."""

    name: ClassVar[str]
    figures: ClassVar[tuple[int, ...]]
    variants: ClassVar[tuple[str, ...]]

    target: Target = "embedded"
    """The switch."""
    time_scale: float = 1.0
    """The paper's seconds times this are ours."""
    load: float = 1.0
    """The paper's rates (requests, bits a second of a flow) times this are ours. Numbers of flows stay the paper's."""

    @property
    @abstractmethod
    def seconds(self) -> float:
        """How long one run's traffic takes."""

    @abstractmethod
    def measure(self, variant: str, run: int) -> Raw:
        """One run, 0, 1, …, in a lab of its own.

        :raises SplitmergeError: if it cannot be made or counted.
        """

    @abstractmethod
    def draw(self, number: int, results: Results) -> Figure:
        """One of its figures."""

    def scaled(self, seconds: float) -> float:
        """The paper's seconds here."""
        return seconds * self.time_scale

    def parameters(self) -> dict[str, Any]:
        """All that a run depends on, as JSON has it."""
        return {
            field.name: list(value) if isinstance(value := getattr(self, field.name), tuple) else value
            for field in dataclasses.fields(self)
        }
