"""Rows to P4Runtime table entries and back, with ids resolved against the P4Info.

finsy's `P4Schema` parses the P4Info and finds names; the messages themselves are filled here, because flows are many
and finsy's general encoder makes 20,000 entries a second where filling protobufs makes over 100,000, and pieces of
serialized ones (`p4rt_controller.serialized`) many more.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from finsy import P4Schema
from finsy.proto import p4r

from p4rt_controller.serialized import FlowUpdates, flow_match, serialized
from p4rt_controller.tables import (
    CONTROLLER,
    HERE,
    NOBODY,
    TRUNK,
    Forward,
    Key,
    Op,
    OverTrunk,
    Steer,
    Table,
    Update,
    Value,
)
from splitmerge.errors import BadInput
from splitmerge.flowkey import FlowKey

FOREIGN = Steer(-1)
"""Value of an entry on the switch whose action is none of ours; equal to no desired value."""

_CACHED = 10_000
"""Decoded actions remembered; there are as many as replicas, times two."""
_OPS = {Op.INSERT: p4r.Update.INSERT, Op.MODIFY: p4r.Update.MODIFY, Op.DELETE: p4r.Update.DELETE}


class _Layout(NamedTuple):
    """Ids of one P4 table: match fields in the order named, action name → (id, parameter ids in the order named)."""

    table_id: int
    fields: tuple[int, ...]
    actions: dict[str, tuple[int, tuple[int, ...]]]


_FLOW_FIELDS = ("low_addr", "high_addr", "low_port", "high_port", "protocol")
_STEER = ("replica", "suspend")
_FORWARD = ("port", "src_mac", "dst_mac")
_NAMES: dict[str, tuple[Table, tuple[str, ...], dict[str, tuple[str, ...]]]] = {
    "port_role": (
        Table.PORT_ROLE,
        ("ingress_port",),
        {"set_host": (), "set_replica": ("replica",), "set_controller": (), "set_trunk": ()},
    ),
    "flow_v4": (Table.FLOW, _FLOW_FIELDS, {"steer": _STEER}),
    "flow_v6": (Table.FLOW, _FLOW_FIELDS, {"steer": _STEER}),
    "bucket": (Table.BUCKET, ("bucket",), {"steer_bucket": _STEER, "ask_controller": ()}),
    "replica": (
        Table.REPLICA,
        ("replica",),
        {"to_replica": ("port",), "over_trunk": ("port",), "to_controller": ()},
    ),
    "route_v4": (Table.ROUTE, ("dst",), {"forward": _FORWARD}),
    "route_v6": (Table.ROUTE, ("dst",), {"forward": _FORWARD}),
    "arp": (Table.ADDRESS, ("target",), {"arp_reply": ("mac",)}),
    "neighbor": (Table.ADDRESS, ("target",), {"neighbor_reply": ("mac",)}),
}
"""What this controller expects of the P4 program: table, match fields, actions and their parameters."""


class FlowCount(NamedTuple):
    """A flow entry read with its direct counter."""

    key: FlowKey
    steer: Steer
    packets: int
    bytes: int


class Pipeline:
    """The P4 program, as this controller sees it. :raises BadInput: if the P4Info lacks something it needs."""

    def __init__(self, p4info: Path, p4blob: Path, *, idle_seconds: float = 0.0) -> None:
        try:
            self.schema = P4Schema(p4info, p4blob)
        except Exception as error:  # protobuf's and finsy's parsers raise many types
            raise BadInput(str(p4info), f"not a P4Info: {error}") from error
        self._layouts = {name: self._layout(name) for name in _NAMES}
        self._kinds = {self._layouts[name].table_id: (name, spec[0]) for name, spec in _NAMES.items()}
        self._actions = {
            ids[0]: (action, ids[1]) for layout in self._layouts.values() for action, ids in layout.actions.items()
        }
        self._flows = FlowUpdates(self.encode)
        self._values: dict[bytes, Value] = {}
        self._idle_ns = int(idle_seconds * 1e9)
        self.drops_counter = self._drops()

    def _layout(self, name: str) -> _Layout:
        _, fields, actions = _NAMES[name]
        try:
            table = self.schema.tables[name]
            found = {
                action: (
                    table.actions[action].id,
                    tuple(table.actions[action].params[param].id for param in params),
                )
                for action, params in actions.items()
            }
            return _Layout(table.id, tuple(table.match_fields[field].id for field in fields), found)
        except ValueError as error:
            raise BadInput(f"P4Info, table {name}", str(error), "use the P4 program of this release") from None

    def _drops(self) -> int:
        try:
            return self.schema.counters["drops"].id
        except ValueError as error:
            raise BadInput("P4Info, counter drops", str(error), "use the P4 program of this release") from None

    # -- rows to messages ----------------------------------------------------------------------------------

    def encode(self, update: Update) -> Any:
        """The ``p4.v1.Update`` of a table update."""
        return p4r.Update(type=_OPS[update.op], entity=p4r.Entity(table_entry=self._entry(update)))

    def serialize(self, update: Update) -> bytes:
        """The same as it stands in a ``WriteRequest``; flows' by the short way, as they are many."""
        if isinstance(update.key, FlowKey):
            return self._flows.serialize(update, update.key)
        return serialized(self.encode(update))

    def _entry(self, update: Update) -> Any:
        name, match, action, values = self._parts(update)
        layout = self._layouts[name]
        entry = p4r.TableEntry(table_id=layout.table_id, match=_match(layout, match))
        if update.value is None:
            return entry
        action_id, params = layout.actions[action]
        entry.action.action.action_id = action_id
        entry.action.action.params.extend(
            [p4r.Action.Param(param_id=param, value=value) for param, value in zip(params, values, strict=True)]
        )
        if self._idle_ns and update.table is Table.FLOW:
            entry.idle_timeout_ns = self._idle_ns
        return entry

    def _parts(self, update: Update) -> tuple[str, tuple[Any, ...], str, tuple[bytes, ...]]:
        """P4 table, match values, action, its parameters."""
        key, value = update.key, update.value
        match update.table:
            case Table.FLOW:
                assert isinstance(key, FlowKey)
                return f"flow_v{key.version}", flow_match(key), "steer", _steer(value)
            case Table.BUCKET:
                action = "ask_controller" if value == NOBODY else "steer_bucket"
                return "bucket", (_number(key),), action, () if value == NOBODY else _steer(value)
            case Table.REPLICA:
                return "replica", (_number(key),), *_way(value)
            case Table.PORT_ROLE:
                return "port_role", (_number(key),), *_role(value)
            case Table.ROUTE:
                assert isinstance(key, ipaddress.IPv4Network | ipaddress.IPv6Network)
                lpm = (trim(key.network_address.packed), key.prefixlen)
                return f"route_v{key.version}", (lpm,), "forward", _forward(value)
            case Table.ADDRESS:
                assert isinstance(key, ipaddress.IPv4Address | ipaddress.IPv6Address)
                name, action = ("arp", "arp_reply") if key.version == 4 else ("neighbor", "neighbor_reply")
                return name, (trim(key.packed),), action, (trim(value),) if isinstance(value, bytes) else ()

    # -- messages to rows ----------------------------------------------------------------------------------

    def read_all(self, device_id: int) -> Any:
        """The ``p4.v1.ReadRequest`` for every row of every table."""
        return self._read_request(device_id, _NAMES, counters=False)

    def read_flows(self, device_id: int) -> Any:
        """The ``p4.v1.ReadRequest`` for all flow entries with their counters."""
        return self._read_request(device_id, ("flow_v4", "flow_v6"), counters=True)

    def _read_request(self, device_id: int, names: Iterable[str], *, counters: bool) -> Any:
        request = p4r.ReadRequest(device_id=device_id)
        for name in names:
            entry = request.entities.add().table_entry
            entry.table_id = self._layouts[name].table_id
            if counters:
                entry.counter_data.SetInParent()
        return request

    def rows(self, entities: Iterable[Any]) -> Iterator[tuple[Table, Key, Value]]:
        """The rows among these ``p4.v1.Entity`` messages; entries of other tables and default entries are left out."""
        for entity in entities:
            entry = entity.table_entry
            kind = self._kinds.get(entry.table_id)
            if kind is not None and not entry.is_default_action:
                name, table = kind
                yield table, self._key(name, table, entry), self._value(entry)

    def flow_counts(self, entities: Iterable[Any]) -> Iterator[FlowCount]:
        """The flow entries among these entities, with their counters."""
        for entity in entities:
            entry = entity.table_entry
            name, table = self._kinds.get(entry.table_id, ("", None))
            if table is Table.FLOW and not entry.is_default_action:
                steer = self._value(entry)
                assert isinstance(steer, Steer)
                data = entry.counter_data
                yield FlowCount(self.flow_key(name, entry), steer, data.packet_count, data.byte_count)

    def idle_flows(self, notification: Any) -> list[FlowKey]:
        """Keys in an ``IdleTimeoutNotification``."""
        kinds = ((entry, *self._kinds.get(entry.table_id, ("", None))) for entry in notification.table_entry)
        return [self.flow_key(name, entry) for entry, name, table in kinds if table is Table.FLOW]

    def flow_key(self, name: str, entry: Any) -> FlowKey:
        """The key of an entry of ``flow_v4`` or ``flow_v6``."""
        values = {match.field_id: match.exact.value for match in entry.match}
        low, high, low_port, high_port, protocol = (values.get(field, b"") for field in self._layouts[name].fields)
        width = 4 if name == "flow_v4" else 16
        return FlowKey(pad(low, width) + pad(high, width) + pad(low_port, 2) + pad(high_port, 2) + pad(protocol, 1))

    def _key(self, name: str, table: Table, entry: Any) -> Key:
        if table is Table.FLOW:
            return self.flow_key(name, entry)
        width = 4 if name in ("route_v4", "arp") else 16
        if table is Table.ROUTE:
            lpm = entry.match[0].lpm if entry.match else p4r.FieldMatch.LPM()
            return ipaddress.ip_network((pad(lpm.value, width), lpm.prefix_len))
        raw = entry.match[0].exact.value
        return ipaddress.ip_address(pad(raw, width)) if table is Table.ADDRESS else int.from_bytes(raw, "big")

    def _value(self, entry: Any) -> Value:
        raw = entry.action.SerializeToString()
        value = self._values.get(raw)
        if value is None:
            if len(self._values) >= _CACHED:
                self._values.clear()
            action = entry.action.action
            by_id = {param.param_id: param.value for param in action.params}
            name, params = self._actions.get(action.action_id, ("", ()))
            value = self._values[raw] = _decode_action(name, [by_id.get(param, b"") for param in params])
        return value


