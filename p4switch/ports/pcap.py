"""Dumps of what a port receives and sends, one file each way, as simple_switch_grpc's ``--pcap`` makes them."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from p4switch.errors import PortError
from p4switch.ports.base import PacketIo, Received, Sent

_FILE_HEADER = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1)
_RECORD = struct.Struct("=IIII")


class _Dump:
    def __init__(self, path: Path) -> None:
        try:
            self._file: BinaryIO = path.open("wb", buffering=0)
        except OSError as error:
            raise PortError(f"--pcap: cannot write {path}: {error.strerror}") from None
        self._file.write(_FILE_HEADER)

    def write(self, frames: list[bytes]) -> None:
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        microseconds = nanoseconds // 1000
        parts: list[bytes] = []
        for frame in frames:
            parts += (_RECORD.pack(seconds, microseconds, len(frame), len(frame)), frame)
        self._file.write(b"".join(parts))

    def close(self) -> None:
        self._file.close()


class PcapPort:
    """A single port with dumps of both directions in ``directory``: ``<name>_in.pcap`` and ``<name>_out.pcap``.

    Unbuffered, so that the files are whole whenever they are looked at.
    :raises PortError: the files cannot be written.
    """

    def __init__(self, inner: PacketIo, directory: Path) -> None:
        self._inner = inner
        (name,) = inner.ports().values()
        self._in = _Dump(directory / f"{name}_in.pcap")
        self._out = _Dump(directory / f"{name}_out.pcap")

    def fileno(self) -> int:
        """As `PacketIo`."""
        return self._inner.fileno()

    def ports(self) -> Mapping[int, str]:
        """As `PacketIo`."""
        return self._inner.ports()

    def receive(self, limit: int) -> list[Received]:
        """As `PacketIo`."""
        received = self._inner.receive(limit)
        if received:
            self._in.write([frame for _, frame in received])
        return received

    def send(self, port: int, frame: bytes) -> Sent:
        """As `PacketIo`."""
        result = self._inner.send(port, frame)
        if result is Sent.YES:
            self._out.write([frame])
        return result

    def drops(self) -> Mapping[str, int]:
        """As `PacketIo`."""
        return self._inner.drops()

    def close(self) -> None:
        """As `PacketIo`."""
        self._inner.close()
        self._in.close()
        self._out.close()
