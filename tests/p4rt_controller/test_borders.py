"""Options, packets, assignment and the package's face."""

from __future__ import annotations

import dataclasses

import pytest
from finsy.proto import p4r
from hypothesis import given
from hypothesis import strategies as st

import p4rt_controller
from p4rt_controller import (
    AddressReply,
    ByHash,
    ControllerOptions,
    LeastLoaded,
    Refusal,
    RestoredState,
    RoundRobin,
    Route,
    WriteRejected,
    policy,
    spread,
)
from p4rt_controller.packets import (
    MARKER_FRAME,
    LoopReturned,
    MarkerEcho,
    PacketCodec,
    Punted,
    RelayAck,
    Strange,
)
from p4rt_controller.schema import Pipeline
from p4rt_controller.tables import Steer, Table, TableState
from p4src import P4BLOB, P4INFO
from splitmerge.errors import BadInput
from splitmerge.flowkey import BUCKETS, FlowKey
from splitmerge.tag import Tag, TagKind

PIPELINE = Pipeline(P4INFO, P4BLOB)
CODEC = PacketCodec(PIPELINE.schema)
OPTIONS = ControllerOptions(address="127.0.0.1:1", p4info=P4INFO, p4blob=P4BLOB)
MAC = "02:00:00:00:00:fe"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("address", ""), ("assignment", "random"), ("p4info", P4INFO.parent / "none"), ("cpu_port", 512),
        ("host_ports", (1, 1)), ("host_ports", (-1,)), ("buffer_packets", 0), ("buffer_bytes", -1), ("relay_window", 0),
        ("relay_retry", 0.0), ("marker_deadline", -1.0), ("marker_deadline", float("nan")), ("flow_idle_seconds", 0.5),
        ("flow_idle_seconds", -1.0), ("clone_session", 0), ("clone_session", 32768), ("batch", 0),
        ("routes", (Route.parse("10.0.0.0/8", 1, MAC, MAC), Route.parse("10.0.0.0/8", 2, MAC, MAC))),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_by_name(field: str, value: object):
    with pytest.raises(BadInput, match=field):
        dataclasses.replace(OPTIONS, **{field: value})


@pytest.mark.parametrize(
    "call",
    [
        lambda: Route.parse("10.0.0.1/8", 1, MAC, MAC),
        lambda: Route.parse("nowhere", 1, MAC, MAC),
        lambda: Route.parse("10.0.0.0/8", 600, MAC, MAC),
        lambda: Route.parse("10.0.0.0/8", 1, "02:00", MAC),
        lambda: AddressReply.parse("10.0.0.300", MAC),
        lambda: AddressReply.parse("10.0.0.3", "zz:00:00:00:00:00"),
        lambda: RestoredState(replicas={0: 1}).fill(TableState()),
        lambda: RestoredState(buckets={1024: 1}).fill(TableState()),
        lambda: RestoredState(flows={b"x": 1}).fill(TableState()),
    ],
)
def test_wrong_parts_are_refused(call):
    with pytest.raises(BadInput):
        call()


def test_restored_state_fills_the_tables_and_names_those_to_adopt():
    key = FlowKey.parse("udp,10.0.0.1:1,10.0.0.2:2")
    state = TableState()
    assert RestoredState(replicas={5: 11}, flows={bytes(key): 5}).fill(state) == {Table.BUCKET}
    assert state.flow(key) == Steer(5)
    assert state.get(Table.PORT_ROLE, 11) == 5
    assert RestoredState(replicas={5: 11}, buckets={1: 5}).fill(state) == {Table.FLOW}


def packet_in(frame: bytes, **fields: int):
    header = PIPELINE.schema.controller_packet_metadata["packet_in"]
    metadata = [
        p4r.PacketMetadata(metadata_id=field.id, value=fields.get(field.name, 0).to_bytes(16, "big").lstrip(b"\0"))
        for field in header.metadata
    ]
    return p4r.PacketIn(payload=frame, metadata=metadata)


