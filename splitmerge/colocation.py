"""Ports that bring a second key into a wanted bucket: so a NAT keeps both sides of a flow at one replica.

The bucket of a key is the low ten bits of its CRC-32. A CRC is affine: if two messages of one length differ by ``d``,
their CRCs differ by a linear function of ``d``, which depends on nothing but ``d`` and how many bytes follow it. So the
bucket of a key whose port is not chosen yet is

    bucket(key with port p) = bucket(key with port 0) ^ L(p)

with one 16-to-10-bit linear map ``L`` for each of the two places that a port can have in a key (`splitmerge.flowkey`),
the same for IPv4 and IPv6 since two and four bytes less one follow in both. ``L`` has full rank, so that for every
bucket exactly 64 ports lead there: one port that does, xored with each of the 64 ports that change nothing (the
kernel). Both are small tables, and finding a port is two look-ups. ICMP echo has one identifier in both places: its map
is the xor of the two.

Which place the port takes depends on the order of the endpoints: of the addresses if they differ, else of the ports.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from splitmerge.errors import BadInput
from splitmerge.flowkey import BUCKETS, ICMP, ICMPV6, FlowKey

_LOW, _HIGH, _BOTH = "low", "high", "both"
_FOLLOWING = {_LOW: 3, _HIGH: 1}
"""Bytes of a key behind the port in this place."""
_MASK = BUCKETS - 1


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports that may be chosen, both ends included."""

    first: int = 1024
    last: int = 65535

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.last <= 0xFFFF:
            raise BadInput("ports", f"{self.first} to {self.last}", "1 to 65535, the smaller first")


@dataclass(frozen=True, slots=True)
class Outside:
    """The translated side of a flow but for our port. ``address`` is ours, ``remote`` the other side's: 4 or 16 bytes.

    For ICMP echo the port is the identifier, and ``remote_port`` is ignored.
    """

    address: bytes
    remote: bytes
    remote_port: int
    protocol: int

    def key(self, port: int) -> FlowKey:
        """The translated key with this port. :raises BadInput: if the parts make none."""
        remote_port = port if self.echo else self.remote_port
        return FlowKey.of(self.protocol, self.address, port, self.remote, remote_port)

    @property
    def echo(self) -> bool:
        """Whether one identifier stands for both ports."""
        return self.protocol in (ICMP, ICMPV6)


def ports(outside: Outside, bucket: int, within: PortRange, start: int = 0) -> Iterator[int]:
    """Every port in the range whose translated key is in the bucket, each once.

    ``start`` (any number, a random one makes the choice hard to guess) says which of them comes first.
    :raises BadInput: for a bucket out of range, or addresses and ports that make no key.
    """
    if not 0 <= bucket < BUCKETS:
        raise BadInput("bucket", f"{bucket}", f"0 to {BUCKETS - 1}")
    if outside.echo or outside.address != outside.remote:
        yield from _at(_place(outside), outside, bucket, within, start)
        return
    # Both endpoints have one address: the port itself decides where it stands.
    low = (port for port in _at(_LOW, outside, bucket, within, start) if port <= outside.remote_port)
    high = (port for port in _at(_HIGH, outside, bucket, within, start) if port > outside.remote_port)
    yield from low
    yield from high


def choose(
    outside: Outside, bucket: int, within: PortRange, taken: Callable[[FlowKey], bool], start: int = 0
) -> tuple[int, FlowKey] | None:
    """The first port (and its key) in the range and bucket that is not taken; None if all of them are."""
    for port in ports(outside, bucket, within, start):
        key = outside.key(port)
        if not taken(key):
            return port, key
    return None


def _place(outside: Outside) -> str:
    if outside.echo:
        return _BOTH
    return _LOW if outside.address < outside.remote else _HIGH


def _at(place: str, outside: Outside, bucket: int, within: PortRange, start: int) -> Iterator[int]:
    solver = _solver(place)
    one = solver.one[bucket ^ _bucket_of_zero(place, outside)]
    if one is None:
        return
    count = len(solver.kernel)
    for index in range(count):
        port = one ^ solver.kernel[(start + index) % count]
        if within.first <= port <= within.last:
            yield port


def _bucket_of_zero(place: str, outside: Outside) -> int:
    """The bucket with port 0 in this place (which need not be the place that port 0 would have in a canonical key)."""
    key = outside.key(0)
    if place != _BOTH and outside.address == outside.remote:
        ours, theirs = b"\x00\x00", outside.remote_port.to_bytes(2, "big")
        middle = ours + theirs if place == _LOW else theirs + ours
        key = FlowKey(outside.address * 2 + middle + bytes((outside.protocol,)))
    return key.bucket


@dataclass(frozen=True, slots=True)
class _Solver:
    """``one[difference]``: a port that changes the bucket by this; ``kernel``: all ports that do not change it."""

    one: tuple[int | None, ...]
    kernel: tuple[int, ...]


@cache
def _solver(place: str) -> _Solver:
    effects = [_effect(place, 1 << bit) for bit in range(16)]
    one: list[int | None] = [None] * BUCKETS
    one[0] = 0
    kernel = [0]
    reached = [0]
    for bit, effect in enumerate(effects):
        known = one[effect]
        if known is not None:  # this bit does what lower bits can do too: together they do nothing
            kernel += [port ^ known ^ (1 << bit) for port in kernel]
            continue
        for difference in list(reached):
            port = one[difference]
            assert port is not None
            one[difference ^ effect] = port ^ (1 << bit)
            reached.append(difference ^ effect)
    return _Solver(tuple(one), tuple(kernel))


def _effect(place: str, port: int) -> int:
    """L of the port: by how much it changes the bucket."""
    if place == _BOTH:
        return _effect(_LOW, port) ^ _effect(_HIGH, port)
    tail = bytes(_FOLLOWING[place])
    return (zlib.crc32(port.to_bytes(2, "big") + tail) ^ zlib.crc32(b"\x00\x00" + tail)) & _MASK
