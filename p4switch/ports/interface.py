"""A Linux interface as a switch port."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Mapping

from p4switch.ports.base import Received, Sent
from splitmerge.linux.afpacket import PacketSocket

_ETH_P_ALL = 0x0003
_SIOCGIFMTU = 0x8921
_OVERHEAD = 14 + 4 + 4
"""Bytes of a frame beyond the MTU: Ethernet, and up to two VLAN tags less what the MTU covers anyway."""


class InterfacePort:
    """One interface through AF_PACKET.

    :raises BadInput: there is no such interface, or packet sockets are not allowed.
    """

    def __init__(self, port: int, interface: str, *, ring_bytes: int = 8 << 20) -> None:
        self.port = port
        self.interface = interface
        self._socket = PacketSocket(interface, ring_bytes=ring_bytes)
        self._errors = socket.socket(fileno=os.dup(self._socket.fileno()))

    @property
    def socket(self) -> PacketSocket:
        """For a data plane that reads the ring itself."""
        return self._socket

    def attach(self) -> None:
        """Attach to the interface that now has the name, where it is not the one it was. Any thread may call it.

        Ring and descriptor stay, so nobody who reads them notices. :raises OSError: there is none.
        """
        self._errors.bind((self.interface, _ETH_P_ALL))

    def fileno(self) -> int:
        """As `PacketIo`."""
        return self._socket.fileno()

    def ports(self) -> Mapping[int, str]:
        """As `PacketIo`."""
        return {self.port: self.interface}

    def receive(self, limit: int) -> list[Received]:
        """As `PacketIo`."""
        port = self.port
        frames = self._socket.receive(limit)
        if not frames:
            # "Network is down" makes the socket readable until the error is fetched: without this the loop would spin.
            self._errors.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return [Received(port, frame) for frame in frames]

    def send(self, port: int, frame: bytes) -> Sent:
        """As `PacketIo`. A refused frame is looked at: one that no try will send is not tried again."""
        if self._socket.send(frame):
            return Sent.YES
        if len(frame) > _mtu(self.interface) + _OVERHEAD or len(frame) < 14:
            return Sent.NEVER
        return Sent.LATER

    def drops(self) -> Mapping[str, int]:
        """As `PacketIo`."""
        return {"receive_ring_full": self._socket.drops, "longer_than_ring_slot": self._socket.truncated}

    def close(self) -> None:
        """As `PacketIo`."""
        self._errors.close()
        self._socket.close()


def _mtu(interface: str) -> int:
    """The interface's MTU; a large number if it is gone (then it may come back)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe, _SIOCGIFMTU, struct.pack("16si12x", interface.encode()[:15], 0))
        except OSError:
            return 1 << 30
    (mtu,) = struct.unpack_from("i", answer, 16)
    return int(mtu)
