"""How packets go between controller and switch: P4Runtime's stream, or an Ethernet punt port.

Both keep the order of packet-ins and that of packet-outs, and both deliver into the same `Traffic`. What differs is
their rate (some 10,000 packets a second through Python's gRPC, over 100,000 through a packet socket) and their latency.
"""

from __future__ import annotations

from typing import Protocol

from p4rt_controller.link import Link
from p4rt_controller.packets import PacketCodec
from splitmerge.tag import TagKind


class PacketPath(Protocol):
    """The way to the switch."""

    def send(self, port: int, kind: TagKind, epoch: int, sequence: int, frame: bytes | None) -> None:
        """Have the switch do this (`packet_out` of the codecs), in the order of the calls.

        :raises SwitchUnavailable: if the way is broken.
        """


class StreamPath:
    """P4Runtime's stream: packet-outs as its messages. Packet-ins come from the session."""

    def __init__(self, link: Link, codec: PacketCodec) -> None:
        self._link = link
        self._codec = codec

    def send(self, port: int, kind: TagKind, epoch: int, sequence: int, frame: bytes | None) -> None:
        """`PacketPath`."""
        self._link.post(self._codec.packet_out(port, kind, epoch, sequence, frame))
