"""Every kind of entity but table entries, over gRPC."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from finsy.proto import p4d, p4r

OK, INVALID, NOT_FOUND, EXISTS, DENIED, EXHAUSTED, PRECONDITION, RANGE, UNIMPLEMENTED = 0, 3, 5, 6, 7, 8, 9, 11, 12


def change(kind: str, entity: p4r.Entity) -> p4r.Update:
    return p4r.Update(type=kind, entity=entity)


def index(number: int) -> p4r.Index:
    return p4r.Index(index=number)


def counter(number: int, at: int | None = None, **data: int) -> p4r.Entity:
    entity = p4r.Entity(counter_entry=p4r.CounterEntry(counter_id=number))
    if at is not None:
        entity.counter_entry.index.index = at
    if data:
        entity.counter_entry.data.CopyFrom(p4r.CounterData(**data))
    return entity


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("both", p4r.CounterData(packet_count=3, byte_count=4)),
        ("packets_only", p4r.CounterData(packet_count=3)),
        ("bytes_only", p4r.CounterData(byte_count=4)),
    ],
)
def test_counter_by_unit(ent: Any, names: Any, name: str, wanted: p4r.CounterData) -> None:
    ent.modify(counter(names[name], 2, packet_count=3, byte_count=4))
    (read,) = ent.read(counter(names[name], 2))
    assert read.counter_entry.data == wanted
    assert read.counter_entry.index.index == 2


def test_counter_wildcards(ent: Any, names: Any) -> None:
    ent.modify(counter(names.both, None, packet_count=1, byte_count=1))
    ent.modify(counter(names.both, 0, packet_count=9, byte_count=9))
    assert [item.counter_entry.data.packet_count for item in ent.read(counter(names.both))] == [9, *[1] * 7]
    everything = ent.read(p4r.Entity(counter_entry=p4r.CounterEntry()))
    assert len(everything) == 24
    assert {item.counter_entry.counter_id for item in everything} == {names.both, names.packets_only, names.bytes_only}


def test_counter_refusals(ent: Any, names: Any) -> None:
    updates = [
        change("MODIFY", counter(names.both, 8, packet_count=1)),
        change("MODIFY", counter(names.both, -1, packet_count=1)),
        change("MODIFY", counter(names.both, 1, packet_count=-1)),
        change("MODIFY", counter(12345, 1, packet_count=1)),
        change("MODIFY", counter(names.exact_counter, 1, packet_count=1)),
        change("INSERT", counter(names.both, 1, packet_count=1)),
        change("DELETE", counter(names.both, 1)),
        change("MODIFY", counter(names.both, 1)),
    ]
    assert ent.codes(*updates) == [RANGE, INVALID, INVALID, INVALID, INVALID, INVALID, INVALID, OK]


def test_meters(ent: Any, names: Any) -> None:
    config = p4r.MeterConfig(cir=1, cburst=2, pir=3, pburst=4)
    meter = p4r.Entity(meter_entry=p4r.MeterEntry(meter_id=names.limiter, index=index(1), config=config))
    ent.modify(meter)
    read = ent.read(p4r.Entity(meter_entry=p4r.MeterEntry(meter_id=names.limiter)))
    assert [item.meter_entry.HasField("config") for item in read] == [False, True, False, False]
    assert read[1] == meter
    ent.modify(p4r.Entity(meter_entry=p4r.MeterEntry(meter_id=names.limiter, config=config)))
    assert all(item.meter_entry.config == config for item in ent.read(p4r.Entity(meter_entry=p4r.MeterEntry())))
    ent.modify(p4r.Entity(meter_entry=p4r.MeterEntry(meter_id=names.limiter, index=index(1))))
    assert not ent.read(p4r.Entity(meter_entry=meter.meter_entry))[0].meter_entry.HasField("config")
    bad = [p4r.MeterConfig(cir=-1), p4r.MeterConfig(eburst=1)]
    entries = [p4r.MeterEntry(meter_id=names.limiter, index=index(1), config=item) for item in bad]
    updates = [change("MODIFY", p4r.Entity(meter_entry=entry)) for entry in entries]
    assert ent.codes(*updates, change("INSERT", meter)) == [INVALID] * 3


def register(number: int, at: int | None, value: bytes | None = None) -> p4r.Entity:
    entity = p4r.Entity(register_entry=p4r.RegisterEntry(register_id=number))
    if at is not None:
        entity.register_entry.index.index = at
    if value is not None:
        entity.register_entry.data.bitstring = value
    return entity


def test_registers(ent: Any, names: Any) -> None:
    ent.modify(register(names.last_source, 2, b"\0\1\2"), register(names.balance, 1, b"\xff\xfb"))
    read = ent.read(register(names.last_source, None))
    assert [item.register_entry.data.bitstring for item in read] == [b"\0", b"\0", b"\1\2", b"\0"]
    assert ent.read(register(names.balance, 1)) == [register(names.balance, 1, b"\xfb")]
    ent.modify(register(names.balance, None, b"\7"))
    assert {item.register_entry.data.bitstring for item in ent.read(register(names.balance, None))} == {b"\7"}
    assert len(ent.read(p4r.Entity(register_entry=p4r.RegisterEntry()))) == 8
    wrong = p4r.Entity(register_entry=p4r.RegisterEntry(register_id=names.balance, data=p4d.P4Data(bool=True)))
    updates = [
        change("MODIFY", register(names.last_source, 4, b"\1")),
        change("MODIFY", register(names.last_source, 1, b"\1" * 7)),
        change("MODIFY", register(names.balance, 1, b"\0\x80\0")),
        change("MODIFY", wrong),
        change("MODIFY", register(names.balance, 1)),
        change("INSERT", register(names.balance, 1, b"\1")),
        change("MODIFY", register(99, 1, b"\1")),
    ]
    assert ent.codes(*updates) == [RANGE, RANGE, RANGE, INVALID, INVALID, INVALID, INVALID]


def group(number: int, *replicas: tuple[int, int], metadata: bytes = b"") -> p4r.Entity:
    entry = p4r.MulticastGroupEntry(multicast_group_id=number, metadata=metadata)
    for port, instance in replicas:
        entry.replicas.add(port=port.to_bytes(2, "big").lstrip(b"\0"), instance=instance)
    return p4r.Entity(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry(multicast_group_entry=entry))


def session(number: int, *ports: int, **fields: int) -> p4r.Entity:
    entry = p4r.CloneSessionEntry(session_id=number, **fields)
    for port in ports:
        entry.replicas.add(egress_port=port, instance=1)
    return p4r.Entity(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry(clone_session_entry=entry))


def test_multicast_groups(ent: Any) -> None:
    one, two = group(1, (1, 1), (1, 2), (510, 3)), group(65535, metadata=b"m")
    ent.insert(one, two)
    assert ent.read(group(0)) == [one, two]
    assert ent.read(group(1)) == [one]
    assert ent.read(group(2)) == []
    changed = group(1, (2, 0))
    ent.modify(changed)
    assert ent.read(group(1)) == [changed]
    ent.delete(group(1))
    assert ent.read(group(0)) == [two]


def test_clone_sessions_read_back_in_the_form_written(ent: Any) -> None:
    entry = session(1, 510, class_of_service=2, packet_length_bytes=100)
    ent.insert(entry)
    assert ent.read(session(0)) == [entry]
    ent.modify(session(1, 2))
    assert ent.read(session(1)) == [session(1, 2)]
    ent.delete(session(1))
    assert ent.read(session(0)) == []


def test_replication_refusals(ent: Any) -> None:
    ent.insert(group(1, (1, 1)), session(1, 510))
    backup = group(3, (1, 1))
    replica = backup.packet_replication_engine_entry.multicast_group_entry.replicas[0]
    replica.backup_replicas.add(port=b"\2", instance=1)
    portless = group(4)
    portless.packet_replication_engine_entry.multicast_group_entry.replicas.add(instance=1)
    cases = [
        ("INSERT", group(0), INVALID),
        ("INSERT", group(65536), RANGE),
        ("INSERT", group(1), EXISTS),
        ("MODIFY", group(2), NOT_FOUND),
        ("DELETE", group(2), NOT_FOUND),
        ("INSERT", group(5, (1, 1), (1, 1)), INVALID),
        ("INSERT", group(5, (1, 65536)), INVALID),
        ("INSERT", backup, UNIMPLEMENTED),
        ("INSERT", portless, INVALID),
        ("INSERT", session(0), INVALID),
        ("INSERT", session(1), EXISTS),
        ("MODIFY", session(2), NOT_FOUND),
        ("DELETE", session(2), NOT_FOUND),
        ("INSERT", session(2, packet_length_bytes=-1), INVALID),
        ("INSERT", p4r.Entity(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry()), INVALID),
    ]
    assert ent.codes(*(change(kind, entity) for kind, entity, _ in cases)) == [code for *_, code in cases]


def test_strict_limits_of_sessions(start: Any, configs: Any) -> None:
    client = start(strict=True).primary(configs["entities"])
    cases = [
        ("INSERT", session(1, 510, class_of_service=1), UNIMPLEMENTED),
        ("INSERT", session(1, 510, packet_length_bytes=1), 2),
        ("INSERT", session(32768, 510), INVALID),
        ("INSERT", session(32767, 510), OK),
    ]
    assert client.codes(*(change(kind, entity) for kind, entity, _ in cases)) == [code for *_, code in cases]


def member(profile: int, number: int, action: p4r.Action | None = None) -> p4r.Entity:
    entry = p4r.ActionProfileMember(action_profile_id=profile, member_id=number)
    if action is not None:
        entry.action.CopyFrom(action)
    return p4r.Entity(action_profile_member=entry)


def members(profile: int, number: int, *weights: tuple[int, int], max_size: int = 0) -> p4r.Entity:
    entry = p4r.ActionProfileGroup(action_profile_id=profile, group_id=number, max_size=max_size)
    for one, weight in weights:
        entry.members.add(member_id=one, weight=weight)
    return p4r.Entity(action_profile_group=entry)


def indirect(names: Any, table: str, kind: bytes, **action: int) -> p4r.Entity:
    entity = names.entry(table, kind)
    entity.table_entry.action.CopyFrom(p4r.TableAction(**action))
    return entity


def test_members_and_groups(ent: Any, names: Any) -> None:
    one, two = (member(names.spreader, n, names.action("forward", bytes([n]))) for n in (1, 2))
    ent.insert(one, two)
    both = members(names.spreader, 1, (1, 1), (2, 3), max_size=8)
    ent.insert(both)
    entries = [
        indirect(names, "selector_table", b"\1", action_profile_group_id=1),
        indirect(names, "selector_table", b"\2", action_profile_member_id=2),
    ]
    ent.insert(*entries)
    assert ent.read(p4r.Entity(action_profile_member=p4r.ActionProfileMember())) == [one, two]
    assert ent.read(member(names.spreader, 2)) == [two]
    assert ent.read(p4r.Entity(action_profile_group=p4r.ActionProfileGroup())) == [both]
    assert ent.read(names.entry("selector_table")) == entries
    cases = [
        ("DELETE", member(names.spreader, 1), PRECONDITION),
        ("DELETE", members(names.spreader, 1), PRECONDITION),
        ("DELETE", member(names.spreader, 3), NOT_FOUND),
        ("INSERT", one, EXISTS),
        ("INSERT", both, EXISTS),
        ("MODIFY", members(names.spreader, 2), NOT_FOUND),
        ("INSERT", members(names.spreader, 2, (9, 1)), NOT_FOUND),
        ("INSERT", members(names.spreader, 2, (1, 0)), INVALID),
        ("INSERT", members(names.spreader, 2, (1, 1), (1, 1)), INVALID),
        ("INSERT", members(names.spreader, 2, (1, 5), max_size=4), EXHAUSTED),
        ("INSERT", members(names.spreader, 0), INVALID),
        ("INSERT", member(names.spreader, 0, names.action("drop")), INVALID),
        ("INSERT", member(names.spreader, 5, names.action("learn")), INVALID),
        ("INSERT", member(77, 5, names.action("drop")), INVALID),
        ("INSERT", members(names.profile, 1), INVALID),
        ("INSERT", indirect(names, "selector_table", b"\3", action_profile_group_id=9), NOT_FOUND),
        ("INSERT", indirect(names, "profile_table", b"\3", action_profile_member_id=9), NOT_FOUND),
        ("INSERT", indirect(names, "profile_table", b"\3", action_profile_group_id=1), INVALID),
        ("INSERT", names.entry("profile_table", b"\3", action=names.action("drop")), INVALID),
        ("INSERT", indirect(names, "exact_table", b"\3", action_profile_member_id=1), INVALID),
    ]
    assert ent.codes(*(change(kind, entity) for kind, entity, _ in cases)) == [code for *_, code in cases]
    ent.delete(*entries)
    ent.modify(members(names.spreader, 1, (2, 1)), member(names.spreader, 1, names.action("drop")))
    ent.delete(member(names.spreader, 1), members(names.spreader, 1), member(names.spreader, 2))
    assert ent.read(p4r.Entity(action_profile_member=p4r.ActionProfileMember())) == []


def one_shot(names: Any, kind: bytes, *choices: tuple[bytes, int, bytes | None]) -> p4r.Entity:
    entity = names.entry("selector_table", kind)
    for port, weight, watch in choices:
        item = entity.table_entry.action.action_profile_action_set.action_profile_actions.add(weight=weight)
        item.action.CopyFrom(names.action("forward", port))
        if watch is not None:
            item.watch_port = watch
    return entity


def test_one_shot_reads_back_as_written_and_does_not_mix(ent: Any, names: Any) -> None:
    entry = one_shot(names, b"\1", (b"\1", 1, None), (b"\2", 3, b"\2"), (b"\1", 1, None))
    ent.insert(entry)
    assert ent.read(names.entry("selector_table")) == [entry]
    assert ent.read(p4r.Entity(action_profile_member=p4r.ActionProfileMember())) == []
    cases = [
        ("INSERT", member(names.spreader, 1, names.action("drop")), INVALID),
        ("INSERT", members(names.spreader, 1), INVALID),
        ("INSERT", one_shot(names, b"\2", (b"\1", 0, None)), INVALID),
        ("INSERT", one_shot(names, b"\2", (b"\1", 1 << 20, None)), EXHAUSTED),
    ]
    assert ent.codes(*(change(kind, entity) for kind, entity, _ in cases)) == [code for *_, code in cases]
    ent.delete(entry)
    ent.insert(member(names.spreader, 1, names.action("drop")))
    assert ent.codes(change("INSERT", entry)) == [INVALID]


def test_value_sets(ent: Any, names: Any) -> None:
    empty = p4r.Entity(value_set_entry=p4r.ValueSetEntry(value_set_id=names.known))
    assert ent.read(empty) == [empty]
    full = p4r.Entity(value_set_entry=p4r.ValueSetEntry(value_set_id=names.known))
    for value in (b"\x08\0", b"\x86\xdd"):
        field = full.value_set_entry.members.add().match.add(field_id=1)
        field.exact.value = value
    ent.modify(full)
    assert ent.read(p4r.Entity(value_set_entry=p4r.ValueSetEntry())) == [full]
    twice = p4r.Entity()
    twice.CopyFrom(full)
    twice.value_set_entry.members.add().CopyFrom(full.value_set_entry.members[0])
    many = p4r.Entity(value_set_entry=p4r.ValueSetEntry(value_set_id=names.known))
    for value in range(1, 6):
        many.value_set_entry.members.add().match.add(field_id=1).exact.value = bytes([value])
    codes = ent.codes(change("MODIFY", twice), change("MODIFY", many), change("INSERT", full))
    assert codes == [EXISTS, EXHAUSTED, INVALID]
    assert ent.read(empty) == [full]


def test_digest_configuration(ent: Any, names: Any) -> None:
    number = names.seen_t
    config = p4r.DigestEntry.Config(max_timeout_ns=10, max_list_size=2, ack_timeout_ns=30)
    entry = p4r.Entity(digest_entry=p4r.DigestEntry(digest_id=number, config=config))
    assert ent.codes(change("MODIFY", entry), change("DELETE", entry)) == [NOT_FOUND, NOT_FOUND]
    ent.insert(entry)
    assert ent.read(p4r.Entity(digest_entry=p4r.DigestEntry())) == [entry]
    negative = p4r.Entity(
        digest_entry=p4r.DigestEntry(digest_id=number, config=p4r.DigestEntry.Config(max_list_size=-1))
    )
    unknown = p4r.Entity(digest_entry=p4r.DigestEntry(digest_id=4))
    codes = ent.codes(change("INSERT", entry), change("MODIFY", negative), change("INSERT", unknown))
    assert codes == [EXISTS, INVALID, INVALID]
    ent.delete(entry)
    assert ent.read(p4r.Entity(digest_entry=p4r.DigestEntry())) == []


@pytest.mark.parametrize("atomicity", [1, 2])
def test_every_kind_is_taken_back(ent: Any, names: Any, atomicity: int) -> None:
    one = member(names.spreader, 1, names.action("drop"))
    ent.insert(one, session(1, 510), group(1, (1, 1)))
    queries = [
        p4r.Entity(action_profile_member=p4r.ActionProfileMember()),
        p4r.Entity(action_profile_group=p4r.ActionProfileGroup()),
        p4r.Entity(counter_entry=p4r.CounterEntry()),
        p4r.Entity(meter_entry=p4r.MeterEntry()),
        p4r.Entity(register_entry=p4r.RegisterEntry()),
        p4r.Entity(digest_entry=p4r.DigestEntry()),
        p4r.Entity(value_set_entry=p4r.ValueSetEntry()),
        group(0),
        session(0),
    ]
    before = ent.read(*queries)
    value_set = p4r.Entity(value_set_entry=p4r.ValueSetEntry(value_set_id=names.known))
    value_set.value_set_entry.members.add().match.add(field_id=1).exact.value = b"\1"
    meter = p4r.MeterEntry(meter_id=names.limiter, config=p4r.MeterConfig(cir=1, cburst=1, pir=1, pburst=1))
    updates = [
        change("MODIFY", member(names.spreader, 1, names.action("forward", b"\1"))),
        change("INSERT", member(names.spreader, 2, names.action("drop"))),
        change("INSERT", members(names.spreader, 1, (1, 1))),
        change("MODIFY", members(names.spreader, 1, (2, 1))),
        change("DELETE", member(names.spreader, 1)),
        change("MODIFY", counter(names.both, None, packet_count=5)),
        change("MODIFY", p4r.Entity(meter_entry=meter)),
        change("MODIFY", register(names.balance, None, b"\1")),
        change("INSERT", p4r.Entity(digest_entry=p4r.DigestEntry(digest_id=names.seen_t))),
        change("MODIFY", value_set),
        change("MODIFY", group(1, (2, 2))),
        change("DELETE", session(1)),
        change("INSERT", session(2, 510)),
    ]
    assert ent.codes(*updates, change("INSERT", group(1)), atomicity=atomicity)[-1] == EXISTS
    assert ent.read(*queries) == before
    assert set(ent.codes(*updates, atomicity=atomicity)) == {OK}


def test_strict_has_no_registers_and_value_sets(start: Any, names: Any, configs: Any) -> None:
    client = start(strict=True).primary(configs["entities"])
    value_set = p4r.Entity(value_set_entry=p4r.ValueSetEntry(value_set_id=names.known))
    wildcard = counter(names.both, None, packet_count=1)
    updates = [change("MODIFY", item) for item in (register(names.balance, 1, b"\1"), value_set, wildcard)]
    assert client.codes(*updates) == [UNIMPLEMENTED] * 3
    for query in (register(names.balance, 1), value_set):
        with pytest.raises(grpc.RpcError):
            client.read(query)