def _decode_action(name: str, values: list[bytes]) -> Value:
    match name, values:
        case (("steer" | "steer_bucket"), [replica, suspend]):
            return Steer(int.from_bytes(replica, "big"), any(suspend))
        case "ask_controller", []:
            return NOBODY
        case (("to_replica" | "set_replica"), [number]):
            return int.from_bytes(number, "big")
        case "over_trunk", [port]:
            return OverTrunk(int.from_bytes(port, "big"))
        case "to_controller", []:
            return HERE
        case "set_host", []:
            return 0
        case "set_controller", []:
            return CONTROLLER
        case "set_trunk", []:
            return TRUNK
        case "forward", [port, src_mac, dst_mac]:
            return Forward(int.from_bytes(port, "big"), pad(src_mac, 6), pad(dst_mac, 6))
        case (("arp_reply" | "neighbor_reply"), [mac]):
            return pad(mac, 6)
    return FOREIGN


def trim(raw: bytes) -> bytes:
    """Canonical byte string: the shortest that holds the number, one zero byte for 0 (P4Runtime §8.4)."""
    return raw.lstrip(b"\0") or b"\0"


def pad(raw: bytes, width: int) -> bytes:
    """The number of this byte string as exactly ``width`` bytes; peers send the shortest form or the full one."""
    return raw.rjust(width, b"\0")[-width:]


