"""Packet-in and packet-out: metadata fields ↔ the header in front of the frame."""

from __future__ import annotations

from finsy.proto import p4r

from p4switch.p4runtime.bytestrings import decode, encode, varint
from p4switch.p4runtime.schema import PacketHeader
from p4switch.p4runtime.status import invalid

_KNOWN = 4096


class PacketIn:
    """Takes the packet_in header off a frame from the CPU port."""

    def __init__(self, header: PacketHeader) -> None:
        self.length = header.length
        self._fields = [(field.id, field.shift, (1 << field.width) - 1) for field in header.fields]
        self._known: dict[bytes, bytes] = {}
        """Serialized metadata by header: packets of one flow share it."""

    def serialized(self, frame: bytes) -> bytes:
        """The StreamMessageResponse of ``frame``, which must be at least ``length`` bytes long."""
        header, payload = frame[: self.length], frame[self.length :]
        metadata = self._known.get(header)
        if metadata is None:
            metadata = self._learn(header)
        packet = b"\x0a%b%b%b" % (varint(len(payload)), payload, metadata) if payload else metadata
        return b"\x12%b%b" % (varint(len(packet)), packet)

    def _learn(self, header: bytes) -> bytes:
        packet = p4r.PacketIn()
        bits = int.from_bytes(header, "big")
        for number, shift, mask in self._fields:
            packet.metadata.add(metadata_id=number, value=encode(bits >> shift & mask))
        if len(self._known) >= _KNOWN:
            self._known.clear()
        raw: bytes = packet.SerializeToString()
        self._known[header] = raw
        return raw


class PacketOut:
    """Puts the packet_out header in front of a client's frame."""

    def __init__(self, header: PacketHeader) -> None:
        self._length = header.length
        self._fields = {field.id: field for field in header.fields}

    def frame(self, packet: p4r.PacketOut) -> bytes:
        """The frame for the program's CPU port. A field not given is 0, as simple_switch_grpc has it.

        :raises Refused: a field is unknown, there twice, or too wide.
        """
        bits = 0
        seen = set()
        for item in packet.metadata:
            field = self._fields.get(item.metadata_id)
            if field is None:
                raise invalid(f"packet_out has no metadata field with id {item.metadata_id}")
            if field.id in seen:
                raise invalid(f"packet_out metadata {field.name!r} is given twice")
            seen.add(field.id)
            bits |= decode(item.value, field.width, f"packet_out metadata {field.name!r}") << field.shift
        payload: bytes = packet.payload
        return bits.to_bytes(self._length, "big") + payload
