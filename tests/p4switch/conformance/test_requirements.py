"""Requirements of the P4Runtime specification that no other test shows, and a check of the table of them all."""

from __future__ import annotations

import ast
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from finsy.proto import p4i, p4r

from p4switch.backend import BackendChoice, device_maker
from p4switch.p4runtime import PipelineOptions
from p4switch.p4runtime.pipeline import Pipeline
from tests.p4switch.conformance.harness import CONFIGS, NAMES
from tests.p4switch.p4runtime.conftest import Names

TESTS = Path(__file__).parents[1]
TABLE = Path(__file__).parents[3] / "docs" / "p4runtime.md"
OK, INVALID, NOT_FOUND, DENIED, EXHAUSTED, RANGE, UNIMPLEMENTED = 0, 3, 5, 7, 8, 11, 12
N: Names = NAMES["entities"]
C: Names = NAMES["choices"]


def update(kind: str, entity: p4r.Entity) -> p4r.Update:
    return p4r.Update(type=kind, entity=entity)


def code_of(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code()


def member(profile: int, number: int, action: p4r.Action) -> p4r.Entity:
    entry = p4r.ActionProfileMember(action_profile_id=profile, member_id=number, action=action)
    return p4r.Entity(action_profile_member=entry)


def group(profile: int, number: int, *members: int, max_size: int = 0) -> p4r.Entity:
    entry = p4r.ActionProfileGroup(action_profile_id=profile, group_id=number, max_size=max_size)
    for item in members:
        entry.members.add(member_id=item, weight=1)
    return p4r.Entity(action_profile_group=entry)


def by_group(number: int) -> p4r.Entity:
    entity = N.entry("selector_table", b"\1")
    entity.table_entry.action.action_profile_group_id = number
    return entity


# -- the table -------------------------------------------------------------------------------------------------------


def test_every_test_that_the_table_names_exists() -> None:
    named = set(re.findall(r"`([a-z0-9_]+/test_[a-z0-9_]+\.py)::(test_[a-z0-9_]+)`", TABLE.read_text()))
    assert len(named) > 80
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    there = {
        (path, item.name)
        for path in {path for path, _ in named}
        for item in ast.parse((TESTS / path).read_text()).body
        if isinstance(item, functions)
    }
    assert named <= there, sorted(named - there)


def test_every_row_of_the_table_has_a_test_or_a_reason() -> None:
    rows = [line.split(" | ") for line in TABLE.read_text().splitlines() if re.match(r"\| \d+(\.\d+)* \|", line)]
    assert len(rows) >= 180
    for cells in rows:
        assert len(cells) == 3, cells
        assert "::test_" in cells[2] or cells[2].startswith("no: "), cells


# -- 6, 8: P4Info, messages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", CONFIGS)
def test_ids_begin_with_the_number_of_their_kind(program: str) -> None:
    info = CONFIGS[program].p4info
    kinds: list[tuple[int, Any]] = [
        (p4i.P4Ids.TABLE, info.tables),
        (p4i.P4Ids.ACTION, info.actions),
        (p4i.P4Ids.ACTION_PROFILE, info.action_profiles),
        (p4i.P4Ids.COUNTER, info.counters),
        (p4i.P4Ids.DIRECT_COUNTER, info.direct_counters),
        (p4i.P4Ids.METER, info.meters),
        (p4i.P4Ids.DIRECT_METER, info.direct_meters),
        (p4i.P4Ids.REGISTER, info.registers),
        (p4i.P4Ids.DIGEST, info.digests),
        (p4i.P4Ids.VALUE_SET, info.value_sets),
    ]
    wrong = [item.preamble.name for kind, items in kinds for item in items if item.preamble.id >> 24 != kind]
    assert wrong == []


def test_zero_is_a_value_like_any_other(ent: Any) -> None:
    entry = N.entry("exact_table", b"\0", action=N.action("measured", b"\0"))
    ent.insert(entry)
    assert ent.read(entry) == [entry]
    assert ent.codes(update("DELETE", N.entry("exact_table", b"\0\0"))) == [OK]


def test_every_kind_of_entity_reads_back_as_written(ent: Any) -> None:
    data = p4r.CounterData(packet_count=1, byte_count=2)
    rates = p4r.MeterConfig(cir=1, cburst=2, pir=3, pburst=4)
    register = p4r.RegisterEntry(register_id=N.balance, index=p4r.Index(index=1))
    register.data.bitstring = b"\x12"
    replicas = [p4r.Replica(port=b"\1", instance=2)]
    pre = p4r.PacketReplicationEngineEntry
    multicast = p4r.MulticastGroupEntry(multicast_group_id=3, replicas=replicas)
    session = p4r.CloneSessionEntry(session_id=3, replicas=replicas, class_of_service=1, packet_length_bytes=9)
    config = p4r.DigestEntry.Config(max_timeout_ns=1, max_list_size=2, ack_timeout_ns=3)
    values = p4r.ValueSetEntry(value_set_id=N.known)
    values.members.add().match.add(field_id=1).exact.value = b"\x12\x34"
    inserted = [
        member(N.spreader, 1, N.action("forward", b"\1")),
        group(N.spreader, 1, 1, max_size=2),
        by_group(1),
        N.entry("exact_table", b"\1", action=N.action("measured", b"\1"), metadata=b"m", idle_timeout_ns=10**15),
        p4r.Entity(packet_replication_engine_entry=pre(multicast_group_entry=multicast)),
        p4r.Entity(packet_replication_engine_entry=pre(clone_session_entry=session)),
        p4r.Entity(digest_entry=p4r.DigestEntry(digest_id=N.seen_t, config=config)),
    ]
    key = p4r.TableEntry(table_id=N.exact_table, match=inserted[3].table_entry.match)
    modified = [
        p4r.Entity(counter_entry=p4r.CounterEntry(counter_id=N.both, index=p4r.Index(index=1), data=data)),
        p4r.Entity(meter_entry=p4r.MeterEntry(meter_id=N.limiter, index=p4r.Index(index=1), config=rates)),
        p4r.Entity(direct_counter_entry=p4r.DirectCounterEntry(table_entry=key, data=data)),
        p4r.Entity(direct_meter_entry=p4r.DirectMeterEntry(table_entry=key, config=rates)),
        p4r.Entity(register_entry=register),
        p4r.Entity(value_set_entry=values),
        N.entry("exact_table", is_default_action=True, action=N.action("measured", b"\7")),
    ]
    ent.insert(*inserted)
    ent.modify(*modified)
    for entity in inserted + modified:
        assert ent.read(entity) == [entity]


def _translated(width: int) -> p4r.ForwardingPipelineConfig:
    """The parameter of ``forward`` as of a translated type of this width; 0: of strings."""
    config = p4r.ForwardingPipelineConfig()
    config.CopyFrom(CONFIGS["entities"])
    action = next(item for item in config.p4info.actions if item.preamble.alias == "forward")
    param = action.params[0]
    param.type_name.name = "port_id_t"
    param.bitwidth = width
    return config


def test_a_translated_type_has_the_controllers_width(switch: Any) -> None:
    client = switch.primary(_translated(32))
    fits = N.entry("lpm_table", None, b"\1", action=N.action("forward", b"\0\0\1\xfe"))
    wide = N.entry("lpm_table", None, b"\2", action=N.action("forward", b"\0\0\2\0"))
    assert client.codes(update("INSERT", fits), update("INSERT", wide)) == [OK, INVALID]
    (read,) = client.read(N.entry("lpm_table"))
    assert read.table_entry.action.action.params[0].value == b"\1\xfe"


def test_types_translated_to_strings_are_refused_with_their_name(switch: Any) -> None:
    client = switch.primary()
    with pytest.raises(grpc.RpcError) as caught:
        client.set_pipeline(_translated(0))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "port_id_t" in caught.value.details()


# -- 5: arbitration --------------------------------------------------------------------------------------------------


def test_anyone_may_read_with_and_without_a_stream(ent: Any, switch: Any) -> None:
    entry = N.entry("exact_table", b"\1", action=N.action("drop"))
    ent.insert(entry)
    backup = switch.client()
    backup.arbitrate(0)
    backup.status()
    assert backup.read(entry) == [entry]
    assert switch.client().read(entry) == [entry]


def test_a_role_that_nobody_claimed_reads_nothing(ent: Any) -> None:
    request = p4r.ReadRequest(device_id=1, role="nobody", entities=[N.entry("exact_table")])
    assert code_of(lambda: list(ent.stub.Read(request, timeout=10))) is grpc.StatusCode.NOT_FOUND


def test_nobody_is_primary_without_arbitration(ent: Any, switch: Any) -> None:
    other = switch.client()
    entry = update("INSERT", N.entry("exact_table", b"\1", action=N.action("drop")))
    assert code_of(lambda: other.write(entry)) is grpc.StatusCode.PERMISSION_DENIED
    assert code_of(lambda: other.set_pipeline(CONFIGS["entities"])) is grpc.StatusCode.PERMISSION_DENIED


def test_an_id_left_behind_is_free_again_and_its_owner_no_primary(switch: Any) -> None:
    first = switch.primary(CONFIGS["entities"], election_id=5)
    watcher = switch.client()
    watcher.arbitrate(1)
    watcher.status()
    first.close()
    assert watcher.status() == (NOT_FOUND, 5)
    entry = update("INSERT", N.entry("exact_table", b"\1", action=N.action("drop")))
    watcher.election_id = 5  # the id alone makes nobody a primary
    assert code_of(lambda: watcher.write(entry)) is grpc.StatusCode.PERMISSION_DENIED
    again = switch.client()
    again.arbitrate(5)
    assert again.status() == (OK, 5)
    again.write(entry)


# -- 9: entities -----------------------------------------------------------------------------------------------------


def test_delete_looks_at_the_key_alone(ent: Any) -> None:
    ent.insert(N.entry("exact_table", b"\1", action=N.action("measured", b"\1")))
    odd = N.entry("exact_table", b"\1", action=N.action("learn"), metadata=b"other", idle_timeout_ns=-1)
    assert ent.codes(update("DELETE", odd)) == [OK]
    assert ent.read(N.entry("exact_table")) == []


def test_wildcard_reads_leave_out_default_entries(ent: Any) -> None:
    read = ent.read(p4r.Entity(table_entry=p4r.TableEntry()))
    assert not any(item.table_entry.is_default_action for item in read)
    defaults = ent.read(p4r.Entity(table_entry=p4r.TableEntry(is_default_action=True)))
    assert {item.table_entry.table_id for item in defaults} >= {N.exact_table, N.lpm_table}
    assert all(item.table_entry.is_default_action for item in defaults)


def test_entries_of_the_program_are_const_or_initial(switch: Any) -> None:
    client = switch.primary(CONFIGS["choices"])
    const = client.read(C.entry("by_range"))
    assert [item.table_entry.is_const for item in const] == [True] * 3
    initial = client.read(C.entry("initial"))
    assert [item.table_entry.is_const for item in initial] == [False] * 2
    codes = client.codes(
        update("DELETE", const[0]),
        update("INSERT", C.entry("by_range", priority=9, action=C.action("say", b"\1"))),
        update("DELETE", initial[0]),
    )
    assert codes == [DENIED, DENIED, OK]
    client.set_pipeline(CONFIGS["choices"], "RECONCILE_AND_COMMIT")
    assert client.read(C.entry("initial")) == initial[1:]  # what was deleted stays so
    client.set_pipeline(CONFIGS["choices"])
    assert client.read(C.entry("initial")) == initial


def test_members_fill_their_profile(switch: Any) -> None:
    client = switch.primary(CONFIGS["choices"])
    updates = [update("INSERT", member(C.shared, n, C.action("say", b"\1"))) for n in range(1, 7)]
    assert client.codes(*updates) == [OK] * 4 + [EXHAUSTED] * 2


def test_groups_may_be_empty_and_modify_replaces_their_members(ent: Any) -> None:
    ent.insert(*(member(N.spreader, n, N.action("drop")) for n in (1, 2, 3)), group(N.spreader, 1, max_size=2))
    (empty,) = ent.read(group(N.spreader, 1))
    assert not empty.action_profile_group.members
    for members in ((1, 2), (3,), ()):
        changed = group(N.spreader, 1, *members, max_size=2)
        ent.modify(changed)
        assert ent.read(group(N.spreader, 1)) == [changed]
    assert ent.codes(update("MODIFY", group(N.spreader, 1, 1, 2, 3, max_size=2))) == [EXHAUSTED]
    assert not ent.read(group(N.spreader, 1))[0].action_profile_group.members


def test_watch_ports_read_back(ent: Any) -> None:
    ent.insert(member(N.spreader, 1, N.action("drop")))
    watched = group(N.spreader, 1)
    watched.action_profile_group.members.add(member_id=1, weight=1, watch_port=b"\2")
    ent.insert(watched)
    assert ent.read(group(N.spreader, 1)) == [watched]


@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_choices_whose_watched_port_is_down_are_passed_over(backend: str) -> None:
    if backend == "native":
        pytest.importorskip("llvmlite")
    config = CONFIGS["choices"]
    pipeline = Pipeline(config, PipelineOptions(make_device=device_maker(BackendChoice(backend))))
    entity = C.entry("by_selector", b"\6")
    for port in (1, 2):
        choice = entity.table_entry.action.action_profile_action_set.action_profile_actions.add(weight=1)
        choice.action.CopyFrom(C.action("send", bytes([port])))
        choice.watch_port = bytes([port])
    device = pipeline.device
    frames = [b"\0\6" + number.to_bytes(2, "big") + bytes(32) for number in range(0, 1 << 16, 997)]

    def ports() -> list[int]:
        with device.state.lock:
            return [device.process(3, frame, 0)[0].port for frame in frames]

    with device.state.lock:
        pipeline.entities.update(update("INSERT", entity))
    spread = ports()
    assert set(spread) == {1, 2}
    with device.state.lock:
        device.state.ports_down.add(1)
    assert set(ports()) == {2}
    with device.state.lock:
        device.state.ports_down.discard(1)
    assert ports() == spread


def test_meters_do_not_count_by_colour(ent: Any) -> None:
    entry = N.entry("exact_table", b"\1", action=N.action("drop"), meter_counter_data=p4r.MeterCounterData())
    assert ent.codes(update("INSERT", entry)) == [UNIMPLEMENTED]


# -- 10 to 13: batches, reads ----------------------------------------------------------------------------------------


def test_updates_of_a_batch_go_in_order(ent: Any) -> None:
    entry, other = (N.entry("exact_table", b"\1", action=N.action("measured", port)) for port in (b"\1", b"\2"))
    ent.write(*(update(kind, item) for kind, item in (("INSERT", entry), ("MODIFY", other), ("DELETE", entry))))
    assert ent.read(N.entry("exact_table")) == []
    ent.write(*(update(kind, item) for kind, item in (("INSERT", entry), ("DELETE", entry), ("INSERT", other))))
    assert ent.read(N.entry("exact_table")) == [other]


def test_a_batch_may_hold_what_its_later_updates_need(ent: Any) -> None:
    one = member(N.spreader, 1, N.action("drop"))
    ent.insert(one, group(N.spreader, 1, 1), by_group(1))
    ent.delete(by_group(1), group(N.spreader, 1), one)
    codes = ent.codes(*(update("INSERT", entity) for entity in (by_group(1), group(N.spreader, 1, 1), one)))
    assert codes == [NOT_FOUND, NOT_FOUND, OK]


def test_nothing_asked_nothing_answered(ent: Any) -> None:
    ent.insert(N.entry("exact_table", b"\1", action=N.action("drop")))
    assert ent.read() == []


def test_one_read_may_ask_for_several_kinds(ent: Any) -> None:
    entry = N.entry("exact_table", b"\1", action=N.action("drop"))
    one = member(N.spreader, 1, N.action("drop"))
    ent.insert(entry, one)
    meters = p4r.Entity(meter_entry=p4r.MeterEntry(meter_id=N.limiter))
    read = ent.read(entry, p4r.Entity(action_profile_member=p4r.ActionProfileMember()), meters)
    assert read[:2] == [entry, one]
    assert [item.WhichOneof("entity") for item in read[2:]] == ["meter_entry"] * 4


def test_reads_see_batches_whole_while_others_write(ent: Any, switch: Any) -> None:
    """Two entries change together; whoever reads meanwhile sees them alike."""
    keys = b"\1", b"\2"

    def both(port: int) -> list[p4r.Entity]:
        return [N.entry("exact_table", key, action=N.action("measured", bytes([port]))) for key in keys]

    ent.insert(*both(1))
    done = threading.Event()
    seen: list[set[bytes]] = []

    def watch() -> None:
        reader = switch.client()
        while not done.is_set() or not seen:
            rows = reader.read(N.entry("exact_table"))
            seen.append({item.table_entry.action.action.params[0].value for item in rows})

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        for number in range(1, 101):
            ent.write(*(update("MODIFY", entity) for entity in both(number)), atomicity=2)
    finally:
        done.set()
        thread.join(10)
    assert not thread.is_alive()
    assert all(len(values) == 1 for values in seen)


def test_device_id_is_checked_by_every_request(ent: Any) -> None:
    stub = ent.stub
    calls: list[Callable[[], object]] = [
        lambda: stub.Write(p4r.WriteRequest(device_id=9), timeout=10),
        lambda: list(stub.Read(p4r.ReadRequest(device_id=9), timeout=10)),
        lambda: stub.SetForwardingPipelineConfig(p4r.SetForwardingPipelineConfigRequest(device_id=9), timeout=10),
        lambda: stub.GetForwardingPipelineConfig(p4r.GetForwardingPipelineConfigRequest(device_id=9), timeout=10),
        lambda: stub.Capabilities(p4r.CapabilitiesRequest(device_id=9), timeout=10),
    ]
    assert [code_of(call) for call in calls] == [grpc.StatusCode.NOT_FOUND] * 5


def test_version_has_three_numbers(switch: Any) -> None:
    version = switch.client().stub.Capabilities(p4r.CapabilitiesRequest(), timeout=10).p4runtime_api_version
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
