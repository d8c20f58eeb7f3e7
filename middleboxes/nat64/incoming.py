"""TCP connections from outside that the filter does not let in, or for a port that nobody has (RFC 6146 §3.5.2.2).

Perhaps the host inside is about to begin the same connection (simultaneous open). So the SYN is held, and its sender
told that nobody listens only if no SYN has come from inside in time. Of a port that is bound both keys of the session
are known, and it is a `Session` in V4 INIT; of another only the IPv4 one, and it is a `Stranger`. Both are flows, which
move with what they hold and the time that is left.
"""

from __future__ import annotations

from collections import deque

import msgspec

from guestlib import FlowExists, Guest
from middleboxes.nat64 import build
from middleboxes.nat64.errors import Untranslatable
from middleboxes.nat64.parsed import Parsed, parse
from middleboxes.nat64.session import V4_INIT, Path, Session
from splitmerge.flowkey import TCP, FlowKey

INCOMING = "nat64.incoming"
"""Timer: of a SYN that is held."""


class Stranger(msgspec.Struct):
    """A SYN to an external port that nobody had when it came."""

    syn: bytes
    """The beginning of the IPv4 packet: what an ICMP error quotes."""


class Incoming:
    """How many SYNs one replica lets wait: ``most`` in every ``life`` seconds, however they go on or move."""

    def __init__(self, life: float, most: int) -> None:
        self._life, self._most = life, most
        self._admitted: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Whether there is room for one more."""
        while self._admitted and self._admitted[0] <= now - self._life:
            self._admitted.popleft()
        if len(self._admitted) >= self._most:
            return False
        self._admitted.append(now)
        return True

    def hold(self, guest: Guest, key: FlowKey, data: Parsed, session: tuple[Path, FlowKey] | None) -> None:
        """Keep a SYN until the host inside sends one too, or time is up.

        ``session``: its path and its key inside, if the port is bound: with both keys the host's SYN comes to this
        replica, wherever the session is then. :raises Untranslatable: ``syn_overflow``, ``conflict``.
        """
        if not self.admit(guest.now):
            raise Untranslatable("syn_overflow")
        syn = data.raw[: build.QUOTED4]
        if session is None:
            guest.create_flow(key, Stranger(syn))
        else:
            path, second = session
            try:
                guest.create_flow(key, Session(path, TCP, V4_INIT, syn=syn), aliases=[second])
            except FlowExists:
                raise Untranslatable("conflict") from None
        guest.flow_timer(key, self._life, INCOMING)
        guest.figures["syns_held"] = guest.figures.get("syns_held", 0) + 1


def met(guest: Guest, key: FlowKey, held: Session) -> None:
    """Both sides want this session: the SYN that is held is dropped silently."""
    held.syn = b""
    guest.cancel_timer(key, INCOMING)


def overdue(guest: Guest, key: FlowKey) -> Parsed:
    """Time is up: the SYN, which is held no longer."""
    with guest.flow(key) as held:
        syn = parse(held.syn, cut=True)
        guest.delete_flow(key)
    return syn


def is_stranger(guest: Guest, key: FlowKey) -> bool:
    """Whether what has this key is a SYN for a port that nobody had."""
    if not guest.has_flow(key):
        return False
    with guest.flow(key) as state:
        return isinstance(state, Stranger)
