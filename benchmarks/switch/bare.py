"""A forwarder that does nothing but recvmmsg and sendmmsg: what packet sockets allow. Runs until killed."""

import ctypes
import socket
import sys

from benchmarks.switch.traffic import _Message, _Piece

_BATCH, _SLOT = 64, 2048
_LIBC = ctypes.CDLL(None, use_errno=True)
_WAIT_FOR_ONE = 0x10000


def main(come_in: str, go_out: str) -> None:
    """Forward one way."""
    source = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    source.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
    try:
        source.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
    except PermissionError:
        source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    source.bind((come_in, 3))
    target = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    target.setsockopt(263, 20, 1)
    target.bind((go_out, 0))
    space = ctypes.create_string_buffer(_BATCH * _SLOT)
    pieces, messages = (_Piece * _BATCH)(), (_Message * _BATCH)()
    for i, (piece, message) in enumerate(zip(pieces, messages, strict=True)):
        piece.base, piece.length = ctypes.addressof(space) + i * _SLOT, _SLOT
        message.pieces, message.count = ctypes.addressof(piece), 1
    fd, other = source.fileno(), target.fileno()
    print("ready", flush=True)
    while True:
        count = _LIBC.recvmmsg(fd, messages, _BATCH, _WAIT_FOR_ONE, None)
        for i in range(count):
            pieces[i].length = messages[i].length
        sent = 0
        while sent < count:
            step = _LIBC.sendmmsg(other, ctypes.byref(messages, sent * ctypes.sizeof(_Message)), count - sent, 0)
            sent += max(step, 1)
        for i in range(count):
            pieces[i].length = _SLOT


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
