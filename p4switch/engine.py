"""The data plane's loop: frames from ports and packet-outs go through the device, what comes out goes to ports or up.

One thread, the *data thread*, does all of it, a batch at a time::

    receive → [gate: packet-outs, then frames, through the device] → output queues → send → packet-ins → sweeps

**Order.** All packets pass one thread and every port has one first-in-first-out queue, so on each port frames leave in
the order in which they were looked up. The gate lets a control-plane request in only between two batches. Hence:

1. A packet-out sent after a Write returned is processed after that Write.
2. No frame looked up before that Write leaves a port after such a packet-out: its queue place is ahead.
3. The same holds for packet-ins: those of earlier packets are ahead in the stream of the primary.

The migration protocol's markers rest on these three.

**Threads.** `Engine.control` and `Engine.packet_out` may be called from any thread. Ports are the data thread's alone.
The listener is called on the data thread and must not block.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from p4switch.device import Device, Transmit
from p4switch.errands import Errands
from p4switch.errors import PortError
from p4switch.ports import DropReason, Drops, Numbered, OutputQueue, PacketIo, PriorityQueues, Received
from p4switch.runtime import Digest, Expired
from splitmerge.linux.promptness import ask_for_short_slices

log = logging.getLogger("p4switch.engine")

BATCH = 32
"""Packets processed while a control-plane request may have to wait."""
_RECEIVE = 64
_SWEEP = 0.05
_RETRY = 0.001
_ERRAND = 5.0
"""Seconds until the data thread must have taken a port."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Numbers of the data plane. ``cpu_port`` None: no packet-in and no packet-out."""

    cpu_port: int | None = None
    output_queue: int = 4096
    """Frames that may wait for one port."""
    send_patience: float = 0.05
    """Seconds until a frame that the port does not take is dropped."""
    queues: int = 1
    """Queues of each port; the larger number goes first."""
    interfaces: bool = True
    """All ports are plain Linux interfaces, and so are those that may be added."""
    packet_outs: int = 4096
    """Packet-outs that may wait; then the client is slowed down, none is lost."""


class Listener(Protocol):
    """Whom the data plane tells. Called on the data thread, without the gate."""

    def packet_ins(self, frames: list[bytes]) -> None:
        """Frames that the program sent to the CPU port, in order."""

    def expired(self, entries: list[Expired]) -> None:
        """Entries that were idle for their timeout."""

    def digests(self, messages: list[Digest]) -> None:
        """Digests that the program emitted; empty at least every `_SWEEP` seconds, for timeouts."""


class Gate:
    """One lock for the device that a busy data thread cannot keep from the control plane.

    A plain lock may be taken again by the thread that has just let it go, for ever. Here whoever waits for `_held`
    holds `_next`, and whoever comes later, the data thread with its next batch included, waits behind it.
    """

    def __init__(self) -> None:
        self._next = threading.Lock()
        self._held = threading.Lock()

    def __enter__(self) -> None:
        with self._next:
            self._held.acquire()

    def __exit__(self, *_: object) -> None:
        self._held.release()


