"""``--use-files``: each port reads ``<interface>_in.pcap`` and writes ``<interface>_out.pcap``, as in p4c's STF runner.

The frame with the earliest time goes first, of equal ones that of the interface whose name sorts first; so every file
that has not ended must have its next frame before any goes. Files may be FIFOs: they are opened without waiting for
their writers, so those may open them in whatever order.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Mapping
from pathlib import Path

from p4switch.errors import PortError
from p4switch.ports.base import Received, Sent
from p4switch.ports.inbox import Inbox
from p4switch.ports.pcap import PcapParser, PcapWriter, Record

log = logging.getLogger("p4switch")
_PIECE = 1 << 16


class _Source:
    """A file that is read, record by record."""

    def __init__(self, port: int, path: Path) -> None:
        self.port = port
        self.path = path
        self.head: Record | None = None
        self._parser = PcapParser()
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise PortError(f"--use-files: cannot read {path}: {error.strerror}; make the file, or a FIFO") from None

    def advance(self, stop: int) -> bool:
        """Wait for the next record, or until ``stop`` is readable; False if there is none any more.

        :raises ValueError: the file is no pcap file, or ends in the middle of a frame.
        """
        self.head = self._parser.next()
        while self.head is None:
            data = self._read(stop)
            if not data:
                if self._parser.rest:
                    raise ValueError(f"it ends with {self._parser.rest} bytes of what would have been more")
                return False
            self._parser.feed(data)
            self.head = self._parser.next()
        return True

    def _read(self, stop: int) -> bytes:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.register(stop, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if stop in ready:
                return b""
            try:
                return os.read(self._descriptor, _PIECE)
            except BlockingIOError:
                continue  # another reader of the FIFO was faster

    def close(self) -> None:
        os.close(self._descriptor)


class FilePorts:
    """Packet I/O with files in ``directory``. `start` begins to read them, after ``wait`` seconds.

    :param interfaces: names by port.
    :raises PortError: a file cannot be opened.
    """

    def __init__(self, interfaces: Mapping[int, str], directory: Path, wait: float) -> None:
        self._names = dict(interfaces)
        self._wait = wait
        self._inbox = Inbox()
        self._stop = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._counts = {"truncated_in_file": 0, "malformed_file": 0}
        self._sources: list[_Source] = []
        self._writers: dict[int, PcapWriter] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="p4switch-files", daemon=True)
        try:
            for port, name in sorted(interfaces.items(), key=lambda item: item[1]):
                self._sources.append(_Source(port, directory / f"{name}_in.pcap"))
                self._writers[port] = PcapWriter(directory / f"{name}_out.pcap", "--use-files")
        except PortError:
            self.close()
            raise

    def start(self) -> None:
        """Begin to wait, then to read."""
        self._thread.start()

    # -- the reader's thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        if select.select([self._stop], [], [], self._wait)[0]:
            return
        waiting = list(self._sources)
        alive = [source for source in waiting if self._advance(source)]
        while alive:
            source = min(alive, key=_time)  # the first of several with the same time
            record = source.head
            assert record is not None
            if not record.whole:
                self._counts["truncated_in_file"] += 1
            elif not self._inbox.put(Received(source.port, record.frame)):
                return
            if not self._advance(source):
                alive.remove(source)
        log.info("--use-files: all files are read")

    def _advance(self, source: _Source) -> bool:
        try:
            return source.advance(self._stop)
        except (ValueError, OSError) as error:
            self._counts["malformed_file"] += 1
            log.error("--use-files: %s: %s", source.path, error)
            return False

    # -- the data thread's side --------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """As `PacketIo`."""
        return self._inbox.fileno()

    def ports(self) -> Mapping[int, str]:
        """As `PacketIo`."""
        return self._names

    def receive(self, limit: int) -> list[Received]:
        """As `PacketIo`."""
        return self._inbox.take(limit)

    def send(self, port: int, frame: bytes) -> Sent:
        """As `PacketIo`."""
        writer = self._writers.get(port)
        if writer is None:
            return Sent.LATER
        try:
            writer.write([frame])
        except OSError as error:
            log.error("--use-files: %s_out.pcap: %s", self._names[port], error)
            return Sent.LATER
        return Sent.YES

    def drops(self) -> Mapping[str, int]:
        """As `PacketIo`. A file that is malformed counts once, whatever it would have held."""
        return dict(self._counts)

    def close(self) -> None:
        """As `PacketIo`."""
        if self._closed:
            return
        self._closed = True
        self._inbox.close()
        os.eventfd_write(self._stop, 1)
        if self._thread.is_alive():
            self._thread.join()
        for source in self._sources:
            source.close()
        for writer in self._writers.values():
            writer.close()
        os.close(self._stop)


def _time(source: _Source) -> int:
    assert source.head is not None
    return source.head.time_ns
