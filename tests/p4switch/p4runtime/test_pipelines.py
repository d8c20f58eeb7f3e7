"""SetForwardingPipelineConfig with every action, and what a wrong configuration is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from finsy.proto import p4i, p4r

Config = p4r.ForwardingPipelineConfig


def refused(client: Any, config: Config | None, action: str = "VERIFY_AND_COMMIT") -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        client.set_pipeline(config, action)
    return caught.value.code(), caught.value.details()


def got(client: Any, kind: str = "ALL") -> p4r.GetForwardingPipelineConfigResponse:
    request = p4r.GetForwardingPipelineConfigRequest(device_id=1, response_type=kind)
    return client.stub.GetForwardingPipelineConfig(request, timeout=10)


def with_cookie(config: Config, cookie: int) -> Config:
    copy = Config()
    copy.CopyFrom(config)
    copy.cookie.cookie = cookie
    return copy


def test_nothing_is_set_at_first(switch: Any) -> None:
    client = switch.primary()
    assert not got(client).HasField("config")
    for call in (lambda: client.read(p4r.Entity(table_entry=p4r.TableEntry())), client.write):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_commit_and_get(switch: Any, configs: Any) -> None:
    client = switch.primary()
    config = with_cookie(configs["entities"], 77)
    client.set_pipeline(config)
    assert got(client).config == config
    assert got(client, "COOKIE_ONLY").config == Config(cookie=config.cookie)
    assert got(client, "P4INFO_AND_COOKIE").config == Config(cookie=config.cookie, p4info=config.p4info)
    device = Config(cookie=config.cookie, p4_device_config=config.p4_device_config)
    assert got(client, "DEVICE_CONFIG_AND_COOKIE").config == device
    client.set_pipeline(configs["entities"])
    assert not got(client).config.HasField("cookie")


def test_commit_clears_state(ent: Any, names: Any, configs: Any) -> None:
    ent.insert(names.entry("exact_table", b"\1", action=names.action("drop")))
    ent.set_pipeline(configs["entities"])
    assert ent.read(names.entry("exact_table")) == []


def test_verify_changes_nothing(ent: Any, names: Any, configs: Any) -> None:
    ent.insert(names.entry("exact_table", b"\1", action=names.action("drop")))
    ent.set_pipeline(configs["splitmerge"], "VERIFY")
    assert len(ent.read(names.entry("exact_table"))) == 1


def test_save_then_commit(ent: Any, switch: Any, names: Any, configs: Any) -> None:
    """Reads and writes refer to the saved configuration; packets to the committed one until COMMIT."""
    assert refused(ent, None, "COMMIT")[0] is grpc.StatusCode.NOT_FOUND
    key = b"\2\0\0\0\0\x0a"
    ent.insert(names.entry("exact_table", key, action=names.action("measured", b"\2")))
    ent.set_pipeline(with_cookie(configs["entities"], 5), "VERIFY_AND_SAVE")
    assert ent.read(names.entry("exact_table")) == []
    ent.insert(names.entry("exact_table", key, action=names.action("measured", b"\x0b")))
    frame = key + bytes(54)
    switch.send(1, frame)
    assert switch.receive(2) == frame
    assert refused(ent, configs["entities"], "COMMIT")[0] is grpc.StatusCode.INVALID_ARGUMENT
    ent.set_pipeline(None, "COMMIT")
    switch.send(1, frame)
    assert switch.receive(11) == frame
    assert got(ent).config.cookie.cookie == 5
    assert refused(ent, None, "COMMIT")[0] is grpc.StatusCode.NOT_FOUND


def test_reconcile_keeps_state(ent: Any, switch: Any, names: Any, configs: Any) -> None:
    key = b"\2\0\0\0\0\x0a"
    counted = p4r.CounterData(packet_count=4, byte_count=5)
    entry = names.entry("exact_table", key, action=names.action("measured", b"\2"), counter_data=counted, metadata=b"m")
    default = names.entry("exact_table", is_default_action=True, action=names.action("measured", b"\1"))
    ent.insert(entry)
    ent.modify(default)
    counter = p4r.Entity(counter_entry=p4r.CounterEntry(counter_id=names.both, index=p4r.Index(index=3), data=counted))
    ent.modify(counter)
    ent.set_pipeline(with_cookie(configs["entities"], 6), "RECONCILE_AND_COMMIT")
    assert got(ent).config.cookie.cookie == 6
    assert ent.read(names.entry("exact_table", counter_data=p4r.CounterData())) == [entry]
    assert ent.read(names.entry("exact_table", is_default_action=True)) == [default]
    assert ent.read(counter) == [counter]
    switch.send(1, key + bytes(54))
    assert switch.receive(2) == key + bytes(54)


def test_reconcile_with_a_program_that_cannot_keep_it(ent: Any, names: Any, configs: Any) -> None:
    ent.insert(names.entry("exact_table", b"\1", action=names.action("drop")))
    code, message = refused(ent, configs["splitmerge"], "RECONCILE_AND_COMMIT")
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be kept" in message
    assert len(ent.read(names.entry("exact_table"))) == 1


def test_old_clients_wrapping_is_taken_off(switch: Any, configs: Any) -> None:
    client = switch.primary()
    blob = configs["entities"].p4_device_config
    length, size = b"", len(blob)
    while size:
        length += bytes([size & 0x7F | (0x80 if size >> 7 else 0)])
        size >>= 7
    wrapped = b"\x08\x01" + b"\x1a" + length + blob  # p4.tmp.P4DeviceConfig {reassign: true, device_data: blob}
    client.set_pipeline(Config(p4info=configs["entities"].p4info, p4_device_config=wrapped))
    assert got(client).config.p4_device_config == wrapped


def _blob(change: Callable[[dict[str, Any]], object]) -> Callable[[Config], None]:
    def edit(config: Config) -> None:
        program = json.loads(config.p4_device_config)
        change(program)
        config.p4_device_config = json.dumps(program).encode()

    return edit


def _info(change: Callable[[p4i.P4Info], object]) -> Callable[[Config], None]:
    return lambda config: change(config.p4info)


def _set(thing: Any, name: str, value: object) -> None:
    setattr(thing, name, value)


BROKEN: dict[str, tuple[Callable[[Config], object], str]] = {
    "no blob": (lambda c: c.ClearField("p4_device_config"), "p4_device_config is empty"),
    "no JSON": (lambda c: _set(c, "p4_device_config", b"\x01\x02"), "no JSON"),
    "cut JSON": (lambda c: _set(c, "p4_device_config", c.p4_device_config[:5000]), ""),
    "no parsers": (_blob(lambda p: p.pop("parsers")), "parsers"),
    "strange action": (
        _blob(lambda p: p["actions"][0]["primitives"].append({"op": "frobnicate", "parameters": []})),
        "frobnicate",
    ),
    "id twice": (_info(lambda i: _set(i.tables[1].preamble, "id", i.tables[0].preamble.id)), "is also that of"),
    "id 0": (_info(lambda i: _set(i.tables[1].preamble, "id", 0)), "id 0"),
    "no name": (_info(lambda i: _set(i.tables[1].preamble, "name", "")), "has no name"),
    "name twice": (_info(lambda i: i.actions.append(_renumbered(i.actions[0]))), "is there twice"),
    "unknown table": (_info(lambda i: _set(i.tables[1].preamble, "name", "Other.t")), "no such table"),
    "unknown action": (_info(lambda i: _set(i.actions[1].preamble, "name", "Other.a")), "no such action"),
    "unknown counter": (_info(lambda i: _set(i.counters[0].preamble, "name", "Other.c")), "no such counter"),
    "unknown action ref": (_info(lambda i: _set(i.tables[1].action_refs[0], "id", 99)), "99 is not in the P4Info"),
    "field too wide": (_info(lambda i: _set(_exact(i).match_fields[0], "bitwidth", 49)), "49 bits in the P4Info, 48"),
    "field gone": (_info(lambda i: _exact(i).match_fields.pop()), "0 match fields"),
    "other kind": (_info(lambda i: _set(_exact(i).match_fields[0], "match_type", 3)), "lpm in the P4Info"),
    "parameter gone": (_info(lambda i: next(a for a in i.actions if a.params).params.pop()), "parameters"),
    "counter size": (_info(lambda i: _set(i.counters[0], "size", 9)), "size 9 in the P4Info, 8"),
    "counter unit": (_info(lambda i: i.counters[0].spec.ClearField("unit")), "unspecified"),
    "extern": (_info(lambda i: i.externs.add(extern_type_name="Magic")), "Magic"),
    "header": (_info(lambda i: _set(i.controller_packet_metadata[0].metadata[0], "bitwidth", -1)), "bitwidth -1"),
}


def _exact(info: p4i.P4Info) -> p4i.Table:
    return next(table for table in info.tables if table.preamble.alias == "exact_table")


def _renumbered(action: p4i.Action) -> p4i.Action:
    copy = p4i.Action()
    copy.CopyFrom(action)
    copy.preamble.id += 1
    return copy


@pytest.mark.parametrize("name", BROKEN)
def test_wrong_configuration_is_refused_precisely_and_changes_nothing(
    ent: Any, names: Any, configs: Any, name: str
) -> None:
    ent.insert(names.entry("exact_table", b"\1", action=names.action("drop")))
    broken = Config()
    broken.CopyFrom(configs["entities"])
    edit, words = BROKEN[name]
    edit(broken)
    for action in ("VERIFY", "VERIFY_AND_SAVE", "VERIFY_AND_COMMIT", "RECONCILE_AND_COMMIT"):
        code, message = refused(ent, broken, action)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert words in message
    assert len(ent.read(names.entry("exact_table"))) == 1
    assert got(ent).config == configs["entities"]


def test_action_and_config_must_be_given(ent: Any, configs: Any) -> None:
    assert refused(ent, configs["entities"], "UNSPECIFIED")[0] is grpc.StatusCode.INVALID_ARGUMENT
    for action in ("VERIFY", "VERIFY_AND_SAVE", "VERIFY_AND_COMMIT", "RECONCILE_AND_COMMIT"):
        assert refused(ent, None, action)[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_capabilities(start: Any) -> None:
    def version(strict: bool, device: int = 0) -> str:
        client = start(strict=strict).client()
        return client.stub.Capabilities(p4r.CapabilitiesRequest(device_id=device), timeout=10).p4runtime_api_version

    assert version(False) == "1.4.1"
    assert version(True) == "1.3.0"
    assert version(False, 1) == "1.4.1"
    with pytest.raises(grpc.RpcError) as caught:
        version(False, 2)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
