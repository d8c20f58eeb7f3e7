"""Table entries over gRPC: writes, reads, and every reason to refuse."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from finsy.proto import p4r

FM = p4r.FieldMatch
OK, INVALID, NOT_FOUND, EXISTS, DENIED, EXHAUSTED, ABORTED, RANGE = 0, 3, 5, 6, 7, 8, 10, 11


def ternary(value: bytes, mask: bytes) -> FM:
    return FM(ternary=FM.Ternary(value=value, mask=mask))


def lpm(value: bytes, length: int) -> FM:
    return FM(lpm=FM.LPM(value=value, prefix_len=length))


def between(low: bytes, high: bytes) -> FM:
    return FM(range=FM.Range(low=low, high=high))


def optional(value: bytes) -> FM:
    return FM(optional=FM.Optional(value=value))


def insert(entity: p4r.Entity) -> p4r.Update:
    return p4r.Update(type="INSERT", entity=entity)


def modify(entity: p4r.Entity) -> p4r.Update:
    return p4r.Update(type="MODIFY", entity=entity)


def delete(entity: p4r.Entity) -> p4r.Update:
    return p4r.Update(type="DELETE", entity=entity)


def test_inserted_entry_is_read_back_canonical(ent: Any, names: Any) -> None:
    ent.insert(names.entry("exact_table", b"\0\0\0\1\2", action=names.action("measured", b"\0\1"), metadata=b"mine"))
    (read,) = ent.read(names.entry("exact_table"))
    wanted = names.entry("exact_table", b"\1\2", action=names.action("measured", b"\1"), metadata=b"mine")
    assert read == wanted


def test_cookie_and_metadata_are_kept_and_filter(ent: Any, names: Any) -> None:
    one = names.entry("exact_table", b"\1", action=names.action("drop"), controller_metadata=7)
    two = names.entry("exact_table", b"\2", action=names.action("drop"), metadata=b"\0x")
    ent.insert(one, two)
    assert ent.read(names.entry("exact_table", controller_metadata=7)) == [one]
    assert ent.read(names.entry("exact_table", metadata=b"\0x")) == [two]
    assert ent.read(names.entry("exact_table", metadata=b"other")) == []


@pytest.mark.parametrize(
    ("match", "priority"),
    [
        ((ternary(b"\x12\0", b"\xff\0"), None, None), 5),
        ((None, between(b"\1", b"\x10"), None), 1),
        ((None, None, optional(b"\0")), 2),
        ((ternary(b"\0", b"\1"), between(b"\0", b"\xfe"), optional(b"\xff")), 2**31 - 1),
        ((None, None, None), 9),
    ],
    ids=["ternary", "range", "optional-zero", "all", "none"],
)
def test_match_kinds_read_back_as_written(ent: Any, names: Any, match: tuple[Any, ...], priority: int) -> None:
    entry = names.entry("ternary_table", *match, priority=priority, action=names.action("forward", b"\1"))
    ent.insert(entry)
    assert ent.read(names.entry("ternary_table")) == [entry]
    assert ent.read(names.entry("ternary_table", *match, priority=priority)) == [entry]
    ent.delete(names.entry("ternary_table", *match, priority=priority))
    assert ent.read(names.entry("ternary_table")) == []


def test_lpm_reads_back_and_may_be_omitted(ent: Any, names: Any) -> None:
    narrow = names.entry("lpm_table", lpm(b"\x0a\0\0\0", 8), b"\1", action=names.action("forward", b"\1"))
    wide = names.entry("lpm_table", None, b"\1", action=names.action("forward", b"\2"))
    ent.insert(narrow, wide)
    assert ent.read(names.entry("lpm_table")) == [narrow, wide]
    assert ent.read(names.entry("lpm_table", lpm(b"\x0a\0\0\0", 8), b"\1")) == [narrow]


def test_filters_of_reads(ent: Any, names: Any) -> None:
    forward, drop = names.action("forward", b"\1"), names.action("drop")
    entries = [
        names.entry("ternary_table", None, None, optional(bytes([n])), priority=n, action=forward) for n in (1, 2)
    ]
    entries.append(names.entry("ternary_table", None, None, None, priority=2, action=drop))
    ent.insert(*entries)
    assert ent.read(names.entry("ternary_table", priority=2)) == entries[1:]
    assert ent.read(names.entry("ternary_table", action=p4r.Action(action_id=names["drop"]))) == entries[2:]
    assert ent.read(names.entry("ternary_table", None, None, optional(b"\2"))) == entries[1:2]
    assert ent.read(names.entry("ternary_table", None, None, optional(b"\3"))) == []


def test_table_id_0_reads_all_tables_const_ones_too(ent: Any, names: Any) -> None:
    mine = names.entry("exact_table", b"\1", action=names.action("drop"))
    ent.insert(mine)
    read = ent.read(p4r.Entity(table_entry=p4r.TableEntry()))
    assert mine in read
    fixed = [item.table_entry for item in read if item.table_entry.table_id == names.fixed_table]
    assert [(item.match[0].exact.value, item.is_const) for item in fixed] == [(b"\1", True), (b"\2", True)]


@pytest.mark.parametrize(
    ("table", "match", "fields", "code"),
    [
        ("exact_table", (), {}, INVALID),
        ("exact_table", (b"",), {}, RANGE),
        ("exact_table", (b"\1\0\0\0\0\0\0",), {}, RANGE),
        ("exact_table", (ternary(b"\1", b"\1"),), {}, INVALID),
        ("exact_table", (b"\1", b"\1"), {}, INVALID),
        ("exact_table", (b"\1",), {"priority": 1}, INVALID),
        ("exact_table", (b"\1",), {"is_const": True}, INVALID),
        ("exact_table", (b"\1",), {"idle_timeout_ns": -1}, INVALID),
        ("exact_table", (b"\1",), {"time_since_last_hit": p4r.TableEntry.IdleTimeout()}, INVALID),
        ("lpm_table", (lpm(b"\1", 0), b"\1"), {}, INVALID),
        ("lpm_table", (lpm(b"\1", 33), b"\1"), {}, INVALID),
        ("lpm_table", (lpm(b"\1", 8), b"\1"), {}, INVALID),
        ("lpm_table", (lpm(b"\x0a\0\0\0", 8),), {}, INVALID),
        ("lpm_table", (None, b"\1"), {"idle_timeout_ns": 5}, INVALID),
        ("lpm_table", (None, b"\1"), {"counter_data": p4r.CounterData()}, INVALID),
        ("lpm_table", (None, b"\1"), {"meter_config": p4r.MeterConfig()}, INVALID),
        ("ternary_table", (ternary(b"\0", b"\0"), None, None), {"priority": 1}, INVALID),
        ("ternary_table", (ternary(b"\2", b"\1"), None, None), {"priority": 1}, INVALID),
        ("ternary_table", (None, between(b"\2", b"\1"), None), {"priority": 1}, INVALID),
        ("ternary_table", (None, between(b"\0", b"\xff"), None), {"priority": 1}, INVALID),
        ("ternary_table", (None, None, None), {}, INVALID),
        ("ternary_table", (None, None, None), {"priority": -1}, INVALID),
        ("fixed_table", (b"\3",), {}, DENIED),
        ("keyless", (), {}, INVALID),
    ],
)
def test_insert_refused(ent: Any, names: Any, table: str, match: tuple[Any, ...], fields: Any, code: int) -> None:
    before = ent.read(p4r.Entity(table_entry=p4r.TableEntry()))
    assert ent.codes(insert(names.entry(table, *match, action=names.action("drop"), **fields))) == [code]
    assert ent.read(p4r.Entity(table_entry=p4r.TableEntry())) == before


def test_field_ids_are_checked(ent: Any, names: Any) -> None:
    twice = names.entry("lpm_table", None, b"\1", action=names.action("drop"))
    twice.table_entry.match.append(twice.table_entry.match[0])
    unknown = names.entry("exact_table", b"\1", action=names.action("drop"))
    unknown.table_entry.match[0].field_id = 9
    table = names.entry("exact_table", b"\1", action=names.action("drop"))
    table.table_entry.table_id = 33554431
    assert ent.codes(insert(twice), insert(unknown), insert(table)) == [INVALID] * 3


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (p4r.Action(action_id=1), INVALID),
        (p4r.Action(), INVALID),
        ("learn", INVALID),
        ("only_default", DENIED),
        ("measured", INVALID),
    ],
    ids=["unknown", "unset", "of-another-table", "defaultonly", "no-parameter"],
)
def test_actions_refused(ent: Any, names: Any, action: p4r.Action | str, code: int) -> None:
    given = names.action(action) if isinstance(action, str) else action
    assert ent.codes(insert(names.entry("exact_table", b"\1", action=given))) == [code]


def test_parameters_are_checked(ent: Any, names: Any) -> None:
    wide = names.action("measured", b"\2\0")
    empty = names.action("measured", b"")
    twice = names.action("measured", b"\1", b"\1")
    twice.params[1].param_id = 1
    unknown = names.action("measured", b"\1")
    unknown.params[0].param_id = 7
    updates = [insert(names.entry("exact_table", b"\1", action=action)) for action in (wide, empty, twice, unknown)]
    assert ent.codes(*updates) == [RANGE, RANGE, INVALID, INVALID]


def test_action_is_needed_to_insert_and_kept_by_modify(ent: Any, names: Any) -> None:
    assert ent.codes(insert(names.entry("exact_table", b"\1"))) == [INVALID]
    ent.insert(names.entry("exact_table", b"\1", action=names.action("measured", b"\1")))
    ent.modify(names.entry("exact_table", b"\1", metadata=b"new"))
    (read,) = ent.read(names.entry("exact_table"))
    assert read == names.entry("exact_table", b"\1", action=names.action("measured", b"\1"), metadata=b"new")


def test_codes_of_a_batch_are_in_order_and_the_rest_is_done(ent: Any, names: Any, error_details: Any) -> None:
    drop = names.action("drop")
    entries = [names.entry("exact_table", bytes([n]), action=drop) for n in (1, 2, 3)]
    ent.insert(entries[0])
    with pytest.raises(grpc.RpcError) as caught:
        ent.write(insert(entries[0]), insert(entries[1]), modify(entries[2]), delete(entries[2]), insert(entries[2]))
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    errors = error_details(caught.value)
    assert [error.canonical_code for error in errors] == [EXISTS, OK, NOT_FOUND, NOT_FOUND, OK]
    assert [error.space for error in errors] == ["ALL-sswitch-p4org", "", *["ALL-sswitch-p4org"] * 2, ""]
    assert all(error.message for error in errors if error.canonical_code)
    assert ent.read(names.entry("exact_table")) == entries


@pytest.mark.parametrize("atomicity", [1, 2], ids=["rollback", "dataplane-atomic"])
def test_all_or_nothing(ent: Any, names: Any, atomicity: int) -> None:
    drop, go = names.action("drop"), names.action("measured", b"\7")
    count = p4r.CounterData(packet_count=5, byte_count=500)
    kept = names.entry("exact_table", b"\1", action=drop, metadata=b"a", idle_timeout_ns=5000, counter_data=count)
    gone = names.entry("exact_table", b"\2", action=go, counter_data=count)
    ent.insert(kept, gone)
    query = names.entry("exact_table", counter_data=p4r.CounterData())
    before = ent.read(query)
    updates = [
        modify(names.entry("exact_table", b"\1", action=go, counter_data=p4r.CounterData())),
        delete(names.entry("exact_table", b"\2")),
        insert(names.entry("exact_table", b"\3", action=go)),
        modify(names.entry("exact_table", is_default_action=True, action=go)),
    ]
    refused = insert(names.entry("exact_table", b"\3", action=go))
    assert ent.codes(*updates, refused, atomicity=atomicity) == [ABORTED] * 4 + [EXISTS]
    assert sorted(ent.read(query), key=str) == sorted(before, key=str)
    assert ent.read(names.entry("exact_table", is_default_action=True)) == [
        names.entry("exact_table", is_default_action=True, action=drop)
    ]
    assert ent.codes(*updates, atomicity=atomicity) == [OK] * 4
    assert len(ent.read(query)) == 2


def test_full_table(ent: Any, names: Any) -> None:
    drop = names.action("drop")
    codes = ent.codes(*(insert(names.entry("exact_table", bytes([n]), action=drop)) for n in range(1, 11)))
    assert codes == [OK] * 8 + [EXHAUSTED] * 2


def test_default_entry(ent: Any, names: Any) -> None:
    default = names.entry("exact_table", is_default_action=True)
    initial = names.entry("exact_table", is_default_action=True, action=names.action("drop"))
    assert ent.read(default) == [initial]
    changed = names.entry("exact_table", is_default_action=True, action=names.action("measured", b"\1"), metadata=b"x")
    ent.modify(changed)
    assert ent.read(default) == [changed]
    assert ent.codes(insert(changed), delete(changed)) == [INVALID, INVALID]
    only_table = names.entry("exact_table", is_default_action=True, action=names.action("only_table", b"\1"))
    keyed = names.entry("exact_table", b"\1", is_default_action=True, action=names.action("drop"))
    timed = names.entry("exact_table", is_default_action=True, action=names.action("drop"), idle_timeout_ns=1)
    const = names.entry("lpm_table", is_default_action=True, action=names.action("drop"))
    indirect = names.entry("profile_table", is_default_action=True, action=names.action("drop"))
    updates = [modify(entry) for entry in (only_table, keyed, timed, const, indirect)]
    assert ent.codes(*updates) == [DENIED, INVALID, INVALID, DENIED, INVALID]
    ent.modify(default)
    assert ent.read(default) == [initial]


def test_direct_resources_only_where_asked_for(ent: Any, names: Any) -> None:
    meter = p4r.MeterConfig(cir=10, cburst=20, pir=30, pburst=40)
    count = p4r.CounterData(packet_count=5, byte_count=500)
    entry = names.entry(
        "exact_table", b"\1", action=names.action("measured", b"\1"), meter_config=meter, counter_data=count
    )
    ent.insert(entry)
    (bare,) = ent.read(names.entry("exact_table"))
    assert not bare.table_entry.HasField("counter_data") and not bare.table_entry.HasField("meter_config")
    query = names.entry("exact_table", counter_data=p4r.CounterData(), meter_config=p4r.MeterConfig())
    assert ent.read(query) == [entry]
    ent.modify(names.entry("exact_table", b"\1", action=names.action("measured", b"\1")))
    (after,) = ent.read(query)
    assert after.table_entry.counter_data == count
    assert not after.table_entry.HasField("meter_config")  # reset, as the specification has it


def test_direct_counter_and_meter_entities(ent: Any, names: Any) -> None:
    entry = names.entry("exact_table", b"\1", action=names.action("drop"))
    ent.insert(entry)
    key = p4r.TableEntry(table_id=names.exact_table, match=entry.table_entry.match)
    count = p4r.CounterData(packet_count=3, byte_count=4)
    counter = p4r.Entity(direct_counter_entry=p4r.DirectCounterEntry(table_entry=key, data=count))
    meter_config = p4r.MeterConfig(cir=1, cburst=2, pir=3, pburst=4)
    meter = p4r.Entity(direct_meter_entry=p4r.DirectMeterEntry(table_entry=key, config=meter_config))
    ent.modify(counter, meter)
    everything = p4r.TableEntry(table_id=names.exact_table)
    for table_entry in (key, everything, p4r.TableEntry()):
        assert ent.read(p4r.Entity(direct_counter_entry=p4r.DirectCounterEntry(table_entry=table_entry))) == [counter]
        assert ent.read(p4r.Entity(direct_meter_entry=p4r.DirectMeterEntry(table_entry=table_entry))) == [meter]
    missing = p4r.Entity(direct_counter_entry=p4r.DirectCounterEntry(table_entry=key, data=count))
    missing.direct_counter_entry.table_entry.match[0].exact.value = b"\2"
    assert ent.codes(modify(missing), insert(counter), delete(meter)) == [NOT_FOUND, INVALID, INVALID]
    other = p4r.Entity(
        direct_counter_entry=p4r.DirectCounterEntry(table_entry=p4r.TableEntry(table_id=names.lpm_table))
    )
    assert ent.codes(modify(other)) == [INVALID]
    ent.delete(entry)
    assert ent.codes(modify(counter), modify(meter)) == [NOT_FOUND, NOT_FOUND]


def test_const_entry_takes_no_action(ent: Any, names: Any) -> None:
    entry = names.entry("fixed_table", b"\1", action=names.action("forward", b"\1"))
    assert ent.codes(modify(entry), delete(entry)) == [DENIED, DENIED]


def test_idle_timeout_and_time_since_last_hit(ent: Any, names: Any) -> None:
    ent.insert(names.entry("exact_table", b"\1", action=names.action("drop"), idle_timeout_ns=10**12))
    query = names.entry("exact_table", time_since_last_hit=p4r.TableEntry.IdleTimeout())
    (read,) = ent.read(query)
    assert read.table_entry.idle_timeout_ns == 10**12
    assert 0 <= read.table_entry.time_since_last_hit.elapsed_ns < 10**10
    with pytest.raises(grpc.RpcError):
        ent.read(names.entry("lpm_table", time_since_last_hit=p4r.TableEntry.IdleTimeout()))


@pytest.mark.parametrize("timeout", [1, 1000, 1001, 1999, 10**9 + 7])
def test_idle_timeout_reads_back_to_the_nanosecond(ent: Any, names: Any, timeout: int) -> None:
    entry = names.entry("exact_table", b"\1", action=names.action("drop"), idle_timeout_ns=timeout)
    ent.insert(entry)
    assert ent.read(names.entry("exact_table")) == [entry]


def test_type_and_entity_must_be_set(ent: Any, names: Any) -> None:
    entry = names.entry("exact_table", b"\1", action=names.action("drop"))
    extern = p4r.Entity(extern_entry=p4r.ExternEntry(extern_id=1))
    assert ent.codes(p4r.Update(entity=entry), insert(p4r.Entity()), insert(extern)) == [INVALID, INVALID, 12]


def test_read_errors_come_with_what_could_be_read(ent: Any, names: Any, error_details: Any) -> None:
    entry = names.entry("exact_table", b"\1", action=names.action("drop"))
    ent.insert(entry)
    bad = p4r.Entity(table_entry=p4r.TableEntry(table_id=1))
    request = p4r.ReadRequest(device_id=1, entities=[bad, names.entry("exact_table"), p4r.Entity()])
    read = []
    with pytest.raises(grpc.RpcError) as caught:
        for response in ent.stub.Read(request, timeout=10):
            read += response.entities
    assert read == [entry]
    assert [error.canonical_code for error in error_details(caught.value)] == [INVALID, OK, INVALID]


def test_large_reads_come_in_parts(sm: Any, sm_names: Any) -> None:
    drop = sm_names.action("steer", b"\1", b"\0")
    key = [b"\1", b"\1", b"\1", b"\1"]
    flows = [sm_names.entry("flow_v4", n.to_bytes(3, "big").lstrip(b"\0"), *key, action=drop) for n in range(1, 2502)]
    sm.insert(*flows)
    request = p4r.ReadRequest(device_id=1, entities=[sm_names.entry("flow_v4")])
    parts = [list(response.entities) for response in sm.stub.Read(request, timeout=10)]
    assert [len(part) for part in parts] == [1000, 1000, 501]
    assert [entity for part in parts for entity in part] == flows


def test_strict_refuses_as_bmv2_does(start: Any, names: Any, configs: Any) -> None:
    client = start(strict=True).primary(configs["entities"])
    drop = names.action("drop")
    codes = client.codes(*(insert(names.entry("exact_table", bytes([n]), action=drop)) for n in range(1, 10)))
    assert codes == [OK] * 8 + [2]
    assert client.codes(insert(names.entry("exact_table", b"", action=drop))) == [INVALID]
    with pytest.raises(grpc.RpcError) as caught:
        client.write(insert(names.entry("exact_table", b"\1", action=drop)), atomicity=1)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    everything = p4r.DirectCounterEntry(table_entry=p4r.TableEntry())
    with pytest.raises(grpc.RpcError):
        client.read(p4r.Entity(direct_counter_entry=everything))
