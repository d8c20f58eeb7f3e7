"""SIGINT, SIGTERM and SIGHUP in a command that builds a lab: one way out, with the same clean-up and words."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C; `kill` and `timeout`; a terminal that was closed."""


class Interruption:
    """A context in which each of `SIGNALS` ends the command once, and the way out is not interrupted again.

    The first raises KeyboardInterrupt. An exception that a signal handler raises is lost if it meets a finaliser or a
    callback of the interpreter's; so what was asked is also remembered, and is to be looked at between steps (`check`).

    A signal that this process was begun with ignored (`nohup`; what a shell runs in the background) stays so.
    """

    def __init__(self, doing: str) -> None:
        """``doing``: what the way out does, for the line that is said at once."""
        self.requested = False
        self._line = f"interrupted: {doing}\n".encode()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.requested:  # the process is ending: nor are its last words interrupted
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested = True
            with suppress(OSError):  # unbuffered: what was interrupted may be writing too; a closed terminal takes none
                os.write(2, self._line)
            raise KeyboardInterrupt

    def check(self) -> None:
        """:raises KeyboardInterrupt: if the command was asked to end."""
        if self.requested:
            raise KeyboardInterrupt


def as_ever() -> None:
    """In a process that was forked inside of an `Interruption`: each signal does what it does by default."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
