"""Errors of the shared vocabulary.

SplitmergeError
├── PlacedError     says where, and what to do
│   ├── BadInput    the caller's value is wrong
│   └── Unavailable (a PeerError as well)
├── PeerError       the other process broke the protocol, refused, or is gone
│   ├── Unavailable the orchestrator cannot do it now: says what is missing, and what to do
│   ├── Unreachable the orchestrator does not answer: says why, and what to do
│   ├── NoAnswerYet the orchestrator has not answered in time, and goes on with what it was asked for
│   └── WireError   bytes that are no frame of the control network
└── Timeout         a deadline passed
"""

from __future__ import annotations

from typing import TypeVar

_E = TypeVar("_E", bound=Exception)


class SplitmergeError(Exception):
    """Base of every error that Splitmerge raises on purpose."""


class PlacedError(SplitmergeError):
    """Says where, what, and what to do: ``where`` names the place; ``remedy``, if there is one, what would help."""

    def __init__(self, where: str, problem: str, remedy: str = "") -> None:
        self.where = where
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{where}: {problem}" + (f" ({remedy})" if remedy else ""))


class BadInput(PlacedError, ValueError):
    """A value from outside is wrong.

    ``where`` names the place (a flag, a field, a line); ``remedy`` says what would be right.
    """


class PeerError(SplitmergeError):
    """Another process broke the protocol, refused a request, or went away."""


class Unavailable(PlacedError, PeerError):
    """Another process answered that it cannot do this now. ``where`` names what cannot, ``remedy`` what to do."""


class Unreachable(PeerError):
    """The orchestrator at a socket does not answer. ``remedy`` says what to do.

    :param asked: whether it was asked before it was gone, and may have begun.
    """

    def __init__(self, where: str, problem: str, remedy: str, *, asked: bool = True) -> None:
        self.asked = asked
        self.where = where
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{where} {problem} ({remedy})")


class NoAnswerYet(PeerError):
    """The orchestrator has the request, and has not answered for ``seconds``: what it was asked for may go on."""

    def __init__(self, where: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"{where} has not answered within {seconds:g} s")


class WireError(PeerError):
    """The bytes received are not a frame of the control network."""


class Timeout(SplitmergeError, TimeoutError):
    """A deadline passed. ``what`` names the thing waited for, ``seconds`` the deadline."""

    def __init__(self, what: str, seconds: float) -> None:
        self.what = what
        self.seconds = seconds
        super().__init__(f"{what}: nothing within {seconds:g} s")


def shortened(text: str, most: int = 100) -> str:
    """What somebody wrote, for an error's text: its beginning, if it is longer than ``most`` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def first_of(group: BaseExceptionGroup[_E]) -> _E:
    """The first error of what a task group raises, however deep: for callers that catch errors by their type."""
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error
