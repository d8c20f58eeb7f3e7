"""Table entries and default entries, with their direct counters and meters."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from finsy.proto import p4r

from p4switch.p4runtime.entities.actions import ActionCodec
from p4switch.p4runtime.entities.base import DELETE, INSERT, Context, Undo, only_modify, unsupported
from p4switch.p4runtime.entities.matches import MatchCodec
from p4switch.p4runtime.entities.meters import decode_count, decode_meter, encode_count, encode_meter
from p4switch.p4runtime.schema import TableInfo
from p4switch.p4runtime.status import Code, Refused, invalid
from p4switch.runtime import ActionCall, Change, Entry, EntryAction, Match, MeterConfig, Table

_OURS = struct.Struct("!QQ")
"""In front of ``metadata`` where any is set: the deprecated controller_metadata, and the idle timeout in nanoseconds
where the runtime's microseconds cannot hold it."""


class Row(NamedTuple):
    """An entry as it was while the lock was held."""

    match: Match
    priority: int
    action: EntryAction
    metadata: bytes
    timeout_ns: int
    elapsed_ns: int
    packets: int
    octets: int
    meter: MeterConfig | None
    const: bool
    default: bool


class _Saved(NamedTuple):
    """What undo puts back into an entry."""

    action: EntryAction
    metadata: bytes
    idle_timeout_ns: int
    last_hit_us: int
    packets: int
    octets: int
    meter: MeterConfig | None


