"""The binding information base (RFC 6146 §3.1): which external endpoint stands for which endpoint inside.

Sessions of one binding are at several replicas: the switch places each by its own key. Two things make them agree:

- the external endpoint is *derived* from the one inside (`candidates`), so that every replica finds the same one
  without asking anybody;
- what is bound is coherent state, so that a replica that meets a packet with no session (from a new remote, a fragment,
  an ICMP error) can pull it.

Of two endpoints inside with one candidate, the second takes its next one where that is known, else, and only if both
talk to one remote endpoint, where the switch's entry is refused (`guestlib.Guest.on_refused`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence

import msgspec

from guestlib import PULL, Guest
from splitmerge.colocation import PortRange
from splitmerge.errors import SplitmergeError

logger = logging.getLogger("middleboxes.nat64")

BIB = "nat64.bib"
"""Key of the coherent object."""
CANDIDATES = 16
PULL_INTERVAL = 0.05
"""Seconds between two pulls: a port scan must not keep the replicas busy."""
_SPARE = 64
"""Entries above twice the living ones at which the dead are looked for."""


class Binding(msgspec.Struct, frozen=True):
    """Whose external endpoint it is, and until when for sure (seconds since 1970)."""

    inside: bytes
    inside_port: int
    until: float


class Bib(msgspec.Struct):
    """What one replica has bound, by `name`."""

    entries: dict[bytes, Binding] = {}
    prune_at: int = _SPARE
    at: float = 0.0
    """When something was bound here last."""

    def add(self, key: bytes, binding: Binding, now: float) -> None:
        """Bind, or bind for longer; what has expired goes, now and then."""
        self.entries[key], self.at = binding, max(self.at, now)
        if len(self.entries) > self.prune_at:
            self.entries = {key: each for key, each in self.entries.items() if each.until > now}
            self.prune_at = 2 * len(self.entries) + _SPARE


def combine(parts: Sequence[Bib]) -> Bib:
    """The combiner: everybody's; of two for one external endpoint the one that lives longer.

    What had expired when any of them was written last is in none of them, or what ended replicas had bound would be
    kept for ever. Bindings are told of for a lifetime more than they need, so clocks may differ by that.
    """
    merged: dict[bytes, Binding] = {}
    at = max((part.at for part in parts), default=0.0)
    for part in parts:
        for key, each in part.entries.items():
            other = merged.get(key)
            if other is None or (other.until, other.inside, other.inside_port) < (
                each.until, each.inside, each.inside_port,
            ):  # fmt: skip
                merged[key] = each
    living = {key: each for key, each in merged.items() if each.until > at}
    return Bib(living, max((part.prune_at for part in parts), default=_SPARE), at)


def name(protocol: int, outside: bytes, port: int) -> bytes:
    """Of an external endpoint. ``protocol`` is IPv4's number."""
    return bytes((protocol,)) + outside + port.to_bytes(2, "big")


def allowed(external: bytes, remote: bytes) -> bytes:
    """The name under which it stands that an external endpoint has sent to a remote address, from whatever session."""
    return external + remote


def candidates(
    secret: bytes, protocol: int, inside: bytes, port: int, pool: Sequence[bytes], ports: PortRange
) -> Iterator[tuple[bytes, int]]:
    """External endpoints for one inside, best first; the same whoever asks."""
    seed = bytes((protocol,)) + inside + port.to_bytes(2, "big")
    span = ports.last - ports.first + 1
    for number in range(CANDIDATES):
        digest = hashlib.blake2b(seed + bytes((number,)), key=secret, digest_size=8).digest()
        value = int.from_bytes(digest, "big")
        yield pool[value % len(pool)], ports.first + (value >> 16) % span


class Bindings:
    """The coherent table as one replica uses it. Times are seconds since 1970."""

    def __init__(self) -> None:
        self._pulled = Bib()
        self._pull_at = 0.0

    def add(self, guest: Guest, key: bytes, binding: Binding, now: float) -> None:
        """Tell everybody who asks."""
        mine: Bib = guest.get_shared(BIB)
        mine.add(key, binding, now)
        guest.put_shared(BIB)

    def known(self, guest: Guest, key: bytes, now: float) -> Binding | None:
        """What is bound here, or was elsewhere when that was asked last."""
        mine: Bib = guest.get_shared(BIB)
        found = mine.entries.get(key)
        guest.put_shared(BIB)
        if found is None or found.until <= now:
            found = self._pulled.entries.get(key)
        return found if found is not None and found.until > now else None

    def find(self, guest: Guest, key: bytes, now: float) -> Binding | None:
        """The same, asking the other replicas if it is not known here."""
        found = self.known(guest, key, now)
        return self.known(guest, key, now) if found is None and self.pull(guest) else found

    def pull(self, guest: Guest) -> bool:
        """Ask the other replicas; whether that was done. At most every `PULL_INTERVAL`: what is asked in between, and
        is not known, is dropped and counted.
        """
        if guest.now < self._pull_at:
            guest.figures["bib_not_asked"] = guest.figures.get("bib_not_asked", 0) + 1
            return False
        self._pull_at = guest.now + PULL_INTERVAL
        try:
            everybodys: Bib = guest.get_shared(BIB, PULL)
        except SplitmergeError as error:
            logger.warning("bindings cannot be asked for: %s", error)
            return False
        self._pulled = Bib(dict(everybodys.entries))
        guest.put_shared(BIB)
        return True
