"""Desired and actual rows, the updates between them, and what the P4Runtime messages make of them."""

from __future__ import annotations

import ipaddress

import pytest
from finsy.proto import p4r
from hypothesis import given, settings
from hypothesis import strategies as st

from p4rt_controller.options import ControllerOptions
from p4rt_controller.preparation import fill
from p4rt_controller.schema import FOREIGN, Pipeline, pad, trim
from p4rt_controller.tables import (
    NOBODY,
    Forward,
    Op,
    Steer,
    Table,
    TableState,
    Update,
    diff,
    repaired,
    update_for,
)
from p4src import P4BLOB, P4INFO
from splitmerge.errors import BadInput
from splitmerge.flowkey import FlowKey

V4 = st.builds(
    FlowKey.of, st.sampled_from([1, 6, 17, 0, 255]), st.binary(min_size=4, max_size=4), st.integers(0, 65535),
    st.binary(min_size=4, max_size=4), st.integers(0, 65535),
)  # fmt: skip
V6 = st.builds(
    FlowKey.of, st.sampled_from([6, 17, 58]), st.binary(min_size=16, max_size=16), st.integers(0, 65535),
    st.binary(min_size=16, max_size=16), st.integers(0, 65535),
)  # fmt: skip
PIPELINE = Pipeline(P4INFO, P4BLOB)
MACS = st.binary(min_size=6, max_size=6)
STEERS = st.builds(Steer, st.integers(1, 65535), st.booleans())
PORTS = st.integers(1, 511)
ROWS = st.one_of(
    st.tuples(st.just(Table.FLOW), V4 | V6, STEERS),
    st.tuples(st.just(Table.BUCKET), st.integers(0, 1023), STEERS | st.just(NOBODY)),
    st.tuples(st.just(Table.REPLICA), st.integers(1, 65535), PORTS),
    st.tuples(st.just(Table.PORT_ROLE), PORTS, st.integers(0, 65535)),
    st.tuples(
        st.just(Table.ROUTE),
        st.builds(lambda raw, n: ipaddress.ip_network((raw, n), strict=False), st.binary(min_size=4, max_size=4),
                  st.integers(0, 32))
        | st.builds(lambda raw, n: ipaddress.ip_network((raw, n), strict=False), st.binary(min_size=16, max_size=16),
                    st.integers(0, 128)),
        st.builds(Forward, PORTS, MACS, MACS),
    ),
    st.tuples(st.just(Table.ADDRESS), st.ip_addresses(), MACS),
)  # fmt: skip


@st.composite
def states(draw: st.DrawFn) -> TableState:
    state = TableState()
    for row in draw(st.lists(ROWS, max_size=15)):
        state.put(*row)
    return state


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return PIPELINE


@given(states(), states())
def test_a_diff_leads_there_and_then_nothing_differs(desired: TableState, actual: TableState):
    updates = diff(desired, actual)
    actual.apply(updates)
    actual.validate()
    assert actual == desired
    assert diff(desired, actual) == []


@given(states(), states())
def test_a_diff_touches_each_row_once_in_the_order_of_installation(desired: TableState, actual: TableState):
    updates = diff(desired, actual)
    assert len({(update.table, update.key) for update in updates}) == len(updates)
    order = list(Table)
    installed = [order.index(update.table) for update in updates if update.op is not Op.DELETE]
    deleted = [order.index(update.table) for update in updates if update.op is Op.DELETE]
    assert installed == sorted(installed)
    assert deleted == sorted(deleted, reverse=True)
    assert [update.op is Op.DELETE for update in updates] == sorted(update.op is Op.DELETE for update in updates)


def test_flows_come_before_buckets_and_port_roles_last():
    order = list(Table)
    assert order.index(Table.FLOW) < order.index(Table.BUCKET)
    assert order[-1] is Table.PORT_ROLE


@given(ROWS)
@settings(max_examples=300)
def test_rows_survive_the_way_through_messages(row: tuple):
    pipeline = PIPELINE
    table, key, value = row
    message = pipeline.encode(Update(Op.INSERT, table, key, value))
    again = p4r.Update.FromString(message.SerializeToString())
    assert list(pipeline.rows([again.entity])) == [row]
    assert again.type == p4r.Update.INSERT
    deletion = pipeline.encode(Update(Op.DELETE, table, key, None))
    assert deletion.entity.table_entry.match == message.entity.table_entry.match
    assert not deletion.entity.table_entry.HasField("action")


@given(st.lists(st.tuples(st.sampled_from(Op), ROWS), max_size=8))
@settings(max_examples=300)
def test_serialized_updates_are_what_protobuf_makes_of_them(changes: list[tuple[Op, tuple]]):
    pipeline = Pipeline(P4INFO, P4BLOB, idle_seconds=2.5)
    updates = [Update(op, table, key, None if op is Op.DELETE else value) for op, (table, key, value) in changes]
    request = p4r.WriteRequest(updates=[pipeline.encode(update) for update in updates])
    assert b"".join(map(pipeline.serialize, updates)) == request.SerializeToString()


@given(st.lists(st.tuples(*[st.binary(min_size=size, max_size=size) for size in (4, 4, 2, 2, 1)]), max_size=12))
@settings(max_examples=300)
def test_what_stands_around_a_flows_values_is_known_by_their_lengths_alone(parts: list[tuple[bytes, ...]]):
    keys = [FlowKey(b"".join(part)) for part in parts]
    updates = [Update(Op.MODIFY, Table.FLOW, key, Steer(2, True)) for key in keys]
    request = p4r.WriteRequest(updates=[PIPELINE.encode(update) for update in updates])
    assert b"".join(map(PIPELINE.serialize, updates)) == request.SerializeToString()


