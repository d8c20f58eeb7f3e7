"""Keeps the diagrams in ``docs/migration.md`` as the tables have them:
``python -m orchestrator.migration.diagram [FILE]``."""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.migration import steps
from orchestrator.migration.paths import diagram
from splitmerge.errors import BadInput

END = "```\n<!-- end of diagram -->"


def _begin(path: steps.Path) -> str:
    return f"<!-- diagram: {path.value} -->\n```mermaid\n"


def with_diagrams(text: str) -> str:
    """The document with the present tables' diagrams. :raises BadInput: if it has no place for one."""
    for path in steps.Path:
        before, begin, rest = text.partition(_begin(path))
        _, end, after = rest.partition(END)
        if not begin or not end:
            problem = f"no place for the diagram of {path.value}"
            raise BadInput("document", problem, f"it goes between {_begin(path)!r} and {END!r}")
        text = before + begin + diagram(path) + END + after
    return text


def main() -> int:
    """Rewrite the file named, by default this project's own."""
    name = sys.argv[1] if len(sys.argv) > 1 else "docs/migration.md"
    path = Path(name)
    path.write_text(with_diagrams(path.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
