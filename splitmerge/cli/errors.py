"""Errors of the command line, with the statuses that they end a command with.

SplitmergeError
├── Interrupted     130: Ctrl-C ended the command, and this is what goes on or is left
├── Unsaid          1: what it had to say cannot be written
├── Overdue         1: the answer does not come in time, and this is what goes on
└── BadInput
    └── NotRun      126, 127: the command for `splitmerge exec` cannot be run, or is not there
"""

from __future__ import annotations

from splitmerge.errors import BadInput, PlacedError, SplitmergeError

INTERRUPTED, READER_GONE, NOT_EXECUTABLE, NOT_FOUND = 130, 141, 126, 127
"""Exit statuses as shells have them (POSIX, Shell Command Language, 2.8.2; 128 + SIGINT, 128 + SIGPIPE)."""


class Interrupted(PlacedError):
    """Ctrl-C. ``problem`` says what goes on or what is left, ``remedy`` what to do about that."""

    status = INTERRUPTED

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__("interrupted", problem, remedy)


class Overdue(PlacedError):
    """No answer for so many ``seconds``. ``problem`` says what goes on, ``remedy`` what to do about that."""

    def __init__(self, seconds: float, problem: str, remedy: str = "") -> None:
        super().__init__(f"no answer within {seconds:g} s", problem, remedy)


class Unsaid(PlacedError):
    """Standard output takes nothing more."""

    def __init__(self, error: OSError) -> None:
        remedy = "give it a file or pipe that can be written; what the command has done is done"
        super().__init__("standard output", f"cannot be written: {error.strerror or error}", remedy)


class NotRun(BadInput):
    """A command that could not be begun; ``status``: what a shell would end with."""

    def __init__(self, command: str, problem: str, remedy: str, status: int) -> None:
        self.status = status
        super().__init__(f"command {command!r}", problem, remedy)


def status_of(error: SplitmergeError) -> int:
    """The exit status of a command that ends with this error."""
    return error.status if isinstance(error, Interrupted | NotRun) else 1
