"""Digest configurations and parser value sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from finsy.proto import p4r

from p4switch.ir import MatchKind
from p4switch.p4runtime.digests import DigestBuffers, DigestConfig
from p4switch.p4runtime.entities.base import DELETE, INSERT, Context, Undo, only_modify, unsupported
from p4switch.p4runtime.entities.matches import MatchCodec
from p4switch.p4runtime.schema import FieldInfo, ValueSetInfo
from p4switch.p4runtime.status import Code, Refused, invalid
from p4switch.runtime import FieldMatch, Match


class Digests:
    """`Handler` of digest configurations."""

    def __init__(self, context: Context, buffers: DigestBuffers) -> None:
        self._infos = context.schema.digests
        self._buffers = buffers
        self._strict = context.strict

    def write(self, kind: int, entity: p4r.DigestEntry) -> Undo:
        """As `Handler.write`."""
        number = int(entity.digest_id)
        info = self._infos.get(number)
        if info is None:
            raise invalid(f"digest id {number} is not in the P4Info", strict=Code.NOT_FOUND)
        before = self._buffers.configs.get(number)
        if kind == INSERT and before is not None:
            raise Refused(Code.ALREADY_EXISTS, f"digest {info.name!r} is enabled already; use MODIFY")
        if kind != INSERT and before is None:
            raise Refused(Code.NOT_FOUND, f"digest {info.name!r} is not enabled; use INSERT")
        if kind == DELETE:
            self._buffers.disable(number)
        else:
            self._buffers.enable(number, _config(entity.config, info.name))
        return lambda: self._buffers.disable(number) if before is None else self._buffers.enable(number, before)

    def read(self, entity: p4r.DigestEntry) -> Iterator[p4r.Entity]:
        """As `Handler.read`. Digest id 0: all that are enabled."""
        if entity.digest_id and entity.digest_id not in self._infos:
            raise invalid(f"digest id {entity.digest_id} is not in the P4Info")
        found = [item for item in self._buffers.configs.items() if entity.digest_id in (0, item[0])]
        if entity.digest_id and not found and self._strict:
            raise Refused(Code.NOT_FOUND, f"digest id {entity.digest_id} is not enabled (--bmv2-strict)")
        return _encode_configs(found)


def _config(config: p4r.DigestEntry.Config, name: str) -> DigestConfig:
    if min(config.max_timeout_ns, config.max_list_size, config.ack_timeout_ns) < 0:
        raise invalid(f"digest {name!r}: timeouts and list size are not negative")
    return DigestConfig(config.max_timeout_ns, config.max_list_size, config.ack_timeout_ns)


def _encode_configs(found: list[tuple[int, DigestConfig]]) -> Iterator[p4r.Entity]:
    for number, config in found:
        answer = p4r.Entity()
        item = answer.digest_entry
        item.digest_id = number
        item.config.SetInParent()
        item.config.max_timeout_ns = config.max_timeout_ns
        item.config.max_list_size = config.max_list_size
        item.config.ack_timeout_ns = config.ack_timeout_ns
        yield answer


class ValueSets:
    """`Handler` of parser value sets, which simple_switch_grpc does not have over P4Runtime."""

    def __init__(self, context: Context) -> None:
        self._state = context.state
        self._strict = context.strict
        self._infos = context.schema.value_sets
        self._codecs = {
            info.id: MatchCodec(f"value set {info.name!r}", info.fields) for info in context.schema.value_sets.values()
        }
        self._members: dict[int, tuple[Match, ...]] = {}

    def write(self, kind: int, entity: p4r.ValueSetEntry) -> Undo:
        """As `Handler.write`."""
        if self._strict:
            raise unsupported("value sets (--bmv2-strict)")
        only_modify(kind, "value set")
        info = self._info(entity.value_set_id)
        what = f"value set {info.name!r}"
        members = tuple(self._codecs[info.id].decode(item.match) for item in entity.members)
        if info.size and len(members) > info.size:
            raise Refused(Code.RESOURCE_EXHAUSTED, f"{what}: {len(members)} members, its size is {info.size}")
        if len(set(members)) != len(members):
            raise Refused(Code.ALREADY_EXISTS, f"{what}: a member is there twice")
        before = self._members.get(info.id, ())
        self._replace(info, members)
        return lambda: self._replace(info, before)

    def _replace(self, info: ValueSetInfo, members: tuple[Match, ...]) -> None:
        self._state.value_sets[info.name].replace(tuple(_flatten(info.fields, member) for member in members))
        self._members[info.id] = members

    def read(self, entity: p4r.ValueSetEntry) -> Iterator[p4r.Entity]:
        """As `Handler.read`. Value set id 0: all."""
        if self._strict:
            raise unsupported("value sets (--bmv2-strict)")
        infos = [self._info(entity.value_set_id)] if entity.value_set_id else list(self._infos.values())
        return self._encode([(info.id, self._members.get(info.id, ())) for info in infos])

    def _encode(self, found: list[tuple[int, tuple[Match, ...]]]) -> Iterator[p4r.Entity]:
        for number, members in found:
            answer = p4r.Entity()
            item = answer.value_set_entry
            item.value_set_id = number
            for member in members:
                self._codecs[number].encode(member, item.members.add())
            yield answer

    def _info(self, value_set_id: int) -> ValueSetInfo:
        info = self._infos.get(value_set_id)
        if info is None:
            raise invalid(f"value set id {value_set_id} is not in the P4Info")
        return info


def _flatten(fields: Sequence[FieldInfo], member: Match) -> tuple[int, int]:
    """One (value, mask) over all fields, the first one leftmost, as the parser's keys are laid out."""
    value = mask = 0
    for field, item in zip(fields, member, strict=True):
        part, cover = _value_mask(field, item)
        value, mask = value << field.width | part, mask << field.width | cover
    return value, mask


def _value_mask(field: FieldInfo, item: FieldMatch) -> tuple[int, int]:
    full = (1 << field.width) - 1
    match field.kind, item:
        case ((MatchKind.EXACT | MatchKind.OPTIONAL), int(value)):
            return value, full
        case MatchKind.LPM, (value, length):
            return value, full ^ (full >> length)
        case MatchKind.TERNARY, (value, cover):
            return value, cover
        case MatchKind.RANGE, (low, high) if low == high:
            return low, full
        case MatchKind.RANGE, (low, high) if (low, high) != (0, full):
            raise unsupported(f"value set field {field.name!r}: a range of more than one value")
    return 0, 0
