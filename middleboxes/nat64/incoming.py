"""TCP connections from outside that the filter does not let in, or for a port that nobody has (RFC 6146 §3.5.2.2).

Perhaps the host inside is about to begin the same connection (simultaneous open). So the SYN is held, and its sender
told that nobody listens only if no SYN has come from inside in time. Of a port that is bound both keys of the session
are known, and it is a `Session` in V4 INIT; of another only the IPv4 one, and it is a `Stranger`. Both are flows, which
move with what they hold and the time that is left.
"""

from __future__ import annotations

from collections import deque

import msgspec


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
