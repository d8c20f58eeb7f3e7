"""Connections of the control network without blocking: framed messages, bounded buffers, reconnecting.

A `Poller` says when a socket is ready; the blocking loop and asyncio each bring one, so these links serve both.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Callable
from typing import Protocol

from guestlib.config import Address
from splitmerge import wire
from splitmerge.errors import BadInput, PeerError, WireError
from splitmerge.messages import PROTOCOL, Carry, Hello, Message, Refused, Stage, Welcome
from splitmerge.tls import ORCHESTRATOR, REPLICA, Channel, Identity

logger = logging.getLogger("guestlib")

SEND_LIMIT = 64 * 1024 * 1024
"""Bytes waiting to be sent on one connection; a peer that lets more pile up is cut off."""
READ_SIZE = 256 * 1024
BACKOFF_FIRST, BACKOFF_MOST = 0.05, 0.25
"""Seconds before a connection is tried again: doubled each time, up to the second. A replica that is away for
longer than `Deadlines.reconnect` (2 s) is ended: it must not sleep through the moment in which it could come back."""
CONNECT_DEADLINE = 5.0
"""Seconds for a connection to come about."""
IDLE_CLOSE = 30.0
"""Seconds after which a connection to a peer that carries nothing is closed."""

Ready = Callable[[], None]


class Poller(Protocol):
    """Calls back when sockets are ready."""

    def watch(self, sock: socket.socket, on_read: Ready | None, on_write: Ready | None) -> None:
        """Call these from now on (instead of others given before)."""

    def unwatch(self, sock: socket.socket) -> None:
        """Call nothing for this socket any more."""


class Connection:
    """One stream socket that carries messages. ``on_message`` may close it; ``on_close`` is called once."""

    def __init__(
        self,
        sock: socket.socket,
        poller: Poller,
        on_message: Callable[[Connection, Message], None],
        on_close: Callable[[Connection], None],
        *,
        connected: bool = True,
        channel: Channel | None = None,
        peer: str = "a peer",
    ) -> None:
        """``peer``: who is at the other end, for the log."""
        self.open = True
        self.level = logging.WARNING
        """Of the log's line that says why it was closed."""
        self._peer = peer
        self._channel = channel
        self._sock = sock
        self._poller = poller
        self._on_message = on_message
        self._on_close = on_close
        self._connected = connected
        self._decoder = wire.Decoder()
        self._out = bytearray(channel.outgoing() if channel else b"")
        self._writing = not connected
        poller.watch(sock, self._readable if connected else None, None if connected else self._writable)

    @property
    def connected(self) -> bool:
        """Open, and the other side has accepted: its certificate too, where there are some."""
        return self.open and self._connected and (self._channel is None or self._channel.established)

    @property
    def unsent(self) -> int:
        """Bytes that wait for the other side to read."""
        return len(self._out) + (self._channel.waiting if self._channel else 0)

    def send(self, message: Message) -> bool:
        """Send, or keep until the socket takes it. False if the connection is closed (also: because of this)."""
        if not self.open:
            return False
        try:
            frame = wire.encode(message)
        except WireError as error:
            logger.error("not sent: %s", error)
            return False
        if self.unsent + len(frame) > SEND_LIMIT:
            self.close(f"{self.unsent} bytes are waiting and it does not read")
            return False
        waiting = bool(self._out)
        if self._channel is not None:
            self._channel.send(frame)
            frame = self._channel.outgoing()
        self._out += frame
        if self._connected and not waiting:
            self._flush()
        return self.open

    def close(self, why: str = "") -> None:
        """Close, once; ``why`` is logged."""
        if not self.open:
            return
        self.open = False
        if why:
            logger.log(self.level, "connection with %s closed: %s", self._peer, why)
        self._poller.unwatch(self._sock)
        self._sock.close()
        self._on_close(self)

    def _watch(self) -> None:
        if self._writing != bool(self._out):
            self._writing = bool(self._out)
            self._poller.watch(self._sock, self._readable, self._writable if self._writing else None)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(str(error))
            return
        if not data:
            self.close()
            return
        try:
            self._decoder.receive_data(data if self._channel is None else self._decrypted(self._channel, data))
            while self.open and (message := self._decoder.next_message()) is not None:
                self._on_message(self, message)
        except PeerError as error:
            self.close(str(error))

    def _decrypted(self, channel: Channel, data: bytes) -> bytes:
        """:raises PeerError: if the other side is not who it should be; it is told so."""
        try:
            return channel.receive_data(data)
        finally:
            self._out += channel.outgoing()
            if self._out:
                self._flush()

    def _writable(self) -> None:
        if not self._connected:
            problem = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if problem:
                self.close(f"cannot connect: {os.strerror(problem)}")
                return
            self._connected = True
        self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                sent = self._sock.send(self._out)
                del self._out[:sent]
        except BlockingIOError:
            logger.debug("%d bytes wait for the peer to read", len(self._out))
        except OSError as error:
            self.close(str(error))
            return
        self._watch()


