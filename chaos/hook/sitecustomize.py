"""Strikes when the orchestrator has journalled a chosen step; Python imports this module by itself at its start.

Only an orchestrator whose environment names a file of wishes (SPLITMERGE_CHAOS_FILE) is touched, and once for each
wish: the product has no such hook. A wish is JSON: ``step``, and what to do then: ``pids`` to kill (-1: itself, and
no new one works for ``away`` seconds) or to stop (``stop``), or
``cut`` the control network for so many seconds; ``cancel`` names a step in which the move is called off before.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if "SPLITMERGE_CHAOS_FILE" in os.environ and sys.orig_argv[1:3] == ["-m", "orchestrator"]:
    import asyncio
    import weakref

    from orchestrator.journal import Journal
    from orchestrator.mover import Mover
    from orchestrator.sessions import Session

    wishes = Path(os.environ["SPLITMERGE_CHAOS_FILE"])
    absence = wishes.with_suffix(".away")
    while absence.exists() and time.monotonic() < float(absence.read_text()):
        time.sleep(0.02)
    absence.unlink(missing_ok=True)
    socket = Path(os.environ["SPLITMERGE_CHAOS_SOCKET"])
    sessions: weakref.WeakSet[Session] = weakref.WeakSet()
    movers: list[Mover] = []

    def journalled(epoch: int, step: str) -> None:
        """A step is on disk."""
        try:
            wish = json.loads(wishes.read_bytes())
        except FileNotFoundError:  # nothing is wished, or not any more
            return
        if wish.get("cancel") == step:
            asyncio.get_running_loop().call_soon(movers[-1].cancel, epoch, "called off by a test")
        if wish["step"] == step:
            try:
                wishes.unlink()
            except FileNotFoundError:
                return
            strike(wish)

    def strike(wish: dict[str, Any]) -> None:
        """Do what is wished."""
        if "away" in wish:
            absence.write_text(str(time.monotonic() + wish["away"]))
        for pid in wish.get("stop", ()):
            os.kill(pid, signal.SIGSTOP)
        for pid in wish.get("pids", ()):
            os.kill(os.getpid() if pid == -1 else pid, signal.SIGKILL)
        if seconds := wish.get("cut"):
            away = socket.with_suffix(".away")
            socket.rename(away)
            for session in list(sessions):
                if session._transport is not None:
                    session._transport.abort()
            asyncio.get_running_loop().call_later(seconds, away.rename, socket)

    def wrap(kind: type, name: str, before: Callable[..., object], after: Callable[..., object]) -> None:
        """Let ``before`` see the object, and ``after`` the arguments, of each call of a method."""
        original = getattr(kind, name)

        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            before(self)
            result = original(self, *args, **kwargs)
            after(*args)
            return result

        setattr(kind, name, wrapped)

    def nothing(*args: object) -> None:
        """Nothing."""

    wrap(Journal, "plan", nothing, lambda plan, *rest: journalled(plan.epoch, "planned"))
    wrap(Journal, "record", nothing, lambda epoch, step, *rest: journalled(epoch, step.value))
    wrap(Journal, "end", nothing, lambda move, *rest: journalled(move.plan.epoch, move.step.value))
    wrap(Mover, "__post_init__", movers.append, nothing)
    wrap(Session, "connection_made", sessions.add, nothing)
