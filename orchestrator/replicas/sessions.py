"""The control network's server side: connections of replicas and of the VMM agent.

Every connection begins with `Hello`; the handler welcomes or refuses it. A replica that connects again replaces its
former connection. What a peer does not read is bounded: at `BACKLOG` bytes its connection is closed, and it connects
again, when moves repeat what they asked.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from splitmerge.decimals import decimal
from splitmerge.errors import BadInput, WireError
from splitmerge.messages import PROTOCOL, Hello, Message, Refused, Welcome
from splitmerge.tls import REPLICA, Identity, agent_name, names_in
from splitmerge.wire import Decoder, encode

logger = logging.getLogger("orchestrator.sessions")
raw_logger = logging.getLogger("orchestrator.messages")

BACKLOG = 64 * 1024 * 1024
"""Bytes waiting to be read by one peer."""
HELLO_DEADLINE = 5.0
"""Seconds for the first message."""


class Handler(Protocol):
    """What sessions tell the orchestrator."""

    def hello(self, session: Session, hello: Hello) -> Welcome | Refused:
        """Who connects. On `Welcome` the session counts; on `Refused` it is closed after the answer."""

    def message(self, session: Session, message: Message) -> None:
        """A message after a welcome."""

    def closed(self, session: Session) -> None:
        """A welcomed session has ended."""


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, handler: Handler, forget: Callable[[Session], None]) -> None:
        self.peer = Hello(role="unknown")
        self.welcomed = False
        self._handler = handler
        self._forget = forget
        self._decoder = Decoder()
        self._transport: asyncio.WriteTransport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"replica {self.peer.replica}" if self.peer.role == "replica" else self.peer.name or self.peer.role

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._deadline = asyncio.get_running_loop().call_later(HELLO_DEADLINE, self.close, "no Hello in time")

    def data_received(self, data: bytes) -> None:
        self._decoder.receive_data(data)
        try:
            for message in self._decoder.messages():
                self._received(message)
        except WireError as error:
            self.close(str(error))

    def _received(self, message: Message) -> None:
        raw_logger.debug("%s -> %s", self.name, message)
        if self.welcomed:
            self._handler.message(self, message)
        elif isinstance(message, Hello):
            self._introduced(message)
        else:
            self.close(f"{type(message).__name__} before Hello")

    def _introduced(self, hello: Hello) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self.peer = hello
        names = self.certified
        wanted = REPLICA if hello.role == "replica" else agent_name(hello.name)
        answer: Welcome | Refused
        if hello.protocol != PROTOCOL:
            answer = Refused(epoch=0, request="Hello", reason=f"protocol {hello.protocol}; this side speaks {PROTOCOL}")
        elif names is not None and wanted not in names:
            reason = f"the certificate is for {', '.join(sorted(names))}, not for {wanted}"
            answer = Refused(epoch=0, request="Hello", reason=reason)
        else:
            answer = self._handler.hello(self, hello)
        self.welcomed = isinstance(answer, Welcome)
        self.send(answer)
        if isinstance(answer, Refused):
            self.close(f"refused: {answer.reason}")

    @property
    def certified(self) -> frozenset[str] | None:
        """Whom the peer's certificate is for; None where there is no TLS."""
        if self._transport is None or self._transport.get_extra_info("ssl_object") is None:
            return None
        return names_in(self._transport.get_extra_info("peercert"))

    def send(self, message: Message) -> bool:
        """Send, or close a connection whose peer does not read; whether it was taken."""
        if self._transport is None or self._transport.is_closing():
            return False
        raw_logger.debug("%s <- %s", self.name, message)
        self._transport.write(encode(message))
        if self._transport.get_write_buffer_size() > BACKLOG:
            logger.error("%s does not read: %d bytes wait; closing", self.name, BACKLOG)
            self._transport.abort()
        return True

    def close(self, why: str = "") -> None:
        """Close after what is already written."""
        if self._transport is not None and not self._transport.is_closing():
            if why:
                logger.warning("closing %s: %s", self.name, why)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._transport = None
        self._forget(self)
        if self.welcomed:
            self._handler.closed(self)


@asynccontextmanager
async def serve(address: str, handler: Handler, identity: Identity | None = None) -> AsyncIterator[asyncio.Server]:
    """Listen on ``unix:/path``, ``tcp:host:port`` or ``tls:host:port`` until the end of the block.

    Then every connection is closed.

    A Unix socket is for its owner only (mode 0600); one left behind by a dead process is replaced.
    :raises BadInput: for another form of address. :raises OSError: if it cannot be listened on.
    """
    sessions: set[Session] = set()

    def accept() -> Session:
        session = Session(handler, sessions.discard)
        sessions.add(session)
        return session

    server = await _listen(address, accept, identity)
    try:
        yield server
    finally:
        server.close()
        for session in list(sessions):
            session.close()
        await server.wait_closed()
        _remove_socket(address)


async def _listen(address: str, accept: Callable[[], Session], identity: Identity | None) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    kind, _, place = address.partition(":")
    if kind == "unix" and place:
        _remove_socket(address)
        server = await loop.create_unix_server(accept, place)
        os.chmod(place, 0o600)
        return server
    host, _, digits = place.rpartition(":")
    port = decimal(digits, 0xFFFF)
    if kind == "tcp" and host and port is not None:
        return await loop.create_server(accept, host.strip("[]"), port)
    if kind == "tls" and host and port is not None:
        if identity is None:
            raise BadInput("control", f"{address!r} needs certificates", "give tls: ca, certificate and key")
        context = identity.server()
        return await loop.create_server(
            accept, host.strip("[]"), port, ssl=context, ssl_handshake_timeout=HELLO_DEADLINE
        )
    raise BadInput("control", f"{address!r} is no address", "write unix:/path, tcp:host:port or tls:host:port")


def _remove_socket(address: str) -> None:
    kind, _, place = address.partition(":")
    if kind == "unix":
        Path(place).unlink(missing_ok=True)
