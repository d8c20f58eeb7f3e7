"""Coherent objects as one replica knows them, and how they are asked for."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any

from splitmerge.messages import SharedElement

Combiner = Callable[[Sequence[Any]], Any]
"""From one element of each origin to the value of all, of the elements' type.

Combining one element gives its equal, order does not matter, nor whether some have been combined before:
``f([f(a), *b]) == f([*a, *b])``.
"""
ONE_VALUE = "without a combiner it has one value, which is written under SYNCH"
"""Why something makes no sense for an object."""


class Flags(enum.Enum):
    """How `get_shared` and `put_shared` treat the other replicas."""

    LOCAL = "local"
    PULL = "pull"
    PUSH = "push"
    SYNCH = "synch"

    @property
    def opens(self) -> Flags:
        """How a block under this begins: PUSH says how it ends."""
        return Flags.LOCAL if self is Flags.PUSH else self

    @property
    def closes(self) -> Flags:
        """How a block under this ends: PULL says how it begins."""
        return Flags.LOCAL if self is Flags.PULL else self


LOCAL, PULL, PUSH, SYNCH = Flags.LOCAL, Flags.PULL, Flags.PUSH, Flags.SYNCH


class SharedObject:
    """One object as this replica knows it."""

    def __init__(self, key: str, own: Any, combiner: Combiner | None) -> None:
        self.key = key
        self.own = own
        """This replica's element; without a combiner the value as this replica saw it last."""
        self.combiner = combiner
        self.version = 0
        self.refs = 0
        """Open transactions on ``own``."""
        self.others: tuple[SharedElement, ...] = ()
        """Other origins' elements as the last answer to a pull had them."""
        self.combined: Any = None
        """What the combiner gave last."""
        self.view: Any = None
        """The copy that an open PULL transaction reads."""
        self.view_bytes = b""
        """What is only read, as it was: the view, or the copy that LOCAL gives of an object without a combiner."""
        self.waiting: dict[int, None] = {}
        """Collects to answer when the open transactions end."""
        self.to_push = False
        """A PUSH waits for other transactions to end."""
        self.locked: Any = None
        """The value that an open SYNCH transaction reads and writes."""

    @property
    def busy(self) -> bool:
        """Whether no combiner may run now."""
        return bool(self.refs) or self.view is not None
