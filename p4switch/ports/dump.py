"""``--dump-packet-data``: the beginning of every frame, in the log."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from p4switch.ports.base import PacketIo, Received, Sent

log = logging.getLogger("p4switch.packet")


class DumpPort:
    """Packet I/O that logs the first ``size`` bytes of what passes, both ways, at INFO."""

    def __init__(self, inner: PacketIo, size: int) -> None:
        self._inner = inner
        self._size = size

    def fileno(self) -> int:
        """As `PacketIo`."""
        return self._inner.fileno()

    def ports(self) -> Mapping[int, str]:
        """As `PacketIo`."""
        return self._inner.ports()

    def receive(self, limit: int) -> list[Received]:
        """As `PacketIo`."""
        received = self._inner.receive(limit)
        for port, frame in received:
            log.info("Received packet of length %d on port %d: %s", len(frame), port, frame[: self._size].hex())
        return received

    def send(self, port: int, frame: bytes) -> Sent:
        """As `PacketIo`."""
        result = self._inner.send(port, frame)
        if result is Sent.YES:
            log.info("Sent packet of length %d on port %d: %s", len(frame), port, frame[: self._size].hex())
        return result

    def drops(self) -> Mapping[str, int]:
        """As `PacketIo`."""
        return self._inner.drops()

    def close(self) -> None:
        """As `PacketIo`."""
        self._inner.close()
