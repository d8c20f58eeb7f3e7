"""Keeps the diagram in ``docs/vmm.md`` as the table has it: ``python -m orchestrator.vmm.diagram [FILE]``."""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.vmm.life import diagram
from splitmerge.errors import BadInput

BEGIN, END = "```mermaid\n", "```\n<!-- end of diagram -->"


def with_diagram(text: str) -> str:
    """The document with the present table's diagram. :raises BadInput: if it has no place for one."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadInput("document", "no place for the diagram", f"it goes between {BEGIN!r} and {END!r}")
    return before + BEGIN + diagram() + END + after


def main() -> int:
    """Rewrite the file named, by default this project's own."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/vmm.md")
    path.write_text(with_diagram(path.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
