"""Random requests: the server answers each with a canonical code, never crashes, never applies half of an update."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from finsy.proto import p4i, p4r
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p4switch.device import Device
from p4switch.errors import SwitchError
from p4switch.load import load_program
from p4switch.p4runtime.entities import Context, Entities
from p4switch.p4runtime.p4info import link
from p4switch.p4runtime.status import Code, Refused

PROGRAMS = Path(__file__).parent / "programs"
INFO = text_format.Parse((PROGRAMS / "entities.p4info.txtpb").read_text(), p4i.P4Info())
PROGRAM = load_program((PROGRAMS / "entities.json").read_bytes())
SCHEMA = link(INFO, PROGRAM)
IDS = [
    item.preamble.id
    for group in (INFO.tables, INFO.actions, INFO.counters, INFO.meters, INFO.registers, INFO.digests, INFO.value_sets)
    for item in group
]
IDS += [item.preamble.id for group in (INFO.action_profiles, INFO.direct_counters) for item in group]
_IDS_OF: dict[str, Any] = {
    "counter_id": INFO.counters,
    "meter_id": INFO.meters,
    "register_id": INFO.registers,
    "digest_id": INFO.digests,
    "value_set_id": INFO.value_sets,
    "action_profile_id": INFO.action_profiles,
}
EVERYTHING = [
    p4r.Entity(table_entry=p4r.TableEntry(counter_data=p4r.CounterData(), meter_config=p4r.MeterConfig())),
    p4r.Entity(table_entry=p4r.TableEntry(is_default_action=True)),
    p4r.Entity(action_profile_member=p4r.ActionProfileMember()),
    p4r.Entity(action_profile_group=p4r.ActionProfileGroup()),
    p4r.Entity(counter_entry=p4r.CounterEntry()),
    p4r.Entity(meter_entry=p4r.MeterEntry()),
    p4r.Entity(register_entry=p4r.RegisterEntry()),
    p4r.Entity(digest_entry=p4r.DigestEntry()),
    p4r.Entity(value_set_entry=p4r.ValueSetEntry()),
]
EVERYTHING += [
    p4r.Entity(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry(**{kind: {}}))
    for kind in ("multicast_group_entry", "clone_session_entry")
]


def entities() -> Entities:
    return Entities(Context(SCHEMA, Device(PROGRAM).state))


def snapshot(server: Entities) -> list[str]:
    """All state that can be read, as sorted text: a rollback may change the order of entries."""
    return sorted(str(entity) for query in EVERYTHING for entity in server.read(query))


class Writer:
    """Fills messages with values that are often right, so that requests get past the first check."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def update(self) -> p4r.Update:
        update = p4r.Update(type=self._random.choice([1, 1, 1, 2, 2, 3, 0]))
        kinds = [field.name for field in p4r.Entity.DESCRIPTOR.fields]
        kind = self._random.choice([*kinds, *["table_entry"] * 6])
        if kind == "table_entry" and self._random.random() < 0.7:
            self._likely_entry(update.entity.table_entry)
        else:
            self._fill(getattr(update.entity, kind), 0)
            self._correct_id(getattr(update.entity, kind))
        if self._random.random() < 0.2:
            self._spoil(update.entity)
        return update

    def _correct_id(self, message: Any) -> None:
        """Most often, an id of the right kind."""
        for name, items in _IDS_OF.items():
            if name in message.DESCRIPTOR.fields_by_name and self._random.random() < 0.9:
                setattr(message, name, self._random.choice(list(items)).preamble.id)
        if isinstance(message, p4r.RegisterEntry) and self._random.random() < 0.7:
            message.data.bitstring = b"\1"
            message.index.index = self._random.randrange(5)
        if isinstance(message, p4r.ActionProfileMember) and self._random.random() < 0.7:
            message.member_id = self._random.randrange(1, 4)
            message.action.Clear()
            self._call(message.action, next(item for item in INFO.actions if item.preamble.alias == "forward"))

    def _likely_entry(self, entry: p4r.TableEntry) -> None:
        choose = self._random
        table = choose.choice(list(INFO.tables))
        entry.table_id = table.preamble.id
        for field in table.match_fields:
            if field.match_type == p4i.MatchField.EXACT:
                entry.match.add(field_id=field.id).exact.value = bytes([choose.randrange(4)])
        if any(field.match_type in (4, 5, 6) for field in table.match_fields):
            entry.priority = choose.randrange(1, 4)
        ref = choose.choice(list(table.action_refs))
        action = next(action for action in INFO.actions if action.preamble.id == ref.id)
        match choose.randrange(4) if table.implementation_id else 0:
            case 1:
                entry.action.action_profile_member_id = choose.randrange(3)
            case 2:
                entry.action.action_profile_group_id = choose.randrange(3)
            case 3:
                item = entry.action.action_profile_action_set.action_profile_actions.add(weight=1)
                self._call(item.action, action)
            case _:
                self._call(entry.action.action, action)

    def _call(self, into: p4r.Action, action: p4i.Action) -> None:
        into.action_id = action.preamble.id
        for param in action.params:
            into.params.add(param_id=param.id, value=bytes([self._random.randrange(4)]))

    def _fill(self, message: Message, depth: int) -> None:
        message.SetInParent()
        for field in message.DESCRIPTOR.fields:
            if self._random.random() < 0.3 + 0.15 * depth:
                continue
            self._field(message, field, depth)

    def _field(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        values = [self._value(field) for _ in range(self._random.randrange(3))]
        if field.message_type is not None:
            if depth > 4 or field.message_type.full_name == "google.protobuf.Any":
                return
            targets = [getattr(message, field.name)]
            if field.is_repeated:
                targets = [targets[0].add() for _ in range(self._random.randrange(3))]
            for target in targets:
                self._fill(target, depth + 1)
        elif field.is_repeated:
            getattr(message, field.name).extend(values)
        else:
            setattr(message, field.name, self._value(field))

    def _value(self, field: FieldDescriptor) -> Any:
        choose = self._random
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
                return choose.choice(
                    [b"", b"\0", b"\1", b"\2", b"\xff", b"\1\0", choose.randbytes(choose.randrange(9))]
                )
            case FieldDescriptor.CPPTYPE_STRING:
                return choose.choice(["", "a"])
            case FieldDescriptor.CPPTYPE_BOOL:
                return choose.random() < 0.2
            case FieldDescriptor.CPPTYPE_ENUM:
                return choose.choice([0, 1, 2])
            case FieldDescriptor.CPPTYPE_INT32 | FieldDescriptor.CPPTYPE_INT64:
                return choose.choice([0, 0, 1, 2, 3, 7, -1, 2**31 - 1])
        return choose.choice([0, 1, 1, 2, 3, 510, 70000, choose.choice(IDS), choose.choice(IDS)])

    def _spoil(self, message: Message) -> None:
        """Change one field somewhere."""
        fields = [field for field, _ in message.ListFields()]
        if not fields:
            return
        field = self._random.choice(fields)
        value = getattr(message, field.name)
        if field.message_type is None:
            message.ClearField(field.name)
        elif field.is_repeated:
            self._spoil(self._random.choice(list(value)))
        else:
            self._spoil(value)


@given(st.integers(0, 2**32), st.integers(1, 12))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_batches_are_whole_or_nothing(seed: int, size: int) -> None:
    server, writer = entities(), Writer(seed)
    for _ in range(4):
        before = snapshot(server)
        updates = [writer.update() for _ in range(size)]
        errors = server.write_all_or_none(updates)
        if any(errors):
            assert snapshot(server) == before, updates
            server.write(updates)


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_refused_update_changes_nothing(seed: int) -> None:
    server, writer = entities(), Writer(seed)
    done = 0
    for _ in range(30):
        update, before = writer.update(), snapshot(server)
        try:
            server.update(update)
        except Refused as error:
            assert error.code is not Code.OK and error.message
            assert snapshot(server) == before, update
        else:
            done += 1


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_reads_answer_or_refuse(seed: int) -> None:
    server, writer = entities(), Writer(seed)
    server.write([writer.update() for _ in range(20)])
    for _ in range(20):
        try:
            list(server.read(writer.update().entity))
        except Refused as error:
            assert error.message


@pytest.fixture(scope="module")
def blob() -> Iterator[bytes]:
    yield INFO.SerializeToString()


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_p4info_links_or_is_refused(data: st.DataObject, blob: bytes) -> None:
    position = data.draw(st.integers(0, len(blob) - 1))
    mutated = (
        blob[:position] + data.draw(st.binary(min_size=0, max_size=3)) + blob[position + data.draw(st.integers(0, 3)) :]
    )
    info = p4i.P4Info()
    try:
        info.ParseFromString(mutated)
    except Exception:
        return
    try:
        link(info, PROGRAM)
    except SwitchError as error:
        assert str(error)


def test_the_writer_reaches_every_kind() -> None:
    """Else the tests above would prove nothing."""
    server, writer = entities(), Writer(1)
    done = set()
    for _ in range(10_000):
        update = writer.update()
        try:
            server.update(update)
        except Refused:
            continue
        done.add(update.entity.WhichOneof("entity"))
    assert done >= {"table_entry", "counter_entry", "meter_entry", "register_entry", "digest_entry", "value_set_entry"}
    assert done >= {"packet_replication_engine_entry", "action_profile_member", "action_profile_group"}
