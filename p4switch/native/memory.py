"""The one piece of memory that generated code and Python share.

It is reserved at its final size and the kernel fills it in page by page as it is touched, so that nothing in it ever
moves: generated code addresses everything as base plus a constant, and Python may read a counter at any time.
"""

import ctypes
import mmap

_MAP_NORESERVE = 0x4000
"""Linux's value on x86 and Arm; Python's mmap module names it only from 3.13 on."""
PAGE = mmap.PAGESIZE
LARGEST = 1 << 40
"""Bytes of address space that one program may reserve."""


class Region:
    """``size`` bytes of zeros at a fixed address, until `close`."""

    def __init__(self, size: int) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self._mmap = mmap.mmap(-1, -(-size // PAGE) * PAGE, flags=flags)
        self.bytes = memoryview(self._mmap)
        """All of it, by byte."""
        self.words = self.bytes.cast("Q")
        """All of it, by aligned word of 64 bits: word ``i`` is at offset ``8 * i``. Reads and writes are atomic."""
        self._anchor = ctypes.c_char.from_buffer(self._mmap)
        self.address = ctypes.addressof(self._anchor)

    def zero(self, offset: int, size: int) -> None:
        """Fill with zeros."""
        self.bytes[offset : offset + size] = bytes(size)
