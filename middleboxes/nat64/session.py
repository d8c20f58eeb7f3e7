"""Partitioned state: a session, found by its IPv6 and its IPv4 key; and TCP's states (RFC 6146 §3.5.2.2), as a table.

(none)  --SYN 6→--> V6_INIT --SYN 4→--> ESTABLISHED --FIN--> V4_FIN or V6_FIN --other FIN--> BOTH_FIN
(none)  --SYN 4→--> V4_INIT --SYN 6→------^    | RST, or silence: a probe is sent
                                               v
                             ESTABLISHED <-- TRANS   (any packet but RST)
"""

from __future__ import annotations

import msgspec

from middleboxes.nat64.translate import Ends
from middleboxes.packets import FIN, RST, SYN

V4_INIT, V6_INIT, ESTABLISHED, V4_FIN, V6_FIN, BOTH_FIN, TRANS = range(7)
STATES = ("V4 INIT", "V6 INIT", "ESTABLISHED", "V4 FIN RCV", "V6 FIN RCV", "V4 FIN + V6 FIN RCV", "TRANS")

_EST, _TRANSITORY, _SAME = "established", "transitory", ""
"""What the lifetime becomes; the last: it runs on."""
_OTHER = 0
_KINDS = (RST, SYN, FIN)

_TABLE: dict[tuple[int, int, int], tuple[int, str]] = {
    (V4_INIT, 6, SYN): (ESTABLISHED, _EST),
    (V4_INIT, 4, SYN): (V4_INIT, _TRANSITORY),
    (V6_INIT, 4, SYN): (ESTABLISHED, _EST),
    (V6_INIT, 6, SYN): (V6_INIT, _TRANSITORY),
    (ESTABLISHED, 4, FIN): (V4_FIN, _EST),
    (ESTABLISHED, 6, FIN): (V6_FIN, _EST),
    (V4_FIN, 6, FIN): (BOTH_FIN, _TRANSITORY),
    (V6_FIN, 4, FIN): (BOTH_FIN, _TRANSITORY),
}
_TABLE |= {(ESTABLISHED, side, RST): (TRANS, _TRANSITORY) for side in (4, 6)}
_TABLE |= {(ESTABLISHED, side, kind): (ESTABLISHED, _EST) for side in (4, 6) for kind in (SYN, _OTHER)}
_TABLE |= {(TRANS, side, kind): (ESTABLISHED, _EST) for side in (4, 6) for kind in (SYN, FIN, _OTHER)}
_TABLE |= {
    (state, side, kind): (state, _EST)
    for state, side, kind in ((s, v, k) for s in (V4_FIN, V6_FIN) for v in (4, 6) for k in (SYN, FIN, RST, _OTHER))
    if (state, side, kind) not in _TABLE
}


def advance(state: int, side: int, flags: int) -> tuple[int, str]:
    """The state after a segment from the IPv4 or IPv6 side (4, 6), and which lifetime begins (empty: none)."""
    kind = next((each for each in _KINDS if flags & each), _OTHER)
    return _TABLE.get((state, side, kind), (state, _SAME))


class Path(msgspec.Struct, frozen=True):
    """Both sides' names of one conversation. Of ICMP, ports are identifiers: inside IPv6's, outside IPv4's."""

    inside: bytes
    inside_port: int
    outside: bytes
    outside_port: int
    remote: bytes
    """IPv4 address of the other side."""
    remote_port: int
    echo: bool = False
    """ICMP: ``remote_port`` is nothing, the identifier stands for both ports."""

    @property
    def far4(self) -> int:
        """The other side's port in IPv4."""
        return self.outside_port if self.echo else self.remote_port

    @property
    def far6(self) -> int:
        """The other side's port in IPv6."""
        return self.inside_port if self.echo else self.remote_port

    def to_remote(self) -> Ends:
        """IPv4 endpoints of a packet from the host inside."""
        return Ends(self.outside, self.outside_port, self.remote, self.far4)

    def from_remote(self) -> Ends:
        """IPv4 endpoints of a packet of the other side."""
        return Ends(self.remote, self.far4, self.outside, self.outside_port)

    def to_inside(self, remote6: bytes) -> Ends:
        """IPv6 endpoints of a packet to the host inside; ``remote6`` is the other side's address."""
        return Ends(remote6, self.far6, self.inside, self.inside_port)

    def from_inside(self, remote6: bytes) -> Ends:
        """IPv6 endpoints of a packet of the host inside."""
        return Ends(self.inside, self.inside_port, remote6, self.far6)


class Turn(msgspec.Struct):
    """What a session has besides if it turns round here: see `hairpin`."""

    path: Path
    """The other host's: `Session.path` is the opener's."""
    sent: int = 0
    """Who of the two has sent, as `hairpin`'s bits."""


class Session(msgspec.Struct):
    """One entry of the session table (§3.1.2 and 3.1.3 of RFC 6146)."""

    path: Path
    protocol: int
    """IPv4's number: TCP, UDP or ICMP."""
    state: int = 0
    """Of TCP: see above."""
    told: float = 0.0
    """Until when the binding is in the coherent table, in seconds since 1970."""
    turn: Turn | None = None
    """If both ends are inside."""
    syn: bytes = b""
    """V4 INIT: the IPv4 packet that began it, while it is held; no packet of the session passes then."""
