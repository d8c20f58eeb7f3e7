"""Raw Ethernet on a Linux interface: an AF_PACKET socket with a memory-mapped receive ring.

The ring (packet_mmap(7), TPACKET_V2) rather than plain ``recv``, because its memory is not charged to the socket's
receive buffer: an unprivileged process in a user namespace may not raise that above ``net.core.rmem_max`` (about two
hundred small packets), and a burst would be lost. The kernel counts what does not fit: `PacketSocket.drops`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import socket
import struct
from collections.abc import Sequence
from types import TracebackType

from splitmerge.errors import BadInput
from splitmerge.linux.sendmmsg import BatchSender

_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION = 5, 6, 10
_PACKET_QDISC_BYPASS, _PACKET_IGNORE_OUTGOING = 20, 23
_TPACKET_V2 = 1
_TP_STATUS_USER, _TP_STATUS_VLAN_VALID, _TP_STATUS_VLAN_TPID_VALID = 1, 1 << 4, 1 << 6
_HEADER = struct.Struct("=IIIHHIIHH")
"""tpacket2_hdr: status, length, captured length, offset of the frame, …, VLAN tag, VLAN EtherType."""
_HEADER_START = struct.Struct("=IIIH")
_STATUS = struct.Struct("=I")
_HEADROOM = 128
"""Bytes of a ring slot that the kernel's own headers may take."""
_SIOCGIFMTU = 0x8921
_ETHERNET = 18
"""Bytes in front of what the MTU counts: an Ethernet header, with room for a VLAN tag."""
_BLOCK = 1 << 17
_NEVER = frozenset({errno.EMSGSIZE, errno.EINVAL})
"""packet(7): longer than the MTU allows. EINVAL is for what has no whole Ethernet header."""


