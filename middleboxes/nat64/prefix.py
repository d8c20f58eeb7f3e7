"""IPv4 addresses inside IPv6 addresses (RFC 6052 §2.2).

length  32: prefix v4v4v4v4 u suffix      bits 64 to 71 (u) are zero, and the IPv4 address goes around them
        40: prefix    v4v4v4 u v4 suffix
        96: prefix (with its own u)    v4v4v4v4
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from splitmerge.errors import BadInput

_LENGTHS = (32, 40, 48, 56, 64, 96)
_U = 8
"""The byte that must be zero."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """Pref64: where the IPv4 Internet appears. ``places``: which bytes of an address hold the IPv4 address."""

    head: bytes
    places: tuple[int, ...]

    @classmethod
    def parse(cls, text: str, where: str) -> Prefix:
        """The prefix written like 64:ff9b::/96. :raises BadInput: naming ``where``."""
        try:
            network = ipaddress.IPv6Network(text)
        except ValueError as error:
            raise BadInput(where, str(error), "write a prefix like 64:ff9b::/96") from None
        if network.prefixlen not in _LENGTHS:
            raise BadInput(where, f"a length of {network.prefixlen}", "RFC 6052 has 32, 40, 48, 56, 64 and 96")
        head = network.network_address.packed[: network.prefixlen // 8]
        if len(head) == 12 and head[_U]:
            raise BadInput(where, "bits 64 to 71 are not zero", "RFC 6052 §2.2 wants them so")
        free = [at for at in range(len(head), 16) if at != _U]
        return cls(head, tuple(free[:4]))

    def has(self, address: bytes) -> bool:
        """Whether this IPv6 address stands for an IPv4 address."""
        return address.startswith(self.head)

    def embed(self, address: bytes) -> bytes:
        """The IPv6 address of these four bytes; the suffix is zero."""
        out = bytearray(self.head.ljust(16, b"\0"))
        for place, byte in zip(self.places, address, strict=True):
            out[place] = byte
        return bytes(out)

    def extract(self, address: bytes) -> bytes:
        """The IPv4 address in an address that `has` the prefix; u and the suffix are ignored."""
        return bytes(address[place] for place in self.places)
