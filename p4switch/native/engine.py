"""The engine for the native back end: as `p4switch.engine.Engine`, with the data plane's loop in generated code.

Where every port is a Linux interface and the device is native, the data thread is inside `loop.run_loop` and never
holds the interpreter lock; whatever Python does meanwhile, packets move. Another thread (*teller*) takes packet-ins,
digests and expired entries to the listener. In all other cases (nanomsg, pcap, a program for the interpreter) the
data thread works as in `Engine`; it changes over when the device is replaced.

The three guarantees of `Engine` hold: see p4switch.native.loop. A packet-out is processed, and what it leads to is with
the kernel, before `NativeEngine.packet_out` returns.
"""

import logging
import os
import select
import selectors
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from p4switch.device import Device
from p4switch.engine import Engine, EngineOptions
from p4switch.errors import PortError
from p4switch.native.board import Board, Message, Port
from p4switch.native.device import NativeDevice
from p4switch.native.memory import Region
from p4switch.ports import DropReason, Drops, InterfacePort, PacketIo

log = logging.getLogger("p4switch.engine")

_SWEEP = 0.05
_POLLIN = 1
_LEAVE = 5.0


class Switchboard:
    """The memory that the loop and Python share, with the ports in it."""

    def __init__(self, ports: Sequence[InterfacePort], cpu_port: int | None, wake: int, tell: int) -> None:
        self.region = Region(Board.SIZE)
        self.ports: tuple[InterfacePort, ...] = ()
        self.counting = threading.Lock()
        """Held while counts are read, and while ports change."""
        self.address = self.region.address
        words, buffer = self.region.words, self.region.bytes
        words[Board.WAKE // 8] = wake
        words[Board.TELL // 8] = tell
        words[Board.CPU_PORT // 8] = Board.NO_PORT if cpu_port is None else cpu_port
        struct.pack_into("<ihh", buffer, Board.POLL, wake, _POLLIN, 0)
        for port in ports:
            self.add(port)

    def add(self, port: InterfacePort) -> None:
        """One more port, of up to `Board.MOST_PORTS`. No loop is running."""
        index = len(self.ports)
        with self.counting:
            self._write(index, port)
            self.ports += (port,)
            self.region.words[Board.PORTS // 8] = len(self.ports)

    def remove(self, port: InterfacePort) -> None:
        """One port less; the last one takes its place. No loop is running, and `counting` is held."""
        index, last = self.ports.index(port), len(self.ports) - 1
        buffer, moved = self.region.bytes, self.ports[last]
        start, end = (Board.RECORDS + place * Port.SIZE for place in (index, last))
        if index != last:
            buffer[start : start + Port.SIZE] = buffer[end : end + Port.SIZE]
            struct.pack_into("<H", buffer, Board.NUMBERS + 2 * moved.port, index + 1)
            struct.pack_into("<ihh", buffer, Board.POLL + 8 * (index + 1), moved.fileno(), _POLLIN, 0)
        self.region.zero(end, Port.SIZE)
        struct.pack_into("<H", buffer, Board.NUMBERS + 2 * port.port, 0)
        ports = list(self.ports[:last])
        if index != last:
            ports[index] = moved
        self.ports = tuple(ports)
        self.region.words[Board.PORTS // 8] = last

    def _write(self, index: int, port: InterfacePort) -> None:
        words, buffer = self.region.words, self.region.bytes
        address, slot_size, slots = port.socket.ring()
        record = (Board.RECORDS + index * Port.SIZE) // 8
        for offset, value in (
            (Port.RING, address),
            (Port.SLOT_SIZE, slot_size),
            (Port.SLOTS, slots),
            (Port.FD, port.fileno()),
            (Port.NUMBER, port.port),
        ):
            words[record + offset // 8] = value
        struct.pack_into("<H", buffer, Board.NUMBERS + 2 * port.port, index + 1)
        struct.pack_into("<ihh", buffer, Board.POLL + 8 * (index + 1), port.fileno(), _POLLIN, 0)
        for number in range(Board.STAGE):
            place = index * Board.STAGE + number
            message = Board.MESSAGES + place * Message.SIZE
            words[(message + Message.IOV) // 8] = self.address + Board.IOVS + place * Message.IOV_SIZE

    def count(self, index: int, offset: int) -> int:
        """A count of a port's record."""
        return self.region.words[(Board.RECORDS + index * Port.SIZE + offset) // 8]

    def enter(self) -> None:
        """The loop goes on where Python stopped reading."""
        for index, port in enumerate(self.ports):
            record = (Board.RECORDS + index * Port.SIZE) // 8
            for offset in (Port.POSITION, Port.RELEASED):
                self.region.words[record + offset // 8] = port.socket.position

    def leave(self) -> None:
        """Python goes on where the loop stopped reading."""
        for index, port in enumerate(self.ports):
            port.socket.position = self.count(index, Port.POSITION)

    def set_stop(self, stop: bool) -> None:
        """Tell the loop to return."""
        self.region.words[Board.STOP // 8] = stop


class NativeDrops(Drops):
    """Counts of Python's side and of the loop's."""

    def __init__(self, board: Switchboard | None, cpu_port: int | None) -> None:
        super().__init__()
        self._board = board
        self._cpu_port = cpu_port or 0

    def by_reason_and_port(self) -> dict[tuple[DropReason, int], int]:
        """A copy."""
        counts = super().by_reason_and_port()
        board = self._board
        if board is None:
            return counts
        with board.counting:
            found = self._of(board)
        for reason, number, count in found:
            if count:
                counts[reason, number] = counts.get((reason, number), 0) + count
        return counts

    def _of(self, board: Switchboard) -> list[tuple[DropReason, int, int]]:
        words = board.region.words
        found = [
            (DropReason.NO_SUCH_PORT, 0, words[Board.NO_SUCH_PORT // 8]),
            (DropReason.STREAM_QUEUE_FULL, self._cpu_port, words[Board.PUNTS_LOST // 8]),
        ]
        for index, port in enumerate(board.ports):
            found.append((DropReason.SEND_FAILED, port.port, board.count(index, Port.SEND_FAILED)))
            found.append((DropReason.TOO_LONG, port.port, board.count(index, Port.TOO_LONG)))
        return found


class NativeEngine(Engine):
    """As `Engine`."""

    def __init__(self, ports: Sequence[PacketIo], options: EngineOptions) -> None:
        super().__init__(ports, options)
        self._tell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        interfaces = [port for port in ports if isinstance(port, InterfacePort)]
        fits = options.interfaces and len(interfaces) == len(ports) <= Board.MOST_PORTS
        self._board = Switchboard(interfaces, options.cpu_port, self._wake, self._tell) if fits else None
        self.drops = NativeDrops(self._board, options.cpu_port)
        for queue in self._queues.values():
            queue._drops = self.drops
        self._bases: dict[int, tuple[int, int, int, int]] = {}
        self._outside = threading.Event()
        self._outside.set()
        self._teller = threading.Thread(target=self._tell_all, name="p4switch-teller", daemon=True)

    def start(self) -> None:
        """As `Engine.start`."""
        super().start()
        self._teller.start()

    def stop(self, deadline: float = 2.0) -> None:
        """As `Engine.stop`."""
        if self._stopping.is_set():
            return
        os.eventfd_write(self._tell, 1)
        super().stop(deadline)
        if self._teller.is_alive():
            self._teller.join(deadline)
        if not self._teller.is_alive():
            os.close(self._tell)

    def _interrupt(self) -> None:
        # Not before `_stopping` is set or the errand waits: a data thread about to enter the loop would take it back.
        if self._board is not None:
            self._board.set_stop(True)

    # -- the device --------------------------------------------------------------------------------------------------

    def set_device(self, device: Device) -> None:
        """As `Engine.set_device`: the loop has left the old device when this returns."""
        board, old = self._board, self._device
        if board is not None:
            board.set_stop(True)
            os.eventfd_write(self._wake, 1)
            if not self._outside.wait(_LEAVE):
                raise TimeoutError(f"the data plane's loop did not stop within {_LEAVE} s")
            if isinstance(old, NativeDevice):
                old.detach()
            if isinstance(device, NativeDevice):
                device.attach(board.address)
        super().set_device(device)

    def packet_out(self, frame: bytes) -> bool:
        """As `Engine.packet_out`."""
        board, cpu_port = self._board, self.options.cpu_port
        if board is None or cpu_port is None:
            return super().packet_out(frame)
        with self._gate:
            device = self._device
            if isinstance(device, NativeDevice):
                if self._stopping.is_set():
                    return False
                device.inject(cpu_port, frame)
                return True
        return super().packet_out(frame)

    # -- the data thread ---------------------------------------------------------------------------------------------

    def _turn(self, selector: selectors.BaseSelector) -> None:
        device = self._enter()
        if device is None:
            super()._turn(selector)
            return
        board = self._board
        assert board is not None
        try:
            device.run_loop()
        finally:
            board.leave()
            self._outside.set()
        self._drain_wake()
        # Whoever replaces the device holds the gate until he is done.
        with self._gate:
            pass

    def _enter(self) -> NativeDevice | None:
        """The device whose loop the thread is to run; `set_device` waits for it from here on."""
        with self._gate:
            device, board = self._device, self._board
            if board is None or not isinstance(device, NativeDevice) or self._packet_outs or self._waiting:
                return None
            if self._stopping.is_set() or self._errands:
                return None
            board.enter()
            board.set_stop(False)
            self._outside.clear()
        if self._stopping.is_set() or self._errands:  # it came in between and its flag was overwritten
            board.set_stop(True)
        self._set_epoch(device, board)
        return device

    @staticmethod
    def _set_epoch(device: NativeDevice, board: Switchboard) -> None:
        board.region.words[Board.EPOCH_NS // 8] = time.monotonic_ns() - device.clock() * 1000

    def _drain_wake(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return

    # -- ports -------------------------------------------------------------------------------------------------------

    def _attach(self, io: PacketIo) -> None:
        board = self._board
        if board is None:
            super()._attach(io)
            return
        if not isinstance(io, InterfacePort):
            raise PortError("only plain interfaces can join ports that the native loop serves")
        if len(board.ports) >= Board.MOST_PORTS:
            raise PortError(f"port {io.port}: {Board.MOST_PORTS} ports are the most")
        super()._attach(io)
        board.add(io)

    def _detach(self, port: int) -> None:
        board = self._board
        io = None if board is None else next((io for io in board.ports if io.port == port), None)
        if board is None or io is None:
            super()._detach(port)
            return
        with board.counting:
            self._refresh(board)
            self._keep_counts(board, io)
            super()._detach(port)
            board.remove(io)

    def _keep_counts(self, board: Switchboard, io: InterfacePort) -> None:
        """The port's counts outlive its record."""
        index = board.ports.index(io)
        for reason, at in ((DropReason.SEND_FAILED, Port.SEND_FAILED), (DropReason.TOO_LONG, Port.TOO_LONG)):
            count = board.count(index, at)
            if count:
                self.drops.add(reason, io.port, count)
        self._bases.pop(io.port, None)

    # -- the teller --------------------------------------------------------------------------------------------------

    def _tell_all(self) -> None:
        poll = select.poll()
        poll.register(self._tell, select.POLLIN)
        while not self._stopping.is_set():
            if poll.poll(int(_SWEEP * 1000)):
                os.eventfd_read(self._tell)
                self._tell_packet_ins()
            now = time.monotonic()
            if now >= self._next_sweep and not self._outside.is_set():
                self._next_sweep = now + _SWEEP
                self._guard(self._sweep)

    def _tell_packet_ins(self) -> None:
        with self._gate:
            device, board = self._device, self._board
            if board is None or not isinstance(device, NativeDevice):
                return
            frames = _frames(board.region.bytes, device.take_punts())
        listener = self._listener
        if frames and listener is not None:
            self._guard(lambda: listener.packet_ins(frames))

    @staticmethod
    def _guard(work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception:
            log.exception("telling the control plane")

    # -- counts ------------------------------------------------------------------------------------------------------

    def outputs(self) -> Any:
        """As `Engine.outputs`."""
        self.refresh()
        return super().outputs()

    def refresh(self) -> None:
        """Bring the loop's counts to where they are read: `received`, output queues, ports."""
        board = self._board
        if board is not None:
            with board.counting:
                self._refresh(board)

    def _refresh(self, board: Switchboard) -> None:
        for index, port in enumerate(board.ports):
            now = tuple(
                board.count(index, at) for at in (Port.RECEIVED, Port.RECEIVED_BYTES, Port.SENT, Port.SENT_BYTES)
            )
            before = self._bases.get(port.port, (0, 0, 0, 0))
            received = self.received.setdefault(port.port, [0, 0])
            received[0] += now[0] - before[0]
            received[1] += now[1] - before[1]
            queue = self._queues[port.port]
            queue.packets += now[2] - before[2]
            queue.bytes += now[3] - before[3]
            self._bases[port.port] = (now[0], now[1], now[2], now[3])
            port.socket.truncated = board.count(index, Port.TRUNCATED)

    def _sweep(self) -> None:
        self.refresh()
        super()._sweep()


def _frames(buffer: memoryview, used: int) -> list[bytes]:
    """The packet-ins that `take_punts` brought."""
    frames = []
    at, end = Board.TAKEN, Board.TAKEN + used
    while at < end:
        (size,) = struct.unpack_from("<Q", buffer, at)
        frames.append(bytes(buffer[at + 8 : at + 8 + size]))
        at += 8 + (size + 7 & ~7)
    return frames
