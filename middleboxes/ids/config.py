"""Configuration of the intrusion detection system: read before the snapshot and never changed (internal state)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from middleboxes.ids.errors import IdsConfigError

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
_Bytes = Annotated[int, msgspec.Meta(ge=1024, le=16 * 1024 * 1024)]


class IdsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that an operator may set; every value has a unit and a bound."""

    sqli_thresh: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 30
    """A flow alerts when *more* than this many of its requests carried an injection (§4.1; an attack of §5.1 is 31)."""
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
    """Characters of the injection that an alert quotes."""

    @classmethod
    def of(cls, values: Mapping[str, object]) -> IdsConfig:
        """The configuration that these fields make; missing ones have their defaults.

        :raises IdsConfigError: for an unknown field, a wrong type or a value out of bounds.
        """
        try:
            return msgspec.convert(dict(values), cls)
        except msgspec.ValidationError as error:
            known = ", ".join(cls.__struct_fields__)
            raise IdsConfigError("middlebox ids", str(error), f"fields: {known}") from None
