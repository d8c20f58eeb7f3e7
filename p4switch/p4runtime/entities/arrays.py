"""Indirect counters, meters and registers."""

from __future__ import annotations

from collections.abc import Iterator

from finsy.proto import p4d, p4r

from p4switch.p4runtime.bytestrings import decode, decode_signed, encode, encode_signed
from p4switch.p4runtime.entities.base import Context, Undo, index_of, nothing, only_modify, unsupported
from p4switch.p4runtime.entities.meters import decode_count, decode_meter, encode_count, encode_meter
from p4switch.p4runtime.schema import CounterInfo, MeterInfo, RegisterInfo
from p4switch.p4runtime.status import invalid
from p4switch.runtime import Count, MeterConfig


class Counters:
    """`Handler` of indirect counters."""

    def __init__(self, context: Context) -> None:
        self._infos = context.schema.counters
        self._state = context.state
        self._strict = context.strict

    def write(self, kind: int, entity: p4r.CounterEntry) -> Undo:
        """As `Handler.write`. Without an index: all of the array."""
        only_modify(kind, "counter")
        info = self._info(entity.counter_id)
        what = f"counter {info.name!r}"
        index = index_of(entity, info.size, what)
        if index is None and self._strict:
            raise unsupported(f"{what}: writing all indices at once (--bmv2-strict)")
        if not entity.HasField("data"):
            return nothing
        count = decode_count(entity.data, what)
        array = self._state.counters[info.name]
        indices = range(info.size) if index is None else range(index, index + 1)
        before = [array.read(i) for i in indices]
        for i in indices:
            array.write(i, count)

        def undo() -> None:
            for i, value in zip(indices, before, strict=True):
                array.write(i, value)

        return undo

    def read(self, entity: p4r.CounterEntry) -> Iterator[p4r.Entity]:
        """As `Handler.read`. Counter id 0: all counters; without an index: all of the array."""
        infos = [self._info(entity.counter_id)] if entity.counter_id else list(self._infos.values())
        found: list[tuple[CounterInfo, int, Count]] = []
        for info in infos:
            array = self._state.counters[info.name]
            index = index_of(entity, info.size, f"counter {info.name!r}") if entity.counter_id else None
            if index is not None:
                found.append((info, index, array.read(index)))
                continue
            found += [(info, i, count) for i, count in enumerate(array)]
        return _encode_counters(found)

    def _info(self, counter_id: int) -> CounterInfo:
        info = self._infos.get(counter_id)
        if info is None:
            raise invalid(f"counter id {counter_id} is not in the P4Info (or is a direct counter's)")
        return info


class Meters:
    """`Handler` of indirect meters."""

    def __init__(self, context: Context) -> None:
        self._infos = context.schema.meters
        self._state = context.state
        self._strict = context.strict

    def write(self, kind: int, entity: p4r.MeterEntry) -> Undo:
        """As `Handler.write`. An unset configuration takes the meter's away; without an index: all of the array."""
        only_modify(kind, "meter")
        info = self._info(entity.meter_id)
        what = f"meter {info.name!r}"
        index = index_of(entity, info.size, what)
        if index is None and self._strict:
            raise unsupported(f"{what}: writing all indices at once (--bmv2-strict)")
        config = decode_meter(entity.config, what) if entity.HasField("config") else None
        array, clock = self._state.meters[info.name], self._state.clock
        indices = range(info.size) if index is None else range(index, index + 1)
        before = [array[i].config for i in indices]
        for i in indices:
            array.configure(i, config, clock())

        def undo() -> None:
            for i, old in zip(indices, before, strict=True):
                array.configure(i, old, clock())

        return undo

    def read(self, entity: p4r.MeterEntry) -> Iterator[p4r.Entity]:
        """As `Handler.read`. Meter id 0: all meters; without an index: all of the array."""
        infos = [self._info(entity.meter_id)] if entity.meter_id else list(self._infos.values())
        found: list[tuple[MeterInfo, int, MeterConfig | None]] = []
        for info in infos:
            array = self._state.meters[info.name]
            index = index_of(entity, info.size, f"meter {info.name!r}") if entity.meter_id else None
            indices = range(info.size) if index is None else range(index, index + 1)
            found += [(info, i, array[i].config) for i in indices]
        return _encode_meters(found)

    def _info(self, meter_id: int) -> MeterInfo:
        info = self._infos.get(meter_id)
        if info is None:
            raise invalid(f"meter id {meter_id} is not in the P4Info (or is a direct meter's)")
        return info


