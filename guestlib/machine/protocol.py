"""Lines of JSON on a virtio-serial port: what a machine and its agent say; sans-IO."""

from __future__ import annotations

from typing import Any

import msgspec

from splitmerge.errors import WireError

PORT_NAME = "org.splitmerge.agent"
"""Name of the virtio-serial port."""
MAX_LINE = 1024 * 1024
"""Bytes in one line; a longer one is refused before it is stored."""


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Base of what is said."""


class Traffic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The interface that packets come in on; the same in every replica (§3.2)."""

    mac: str
    interface: str = "mb0"
    """Name that it gets."""
    mtu: int = 1500
    addresses: tuple[str, ...] = ()
    """With prefix length: ``10.0.1.1/24``; the guest's kernel answers for them."""
    neighbours: dict[str, str] = {}
    """IP address → MAC: given, not asked for."""


class Booted(_Line, frozen=True, kw_only=True):
    """Guest: the kernel is up."""

    kernel: str


class Prepare(_Line, frozen=True, kw_only=True):
    """Agent: what to do before the snapshot."""

    middlebox: str
    """``package.module:Class``."""
    settings: dict[str, Any] = {}
    replica: dict[str, int | float] = {}
    """Further fields of `guestlib.ReplicaConfig`, by name."""
    traffic: Traffic
    log_level: str = "INFO"


class Prepared(_Line, frozen=True, kw_only=True):
    """Guest: take the snapshot now; it waits for Begin and touches nothing."""


class Failed(_Line, frozen=True, kw_only=True):
    """Guest: what was asked for cannot be done; the machine powers off."""

    reason: str


class Begin(_Line, frozen=True, kw_only=True):
    """Agent: what differs between replicas, right after the restore."""

    replica: int
    control: str
    """Where the orchestrator listens: ``tcp:host:port`` or ``tls:host:port``."""
    peer: str
    """Where this replica listens for its peers."""
    now_ns: int
    """Nanoseconds since 1970: the guest's clock stood still since the snapshot."""
    entropy: bytes
    """Fresh random bytes: all restored machines would draw the same numbers otherwise."""
    control_address: str
    """Of the control interface, with prefix length; IPv4."""
    control_mac: str
    """The control interface's own: every restored machine has the snapshot's."""
    files: dict[str, bytes] = {}
    """Name → content, written to the guest's memory: certificates."""
    incarnation: str = ""


class Begun(_Line, frozen=True, kw_only=True):
    """Guest: the replica runs as this process of the guest's."""

    pid: int


class End(_Line, frozen=True, kw_only=True):
    """Agent: end the replica gently."""


class Ended(_Line, frozen=True, kw_only=True):
    """Guest: the replica has ended; ``exit 0``, ``signal SIGKILL`` …"""

    status: str


Line = Booted | Prepare | Prepared | Failed | Begin | Begun | End | Ended

_decoder = msgspec.json.Decoder(Line)


def encode(line: Line) -> bytes:
    """The bytes of a line."""
    return msgspec.json.encode(line) + b"\n"


class Decoder:
    """Bytes in, lines out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> list[Line]:
        """Every line that is whole now. :raises WireError: for one that is too long or means nothing."""
        self._buffer += data
        *whole, rest = bytes(self._buffer).split(b"\n")
        self._buffer[:] = rest
        if len(rest) > MAX_LINE:
            raise WireError(f"a line of more than {MAX_LINE} bytes")
        return [_parse(line) for line in whole]


def _parse(line: bytes) -> Line:
    try:
        parsed: Line = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"not a line that agent or guest say: {error}") from None
    return parsed
