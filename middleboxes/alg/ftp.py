"""Addresses in FTP's control connection: what announces a data connection (RFC 959, RFC 2428), read and written.

PORT 10,0,1,2,156,64            a client's address and port
EPRT |1|10.0.1.2|40000|         the same for IPv4 (1) and IPv6 (2)
227 … (10,0,1,2,156,64)         a server's answer to PASV
229 … (|||40000|)               a server's answer to EPSV: the address is that of the control connection
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

_SIX = rb"(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3})"
_PORT = re.compile(rb"PORT +" + _SIX + rb" *\r?\n", re.IGNORECASE)
_EPRT = re.compile(rb"EPRT +([!-~])([12])\1([0-9a-fA-F:.]{2,45})\1(\d{1,5})\1 *\r?\n", re.IGNORECASE)
_PASV = re.compile(rb"227 [^\r\n]*?" + _SIX + rb"[^\r\n]*\r?\n")
_EPSV = re.compile(rb"229 [^\r\n]*?\(([!-~])\1\1(\d{1,5})\1\)[^\r\n]*\r?\n")


@dataclass(frozen=True, slots=True)
class Announcement:
    """Somebody will connect to this endpoint. ``line`` is the whole line that says so."""

    line: bytes
    address: bytes
    """4 or 16 bytes; empty: the sender's own."""
    port: int
    _begin: int
    _end: int
    _form: str

    def rewritten(self, address: bytes, port: int) -> bytes:
        """The line with another endpoint."""
        shown = ipaddress.ip_address(address)
        match self._form:
            case "six":
                inner = ",".join(map(str, (*address, port >> 8, port & 0xFF)))
            case "eprt":
                mark = chr(self.line[self._begin])
                inner = f"{mark}{1 if shown.version == 4 else 2}{mark}{shown}{mark}{port}{mark}"
            case _:
                inner = str(port)
        return self.line[: self._begin] + inner.encode() + self.line[self._end :]


def lines(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """Offset and text of every whole line, its end included."""
    start = 0
    while (end := payload.find(b"\n", start)) >= 0:
        yield start, payload[start : end + 1]
        start = end + 1


def command(line: bytes) -> Announcement | None:
    """What a client's line announces; None if nothing, or nothing that makes sense."""
    if (found := _PORT.fullmatch(line)) is not None:
        return _six(found)
    if (found := _EPRT.fullmatch(line)) is None:
        return None
    try:
        address = ipaddress.ip_address(found[3].decode())
    except ValueError:
        return None
    if address.version != (4 if found[2] == b"1" else 6):
        return None
    return _checked(line, address.packed, int(found[4]), found.start(1), found.end(4) + 1, "eprt")


def reply(line: bytes) -> Announcement | None:
    """What a server's line announces; None if nothing."""
    if (found := _PASV.fullmatch(line)) is not None:
        return _six(found)
    if (found := _EPSV.fullmatch(line)) is not None:
        return _checked(line, b"", int(found[2]), found.start(2), found.end(2), "epsv")
    return None


def _six(found: re.Match[bytes]) -> Announcement | None:
    numbers = [int(number) for number in found.groups()]
    if max(numbers) > 255:
        return None
    port = numbers[4] << 8 | numbers[5]
    return _checked(found.string, bytes(numbers[:4]), port, found.start(1), found.end(6), "six")


def _checked(line: bytes, address: bytes, port: int, begin: int, end: int, form: str) -> Announcement | None:
    return Announcement(line, address, port, begin, end, form) if 0 < port <= 0xFFFF else None
