"""The flow key: a canonical 5-tuple, the same for both directions of a flow.

The key *is* its wire form, the bytes that the P4 program hashes, so that a dict look-up and
a bucket computation cost one C call each:

    IPv4  low_addr:4   high_addr:4   low_port:2  high_port:2  protocol:1    13 bytes
    IPv6  low_addr:16  high_addr:16  low_port:2  high_port:2  protocol:1    37 bytes

"Low" is the endpoint whose (address, port) is smaller, compared as unsigned numbers. ICMP echo uses
its identifier for both ports; a fragment of any datagram, the first one included, has ports 0, so that all
fragments of a datagram meet; every other protocol has ports 0.
"""

from __future__ import annotations

import ipaddress
import struct
import zlib

from splitmerge.decimals import decimal
from splitmerge.errors import BadInput, shortened

BUCKETS = 1024
"""Hash classes of flows; the low ten bits of the CRC-32 of the key (``HashAlgorithm.crc32`` of v1model)."""

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
_NAMES = {ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMPV6: "icmp6"}
_NUMBERS = {name: number for number, name in _NAMES.items()}

_ETHERTYPE_IPV4 = b"\x08\x00"
_ETHERTYPE_IPV6 = b"\x86\xdd"
_PORTS = struct.Struct("!HH")
_V4_LENGTH, _V6_LENGTH = 13, 37
_IPV6_FRAGMENT = 44


