"""Frames that another thread brings to the data thread, behind one file descriptor."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from p4switch.ports.base import Received

Mark = Callable[[], None]
"""Called on the data thread once all frames before it were processed."""


class Inbox:
    """Bounded: who brings more than ``limit`` waits, so nothing is lost here. ``take`` is the data thread's alone."""

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._items: deque[Received | Mark] = deque()
        self._room = threading.Condition()
        self._closed = False
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Readable while something waits."""
        return self._event

    def put(self, item: Received | Mark) -> bool:
        """Append, once there is room; False if the inbox was closed instead."""
        with self._room:
            self._room.wait_for(lambda: self._closed or len(self._items) < self._limit)
            if self._closed:
                return False
            if not self._items:
                os.eventfd_write(self._event, 1)
            self._items.append(item)
        return True

    def take(self, limit: int) -> list[Received]:
        """Up to ``limit`` frames, oldest first. A mark ends them; it is called by the next call, which comes after
        the frames were processed."""
        frames: list[Received] = []
        marks: list[Mark] = []
        with self._room:
            while self._items and len(frames) < limit:
                item = self._items[0]
                if isinstance(item, Received):
                    frames.append(item)
                elif frames:
                    break
                else:
                    marks.append(item)
                self._items.popleft()
            if not self._items and (frames or marks):
                os.eventfd_read(self._event)
            self._room.notify_all()
        for mark in marks:
            mark()
        return frames

    def close(self) -> None:
        """Whoever waits in `put` goes on. The data thread must have ended. Again is harmless."""
        with self._room:
            if not self._closed:
                self._closed = True
                os.close(self._event)
            self._room.notify_all()
