"""Errors of the topology.

SplitmergeError
└── TopologyError            the lab could not be built, or is not what was expected
    ├── SandboxError         the kernel refuses namespaces to this user
    ├── ProcessFailed        a process of the lab ended or did not become ready
    ├── NeverReady           it is known already that something of the lab will not become ready
    ├── LabEnded             a lab was ended while it was being built
    └── LabNotFound          no lab of that name is running
        └── LabUnfinished    it is being built, or ended
"""

from __future__ import annotations

from pathlib import Path

from splitmerge.errors import PlacedError, SplitmergeError
from topo.found import Unfinished
from topo.naming import command

KEPT_LINES, LOST_LINES = 8, 40
"""Of a log that is quoted."""


class TopologyError(SplitmergeError):
    """Base of this package's errors."""


class SandboxError(TopologyError):
    """Namespaces cannot be made here; the message says what would allow them."""


class ProcessFailed(TopologyError):
    """A process of the lab ended early or did not become ready in time. ``log`` holds what it wrote.

    :param kept: whether the log outlives a start that fails; one that does not is quoted at length, and not named.
    """

    def __init__(self, name: str, problem: str, log: Path, *, kept: bool = True) -> None:
        self.name = name
        self.log = log
        tail = last_lines(log, KEPT_LINES if kept else LOST_LINES)
        super().__init__(f"{name}: {problem}" + (f"; log: {log}" if kept else "") + (f"\n{tail}" if tail else ""))


class NeverReady(PlacedError, TopologyError):
    """Nobody need wait: ``where`` names who is to blame, ``problem`` says why."""


class LabEnded(TopologyError):
    """Somebody ended the lab while it was being built."""

    def __init__(self, name: str) -> None:
        super().__init__(f"lab {name!r} was ended while it was being built; nothing of it is left")


class LabNotFound(PlacedError, TopologyError):
    """No lab runs in this directory. ``where``, ``problem`` and ``remedy`` as in `splitmerge.errors.BadInput`."""

    def __init__(self, directory: Path, problem: str, remedy: str = "") -> None:
        remedy = remedy or f"start one with `{command(directory, 'up')}`"
        super().__init__(f"lab {directory.name!r}", problem, remedy)


class LabUnfinished(LabNotFound):
    """A lab in this directory is being built or ended."""

    def __init__(self, found: Unfinished) -> None:
        self.found = found
        super().__init__(found.directory, str(found), f"see `{command(found.directory, 'status')}` for when it is over")


def last_lines(log: Path, count: int) -> str:
    """The end of a log, each line marked; empty if there is none."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(f"  | {line}" for line in lines[-count:])
