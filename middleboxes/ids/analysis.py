"""What a protocol analyser is. Sans-IO: no clock, no file, no guest library.

One class an analyser. It holds configuration only; all that it knows of a flow is a msgspec Struct that `begin` makes,
that lives in the flow's record, and that may move to another replica between any two bytes. From bytes it makes
`Sign`s: things seen once. How many of them are an attack, the detector decides (`detector.py`).

What is found must depend on the bytes only, never on how they were cut into segments.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec


class Side(enum.IntEnum):
    """Who sent something. As a bit set (1 << side), whose bytes an analyser reads."""

    CLIENT = 0
    SERVER = 1


ONLY_CLIENT, BOTH = 0b01, 0b11


class Sign(NamedTuple):
    """Something suspicious, seen once."""

    kind: str
    """Which of the detector's rules counts it."""
    evidence: str


class Outcome(enum.Enum):
    """Whether the analyser wants more of the flow."""

    GOING = 0
    DONE = 1
    """Nothing that follows can be read, or need be (it is encrypted)."""
    FOREIGN = 2
    """It is another protocol: `Reading.rest` has the client's bytes so far. Only before anything else was found."""


class Reading(NamedTuple):
    """What an analyser made of some bytes."""

    messages: int = 0
    """Requests, commands or messages that ended in them."""
    signs: Sequence[Sign] = ()
    malformed: int = 0
    overflows: int = 0
    """Messages too long to be read whole."""
    outcome: Outcome = Outcome.GOING
    rest: bytes = b""


NOTHING_READ = Reading()
DONE = Reading(outcome=Outcome.DONE)


class Analyser(Protocol):
    """What both kinds have."""

    @property
    def name(self) -> str:
        """As the configuration and alerts have it."""

    @property
    def state(self) -> type[msgspec.Struct]:
        """The type of what is known of a flow."""

    @property
    def ports(self) -> frozenset[int]:
        """Server ports where it is the one to ask first."""

    def begin(self) -> Any:
        """The state of a flow of which nothing was read."""


class StreamAnalyser(Analyser, Protocol):
    """Reads a TCP connection."""

    @property
    def sides(self) -> int:
        """Whose bytes it reads: `ONLY_CLIENT` or `BOTH`."""

    @property
    def first_bytes(self) -> frozenset[int]:
        """On other ports than its own: bytes that a client's stream begins with in this protocol and in no other."""

    def begins(self, payload: bytes, port: int) -> bool:
        """Whether a connection whose start was not seen can be picked up where a segment to this port begins so."""

    def feed(self, state: Any, side: Side, data: bytes) -> Reading:
        """Take the next bytes of one side's stream. Raises nothing."""

    def gap(self, state: Any, side: Side, missing: int) -> Reading:
        """``missing`` bytes of a side's stream are lost for ever. Raises nothing."""


class DatagramAnalyser(Analyser, Protocol):
    """Reads a UDP flow."""

    def datagram(self, state: Any, side: Side, payload: bytes) -> Reading:
        """Take one datagram. Raises nothing."""