class Registers:
    """`Handler` of registers, which simple_switch_grpc does not have over P4Runtime."""

    def __init__(self, context: Context) -> None:
        self._infos = context.schema.registers
        self._state = context.state
        self._strict = context.strict

    def write(self, kind: int, entity: p4r.RegisterEntry) -> Undo:
        """As `Handler.write`. Without an index: all of the array."""
        if self._strict:
            raise unsupported("Register writes are not supported yet (--bmv2-strict)")
        only_modify(kind, "register")
        info = self._info(entity.register_id)
        what = f"register {info.name!r}"
        index = index_of(entity, info.size, what)
        value = _decode_register(entity.data, info, what)
        array = self._state.registers[info.name]
        indices = range(info.size) if index is None else range(index, index + 1)
        before = [array.read(i) for i in indices]
        for i in indices:
            array.write(i, value)

        def undo() -> None:
            for i, old in zip(indices, before, strict=True):
                array.write(i, old)

        return undo

    def read(self, entity: p4r.RegisterEntry) -> Iterator[p4r.Entity]:
        """As `Handler.read`. Register id 0: all registers; without an index: all of the array."""
        if self._strict:
            raise unsupported("Register reads are not supported yet (--bmv2-strict)")
        infos = [self._info(entity.register_id)] if entity.register_id else list(self._infos.values())
        found: list[tuple[RegisterInfo, int, int]] = []
        for info in infos:
            array = self._state.registers[info.name]
            index = index_of(entity, info.size, f"register {info.name!r}") if entity.register_id else None
            indices = range(info.size) if index is None else range(index, index + 1)
            found += [(info, i, array.read(i)) for i in indices]
        return _encode_registers(found)

    def _info(self, register_id: int) -> RegisterInfo:
        info = self._infos.get(register_id)
        if info is None:
            raise invalid(f"register id {register_id} is not in the P4Info")
        return info


def _decode_register(data: p4d.P4Data, info: RegisterInfo, what: str) -> int:
    kind = data.WhichOneof("data")
    wanted = "bool" if info.kind == "bool" else "bitstring"
    if kind != wanted:
        raise invalid(f"{what}: its values are {wanted}, not {kind or 'unset'}")
    if info.kind == "bool":
        return int(data.bool)
    if info.kind == "int":
        return decode_signed(data.bitstring, info.width, what) & ((1 << info.width) - 1)
    return decode(data.bitstring, info.width, what)


def _encode_registers(found: list[tuple[RegisterInfo, int, int]]) -> Iterator[p4r.Entity]:
    for info, index, value in found:
        answer = p4r.Entity()
        item = answer.register_entry
        item.register_id = info.id
        item.index.index = index
        match info.kind:
            case "bool":
                item.data.bool = bool(value)
            case "int":
                signed = value - (1 << info.width) if value >> info.width - 1 else value
                item.data.bitstring = encode_signed(signed)
            case _:
                item.data.bitstring = encode(value)
        yield answer


def _encode_counters(found: list[tuple[CounterInfo, int, Count]]) -> Iterator[p4r.Entity]:
    for info, index, count in found:
        answer = p4r.Entity()
        item = answer.counter_entry
        item.counter_id = info.id
        item.index.index = index
        encode_count(count.packets, count.bytes, info.unit, item.data)
        yield answer


def _encode_meters(found: list[tuple[MeterInfo, int, MeterConfig | None]]) -> Iterator[p4r.Entity]:
    for info, index, config in found:
        answer = p4r.Entity()
        item = answer.meter_entry
        item.meter_id = info.id
        item.index.index = index
        encode_meter(config, item.config)
        yield answer
