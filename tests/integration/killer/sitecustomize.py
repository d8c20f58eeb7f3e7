"""Kills an orchestrator right after it has journalled a chosen step; Python imports this module by itself at its start.

Only processes of the test that put this folder on PYTHONPATH are touched, and only once for each line in the file that
SPLITMERGE_KILL_FILE names: the product has no such hook.
"""

import os
import signal
import sys
from pathlib import Path

if "SPLITMERGE_KILL_FILE" in os.environ and sys.orig_argv[1:3] == ["-m", "orchestrator"]:
    from orchestrator.journal import Journal

    wish = Path(os.environ["SPLITMERGE_KILL_FILE"])

    def _die_at(step: str) -> None:
        try:
            if wish.read_text() != step:
                return
            wish.unlink()
        except FileNotFoundError:  # nothing is wished, or not any more
            return
        os.kill(os.getpid(), signal.SIGKILL)

    def _wrap(name: str, step_of):
        original = getattr(Journal, name)

        def wrapped(self, *args, **kwargs):
            result = original(self, *args, **kwargs)
            _die_at(step_of(*args))
            return result

        setattr(Journal, name, wrapped)

    _wrap("plan", lambda plan, *rest: "planned")
    _wrap("record", lambda epoch, step, *rest: step.value)
    _wrap("end", lambda move, *rest: move.step.value)
