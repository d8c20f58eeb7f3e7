"""Messages of the recorded session: answers in canonical form, and entities by their numbers."""

from __future__ import annotations

import json
from typing import Any

import grpc
from finsy.proto import p4r, rpc_status
from google.protobuf.message import Message

from tests.p4switch.p4runtime.conftest import Names

FM = p4r.FieldMatch
_TIMES = frozenset({"timestamp", "list_id", "elapsed_ns", "message"})
_SORTED = frozenset({"match", "params", "metadata", "members", "replicas", "table_entry"})


def plain(message: Message) -> dict[str, Any]:
    """A message as JSON, canonical."""
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.name in _TIMES:
            continue
        if not field.is_repeated:
            found[field.name] = _plain_value(value)
            continue
        items = [_plain_value(item) for item in value]
        ordered = field.name in _SORTED and not message.DESCRIPTOR.name.startswith("P4Struct")
        found[field.name] = sorted(items, key=sort_key) if ordered else items
    return found


def _plain_value(value: Any) -> Any:
    if isinstance(value, Message):
        return plain(value)
    return value.hex() if isinstance(value, bytes) else value


def sort_key(item: Any) -> str:
    return json.dumps(item, sort_keys=True)


def failure(error: grpc.RpcError) -> dict[str, Any]:
    """A failed call: its code, and those of the updates."""
    status = rpc_status.Status()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    found = []
    for packed in status.details:
        item = p4r.Error()
        assert packed.Unpack(item)
        found.append({"code": item.canonical_code, "space": item.space})
    return {"status": error.code().name, "updates": found}


def ternary(value: bytes, mask: bytes) -> p4r.FieldMatch:
    return FM(ternary=FM.Ternary(value=value, mask=mask))


def lpm(value: bytes, length: int) -> p4r.FieldMatch:
    return FM(lpm=FM.LPM(value=value, prefix_len=length))


def between(low: bytes, high: bytes) -> p4r.FieldMatch:
    return FM(range=FM.Range(low=low, high=high))


def optional(value: bytes) -> p4r.FieldMatch:
    return FM(optional=FM.Optional(value=value))


def multicast(number: int, *replicas: tuple[int, int]) -> p4r.Entity:
    entry = p4r.MulticastGroupEntry(multicast_group_id=number)
    for port, instance in replicas:
        entry.replicas.add(egress_port=port, instance=instance)
    return p4r.Entity(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry(multicast_group_entry=entry))


def clones(number: int, *replicas: tuple[int, int], **fields: int) -> p4r.Entity:
    entry = p4r.CloneSessionEntry(session_id=number, **fields)
    for port, instance in replicas:
        entry.replicas.add(egress_port=port, instance=instance)
    return p4r.Entity(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry(clone_session_entry=entry))


def counter(number: int, index: int | None = None, **data: int) -> p4r.Entity:
    entry = p4r.CounterEntry(counter_id=number, data=p4r.CounterData(**data) if data else None)
    if index is not None:
        entry.index.index = index
    return p4r.Entity(counter_entry=entry)


def meter(number: int, index: int | None = None, *rates: int) -> p4r.Entity:
    entry = p4r.MeterEntry(meter_id=number)
    if index is not None:
        entry.index.index = index
    if rates:
        entry.config.CopyFrom(p4r.MeterConfig(**dict(zip(("cir", "cburst", "pir", "pburst"), rates, strict=True))))
    return p4r.Entity(meter_entry=entry)


def member(profile: int, number: int, action: p4r.Action | None = None) -> p4r.Entity:
    entry = p4r.ActionProfileMember(action_profile_id=profile, member_id=number, action=action)
    return p4r.Entity(action_profile_member=entry)


def group(profile: int, number: int, *members: int, weight: int = 1, max_size: int = 0) -> p4r.Entity:
    entry = p4r.ActionProfileGroup(action_profile_id=profile, group_id=number, max_size=max_size)
    for item in members:
        entry.members.add(member_id=item, weight=weight)
    return p4r.Entity(action_profile_group=entry)


def choice(names: Names, table: str, key: bytes, **action: int) -> p4r.Entity:
    entity = names.entry(table, key)
    entity.table_entry.action.CopyFrom(p4r.TableAction(**action))
    return entity


def one_shot(names: Names, table: str, key: bytes, *choices: tuple[p4r.Action, int]) -> p4r.Entity:
    entity = names.entry(table, key)
    for action, weight in choices:
        item = entity.table_entry.action.action_profile_action_set.action_profile_actions.add(weight=weight)
        item.action.CopyFrom(action)
    return entity


def digest(number: int, *config: int) -> p4r.Entity:
    entry = p4r.DigestEntry(digest_id=number)
    if config:
        names = ("max_timeout_ns", "max_list_size", "ack_timeout_ns")
        entry.config.CopyFrom(p4r.DigestEntry.Config(**dict(zip(names, config, strict=True))))
    return p4r.Entity(digest_entry=entry)


def packet_out(payload: bytes, *metadata: tuple[int, bytes]) -> p4r.StreamMessageRequest:
    packet = p4r.PacketOut(payload=payload)
    for number, value in metadata:
        packet.metadata.add(metadata_id=number, value=value)
    return p4r.StreamMessageRequest(packet=packet)