@given(st.sampled_from([4, 16]), st.data(), st.integers(0, 65535), st.integers(0, 65535), st.booleans())
def test_punted_packets_have_the_key_of_their_header(
    width: int, data: st.DataObject, sport: int, dport: int, new: bool
):
    low, high = (data.draw(st.binary(min_size=width, max_size=width)) for _ in range(2))
    key = FlowKey.of(17, low, sport, high, dport)
    message = packet_in(
        b"frame", reason=2 if new else 1, version=key.version, protocol=17, replica=3, bucket=key.bucket,
        low_addr=int.from_bytes(key.low_addr, "big"), high_addr=int.from_bytes(key.high_addr, "big"),
        low_port=key.low_port, high_port=key.high_port,
    )  # fmt: skip
    assert CODEC.decode(message) == Punted(key, b"frame", new)


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        (TagKind.MARKER_ECHO, MarkerEcho(9, 7, 5)),
        (TagKind.RELAY_ACK, RelayAck(9, 7, 5)),
        (TagKind.LOOP, LoopReturned(7, 5)),
        (TagKind.RELAYED, Strange(3)),
    ],
)
def test_tagged_frames_are_signals(kind: TagKind, event: object):
    frame = Tag(kind, 7, 5).push(MARKER_FRAME)
    assert CODEC.decode(packet_in(frame, reason=3, replica=9)) == event


@pytest.mark.parametrize(
    "message",
    [packet_in(b"", reason=3), packet_in(b"x", reason=1), packet_in(b"x", reason=9, version=4), p4r.PacketIn()],
)
def test_packet_ins_that_mean_nothing_are_strange(message):
    assert isinstance(CODEC.decode(message), Strange)


def test_packet_outs_are_what_finsy_would_make():
    message = CODEC.packet_out(11, TagKind.RELAYED, 7, 300, b"frame").packet
    expected = PIPELINE.schema.controller_packet_metadata["packet_out"].encode(
        {"egress_port": 11, "_pad": 0, "kind": 1, "epoch": 7, "sequence": 300}
    )
    assert sorted((m.metadata_id, m.value) for m in message.metadata) == sorted(
        (m.metadata_id, m.value) for m in expected
    )
    assert message.payload == b"frame"
    assert CODEC.packet_out(11, TagKind.MARKER, 7, 1, None).packet.payload == MARKER_FRAME


@given(st.sets(st.integers(1, 99), min_size=1, max_size=9), st.sets(st.integers(1, 99), min_size=1, max_size=9))
def test_buckets_are_spread_evenly_and_few_change_hands(before: set[int], after: set[int]):
    old = spread(before, {})
    owners = spread(after, old)
    counts = [sum(owner == replica for owner in owners.values()) for replica in after]
    assert set(owners) == set(range(BUCKETS))
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == BUCKETS
    moved = sum(old[bucket] != owners[bucket] for bucket in owners)
    kept = sum(min(sum(o == r for o in old.values()), -(-BUCKETS // len(after))) for r in before & after)
    assert moved <= BUCKETS - kept + len(after)
    assert spread(after, owners) == owners


def test_policies_choose():
    key = FlowKey.parse("udp,10.0.0.1:1,10.0.0.2:2")
    assert LeastLoaded().choose(key, {3: 5, 2: 1, 1: 1}) == 1
    ring = RoundRobin()
    assert [ring.choose(key, loads) for loads in ({3: 0, 1: 0}, {3: 0, 1: 0}, {3: 0, 1: 0}, {2: 0})] == [1, 3, 1, 2]
    assert ByHash().choose(key, {1: 0, 2: 0}) == ByHash().choose(key, {1: 9, 2: 0})
    assert set(LeastLoaded().buckets([1], {}).values()) == {None} == set(RoundRobin().buckets([1], {}).values())
    assert set(ByHash().buckets([1, 2], {}).values()) == {1, 2}


@pytest.mark.parametrize("name", ["hash", "least-loaded", "round-robin"])
def test_policies_by_name_refuse_to_choose_from_nobody(name: str):
    with pytest.raises(BadInput, match="no replica"):
        policy(name).choose(FlowKey.parse("udp,10.0.0.1:1,10.0.0.2:2"), {})


def test_unknown_policies_and_empty_spreads_are_refused():
    with pytest.raises(BadInput):
        policy("best")
    with pytest.raises(BadInput):
        spread([], {})


def test_refused_writes_answer_questions():
    full = WriteRejected(
        [Refusal("insert flow[x]", "RESOURCE_EXHAUSTED", ""), Refusal("y", "UNKNOWN", "Table is full")]
    )
    assert full.is_table_full
    assert "insert flow[x]" in str(full)
    assert not WriteRejected([Refusal("x", "INVALID_ARGUMENT", "bad")]).is_table_full


def test_the_public_names_are_these():
    assert p4rt_controller.__all__ == sorted(p4rt_controller.__all__, key=lambda n: (n[0].islower(), n))
    assert all(hasattr(p4rt_controller, name) for name in p4rt_controller.__all__)
    assert {"Controller", "ControllerOptions", "NewFlow", "SwitchLost"} <= set(p4rt_controller.__all__)
