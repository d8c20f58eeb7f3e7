"""Lines of Python with indentation, and names that do not clash."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

_COMMENT = 100


class Writer:
    """Collects the text of one function or module. Text from the program gets in only through ``comment``."""

    def __init__(self, depth: int = 0) -> None:
        self.lines: list[str] = []
        self.depth = depth
        self._temporaries = count(1)

    def line(self, text: str) -> None:
        """Append a line at the present depth."""
        self.lines.append("    " * self.depth + text)

    def comment(self, text: object) -> None:
        """A comment made harmless: one line, printable ASCII."""
        clean = "".join(char if " " <= char <= "~" else "?" for char in str(text)[:_COMMENT])
        self.line(f"# {clean}")

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """``head:`` and what is written inside, one level deeper; ``pass`` if nothing is."""
        self.line(f"{head}:")
        self.depth += 1
        before = len(self.lines)
        yield
        if not any(line.lstrip()[:1] not in ("#", "") for line in self.lines[before:]):
            self.line("pass")
        self.depth -= 1

    def temporary(self) -> str:
        """A new local name."""
        return f"t{next(self._temporaries)}"

    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines) + "\n"
