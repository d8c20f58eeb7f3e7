"""Data connections that FTP has announced, where every replica can find them: coherent state.

Where the other side will connect from is not known in full (a server may use any port, a client outside always does).
So the switch cannot be told which replica its first packet should come to. It comes to whichever has its bucket; that
replica pulls everybody's announcements, once for each such packet, and makes the mapping itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

EXPECTED = "alg.expected"
"""Key of the coherent object."""


class Expectation(msgspec.Struct, frozen=True):
    """Who connects from ``remote`` to this external endpoint wants this one inside."""

    outside: bytes
    outside_port: int
    remote: bytes
    inside: bytes
    inside_port: int
    group: str
    until: float
    """Seconds since 1970."""


class Expectations(msgspec.Struct):
    """What one replica has announced, by a name that is the same however often it is announced."""

    entries: dict[bytes, Expectation] = {}
    at: float = 0.0
    """When something was announced here last."""

    def add(self, expectation: Expectation, now: float) -> None:
        """Announce; what has expired goes."""
        self.at = max(self.at, now)
        self.entries = {name: each for name, each in self.entries.items() if each.until > now}
        self.entries[_name(expectation.outside, expectation.outside_port, expectation.remote)] = expectation

    def remove(self, outside: bytes, port: int, remote: bytes) -> None:
        """Nobody is waited for there any more."""
        self.entries.pop(_name(outside, port, remote), None)

    def find(self, outside: bytes, port: int, remote: bytes, now: float) -> Expectation | None:
        """What a connection to this endpoint from this address is for."""
        found = self.entries.get(_name(outside, port, remote))
        return found if found is not None and found.until > now else None


def combine(parts: Sequence[Expectations]) -> Expectations:
    """The combiner: everybody's; of two for one endpoint the younger. Without what had expired when any was written
    last, or what ended replicas had announced would be kept for ever.
    """
    at = max((part.at for part in parts), default=0.0)
    merged: dict[bytes, Expectation] = {}
    for part in parts:
        for name, each in part.entries.items():
            if name not in merged or (merged[name].until, bytes(merged[name].inside)) < (each.until, each.inside):
                merged[name] = each
    return Expectations({name: each for name, each in merged.items() if each.until > at}, at)


def _name(outside: bytes, port: int, remote: bytes) -> bytes:
    return outside + port.to_bytes(2, "big") + remote
