"""Switch an interface's offloads off, as ``ethtool -K`` does."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_ETHTOOL_OFF = (0x15, 0x17, 0x19, 0x1F, 0x24, 0x2C)
"""ETHTOOL_SRXCSUM, STXCSUM, SSG, STSO, SGSO, SGRO (linux/ethtool.h)."""


class _EthtoolValue(ctypes.Structure):
    """struct ethtool_value."""

    _fields_ = (("cmd", ctypes.c_uint32), ("data", ctypes.c_uint32))


def offloads_off(interface: str, *, lenient: bool = False) -> None:
    """Frames must carry whole checksums and be no longer than the MTU: what a packet socket reads is re-sent as it is.

    The kernel otherwise leaves checksums to the hardware that a veth pair does not have.

    :param lenient: go on where the device does not know an offload: it does not have it, then.
    :raises OSError: if it cannot be switched off.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in _ETHTOOL_OFF:
            value = _EthtoolValue(command, 0)
            request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(value))
            try:
                fcntl.ioctl(control, _SIOCETHTOOL, request)
            except OSError:
                if not lenient:
                    raise
