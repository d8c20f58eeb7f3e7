"""Errors of the topology.

SplitmergeError
└── TopologyError            the lab could not be built, or is not what was expected
    ├── SandboxError         the kernel refuses namespaces to this user
    ├── ProcessFailed        a process of the lab ended or did not become ready
    └── LabNotFound          no lab of that name is running
"""

from __future__ import annotations

from pathlib import Path

from splitmerge.errors import SplitmergeError


class TopologyError(SplitmergeError):
    """Base of this package's errors."""


class SandboxError(TopologyError):
    """Namespaces cannot be made here; the message says what would allow them."""


class ProcessFailed(TopologyError):
    """A process of the lab ended early or did not become ready in time. ``log`` holds what it wrote."""

    def __init__(self, name: str, problem: str, log: Path) -> None:
        self.name = name
        self.log = log
        tail = _last_lines(log)
        super().__init__(f"{name}: {problem}; log: {log}" + (f"\n{tail}" if tail else ""))


class LabNotFound(TopologyError):
    """No running lab has this name."""


def _last_lines(log: Path, count: int = 8) -> str:
    if not log.exists():
        return ""
    return "\n".join(f"  | {line}" for line in log.read_text(errors="replace").splitlines()[-count:])
