"""Packets between the switch's CPU port and the controller: packet-ins to events, packet-outs to messages.

For the other way, an Ethernet punt port, see `p4rt_controller.frames`; the events are the same.

Messages are filled directly, with metadata ids resolved once: tens of thousands of packets a second pass here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finsy import P4Schema
from finsy.proto import p4r

from p4rt_controller.schema import number, pad, trim
from p4src.reasons import PuntReason
from splitmerge import tag as tags
from splitmerge.errors import BadInput
from splitmerge.flowkey import FlowKey
from splitmerge.tag import Tag, TagKind, relay_ahead

MARKER_FRAME = bytes.fromhex("0200000000fe 0200000000fd 88b6") + bytes(46)
"""What a marker carries: the middlebox's MAC, an own source, IEEE's second EtherType for local experiments."""

_IN_FIELDS = (
    "reason", "version", "protocol", "replica", "low_addr", "high_addr", "low_port", "high_port",
)  # fmt: skip
_OUT_FIELDS = ("egress_port", "kind", "epoch", "sequence")


@dataclass(frozen=True, slots=True)
class Punted:
    """A packet of a suspended flow (``new`` false) or of a flow that nobody owns (``new`` true)."""

    key: FlowKey
    frame: bytes
    new: bool


@dataclass(frozen=True, slots=True)
class MarkerEcho:
    """This replica met the marker of this epoch and sequence number."""

    replica: int
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class RelayAck:
    """This replica expects this sequence number next; ``have``: see `splitmerge.tag.relay_ahead`."""

    replica: int
    epoch: int
    expected: int
    have: int = 0


@dataclass(frozen=True, slots=True)
class LoopReturned:
    """A LOOP marker came back: every clone made before it has been received."""

    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class FenceMet:
    """A FENCE that came from another switch: all that took its way before has reached this one."""

    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Strange:
    """A packet-in that means nothing here; counted."""

    reason: int


PacketIn = Punted | MarkerEcho | RelayAck | LoopReturned | FenceMet | Strange


class PacketCodec:
    """Packet-ins and packet-outs of one P4 program. :raises BadInput: if the P4Info lacks a header field."""

    def __init__(self, schema: P4Schema) -> None:
        ids_in = _metadata_ids(schema, "packet_in", _IN_FIELDS)
        self._in = tuple(ids_in[name] for name in _IN_FIELDS)
        ids_out = _metadata_ids(schema, "packet_out", _OUT_FIELDS)
        self._out = tuple(ids_out[name] for name in _OUT_FIELDS)
        padding = [ident for name, ident in ids_out.items() if name not in _OUT_FIELDS]
        self._padding = [p4r.PacketMetadata(metadata_id=ident, value=b"\0") for ident in padding]

    def decode(self, packet: Any) -> PacketIn:
        """The event that a ``p4.v1.PacketIn`` is."""
        values = {item.metadata_id: item.value for item in packet.metadata}
        reason, version, protocol, replica, low, high, low_port, high_port = (
            values.get(ident, b"") for ident in self._in
        )
        why = int.from_bytes(reason, "big")
        if why == PuntReason.TAGGED:
            return decode_tagged(int.from_bytes(replica, "big"), packet.payload)
        width = {4: 4, 6: 16}.get(int.from_bytes(version, "big"))
        if width is None or why not in (PuntReason.SUSPENDED, PuntReason.NEW_FLOW):
            return Strange(why)
        raw = pad(low, width) + pad(high, width) + pad(low_port, 2) + pad(high_port, 2) + pad(protocol, 1)
        return Punted(FlowKey(raw), packet.payload, why == PuntReason.NEW_FLOW)

    def packet_out(self, port: int, kind: TagKind, epoch: int, sequence: int, frame: bytes | None) -> Any:
        """The message that sends ``frame`` (None: `MARKER_FRAME`) out of ``port``, tagged unless PLAIN."""
        values = (number(port), number(kind), _number32(epoch), _number32(sequence))
        metadata = [
            p4r.PacketMetadata(metadata_id=ident, value=value) for ident, value in zip(self._out, values, strict=True)
        ]
        payload = MARKER_FRAME if frame is None else frame
        return p4r.StreamMessageRequest(packet=p4r.PacketOut(payload=payload, metadata=metadata + self._padding))


def over_trunk(destination: int, kind: TagKind, epoch: int, sequence: int) -> bytes:
    """The frame that, sent PLAIN out of a trunk, is a tagged one for a replica or switch behind it."""
    return Tag(TagKind.TRUNK, 0, destination).push(Tag(kind, epoch, sequence).push(MARKER_FRAME))


def _number32(value: int) -> bytes:
    return trim(value.to_bytes(4, "big"))


def decode_tagged(replica: int, frame: bytes) -> PacketIn:
    """The event that a tagged frame is, from this replica's port (0: the controller's own)."""
    popped = tags.pop(frame)
    if popped is not None and popped[0].kind is TagKind.TRUNK:  # as it came over a trunk, for this switch
        popped = tags.pop(popped[1])
    if popped is None:
        return Strange(PuntReason.TAGGED)
    mark = popped[0]
    match mark.kind:
        case TagKind.MARKER_ECHO:
            return MarkerEcho(replica, mark.epoch, mark.sequence)
        case TagKind.RELAY_ACK:
            return RelayAck(replica, mark.epoch, mark.sequence, relay_ahead(popped[1]))
        case TagKind.LOOP:
            return LoopReturned(mark.epoch, mark.sequence)
        case TagKind.FENCE:
            return FenceMet(mark.epoch, mark.sequence)
    return Strange(PuntReason.TAGGED)


def _metadata_ids(schema: P4Schema, header: str, needed: tuple[str, ...]) -> dict[str, int]:
    found = schema.controller_packet_metadata.get(header)
    if found is None:
        raise BadInput("P4Info", f"no controller header {header}", "use the P4 program of this release")
    ids = {field.name: field.id for field in found.metadata}
    missing = [name for name in needed if name not in ids]
    if missing:
        raise BadInput(f"P4Info, header {header}", f"no field {', '.join(missing)}")
    return ids
