"""Errors of the command line, with the statuses that they end a command with.

SplitmergeError
├── Interrupted     130: Ctrl-C ended the command, and this is what goes on or is left
├── Overdue         1: the answer does not come in time, and this is what goes on
└── BadInput
    └── NotRun      126, 127: the command for `splitmerge exec` cannot be run, or is not there
"""

from __future__ import annotations

from splitmerge.errors import BadInput, PlacedError, SplitmergeError

INTERRUPTED, NOT_EXECUTABLE, NOT_FOUND = 130, 126, 127
"""Exit statuses as shells have them (POSIX, Shell Command Language, 2.8.2; 128 + SIGINT)."""


class Interrupted(PlacedError):
    """Ctrl-C. ``problem`` says what goes on or what is left, ``remedy`` what to do about that."""

    status = INTERRUPTED

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__("interrupted", problem, remedy)


class Overdue(PlacedError):
    """No answer for so many ``seconds``. ``problem`` says what goes on, ``remedy`` what to do about that."""

    def __init__(self, seconds: float, problem: str, remedy: str = "") -> None:
        super().__init__(f"no answer within {seconds:g} s", problem, remedy)


class NotRun(BadInput):
    """A command that could not be begun; ``status``: what a shell would end with."""

    def __init__(self, command: str, problem: str, remedy: str, status: int) -> None:
        self.status = status
        super().__init__(f"command {command!r}", problem, remedy)


def status_of(error: SplitmergeError) -> int:
    """The exit status of a command that ends with this error."""
    return error.status if isinstance(error, Interrupted | NotRun) else 1
