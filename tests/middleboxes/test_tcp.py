"""Reassembly: the same bytes come out however the stream was cut, ordered, repeated or moved."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middleboxes.ids import tcp
from middleboxes.ids.packet import ACK, FIN, RST, SYN
from middleboxes.ids.tcp import Connection, Gap, Half, Signal

LIMIT, SEGMENTS = 1 << 20, 4096
ISN = st.sampled_from([0, 1, 2**31 - 5, 2**32 - 3, 2**32 - 1, 123456789])


def moved(half: Half) -> Half:
    """The same after a migration."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(half), type=Half)


def joined(pieces) -> bytes:
    return b"".join(piece for piece in pieces if isinstance(piece, bytes))


def check(half: Half) -> None:
    assert half.pending_bytes == sum(len(data) for _, data in half.pending)
    reach = 0
    for sequence, data in half.pending:
        start = (sequence - half.next) % 2**32
        assert start >= reach and data
        assert start > 0
        reach = start + len(data)


@st.composite
def deliveries(draw):
    """A stream, and segments that cover it whole: overlapping, repeated, in any order."""
    stream = draw(st.binary(min_size=1, max_size=300))
    cuts = sorted(draw(st.sets(st.integers(1, len(stream)), max_size=12)) | {0, len(stream)})
    whole = list(itertools.pairwise(cuts))
    some = st.tuples(st.integers(0, len(stream)), st.integers(0, len(stream))).map(lambda pair: (min(pair), max(pair)))
    extra = draw(st.lists(some.filter(lambda pair: pair[0] < pair[1]), max_size=8))
    return stream, draw(st.permutations(whole + extra))


@settings(max_examples=300, deadline=None)
@given(deliveries(), ISN, st.data())
def test_whatever_the_order_overlap_repetition_and_migration_the_stream_comes_out(delivery, isn, data):
    stream, segments = delivery
    half = Half(next=isn)
    out = b""
    for start, end in segments:
        if data.draw(st.booleans(), label="move"):
            half = moved(half)
        pieces = tcp.receive(half, (isn + start) % 2**32, stream[start:end], LIMIT, SEGMENTS)
        assert not any(isinstance(piece, Gap) for piece in pieces)
        out += joined(pieces)
        check(half)
    assert out == stream
    assert not half.pending
    assert half.next == (isn + len(stream)) % 2**32


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(-50, 400), st.binary(min_size=1, max_size=60)), max_size=40), ISN)
def test_contradicting_segments_never_break_the_invariants_and_the_first_wins(segments, isn):
    half, oracle, out = Half(next=isn), {}, b""
    for offset, payload in segments:
        for place, byte in enumerate(payload, offset):
            if place >= 0:
                oracle.setdefault(place, byte)
        out += joined(tcp.receive(half, (isn + offset) % 2**32, payload, LIMIT, SEGMENTS))
        check(half)
    expected = bytearray()
    while len(expected) in oracle:
        expected.append(oracle[len(expected)])
    assert out == bytes(expected)


def test_a_full_buffer_gives_up_the_hole_and_counts_it():
    half = Half(next=100)
    assert tcp.receive(half, 110, b"a" * 40, 50, 8) == []
    assert tcp.receive(half, 150, b"b" * 11, 50, 8) == [Gap(10), b"a" * 40, b"b" * 11]
    assert (half.gaps, half.gap_bytes, half.pending_bytes, half.next) == (1, 10, 0, 161)


def test_too_many_small_segments_are_bounded_too():
    half = Half(next=0)
    pieces = [piece for n in range(1, 40, 2) for piece in tcp.receive(half, n, b"x", LIMIT, 8)]
    assert len(half.pending) == 8
    assert half.gaps == len([piece for piece in pieces if isinstance(piece, Gap)]) == 12


def test_what_the_other_side_acknowledged_unseen_is_given_up():
    half = Half(next=2**32 - 5)
    tcp.receive(half, 5, b"later", LIMIT, SEGMENTS)
    assert tcp.acknowledged(half, 12) == [Gap(10), b"later", Gap(2)]
    assert tcp.acknowledged(half, 12) == []
    assert tcp.acknowledged(half, 3) == []
    assert (half.next, half.gaps, half.gap_bytes) == (12, 2, 12)


def test_segments_outside_any_window_are_ignored():
    half = Half(next=0)
    assert tcp.receive(half, 2**31 - 1, b"far", LIMIT, SEGMENTS) == []
    assert (half.ignored, half.pending) == (1, [])


def test_fin_is_reached_only_after_everything_before_it():
    half = Half(next=10)
    tcp.finish(half, 15)
    assert not half.finished
    assert tcp.receive(half, 10, b"hello", LIMIT, SEGMENTS) == [b"hello"]
    assert half.finished
    assert half.next == 16


def test_a_forged_fin_does_not_blind():
    half = Half(next=10)
    tcp.finish(half, 10)
    assert half.finished
    assert tcp.receive(half, 10, b"hello", LIMIT, SEGMENTS) == [b"hello"]
    assert not half.finished


def test_every_state_and_signal_has_a_transition():
    assert set(tcp.TRANSITIONS) == {(state, signal) for state in Connection for signal in Signal}


@pytest.mark.parametrize(
    ("flags", "low_done", "high_done", "signal"),
    [
        (SYN, False, False, Signal.SYN),
        (SYN | ACK, False, False, Signal.SYN_ACK),
        (ACK, False, False, Signal.OTHER),
        (FIN | ACK, False, False, Signal.FINISHED),
        (ACK, True, False, Signal.FINISHED),
        (ACK, True, True, Signal.BOTH_FINISHED),
        (RST | ACK, True, True, Signal.RST),
    ],
)
def test_signals(flags, low_done, high_done, signal):
    done, open_ = Half(next=1, fin=0), Half(next=1)
    assert tcp.signal_of(flags, done if low_done else open_, done if high_done else open_) is signal


def test_a_direction_picked_up_anywhere_begins_there():
    half = Half()
    assert tcp.receive(half, 7, b"x", LIMIT, SEGMENTS) == [b"x"]
    assert half.next == 8
    tcp.finish(half, 8)
    assert half.finished
    late = Half()
    tcp.finish(late, 20)
    assert late.finished


def test_a_direction_that_is_only_followed_keeps_its_highest_byte():
    half = Half(next=100)
    tcp.follow(half, 150, 10)
    tcp.follow(half, 100, 20)
    assert half.next == 160
    tcp.finish(half, 20)
    assert half.fin == -1, "a FIN before what has been seen is an old one"


def test_a_fin_that_data_contradicts_before_it_is_reached_is_forgotten():
    half = Half(next=10)
    tcp.finish(half, 14)
    assert tcp.receive(half, 10, b"hello!", LIMIT, SEGMENTS) == [b"hello!"]
    assert half.fin == -1
