"""What ``ethtool`` does to an interface: its offloads switched off, its link asked for."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_ETHTOOL_OFF = (0x15, 0x17, 0x19, 0x1F, 0x24, 0x2C)
"""ETHTOOL_SRXCSUM, STXCSUM, SSG, STSO, SGSO, SGRO (linux/ethtool.h)."""


_ETHTOOL_GLINK = 0x0A


class _EthtoolValue(ctypes.Structure):
    """struct ethtool_value."""

    _fields_ = (("cmd", ctypes.c_uint32), ("data", ctypes.c_uint32))


def offloads_off(interface: str, *, lenient: bool = False) -> None:
    """Frames must carry whole checksums and be no longer than the MTU: what a packet socket reads is re-sent as it is.

    The kernel otherwise leaves checksums to the hardware that a veth pair does not have.

    :param lenient: go on where the device does not know an offload: it does not have it, then.
    :raises OSError: if it cannot be switched off.
    """
    for command in _ETHTOOL_OFF:
        try:
            _ethtool(interface, command)
        except OSError:
            if not lenient:
                raise


def link_ready(interface: str) -> bool:
    """Whether it has a carrier.

    To be asked has an effect: the kernel otherwise looks at links that came up once a second only (``linkwatch``), and
    until then IPv6 does not use this one. :raises OSError: if there is no such interface.
    """
    return bool(_ethtool(interface, _ETHTOOL_GLINK))


def _ethtool(interface: str, command: int) -> int:
    value = _EthtoolValue(command, 0)
    request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, request)
    return int(value.data)
