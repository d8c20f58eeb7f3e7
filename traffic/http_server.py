"""A small HTTP/1.1 server that says what it got: `python -m traffic.http_server --bind 10.0.2.2 --port 80`.

Every response carries the request's X-Request-Id back, and the CRC-32 of the target and body as they arrived, so that
the client notices any corruption of its stream. Connections are kept alive.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import zlib
from typing import cast

import httptools
import msgspec

from traffic import command


class ServerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the server saw."""

    requests: int
    connections: int
    errors: int
    """Connections closed because what came on them was no HTTP."""


class Answer(msgspec.Struct, frozen=True):
    """Body of a response."""

    id: str
    crc: int
    """CRC-32 of target and body."""
    length: int
    """Bytes of the body."""


class _Counters:
    def __init__(self) -> None:
        self.requests = self.connections = self.errors = 0
        self.open: set[asyncio.Transport] = set()


class _Connection(asyncio.Protocol):
    """One client; httptools calls the ``on_`` methods."""

    def __init__(self, counters: _Counters) -> None:
        self._counters = counters
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._begin()

    def _begin(self) -> None:
        self._target = self._id = self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, but not by inheritance
        self._counters.connections += 1
        self._counters.open.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._counters.open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._counters.errors += 1
            if self._transport is not None:
                self._transport.close()

    def on_message_begin(self) -> None:
        self._begin()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self._id = value

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._counters.requests += 1
        answer = Answer(self._id.decode("latin-1"), zlib.crc32(self._target + self._body), len(self._body))
        body = msgspec.json.encode(answer)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: %s\r\nContent-Length: %d\r\n\r\n"
        if self._transport is not None:
            self._transport.write(head % (self._id, len(body)) + body)


async def serve(bind: str, port: int, control: command.Control) -> ServerReport:
    """Serve until told to stop; port 0 takes a free one (`control.ready` tells which)."""
    counters = _Counters()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(counters), bind, port, backlog=1024)
    try:
        address = server.sockets[0].getsockname()
        control.ready(address[0], address[1])
        await control.stopped.wait()
    finally:
        server.close()
        for transport in list(counters.open):
            transport.abort()
        await server.wait_closed()
    return ServerReport(requests=counters.requests, connections=counters.connections, errors=counters.errors)


async def _main(options: argparse.Namespace, control: command.Control) -> ServerReport:
    return await serve(options.bind, options.port, control)


def main() -> int:
    """The command."""
    parser = command.parser("http_server", "HTTP/1.1 server that echoes request ids")
    parser.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS")
    parser.add_argument("--port", type=int, default=8080)
    return command.run(_main, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
