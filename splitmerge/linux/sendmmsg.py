"""Many frames to the kernel in one call: sendmmsg(2) through ctypes.

A frame costs a copy into memory that is prepared once, and no system call of its own; the interpreter lock is free
while the kernel takes them.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Sequence
from itertools import islice

_LIBC = ctypes.CDLL(None, use_errno=True)
_WAIT = frozenset({errno.EAGAIN, errno.EINTR})
"""The kernel has no room at the moment; nothing is wrong with the frame."""


class Piece(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("pieces", ctypes.c_void_p),
        ("count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int64),  # an int and the padding at the end of struct msghdr
        ("sent", ctypes.c_uint32),
    )


class BatchSender:
    """Sends frames of up to ``longest`` bytes, up to ``batch`` in one call, on a socket that does not block."""

    def __init__(self, descriptor: int, longest: int, batch: int = 64) -> None:
        self._descriptor = descriptor
        self._longest = longest
        self._batch = batch
        self._space = ctypes.create_string_buffer(batch * longest)
        self._bytes = memoryview(self._space).cast("B")
        self._pieces = (Piece * batch)()
        self._messages = (Message * batch)()
        address = ctypes.addressof(self._space)
        for index in range(batch):
            piece, message = self._pieces[index], self._messages[index]
            piece.base = address + index * longest
            message.pieces, message.count = ctypes.addressof(piece), 1
        # The lengths as a plain array of words, every second one of struct iovec: quicker to set than fields.
        self._words = memoryview(self._pieces).cast("B").cast("L")
        self.failures = 0
        """Frames that the kernel refused, or too long to be sent: skipped."""

    def send(self, frames: Sequence[bytes]) -> int:
        """Hand over the first frames, in order; how many are done with (sent, or refused and counted).

        Fewer than given: the kernel has no room now, try the rest when the socket is writable.
        """
        done = 0
        while done < len(frames):
            count = self._fill(frames, done)
            sent = _LIBC.sendmmsg(self._descriptor, self._messages, count, 0) if count else 0
            if sent > 0:
                done += sent
                continue
            if count and ctypes.get_errno() in _WAIT:
                break
            self.failures += 1
            done += 1
        return done

    def _fill(self, frames: Sequence[bytes], start: int) -> int:
        """Copy the frames from ``start`` on, up to one that is too long; how many."""
        space, words, longest = self._bytes, self._words, self._longest
        count = at = 0
        for frame in islice(frames, start, start + self._batch):
            size = len(frame)
            if size > longest:
                break
            space[at : at + size] = frame
            words[2 * count + 1] = size
            at += longest
            count += 1
        return count
