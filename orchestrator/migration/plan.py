"""What a move is to do: flows, replicas, guarantee, buffer, bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from orchestrator.migration.steps import Path
from splitmerge import messages as m
from splitmerge.errors import BadInput

NOBODY = 0
"""Source of a move of flows that no replica has seen yet."""

Guarantee = Literal["none", "loss-free", "order-preserving", "no-buffer"]
Buffer = Literal["cpu", "replica"]
WhenFull = Literal["abort", "drop"]

_PATHS: Mapping[tuple[Guarantee, Buffer], Path] = {
    ("order-preserving", "cpu"): Path.CPU,
    ("order-preserving", "replica"): Path.REPLICA,
    ("loss-free", "cpu"): Path.CPU,
    ("loss-free", "replica"): Path.REPLICA,
    ("no-buffer", "cpu"): Path.FORWARD,
    ("no-buffer", "replica"): Path.FORWARD,
    ("none", "cpu"): Path.NONE,
    ("none", "replica"): Path.NONE,
}


@dataclass(frozen=True, slots=True)
class Times:
    """Deadlines and pauses of a move, in seconds."""

    retry: float = 0.25
    """A request is repeated after this, then after twice as long, and so on."""
    retry_most: float = 2.0
    """… but not after longer than this."""
    references: float = 0.25
    """How long the source may wait for reference counts, unless the move says it; flows still pinned then stay."""
    export: float = 30.0
    """Deadline of EXPORTING, beyond the time in which the source may wait for flows in use."""
    network_retry: float = 0.5
    """Pause before a failed step of the network is tried again."""
    overdue: float = 2.0
    """A replica that a move waits for past its own deadline, and that has said nothing for so long, is ended."""
    unreached: float = 20.0
    """A replica that in one step takes no marker and no packet at all for so long is ended though it talks. One whose
    count of packets rises is busy: it is waited for."""
    late: float = 10.0
    """Who waits for a move that is not over so long after its deadline is told how it stands; it goes on by itself."""
    stuck: float = 60.0
    """… and so is who waits for one without a deadline that has been in one step for so long."""


_UNUSED: Mapping[str, tuple[tuple[str, ...], str]] = {
    "none": (("buffer", "when_full", "packets", "bytes"), "no packet waits for them"),
    "no-buffer": (("buffer",), "packets wait at the source"),
}
"""Guarantee → fields of `Options` that such moves make no use of, and why."""

MOST = 1 << 40
"""Bound on numbers of packets and bytes that are asked for."""
PACKETS, BYTES = 65_536, 64 * 1024 * 1024
"""What a replica keeps for one move, unless it is said otherwise."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a move is made. Section ``defaults`` of the configuration, and what a request may say otherwise."""

    guarantee: Guarantee = "order-preserving"
    buffer: Buffer = "replica"
    """Where packets wait meanwhile."""
    when_full: WhenFull = "abort"
    """A buffer is nearly full: call the move off while that can be done, or go on and drop what has no room."""
    references: float | None = None
    """Seconds that the source may wait for flows in use; None: ``moves.references``."""
    deadline: float | None = None
    """Seconds until the move is called off if it is not decided by then; None: never."""
    packets: int | None = None
    """Most packets that wait for one move, where they wait (``buffer``); None: `PACKETS` at a replica, and at the
    controller as many as it keeps for any one move."""
    bytes: int | None = None
    """The same in bytes; None: `BYTES` at a replica."""

    def check(self, named: Callable[[str], str] = "move.{}".format) -> Options:
        """:raises BadInput: for numbers that make no sense; ``named``: what fields are called."""
        for name in ("references", "deadline"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 <= seconds <= 3600:
                raise BadInput(named(name), f"{seconds:g} is out of range", "seconds, 0 to 3600")
        for name in ("packets", "bytes"):
            most = getattr(self, name)
            if most is not None and not 1 <= most <= MOST:
                raise BadInput(named(name), f"{most} is out of range", f"1 to {MOST}")
        return self

    def check_used(self, said: Iterable[str], named: Callable[[str], str]) -> Options:
        """:raises BadInput: if one of the fields that were said makes no difference; ``named``: what they are called.

        What is configured may be of no use to one move or the other: that is not said of it.
        """
        fields, why = _UNUSED.get(self.guarantee, ((), ""))
        if vain := [named(name) for name in fields if name in frozenset(said)]:
            it = "it" if len(vain) == 1 else "them"
            problem = f"no use to moves with guarantee {self.guarantee}: {why}"
            raise BadInput(", ".join(vain), problem, f"leave {it} out, or choose another guarantee")
        return self

    @property
    def changed(self) -> list[str]:
        """Names of what is not as it is by default."""
        return [name for name in self.__struct_fields__ if getattr(self, name) != getattr(Options(), name)]

    @property
    def room(self) -> tuple[int, int]:
        """Packets and bytes that a replica may keep for the move."""
        return self.packets or PACKETS, self.bytes or BYTES


@dataclass(frozen=True, slots=True)
class Plan:
    """One move. ``source`` is `NOBODY` for new flows, whose packets the controller buffers already."""

    epoch: int
    """Its number, in the journal and for who asked for it."""
    scope: m.Scope
    source: int
    target: int
    address: str = ""
    """Where the source sends the state: the target's peer address."""
    home: str = ""
    """Where the target gives packets back to: the source's peer address."""
    options: Options = field(default_factory=Options)
    renewed: int = 0
    """The epoch that it began under, if younger moves had begun while it waited; 0: that of its number."""

    def __post_init__(self) -> None:
        if self.source == self.target or self.target == NOBODY:
            raise BadInput("move", f"from replica {self.source} to replica {self.target}", "name two replicas")
        if not self.scope.keys and not self.scope.buckets:
            raise BadInput("move", "of no flows and no buckets", "name some")
        self.options.check()

    @property
    def fence(self) -> int:
        """The epoch that replicas know it by: newer than that of any move which began before it."""
        return self.renewed or self.epoch

    @property
    def path(self) -> Path:
        """The way it takes: new flows wait at the controller already, so theirs is always that one."""
        if self.source == NOBODY:
            return Path.CPU
        return _PATHS[self.options.guarantee, self.options.buffer]

    @property
    def ordered(self) -> bool:
        """Whether packets of one flow may never pass one another."""
        return self.options.guarantee == "order-preserving"
