"""The process behind a lab's directory while the lab has no record: it is being built, or ended."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SPEC, ENDING = "spec.json", "ending"
"""Files in a lab's directory: of what it is built, there from the beginning; and one that is there while it ends."""
RECORD = "lab.json"
"""And one that is there while it can be used."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A lab that cannot be used yet, or any more."""

    directory: Path
    pid: int
    """Its own process."""
    starter: int
    """The process that started it and waits for it; another one's child's if that is gone."""
    ending: bool
    since: float
    """Seconds since 1970."""

    @property
    def state(self) -> str:
        """In two words."""
        return "being ended" if self.ending else "being built"

    def __str__(self) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(self.since))
        return f"is {self.state} since {clock} (process {self.pid}, started by process {self.starter})"


def unfinished(directory: Path) -> Unfinished | None:
    """What goes on in this directory, whether the lab has a record or not; None: no process of a lab's."""
    directory = directory.absolute()
    if not (pid := _process_of(directory)):
        return None
    ending = directory / ENDING
    for file in (ending, directory / SPEC):
        with suppress(OSError):  # no marker; or it has just been removed, with its directory
            return Unfinished(directory, pid, _parent_of(pid), file == ending, file.stat().st_mtime)
    return None


def is_labs(directory: Path) -> bool:
    """Whether a lab made this directory: others are not ours to remove."""
    try:
        return any((directory / name).is_file() for name in (SPEC, RECORD))
    except OSError:  # somebody else's
        return False


def _process_of(directory: Path) -> int:
    """The process of a lab in this directory; 0: none."""
    spec_file = os.fsencode(directory / SPEC)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            words = path.read_bytes().split(b"\0")
            if b"topo.lab" in words and spec_file in words:
                return int(path.parts[2])
    return 0


def _parent_of(pid: int) -> int:
    """0 if it has just ended."""
    fields = stat_of(pid)
    return int(fields[1]) if fields else 0


def began(pid: int) -> int:
    """When this process did, in clock ticks since the machine did; 0 if it has ended."""
    fields = stat_of(pid)
    return int(fields[19]) if fields else 0


def stat_of(pid: int) -> list[str]:
    """What follows a process's name in ``/proc/pid/stat`` (proc(5)): state, parent …; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
