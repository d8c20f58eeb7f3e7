"""As much of rtnetlink(7) as process 1 of a machine needs: a full library would take seconds to import there."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct

_NEWLINK, _NEWADDR, _NEWNEIGH = 16, 20, 28
_REQUEST, _ACK, _REPLACE, _CREATE = 0x1, 0x4, 0x100, 0x400
_ERROR = 2
_IFLA_IFNAME, _IFLA_MTU, _IFLA_ADDRESS = 3, 4, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NDA_DST, _NDA_LLADDR = 1, 2
_IFF_UP = 1
_IFA_F_NODAD = 0x02
_NUD_PERMANENT = 0x80
_HEADER = struct.Struct("=IHHII")


class Netlink:
    """A socket to the kernel's routing; use as a context manager. Every method raises OSError as the kernel says."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def link(self, index: int, *, up: bool, name: str = "", mtu: int = 0, mac: str = "") -> None:
        """Change an interface: its name and MAC only while it is down."""
        body = struct.pack("=BxHiII", 0, 0, index, _IFF_UP if up else 0, _IFF_UP)
        body += _attribute(_IFLA_IFNAME, name.encode() + b"\0") if name else b""
        body += _attribute(_IFLA_MTU, struct.pack("=I", mtu)) if mtu else b""
        body += _attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", ""))) if mac else b""
        self._ask(_NEWLINK, 0, body)

    def address(self, index: int, address: str) -> None:
        """Add an address with prefix length; IPv6 without duplicate address detection."""
        place = ipaddress.ip_interface(address)
        family, flags = (socket.AF_INET, 0) if place.version == 4 else (socket.AF_INET6, _IFA_F_NODAD)
        body = struct.pack("=BBBBi", family, place.network.prefixlen, flags, 0, index)
        body += _attribute(_IFA_LOCAL, place.ip.packed) + _attribute(_IFA_ADDRESS, place.ip.packed)
        self._ask(_NEWADDR, _CREATE | _REPLACE, body)

    def neighbour(self, index: int, address: str, mac: str) -> None:
        """This address has this MAC, for good."""
        place = ipaddress.ip_address(address)
        family = socket.AF_INET if place.version == 4 else socket.AF_INET6
        body = struct.pack("=BxxxiHBB", family, index, _NUD_PERMANENT, 0, 0)
        body += _attribute(_NDA_DST, place.packed) + _attribute(_NDA_LLADDR, bytes.fromhex(mac.replace(":", "")))
        self._ask(_NEWNEIGH, _CREATE | _REPLACE, body)

    def _ask(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        flags |= _REQUEST | _ACK
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
        answer = self._socket.recv(65536)
        kind = struct.unpack_from("=H", answer, 4)[0]
        if kind != _ERROR:
            raise OSError(errno.EPROTO, f"the kernel answered with message {kind}")
        code = -struct.unpack_from("=i", answer, _HEADER.size)[0]
        if code:
            raise OSError(code, os.strerror(code))


def _attribute(kind: int, value: bytes) -> bytes:
    data = struct.pack("=HH", 4 + len(value), kind) + value
    return data + b"\0" * (-len(data) % 4)
