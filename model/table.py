"""``python -m model.table`` writes the table of counterexamples into docs/model.md; ``--check`` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from model.__main__ import counterexample
from model.rules import CONFIGURATIONS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "model.md"
_BEGIN, _END = "<!-- counterexamples:", "<!-- end of counterexamples -->"


def rows() -> str:
    """One row a rule of the order-preserving kinds."""
    lines = ["| without | buffer | fault | what happens |\n", "|---|---|---|---|\n"]
    for kind in (each for each in CONFIGURATIONS.values() if each.ordered):
        for rule in sorted(kind.rules):
            found = counterexample(kind, rule)
            what = "nothing" if found is None else f"{found.violation} ({len(found.trace)} actions)"
            fault = "" if found is None else found.fault
            lines.append(f"| {rule} | {kind.buffer} | {fault} | {what} |\n")
    return "".join(lines)


def written() -> str:
    """The page as it should be."""
    page = PAGE.read_text()
    begin = page.index("\n", page.index(_BEGIN)) + 1
    return page[:begin] + rows() + page[page.index(_END) :]


def main() -> int:
    """The command."""
    text = written()
    if sys.argv[1:] == ["--check"]:
        return int(text != PAGE.read_text())
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
