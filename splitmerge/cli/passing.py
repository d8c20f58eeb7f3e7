"""Signals that a command gets which runs another one for its user: who sends them knows only the first."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from splitmerge.cli.signals import SIGNALS

SI_KERNEL = 0x80
"""``si_code`` of a signal that no process has sent (sigaction(2)): Ctrl-C at the terminal, for one."""


class Passing:
    """A context in which `SIGNALS` do nothing to this process, and are passed on to a child (`to`), which decides.

    What other processes send before there is one waits for it. The child must be begun with nothing blocked, as
    `topo.enter` does it, and in this process's group: it has the terminal's Ctrl-C itself. A hang-up is passed on
    whoever sends it: the kernel tells the first process of a session alone, and to have it twice does no harm. What
    another process sends to the whole group (`timeout` does, but for ``--foreground``) the child has twice, too: such a
    signal looks like one for this process alone.

    A signal that this process was begun with ignored stays so. Threads that are there already must block the others.
    """

    def __init__(self) -> None:
        self._child = -1
        self._signals = {number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
        self._before: set[int] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._pass, name="signals", daemon=True)

    def __enter__(self) -> Self:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        return self

    def to(self, child: int) -> None:
        """``child``: its process id; nobody has waited for it yet."""
        self._child = os.pidfd_open(child)
        if self._signals:
            self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        if self._thread.ident is not None:
            signal.pthread_kill(self._thread.ident, min(self._signals))
            self._thread.join()
        if self._child >= 0:
            os.close(self._child)
            while signal.sigtimedwait(self._signals, 0):
                pass  # it was for the child, which has ended: how, the caller says
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def _pass(self) -> None:
        while True:
            came = signal.sigwaitinfo(self._signals)  # unlike a handler it says who has sent it
            if self._over.is_set():
                return
            if came.si_signo == signal.SIGINT and came.si_code == SI_KERNEL:
                continue
            with suppress(ProcessLookupError):  # it has just ended
                signal.pidfd_send_signal(self._child, came.si_signo)