class Engine:
    """Ports, a device that may be replaced, and the thread that moves packets between them."""

    def __init__(self, ports: Sequence[PacketIo], options: EngineOptions) -> None:
        self.options = options
        self.drops = Drops()
        self.received: dict[int, list[int]] = {}
        """Frames and bytes received, by port."""
        self._ports = tuple(ports)
        self._device: Device | None = None
        self._down: set[int] = set()
        self._gate = Gate()
        self._queues: dict[int, OutputQueue] = {}
        self._any_port: PacketIo | None = None
        self._waiting: dict[int, OutputQueue] = {}
        self._packet_outs: deque[bytes] = deque()
        self._room = threading.Condition()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._awake = False
        self._stopping = threading.Event()
        self._listener: Listener | None = None
        self._next_sweep = 0.0
        self._errands = Errands(self._interrupt_for_errand)
        self._selector: selectors.BaseSelector | None = None
        self._sent_before: dict[int, tuple[int, int]] = {}
        """Frames and bytes sent by ports that were removed: they go on from there if they come back."""
        self.lost_below: Counter[tuple[str, str]] = Counter()
        """Frames lost below the switch at ports that were removed, by interface and reason."""
        self._thread = threading.Thread(target=self._run, name="p4switch-data", daemon=True)
        self.failure: BaseException | None = None
        """What ended the data thread, if it was not `stop`."""
        for io in ports:
            self._add_queues(io)

    # -- the control plane's side ------------------------------------------------------------------------------------

    def attach(self, listener: Listener) -> None:
        """Whom to tell; once, before `start`."""
        self._listener = listener

    def start(self) -> None:
        """Begin to move packets."""
        self._thread.start()

    def stop(self, deadline: float = 2.0) -> None:
        """End the data thread within ``deadline`` seconds and close the ports. Again is harmless."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._interrupt()
        os.eventfd_write(self._wake, 1)
        with self._room:
            self._room.notify_all()
        if self._thread.is_alive():
            self._thread.join(deadline)
        if self._thread.is_alive():
            # Closing would take memory away that it reads.
            log.error("the data thread did not end within %g s; its ports stay open", deadline)
            return
        for io in self._ports:
            io.close()
        os.close(self._wake)

    def _interrupt(self) -> None:
        """The engine stops, which `_stopping` says already, or an errand waits: have the data thread look at it."""

    @contextlib.contextmanager
    def control(self) -> Iterator[None]:
        """Hold the device still: no packet is half way, none is processed until this is left."""
        with self._gate:
            yield

    @contextlib.contextmanager
    def control_of(self, device: Device) -> Iterator[None]:
        """As `control`, with the device's own lock too."""
        with self._gate, device.state.lock:
            yield

    def set_device(self, device: Device) -> None:
        """Run this device from now on. Call within `control`."""
        device.state.queue_depth = self._depth
        with device.state.lock:
            device.state.ports_down.update(self._down)
        self._device = device

    def set_link(self, port: int, up: bool) -> None:
        """A port's link came or went: members of groups that watch it are chosen, or left out, from the next packet
        on."""
        with self._gate:
            _note_link(self._down, port, up)
            if self._device is not None:
                with self._device.state.lock:
                    _note_link(self._device.state.ports_down, port, up)

    def ports_down(self) -> frozenset[int]:
        """Ports whose link is known to be down."""
        return frozenset(self._down)

    def _depth(self, port: int, queue: int) -> int:
        known = self._queues.get(port)
        return 0 if known is None else known.depth(queue)

    def packet_out(self, frame: bytes) -> bool:
        """Give the program a frame from the CPU port. Waits while too many wait; False once the switch stops."""
        if self.options.cpu_port is None:
            self.drops.add(DropReason.NO_CPU_PORT, 0)
            return True
        with self._room:
            while len(self._packet_outs) >= self.options.packet_outs and not self._stopping.is_set():
                self._room.wait()
            if self._stopping.is_set():
                return False
            self._packet_outs.append(frame)
            if not self._awake:
                self._awake = True
                os.eventfd_write(self._wake, 1)
        return True

    def outputs(self) -> dict[int, OutputQueue]:
        """The output queues by port: their counts may be read, nothing else."""
        return dict(self._queues)

    def add_port(self, io: PacketIo) -> None:
        """Move packets from and to this port too, from the next batch on. The engine closes it.

        :raises PortError: one of its numbers is in use, or it does not fit the others.
        """
        self._errand(lambda: self._attach(io))

    def remove_port(self, port: int) -> None:
        """Close a port. What it has received and not yet processed, and what waits to be sent there, is counted.

        :raises PortError: there is no such port, or it is one of several behind one descriptor.
        """
        self._errand(lambda: self._detach(port))

    def _errand(self, work: Callable[[], None]) -> None:
        if self._thread.is_alive():
            self._errands.ask(work, _ERRAND)
        else:
            work()

    def _interrupt_for_errand(self) -> None:
        self._interrupt()
        os.eventfd_write(self._wake, 1)

    @property
    def ports(self) -> tuple[PacketIo, ...]:
        """The packet I/O in use: names and drops may be read, nothing else."""
        return self._ports

    # -- the data thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        ask_for_short_slices()
        self._selector = selector = selectors.DefaultSelector()
        try:
            for io in self._ports:
                selector.register(io.fileno(), selectors.EVENT_READ, io)
            selector.register(self._wake, selectors.EVENT_READ, None)
            while not self._stopping.is_set():
                self._turn(selector)
        except BaseException as error:
            self.failure = error
            log.exception("the data thread ended")
        finally:
            selector.close()

    def _turn(self, selector: selectors.BaseSelector) -> None:
        if self._errands:
            with self._gate:
                self._errands.do_all()
            return
        received: list[Received] = []
        for key, _ in selector.select(_RETRY if self._waiting else _SWEEP):
            io: PacketIo | None = key.data
            if io is None:
                os.eventfd_read(self._wake)
                continue
            received += self._receive(io)
        punted: list[bytes] = []
        self._process(received, punted)
        self._flush()
        if punted and self._listener is not None:
            self._listener.packet_ins(punted)
        now = time.monotonic()
        if now >= self._next_sweep:
            self._next_sweep = now + _SWEEP
            self._sweep()

    def _receive(self, io: PacketIo) -> list[Received]:
        try:
            frames = io.receive(_RECEIVE)
        except PortError as error:
            log.error("%s", error)
            return []
        for port, frame in frames:
            count = self.received.get(port)
            if count is None:
                count = self.received.setdefault(port, [0, 0])
            count[0] += 1
            count[1] += len(frame)
        return frames

    def _take_packet_outs(self) -> list[Received]:
        with self._room:
            self._awake = False
            if not self._packet_outs:
                return []
            port = self.options.cpu_port
            assert port is not None
            taken = [Received(port, frame) for frame in self._packet_outs]
            self._packet_outs.clear()
            self._room.notify_all()
        return taken

    def _process(self, received: list[Received], punted: list[bytes]) -> None:
        work = self._take_packet_outs()
        work += received
        for start in range(0, len(work), BATCH):
            with self._gate:
                device = self._device
                if device is None:
                    self._count_unprocessed(work[start : start + BATCH])
                    continue
                with device.state.lock:
                    self._batch(device, work[start : start + BATCH], punted)

    def _batch(self, device: Device, work: list[Received], punted: list[bytes]) -> None:
        now_us = device.clock()
        process = device.process
        for port, frame in work:
            try:
                transmits = process(port, frame, now_us)
            except Exception:
                log.exception("a frame of %d bytes from port %d", len(frame), port)
                self.drops.add(DropReason.PIPELINE_ERROR, port)
                continue
            if isinstance(frame, Numbered):
                transmits = [item._replace(frame=Numbered.of(item.frame, frame.number)) for item in transmits]
            self._output(transmits, punted)

    def _count_unprocessed(self, work: list[Received]) -> None:
        for port, _ in work:
            self.drops.add(DropReason.NO_PIPELINE, port)

    def _output(self, transmits: list[Transmit], punted: list[bytes]) -> None:
        cpu_port = self.options.cpu_port
        for port, frame, priority in transmits:
            if port == cpu_port:
                punted.append(frame)
                continue
            queue = self._queues.get(port)
            if queue is None:
                if self._any_port is None:
                    self.drops.add(DropReason.NO_SUCH_PORT, port)
                    continue
                queue = self._add_queue(port, self._any_port)
            queue.put(frame, priority)
            self._waiting[port] = queue

    def _add_queue(self, port: int, io: PacketIo) -> OutputQueue:
        options = self.options
        limit, patience = options.output_queue, options.send_patience
        if options.queues > 1:
            queues = options.queues
            queue: OutputQueue = PriorityQueues(port, io, self.drops, limit=limit, patience=patience, queues=queues)
        else:
            queue = OutputQueue(port, io, self.drops, limit=limit, patience=patience)
        queue.packets, queue.bytes = self._sent_before.pop(port, (0, 0))
        self._queues[port] = queue
        return queue

    def _add_queues(self, io: PacketIo) -> None:
        for port in io.ports():
            self._add_queue(port, io)
        if not io.ports():
            self._any_port = io

    def _attach(self, io: PacketIo) -> None:
        for port in io.ports():
            if port in self._queues or port == self.options.cpu_port:
                raise PortError(f"port {port} is in use")
        if self._selector is not None:
            self._selector.register(io.fileno(), selectors.EVENT_READ, io)
        self._ports += (io,)
        self._add_queues(io)

    def _detach(self, port: int) -> None:
        io = next((io for io in self._ports if port in io.ports()), None)
        if io is None:
            raise PortError(f"there is no port {port}")
        if len(io.ports()) > 1:
            raise PortError(f"port {port} is one of several behind one descriptor")
        waiting = len(self._queues[port])
        while frames := self._receive(io):
            waiting += len(frames)
        if waiting:
            self.drops.add(DropReason.PORT_REMOVED, port, waiting)
        queue = self._queues.pop(port)
        self._sent_before[port] = queue.packets, queue.bytes
        self._waiting.pop(port, None)
        if self._selector is not None:
            self._selector.unregister(io.fileno())
        for reason, count in io.drops().items():
            self.lost_below[io.ports()[port], reason] += count
        self._ports = tuple(other for other in self._ports if other is not io)
        io.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        now = time.monotonic()
        for port in [port for port, queue in self._waiting.items() if queue.flush(now)]:
            del self._waiting[port]

    def _sweep(self) -> None:
        expired: list[Expired] = []
        digests: list[Digest] = []
        with self._gate:
            device = self._device
            if device is None:
                return
            with device.state.lock:
                expired = device.state.expired(device.clock())
                digests = device.state.digests.take()
        if self._listener is None:
            return
        if expired:
            self._listener.expired(expired)
        self._listener.digests(digests)


def _note_link(down: set[int], port: int, up: bool) -> None:
    (down.discard if up else down.add)(port)
