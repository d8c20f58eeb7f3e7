"""Frames of the control network and tags of the data plane: whole, byte by byte, and mangled."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmerge import FlowKey, Tag, TagKind, WireError, tag, wire
from splitmerge.messages import Commit, Export, FlowRecord, Hello, Message, Scope, Stage, Stats, TimerRecord

KEY = FlowKey.parse("tcp,10.0.1.2:40000,10.0.2.2:80")
MESSAGES: list[Message] = [
    Hello(role="replica", replica=1, address="unix:/x"),
    Export(epoch=1, scope=Scope(keys=(KEY,), buckets=(1, 2)), target=2, address="unix:/x", deadline=1.0),
    Stage(
        epoch=2,
        source=1,
        part=0,
        parts=1,
        flows=(FlowRecord(key=KEY, kind="X", state=b"\x80", timers=(TimerRecord(name="idle", remaining=1.5),)),),
    ),
    Commit(epoch=2, scope=Scope(buckets=(5,))),
    Stats(replica=1, flows=1, packets=2, bytes=3, cpu_seconds=0.5, held=0, drops={"x": 1}),
]


def test_messages_round_trip_in_one_read() -> None:
    decoder = wire.Decoder()
    decoder.receive_data(b"".join(wire.encode(message) for message in MESSAGES))
    assert list(decoder.messages()) == MESSAGES
    assert decoder.next_message() is None


def test_messages_round_trip_byte_by_byte() -> None:
    decoder, received = wire.Decoder(), []
    for message in MESSAGES:
        for byte in wire.encode(message):
            assert decoder.next_message() is None
            decoder.receive_data(bytes((byte,)))
        received.append(decoder.next_message())
    assert received == MESSAGES


def test_a_flow_with_a_state_alone_travels_without_empty_fields_and_may_have_them() -> None:
    record = FlowRecord(key=bytes(KEY), kind="X", state=b"\x80")
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(record))
    assert fields == {"key": bytes(KEY), "kind": "X", "state": b"\x80"}
    whole = {**fields, "timers": [], "aliases": [], "group": "", "pending": [], "kept": []}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(whole), type=FlowRecord) == record


@given(st.binary(max_size=200))
def test_any_bytes_give_messages_or_our_error(data: bytes) -> None:
    decoder = wire.Decoder()
    decoder.receive_data(data)
    try:
        list(decoder.messages())
    except WireError:
        with pytest.raises(WireError):
            decoder.next_message()


@given(st.sampled_from(MESSAGES), st.data())
def test_a_mangled_frame_gives_a_message_or_our_error(message: Message, data: st.DataObject) -> None:
    frame = bytearray(wire.encode(message))
    position = data.draw(st.integers(4, len(frame) - 1))
    frame[position] = data.draw(st.integers(0, 255))
    decoder = wire.Decoder()
    decoder.receive_data(bytes(frame))
    with contextlib.suppress(WireError):
        assert decoder.next_message() is not None


def test_a_frame_too_long_is_refused_before_it_is_stored() -> None:
    decoder = wire.Decoder()
    decoder.receive_data((wire.MAX_FRAME + 1).to_bytes(4, "big"))
    with pytest.raises(WireError, match="announced"):
        decoder.next_message()
    with pytest.raises(WireError, match="a frame holds"):
        wire.encode(TOO_LONG)


TOO_LONG = Stage(
    epoch=1, source=1, part=0, parts=1, flows=(FlowRecord(key=KEY, kind="X", state=bytes(wire.MAX_FRAME)),)
)


@given(
    st.sampled_from([kind for kind in TagKind if kind is not TagKind.PLAIN]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=14, max_size=100),
)
def test_tags_round_trip(kind: TagKind, epoch: int, sequence: int, frame: bytes) -> None:
    tagged = Tag(kind, epoch, sequence).push(frame)
    assert tag.is_tagged(tagged)
    assert tag.pop(tagged) == (Tag(kind, epoch, sequence), frame)
    assert tag.pop(tagged[: 14 + tag.TAG_LENGTH - 1]) is None


def test_an_unknown_tag_is_no_tag() -> None:
    frame = bytearray(Tag(TagKind.END, 1, 1).push(bytes(14)))
    for kind in (0, 9, 255):
        frame[14] = kind
        assert tag.pop(bytes(frame)) is None
