"""The punt port: packet-ins and packet-outs as Ethernet frames on an interface of this host.

The interface is wired to a port of the switch (in the lab a veth pair), as a hardware switch's CPU port is to its
host. Frames wait in a memory-mapped ring that the kernel fills (`splitmerge.linux.afpacket`), are taken from it a
bounded batch at a time, so that everything else on the event loop has its turn, and are sent in batches. What the
kernel could not keep is counted: in the ring (the loop was busy for too long), and on the link in front of it.

When the interface goes away (link down, deleted), operations under way fail as they do when the switch is lost, and it
is opened again as soon as it can be.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from p4rt_controller.errors import SwitchUnavailable
from p4rt_controller.frames import HEAD, FrameCodec
from p4rt_controller.intake import Intake
from p4rt_controller.options import PuntPort
from splitmerge.errors import BadInput
from splitmerge.linux.afpacket import PacketSocket
from splitmerge.tag import TagKind

_logger = logging.getLogger(__name__)
_BATCH = 256
"""Frames taken before other tasks have their turn: about half a millisecond."""
_SEND_BATCH = 64
_OUTBOUND = 65_536
"""Frames that may wait to be sent; callers' windows keep far below."""
_REOPEN = 0.2
"""Seconds between two attempts to open an interface that went away."""
_WATCH = 1.0
"""Seconds between two looks at the drop counts."""


@dataclass(frozen=True, slots=True)
class PuntCounts:
    """Frames lost on the controller's side of the punt port, since the start."""

    ring: int = 0
    """The receive ring was full: the event loop did not come back in time."""
    link: int = 0
    """Dropped by the kernel on the interface, before the ring."""
    truncated: int = 0
    """Longer than the interface's MTU said they could be."""
    refused: int = 0
    """Sent, and not taken by the kernel; or too many waiting to be sent."""

    def __add__(self, other: PuntCounts) -> PuntCounts:
        return PuntCounts(
            self.ring + other.ring,
            self.link + other.link,
            self.truncated + other.truncated,
            self.refused + other.refused,
        )


class PuntPath:
    """`PacketPath` over a punt port.

    ``took`` is told the number of packets of each batch that went the short way; ``broken`` when the interface is gone.
    """

    def __init__(
        self,
        port: PuntPort,
        codec: FrameCodec,
        intake: Intake,
        took: Callable[[int], None],
        broken: Callable[[str], None],
    ) -> None:
        self._port = port
        self._codec = codec
        self._intake = intake
        self._took = took
        self._broken = broken
        self._socket: PacketSocket | None = None
        self._outbound: deque[bytes] = deque()
        self._flushing = False
        self._gone: asyncio.Event = asyncio.Event()
        self._past = PuntCounts()
        self._overflow = 0
        self._link_drops = 0

    # -- life ----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to receive. :raises BadInput: if there is no such interface, or it may not be opened."""
        self._socket = PacketSocket(self._port.interface, ring_bytes=self._port.ring_bytes)
        self._link_drops = _link_drops(self._port.interface)
        self._gone.clear()
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        """Stop; again is harmless."""
        if self._socket is None:
            return
        self._past = self.counts()
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._socket = None
        self._outbound.clear()
        self._flushing = False

    async def run(self) -> None:
        """Open the interface again whenever it has gone away, and say so when frames are lost; until cancelled."""
        while True:
            lost = self.counts()
            try:
                async with asyncio.timeout(_WATCH):
                    await self._gone.wait()
                await self._reopen()
            except TimeoutError:
                self._complain(lost)

    async def _reopen(self) -> None:
        while self._socket is None:
            try:
                self.open()
            except BadInput as error:
                _logger.debug("%s", error)
                await asyncio.sleep(_REOPEN)
        _logger.warning("punt port %s is there again", self._port.interface)

    def _complain(self, before: PuntCounts) -> None:
        now = self.counts()
        if (now.ring, now.link) != (before.ring, before.link):
            _logger.warning(
                "punt port %s: %d packets lost in the ring, %d on the link, since the start",
                self._port.interface, now.ring, now.link,
            )  # fmt: skip

    def counts(self) -> PuntCounts:
        """What was lost since the start."""
        if self._socket is None:
            return self._past
        link = max(0, _link_drops(self._port.interface) - self._link_drops)
        overflow, self._overflow = self._overflow, 0
        self._past += PuntCounts(refused=overflow)
        sock = self._socket
        return self._past + PuntCounts(sock.drops, link, sock.truncated, sock.send_failures)

    # -- in ------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        assert self._socket is not None
        parts = self._socket.receive_split(HEAD, _BATCH)
        if not parts:
            return self._check()
        self._flushing = True  # what these packets bring about leaves together, without another turn of the loop
        try:
            self._took(self._intake.take(parts))
        finally:
            self._flush()
        return None

    def _check(self) -> None:
        """The socket is readable, and there is nothing: the interface may be gone."""
        assert self._socket is not None
        error = self._socket.error
        if error:
            reason = f"punt port {self._port.interface}: {os.strerror(error)}"
            _logger.warning("%s", reason)
            self.close()
            self._gone.set()
            self._broken(reason)

    # -- out -----------------------------------------------------------------------------------------------

    def send(self, port: int, kind: TagKind, epoch: int, sequence: int, frame: bytes | None) -> None:
        """`PacketPath`. The first of a turn of the event loop leaves at once, the others with all that follow in it."""
        if self._socket is None:
            raise SwitchUnavailable("packet-out", f"punt port {self._port.interface} is down")
        if len(self._outbound) >= _OUTBOUND:
            self._overflow += 1
            return
        self._outbound.append(self._codec.packet_out(port, kind, epoch, sequence, frame))
        if not self._flushing:  # a marker, mostly, that a move waits for
            self._flush()
            self._gather()

    def _gather(self) -> None:
        """What is sent in this turn of the loop from now on leaves together."""
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Send what waits, as far as the kernel takes it now."""
        if self._socket is None:
            return
        while self._outbound:
            batch = list(islice(self._outbound, _SEND_BATCH))
            done = self._socket.send_many(batch)
            for _ in range(done):
                self._outbound.popleft()
            if done < len(batch):
                self._flushing = True
                asyncio.get_running_loop().add_writer(self._socket.fileno(), self._writable)
                return
        self._flushing = False

    def _writable(self) -> None:
        assert self._socket is not None
        asyncio.get_running_loop().remove_writer(self._socket.fileno())
        self._flush()


def _link_drops(interface: str) -> int:
    """Frames that the kernel dropped on this interface of our namespace: it had no room to queue them."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == interface:
            return int(counts.split()[3])
    return 0
