"""All ports over one stream: what `service` reads from its client goes in here, what the switch sends comes out."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

from p4switch.ports.base import Numbered, Received, Sent
from p4switch.ports.inbox import Inbox

_WAITING = 8192
"""Frames that wait for a client that reads slowly."""
_HANDOVER = 2.0
"""Seconds that a new client waits for the last frames of one that has said all."""


class Session:
    """One client: what waits for it."""

    def __init__(self) -> None:
        self.leaving = False
        """It has said all."""
        self._frames: deque[tuple[int, bytes]] = deque()
        self._ended = False
        self._change = threading.Condition()

    def offer(self, port: int, frame: bytes) -> bool:
        """Give it a frame; False if it reads too slowly."""
        with self._change:
            if self._ended or len(self._frames) >= _WAITING:
                return False
            self._frames.append((port, frame))
            self._change.notify()
        return True

    def end(self) -> None:
        """No more frames."""
        with self._change:
            self._ended = True
            self._change.notify()

    def take(self) -> list[tuple[int, bytes]]:
        """What waits, by port, once something does; empty: that was all."""
        with self._change:
            self._change.wait_for(lambda: self._frames or self._ended)
            taken = list(self._frames)
            self._frames.clear()
        return taken


class StreamPorts:
    """Packet I/O of the stream. Any port number may be used. Without a client nothing can be sent."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._inbox = Inbox()
        self._session: Session | None = None
        self._change = threading.Condition()
        self._ports: dict[int, str] = {}

    # -- the service's side ------------------------------------------------------------------------------------------

    def open(self) -> Session | None:
        """A session for a new client; None while another one has it."""
        with self._change:
            if self._session is not None and self._session.leaving:
                self._change.wait_for(lambda: self._session is None, _HANDOVER)
            if self._session is not None:
                return None
            self._session = Session()
            return self._session

    def bring(self, port: int, frame: bytes, number: int) -> bool:
        """A frame from the client; what it leads to has its ``number``. Waits for room; False once the switch stops."""
        return self._inbox.put(Received(port, Numbered.of(frame, number) if number else frame))

    def leave(self, session: Session) -> None:
        """The client has said all: its session ends when all of it is processed."""
        session.leaving = True
        if not self._inbox.put(lambda: self._release(session)):
            self._release(session)

    def _release(self, session: Session) -> None:
        with self._change:
            self._session = None
            self._change.notify_all()
        session.end()

    # -- the data thread's side --------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """As `PacketIo`."""
        return self._inbox.fileno()

    def ports(self) -> Mapping[int, str]:
        """The ports used so far."""
        return dict(self._ports)

    def receive(self, limit: int) -> list[Received]:
        """As `PacketIo`."""
        frames = self._inbox.take(limit)
        for port, _ in frames:
            self._name(port)
        return frames

    def _name(self, port: int) -> None:
        self._ports.setdefault(port, f"{self.address}#{port}")

    def send(self, port: int, frame: bytes) -> Sent:
        """As `PacketIo`."""
        session = self._session
        if session is None or not session.offer(port, frame):
            return Sent.LATER
        self._name(port)
        return Sent.YES

    def drops(self) -> Mapping[str, int]:
        """As `PacketIo`: nothing is lost here."""
        return {}

    def close(self) -> None:
        """As `PacketIo`."""
        self._inbox.close()
        session = self._session
        if session is not None:
            self._release(session)
