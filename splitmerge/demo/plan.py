"""How much the demo does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from splitmerge.errors import BadInput

RATE_MOST = 100_000.0
"""Requests or datagrams a second on one flow: far more than the lab carries."""
SECONDS_MOST = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPlan:
    """The demo's numbers. :raises BadInput: at construction, naming the option."""

    target: Literal["embedded", "bmv2"] = "embedded"
    punt: Literal["packet-in", "ethernet"] = "ethernet"
    topology: str = ""
    """``three-switches``, or a file; empty: one switch. It must have a client, a server and four slots."""
    migrations: int = 120
    """Moves between replicas, at least."""
    connections: int = 8
    """HTTP connections; each is one flow, and every other one attacks once."""
    request_rate: float = 10.0
    """Requests a second on each connection."""
    udp_flows: int = 6
    udp_rate: float = 25.0
    """Datagrams a second on each flow, and as many back."""
    threshold: int = 30
    """The IDS alerts when a flow has more injections than this."""
    seed: int = 1
    seconds: float = 20.0
    """Traffic runs at least this long."""
    limit: float = 55.0
    """Traffic runs at most this long; moves still missing then are a failure."""

    def __post_init__(self) -> None:
        for name in ("migrations", "connections", "udp_flows"):
            if getattr(self, name) < 1:
                raise BadInput(f"--{name.replace('_', '-')}", f"{getattr(self, name)}", "at least 1")
        for name, most in (("request_rate", RATE_MOST), ("udp_rate", RATE_MOST), ("seconds", SECONDS_MOST)):
            if not 0 < getattr(self, name) <= most:
                problem, remedy = f"{getattr(self, name)}", f"more than 0, at most {most:g}"
                raise BadInput(f"--{name.replace('_', '-')}", problem, remedy)
        if self.limit < self.seconds:
            raise BadInput("--limit", f"{self.limit:g} s, less than --seconds {self.seconds:g}", "make it longer")
        if not self.limit <= SECONDS_MOST:
            raise BadInput("--limit", f"{self.limit:g} s", f"at most {SECONDS_MOST:g}")
        if self.threshold < 0:
            raise BadInput("--threshold", f"{self.threshold}", "0 or more")

    @property
    def attackers(self) -> int:
        """Connections that attack."""
        return (self.connections + 1) // 2

    @property
    def attack_length(self) -> int:
        """Injections in a row that an attack is: one more than the threshold, as in §5.1 (31 over 30)."""
        return self.threshold + 1

    @property
    def attack_within(self) -> int:
        """An attack begins within so many requests, so that it ends while flows still move."""
        return max(1, int(self.request_rate * self.seconds) - 2 * self.attack_length)
