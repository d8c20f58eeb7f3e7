"""Packet-ins and packet-outs as Ethernet frames: what goes over a punt port's wire.

    to the controller    dst:6 src:6 0x88B6 | packet_in: 45 bytes  | the frame as the switch received it
    to the switch        dst:6 src:6 0x88B6 | packet_out: 11 bytes | the frame to send

The two headers are those of ``p4src/include/header.p4``, the same that P4Runtime turns into metadata (`PacketCodec`).
"""

from __future__ import annotations

import struct

from finsy import P4Schema

from p4rt_controller.packets import MARKER_FRAME, PacketIn, Punted, Strange, decode_tagged
from p4src.reasons import ETHERTYPE_PUNT, MAC_PUNT_CONTROLLER, MAC_PUNT_SWITCH, PuntReason
from splitmerge.errors import BadInput
from splitmerge.flowkey import FlowKey
from splitmerge.tag import TagKind

_IN_LAYOUT = (
    ("ingress_port", 9), ("_pad", 7), ("reason", 8), ("version", 8), ("protocol", 8), ("bucket", 16), ("replica", 16),
    ("low_addr", 128), ("high_addr", 128), ("low_port", 16), ("high_port", 16),
)  # fmt: skip
_OUT_LAYOUT = (("egress_port", 9), ("_pad", 7), ("kind", 8), ("epoch", 32), ("sequence", 32))
_IN = struct.Struct("!12xHHBBBHH16s16s4s")
"""Ethernet header and packet_in; the ports, which are read as one, are as in a flow key."""
_OUT = struct.Struct("!HBII")
_OUTER = MAC_PUNT_SWITCH + MAC_PUNT_CONTROLLER + ETHERTYPE_PUNT.to_bytes(2, "big")
HEAD = _IN.size
"""Bytes in front of a punted frame. Packets of one flow from one port have the same ones."""
HEADROOM = HEAD
"""Bytes by which the punt port's MTU must exceed the other ports'."""


class FrameCodec:
    """Packet-ins and packet-outs of one P4 program. :raises BadInput: if its headers are not the ones above."""

    def __init__(self, schema: P4Schema) -> None:
        _check_layout(schema, "packet_in", _IN_LAYOUT)
        _check_layout(schema, "packet_out", _OUT_LAYOUT)

    def decode(self, head: bytes, frame: bytes) -> PacketIn:
        """The event that a frame is, handed over as its first `HEAD` bytes and the rest."""
        if len(head) < HEAD:
            return Strange(PuntReason.NONE)
        ether_type, _port, why, version, protocol, _bucket, replica, low, high, ports = _IN.unpack(head)
        if ether_type != ETHERTYPE_PUNT:
            return Strange(PuntReason.NONE)
        if why == PuntReason.TAGGED:
            return decode_tagged(replica, frame)
        if version not in (4, 6) or why not in (PuntReason.SUSPENDED, PuntReason.NEW_FLOW):
            return Strange(why)
        start = 12 if version == 4 else 0
        key = FlowKey(low[start:] + high[start:] + ports + bytes((protocol,)))
        return Punted(key, frame, why == PuntReason.NEW_FLOW)

    def packet_out(self, port: int, kind: TagKind, epoch: int, sequence: int, frame: bytes | None) -> bytes:
        """The frame that has ``frame`` (None: `MARKER_FRAME`) sent out of ``port``, tagged unless PLAIN."""
        return _OUTER + _OUT.pack(port << 7, kind, epoch, sequence) + (MARKER_FRAME if frame is None else frame)


def _check_layout(schema: P4Schema, header: str, expected: tuple[tuple[str, int], ...]) -> None:
    found = schema.controller_packet_metadata.get(header)
    fields = () if found is None else tuple((field.name, field.bitwidth) for field in found.metadata)
    if fields != expected:
        raise BadInput(f"P4Info, header {header}", "other fields than expected", "use the P4 program of this release")
