"""Work that other threads have the data thread do, as ports are that thread's alone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Errand:
    work: Callable[[], None]
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class Errands:
    """Errands in the order in which they were asked for. ``wake`` has the data thread call `do_all` soon."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waiting: deque[_Errand] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def ask(self, work: Callable[[], None], deadline: float) -> None:
        """Have ``work`` done, and wait for it up to ``deadline`` seconds.

        :raises TimeoutError: it was not begun in time, and will not be. Whatever ``work`` raises is raised here.
        """
        errand = _Errand(work)
        self._waiting.append(errand)
        self._wake()
        if not errand.done.wait(deadline) and self._withdraw(errand):
            raise TimeoutError(f"the data thread did not come to it within {deadline} s")
        errand.done.wait()
        if errand.error is not None:
            raise errand.error

    def _withdraw(self, errand: _Errand) -> bool:
        try:
            self._waiting.remove(errand)
        except ValueError:
            return False  # it is being done
        return True

    def do_all(self) -> None:
        """On the data thread, with the gate held."""
        while self._waiting:
            errand = self._waiting.popleft()
            try:
                errand.work()
            except Exception as error:
                errand.error = error
            errand.done.set()