class TableCodec:
    """One table: P4Info's description joined to the runtime's table."""

    def __init__(self, info: TableInfo, table: Table, actions: ActionCodec, clock: Callable[[], int]) -> None:
        self.info = info
        self.table = table
        self.clock = clock
        self._actions = actions
        self._matches = MatchCodec(f"table {info.name!r}", info.fields)
        self.what = f"table {info.name!r}"
        if not info.is_const:
            table.open_entries()

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, kind: int, entry: p4r.TableEntry) -> Undo:
        """As `Handler.write`, for an entry of this table."""
        if entry.is_default_action:
            return self._write_default(kind, entry)
        if not self.info.fields:
            raise invalid(f"{self.what} has no key: it has only a default entry (is_default_action)")
        match, priority = self.key(entry)
        if kind == DELETE:
            return self._delete(match, priority)
        self._check_fields(entry)
        if kind == INSERT:
            return self._insert(match, priority, entry)
        return self._modify(match, priority, entry)

    def prepare(self, kind: int, entry: p4r.TableEntry) -> Change | None:
        """What `write` does with entries that are like ``entry`` but for their match, and that need no taking back.

        For direct tables without meter. None: nothing is prepared for this one. :raises Refused: as `write`.
        """
        priority = self._priority(entry)
        if kind == DELETE:
            return self.table.deleter(priority)
        if priority or not entry.HasField("action"):
            return None
        self._check_fields(entry)
        action = self._actions.table_action(self.info, entry.action)
        timeout_ns, metadata = entry.idle_timeout_ns, _pack_metadata(entry)
        if kind == INSERT:
            return self.table.inserter(action, idle_timeout_ns=timeout_ns, metadata=metadata)
        if not self.info.is_const:
            return self.table.modifier(action, idle_timeout_ns=timeout_ns, metadata=metadata)
        return None

    def key(self, entry: p4r.TableEntry) -> tuple[Match, int]:
        """:raises Refused: the match or the priority does not fit the table."""
        return self._matches.decode(entry.match), self._priority(entry)

    def _priority(self, entry: p4r.TableEntry) -> int:
        priority: int = entry.priority
        if self.info.needs_priority and priority <= 0:
            message = f"{self.what} needs a priority above 0, as it has a ternary, range or optional field"
            raise invalid(message, strict=Code.UNKNOWN if priority else None)
        if priority and not self.info.needs_priority:
            raise invalid(f"{self.what} takes no priority, as all its fields are exact or lpm")
        return priority

    def _check_fields(self, entry: p4r.TableEntry) -> None:
        if entry.is_const:
            raise invalid(f"{self.what}: is_const is for the switch to say")
        if entry.HasField("time_since_last_hit"):
            raise invalid(f"{self.what}: time_since_last_hit can only be read")
        if entry.idle_timeout_ns and (entry.idle_timeout_ns < 0 or not self.info.idle_timeout):
            raise invalid(f"{self.what}: idle_timeout_ns {entry.idle_timeout_ns}; it has no idle timeouts")
        self._check_direct(entry)

    def _check_direct(self, entry: p4r.TableEntry) -> None:
        if entry.HasField("counter_data"):
            self.check_counter()
            decode_count(entry.counter_data, self.what)
        if entry.HasField("meter_config"):
            self.check_meter()
            decode_meter(entry.meter_config, self.what)
        if entry.HasField("meter_counter_data"):
            raise unsupported(f"{self.what}: v1model's meters count no packets by colour (meter_counter_data)")

    def check_counter(self) -> None:
        """:raises Refused: the table has no direct counter."""
        if not self.info.counter:
            raise invalid(f"{self.what} has no direct counter")

    def check_meter(self) -> None:
        """:raises Refused: the table has no direct meter."""
        if not self.info.meter:
            raise invalid(f"{self.what} has no direct meter")

    def _insert(self, match: Match, priority: int, entry: p4r.TableEntry) -> Undo:
        action = self._actions.table_action(self.info, entry.action)
        made = self.table.insert(
            match, action, priority=priority, idle_timeout_ns=entry.idle_timeout_ns, metadata=_pack_metadata(entry)
        )
        self._set_direct(made, entry)
        return lambda: self.table.delete(match, priority)

    def _modify(self, match: Match, priority: int, entry: p4r.TableEntry) -> Undo:
        there = self.table.get(match, priority)
        saved = _save(there)
        if there.const:
            if entry.HasField("action"):
                raise Refused(Code.PERMISSION_DENIED, f"{self.what}: the action of a const entry is fixed")
            self._set_direct(there, entry)
            return lambda: self._restore_direct(there, saved)
        action = self._actions.table_action(self.info, entry.action) if entry.HasField("action") else there.action
        self.table.modify(
            match, action, priority=priority, idle_timeout_ns=entry.idle_timeout_ns, metadata=_pack_metadata(entry)
        )
        self._set_direct(there, entry)

        def undo() -> None:
            self.table.modify(
                match,
                saved.action,
                priority=priority,
                idle_timeout_ns=saved.idle_timeout_ns,
                metadata=saved.metadata,
            )
            self._restore_direct(there, saved)

        return undo

    def _delete(self, match: Match, priority: int) -> Undo:
        saved = _save(self.table.get(match, priority))
        self.table.delete(match, priority)

        def undo() -> None:
            made = self.table.insert(
                match,
                saved.action,
                priority=priority,
                idle_timeout_ns=saved.idle_timeout_ns,
                metadata=saved.metadata,
            )
            self._restore_direct(made, saved)

        return undo

    def _write_default(self, kind: int, entry: p4r.TableEntry) -> Undo:
        if entry.match or entry.priority:
            raise invalid(f"{self.what}: a default entry has neither match nor priority")
        only_modify(kind, "default entry")
        if entry.idle_timeout_ns or entry.HasField("time_since_last_hit"):
            raise invalid(f"{self.what}: a default entry has no idle timeout")
        if self.info.profile:
            raise invalid(f"{self.what} has an action profile: its default entry is fixed")
        self._check_fields(entry)
        if self.info.const_default:
            raise Refused(Code.PERMISSION_DENIED, f"{self.what}: its default action is const")
        before = self.table.default
        if entry.HasField("action"):
            action = self._actions.table_action(self.info, entry.action, default=True)
            assert isinstance(action, ActionCall)
            self.table.set_default(action, _pack_metadata(entry))
        else:
            self.table.reset_default()
        if self.table.default is not None:
            self._set_direct(self.table.default, entry)

        def undo() -> None:
            self.table.default = before

        return undo

    def _set_direct(self, made: Entry, entry: p4r.TableEntry) -> None:
        """The direct resources of an INSERT or MODIFY; an unset meter_config resets the meter (specification)."""
        if self.info.counter and entry.HasField("counter_data"):
            made.packets, made.bytes = decode_count(entry.counter_data, self.what)
        if made.meter is not None:
            config = decode_meter(entry.meter_config, self.what) if entry.HasField("meter_config") else None
            made.meter.configure(config, self.what, self.clock())

    def _restore_direct(self, entry: Entry, saved: _Saved) -> None:
        entry.packets, entry.bytes, entry.last_hit_us = saved.packets, saved.octets, saved.last_hit_us
        if entry.meter is not None:
            entry.meter.configure(saved.meter, self.what, self.clock())

    # -- reading -----------------------------------------------------------------------------------------------------

    def select(self, query: p4r.TableEntry) -> list[Row]:
        """The entries that the query's fields select. :raises Refused: the query does not fit the table."""
        if query.HasField("time_since_last_hit") and not self.info.idle_timeout:
            raise invalid(f"{self.what} has no idle timeouts, so no time_since_last_hit")
        if query.is_default_action:
            if query.match or query.priority:
                raise invalid(f"{self.what}: a default entry has neither match nor priority")
            return [_row(self.table.default, 0, default=True)] if self.table.default else []
        now_us = self.clock()
        found: Iterable[Entry] = self._candidates(query)
        if query.HasField("action") and query.action.WhichOneof("type") == "action":
            wanted = self._action_name(query.action.action.action_id)
            found = (item for item in found if isinstance(item.action, ActionCall) and item.action.name == wanted)
        if query.metadata or query.controller_metadata:
            found = (item for item in found if _metadata_fits(item.metadata, query))
        return [_row(item, now_us) for item in found]

    def _candidates(self, query: p4r.TableEntry) -> Iterable[Entry]:
        priority = query.priority
        if not query.match:
            return (item for item in self.table.entries() if not priority or item.priority == priority)
        match = self._matches.decode(query.match)
        if self.info.needs_priority and not priority:
            return (item for item in self.table.entries() if item.match == match)
        found = self.find(match, priority)
        return () if found is None else (found,)

    def find(self, match: Match, priority: int) -> Entry | None:
        """The entry, None if there is none."""
        try:
            return self.table.get(match, priority)
        except LookupError:
            return None

    def entry_of(self, query: p4r.TableEntry) -> Entry:
        """The one entry (or default entry) that ``query`` names. :raises NoSuchEntry: there is none."""
        if query.is_default_action:
            if self.table.default is None:
                raise Refused(Code.NOT_FOUND, f"{self.what} has no default entry")
            return self.table.default
        return self.table.get(*self.key(query))

    def _action_name(self, action_id: int) -> str:
        if action_id not in self.info.scopes:
            raise invalid(f"{self.what}: action id {action_id} is not one of its actions")
        return self._actions.name(action_id)

    def encode(self, row: Row, query: p4r.TableEntry, into: p4r.TableEntry) -> None:
        """Write ``row`` as the answer to ``query``: direct resources only where it has them set."""
        self.encode_key(row.match, row.priority, row.default, into)
        self._actions.encode(row.action, into.action)
        into.idle_timeout_ns = row.timeout_ns
        _unpack_metadata(row.metadata, into)
        into.is_const = row.const
        if query.HasField("time_since_last_hit"):
            into.time_since_last_hit.elapsed_ns = row.elapsed_ns
        if self.info.counter and query.HasField("counter_data"):
            encode_count(row.packets, row.octets, self.info.counter_unit, into.counter_data)
        if self.info.meter and query.HasField("meter_config"):
            encode_meter(row.meter, into.meter_config)

    def encode_key(self, match: Match, priority: int, default: bool, into: p4r.TableEntry) -> None:
        """Write what identifies an entry."""
        into.table_id = self.info.id
        if default:
            into.is_default_action = True
            return
        self._matches.encode(match, into)
        into.priority = priority

    def encode_idle(self, entry: Entry, into: p4r.TableEntry) -> None:
        """Write an entry as an idle notification has it."""
        self.encode_key(entry.match, entry.priority, False, into)
        into.idle_timeout_ns = entry.idle_timeout_us * 1000
        _unpack_metadata(entry.metadata, into)


