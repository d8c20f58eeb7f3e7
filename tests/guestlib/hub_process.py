"""A process that serves coherent state: sessions, journal, hub and lock service of the orchestrator, no switch.

A replica has ended when its directory has a file dead-N.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestrator.errors import JournalError
from orchestrator.journal import Journal, ReplicaRow
from orchestrator.replicas.sessions import Session, serve
from orchestrator.shared import SharedState
from splitmerge import messages as m

LOOK = 0.05


class Hub:
    """`orchestrator.replicas.sessions.Handler`."""

    def __init__(self, directory: Path, lease: float, replicas: set[int], locks: str) -> None:
        self._directory = directory
        self._living = replicas
        self._sessions: dict[int, Session] = {}
        self._welcome = m.Welcome(locks=locks, lease=lease)
        self._journal = Journal(directory / "journal.db")
        self._shared = SharedState(self._journal, self._journal.load(), self._send, lease, fault=_end)
        self._shared.begin()

    def _send(self, replica: int, message: m.Message) -> None:
        if (session := self._sessions.get(replica)) is not None:
            session.send(message)

    def hello(self, session: Session, hello: m.Hello) -> m.Welcome:
        self._sessions[hello.replica] = session
        self._journal.put_replica(ReplicaRow(hello.replica, 0, 0, "live", hello.incarnation))
        return self._welcome

    def message(self, session: Session, message: m.Message) -> None:
        self._shared.handle(session.peer.replica, message, sorted(self._living))

    def closed(self, session: Session) -> None:
        if self._sessions.get(session.peer.replica) is session:
            del self._sessions[session.peer.replica]

    async def run(self) -> None:
        async with serve(f"unix:{self._directory}/o", self):
            while True:
                await asyncio.sleep(LOOK)
                for number in [each for each in self._living if (self._directory / f"dead-{each}").exists()]:
                    self._living.discard(number)
                    self._shared.gone(number)


def _end(fault: JournalError) -> None:
    raise SystemExit(str(fault))


def serve_coherent(directory: Path, lease: float, replicas: set[int], locks: str) -> None:
    """The whole process. ``locks``: address of another lock service, or nothing."""
    asyncio.run(_serve(directory, lease, replicas, locks))


async def _serve(directory: Path, lease: float, replicas: set[int], locks: str) -> None:
    await Hub(directory, lease, replicas, locks).run()
