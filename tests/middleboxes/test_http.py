"""HTTP requests: the same ones are found whole, byte by byte, cut anywhere, and moved anywhere."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middleboxes.ids import http
from middleboxes.ids.http import HttpState, Limits, Phase, Request

LIMITS = Limits(head=2048, body=256)
SMALL = Limits(head=1024, body=32)

GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /f HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: 1\r\n\r\n"
LONG = b"POST /l HTTP/1.1\r\nContent-Length: 300\r\n\r\n" + b"L" * 300
LONG_CHUNKED = b"PUT /lc HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"40\r\n" + b"c" * 64 + b"\r\n0\r\n\r\n"
UPGRADE = b"GET /u HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
MALFORMED = b"GET /m?q=1 HTTP/1.1\r\nContent-Length: x\r\n\r\n"
SMUGGLED = b"POST /s HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nZ\r\n0\r\n\r\n"
OLD = b"GET /old HTTP/1.0\r\n\r\n"
BARE = b"GET /bare HTTP/1.1\nHost: x\n\n"
GARBAGE = b"\x16\x03\x01\x02\x00\x01garbage that is no HTTP\r\n\r\n"
AT_THE_LIMIT = b"GET /?limit=" + b"y" * 1000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
MESSAGES = (
    GET,
    POST,
    CHUNKED,
    LONG,
    LONG_CHUNKED,
    UPGRADE,
    MALFORMED,
    SMUGGLED,
    OLD,
    BARE,
    AT_THE_LIMIT,
    GARBAGE,
    b"\r\n",
)


def moved(state: HttpState) -> HttpState:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=HttpState)


def whole(stream: bytes, limits: Limits = LIMITS) -> list[Request]:
    return http.feed(HttpState(), stream, limits)


def by_bytes(stream: bytes, limits: Limits = LIMITS) -> list[Request]:
    state, found = HttpState(), []
    for at in range(len(stream)):
        state = moved(state)
        found += http.feed(state, stream[at : at + 1], limits)
    return found


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        (GET, [Request(b"GET", b"/a?b=c")]),
        (POST, [Request(b"POST", b"/f", b"text/plain", b"hello")]),
        (CHUNKED, [Request(b"POST", b"/c", b"", b"abcde")]),
        (LONG, [Request(b"POST", b"/l", b"", b"L" * 256, whole=False)]),
        (UPGRADE + GET, [Request(b"GET", b"/u"), Request(b"GET", b"/a?b=c")]),
        (MALFORMED + GET, [Request(b"GET", b"/m?q=1", whole=False), Request(b"GET", b"/a?b=c")]),
        (SMUGGLED + GET, [Request(b"POST", b"/s", b"", b"Z"), Request(b"GET", b"/a?b=c")]),
        (OLD + BARE, [Request(b"GET", b"/old"), Request(b"GET", b"/bare")]),
        (GARBAGE + GET, [Request(b"GET", b"/a?b=c")]),
        (GET + POST + LONG + CHUNKED + GET, None),
    ],
    ids=["get", "post", "chunked", "long", "upgrade", "malformed", "both-lengths", "old", "garbage", "pipelined"],
)
def test_found_whole_and_byte_by_byte(stream, found):
    assert by_bytes(stream) == whole(stream)
    if found is not None:
        assert whole(stream) == found


def test_pipelining_finds_every_request():
    assert [request.target for request in whole(GET + POST + LONG + CHUNKED + GET)] == [
        b"/a?b=c", b"/f", b"/l", b"/c", b"/a?b=c",
    ]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(MESSAGES), st.binary(max_size=30)), max_size=6).map(b"".join),
    st.sampled_from([LIMITS, SMALL]),
    st.data(),
)
def test_cuts_and_moves_change_nothing(stream, limits, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=10)) | {0, len(stream)})
    state, found = HttpState(), []
    for start, end in itertools.pairwise(cuts):
        if data.draw(st.booleans(), label="move"):
            state = moved(state)
        found += http.feed(state, stream[start:end], limits)
    once = HttpState()
    assert found == http.feed(once, stream, limits)
    assert (state.malformed, state.overflows) == (once.malformed, once.overflows)
    assert len(state.buffer) <= limits.head + limits.body + 4096


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(MESSAGES), st.integers(1, 100)), max_size=12))
def test_anything_at_all_raises_nothing_and_stays_bounded(pieces):
    state = HttpState()
    for piece in pieces:
        if isinstance(piece, int):
            http.gap(state, piece)
        else:
            http.feed(state, piece, SMALL)
        assert len(state.buffer) <= SMALL.head + SMALL.body + 4096 + 400


def test_a_request_after_a_gap_is_found_again():
    state = HttpState()
    assert http.feed(state, POST[:60], LIMITS) == []
    assert http.gap(state, 20) == [Request(b"POST", b"/f", b"", b"", whole=False)]
    assert state.phase is Phase.SEARCH
    assert http.feed(state, b"rest of something" + GET, LIMITS) == [Request(b"GET", b"/a?b=c")]
    assert state.lost == len(b"rest of something")


def test_a_gap_in_what_is_skipped_anyway_costs_nothing():
    state = HttpState()
    assert len(http.feed(state, LONG[:-40], LIMITS)) == 1
    assert http.gap(state, 40) == []
    assert http.feed(state, GET, LIMITS) == [Request(b"GET", b"/a?b=c")]


def test_an_endless_head_is_inspected_so_far_and_counted():
    state = HttpState()
    found = http.feed(state, b"GET /?q=" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n" + GET, LIMITS)
    assert state.overflows == 1
    assert found == [Request(b"GET", b"/?q=" + b"x" * 2040, whole=False), Request(b"GET", b"/a?b=c")]


TE = b"POST /t?q=1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
TORN = Request(b"POST", b"/t?q=1", b"", b"", whole=False)


@pytest.mark.parametrize(
    ("message", "torn"),
    [
        (b"POST /t?q=1 HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", [TORN]),
        (TE + b"zz\r\n", [TORN]),
        (TE + b"1" * 5000, [TORN]),
        (TE + b"2\r\nabXX0\r\n\r\n", [Request(b"POST", b"/t?q=1", b"", b"2\r\nabXX0\r\n\r\n", whole=False)]),
        (TE + b"0\r\n" + b"T: x\r\n" * 2000, [Request(b"POST", b"/t?q=1", b"", b"0", whole=False)]),
    ],
    ids=["other-coding", "no-size", "endless-size", "no-line-end-after-chunk", "endless-trailers"],
)
def test_malformed_messages_are_judged_as_far_as_they_go(message, torn):
    assert whole(message + GET) == by_bytes(message + GET) == [*torn, Request(b"GET", b"/a?b=c")]


@pytest.mark.parametrize(
    ("rest", "malformed"),
    [
        (b"5\r\nabcde\r\n5\r\nabcde\r\n0\r\n\r\n", 0),
        (b"5\r\nabcde\r\n0\r\nTrailer: 1\r\n\r\n", 0),
        (b"zz\r\n", 1),
        (b"0\r\n" + b"T: x\r\n" * 2000, 1),
    ],
    ids=["chunks", "trailers", "no-size", "endless-trailers"],
)
def test_a_chunked_body_that_is_too_long_is_skipped_to_its_end(rest, malformed):
    message = TE + b"40\r\n" + b"c" * 64 + b"\r\n" + rest
    state = HttpState()
    found = http.feed(state, message + GET, SMALL)
    assert found == by_bytes(message + GET, SMALL)
    assert found[0].body == b"c" * (32 - 4)
    assert found[1:] == [Request(b"GET", b"/a?b=c")]
    assert (state.overflows, state.malformed) == (1, malformed)


def test_an_endless_line_while_searching_is_passed_over():
    stream = b"\x00 GET /" + b"x" * 5000 + GET
    state = HttpState()
    assert http.feed(state, stream, SMALL) == by_bytes(stream, SMALL) == [Request(b"GET", b"/a?b=c")]
    assert state.lost == len(stream) - len(GET)


def test_a_gap_within_what_is_skipped_leaves_the_rest_to_skip():
    state = HttpState()
    http.feed(state, LONG[:-40], LIMITS)
    assert http.gap(state, 15) == []
    assert http.feed(state, b"L" * 25 + GET, LIMITS) == [Request(b"GET", b"/a?b=c")]
