"""Changes on their way to the region: collected while the control plane holds the lock, carried out when it lets go.

Python never writes what generated code may be reading. It fills in memory that nothing refers to yet (a free table
entry, a new block) and queues a command that makes it visible; `Changes.flush` has all commands carried out in one
call, between two packets. Memory that a command takes out of use is free again after that call, not before.
"""

import threading
from array import array
from collections.abc import Callable
from types import TracebackType

from p4switch.native.memory import Region
from p4switch.native.ops import Op

_BLOCK = 64
_STAGE = 1 << 24


class Changes:
    """The queue. ``apply(address of commands, count)`` carries them out."""

    def __init__(self, region: Region, heap: int, heap_size: int) -> None:
        self.region = region
        self.apply: Callable[[int, int], None] | None = None
        """None until the program is compiled: commands wait."""
        self.live = False
        """A data plane's loop is running beside us."""
        self._commands = array("Q")
        self._freed: list[tuple[list[int], int]] = []
        self._stage = self._stage_next = heap
        self._stage_end = heap + _STAGE
        self._heap_next = heap + _STAGE
        self._heap_end = heap + heap_size
        self._free: dict[int, list[int]] = {}

    def add(self, op: int, one: int, two: int, three: int = 0) -> None:
        """Queue a command; ``op`` is one of `Op`."""
        self._commands.extend((op, one, two, three))

    def add_all(self, commands: list[int]) -> None:
        """Queue commands, four words each."""
        self._commands.extend(commands)

    def poke(self, word: int, value: int) -> None:
        """Set an aligned word of the region that generated code may be adding to."""
        if self.live:
            self.add(Op.POKE, 8 * word, value)
        else:
            self.region.words[word] = value

    def free_later(self, free: list[int], item: int) -> None:
        """Append ``item`` to ``free`` once all commands queued so far are carried out."""
        self._freed.append((free, item))

    def stage(self, size: int) -> int:
        """Region offset of bytes that last until the next flush."""
        offset = self._stage_next
        if offset + size > self._stage_end:
            self.flush()
            offset = self._stage_next
        self._stage_next = offset + (size + 7 & ~7)
        return offset

    def flush(self) -> None:
        """Carry out what waits."""
        if not self._commands or self.apply is None:
            return
        address, words = self._commands.buffer_info()
        self.apply(address, words // 4)
        del self._commands[:]
        self._stage_next = self._stage
        freed, self._freed = self._freed, []
        for free, item in freed:
            free.append(item)

    # -- blocks ------------------------------------------------------------------------------------------------------

    def take(self, size: int) -> int:
        """Region offset of a block of zeros of at least ``size`` bytes.

        :raises MemoryError: the heap is used up.
        """
        rounded = max(_BLOCK, 1 << (size - 1).bit_length())
        free = self._free.get(rounded)
        if free:
            offset = free.pop()
            self.region.zero(offset, rounded)
            return offset
        offset = self._heap_next
        if offset + rounded > self._heap_end:
            raise MemoryError("groups, sessions and value sets need more memory than was set aside")
        self._heap_next += rounded
        return offset

    def give_back(self, offset: int, size: int) -> None:
        """Free a block once no command waits that may refer to it."""
        rounded = max(_BLOCK, 1 << (size - 1).bit_length())
        self.free_later(self._free.setdefault(rounded, []), offset)


class StateLock:
    """The state's lock, re-entrant; letting it go carries out what was changed."""

    def __init__(self, changes: Changes) -> None:
        self._lock = threading.RLock()
        self._changes = changes
        self._depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As `threading.RLock`."""
        taken = self._lock.acquire(blocking, timeout)
        self._depth += taken
        return taken

    def release(self) -> None:
        """As `threading.RLock`."""
        self._depth -= 1
        try:
            if not self._depth:
                self._changes.flush()
        finally:
            self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()
