"""A forwarding pipeline configuration: checked, made into a device with its entities, and exchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from finsy.proto import p4r

from p4switch.check import check_program
from p4switch.device import Device
from p4switch.errors import SwitchError
from p4switch.load import load_program
from p4switch.p4runtime.entities import INSERT, MODIFY, Context, Entities
from p4switch.p4runtime.p4info import link
from p4switch.p4runtime.packets import PacketIn, PacketOut
from p4switch.p4runtime.schema import DigestInfo
from p4switch.p4runtime.status import Code, Refused, invalid, refusal


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """What a device is made with."""

    drop_port: int = 511
    strict: bool = False
    make_device: Callable[..., Device] = Device


class Pipeline:
    """One configuration and all the state that belongs to it.

    :raises Refused: INVALID_ARGUMENT, with the place in JSON or P4Info.
    """

    def __init__(self, config: p4r.ForwardingPipelineConfig, options: PipelineOptions) -> None:
        self.config = config
        self.options = options
        blob = device_config(config.p4_device_config)
        try:
            self.program = load_program(blob)
            check_program(self.program)
            self.schema = link(config.p4info, self.program)
            self.device = options.make_device(self.program, drop_port=options.drop_port)
        except SwitchError as error:
            raise refusal(error) from None
        self.entities = Entities(Context(self.schema, self.device.state, options.strict))
        self.packet_in = PacketIn(self.schema.packet_in)
        self.packet_out = PacketOut(self.schema.packet_out)
        self._digests = {info.name: info for info in self.schema.digests.values()}

    def digest_named(self, name: str) -> DigestInfo | None:
        """The digest of this fully qualified name; None if P4Info does not list it."""
        return self._digests.get(name)

    def take_over(self, old: Pipeline) -> None:
        """Replay the old pipeline's state into this one, which is new (RECONCILE_AND_COMMIT).

        :raises Refused: INVALID_ARGUMENT, if something does not fit the new program.
        """
        for table in self.device.state.tables.values():
            table.clear()  # entries that the program comes with: the old one's state has them, or they were deleted
        for query, kind in _RECONCILE:
            for entity in old.entities.read(query):
                self._replay(entity, kind)

    def _replay(self, entity: p4r.Entity, kind: int) -> None:
        if entity.table_entry.is_const:
            return
        if entity.table_entry.is_default_action:
            kind = MODIFY
        try:
            self.entities.update(p4r.Update(type=kind, entity=entity))
        except Refused as error:
            if entity.table_entry.is_default_action and error.code is Code.PERMISSION_DENIED:
                return
            name = entity.WhichOneof("entity")
            raise invalid(f"the state cannot be kept: {name}: {error.message}") from None


def _queries() -> list[tuple[p4r.Entity, int]]:
    everything = p4r.TableEntry(counter_data=p4r.CounterData(), meter_config=p4r.MeterConfig())
    defaults = p4r.TableEntry(is_default_action=True)
    groups = p4r.PacketReplicationEngineEntry(multicast_group_entry=p4r.MulticastGroupEntry())
    sessions = p4r.PacketReplicationEngineEntry(clone_session_entry=p4r.CloneSessionEntry())
    return [
        (p4r.Entity(action_profile_member=p4r.ActionProfileMember()), INSERT),
        (p4r.Entity(action_profile_group=p4r.ActionProfileGroup()), INSERT),
        (p4r.Entity(table_entry=everything), INSERT),
        (p4r.Entity(table_entry=defaults), MODIFY),
        (p4r.Entity(counter_entry=p4r.CounterEntry()), MODIFY),
        (p4r.Entity(meter_entry=p4r.MeterEntry()), MODIFY),
        (p4r.Entity(packet_replication_engine_entry=groups), INSERT),
        (p4r.Entity(packet_replication_engine_entry=sessions), INSERT),
        (p4r.Entity(digest_entry=p4r.DigestEntry()), INSERT),
        (p4r.Entity(register_entry=p4r.RegisterEntry()), MODIFY),
        (p4r.Entity(value_set_entry=p4r.ValueSetEntry()), MODIFY),
    ]


_RECONCILE = _queries()
_DEVICE_DATA_TAG = 3 << 3 | 2


def device_config(blob: bytes) -> bytes:
    """The JSON in ``p4_device_config``: raw, or in the deprecated ``p4.tmp.P4DeviceConfig`` that old clients send.

    :raises Refused: it is empty, or neither.
    """
    if not blob:
        raise invalid("p4_device_config is empty: send the JSON that p4c-bm2-ss makes")
    if blob.lstrip()[:1] == b"{":
        return blob
    found = _field_of(blob, _DEVICE_DATA_TAG)
    if found is None:
        raise invalid("p4_device_config is no JSON object: send the file that p4c-bm2-ss makes")
    return found


def _field_of(blob: bytes, wanted: int) -> bytes | None:
    """A length-delimited field of a protobuf message of varints and length-delimited fields; None if that fails."""
    position = 0
    try:
        while position < len(blob):
            tag, position = _varint(blob, position)
            length, position = _varint(blob, position)
            if tag & 7 == 0:
                continue
            if tag & 7 != 2 or position + length > len(blob):
                return None
            if tag == wanted:
                return blob[position : position + length]
            position += length
    except IndexError:
        return None
    return None


def _varint(blob: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        octet = blob[position]
        value |= (octet & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if octet < 0x80 or shift > 63:
            return value, position
