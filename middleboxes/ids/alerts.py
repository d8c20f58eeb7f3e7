"""The alert file: JSON lines, each appended by one write, so that many replicas can share it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from middleboxes.ids.errors import AlertLost


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A flow, or a client with all its flows, has passed a threshold."""

    time: float
    """Seconds since 1970."""
    flow: str
    """The flow key, as `FlowKey.parse` reads it; for a client, the flow of its last sign that this replica saw."""
    client: str
    """Address of the side that asks; empty if it is not known."""
    scope: Literal["flow", "client"]
    """Whose signs were counted."""
    analyser: str
    kind: str
    """What was counted: see `detector`."""
    count: int
    """Signs so far, this one included."""
    replica: int
    evidence: str
    """The sign that passed the threshold (of a client: the last seen here), cut to the configured length."""


class AlertFile:
    """Appends alerts. The file is opened at the first one: a replica is forked after `setup`, and opens its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def write(self, alert: Alert) -> None:
        """Append one line. :raises AlertLost: if not all of it was written."""
        # surrogates and control characters in the evidence are escaped by JSON
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
