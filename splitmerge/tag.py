"""The tag: a 12-byte header behind the Ethernet addresses that carries Splitmerge's own signals in the data plane.

    dst:6 src:6 0x88B5 | kind:1 flags:1 epoch:4 sequence:4 ether_type:2 | what followed in the untagged frame

It stands where a VLAN tag would (0x88B5 is IEEE's first EtherType for local experiments). Data packets that
take the direct way are never tagged, except between switches, where one tag (TRUNK) may stand in front of another. The
switch pushes a tag when a packet-out asks for it, and sends every tagged frame that comes from a replica port to the
controller. From a host a tagged frame is dropped.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

ETHERTYPE_TAG = 0x88B5
_WIRE = struct.Struct("!BBIIH")
_ETHERTYPE = ETHERTYPE_TAG.to_bytes(2, "big")
TAG_LENGTH = _WIRE.size
RELAY_AHEAD = 64
"""Numbers above the one expected that a replica may keep: a multiple of 8."""


class TagKind(enum.IntEnum):
    """What a tagged frame means. The numbers are those of ``p4src/include/define.p4``."""

    PLAIN = 0
    """No tag (only in packet-out metadata)."""
    RELAYED = 1
    """Controller to replica: a buffered packet of a suspended flow. ``sequence`` counts 1, 2, … within the epoch."""
    MARKER = 2
    """Controller to replica: everything that the switch sent this replica earlier is before this frame."""
    END = 3
    """Controller to replica: the last of an epoch's relayed frames, numbered like them. Held packets may go."""
    LOOP = 4
    """Controller to switch to controller: every clone made earlier is before this frame. Replica to switch to replica:
    the switch has taken every frame that the replica sent earlier."""
    MARKER_ECHO = 5
    """Replica to controller: the MARKER of this epoch and sequence was met, and all output due before it is out."""
    RELAY_ACK = 6
    """Replica to controller: ``sequence`` is the next RELAYED/END number expected in this epoch; see `relay_ahead`."""
    TRUNK = 7
    """Switch to switch: ``sequence`` is the replica (or the switch) that the frame behind this tag is for."""
    FENCE = 8
    """Controller to switch to … to controller: all that the first switch sent the last one before is before this."""


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag. ``epoch`` is the number of the move, ``sequence`` as `TagKind` says, both 32 bits."""

    kind: TagKind
    epoch: int
    sequence: int

    def push(self, frame: bytes) -> bytes:
        """The frame with this tag in it."""
        ether_type = int.from_bytes(frame[12:14], "big")
        return frame[:12] + _ETHERTYPE + _WIRE.pack(self.kind, 0, self.epoch, self.sequence, ether_type) + frame[14:]


def pop(frame: bytes) -> tuple[Tag, bytes] | None:
    """The tag of a tagged frame and the frame without it; None if the frame has no (whole, known) tag."""
    if frame[12:14] != _ETHERTYPE or len(frame) < 14 + TAG_LENGTH:
        return None
    kind, _flags, epoch, sequence, ether_type = _WIRE.unpack_from(frame, 14)
    if kind not in _KINDS:
        return None
    return Tag(TagKind(kind), epoch, sequence), frame[:12] + ether_type.to_bytes(2, "big") + frame[14 + TAG_LENGTH :]


def relay_ahead(frame: bytes) -> int:
    """What the frame of a RELAY_ACK, without its tag, says of numbers that came early.

    Its first eight bytes behind the EtherType are a bit field: bit *i*, the replica keeps the number *i* + 1 above the
    one expected.
    """
    return int.from_bytes(frame[14 : 14 + RELAY_AHEAD // 8], "big")


def with_relay_ahead(frame: bytes, have: int) -> bytes:
    """The frame for a RELAY_ACK with what `relay_ahead` reads. It must be long enough."""
    return frame[:14] + have.to_bytes(RELAY_AHEAD // 8, "big") + frame[14 + RELAY_AHEAD // 8 :]


def is_tagged(frame: bytes) -> bool:
    """Whether the frame has Splitmerge's EtherType."""
    return frame[12:14] == _ETHERTYPE


_KINDS = frozenset(int(kind) for kind in TagKind if kind is not TagKind.PLAIN)
