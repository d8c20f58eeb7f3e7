"""Strikes when the orchestrator has journalled a chosen step; Python imports this module by itself at its start.

Only an orchestrator whose environment names a file of wishes (SPLITMERGE_CHAOS_FILE) is touched, and once for each
wish: the product has no such hook. A wish is JSON: ``step``, and what to do then: ``pids`` to kill (-1: itself, and
no new one works for ``away`` seconds) or to stop (``stop``), or
``cut`` the control network for so many seconds, ``peers`` being the processes of replicas, or ``unlink`` the switch
for so many; ``cancel`` names a step in which the move is called off before.
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
    from splitmerge.polling import poll_where_served

    poll_where_served()  # as the process itself does, but for this module's imports

    import asyncio
    import socket as sockets
    import weakref
    from dataclasses import replace
    from functools import partial

    from chaos import cutting
    from orchestrator.journal import Journal
    from orchestrator.migration.steps import BEHIND, Step
    from orchestrator.moves.mover import Mover
    from orchestrator.replicas.sessions import Session
    from p4rt_controller.link import Link

    wishes = Path(os.environ["SPLITMERGE_CHAOS_FILE"])
    absence = wishes.with_suffix(".away")
    while absence.exists() and time.monotonic() < float(absence.read_text()):
        time.sleep(0.02)
    absence.unlink(missing_ok=True)
    socket = Path(os.environ["SPLITMERGE_CHAOS_SOCKET"])
    sessions: weakref.WeakSet[Session] = weakref.WeakSet()
    movers: list[Mover] = []
    switches: set[int] = set()
    """TCP ports of their P4Runtime servers."""
    unlinked_until = 0.0
    NOWHERE = "127.0.0.1:9"
    """An address at which nobody listens."""
    PUNT, SWITCHS = "punt", "-sw"
    """Names of the punt ports' interfaces begin so; the switch's ends of their links end so."""

    def journalled(epoch: int, step: str) -> None:
        """A step is on disk; those of `BEHIND` are not yet, and have begun."""
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

    def record_begins(journal: Journal, epoch: int, step: Step, *rest: object) -> None:
        """Only steps of `BEHIND` are struck here."""
        if step in BEHIND:
            journalled(epoch, step.value)

    def recorded(epoch: int, step: Step, *rest: object) -> None:
        """Any other step."""
        if step not in BEHIND:
            journalled(epoch, step.value)

    def strike(wish: dict[str, Any]) -> None:
        """Do what is wished."""
        if "away" in wish:
            absence.write_text(str(time.monotonic() + wish["away"]))
        for pid in wish.get("stop", ()):
            os.kill(pid, signal.SIGSTOP)
        for pid in wish.get("pids", ()):
            os.kill(os.getpid() if pid == -1 else pid, signal.SIGKILL)
        if seconds := wish.get("cut"):
            cut(seconds, wish.get("peers", ()))
        if seconds := wish.get("unlink"):
            unlink(seconds)

    def cut(seconds: float, peers: list[int]) -> None:
        """End the connections of the control network; nobody finds who listened for so long."""
        listeners = [socket, *socket.parent.glob("replica-*.sock")]
        for session in list(sessions):
            if session._transport is not None:
                session._transport.abort()
        for path in listeners:
            path.rename(path.with_suffix(".away"))
        for pid in peers:
            for connection in cutting.accepted(pid, [str(path) for path in listeners]):
                cutting.end(connection)
        for path in listeners:
            asyncio.get_running_loop().call_later(seconds, path.with_suffix(".away").rename, path)

    def unlink(seconds: float) -> None:
        """End the connections to the switches, and put the punt ports down."""
        global unlinked_until
        unlinked_until = time.monotonic() + seconds
        for connection in cutting.own_connections(switches):
            cutting.end(connection)
        for _, name in sockets.if_nameindex():
            if name.startswith(PUNT) and not name.endswith(SWITCHS):
                cutting.set_up(name, up=False)
                asyncio.get_running_loop().call_later(seconds, partial(cutting.set_up, name, up=True))

    def wrap(kind: type, name: str, before: Callable[..., object], after: Callable[..., object]) -> None:
        """Let ``before`` see the object and the arguments, and ``after`` the arguments, of each call of a method."""
        original = getattr(kind, name)

        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            before(self, *args)
            result = original(self, *args, **kwargs)
            after(*args)
            return result

        setattr(kind, name, wrapped)

    def nothing(*args: object) -> None:
        """Nothing."""

    def made(link: Link, options: Any, *rest: Any) -> None:
        """A connection to a switch: while those are cut it leads nowhere."""
        switches.add(int(options.address.rpartition(":")[2]))
        away = time.monotonic() < unlinked_until
        make(link, replace(options, address=NOWHERE) if away else options, *rest)

    make = Link.__init__
    Link.__init__ = made  # type: ignore[assignment, method-assign]
    wrap(Journal, "plan", nothing, lambda plan, *rest: journalled(plan.epoch, "planned"))
    wrap(Journal, "record", record_begins, recorded)
    wrap(Journal, "end", nothing, lambda move, *rest: journalled(move.plan.epoch, move.step.value))
    wrap(Mover, "__post_init__", movers.append, nothing)
    wrap(Session, "connection_made", lambda session, *rest: sessions.add(session), nothing)
