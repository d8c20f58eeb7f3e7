"""The controller behind a punt port: a client whose packet-ins and packet-outs are Ethernet frames on a switch port."""

from __future__ import annotations

import queue
import struct
from dataclasses import dataclass
from typing import Any

from client import DEADLINE, Client
from ptf import testutils

from p4src import ETHERTYPE_PUNT

TO_CONTROLLER, TO_SWITCH = bytes.fromhex("02534d000001"), bytes.fromhex("02534d000002")
ETHERTYPE = struct.pack("!H", ETHERTYPE_PUNT)
_IN = struct.Struct("!HBBBHH16s16sHH")
_OUT = struct.Struct("!HBII")
_FIELDS = ("reason", "version", "protocol", "bucket", "replica", "low_addr", "high_addr", "low_port", "high_port")


@dataclass(frozen=True, slots=True)
class PuntedIn:
    """A packet-in, in finsy's terms."""

    payload: bytes
    metadata: dict[str, int]


def packet_in_frame(payload: bytes, port: int, **fields: int) -> bytes:
    """The frame that a packet-in is on the punt port's wire; fields that are not given are 0."""
    values = dict.fromkeys(_FIELDS, 0) | fields
    for name in ("low_addr", "high_addr"):
        values[name] = values[name].to_bytes(16, "big")  # type: ignore[assignment]
    header = _IN.pack(port << 7, *(values[name] for name in _FIELDS))
    return TO_CONTROLLER + TO_SWITCH + ETHERTYPE + header + payload


def packet_out_frame(
    payload: bytes, *, egress_port: int = 0, kind: int = 0, epoch: int = 0, sequence: int = 0
) -> bytes:
    """The frame that a packet-out is."""
    header = _OUT.pack(egress_port << 7, kind, epoch, sequence)
    return TO_SWITCH + TO_CONTROLLER + ETHERTYPE + header + payload


class PuntClient:
    """Writes through a client of P4Runtime, and talks through the punt port."""

    def __init__(self, client: Client, test: Any, port: int) -> None:
        self._client = client
        self._test = test
        self._port = port

    def packet_out(self, payload: bytes, **metadata: int) -> None:
        """As `Client.packet_out`."""
        testutils.send_packet(self._test, self._port, packet_out_frame(payload, **metadata))

    def packet_in(self, deadline: float = DEADLINE) -> PuntedIn:
        """As `Client.packet_in`."""
        result = testutils.dp_poll(self._test, port_number=self._port, timeout=deadline)
        if not isinstance(result, self._test.dataplane.PollSuccess):
            raise queue.Empty
        frame = result.packet
        assert frame[:14] == TO_CONTROLLER + TO_SWITCH + ETHERTYPE, f"no punt frame: {frame.hex()}"
        port, *values = _IN.unpack_from(frame, 14)
        fields = dict(zip(_FIELDS, values, strict=True))
        fields |= {name: int.from_bytes(fields[name], "big") for name in ("low_addr", "high_addr")}
        return PuntedIn(frame[14 + _IN.size :], {"ingress_port": port >> 7, "_pad": port & 0x7F, **fields})

    def has_packet_in(self) -> bool:
        """As `Client.has_packet_in`."""
        result = testutils.dp_poll(self._test, port_number=self._port, timeout=0.01)
        return isinstance(result, self._test.dataplane.PollSuccess)

    def __getattr__(self, name: str) -> Any:
        """Tables are P4Runtime's."""
        return getattr(self._client, name)
