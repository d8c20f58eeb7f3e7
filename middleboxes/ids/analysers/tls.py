"""TLS handshakes (RFC 8446, 5246, 6066): servers that nobody is to ask for, and versions that are too old, are signs.

Both are said in the clear: the name in the ClientHello's server_name extension, the version in the ServerHello. A hello
may lie in several records, and they in several segments. After the two hellos the connection is done.
"""

from __future__ import annotations

import msgspec

from middleboxes.ids.analysis import BOTH, DONE, NOTHING_READ, Outcome, Reading, Side, Sign
from middleboxes.ids.config import IdsConfig

_HANDSHAKE = 22
_BEGINNING = b"\x16\x03"
"""A handshake record of any version since SSL 3.0."""
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_RECORD = 5
"""Bytes of a record's header: type, version, length."""
_LONGEST_RECORD = 16_384 + 256
_LONGEST_HELLO = 65_536
_LONGEST_NAME = 255
"""Characters of a server's name that are kept: DNS has no longer ones (RFC 1035 §2.3.4), but a hello may."""
_SERVER_NAME, _SUPPORTED_VERSIONS = 0, 43
VERSIONS = {0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}


class Hello(msgspec.Struct):
    """One side's hello that is not whole yet."""

    records: bytearray = msgspec.field(default_factory=bytearray)
    """Bytes of a record that is not whole yet."""
    message: bytearray = msgspec.field(default_factory=bytearray)
    """What the records before it carried."""
    done: bool = False


class TlsState(msgspec.Struct, tag="tls"):
    """All that is known of a connection."""

    client: Hello = msgspec.field(default_factory=Hello)
    server: Hello = msgspec.field(default_factory=Hello)
    known: bool = False
    """Whether the client's stream began as TLS's."""
    name: str = ""
    """The server that the client asked for."""


class Malformed(Exception):
    """It is not what a hello looks like."""


class TlsAnalyser:
    """Reads both sides of whatever begins with a handshake record, on every port."""

    name = "tls"
    state = TlsState
    sides = BOTH
    ports: frozenset[int] = frozenset()
    first_bytes = frozenset((_HANDSHAKE,))

    def __init__(self, config: IdsConfig) -> None:
        self._names = tuple(name.lower().strip(".") for name in config.tls_names)
        self._oldest = next(number for number, text in VERSIONS.items() if text.endswith(" " + config.tls_oldest))

    def begin(self) -> TlsState:
        """The state of a connection of which nothing was read."""
        return TlsState()

    def begins(self, payload: bytes, port: int) -> bool:
        """Whether it is the beginning of a ClientHello."""
        return len(payload) > _RECORD and payload[:2] == _BEGINNING and payload[_RECORD] == _CLIENT_HELLO

    def feed(self, state: TlsState, side: Side, data: bytes) -> Reading:
        """Take the next bytes of one side."""
        hello = state.client if side is Side.CLIENT else state.server
        if hello.done:
            return NOTHING_READ
        hello.records += data
        if side is Side.CLIENT and not state.known:
            if not _BEGINNING.startswith(hello.records[:2]):
                return Reading(outcome=Outcome.FOREIGN, rest=bytes(hello.records))
            state.known = len(hello.records) >= 2
        try:
            message = _whole(hello, _CLIENT_HELLO if side is Side.CLIENT else _SERVER_HELLO)
            if message is None:
                return NOTHING_READ
            sign = self._client(state, message) if side is Side.CLIENT else self._server(state, message)
        except Malformed:
            return Reading(malformed=1, outcome=Outcome.DONE)
        hello.done = True
        hello.records.clear()
        hello.message.clear()
        outcome = Outcome.DONE if side is Side.SERVER else Outcome.GOING
        return Reading(messages=1, signs=[sign] if sign else [], outcome=outcome)

    def gap(self, state: TlsState, side: Side, missing: int) -> Reading:
        """A hello with a hole cannot be read; behind it nothing can be, or need be."""
        hello = state.client if side is Side.CLIENT else state.server
        return NOTHING_READ if hello.done else DONE

    def _client(self, state: TlsState, message: bytes) -> Sign | None:
        body = _Cursor(message)
        body.take(2 + 32)  # version and random
        body.vector(1)  # session
        body.vector(2)  # cipher suites
        body.vector(1)  # compression methods
        named = _Cursor(_extensions(body).get(_SERVER_NAME, b""))
        names = _Cursor(named.vector(2)) if named.left else named
        asked = ""
        while names.left and not asked:
            kind, name = names.number(1), names.vector(2)
            asked = name.decode("latin-1").lower().strip(".") if kind == 0 else ""
        state.name = asked[:_LONGEST_NAME]
        forbidden = any(asked == each or asked.endswith("." + each) for each in self._names)
        return Sign("tls-name", state.name) if forbidden else None

    def _server(self, state: TlsState, message: bytes) -> Sign | None:
        body = _Cursor(message)
        version = body.number(2)
        body.take(32)
        body.vector(1)
        body.take(2 + 1)  # cipher suite and compression method
        chosen = _Cursor(_extensions(body).get(_SUPPORTED_VERSIONS, b""))
        version = chosen.number(2) if chosen.left else version
        if version >= self._oldest:
            return None
        return Sign(
            "tls-version", f"{VERSIONS.get(version, hex(version))} with {state.name or 'a server without name'}"
        )


def _whole(hello: Hello, kind: int) -> bytes | None:
    """The body of the hello, if it is here; takes whole records from the buffer. :raises Malformed:"""
    records, message = hello.records, hello.message
    while records:
        if records[0] != _HANDSHAKE:
            raise Malformed
        if len(records) < _RECORD:
            return None
        length = int.from_bytes(records[3:_RECORD], "big")
        if records[1] != 3 or not 0 < length <= _LONGEST_RECORD:
            raise Malformed
        if len(records) < _RECORD + length:
            return None
        message += records[_RECORD : _RECORD + length]
        del records[: _RECORD + length]
        if message[0] != kind:
            raise Malformed
        size = int.from_bytes(message[1:4], "big")
        if len(message) >= 4 and size > _LONGEST_HELLO:
            raise Malformed
        if len(message) >= 4 + size:
            return bytes(message[4 : 4 + size])
    return None


def _extensions(body: _Cursor) -> dict[int, bytes]:
    """By number. A hello of old may have none. :raises Malformed:"""
    found: dict[int, bytes] = {}
    block = _Cursor(body.vector(2)) if body.left else body
    while block.left:
        number = block.number(2)
        found.setdefault(number, block.vector(2))
    return found


class _Cursor:
    """Reads bytes from first to last."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes. :raises Malformed: if there are fewer."""
        if count > self.left:
            raise Malformed
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, width: int) -> int:
        """The next ``width`` bytes as a number. :raises Malformed:"""
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> bytes:
        """Bytes with their count before them, in ``width`` bytes. :raises Malformed:"""
        return self.take(self.number(width))
