"""Statements that generated code carries in its traced variant only: `Silent` writes none, `Narrator` writes them.

In the text, ``debug`` and ``trace`` are `p4switch.interpreter.traced.Tracer`'s. What they say is always a constant of
the context, with ``%`` for values, so names of the program never become code.
"""

from p4switch import ir
from p4switch.interpreter.writer import Writer


class Silent:
    """The variant that packets usually take: nothing is written, so nothing is paid."""

    def state(self, out: Writer, state: ir.ParserState) -> None:
        """A parser state is entered."""

    def extract(self, out: Writer, name: str) -> None:
        """A header was extracted; ``o`` is the offset behind it."""

    def transition(self, out: Writer, state: ir.ParserState, key: str) -> None:
        """A state's key, as text of a number, is about to be compared."""

    def assigned(self, out: Writer, op: ir.Set, place: str) -> None:
        """A parser state has set the field at ``place``."""

    def condition(self, out: Writer, node: ir.Conditional, outcome: bool) -> None:
        """In the branch that a conditional took."""

    def lookup(self, out: Writer, table: ir.Table, values: list[str]) -> None:
        """A table is about to be looked up with these keys, given as text."""

    def found(self, out: Writer, table: ir.Table, name: str) -> None:
        """``e`` is the entry found, None for a miss; ``name`` is the table's in the text."""

    def chosen(self, out: Writer, action_id: str, args: str) -> None:
        """An action is about to run; number and arguments as text."""

    def action(self, out: Writer, action: ir.Action) -> None:
        """Where an action's body starts."""

    def primitive(self, out: Writer, primitive: ir.Primitive) -> None:
        """Where a primitive starts."""

    def checksum(self, out: Writer, checksum: ir.Checksum, what: str) -> None:
        """A checksum is skipped, updated, verified or wrong (``what``)."""

    def deparse(self, out: Writer, header: str) -> None:
        """A header is about to be written."""


class Narrator(Silent):
    """The traced variant. ``texts`` collects the constants: their names in the text by what they say."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def _say(self, out: Writer, how: str, text: str, *values: str) -> None:
        name = self.texts.setdefault(text, f"text_{len(self.texts)}")
        out.line(f"{how}({', '.join((name, *values))})")

    def state(self, out: Writer, state: ir.ParserState) -> None:
        self._say(out, "debug", f"Parser state '{_plain(state.name)}'")

    def extract(self, out: Writer, name: str) -> None:
        self._say(out, "debug", f"Extracted header '{_plain(name)}', %d bytes parsed", "o")

    def transition(self, out: Writer, state: ir.ParserState, key: str) -> None:
        width = sum(part.width for part in state.key)
        self._say(out, "debug", f"Parser state '{_plain(state.name)}': key is 0x%0{_digits(width)}x", key)

    def assigned(self, out: Writer, op: ir.Set, place: str) -> None:
        self._say(out, "debug", f"Parser set '{_plain(f'{op.target.header}.{op.target.field}')}' to %#x", place)

    def condition(self, out: Writer, node: ir.Conditional, outcome: bool) -> None:
        text = node.source.fragment if node.source else node.name
        name = f'{_line(node.source)}Condition "{_plain(text)}" ({_plain(node.name)}) is {str(outcome).lower()}'
        self._say(out, "trace", name)

    def lookup(self, out: Writer, table: ir.Table, values: list[str]) -> None:
        keys = [f"{_plain(key.name)}=0x%0{_digits(key.width)}x" for key in table.keys]
        shown = f", key {', '.join(keys)}" if keys else ", no key"
        self._say(out, "trace", f"Table '{_plain(table.name)}': applied{shown}", *values)

    def found(self, out: Writer, table: ir.Table, name: str) -> None:
        out.line(f"found({name}, e)")

    def chosen(self, out: Writer, action_id: str, args: str) -> None:
        out.line(f"chosen({action_id}, {args})")

    def action(self, out: Writer, action: ir.Action) -> None:
        self._say(out, "trace", f"Action {_plain(action.name)}")

    def primitive(self, out: Writer, primitive: ir.Primitive) -> None:
        text = primitive.source.fragment if primitive.source and primitive.source.fragment else primitive.op
        self._say(out, "trace", f"{_line(primitive.source)}Primitive {_plain(text)}")

    def checksum(self, out: Writer, checksum: ir.Checksum, what: str) -> None:
        self._say(out, "debug", f"Checksum '{_plain(checksum.name)}': {what}")

    def deparse(self, out: Writer, header: str) -> None:
        self._say(out, "debug", f"Deparsing header '{_plain(header)}'")


def _plain(text: str) -> str:
    """One line, without effect on ``%``."""
    return " ".join(text.split()).replace("%", "%%")


def _line(source: ir.SourceInfo | None) -> str:
    return f"{_plain(source.filename)}({source.line}) " if source and source.filename else ""


def _digits(width: int) -> int:
    return (width + 3) // 4
