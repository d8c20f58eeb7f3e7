"""Fragments (RFC 6146 §3.4): later ones have no ports, so they wait until the first one has come.

All fragments between two hosts have one key, without ports, and so come to one replica, in general another one than
their session's. They are partitioned state of their own, which moves with that key.
"""

from __future__ import annotations

import msgspec

from middleboxes.nat64.session import Path

MOST_DATAGRAMS = 1024
MOST_HELD = 64
"""Bounds of one pair of hosts: datagrams at a time, and fragments waiting of all of them."""


class Datagram(msgspec.Struct):
    """One datagram: where it goes, once known, and the fragments that wait for that."""

    until: float
    """Seconds since 1970."""
    path: Path | None = None
    held: list[bytes] = []


class Pieces(msgspec.Struct):
    """Datagrams between two hosts, by sender and identification."""

    datagrams: dict[bytes, Datagram] = {}

    def of(self, name: bytes, now: float, life: float) -> Datagram | None:
        """The datagram of this name, begun if new; None if there are too many that have not expired."""
        found = self.datagrams.get(name)
        if found is not None and found.until > now:
            return found
        if len(self.datagrams) >= MOST_DATAGRAMS:
            self.datagrams = {key: each for key, each in self.datagrams.items() if each.until > now}
        if len(self.datagrams) >= MOST_DATAGRAMS:
            return None
        found = self.datagrams[name] = Datagram(now + life)
        return found

    def hold(self, datagram: Datagram, packet: bytes) -> bool:
        """Keep a fragment for later; whether there was room."""
        if sum(len(each.held) for each in self.datagrams.values()) >= MOST_HELD:
            return False
        datagram.held.append(packet)
        return True

    @property
    def waiting(self) -> int:
        """Fragments held."""
        return sum(len(each.held) for each in self.datagrams.values())
