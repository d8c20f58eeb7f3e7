"""Health checks: connections that the balancer itself opens, as flows of the guest library.

A check is a flow like any other: it has state, a timer that begins the next look, and a key whose packets are steered
to the replica that has it (`expected`). Segments are made and read here; no kernel takes part.

    SYN → SYN and ACK: the port accepts (``tcp``), RST
                       ACK with GET → a status line (``http``), RST
    RST, or nothing until the next look: a failure
"""

from __future__ import annotations

import struct

from middleboxes.adc.config import Health
from middleboxes.adc.state import Check, Phase
from middleboxes.packets import ACK, PSH, RST, SYN, Datagram, checksum, transport_checksum
from splitmerge.flowkey import TCP

_MACS = bytes.fromhex("0200000000fe0200000000fe")
"""The switch sets both on the way out."""
_TTL = 64
_WINDOW = 8192


def segment(
    source: bytes, port: int, to: bytes, to_port: int, flags: int, sequence: int, ack: int, data: bytes
) -> bytes:
    """An Ethernet frame with one TCP segment."""
    tcp = struct.pack("!HHIIBBHHH", port, to_port, sequence % 2**32, ack % 2**32, 5 << 4, flags, _WINDOW, 0, 0) + data
    tcp = tcp[:16] + transport_checksum(source, to, TCP, tcp).to_bytes(2, "big") + tcp[18:]
    if len(source) == 16:
        header = struct.pack("!IHBB", 6 << 28, len(tcp), TCP, _TTL) + source + to
        return _MACS + b"\x86\xdd" + header + tcp
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, _TTL, TCP, 0) + source + to
    header = header[:10] + checksum(header).to_bytes(2, "big") + header[12:]
    return _MACS + b"\x08\x00" + header + tcp


class Prober:
    """Looks of one kind. ``own`` is the source address of each version, by its length."""

    def __init__(self, health: Health, own: bytes, server: bytes, port: int, host: str) -> None:
        self._health = health
        self._own, self._server, self._port = own, server, port
        self._get = f"GET {health.path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: splitmerge-adc\r\n\r\n".encode()

    def begin(self, check: Check) -> bytes:
        """Judge the last look (one that has not ended has failed), and begin the next: the frame to send."""
        if check.phase is not Phase.IDLE:
            self._failed(check)
        check.phase = Phase.CONNECTING
        check.sequence = (check.sequence + 100_003) % 2**32
        return self._frame(check, SYN, check.sequence, 0)

    def take(self, check: Check, data: Datagram) -> list[bytes]:
        """A segment from the server: frames to send."""
        flags, begun = data.flags, check.sequence + 1
        if flags & RST:
            if check.phase is not Phase.IDLE:
                self._failed(check)
                check.phase = Phase.IDLE
            return []
        if check.phase is Phase.CONNECTING and flags & (SYN | ACK) == SYN | ACK:
            if data.acknowledgement != begun % 2**32:
                return [self._frame(check, RST, data.acknowledgement, 0)]
            if self._health.kind == "tcp":
                self._passed(check)
                return [self._frame(check, RST | ACK, begun, data.sequence + 1)]
            check.phase = Phase.ASKING
            return [self._frame(check, ACK | PSH, begun, data.sequence + 1, self._get)]
        if check.phase is Phase.ASKING and data.payload:
            self._judge(check, data.payload)
            return [self._frame(check, RST | ACK, begun + len(self._get), data.sequence + len(data.payload))]
        if check.phase is Phase.IDLE and flags & ACK and data.payload:  # the rest of an answer
            return [self._frame(check, RST, data.acknowledgement, 0)]
        return []

    def _judge(self, check: Check, payload: bytes) -> None:
        words = payload.split(b" ", 2)
        good = words[0].startswith(b"HTTP/") and len(words) > 1 and words[1][:1] in (b"1", b"2", b"3")
        if good:
            self._passed(check)
        else:
            self._failed(check)
            check.phase = Phase.IDLE

    def _passed(self, check: Check) -> None:
        check.phase = Phase.IDLE
        check.failures = 0
        check.successes += 1
        if check.successes >= self._health.rises:
            check.up = True

    def _failed(self, check: Check) -> None:
        check.successes = 0
        check.failures += 1
        if check.failures >= self._health.falls:
            check.up = False

    def _frame(self, check: Check, flags: int, sequence: int, ack: int, data: bytes = b"") -> bytes:
        return segment(self._own, check.port, self._server, self._port, flags, sequence, ack, data)