@given(ROWS)
def test_byte_strings_are_canonical(row: tuple):
    pipeline = PIPELINE
    entry = pipeline.encode(Update(Op.MODIFY, *row)).entity.table_entry
    values = [param.value for param in entry.action.action.params] + [match.exact.value for match in entry.match]
    assert all(value == trim(value) for value in values if value)


def test_the_way_to_everything_is_left_out_of_the_match(pipeline: Pipeline):
    update = Update(Op.INSERT, Table.ROUTE, ipaddress.ip_network("0.0.0.0/0"), Forward(1, bytes(6), bytes(6)))
    assert len(pipeline.encode(update).entity.table_entry.match) == 0


def test_foreign_actions_and_tables_are_told_apart(pipeline: Pipeline):
    update = Update(Op.INSERT, Table.BUCKET, 5, Steer(1))
    entity = pipeline.encode(update).entity
    entity.table_entry.action.action.action_id = 1
    stranger = p4r.Entity(table_entry=p4r.TableEntry(table_id=99))
    default = p4r.Entity(table_entry=p4r.TableEntry(table_id=entity.table_entry.table_id, is_default_action=True))
    assert list(pipeline.rows([stranger, default, entity])) == [(Table.BUCKET, 5, FOREIGN)]


def test_flow_entries_carry_the_idle_timeout_in_every_write():
    pipeline = Pipeline(P4INFO, P4BLOB, idle_seconds=2.5)
    key = FlowKey.parse("udp,10.0.0.1:1,10.0.0.2:2")
    for op in (Op.INSERT, Op.MODIFY):
        entry = pipeline.encode(Update(op, Table.FLOW, key, Steer(1))).entity.table_entry
        assert entry.idle_timeout_ns == 2_500_000_000
    assert pipeline.encode(Update(Op.INSERT, Table.BUCKET, 1, Steer(1))).entity.table_entry.idle_timeout_ns == 0
    notification = p4r.IdleTimeoutNotification(table_entry=[entry])
    assert pipeline.idle_flows(notification) == [key]


def test_a_strange_p4info_is_refused_by_name(tmp_path):
    text = P4INFO.read_text().replace('alias: "bucket"', 'alias: "pail"').replace('.bucket"', '.pail"')
    wrong = tmp_path / "p4info.txtpb"
    wrong.write_text(text)
    with pytest.raises(BadInput, match="table bucket"):
        Pipeline(wrong, P4BLOB)
    wrong.write_text("not protobuf {")
    with pytest.raises(BadInput, match="not a P4Info"):
        Pipeline(wrong, P4BLOB)


@pytest.mark.parametrize(
    ("desired", "actual", "op"),
    [(1, None, Op.INSERT), (1, 2, Op.MODIFY), (None, 2, Op.DELETE), (1, 1, None), (None, None, None)],
)
def test_update_for_one_row(desired: int | None, actual: int | None, op: Op | None):
    update = update_for(Table.REPLICA, 7, desired, actual)
    assert update == (None if op is None else Update(op, Table.REPLICA, 7, desired))


@pytest.mark.parametrize(
    ("op", "code", "then"),
    [
        (Op.INSERT, "ALREADY_EXISTS", Op.MODIFY),
        (Op.MODIFY, "NOT_FOUND", Op.INSERT),
        (Op.DELETE, "NOT_FOUND", None),
    ],
)
def test_the_switch_is_right_about_what_it_holds(op: Op, code: str, then: Op | None):
    update = Update(op, Table.REPLICA, 7, 1)
    assert repaired(update, code) == (None if then is None else Update(then, Table.REPLICA, 7, 1))


@pytest.mark.parametrize(("op", "code"), [(Op.INSERT, "NOT_FOUND"), (Op.INSERT, "UNKNOWN"), (Op.DELETE, "INTERNAL")])
def test_other_refusals_are_final(op: Op, code: str):
    with pytest.raises(KeyError):
        repaired(Update(op, Table.REPLICA, 7, 1), code)


def test_flows_are_found_by_bucket():
    state = TableState()
    keys = [FlowKey.parse(f"udp,10.0.0.1:{port},10.0.0.2:2") for port in range(50)]
    for key in keys:
        state.put(Table.FLOW, key, Steer(1))
    state.put(Table.FLOW, keys[0], Steer(2))
    state.remove(Table.FLOW, keys[1])
    state.remove(Table.FLOW, keys[1])
    state.validate()
    assert keys[0] in state.flows_of_bucket(keys[0].bucket)
    assert keys[1] not in state.flows_of_bucket(keys[1].bucket)
    assert state.flow(keys[0]) == Steer(2)
    assert state.flow(keys[1]) is None


def test_controller_assignment_asks_for_every_bucket():
    state = TableState()
    fill(state, ControllerOptions(address="a:1", p4info=P4INFO, p4blob=P4BLOB, assignment="round-robin"))
    assert state.count(Table.BUCKET) == 1024
    assert state.bucket(77) == NOBODY


def test_pad_takes_both_forms():
    assert pad(b"\x05", 4) == pad(b"\0\0\0\x05", 4) == pad(bytes(15) + b"\x05", 4) == b"\0\0\0\x05"
