"""HTTP/1 requests from a byte stream, with a state that can move between replicas at any byte. Sans-IO.

httptools' parser is a C object: it cannot travel. So the state holds the bytes of the message that is not whole yet and
where in it the search for its end stands, all plain typed data (`HttpState`). The *end* of a message is found here
(blank line, Content-Length, chunk sizes); what is *in* it is read by httptools from the whole message, and if the two
disagree about where it ends, the message is malformed.

    HEAD ──blank line──> BODY (Content-Length) ──┐        too long: inspected so far, then SKIP / SKIP_CHUNKS
      ^ └──────────────> CHUNKS ─────────────────┤
      └──────────────────────────────────────────┘
    anything that is no HTTP, or a gap: SEARCH, until something looks like a request line

What is found depends on the bytes only, never on how they were cut into segments: limits are positions in the stream.
A detector must not be blinder than the laxest server, so httptools is told to be lenient, and of a malformed message
the request line is still inspected.
"""

from __future__ import annotations

import enum
import re

import httptools
import msgspec

_METHODS = (
    b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE", b"PROPFIND", b"PROPPATCH",
    b"MKCOL", b"COPY", b"MOVE", b"LOCK", b"UNLOCK", b"SEARCH", b"REPORT",
)  # fmt: skip
_ANY = b"(?:" + b"|".join(_METHODS) + b")"
_LONGEST = max(map(len, _METHODS))
_START = re.compile(_ANY + b" ")
_BLANK = re.compile(rb"\r?\n\r?\n")
_EMPTY_LINES = re.compile(rb"[\r\n]+")
_TARGET = re.compile(b"(" + _ANY + rb") ([^\s]*)")
_LINE = re.compile(_ANY + rb" \S+ HTTP/1\.[0-9]\r?\n")
_LINE_BEGUN = re.compile(_ANY + rb" \S*(?: [HTP/1.0-9]{0,8}\r?)?\Z")
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\n]*)?\r?\n")
_CHUNK_LINE = 4096
"""Bytes of a chunk's size line with its extensions (llhttp has no limit; a client that needs more is no client)."""


class Phase(enum.IntEnum):
    """Where in a message the stream stands."""

    HEAD = 0
    BODY = 1
    CHUNKS = 2
    SKIP = 3
    SKIP_CHUNKS = 4
    SEARCH = 5


class HttpState(msgspec.Struct, tag="http"):
    """All that is known of one request stream."""

    phase: Phase = Phase.HEAD
    buffer: bytearray = msgspec.field(default_factory=bytearray)
    """Bytes from the start of the message that is not whole yet."""
    scanned: int = 0
    """HEAD: the blank line does not end before this position of the buffer."""
    need: int = 0
    """BODY: length of the message (or of as much as is inspected). CHUNKS: length beyond which it is too long."""
    chunk: int = 0
    """CHUNKS, SKIP_CHUNKS: where the next size line starts, perhaps beyond the buffer."""
    skip: int = 0
    """SKIP, and BODY of a message too long: bytes to discard after it."""
    malformed: int = 0
    overflows: int = 0
    lost: int = 0
    """Bytes passed over while searching for a request line."""


class Limits(msgspec.Struct, frozen=True):
    """In bytes."""

    head: int = 16 * 1024
    body: int = 64 * 1024


class Request(msgspec.Struct, frozen=True):
    """One request. ``whole``: all of it is here, and well-formed; else what could be read."""

    method: bytes
    target: bytes
    content_type: bytes = b""
    body: bytes = b""
    whole: bool = True


def feed(state: HttpState, data: bytes, limits: Limits) -> list[Request]:
    """Take the next bytes of the stream; return the requests that end in them, in order. Raises nothing."""
    state.buffer += data
    found: list[Request] = []
    while state.buffer and _STEPS[state.phase](state, limits, found):
        pass
    return found


def begins_request(payload: bytes) -> bool:
    """Whether a segment that starts so is where a stream of requests can be picked up."""
    return _START.match(payload) is not None


