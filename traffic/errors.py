"""Errors of the load generators.

SplitmergeError
└── TrafficError
    ├── LedgerError     two reports that cannot be of one run
    └── TrafficInput    an option is wrong (also `BadInput`)
"""

from __future__ import annotations

from splitmerge.errors import BadInput, SplitmergeError


class TrafficError(SplitmergeError):
    """Base of every error of this package."""


class LedgerError(TrafficError):
    """The two sides' reports contradict each other: they are not of one run, or a number was invented on the way."""


class TrafficInput(TrafficError, BadInput):
    """An option is wrong; ``where`` names it."""
