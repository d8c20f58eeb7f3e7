"""Which experiment draws which figure."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.burst import Burst
from experiments.errors import UnknownFigure
from experiments.experiment import Experiment
from experiments.flow import Flow
from experiments.hotspot import Hotspot
from experiments.scale_in import ScaleIn
from experiments.tcp import Tcp

EXPERIMENTS: tuple[type[Experiment], ...] = (Burst, Hotspot, ScaleIn, Tcp, Flow)


def figures() -> list[int]:
    """All there are."""
    return sorted(number for each in EXPERIMENTS for number in each.figures)


def of_figures(numbers: Sequence[int]) -> list[type[Experiment]]:
    """The experiments that these figures need, each once. :raises UnknownFigure:"""
    known = figures()
    for number in numbers:
        if number not in known:
            raise UnknownFigure(number, known)
    return [each for each in EXPERIMENTS if set(each.figures) & set(numbers)]