def gap(state: HttpState, missing: int) -> list[Request]:
    """``missing`` bytes of the stream are lost. Returns what can be told of the request that they tore."""
    if state.phase is Phase.SKIP and state.skip >= missing:
        state.skip -= missing
        if not state.skip:
            state.phase = Phase.HEAD
        return []
    torn = [] if state.phase in (Phase.SKIP, Phase.SKIP_CHUNKS, Phase.SEARCH) else _salvage(bytes(state.buffer))
    _restart(state, len(state.buffer), Phase.SEARCH)
    return torn


# -- steps: each returns whether another may follow; False waits for more bytes ---------------------------------


def _step_head(state: HttpState, limits: Limits, found: list[Request]) -> bool:
    buffer = state.buffer
    empty = _EMPTY_LINES.match(buffer)  # RFC 9112 §2.2: a server should ignore them
    if empty:
        del buffer[: empty.end()]
        return True
    if not state.scanned and not _START.match(buffer):
        begun = len(buffer) <= _LONGEST and any((method + b" ").startswith(buffer) for method in _METHODS)
        state.phase = Phase.HEAD if begun else Phase.SEARCH
        return not begun
    end = _BLANK.search(buffer, max(state.scanned - 3, 0), limits.head)
    if end:
        return _head_complete(state, end.end(), limits, found)
    state.scanned = len(buffer)
    if len(buffer) < limits.head:
        return False
    state.overflows += 1
    found += _salvage(bytes(buffer[: limits.head]))
    return _restart(state, limits.head, Phase.SEARCH)


def _head_complete(state: HttpState, end: int, limits: Limits, found: list[Request]) -> bool:
    message = _parse(bytes(state.buffer[:end]))
    length = message.length
    if message.failed or length < 0:
        return _malformed(state, end, found)
    if message.chunked:
        state.phase, state.chunk, state.need = Phase.CHUNKS, end, end + limits.body
        return True
    if length:
        state.phase, state.need = Phase.BODY, end + min(length, limits.body)
        state.skip = length - min(length, limits.body)
        return True
    if not message.complete:
        return _malformed(state, end, found)
    found.append(message.request(whole=True))
    return _restart(state, end, Phase.HEAD)


def _step_body(state: HttpState, limits: Limits, found: list[Request]) -> bool:
    if len(state.buffer) < state.need:
        return False
    return _message_complete(state, state.need, found, too_long=state.skip > 0, then=Phase.SKIP)


def _step_chunks(state: HttpState, limits: Limits, found: list[Request]) -> bool:
    buffer = state.buffer
    if state.chunk > state.need:
        if len(buffer) < state.need:
            return False
        return _message_complete(state, state.need, found, too_long=True, then=Phase.SKIP_CHUNKS)
    line = _CHUNK_SIZE.match(buffer, state.chunk, state.chunk + _CHUNK_LINE)
    if not line:
        return _bad_chunk(state) and _malformed(state, state.chunk, found)
    size = int(line.group(1), 16)
    if size:
        state.chunk = line.end() + size + 2
        return True
    newline = line.end() - (2 if buffer[line.end() - 2] == 0x0D else 1)
    end = _BLANK.search(buffer, newline, newline + limits.head)
    if end:
        return _message_complete(state, end.end(), found, too_long=False, then=Phase.HEAD)
    return len(buffer) >= newline + limits.head and _malformed(state, newline, found)


def _step_skip(state: HttpState, limits: Limits, found: list[Request]) -> bool:
    taken = min(state.skip, len(state.buffer))
    del state.buffer[:taken]
    state.skip -= taken
    if not state.skip:
        state.phase = Phase.HEAD
    return not state.skip


def _step_skip_chunks(state: HttpState, limits: Limits, found: list[Request]) -> bool:
    buffer = state.buffer
    taken = min(state.chunk, len(buffer))
    del buffer[:taken]
    state.chunk -= taken
    line = _CHUNK_SIZE.match(buffer, 0, _CHUNK_LINE) if not state.chunk else None
    if state.chunk or not line:
        return not state.chunk and _bad_chunk(state) and _malformed(state, 0, found)
    size = int(line.group(1), 16)
    if size:
        state.chunk = line.end() + size + 2
        return True
    newline = line.end() - (2 if buffer[line.end() - 2] == 0x0D else 1)
    end = _BLANK.search(buffer, newline, newline + limits.head)
    if end:
        return _restart(state, end.end(), Phase.HEAD)
    return len(buffer) >= newline + limits.head and _malformed(state, newline, found)


