"""Partitioned state of the packet modifier: one mapping per flow."""

from __future__ import annotations

import msgspec

from middleboxes.alg.sequence import Gap, Shift
from middleboxes.packets import Stage


class Ftp(msgspec.Struct):
    """Of a control connection: what was rewritten in each direction."""

    outward: Shift = msgspec.field(default_factory=Shift)
    """What the host inside sends."""
    inward: Shift = msgspec.field(default_factory=Shift)
    """What the host outside sends. Nothing in it is rewritten today; acknowledgements run through it all the same."""
    gap: Gap = msgspec.field(default_factory=Gap)
    """What was dropped of what the host inside sends, in its numbers."""
    waits: bytes = b""
    """Key of the data connection that was announced last, until the switch knows it: what the host inside sends from
    the announcement on waits for that."""
    announced: bytes = b""
    """Key of the data connection that was announced last."""
    refused: int = 0
    """Where, in the numbers of the host inside, an announcement begins whose port another connection has."""
    refused_at: float = 0.0
    """When that was found, for the first time; seconds since 1970, 0: there is none."""
    vain: bool = False
    """It was still so after `gateway.CONFLICT` seconds."""


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
    stage: Stage = msgspec.field(default_factory=Stage)
    """Of TCP; its opener here is the side inside."""
    expected: bool = False
    """Announced by FTP; no packet has come yet."""
    control: bytes = b""
    """Of one that FTP announced: a key of the control connection."""

    def gives_way(self, *, listens: bool) -> bool:
        """Whether a new connection may have its key: this one has ended, but for its time-out.

        ``listens``: the host inside listens on that port again. So what was announced and never came has ended, too.
        """
        return self.stage.closed or (listens and not self.stage.opened)
