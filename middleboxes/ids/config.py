"""Configuration of the intrusion detection system: read before the snapshot and never changed (internal state)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

import msgspec

from guestlib import configure
from middleboxes.ids.errors import IdsConfigError
from splitmerge.errors import BadInput

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
_Threshold = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
_Name = Annotated[str, msgspec.Meta(pattern="[^.]", max_length=255)]
_Bytes = Annotated[int, msgspec.Meta(ge=1024, le=16 * 1024 * 1024)]


class IdsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that an operator may set; every value has a unit and a bound."""

    sqli_thresh: _Threshold = 30
    """A flow alerts when *more* than this many of its requests carried an injection (§4.1; an attack of §5.1 is 31)."""
    client_sqli_thresh: _Threshold | None = None
    """The same for all connections of one client together, over all replicas. Thresholds called ``client_…`` count what
    came within `window`; null is none."""
    login_thresh: _Threshold | None = 5
    """Logins on one FTP connection that failed."""
    client_login_thresh: _Threshold | None = 20
    client_nxdomain_thresh: _Threshold | None = 100
    """Names that a client asked DNS for and that do not exist."""
    client_tunnel_thresh: _Threshold | None = 50
    """Names that a client asked DNS for and that look like data."""
    client_scan_thresh: _Threshold | None = 50
    """Connections of a client that were refused, or that nobody answered."""
    tunnel_label: Annotated[int, msgspec.Meta(ge=8, le=63)] = 32
    """Characters of a DNS label that may be data; shorter ones are not looked at."""
    tls_names: tuple[_Name, ...] = ()
    """Servers that TLS clients must not ask for; their subdomains too."""
    tls_oldest: Literal["3.0", "1.0", "1.1", "1.2", "1.3"] = "1.2"
    """The oldest version of TLS (3.0: of SSL) that does not alert."""
    window: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 60.0
    """Seconds over which a client's signs are added up (from one to two of them, see `tally`)."""
    refresh: Annotated[float, msgspec.Meta(ge=0.05, le=60)] = 1.0
    """Seconds after a sign at which the other replicas are asked for theirs."""
    most_clients: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    """Clients with signs that a replica counts within one window."""
    analysers: tuple[Literal["dns", "ftp", "http", "tls"], ...] = ("dns", "ftp", "http", "tls")
    """Protocols to be read; without ``http`` what is nothing else's is not read."""
    dns_ports: tuple[_Port, ...] = (53,)
    """Server ports where DNS is read, over UDP and TCP."""
    ftp_ports: tuple[_Port, ...] = (21,)
    """Server ports where FTP is read."""
    alerts: str = "alerts.jsonl"
    """File that alerts are appended to, one JSON object a line. Created when the first one is written."""
    tcp_idle: _Seconds = 300.0
    """Seconds without a packet after which a connection is forgotten (at the latest after twice that)."""
    udp_idle: _Seconds = 60.0
    """The same for a UDP flow."""
    handshake: _Seconds = 30.0
    """The same for a connection whose handshake is not complete."""
    linger: _Seconds = 2.0
    """Seconds that a closed or reset connection is kept for late packets."""
    reassembly_bytes: _Bytes = 256 * 1024
    """Out-of-order payload kept for one flow; beyond it the missing bytes are given up and counted as a gap."""
    reassembly_segments: Annotated[int, msgspec.Meta(ge=8, le=65_536)] = 512
    """Out-of-order segments kept for one flow."""
    max_head: _Bytes = 16 * 1024
    """Bytes of a request line with its header fields; a longer one is inspected so far and counted as an overflow."""
    max_body: _Bytes = 64 * 1024
    """Bytes of a body that are inspected; the rest is skipped and the request counted as an overflow."""
    max_parameters: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000
    """Parameters inspected in one request; if there are more, the rest is inspected as one value."""
    sample_chars: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 160
    """Characters of its evidence that an alert quotes."""

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """The configuration that these fields make; missing ones have their defaults.

        :raises IdsConfigError: for an unknown field, a wrong type or a value out of bounds.
        """
        try:
            return configure(cls, values, "middlebox ids")
        except BadInput as error:
            raise IdsConfigError(error.where, error.problem, error.remedy) from None