def _step_search(state: HttpState, limits: Limits, found: list[Request]) -> bool:
    buffer = state.buffer
    line = _LINE.search(buffer)
    if line and line.end() - line.start() <= limits.head:
        state.lost += line.start()
        return _restart(state, line.start(), Phase.HEAD)
    begun = line or _LINE_BEGUN.search(buffer)
    start = begun.start() if begun else max(len(buffer) - _LONGEST, 0)
    endless = len(buffer) - start > limits.head
    if endless:  # no line is so long: pass it over, but not what may begin at its end
        start += limits.head + 1 - _LONGEST
    state.lost += start
    del buffer[:start]
    return endless


_STEPS = (_step_head, _step_body, _step_chunks, _step_skip, _step_skip_chunks, _step_search)


def _restart(state: HttpState, consumed: int, phase: Phase) -> bool:
    """The first ``consumed`` bytes are done with; what follows starts in this phase."""
    del state.buffer[:consumed]
    state.phase = phase
    state.scanned = state.need = state.chunk = state.skip = 0
    return True


def _message_complete(state: HttpState, end: int, found: list[Request], *, too_long: bool, then: Phase) -> bool:
    message = _parse(bytes(state.buffer[:end]))
    if message.failed or not (too_long or message.complete):
        return _malformed(state, end, found)
    found.append(message.request(whole=not too_long))
    chunk, skip = state.chunk - end, state.skip
    _restart(state, end, then if too_long else Phase.HEAD)
    if too_long:
        state.overflows += 1
        state.chunk, state.skip = (chunk, 0) if then is Phase.SKIP_CHUNKS else (0, skip)
    return True


def _malformed(state: HttpState, end: int, found: list[Request]) -> bool:
    state.malformed += 1
    if state.phase is not Phase.SKIP_CHUNKS:
        found += _salvage(bytes(state.buffer[:end]))
    return _restart(state, end, Phase.SEARCH)


def _bad_chunk(state: HttpState) -> bool:
    """Whether what stands where a size line should be can no longer become one."""
    rest = state.buffer[state.chunk : state.chunk + _CHUNK_LINE]
    return b"\n" in rest or len(rest) >= _CHUNK_LINE


# -- what is in a message ------------------------------------------------------------------------------------------


class _Message:
    """httptools' callbacks for one message."""

    __slots__ = ("begun", "body", "chunked", "complete", "content_type", "failed", "length", "method", "target")

    def __init__(self) -> None:
        self.begun = 0
        self.complete = False
        self.failed = False
        self.method = b""
        self.target = b""
        self.content_type = b""
        self.length = 0
        self.chunked = False
        self.body = b""

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes | None) -> None:
        lowered, value = name.lower(), (value or b"").strip()
        if lowered == b"content-length":
            self.length = int(value) if value.isdigit() else -1
        elif lowered == b"transfer-encoding":
            self.chunked = value.lower().rpartition(b",")[2].strip() == b"chunked"
        elif lowered == b"content-type":
            self.content_type = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True

    def request(self, *, whole: bool) -> Request:
        """The request read."""
        return Request(self.method, self.target, self.content_type, self.body, whole)


def _parse(data: bytes) -> _Message:
    """Read the bytes of exactly one message, or its beginning."""
    message = _Message()
    parser = httptools.HttpRequestParser(message)
    parser.set_dangerous_leniencies(
        lenient_headers=True,
        lenient_chunked_length=True,
        lenient_version=True,
        lenient_optional_lf_after_cr=True,
        lenient_optional_cr_before_lf=True,
        lenient_spaces_after_chunk_size=True,
    )
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade as upgrade:
        # The server may refuse: go on reading HTTP, and what follows as a body, else a header would blind the detector.
        message.body += data[upgrade.args[0] :]
        message.complete = True
    except httptools.HttpParserError:
        message.failed = True
    message.failed = message.failed or message.begun != 1
    message.method = parser.get_method() if not message.failed else b""
    return message


def _salvage(data: bytes) -> list[Request]:
    """What can be told of a message that cannot be parsed: its request line, and the rest as a body."""
    line = _TARGET.match(data)
    if not line:
        return []
    _, _, body = data.partition(b"\r\n\r\n")
    return [Request(line.group(1), line.group(2), b"", body, whole=False)]
