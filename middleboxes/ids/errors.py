"""Errors of the intrusion detection system.

SplitmergeError
└── IdsError
    ├── IdsConfigError   a configuration value is wrong (also `BadInput`)
    └── AlertLost        an alert could not be written; it is tried again with the flow's next sign
"""

from __future__ import annotations

from splitmerge.errors import BadInput, SplitmergeError


class IdsError(SplitmergeError):
    """Base of every error of this package."""


class IdsConfigError(IdsError, BadInput):
    """A configuration value is wrong; ``where`` names the field."""


class AlertLost(IdsError):
    """The alert file did not take the whole line."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"alert not written to {path}: {reason}")
