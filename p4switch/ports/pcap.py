"""Pcap files: the format, and dumps of what a port receives and sends, as ``--pcap`` of simple_switch_grpc has them."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from p4switch.errors import PortError
from p4switch.ports.base import PacketIo, Received, Sent

_FILE_HEADER = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1)
_RECORD = struct.Struct("=IIII")
_MAGIC = {
    struct.pack(f"{order}I", magic): (order, unit)
    for order in "<>"
    for magic, unit in ((0xA1B2C3D4, 1000), (0xA1B23C4D, 1))
}
"""The first bytes of a file: its byte order, and nanoseconds in its unit of time."""
_LARGEST_FRAME = 1 << 18


class PcapWriter:
    """A new file for frames. Unbuffered, so that it is whole whenever it is looked at.

    :raises PortError: it cannot be written; names ``flag``.
    """

    def __init__(self, path: Path, flag: str = "--pcap") -> None:
        try:
            self._file: BinaryIO = path.open("wb", buffering=0)
        except OSError as error:
            raise PortError(f"{flag}: cannot write {path}: {error.strerror}") from None
        self._file.write(_FILE_HEADER)

    def write(self, frames: list[bytes]) -> None:
        """Append frames, as of now. :raises OSError: the disk is full, for instance."""
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        microseconds = nanoseconds // 1000
        parts: list[bytes] = []
        for frame in frames:
            parts += (_RECORD.pack(seconds, microseconds, len(frame), len(frame)), frame)
        self._file.write(b"".join(parts))

    def close(self) -> None:
        """Give the file back; again is harmless."""
        self._file.close()


class Record(NamedTuple):
    """A frame of a file. ``whole``: nothing of it was cut off when it was captured."""

    time_ns: int
    frame: bytes
    whole: bool = True


class PcapParser:
    """Records of a file whose bytes come piece by piece: either byte order, micro- or nanoseconds, any link type."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._record: struct.Struct | None = None
        self._unit = 1

    def feed(self, data: bytes) -> None:
        """More bytes of the file."""
        self._bytes += data

    def next(self) -> Record | None:
        """The record that comes next, None while it is not all there. :raises ValueError: this is no pcap file."""
        if self._record is None and not self._begin():
            return None
        record, held = self._record, self._bytes
        assert record is not None
        if len(held) < record.size:
            return None
        seconds, rest, captured, length = record.unpack_from(held)
        if captured > _LARGEST_FRAME:
            raise ValueError(f"a frame of {captured} bytes")
        end = record.size + captured
        if len(held) < end:
            return None
        frame = bytes(held[record.size : end])
        del held[:end]
        return Record(seconds * 10**9 + rest * self._unit, frame, captured == length)

    def _begin(self) -> bool:
        if len(self._bytes) < len(_FILE_HEADER):
            return False
        known = _MAGIC.get(bytes(self._bytes[:4]))
        if known is None:
            raise ValueError(f"it begins with {self._bytes[:4].hex()}, which is no pcap file")
        order, self._unit = known
        self._record = struct.Struct(f"{order}IIII")
        del self._bytes[: len(_FILE_HEADER)]
        return True

    @property
    def rest(self) -> int:
        """Bytes of a record or header that is not all there."""
        return len(self._bytes)


class PcapPort:
    """A single port with dumps of both directions in ``directory``: ``<name>_in.pcap`` and ``<name>_out.pcap``.

    Unbuffered, so that the files are whole whenever they are looked at.
    :raises PortError: the files cannot be written.
    """

    def __init__(self, inner: PacketIo, directory: Path) -> None:
        self._inner = inner
        (name,) = inner.ports().values()
        self._in = PcapWriter(directory / f"{name}_in.pcap")
        self._out = PcapWriter(directory / f"{name}_out.pcap")

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
