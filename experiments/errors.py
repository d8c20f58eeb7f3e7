"""Errors of the experiments.

SplitmergeError
├── BadInput
│   └── UnknownFigure       a figure that no experiment draws
└── ExperimentFailed        a run that cannot be counted: what was prepared did not come about
"""

from __future__ import annotations

from splitmerge.errors import BadInput, SplitmergeError


class UnknownFigure(BadInput):
    """A figure that no experiment draws."""

    def __init__(self, asked: object, known: list[int]) -> None:
        super().__init__(f"figure {asked}", "is not one of these experiments", "one of " + ", ".join(map(str, known)))


class ExperimentFailed(SplitmergeError):
    """A run that cannot be counted."""

    def __init__(self, experiment: str, problem: str) -> None:
        self.experiment = experiment
        super().__init__(f"{experiment}: {problem}")
