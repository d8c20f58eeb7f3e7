"""Updates recognized in serialized requests do exactly what the same updates do as messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, SupportsIndex

import grpc
import pytest
from finsy.proto import p4i, p4r
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p4src import P4BLOB, P4INFO
from p4switch.device import Device
from p4switch.native.device import NativeDevice
from p4switch.native.table import NativeTable
from p4switch.p4runtime.bytestrings import encode
from p4switch.p4runtime.entities import Entities
from p4switch.p4runtime.entities.alike import Shape
from p4switch.p4runtime.entities.serialized import Run
from p4switch.p4runtime.packets import PacketIn
from p4switch.p4runtime.pipeline import Pipeline, PipelineOptions
from p4switch.p4runtime.schema import HeaderField, PacketHeader
from p4switch.p4runtime.status import Refused

INFO: p4i.P4Info = text_format.Parse(P4INFO.read_text(), p4i.P4Info())
TABLES = {table.preamble.alias: table for table in INFO.tables}
ACTIONS = {action.preamble.alias: action for action in INFO.actions}
Outcome = tuple[Any, ...]


def pipeline(make: Callable[..., Device], strict: bool) -> Pipeline:
    config = p4r.ForwardingPipelineConfig(p4info=INFO, p4_device_config=P4BLOB.read_bytes())
    return Pipeline(config, PipelineOptions(make_device=make, strict=strict))


@pytest.fixture(scope="module", params=[(Device, True), (NativeDevice, True), (NativeDevice, False)])
def pair(request: pytest.FixtureRequest) -> tuple[Pipeline, Pipeline]:
    return pipeline(*request.param), pipeline(*request.param)


# -- what is written -------------------------------------------------------------------------------------------------

values = st.sampled_from(
    [b"", b"\0", b"\1", b"\2", b"\0\1", b"\xff\xff", b"\1\0\0", b"\xff" * 4, b"\0" * 8, b"\x7f" * 17]
)
lengths = st.integers(1, 17)


@st.composite
def matches(draw: st.DrawFn, table: p4i.Table) -> list[p4r.FieldMatch]:
    made = []
    for field in table.match_fields:
        item = p4r.FieldMatch(field_id=field.id)
        value = (
            draw(values) if draw(st.integers(0, 5)) == 0 else b"\1" * draw(st.integers(1, max(1, field.bitwidth // 8)))
        )
        if field.match_type == p4i.MatchField.LPM or draw(st.integers(0, 20)) == 0:
            item.lpm.value, item.lpm.prefix_len = value, draw(st.integers(0, 33))
        else:
            item.exact.value = value
        made.append(item)
    match draw(st.integers(0, 12)):
        case 0:
            made = draw(st.permutations(made))
        case 1:
            made.pop()
        case 2:
            made.append(draw(st.sampled_from(made)) if made else p4r.FieldMatch(field_id=1))
        case 3:
            made.append(p4r.FieldMatch(field_id=draw(st.sampled_from([0, 9, 200]))))
    return list(made)


@st.composite
def entries(draw: st.DrawFn) -> p4r.TableEntry:
    alias = draw(
        st.sampled_from(["flow_v4", "flow_v4", "flow_v6", "bucket", "port_role", "replica", "route_v4", "arp"])
    )
    table = TABLES[alias]
    entry = p4r.TableEntry(table_id=table.preamble.id, match=draw(matches(table)))
    if draw(st.integers(0, 9)):
        own = [ref.id for ref in table.action_refs]
        action_id = draw(st.sampled_from(own)) if draw(st.integers(0, 9)) else ACTIONS["forward"].preamble.id
        call = entry.action.action
        call.action_id = action_id
        info = next(action for action in INFO.actions if action.preamble.id == action_id)
        for param in info.params:
            call.params.add(param_id=param.id, value=draw(values) if draw(st.integers(0, 5)) == 0 else b"\1")
    unusual = draw(st.integers(0, 14))
    match unusual:
        case 0:
            entry.priority = draw(st.integers(-1, 2))
        case 1 | 2:
            entry.idle_timeout_ns = draw(st.sampled_from([-5, 1, 999, 1000, 5_000_000_001]))
        case 3:
            entry.metadata = b"note"
        case 4:
            entry.controller_metadata = 77
        case 5:
            entry.counter_data.packet_count = draw(st.integers(-1, 3))
        case 6:
            entry.is_default_action = True
        case 7:
            entry.meter_config.cir = 1
        case 8:
            entry.is_const = True
        case 9:
            entry.time_since_last_hit.elapsed_ns = 4
        case 10:
            entry.table_id = draw(st.sampled_from([0, 1, 1 << 31]))
        case 11:
            entry.action.action_profile_member_id = 1
    return entry


@st.composite
def updates(draw: st.DrawFn) -> p4r.Update:
    update = p4r.Update(type=draw(st.sampled_from([1, 1, 1, 1, 2, 2, 3, 3, 0, 4])))  # type: ignore[arg-type]  # wrong ones too
    if draw(st.integers(0, 19)) == 0:
        replication = update.entity.packet_replication_engine_entry
        replication.multicast_group_entry.multicast_group_id = draw(st.sampled_from([0, 1, 40000]))
    else:
        update.entity.table_entry.CopyFrom(draw(entries()))
    return update


@st.composite
def serialized(draw: st.DrawFn) -> bytes:
    """A request, sometimes serialized in another order, or damaged."""
    request = p4r.WriteRequest(
        device_id=draw(st.sampled_from([0, 1, 300])), updates=draw(st.lists(updates(), max_size=12))
    )
    if draw(st.booleans()):
        request.election_id.low = 1 << 40
    request.role = draw(st.sampled_from(["", "", "someone"]))
    raw: bytes = request.SerializeToString()
    extra = draw(st.sampled_from([b"", b"", b"", b"", b"\x98\x06\x01", b"\x08\x02", b"\x22\x00", b"\x22\x02\x08\x01"]))
    raw = raw + extra if draw(st.booleans()) else extra + raw
    if raw and draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(raw) - 1))
        damage = draw(st.sampled_from(["cut", "change", "insert", "drop"]))
        octet = bytes([draw(st.integers(0, 255))])
        match damage:
            case "cut":
                raw = raw[:place]
            case "change":
                raw = raw[:place] + octet + raw[place + 1 :]
            case "insert":
                raw = raw[:place] + octet + raw[place:]
            case "drop":
                raw = raw[:place] + raw[place + 1 :]
    return raw


# -- both ways -------------------------------------------------------------------------------------------------------


def said(errors: list[Refused | None]) -> Outcome:
    return tuple(None if error is None else (error.code, error.message) for error in errors)


def general(entities: Entities, raw: bytes) -> Outcome:
    try:
        request = p4r.WriteRequest.FromString(raw)
    except DecodeError:
        return ("malformed",)
    outcome = said(entities.write(request.updates))
    del request.updates[:]
    return request.SerializeToString(), outcome


def short(entities: Entities, raw: bytes) -> Outcome:
    try:
        batch = entities.recognizers.take_apart(raw)
    except DecodeError:
        return ("malformed",)
    if batch is None:
        return general(entities, raw)
    return batch.header.SerializeToString(), said(entities.carry_out(batch.updates))


def contents(entities: Entities) -> list[bytes]:
    query = p4r.Entity(table_entry=p4r.TableEntry(counter_data=p4r.CounterData()))
    defaults = p4r.Entity(table_entry=p4r.TableEntry(is_default_action=True))
    found: Iterator[p4r.Entity] = (entity for item in (query, defaults) for entity in entities.read(item))
    return [entity.SerializeToString() for entity in found]


def empty(made: Pipeline) -> None:
    for table in made.device.state.tables.values():
        table.clear()
        table.reset_default()


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(requests=st.lists(serialized(), min_size=1, max_size=3))
def test_both_ways_do_the_same(pair: tuple[Pipeline, Pipeline], requests: list[bytes]) -> None:
    one, other = pair
    for made in pair:
        with made.device.state.lock:
            empty(made)
    for raw in requests:
        with one.device.state.lock, other.device.state.lock:
            assert short(one.entities, raw) == general(other.entities, raw)
    with one.device.state.lock, other.device.state.lock:
        assert contents(one.entities) == contents(other.entities)


def ordinary(kind: int, count: int = 300) -> p4r.WriteRequest:
    request = p4r.WriteRequest(device_id=1)
    for number in range(count):
        entry = request.updates.add(type=kind).entity.table_entry  # type: ignore[arg-type]  # a number is as good
        table = TABLES["flow_v6" if number % 7 == 0 else "flow_v4"]
        entry.table_id = table.preamble.id
        for field in table.match_fields:
            value = (number + 1) * 0x0101_0101_0101 % (1 << min(field.bitwidth, 40))
            entry.match.add(field_id=field.id).exact.value = value.to_bytes(
                max(1, (value.bit_length() + 7) // 8), "big"
            )
        call = entry.action.action
        call.action_id = ACTIONS["steer"].preamble.id
        call.params.add(param_id=1, value=bytes([1 + number % 5]))
        call.params.add(param_id=2, value=b"\0")
        entry.idle_timeout_ns = 3_000_000_000 * (number % 2)
    return request


def test_ordinary_updates_are_recognized(pair: tuple[Pipeline, Pipeline]) -> None:
    for kind in (p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE):
        batch = pair[0].entities.recognizers.take_apart(ordinary(kind).SerializeToString())
        assert batch is not None
        assert not batch.header.updates
        assert all(isinstance(update, Run) for update in batch.updates)
        assert sum(len(update.matches) for update in batch.updates if isinstance(update, Run)) == 300


def alike(kind: int, alias: str, action: str, keys: Iterable[tuple[int, ...]]) -> bytes:
    """Updates of one table that differ in their match only; its values are as short as they may be."""
    request = p4r.WriteRequest(device_id=1)
    table, call = TABLES[alias], ACTIONS[action]
    for key in keys:
        entry = request.updates.add(type=kind).entity.table_entry  # type: ignore[arg-type]  # a number is as good
        entry.table_id = table.preamble.id
        for field, value in zip(table.match_fields, key, strict=True):
            entry.match.add(field_id=field.id).exact.value = encode(value)
        if kind != p4r.Update.DELETE:
            entry.action.action.action_id = call.preamble.id
            for param in call.params:
                entry.action.action.params.add(param_id=param.id, value=b"\1")
    raw: bytes = request.SerializeToString()
    return raw


def flows(numbers: Iterable[int], top: int) -> list[tuple[int, ...]]:
    return [(top + number, top + 7, 1024 + number, 443, 6) for number in numbers]


V4, V6 = 10 << 24, 0xFD << 120


@pytest.mark.parametrize(("alias", "top"), [("flow_v4", V4), ("flow_v6", V6)], ids=["v4", "v6"])
@pytest.mark.parametrize("kind", [p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE])
def test_updates_that_differ_in_their_match_only_are_one_run(
    pair: tuple[Pipeline, Pipeline], alias: str, top: int, kind: int
) -> None:
    keys = flows(range(600), top)
    batch = pair[0].entities.recognizers.take_apart(alike(kind, alias, "steer", keys))
    assert batch is not None
    assert [update.matches for update in batch.updates if isinstance(update, Run)] == [keys]


@pytest.mark.parametrize(
    ("alias", "action", "keys"),
    [
        ("flow_v4", "steer", flows([*range(300), 5, *range(300, 340), 5, 300], V4)),  # some twice
        ("flow_v6", "steer", flows([*range(300), 5, *range(300, 340), 5, 300], V6)),
        ("flow_v4", "steer", [(number << 16, 1, number, 7, 17) for number in range(700)]),  # of many lengths
        ("bucket", "steer_bucket", [(number,) for number in range(65_300, 65_700)]),
        ("port_role", "set_replica", [(number,) for number in range(300, 1200)]),  # past the key's nine bits
    ],
    ids=["twice", "twice v6", "lengths", "buckets", "too large"],
)
def test_runs_do_what_their_updates_do(
    pair: tuple[Pipeline, Pipeline], alias: str, action: str, keys: list[tuple[int, ...]]
) -> None:
    for made in pair:
        with made.device.state.lock:
            empty(made)
    one, other = pair
    # Modified and deleted: some that are not there, between those that are.
    steps = ((1, keys), (2, keys[::-1]), (3, keys[::3]), (2, keys), (3, keys[10:300]), (1, keys))
    for kind, some in steps:
        raw = alike(kind, alias, action, some)
        with one.device.state.lock, other.device.state.lock:
            assert short(one.entities, raw) == general(other.entities, raw)
        with one.device.state.lock, other.device.state.lock:
            assert contents(one.entities) == contents(other.entities)


@pytest.mark.parametrize("count", [500, 4000])
def test_what_is_not_recognized_between_what_is_costs_no_more_of_that(
    pair: tuple[Pipeline, Pipeline], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    compared = 0
    compare = Shape._alike

    def counted(shape: Shape, raw: bytes, first: bytes, count: int) -> int:
        nonlocal compared
        compared += count
        return compare(shape, raw, first, count)

    monkeypatch.setattr(Shape, "_alike", counted)
    request = p4r.WriteRequest.FromString(alike(2, "flow_v4", "steer", flows(range(count), V4)))
    for update in request.updates[1::2]:  # as long, and of no action of the table's
        update.entity.table_entry.action.action.action_id = ACTIONS["forward"].preamble.id
    batch = pair[0].entities.recognizers.take_apart(request.SerializeToString())
    assert batch is not None
    assert [isinstance(update, Run) for update in batch.updates] == [True, False] * (count // 2)
    assert compared <= 8 * count


def test_a_shape_may_be_used_by_two_threads() -> None:
    """One makes what it remembers for eight things, while another has made it for 64, and is about to use that."""
    few_begun, many_made, few_done = Event(), Event(), Event()

    class Few(bytes):
        def __mul__(self, count: SupportsIndex) -> bytes:
            if int(count) == 8:
                few_begun.set()
                assert many_made.wait(10)
            return bytes(self) * int(count)

    class Many(bytes):
        def __mul__(self, count: SupportsIndex) -> bytes:
            many_made.set()
            assert few_done.wait(10)
            return bytes(self) * int(count)

    shape = Shape(6, [(1, 3)], 5)
    shape._unit = Few(shape._unit)
    thing, other = b"a12bcd", b"a34bcx"
    with ThreadPoolExecutor(1) as pool:
        few = pool.submit(shape._alike, other * 8, thing, 8)
        few.add_done_callback(lambda _: few_done.set())
        assert few_begun.wait(10)
        assert shape._alike(other * 40 + b"x12bcd" + other * 23, Many(thing), 64) == 40
        assert few.result(10) == 8


def test_large_updates_are_not_compared_with_one_another(
    pair: tuple[Pipeline, Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shape, "take", None)
    request = p4r.WriteRequest.FromString(alike(1, "flow_v4", "steer", flows(range(8), V4)))
    for update in request.updates:
        update.entity.table_entry.metadata = bytes(2000)
    batch = pair[0].entities.recognizers.take_apart(request.SerializeToString())
    assert batch is not None
    assert [len(update.matches) for update in batch.updates if isinstance(update, Run)] == [8]


def test_entries_modified_while_packets_flow_are_stamped(
    pair: tuple[Pipeline, Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, keys = pair[0], flows(range(600), V4)
    table = made.device.state.tables[TABLES["flow_v4"].preamble.name]
    if not isinstance(table, NativeTable):
        pytest.skip("the interpreter takes the lock for each packet")
    with made.device.state.lock:
        empty(made)
        assert not any(short(made.entities, alike(1, "flow_v4", "steer", keys))[1])
    before = {entry.match: entry.last_hit_us for entry in table.entries()}
    monkeypatch.setattr(table.changes, "live", True)  # now Python writes no word that generated code may be writing
    while made.device.state.clock() <= max(before.values()):
        pass
    with made.device.state.lock:
        assert not any(short(made.entities, alike(2, "flow_v4", "steer", keys))[1])
        stamps = {entry.match: entry.last_hit_us for entry in table.entries()}
        assert stamps == before
    after = {entry.match: entry.last_hit_us for entry in table.entries()}
    assert all(after[match] > before[match] for match in keys)


def test_idle_timeouts_run_alike(pair: tuple[Pipeline, Pipeline]) -> None:
    for made in pair:
        with made.device.state.lock:
            empty(made)
    one, other = pair
    raw = ordinary(1).SerializeToString()
    with one.device.state.lock, other.device.state.lock:
        assert short(one.entities, raw) == general(other.entities, raw)
        for made in pair:
            tables = made.device.state.tables.values()
            now = made.device.state.clock() + 4_000_000
            assert sum(len(table.expired(now)) for table in tables) == 150
        assert contents(one.entities) == contents(other.entities)


def test_a_request_that_is_no_request_is_refused_as_grpcio_refuses_it(switch: Any) -> None:
    with grpc.insecure_channel(switch.address) as channel:
        call = channel.unary_unary("/p4.v1.P4Runtime/Write")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\x22\x05\x08", timeout=10)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "Exception deserializing request!"


@given(header=st.binary(min_size=40, max_size=60), payload=st.binary(max_size=300))
def test_packet_ins_are_serialized_as_protobuf_does(header: bytes, payload: bytes) -> None:
    fields = (HeaderField(1, "port", 9, 7), HeaderField(3, "wide", 128, 16), HeaderField(200, "reason", 8, 150))
    source = PacketIn(PacketHeader(fields, 40))
    expected = p4r.StreamMessageResponse()
    expected.packet.payload = header[40:] + payload
    bits = int.from_bytes(header[:40], "big")
    for field in fields:
        value = encode(bits >> field.shift & (1 << field.width) - 1)
        expected.packet.metadata.add(metadata_id=field.id, value=value)
    for _ in range(2):
        assert source.serialized(header + payload) == expected.SerializeToString()


def test_an_empty_packet_in() -> None:
    assert (
        PacketIn(PacketHeader()).serialized(b"") == p4r.StreamMessageResponse(packet=p4r.PacketIn()).SerializeToString()
    )
