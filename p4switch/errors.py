"""Errors of the embedded switch.

SwitchError (SplitmergeError)
├── LoadError           the program's JSON is malformed: names the place and the remedy
├── UnsupportedError    the program is well formed but uses a construct this switch refuses
├── StateError          a control-plane change is refused; nothing was changed
│   ├── BadEntry        a value does not fit the program (width, action, match kind, priority, id)
│   ├── DuplicateEntry  something with this key or id exists already
│   ├── NoSuchEntry     nothing with this key or id exists
│   ├── TableFull       a table, profile or group holds as many entries as it may
│   ├── ConstError      the program fixed this entry, default action or table with ``const``
│   └── InUse           other entries still refer to it
└── PortError           a port or its packet I/O failed

``StateError`` is "you misused me"; ``LoadError`` and ``UnsupportedError`` are about the program text.
"""

from splitmerge.errors import SplitmergeError


class SwitchError(SplitmergeError):
    """Base of every error that the embedded switch raises on purpose."""


class LoadError(SwitchError):
    """The program's JSON is malformed.

    ``place`` is a path into the JSON (``pipelines[0].tables[3].key[1]``), ``remedy`` what would be right.
    """

    def __init__(self, place: str, problem: str, remedy: str = "") -> None:
        self.place = place
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{place}: {problem}" + (f" ({remedy})" if remedy else ""))


class UnsupportedError(SwitchError):
    """The program uses a construct that this switch does not carry out.

    ``construct`` names it; ``source`` is ``file:line`` of the P4 source if the JSON tells it, else a place in the JSON.
    """

    def __init__(self, construct: str, source: str, remedy: str = "") -> None:
        self.construct = construct
        self.source = source
        self.remedy = remedy
        super().__init__(f"{source}: {construct} is not supported" + (f" ({remedy})" if remedy else ""))


class StateError(SwitchError):
    """A change of the switch's state is refused. ``where`` names the object; nothing was changed."""

    def __init__(self, where: str, problem: str) -> None:
        self.where = where
        self.problem = problem
        super().__init__(f"{where}: {problem}")


class BadEntry(StateError, ValueError):
    """A value does not fit what the program declares."""


class DuplicateEntry(StateError):
    """Something with this key or id exists already."""


class NoSuchEntry(StateError, LookupError):
    """Nothing with this key or id exists."""


class TableFull(StateError):
    """The object holds as many entries as it may."""


class ConstError(StateError):
    """The program declared this entry, action or table ``const``."""


class InUse(StateError):
    """Other entries still refer to the thing that was to be deleted."""


class PortError(SwitchError):
    """A port could not be opened, or failed."""
