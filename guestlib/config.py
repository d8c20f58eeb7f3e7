"""What a replica is told when it starts."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guestlib.coherence.objects import SYNCH, Flags
from guestlib.packets.holds import HOLD_BYTES, HOLD_DEADLINE, HOLD_PACKETS, ROOM_LEAST
from splitmerge.errors import BadInput
from splitmerge.tls import Identity

_UNIX_PATH_LONGEST = 107  # sun_path less its final zero, unix(7)
_HOST_PORT = re.compile(r"\[?(?P<host>[^\]]+)\]?:(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a stream socket listens: a Unix path, or a host and port."""

    path: Path | None
    host: str = ""
    port: int = 0
    tls: bool = False
    """Whether both sides show certificates (`splitmerge.tls`)."""

    @classmethod
    def parse(cls, text: str, where: str = "address") -> Address:
        """``unix:/path``, ``tcp:host:port`` or ``tls:host:port`` (IPv6 hosts in brackets). :raises BadInput:"""
        scheme, _, rest = text.partition(":")
        remedy = "write unix:/path, tcp:host:port or tls:host:port"
        if scheme == "unix" and rest:
            if len(rest.encode()) > _UNIX_PATH_LONGEST:
                raise BadInput(where, f"{text!r} is longer than {_UNIX_PATH_LONGEST} bytes", "use a shorter path")
            return cls(Path(rest))
        match = _HOST_PORT.fullmatch(rest) if scheme in ("tcp", "tls") else None
        if match is None or int(match["port"]) > 0xFFFF:
            raise BadInput(where, f"{text!r} is no address", remedy)
        return cls(None, match["host"], int(match["port"]), scheme == "tls")

    def socket(self) -> socket.socket:
        """A new non-blocking socket of the right family."""
        family = socket.AF_UNIX if self.path else socket.AF_INET6 if ":" in self.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        return sock

    @property
    def target(self) -> str | tuple[str, int]:
        """What ``bind`` and ``connect`` take."""
        return str(self.path) if self.path else (self.host, self.port)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        scheme = "tls" if self.tls else "tcp"
        return f"{scheme}:[{self.host}]:{self.port}" if ":" in self.host else f"{scheme}:{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """One replica. Times are in seconds."""

    replica: int
    """Replica id, 1..65535, never used twice in a lab's life."""
    interface: str
    """Traffic interface, in the process's network namespace."""
    control: str
    """Where the orchestrator listens: ``unix:/path`` or ``tcp:host:port``."""
    peer: str
    """Where this replica listens for its peers; tcp port 0 takes a free one."""
    tls: Identity | None = None
    """Who it is, where control network or peers are ``tls:``."""
    name: str = ""
    """For people; ``replica N`` if empty."""
    incarnation: str = ""
    """Differs between two processes with one replica id; made up if empty."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The middlebox's own configuration: ``guest.config``."""
    batch: int = 64
    """Frames taken from the interface at a time, before control messages and timers get their turn."""
    stats_interval: float = 0.25
    """Between two Stats."""
    pull_deadline: float = 2.0
    """For ``get_shared(key, PULL)``."""
    synch_deadline: float = 5.0
    """For each of ``get_shared(key, SYNCH)`` and ``put_shared(key, SYNCH)``."""
    finish_deadline: float = 5.0
    """For the final pushes, after Finish."""
    term_deadline: float = 2.0
    """For the final pushes, after SIGTERM."""
    hold_packets: int = HOLD_PACKETS
    """Most packets held at a time for flows that are on their way; half of them for one move."""
    hold_bytes: int = HOLD_BYTES
    """Most bytes held at a time, likewise."""
    hold_deadline: float = HOLD_DEADLINE
    """Without progress, before held packets are given up to the middlebox."""

    def waits_for(self, flags: Flags) -> float:
        """Seconds that ``get_shared`` and ``put_shared`` with these flags may take."""
        return self.synch_deadline if flags is SYNCH else self.pull_deadline

    def __post_init__(self) -> None:
        if not 1 <= self.replica <= 0xFFFF:
            raise BadInput("replica", f"{self.replica}", "1 to 65535")
        if not 1 <= self.batch <= 4096:
            raise BadInput("batch", f"{self.batch}", "1 to 4096")
        for name in (
            "stats_interval", "pull_deadline", "synch_deadline", "finish_deadline", "term_deadline", "hold_deadline"
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise BadInput(name, f"{getattr(self, name)}", "more than 0 seconds")
        for name, least in (("hold_packets", ROOM_LEAST.packets), ("hold_bytes", ROOM_LEAST.bytes)):
            room = getattr(self, name)
            if not isinstance(room, int) or room < least:
                raise BadInput(name, f"{room}", f"a whole number, {least} at least")
        for where, text in (("control", self.control), ("peer", self.peer)):
            if Address.parse(text, where).tls and self.tls is None:
                raise BadInput(where, f"{text!r} needs certificates", "give tls: ca, certificate and key")