class PacketSocket:
    """Whole Ethernet frames in and out of one interface, never blocking. Frames that this host sends are not received.

    :param interface: name in the current network namespace.
    :param ring_bytes: size of the receive ring, rounded up to 128 KiB.
    :raises BadInput: if there is no such interface, or the process may not open packet sockets (CAP_NET_RAW).
    """

    def __init__(self, interface: str, *, ring_bytes: int = 4 << 20) -> None:
        self.interface = interface
        self.truncated = 0
        """Frames longer than a ring slot (the interface's MTU grew after opening): dropped."""
        self.send_failures = 0
        """Frames that the kernel did not take (no room, interface down, `bad_frames`)."""
        self.bad_frames = 0
        """Of those given to `send`, what it never takes: no whole Ethernet header, or longer than the MTU allows."""
        self.bad_length = 0
        """Bytes of the newest one."""
        self._kernel_drops = 0
        self._slot = 0
        self._sender: BatchSender | None = None
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        except PermissionError:
            raise BadInput(f"interface {interface!r}", "packet sockets are not allowed", "needs CAP_NET_RAW") from None
        try:
            self._slot_size, self._slots, self._ring = self._open_ring(ring_bytes)
            self._socket.bind((interface, _ETH_P_ALL))
        except OSError as error:
            self._socket.close()
            raise BadInput(f"interface {interface!r}", error.strerror or str(error), "see `ip link`") from None

    def _open_ring(self, ring_bytes: int) -> tuple[int, int, mmap.mmap]:
        request = struct.pack("16si12x", self.interface.encode()[:15], 0)
        (mtu,) = struct.unpack_from("i", fcntl.ioctl(self._socket, _SIOCGIFMTU, request), 16)
        self._longest = mtu + _ETHERNET
        slot = 1 << max(11, (min(mtu, 65535) + _HEADROOM - 1).bit_length())
        block = max(_BLOCK, slot)
        blocks = max(1, -(-ring_bytes // block))
        slots = block // slot * blocks
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, struct.pack("=IIII", block, blocks, slot, slots))
        return slot, slots, mmap.mmap(self._socket.fileno(), block * blocks)

    def fileno(self) -> int:
        """File descriptor, readable when a frame waits."""
        return self._socket.fileno()

    def receive(self, limit: int = 64) -> list[bytes]:
        """Up to ``limit`` frames that have arrived, oldest first; empty if there are none.

        VLAN tags that the kernel took off are put back.
        """
        frames: list[bytes] = []
        ring, slot_size = self._ring, self._slot_size
        while len(frames) < limit:
            start = self._slot * slot_size
            status, length, captured, offset, _net, _s, _ns, tci, tpid = _HEADER.unpack_from(ring, start)
            if not status & _TP_STATUS_USER:
                break
            if length == captured:
                frame = ring[start + offset : start + offset + captured]
                frames.append(_with_vlan(frame, status, tci, tpid) if status & _TP_STATUS_VLAN_VALID else frame)
            else:
                self.truncated += 1
            _STATUS.pack_into(ring, start, 0)
            self._slot = (self._slot + 1) % self._slots
        return frames

    def receive_split(self, at: int, limit: int = 64) -> list[tuple[bytes, bytes]]:
        """As `receive`, each frame as its first ``at`` bytes and the rest: for headers that a link puts in front."""
        parts: list[tuple[bytes, bytes]] = []
        ring, slot_size, slots, slot = self._ring, self._slot_size, self._slots, self._slot
        while len(parts) < limit:
            base = slot * slot_size
            status, length, captured, offset = _HEADER_START.unpack_from(ring, base)
            if not status & _TP_STATUS_USER:
                break
            start = base + offset
            if status & _TP_STATUS_VLAN_VALID:
                tci, tpid = _HEADER.unpack_from(ring, base)[-2:]
                frame = _with_vlan(ring[start : start + captured], status, tci, tpid)
                parts.append((frame[:at], frame[at:]))
            elif length == captured:
                parts.append((ring[start : start + at], ring[start + at : start + captured]))
            else:
                self.truncated += 1
            _STATUS.pack_into(ring, base, 0)
            slot = slot + 1 if slot + 1 < slots else 0
        self._slot = slot
        return parts

    def ring(self) -> tuple[int, int, int]:
        """(address, bytes of a slot, slots) of the ring, for code that reads it itself; valid until `close`."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._ring)), self._slot_size, self._slots

    @property
    def position(self) -> int:
        """The slot that is read next; code that read the ring itself sets it."""
        return self._slot

    @position.setter
    def position(self, slot: int) -> None:
        self._slot = slot

    def send(self, frame: bytes) -> bool:
        """Hand one frame to the kernel; False (and counted) if it was not taken."""
        try:
            self._socket.send(frame)
        except OSError as error:
            self.send_failures += 1
            if error.errno in _NEVER:
                self.bad_frames += 1
                self.bad_length = len(frame)
            return False
        return True

    def send_many(self, frames: Sequence[bytes]) -> int:
        """Hand frames to the kernel in order; how many are done with. The rest, if any: when `fileno` is writable.

        Frames that were refused are among those done with, and counted in ``send_failures``.
        """
        if self._sender is None:
            self._sender = BatchSender(self._socket.fileno(), self._longest)
        before = self._sender.failures
        done = self._sender.send(frames)
        self.send_failures += self._sender.failures - before
        return done

    @property
    def error(self) -> int:
        """The error pending on the socket (errno; 0 for none), which reading takes away: ENETDOWN if the link went."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    @property
    def drops(self) -> int:
        """Frames that arrived and did not fit the ring, since the socket was opened."""
        raw = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self._kernel_drops += struct.unpack("=II", raw)[1]  # reading resets the kernel's count
        return self._kernel_drops

    def close(self) -> None:
        """Give the ring and the socket back; again is harmless."""
        self._ring.close()
        self._socket.close()

    def __enter__(self) -> PacketSocket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _with_vlan(frame: bytes, status: int, tci: int, tpid: int) -> bytes:
    ether_type = tpid if status & _TP_STATUS_VLAN_TPID_VALID else 0x8100
    return frame[:12] + struct.pack("!HH", ether_type, tci) + frame[12:]
