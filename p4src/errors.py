"""Errors of the P4 build.

P4BuildError
├── CompilerMissing   p4c-bm2-ss is not on PATH
├── CompilerFailed    p4c-bm2-ss refused the program
└── StaleOutputs      the compiled outputs are not those of the sources
"""

from collections.abc import Sequence

from splitmerge.errors import SplitmergeError


class P4BuildError(SplitmergeError):
    """Base of what goes wrong while the P4 program is compiled or checked."""


class CompilerMissing(P4BuildError):
    """``name`` is not on PATH."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"{name} is not on PATH: build p4c with its BMv2 back end (docs/p4.md says how) and add its bin folder; "
            "the outputs that are committed need no compiler"
        )


class CompilerFailed(P4BuildError):
    """The compiler ended with ``status`` and said ``said``."""

    def __init__(self, command: Sequence[str], status: int, said: str) -> None:
        self.command = tuple(command)
        self.status = status
        self.said = said
        super().__init__(f"{' '.join(command)} ended with status {status}:\n{said.strip()}")


class StaleOutputs(P4BuildError):
    """The record and the files differ; ``differences`` has one line for each file."""

    def __init__(self, differences: Sequence[str]) -> None:
        self.differences = tuple(differences)
        super().__init__("\n".join(("the compiled P4 program is stale (run `python -m p4src build`):", *differences)))
