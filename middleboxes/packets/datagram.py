"""`Datagram`: one IP packet in an Ethernet frame, readable and rewritable in place.

Every change corrects the checksums that cover it, incrementally: what was wrong before stays wrong, and nothing is read
but what changes. Fields are read when asked for. Addresses are 4 or 16 bytes, numbers are Python's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from middleboxes.packets.checksum import ones_sum, updated
from splitmerge.flowkey import ICMP, ICMPV6, TCP, UDP

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10

_ETHERNET = 14
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
_EXTENSIONS = frozenset((_HOP_BY_HOP, _ROUTING, _DESTINATION))
_MOST_EXTENSIONS = 8
_HEADER = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}
"""Least bytes of a transport header that is taken as one."""
_CHECKSUM_AT = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}
_SACK, _NOP, _END_OF_OPTIONS = 5, 1, 0
ECHO = {ICMP: (8, 0), ICMPV6: (128, 129)}
"""Types of echo request and reply."""


class Datagram:
    """One packet. Build it with `of`; take the changed frame with ``bytes(datagram)``."""

    __slots__ = ("_data", "_end", "_ip", "_source", "_transport", "_width", "fragment", "protocol", "version")

    version: int
    """4 or 6."""
    protocol: int
    """Of the transport header, behind any IPv6 extension headers."""
    fragment: bool
    """Whether it is one of several fragments (the first one included)."""
    _data: bytearray
    _ip: int
    """Where the IP header begins."""
    _source: int
    """Where the source address is; the destination follows."""
    _width: int
    """Bytes of an address."""
    _transport: int
    """Where the transport header begins; 0 if there is none to read."""
    _end: int
    """Where the IP packet ends; behind it is padding."""

    @classmethod
    def of(cls, frame: bytes) -> Datagram | None:
        """The packet in this frame; None if it is not IP, is cut short, or its lengths are a lie."""
        return cls.inside(bytearray(frame), _ETHERNET, frame[12:14])

    @classmethod
    def inside(cls, data: bytearray, start: int, ethertype: bytes, *, cut: bool = False) -> Datagram | None:
        """The packet that begins at ``start``. ``cut``: it may be only the beginning of one (in an ICMP error)."""
        self = cls()
        self._data, self._ip = data, start
        if ethertype == _IPV4:
            return self if self._read_ipv4(cut) else None
        if ethertype == _IPV6:
            return self if self._read_ipv6(cut) else None
        return None

    def _read_ipv4(self, cut: bool) -> bool:
        data, ip = self._data, self._ip
        if len(data) < ip + 20 or data[ip] >> 4 != 4:
            return False
        length = (data[ip] & 15) * 4
        end = ip + int.from_bytes(data[ip + 2 : ip + 4], "big")
        if length < 20 or end < ip + length or (end > len(data) and not cut):
            return False
        self.version, self.protocol = 4, data[ip + 9]
        self._source, self._width = ip + 12, 4
        self._end = min(end, len(data))
        self.fragment = bool(data[ip + 6] & 0x3F or data[ip + 7])
        later = bool(data[ip + 6] & 0x1F or data[ip + 7])
        self._transport = 0 if later else self._checked(ip + length, cut)
        return True

    def _read_ipv6(self, cut: bool) -> bool:
        data, ip = self._data, self._ip
        if len(data) < ip + 40 or data[ip] >> 4 != 6:
            return False
        end = ip + 40 + int.from_bytes(data[ip + 4 : ip + 6], "big")
        if end > len(data) and not cut:
            return False
        self.version, self._source, self._width = 6, ip + 8, 16
        self._end = min(end, len(data))
        self.fragment = False
        self.protocol, at, later = data[ip + 6], ip + 40, False
        for _ in range(_MOST_EXTENSIONS):
            if at + 8 > self._end:
                break
            if self.protocol == _FRAGMENT:
                offset = int.from_bytes(data[at + 2 : at + 4], "big")
                self.fragment = self.fragment or bool(offset & 0xFFF9)  # an atomic fragment (RFC 6946) is none
                later = bool(offset & 0xFFF8)
                self.protocol, at = data[at], at + 8
            elif self.protocol in _EXTENSIONS:
                self.protocol, at = data[at], at + 8 + data[at + 1] * 8
            else:
                break
        self._transport = 0 if later else self._checked(at, cut)
        return True

    def _checked(self, at: int, cut: bool) -> int:
        """The offset of the transport header if a whole one (8 bytes of it, in an ICMP error) is there, else 0."""
        least = _HEADER.get(self.protocol, 0)
        if not least or at + (8 if cut else least) > self._end:
            return 0
        if self.protocol == TCP and not cut:
            length = (self._data[at + 12] >> 4) * 4
            return at if least <= length <= self._end - at else 0
        return at

    def __bytes__(self) -> bytes:
        """The whole frame as it is now."""
        return bytes(self._data)

    # -- addresses -------------------------------------------------------------------------------------------

    @property
    def source(self) -> bytes:
        """Source address."""
        return bytes(self._data[self._source : self._source + self._width])

    @property
    def destination(self) -> bytes:
        """Destination address."""
        at = self._source + self._width
        return bytes(self._data[at : at + self._width])

    def set_source(self, address: bytes, port: int | None = None) -> None:
        """Another source address and, unless None, port (identifier of an ICMP echo)."""
        self._set_address(self._source, address)
        if port is not None:
            self._set_port(0, port)

    def set_destination(self, address: bytes, port: int | None = None) -> None:
        """Another destination address and, unless None, port (identifier of an ICMP echo)."""
        self._set_address(self._source + self._width, address)
        if port is not None:
            self._set_port(2, port)

    # -- ports -----------------------------------------------------------------------------------------------

    @property
    def readable(self) -> bool:
        """Whether there is a whole header of TCP, UDP or ICMP to read."""
        return bool(self._transport)

    @property
    def echo(self) -> bool:
        """Whether it is an ICMP echo request or reply."""
        return self._transport > 0 and self._data[self._transport] in ECHO.get(self.protocol, ())

    @property
    def source_port(self) -> int:
        """Source port; identifier of an ICMP echo."""
        return self._port(0)

    @property
    def destination_port(self) -> int:
        """Destination port; identifier of an ICMP echo."""
        return self._port(2)

    def _port(self, offset: int) -> int:
        assert self._transport
        at = self._transport + (4 if self.protocol in ECHO else offset)
        return int.from_bytes(self._data[at : at + 2], "big")

    def _set_port(self, offset: int, port: int) -> None:
        assert self._transport
        self._write(self._transport + (4 if self.protocol in ECHO else offset), port.to_bytes(2, "big"))

    # -- TCP -------------------------------------------------------------------------------------------------

    @property
    def flags(self) -> int:
        """TCP's flags: `SYN`, `ACK`, …"""
        return self._data[self._transport + 13]

    @property
    def sequence(self) -> int:
        """TCP's sequence number."""
        return int.from_bytes(self._data[self._transport + 4 : self._transport + 8], "big")

    @sequence.setter
    def sequence(self, number: int) -> None:
        self._write(self._transport + 4, (number & 0xFFFFFFFF).to_bytes(4, "big"))

    @property
    def acknowledgement(self) -> int:
        """TCP's acknowledgement number; only valid with `ACK`."""
        return int.from_bytes(self._data[self._transport + 8 : self._transport + 12], "big")

    @acknowledgement.setter
    def acknowledgement(self, number: int) -> None:
        self._write(self._transport + 8, (number & 0xFFFFFFFF).to_bytes(4, "big"))

    def map_sack(self, change: Callable[[int], int]) -> None:
        """Let ``change`` give every edge of TCP's SACK blocks anew (RFC 2018)."""
        for at, length in self._options(_SACK):
            for edge in range(at + 2, at + length - 3, 4):
                number = int.from_bytes(self._data[edge : edge + 4], "big")
                self._write(edge, (change(number) & 0xFFFFFFFF).to_bytes(4, "big"))

    def _options(self, wanted: int) -> Iterator[tuple[int, int]]:
        """Where TCP options of this kind begin, and their lengths."""
        at, end = self._transport + 20, self._payload_at
        while at + 1 < end and self._data[at] != _END_OF_OPTIONS:
            if self._data[at] == _NOP:
                at += 1
                continue
            length = self._data[at + 1]
            if length < 2 or at + length > end:
                return
            if self._data[at] == wanted:
                yield at, length
            at += length

    # -- payload ---------------------------------------------------------------------------------------------

    @property
    def _payload_at(self) -> int:
        if self.protocol == TCP:
            return self._transport + (self._data[self._transport + 12] >> 4) * 4
        return self._transport + 8

    @property
    def payload(self) -> bytes:
        """What TCP, UDP or ICMP carries, without Ethernet's padding."""
        return bytes(self._data[self._payload_at : self._end])

    @payload.setter
    def payload(self, new: bytes) -> None:
        """Other content, of any length that the IP packet can have. :raises ValueError: if it is too long."""
        at, old_length = self._payload_at, self._end - self._transport
        old = ones_sum(self._data[at : self._end])
        length = at - self._transport + len(new)
        if self._end - self._ip + length - old_length > 0xFFFF:
            raise ValueError(f"a payload of {len(new)} bytes does not fit into an IP packet")
        self._data[at:] = new  # what was behind the packet was padding
        self._end = at + len(new)
        if self.protocol == ICMP:  # no pseudo-header, so the length is in no checksum
            old_length = length = 0
        self._fix_transport(old + old_length, ones_sum(new) + length)
        if self.protocol == UDP:
            self._write(self._transport + 4, length.to_bytes(2, "big"))
        self._set_ip_length()

    def _set_ip_length(self) -> None:
        if self.version == 4:
            self._write(self._ip + 2, (self._end - self._ip).to_bytes(2, "big"))
        else:
            self._data[self._ip + 4 : self._ip + 6] = (self._end - self._ip - 40).to_bytes(2, "big")

    # -- ICMP errors -----------------------------------------------------------------------------------------

    @property
    def quoted(self) -> Datagram | None:
        """The beginning of the packet that an ICMP error is about (its own checksums may be changed; see `requote`).

        None if this is no ICMP error (RFC 792, RFC 4443 §2.1), or quotes nothing that can be read.
        """
        if not self._transport or self.fragment:
            return None
        kind = self._data[self._transport]
        if self.protocol == ICMP and kind in (3, 4, 5, 11, 12):
            ethertype = _IPV4
        elif self.protocol == ICMPV6 and kind in (1, 2, 3, 4):
            ethertype = _IPV6
        else:
            return None
        inner = bytearray(self._data[self._transport + 8 : self._end])
        return Datagram.inside(inner, 0, ethertype, cut=True)

    def requote(self, quoted: Datagram) -> None:
        """Put a changed `quoted` back; the ICMP checksum follows."""
        self.payload = bytes(quoted._data)

    # -- checksums -------------------------------------------------------------------------------------------

    def _set_address(self, at: int, address: bytes) -> None:
        if len(address) != self._width:
            raise ValueError(f"an address of {len(address)} bytes in an IPv{self.version} packet")
        old, new = ones_sum(self._data[at : at + self._width]), ones_sum(address)
        self._data[at : at + self._width] = address
        if self.version == 4:
            self._fix(self._ip + 10, old, new)
        if self.protocol != ICMP:  # its checksum has no pseudo-header
            self._fix_transport(old, new)

    def _write(self, at: int, new: bytes) -> None:
        """Change bytes of the IPv4 or the transport header."""
        base = self._transport if self._transport and at >= self._transport else self._ip
        first = at - ((at - base) & 1)
        last = at + len(new) + ((at + len(new) - base) & 1)
        old = ones_sum(self._data[first:last])
        self._data[at : at + len(new)] = new
        fresh = ones_sum(self._data[first:last])
        if base == self._ip:
            self._fix(self._ip + 10, old, fresh)
        else:
            self._fix_transport(old, fresh)

    def _fix_transport(self, old: int, new: int) -> None:
        offset = _CHECKSUM_AT.get(self.protocol)
        if not self._transport or offset is None or self._transport + offset + 2 > self._end:
            return
        at = self._transport + offset
        if self.protocol == UDP and self._data[at : at + 2] == b"\0\0":  # it has none
            return
        self._fix(at, old, new)
        if self.protocol == UDP and self._data[at : at + 2] == b"\0\0":
            self._data[at : at + 2] = b"\xff\xff"

    def _fix(self, at: int, old: int, new: int) -> None:
        field = updated(int.from_bytes(self._data[at : at + 2], "big"), old, new)
        self._data[at : at + 2] = field.to_bytes(2, "big")