class Tables:
    """`Handler` of table entries."""

    def __init__(self, context: Context, actions: ActionCodec) -> None:
        self._strict = context.strict
        self.by_id = {
            info.id: TableCodec(info, context.state.tables[info.name], actions, context.state.clock)
            for info in context.schema.tables.values()
        }
        self.by_name = {codec.info.name: codec for codec in self.by_id.values()}

    def codec(self, table_id: int) -> TableCodec:
        """:raises Refused: INVALID_ARGUMENT for an unknown id, as simple_switch_grpc has it."""
        found = self.by_id.get(table_id)
        if found is None:
            raise invalid(f"table id {table_id} is not in the P4Info")
        return found

    def write(self, kind: int, entity: p4r.TableEntry) -> Undo:
        """As `Handler.write`."""
        return self.codec(entity.table_id).write(kind, entity)

    def read(self, entity: p4r.TableEntry) -> Iterator[p4r.Entity]:
        """As `Handler.read`."""
        if entity.table_id:
            codec = self.codec(entity.table_id)
            return _table_entries([(codec, codec.select(entity))], entity)
        if entity.match or entity.priority or entity.HasField("action") or entity.metadata:
            raise invalid("table id 0 means all tables, which takes no other filter")
        query = p4r.TableEntry(is_default_action=entity.is_default_action)
        return _table_entries([(codec, codec.select(query)) for codec in self.by_id.values()], entity)


