"""Direct counters and meters on their own."""

from __future__ import annotations

from collections.abc import Iterator

from finsy.proto import p4r

from p4switch.p4runtime.entities.base import Context, Undo, nothing, only_modify, unsupported
from p4switch.p4runtime.entities.meters import decode_count, decode_meter, encode_count, encode_meter
from p4switch.p4runtime.entities.tables import Row, TableCodec, Tables
from p4switch.p4runtime.status import invalid


class DirectCounters:
    """`Handler` of direct counters on their own."""

    def __init__(self, context: Context, tables: Tables) -> None:
        self._tables = tables
        self._strict = context.strict

    def write(self, kind: int, entity: p4r.DirectCounterEntry) -> Undo:
        """As `Handler.write`."""
        only_modify(kind, "direct counter")
        codec = self._codec(entity.table_entry)
        entry = codec.entry_of(entity.table_entry)
        if not entity.HasField("data"):
            return nothing
        before = entry.packets, entry.bytes
        entry.packets, entry.bytes = decode_count(entity.data, codec.what)

        def undo() -> None:
            entry.packets, entry.bytes = before

        return undo

    def read(self, entity: p4r.DirectCounterEntry) -> Iterator[p4r.Entity]:
        """As `Handler.read`. Table id 0: all direct counters."""
        query = entity.table_entry
        if not query.table_id:
            if self._strict:
                raise unsupported("reading the direct counters of all tables at once (--bmv2-strict)")
            codecs = [codec for codec in self._tables.by_id.values() if codec.info.counter]
            return _direct_counts([(codec, codec.select(query)) for codec in codecs])
        codec = self._codec(query)
        if query.match and not query.is_default_action:
            codec.entry_of(query)  # NOT_FOUND for a missing entry, as the specification has it for this entity
        return _direct_counts([(codec, codec.select(query))])

    def _codec(self, query: p4r.TableEntry) -> TableCodec:
        codec = self._tables.codec(query.table_id)
        codec.check_counter()
        return codec


class DirectMeters:
    """`Handler` of direct meters on their own."""

    def __init__(self, context: Context, tables: Tables) -> None:
        self._tables = tables
        self._strict = context.strict

    def write(self, kind: int, entity: p4r.DirectMeterEntry) -> Undo:
        """As `Handler.write`. An unset configuration takes the meter's away."""
        only_modify(kind, "direct meter")
        codec = self._codec(entity.table_entry)
        meter = codec.entry_of(entity.table_entry).meter
        if meter is None:
            raise invalid(f"{codec.what}: this entry has no meter")
        before = meter.config
        config = decode_meter(entity.config, codec.what) if entity.HasField("config") else None
        meter.configure(config, codec.what, codec.clock())
        return lambda: meter.configure(before, codec.what, codec.clock())

    def read(self, entity: p4r.DirectMeterEntry) -> Iterator[p4r.Entity]:
        """As `Handler.read`. Table id 0: all direct meters."""
        query = entity.table_entry
        if not query.table_id:
            if self._strict:
                raise unsupported("reading the direct meters of all tables at once (--bmv2-strict)")
            codecs = [codec for codec in self._tables.by_id.values() if codec.info.meter]
            return _direct_meters([(codec, codec.select(query)) for codec in codecs])
        codec = self._codec(query)
        if query.match and not query.is_default_action:
            codec.entry_of(query)
        return _direct_meters([(codec, codec.select(query))])

    def _codec(self, query: p4r.TableEntry) -> TableCodec:
        codec = self._tables.codec(query.table_id)
        codec.check_meter()
        return codec


def _direct_counts(found: list[tuple[TableCodec, list[Row]]]) -> Iterator[p4r.Entity]:
    for codec, rows in found:
        for row in rows:
            answer = p4r.Entity()
            item = answer.direct_counter_entry
            codec.encode_key(row.match, row.priority, row.default, item.table_entry)
            encode_count(row.packets, row.octets, codec.info.counter_unit, item.data)
            yield answer


def _direct_meters(found: list[tuple[TableCodec, list[Row]]]) -> Iterator[p4r.Entity]:
    for codec, rows in found:
        for row in rows:
            answer = p4r.Entity()
            item = answer.direct_meter_entry
            codec.encode_key(row.match, row.priority, row.default, item.table_entry)
            encode_meter(row.meter, item.config)
            yield answer
