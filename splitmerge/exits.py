"""How a process ended, in words."""

from __future__ import annotations

import signal


def how_ended(code: int, status: str = "exit") -> str:
    """``exit 3``, or ``signal SIGKILL``, by an exit code as of `subprocess` and `os.waitstatus_to_exitcode`.

    :param status: what stands before the number of one that ended by itself.
    """
    return f"{status} {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