def _table_entries(found: list[tuple[TableCodec, list[Row]]], query: p4r.TableEntry) -> Iterator[p4r.Entity]:
    for codec, rows in found:
        for row in rows:
            answer = p4r.Entity()
            codec.encode(row, query, answer.table_entry)
            yield answer


def _row(entry: Entry, now_us: int, *, default: bool = False) -> Row:
    return Row(
        entry.match,
        entry.priority,
        entry.action,
        entry.metadata,
        entry.idle_timeout_us * 1000,
        max(0, now_us - entry.last_hit_us) * 1000,
        entry.packets,
        entry.bytes,
        entry.meter.config if entry.meter else None,
        entry.const,
        default,
    )


def _save(entry: Entry) -> _Saved:
    meter = entry.meter.config if entry.meter else None
    timeout_ns = entry.idle_timeout_us * 1000
    return _Saved(entry.action, entry.metadata, timeout_ns, entry.last_hit_us, entry.packets, entry.bytes, meter)


def _pack_metadata(entry: p4r.TableEntry) -> bytes:
    cookie, metadata, timeout_ns = entry.controller_metadata, entry.metadata, entry.idle_timeout_ns
    exact_ns = timeout_ns if timeout_ns % 1000 else 0
    if not (cookie or metadata or exact_ns):
        return b""
    packed: bytes = _OURS.pack(cookie, exact_ns) + metadata
    return packed


def _unpack_metadata(packed: bytes, into: p4r.TableEntry) -> None:
    if packed:
        into.controller_metadata, exact_ns = _OURS.unpack_from(packed)
        into.metadata = packed[_OURS.size :]
        into.idle_timeout_ns = exact_ns or into.idle_timeout_ns


def _metadata_fits(packed: bytes, query: p4r.TableEntry) -> bool:
    cookie = _OURS.unpack_from(packed)[0] if packed else 0
    metadata = packed[_OURS.size :]
    return query.controller_metadata in (0, cookie) and query.metadata in (b"", metadata)
