"""All ports over one nanomsg PAIR socket, as simple_switch_grpc's ``--packet-in`` and PTF's ``nn`` platform speak it.

Every message begins with three native 32-bit integers {type, port, more}; see behavioral-model's dev_mgr_packet_in.cpp.
The switch listens, the test dials. Any port number may be used, whether it was added or not, as there.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping

import pynng

from p4switch.errors import PortError
from p4switch.ports.base import Received, Sent

_HEADER = struct.Struct("=iii")
_STATUS = struct.Struct("=i")
_COUNTERS = struct.Struct("=ii")
_BUFFERED = 8192
"""Messages that nng holds in either direction."""
_LARGEST_PORT = 0xFFFF
_MASK = 0x7FFFFFFF


class Message(enum.IntEnum):
    """Types of messages."""

    PORT_ADD = 0
    PORT_REMOVE = 1
    PORT_SET_STATUS = 2
    PACKET_IN = 3
    """A frame into the switch; ``more`` is its length."""
    PACKET_OUT = 4
    """A frame out of the switch; ``more`` is its length."""
    INFO_REQ = 5
    INFO_REP = 6


class Info(enum.IntEnum):
    """What INFO_REQ asks for, in ``more``."""

    HARDWARE_ADDRESS = 0
    COUNTERS = 1


_SUCCESS, _NOT_SUPPORTED = 0, 1


class NanomsgPorts:
    """The switch's end of the PAIR socket.

    :param address: as nanomsg has it, ``ipc:///path`` or ``tcp://host:port``.
    :raises PortError: if it cannot be listened on.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._ports: dict[int, str] = {}
        self._counts: dict[int, list[int]] = {}
        self._malformed = 0
        self._socket = pynng.Pair0(recv_buffer_size=_BUFFERED, send_buffer_size=_BUFFERED)
        try:
            self._socket.listen(address)
        except pynng.NNGException as error:
            self._socket.close()
            raise PortError(f"--packet-in {address}: {error}") from None
        self._descriptor = int(self._socket.recv_fd)

    def fileno(self) -> int:
        """As `PacketIo`."""
        return self._descriptor

    def ports(self) -> Mapping[int, str]:
        """The ports that the peer has added or used so far."""
        return dict(self._ports)

    def receive(self, limit: int) -> list[Received]:
        """As `PacketIo`; other messages are answered on the way."""
        frames: list[Received] = []
        for _ in range(limit):
            try:
                message = self._socket.recv(block=False)
            except pynng.TryAgain:
                break
            except RuntimeError:  # pynng 0.9 fails so on an empty message
                self._malformed += 1
                continue
            except pynng.NNGException as error:
                raise PortError(f"--packet-in {self.address}: {error}") from None
            received = self._handle(message)
            if received is not None:
                frames.append(received)
        return frames

    def _handle(self, message: bytes) -> Received | None:
        if len(message) < _HEADER.size:
            self._malformed += 1
            return None
        kind, port, more = _HEADER.unpack_from(message)
        if not 0 <= port <= _LARGEST_PORT:
            self._malformed += 1
            return None
        match kind:
            case Message.PACKET_IN:
                return self._packet_in(port, more, message)
            case Message.PORT_ADD:
                self._add(port)
            case Message.PORT_REMOVE:
                self._ports.pop(port, None)
            case Message.PORT_SET_STATUS:
                # PTF and BMv2 number up and down the other way round; BMv2 does not enforce the status either.
                self._add(port)
            case Message.INFO_REQ:
                self._answer(port, more)
            case _:
                self._malformed += 1
        return None

    def _packet_in(self, port: int, length: int, message: bytes) -> Received | None:
        if length != len(message) - _HEADER.size:
            self._malformed += 1
            return None
        self._add(port)
        self._counts[port][0] += 1
        return Received(port, message[_HEADER.size :])

    def _add(self, port: int) -> None:
        self._ports.setdefault(port, f"{self.address}#{port}")
        self._counts.setdefault(port, [0, 0])

    def _answer(self, port: int, what: int) -> None:
        head = _HEADER.pack(Message.INFO_REP, port, what)
        if what == Info.COUNTERS:
            received, sent = self._counts.get(port, (0, 0))
            self._post(head + _STATUS.pack(_SUCCESS) + _COUNTERS.pack(received & _MASK, sent & _MASK))
            return
        self._post(head + _STATUS.pack(_NOT_SUPPORTED))

    def _post(self, message: bytes) -> bool:
        try:
            self._socket.send(message, block=False)
        except pynng.NNGException:
            return False
        return True

    def send(self, port: int, frame: bytes) -> Sent:
        """As `PacketIo`."""
        if not self._post(_HEADER.pack(Message.PACKET_OUT, port, len(frame)) + frame):
            return Sent.LATER
        self._add(port)
        self._counts[port][1] += 1
        return Sent.YES

    def drops(self) -> Mapping[str, int]:
        """As `PacketIo`."""
        return {"malformed_message": self._malformed}

    def close(self) -> None:
        """As `PacketIo`."""
        self._socket.close()
