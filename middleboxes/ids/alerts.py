"""The alert file: JSON lines, each appended by one write, so that many replicas can share it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from middleboxes.ids.errors import AlertLost


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A flow has passed the threshold."""

    time: float
    """Seconds since 1970."""
    flow: str
    """The flow key, as `FlowKey.parse` reads it."""
    count: int
    """Requests of this flow with an injection so far, this one included."""
    replica: int
    sample: str
    """The injection that passed the threshold, cut to the configured length."""


class AlertFile:
    """Appends alerts. The file is opened at the first one: a replica is forked after `setup`, and opens its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def write(self, alert: Alert) -> None:
        """Append one line. :raises AlertLost: if not all of it was written."""
        # surrogates and control characters in the sample are escaped by JSON
        line = msgspec.json.encode(alert) + b"\n"
        try:
            if self._descriptor < 0:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o644)
            written = os.write(self._descriptor, line)
        except OSError as error:
            raise AlertLost(str(self._path), str(error)) from None
        if written != len(line):
            raise AlertLost(str(self._path), f"{written} of {len(line)} bytes written")

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