class FlowKey(bytes):
    """Canonical 5-tuple; hashable and comparable as the bytes it is. Build one with `of`, `parse` or `from_frame`."""

    __slots__ = ()

    @classmethod
    def of(cls, protocol: int, src: bytes, src_port: int, dst: bytes, dst_port: int) -> FlowKey:
        """The key of a packet from (src, src_port) to (dst, dst_port).

        Addresses are 4 or 16 bytes, both the same length; ports 0..65535; protocol 0..255.
        :raises BadInput: for any other value.
        """
        if len(src) != len(dst) or len(src) not in (4, 16):
            raise BadInput("flow key", f"addresses of {len(src)} and {len(dst)} bytes", "both 4 or both 16")
        if not (0 <= src_port <= 0xFFFF and 0 <= dst_port <= 0xFFFF and 0 <= protocol <= 0xFF):
            raise BadInput("flow key", f"port or protocol out of range: {src_port}, {dst_port}, {protocol}")
        if (src, src_port) <= (dst, dst_port):
            return cls(src + dst + _PORTS.pack(src_port, dst_port) + bytes((protocol,)))
        return cls(dst + src + _PORTS.pack(dst_port, src_port) + bytes((protocol,)))

    @classmethod
    def from_wire(cls, raw: bytes) -> FlowKey:
        """The key that these 13 or 37 bytes are. :raises BadInput: if they are not one, or not canonical."""
        if (length := len(raw)) not in (_V4_LENGTH, _V6_LENGTH):
            raise BadInput("flow key", f"{length} bytes", "13 for IPv4, 37 for IPv6")
        key, half = cls(raw), (length - 5) // 2
        low, high = key[:half], key[half:-5]
        if low > high or (low == high and key[-5:-3] > key[-3:-1]):  # big-endian, so bytes compare as the ports do
            raise BadInput("flow key", f"endpoints of {key} in the wrong order", "the smaller endpoint goes first")
        return key

    @classmethod
    def parse(cls, text: str) -> FlowKey:
        """The key that ``str(key)`` prints: ``tcp,10.0.1.2:40000,10.0.2.2:80`` or ``udp,[fd00::1]:5,[fd00::2]:6``.

        The protocol may be a number; the endpoints may come in either order.
        :raises BadInput: with the part that is wrong.
        """
        parts = [part.strip() for part in text.split(",")]
        if len(parts) != 3:
            raise BadInput(_where(text), f"{len(parts)} parts", "write protocol,address:port,address:port")
        name = parts[0].lower()
        protocol = _NUMBERS[name] if name in _NUMBERS else decimal(name, 0xFF)
        if protocol is None:
            problem = f"unknown protocol {shortened(parts[0])!r}"
            raise BadInput(_where(text), problem, "tcp, udp, icmp, icmp6 or 0..255")
        (src, src_port), (dst, dst_port) = _endpoint(text, parts[1]), _endpoint(text, parts[2])
        if len(src) != len(dst):
            raise BadInput(_where(text), "an IPv4 and an IPv6 address", "both of one version")
        return cls.of(protocol, src, src_port, dst, dst_port)

    @classmethod
    def from_frame(cls, frame: bytes | memoryview) -> FlowKey | None:
        """The key of an Ethernet frame, as the P4 program computes it; None if it is not IP or is cut short."""
        ethertype = bytes(frame[12:14])
        if ethertype == _ETHERTYPE_IPV4:
            return cls._from_ipv4(bytes(frame[14:82]))  # 60 bytes with all options, and 8 behind them
        if ethertype == _ETHERTYPE_IPV6:
            return cls._from_ipv6(bytes(frame[14:66]))
        return None

    @classmethod
    def _from_ipv4(cls, head: bytes) -> FlowKey | None:
        if len(head) < 20 or head[0] >> 4 != 4 or head[0] & 15 < 5:
            return None
        protocol, start = head[9], (head[0] & 15) * 4
        fragment = bool((head[6] & 0x3F) | head[7])
        ports = (0, 0) if fragment else _ports(protocol, head[start : start + 8])
        return None if ports is None else _keyed(cls, protocol, head[12:16], head[16:20], ports)

    @classmethod
    def _from_ipv6(cls, head: bytes) -> FlowKey | None:
        if len(head) < 40 or head[0] >> 4 != 6:
            return None
        protocol, src, dst = head[6], head[8:24], head[24:40]
        if protocol == _IPV6_FRAGMENT:
            return _keyed(cls, head[40], src, dst, (0, 0)) if len(head) >= 48 else None
        ports = _ports(protocol, head[40:48])
        return None if ports is None else _keyed(cls, protocol, src, dst, ports)

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if len(self) == _V4_LENGTH else 6

    @property
    def protocol(self) -> int:
        """IP protocol number."""
        return self[-1]

    @property
    def low_addr(self) -> bytes:
        """Address of the smaller endpoint: 4 or 16 bytes."""
        return bytes(self[: (len(self) - 5) // 2])

    @property
    def high_addr(self) -> bytes:
        """Address of the larger endpoint: 4 or 16 bytes."""
        return bytes(self[(len(self) - 5) // 2 : -5])

    @property
    def low_port(self) -> int:
        """Port (or ICMP identifier) of the smaller endpoint."""
        return int.from_bytes(self[-5:-3], "big")

    @property
    def high_port(self) -> int:
        """Port (or ICMP identifier) of the larger endpoint."""
        return int.from_bytes(self[-3:-1], "big")

    @property
    def bucket(self) -> int:
        """Hash class 0..1023, the same number as the P4 program's."""
        return zlib.crc32(self) & (BUCKETS - 1)

    def __str__(self) -> str:
        name = _NAMES.get(self.protocol, str(self.protocol))
        return f"{name},{_show(self.low_addr, self.low_port)},{_show(self.high_addr, self.high_port)}"

    def __repr__(self) -> str:
        return f"FlowKey.parse({str(self)!r})"


def _keyed(cls: type[FlowKey], protocol: int, src: bytes, dst: bytes, ports: tuple[int, int]) -> FlowKey:
    src_port, dst_port = ports
    if (src, src_port) <= (dst, dst_port):
        return cls(src + dst + _PORTS.pack(src_port, dst_port) + bytes((protocol,)))
    return cls(dst + src + _PORTS.pack(dst_port, src_port) + bytes((protocol,)))


def _ports(protocol: int, layer4: bytes) -> tuple[int, int] | None:
    """(source, destination) port; (0, 0) for protocols without; None if the header is cut short."""
    if protocol in (TCP, UDP):
        return _PORTS.unpack_from(layer4) if len(layer4) >= 4 else None
    if (protocol == ICMP and layer4[:1] in (b"\x00", b"\x08")) or (
        protocol == ICMPV6 and layer4[:1] in (b"\x80", b"\x81")
    ):
        if len(layer4) < 8:
            return None
        identifier = int.from_bytes(layer4[4:6], "big")
        return identifier, identifier
    return 0, 0


def _where(text: str) -> str:
    return f"flow {shortened(text)!r}"


def _endpoint(text: str, part: str) -> tuple[bytes, int]:
    """``address:port`` or ``[address]:port``: without brackets ``fd00::1:80`` would be an address too.

    A zone (``fe80::1%eth0``) is refused: packets do not have one.
    """
    remedy = "write address:port, for IPv6 [address]:port"
    host, _, port = part.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    number = decimal(port, 0xFFFF)
    if not host:
        raise BadInput(_where(text), f"endpoint {shortened(part)!r} has no port", remedy)
    if ":" in host and not bracketed:
        raise BadInput(_where(text), f"{shortened(part)!r}: the IPv6 address is not in brackets", remedy)
    if number is None:
        raise BadInput(_where(text), f"{shortened(port)!r} is no port", "0 to 65535")
    if "%" in host:
        raise BadInput(_where(text), f"{shortened(host)} has a zone, packets have none", "leave %… out")
    try:
        packed = ipaddress.IPv6Address(host[1:-1]).packed if bracketed else ipaddress.IPv4Address(host).packed
    except ValueError as error:
        raise BadInput(_where(text), shortened(str(error)), remedy) from None
    return packed, number


def _show(address: bytes, port: int) -> str:
    host = ipaddress.ip_address(address)
    return f"{host}:{port}" if host.version == 4 else f"[{host}]:{port}"
