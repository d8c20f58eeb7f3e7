"""How far a TCP connection is, as far as its time-out depends on it."""

from __future__ import annotations

import msgspec

from middleboxes.packets.datagram import ACK, FIN, RST, SYN


class Stage(msgspec.Struct):
    """Of one connection. Between two sides: the one that opened it, and the other."""

    opened: bool = False
    """An acknowledgement without SYN was seen: the handshake is over, or was before we looked."""
    ends: int = 0
    """Who has sent FIN: 1 the opener, 2 the other; 3 also after a RST."""

    @property
    def closed(self) -> bool:
        """Both sides have ended, or one has reset."""
        return self.ends == 3

    def begins_anew(self, flags: int) -> bool:
        """Whether this segment is another connection's, of the same endpoints (RFC 9293 §3.6.1)."""
        return self.closed and flags & (SYN | ACK) == SYN

    def took(self, flags: int, *, opener: bool) -> bool:
        """Note a segment; whether the stage has changed, and with it the time-out."""
        before = (self.opened, self.ends)
        if self.begins_anew(flags):
            self.opened, self.ends = False, 0
        if flags & RST:
            self.ends = 3
        elif flags & FIN:
            self.ends |= 1 if opener else 2
        if flags & ACK and not flags & SYN:
            self.opened = True
        return before != (self.opened, self.ends)
