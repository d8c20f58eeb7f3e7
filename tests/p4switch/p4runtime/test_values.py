"""Byte strings, and the digest buffers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p4switch.p4runtime.bytestrings import decode, decode_signed, encode, encode_signed
from p4switch.p4runtime.digests import DigestBuffers, DigestConfig, SendList
from p4switch.p4runtime.status import Code, Refused


@pytest.mark.parametrize(
    ("width", "raw", "value"),
    [(8, b"\x63", 99), (16, b"\0\x63", 99), (12, b"\0\0\x63", 99), (16, b"\x30\x64", 12388), (1, b"\0", 0)],
)
def test_specifications_examples(width: int, raw: bytes, value: int) -> None:
    assert decode(raw, width, "x") == value


@pytest.mark.parametrize(
    ("width", "raw"),
    [(8, b"\1\x63"), (8, b""), (16, b"\1\0\x63"), (12, b"\x10\x63"), (12, b"\1\0\x63"), (12, b"\0\x40\x63")],
)
def test_specifications_counterexamples(width: int, raw: bytes) -> None:
    with pytest.raises(Refused) as caught:
        decode(raw, width, "x")
    assert caught.value.code is Code.OUT_OF_RANGE


@pytest.mark.parametrize(
    ("width", "raw", "value"),
    [(8, b"\x63", 99), (8, b"\x9d", -99), (8, b"\xff\x9d", -99), (12, b"\xfd\x1d", -739), (16, b"\0", 0)],
)
def test_signed_examples(width: int, raw: bytes, value: int) -> None:
    assert decode_signed(raw, width, "x") == value


@pytest.mark.parametrize(("width", "raw"), [(8, b"\0\x9d"), (12, b"\x8d\x1d"), (16, b"")])
def test_signed_counterexamples(width: int, raw: bytes) -> None:
    with pytest.raises(Refused):
        decode_signed(raw, width, "x")


@given(st.integers(0, 1 << 200))
def test_canonical_is_shortest_and_comes_back(value: int) -> None:
    raw = encode(value)
    assert decode(raw, 201, "x") == value
    assert len(raw) == 1 or raw[0]


@given(st.integers(-(1 << 99), (1 << 99) - 1))
def test_signed_canonical_comes_back_and_is_shortest(value: int) -> None:
    raw = encode_signed(value)
    assert decode_signed(raw, 100, "x") == value
    assert len(raw) == 1 or int.from_bytes(raw[1:], "big", signed=True) != value


CONFIG = DigestConfig(max_timeout_ns=100, max_list_size=3, ack_timeout_ns=1000)


def _buffers(config: DigestConfig = CONFIG) -> DigestBuffers:
    buffers = DigestBuffers()
    buffers.enable(7, config)
    return buffers


def test_list_goes_when_full() -> None:
    buffers = _buffers()
    assert buffers.receive(7, (1,), 0) == buffers.receive(7, (2,), 1) == buffers.receive(7, (1,), 2) == []
    assert buffers.receive(7, (3,), 3) == [SendList(7, 1, ((1,), (2,), (3,)))]


def test_list_goes_after_its_timeout() -> None:
    buffers = _buffers()
    buffers.receive(7, (1,), 10)
    assert buffers.deadline_ns() == 110
    assert buffers.tick(109) == []
    assert buffers.tick(110) == [SendList(7, 1, ((1,),))]
    assert buffers.deadline_ns() is None


def test_not_again_until_acknowledged_or_timed_out() -> None:
    buffers = _buffers(DigestConfig(0, 1, 1000))
    assert buffers.receive(7, (1,), 0) == [SendList(7, 1, ((1,),))]
    assert buffers.receive(7, (1,), 500) == []
    assert buffers.acknowledge(7, 1)
    assert buffers.receive(7, (1,), 600) == [SendList(7, 2, ((1,),))]
    assert buffers.receive(7, (1,), 1599) == []
    assert buffers.receive(7, (1,), 1600) == [SendList(7, 3, ((1,),))]
    buffers.forget_unacknowledged()
    assert buffers.receive(7, (1,), 1601) == [SendList(7, 4, ((1,),))]


def test_without_ack_timeout_nothing_is_remembered() -> None:
    buffers = _buffers(DigestConfig(0, 0, 0))
    assert [buffers.receive(7, (1,), n)[0].list_id for n in range(3)] == [1, 2, 3]


def test_digest_that_nobody_enabled_is_counted() -> None:
    buffers = _buffers()
    buffers.disable(7)
    assert buffers.receive(7, (1,), 0) == []
    assert buffers.dropped == 1
    assert not buffers.acknowledge(7, 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60), st.booleans()), max_size=60), st.integers(0, 4))
def test_lists_are_distinct_within_the_ack_timeout(steps: list[tuple[int, int, bool]], size: int) -> None:
    buffers = _buffers(DigestConfig(50, size, 200))
    now, sent = 0, []
    for value, wait, acknowledge in steps:
        now += wait
        lists = buffers.tick(now) + buffers.receive(7, (value,), now)
        for item in lists:
            assert len(set(item.values)) == len(item.values) and item.values
            assert not size or len(item.values) <= size
            for when, old in sent:
                assert now - when >= 200 or not set(old.values) & set(item.values)
            sent.append((now, item))
        if acknowledge and sent:
            buffers.acknowledge(7, sent.pop()[1].list_id)
