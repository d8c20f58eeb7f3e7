"""A generator that paces frames with sendmmsg, and probes whose way through the switch is timed by the kernel."""

import ctypes
import itertools
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.switch import wires
from p4switch.runtime.hashes import csum16
from splitmerge.linux.sendmmsg import Message, Piece

_LIBC = ctypes.CDLL(None, use_errno=True)
FLOWS = 10_000
SOURCE, TARGET = 0x0A000102, 0x0A000202
PROBE_PORT = 9999
_BURST = 32
_SO_TIMESTAMPNS = 35
_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_numbers = itertools.count(1)


def flow_key(number: int) -> tuple[int, int, int, int, int]:
    """The switch's key of a flow: (low address, high address, low port, high port, protocol)."""
    return SOURCE, TARGET, 1024 + number % 50_000, 5000 + number // 50_000, 17


def frame(number: int, size: int, *, probe: int = 0, suspended: bool = False) -> bytes:
    """A UDP frame of a flow. A probe has a number, and an ICMP-free way to be recognised: its IPv4 identification."""
    _, _, source_port, target_port, _ = flow_key(number)
    if suspended:
        source_port = 700
    body = struct.pack("!HHHHI", source_port, target_port, size - 34, 0, probe)
    mark = PROBE_PORT if probe else 1
    head = struct.pack("!BBHHHBBHII", 0x45, 0, size - 14, mark, 0, 64, 17, 0, SOURCE, TARGET)
    head = head[:10] + struct.pack("!H", csum16(int.from_bytes(head), 160)) + head[12:]
    return (bytes.fromhex("0200000000fe0200000001020800") + head + body).ljust(size, b"\0")


class Generator:
    """Sends frames, over and over, at a rate."""

    def __init__(self, frames: Sequence[bytes], interface: str) -> None:
        self._socket = wires.packet_socket(interface)
        self._count = len(frames)
        self._frames = frames
        self._buffers = [ctypes.create_string_buffer(data, len(data)) for data in frames]
        self._pieces = (Piece * self._count)()
        self._messages = (Message * self._count)()
        for piece, message, buffer in zip(self._pieces, self._messages, self._buffers, strict=True):
            piece.base, piece.length = ctypes.addressof(buffer), len(buffer)
            message.pieces, message.count = ctypes.addressof(piece), 1
        self._at = 0

    def burst(self, count: int) -> int:
        """Send up to ``count`` frames; how many the kernel took."""
        count = min(count, self._count - self._at)
        start = ctypes.byref(self._messages, self._at * ctypes.sizeof(Message))
        sent: int = _LIBC.sendmmsg(self._socket.fileno(), start, count, 0)
        if sent > 0:
            self._at = (self._at + sent) % self._count
        return max(0, sent)

    def run(self, rate: float, seconds: float, meanwhile: Callable[[], None] | None = None) -> tuple[int, float]:
        """(frames sent, seconds taken). ``rate`` infinite: as fast as can be."""
        start = time.perf_counter()
        sent = 0
        while (passed := time.perf_counter() - start) < seconds:
            due = sent + _BURST if rate == float("inf") else int(passed * rate)
            if sent >= due:
                if meanwhile is not None:
                    meanwhile()
                elif (due + 1 - passed * rate) / rate > 0.0004:
                    time.sleep(0.0001)
                continue
            sent += self.burst(min(_BURST, due - sent))
            if meanwhile is not None:
                meanwhile()
        return sent, time.perf_counter() - start

    def close(self) -> None:
        self._socket.close()


@dataclass
class Probes:
    """One frame each ``gap`` seconds: from the kernel's time stamp in front of the switch to the one behind it.

    So what counts is the switch's time, and not how long this process waited for a processor when it sent.
    """

    cables: wires.Wires
    size: int
    gap: float = 0.001
    sent: int = 0
    arrived: dict[int, int] = field(default_factory=dict)
    """Time stamps in front of the switch, in nanoseconds, by number; those that came out are taken away."""
    microseconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._out = wires.packet_socket(self.cables.peers[wires.IN])
        self._front = _probe_socket(self.cables.names[wires.IN])
        self._behind = _probe_socket(self.cables.peers[wires.OUT])
        self._next = time.perf_counter()

    def turn(self) -> None:
        """Send a probe if it is due, and take what came."""
        now = time.perf_counter()
        if now >= self._next:
            self._next = max(self._next + self.gap, now)
            number = next(_numbers)
            self._out.send(frame(number % FLOWS, self.size, probe=number))
            self.sent += 1
            self.take()

    def take(self) -> None:
        """What has come in front of the switch, and behind it."""
        self.arrived.update(_stamps(self._front))
        for number, stamp in _stamps(self._behind):
            begin = self.arrived.pop(number, None)
            if begin is not None:  # else one of an earlier measurement, late
                self.microseconds.append((stamp - begin) / 1000)

    def close(self) -> None:
        for end in (self._out, self._front, self._behind):
            end.close()


def _probe_socket(interface: str) -> socket.socket:
    """Receives probes, with the kernel's time stamps."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    # if (u16 at 18, the IPv4 identification) == PROBE_PORT then take the frame, else nothing
    code = ((0x28, 0, 0, 18), (0x15, 0, 1, PROBE_PORT), (0x06, 0, 0, 0x40000), (0x06, 0, 0, 0))
    program = b"".join(struct.pack("HBBI", *step) for step in code)
    buffer = ctypes.create_string_buffer(program)
    made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 4, ctypes.addressof(buffer)))
    made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    made.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    made.bind((interface, 3))
    return made


def _stamps(source: socket.socket) -> Iterator[tuple[int, int]]:
    """(number, nanoseconds) of the probes that wait."""
    while True:
        try:
            data, control, _, _ = source.recvmsg(64, 64)
        except BlockingIOError:
            return
        seconds, nanoseconds = struct.unpack("qq", control[0][2])
        yield int.from_bytes(data[42:46], "big"), seconds * 10**9 + nanoseconds


def percentile(values: Sequence[float], share: float) -> float | None:
    """None of no values."""
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 1) if values else None
