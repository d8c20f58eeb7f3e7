"""Signals that come between a process's start and its name."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupts_later() -> Iterator[None]:
    """What would interrupt the block acts at its end: put it around ``process = Popen(…)``.

    A handler that raises within `subprocess.Popen` leaves a process behind that nobody can name, and so nobody ends.
    Signals that Python has no handler for act as ever, and so do all in threads, where none is handled.
    """
    told: list[int] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        handlers = {number: handler for number, handler in found.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda number, frame: told.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if told:
            signal.raise_signal(told[0])