class Link:
    """A connection that this side opens, says Hello on, and opens again when it breaks.

    ``keep``: reconnect as long as the link lives (to the orchestrator); otherwise only when there is something to send.
    """

    def __init__(
        self,
        address: Address,
        poller: Poller,
        hello: Callable[[], Hello],
        on_message: Callable[[Connection, Message], None],
        *,
        keep: bool,
        identity: Identity | None = None,
        expected: str = ORCHESTRATOR,
        welcomed: Callable[[Welcome], object] = lambda welcome: None,
    ) -> None:
        self.address = address
        self._welcomed = welcomed
        self._identity = identity
        self._expected = expected
        self.welcome: Welcome | None = None
        """What the other side said; None until it has, and again when the connection breaks."""
        self._poller = poller
        self._hello = hello
        self._on_message = on_message
        self._keep = keep
        self._connection: Connection | None = None
        self._backoff = BACKOFF_FIRST
        self._retry_at = 0.0
        self._connect_by = 0.0
        self._used_at = 0.0
        self._closed = False
        self._told = False
        """That it cannot connect, or is not let in, has been said: once until it is."""

    @property
    def connected(self) -> bool:
        """Whether messages sent now have somewhere to go."""
        return self._connection is not None and self._connection.connected

    @property
    def unsent(self) -> int:
        """Bytes that wait for the other side to read."""
        return self._connection.unsent if self._connection is not None else 0

    def send(self, message: Message, now: float) -> bool:
        """Send if there is a connection, or (without ``keep``) if one can be opened now."""
        self._used_at = now
        if self._connection is None and not self._keep and now >= self._retry_at:
            self._connect(now)
        return self._connection is not None and self._connection.send(message)

    def disused(self, now: float) -> bool:
        """Not connected, and nobody has wanted it for a while."""
        return self._connection is None and now >= self._used_at + IDLE_CLOSE

    def next_due(self) -> float | None:
        """When `tick` has something to do."""
        if self._connection is None:
            return self._retry_at if self._keep and not self._closed else None
        if not self._connection.connected:
            return self._connect_by
        return None if self._keep else self._used_at + IDLE_CLOSE

    def tick(self, now: float) -> None:
        """Connect again, give up on connecting, or close what is idle."""
        if self._connection is None:
            if self._keep and not self._closed and now >= self._retry_at:
                self._connect(now)
        elif not self._connection.connected and now >= self._connect_by:
            self._connection.close("it does not accept")
            self._back_off(now)
        elif not self._keep and now >= self._used_at + IDLE_CLOSE and not self._connection.unsent:
            self._connection.close()

    def close(self) -> None:
        """Close for good."""
        self._closed = True
        if self._connection is not None:
            self._connection.close()

    def _connect(self, now: float) -> None:
        self._back_off(now)
        self._connect_by = now + CONNECT_DEADLINE
        sock = self.address.socket()
        try:
            problem = sock.connect_ex(self.address.target)
            why = os.strerror(problem)
        except OSError as error:  # a host name that does not resolve
            problem, why = errno.EHOSTUNREACH, error.strerror or str(error)
        level = logging.DEBUG if self._told else logging.WARNING
        self._told = True
        # EAGAIN of a Unix socket means that the listener's backlog is full; it never becomes writable.
        if problem not in (0, errno.EINPROGRESS):
            logger.log(level, "cannot connect to %s at %s: %s", self._expected, self.address, why)
            sock.close()
            return
        channel = (
            Channel(self._identity, (self._expected,), server=False) if self.address.tls and self._identity else None
        )
        self._connection = Connection(
            sock, self._poller, self._received, self._lost,
            connected=problem == 0, channel=channel, peer=f"{self._expected} at {self.address}",
        )  # fmt: skip
        self._connection.level = level
        self._connection.send(self._hello())

    def _back_off(self, now: float) -> None:
        self._retry_at = now + self._backoff
        self._backoff = min(2 * self._backoff, BACKOFF_MOST)

    def _received(self, connection: Connection, message: Message) -> None:
        if isinstance(message, Welcome):
            if message.protocol != PROTOCOL:
                raise PeerError(f"it speaks protocol {message.protocol}, this side {PROTOCOL}")
            self.welcome = message
            self._told = False
            connection.level = logging.WARNING
            self._backoff = BACKOFF_FIRST
            self._welcomed(message)
            return
        if isinstance(message, Refused) and message.request == "Hello":
            raise PeerError(f"it refuses this {self._hello().role}: {message.reason}")
        self._on_message(connection, message)

    def _lost(self, connection: Connection) -> None:
        self._connection = None
        self.welcome = None


