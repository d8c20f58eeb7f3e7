"""Files that users name: read whole, unless they never end."""

from __future__ import annotations

from pathlib import Path

from splitmerge.errors import BadInput

MOST = 16 << 20
"""Bytes: a thousand times what anybody writes by hand. A device like ``/dev/zero`` has no end at all."""


def read_whole(path: Path, where: str) -> bytes:
    """What is in it. :raises OSError: it cannot be read. :raises BadInput: it is longer than `MOST`."""
    with path.open("rb") as file:
        raw = file.read(MOST + 1)
    if len(raw) > MOST:
        raise BadInput(where, f"is longer than {MOST >> 20} MiB", "name a file that people write")
    return raw
