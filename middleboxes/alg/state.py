"""Partitioned state of the packet modifier: one mapping per flow."""

from __future__ import annotations

import msgspec

from middleboxes.alg.sequence import Shift
from middleboxes.packets import ACK, FIN, RST, SYN


class Ftp(msgspec.Struct):
    """Of a control connection: what was rewritten in each direction."""

    outward: Shift = msgspec.field(default_factory=Shift)
    """What the host inside sends."""
    inward: Shift = msgspec.field(default_factory=Shift)
    """What the host outside sends. Nothing in it is rewritten today; acknowledgements run through it all the same."""


class Mapping(msgspec.Struct):
    """A flow: the endpoint inside, and the one that it appears as. Ports are identifiers for ICMP echo."""

    inside: bytes
    inside_port: int
    outside: bytes
    outside_port: int
    remote: bytes
    remote_port: int
    """The other side's endpoint."""
    group: str = ""
    """Of FTP: the group of the control connection and its data connections."""
    ftp: Ftp | None = None
    """Of an FTP control connection."""
    packets: int = 0
    checked: int = 0
    """``packets`` when the timer looked last: a flow is silent if there were none since."""
    opened: bool = False
    """TCP: both sides have sent."""
    ends: int = 0
    """TCP: who has sent FIN, 1 inside and 2 outside; 3 also after a RST. ICMP and UDP: 0."""
    expected: bool = False
    """Announced by FTP; no packet has come yet."""

    def took(self, flags: int, *, outward: bool) -> bool:
        """Note a TCP segment; whether the connection's stage has changed, and with it its time-out."""
        before = (self.opened, self.ends)
        if flags & RST:
            self.ends = 3
        elif flags & FIN:
            self.ends |= 1 if outward else 2
        if flags & ACK and not flags & SYN and not self.expected:
            self.opened = True
        return before != (self.opened, self.ends)