class Listener:
    """The socket on which this replica's peers bring state and packets. A peer may say Hello, Stage and Carry."""

    def __init__(
        self,
        address: Address,
        poller: Poller,
        welcome: Callable[[], Welcome],
        on_message: Callable[[Connection, Message], None],
        identity: Identity | None = None,
    ) -> None:
        self._identity = identity if address.tls else None
        self._poller = poller
        self._welcome = welcome
        self._on_message = on_message
        self._connections: dict[Connection, bool] = {}
        self._sock = _listen(address)
        host, port = self._sock.getsockname()[:2] if address.path is None else ("", 0)
        self._path = address.path
        self.address = Address(address.path, host, port, address.tls)
        """Where peers connect to: the address given, with the port that a 0 turned into."""
        poller.watch(self._sock, self._acceptable, None)

    def close(self) -> None:
        """Close the socket and every connection; the Unix path goes."""
        self._poller.unwatch(self._sock)
        self._sock.close()
        for connection in list(self._connections):
            connection.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _acceptable(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError as error:  # gone again, or no descriptors left
            logger.warning("accept: %s", error)
            return
        sock.setblocking(False)
        channel = Channel(self._identity, (REPLICA,), server=True) if self._identity else None
        connection = Connection(sock, self._poller, self._received, self._lost, channel=channel)
        self._connections[connection] = False

    def _received(self, connection: Connection, message: Message) -> None:
        if isinstance(message, Hello):
            self._greet(connection, message)
            return
        if not self._connections.get(connection):
            raise PeerError(f"a peer said {type(message).__name__} before Hello")
        if not isinstance(message, Stage | Carry):
            raise PeerError(f"a peer may not say {type(message).__name__}")
        self._on_message(connection, message)

    def _greet(self, connection: Connection, message: Hello) -> None:
        if message.protocol != PROTOCOL or message.role != "peer":
            reason = f"this side speaks protocol {PROTOCOL} to role peer, not {message.protocol} to {message.role!r}"
            connection.send(Refused(epoch=0, request="Hello", reason=reason))
            raise PeerError(reason)
        self._connections[connection] = True
        connection.send(self._welcome())

    def _lost(self, connection: Connection) -> None:
        self._connections.pop(connection, None)


def _listen(address: Address) -> socket.socket:
    sock = address.socket()
    try:
        if address.path is not None:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(address.path.lstat().st_mode):
                    address.path.unlink()  # left behind by a process that was killed
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address.target)
        if address.path is not None:
            address.path.chmod(0o600)
        sock.listen(64)
    except OSError as error:
        sock.close()
        raise BadInput("peer", f"cannot listen on {address}: {error.strerror or error}") from error
    return sock