@lru_cache(maxsize=70_000)
def number(value: int) -> bytes:
    """Canonical byte string of a number ≥ 0."""
    return value.to_bytes((value.bit_length() + 7) // 8 or 1, "big")


def _match(layout: _Layout, values: tuple[Any, ...]) -> list[Any]:
    fields: list[Any] = []
    for field, value in zip(layout.fields, values, strict=True):
        if isinstance(value, bytes):
            fields.append(p4r.FieldMatch(field_id=field, exact=p4r.FieldMatch.Exact(value=value)))
        elif value[1]:  # a prefix of length 0 matches everything and must be left out (P4Runtime §9.1.1)
            lpm = p4r.FieldMatch.LPM(value=value[0], prefix_len=value[1])
            fields.append(p4r.FieldMatch(field_id=field, lpm=lpm))
    return fields


def _number(value: Key | Value | None) -> bytes:
    return number(value) if isinstance(value, int) else b"\0"


def _steer(value: Value | None) -> tuple[bytes, ...]:
    return (number(value.replica), number(int(value.suspended))) if isinstance(value, Steer) else ()


def _way(value: Value | None) -> tuple[str, tuple[bytes, ...]]:
    """Action and parameters that lead to a replica, or to a switch's controller."""
    if value == HERE:
        return "to_controller", ()
    if isinstance(value, OverTrunk):
        return "over_trunk", (number(value.port),)
    return "to_replica", (_number(value),)


def _role(value: Value | None) -> tuple[str, tuple[bytes, ...]]:
    """Action and parameters that give a port its role."""
    if value == CONTROLLER:
        return "set_controller", ()
    if value == TRUNK:
        return "set_trunk", ()
    return ("set_replica", (_number(value),)) if value else ("set_host", ())


def _forward(value: Value | None) -> tuple[bytes, ...]:
    return (number(value.port), trim(value.src_mac), trim(value.dst_mac)) if isinstance(value, Forward) else ()
