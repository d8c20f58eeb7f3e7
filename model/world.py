"""What there is: everything that decides what can happen next, as values that can be compared and hashed.

Packets of one flow are numbered 1 … n in the order in which they reach the switch. Sets of packets are bit masks.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, NamedTuple

Frame = Hashable
"""In a queue: a packet's number, or a tuple (kind, epoch, …) of a marker, a relayed packet, an acknowledgement …"""
Note = tuple[Any, ...]
"""A message of the control network: (kind, epoch, …)."""
Pair = tuple[tuple[Note, ...], tuple[Note, ...]]
NOWHERE = -1
"""Where an empty table sends packets."""
CPU = 2
"""Index of the queue to the controller."""
RUNNING, STOPPED = "running", "stopped"


class Violation(Exception):
    """An invariant does not hold."""


class Replica(NamedTuple):
    """A guest library, as far as one flow is concerned."""

    alive: bool = True
    active: bool = False
    """The flow is in its table."""
    fate: str = ""
    """Its fence: ``frozen``, ``gone``, ``here``, or nothing that it knows of."""
    staged: bool = False
    """The state is kept aside here."""
    ended: frozenset[int] = frozenset()
    """Epochs that are over here."""
    hold: int = 0
    """The epoch for which direct packets are held; 0 for none."""
    held: tuple[int, ...] = ()
    expected: tuple[int, int] = (0, 1)
    """Epoch of the last relay, and the number it accepts next."""
    met: int = 0
    """Epoch of the newest marker met."""
    pending: int = 0
    """Epoch of an export that waits for its marker."""
    late: tuple[int, ...] = ()
    """Packets that met a frozen flow and wait."""
    forwards: bool = False
    sealed: bool = False
    """Nothing that its peer gives back is taken any more."""


@dataclass(slots=True)
class World:
    """One state, to be changed by one action and then made a snapshot of."""

    replicas: tuple[Replica, Replica]
    queues: tuple[tuple[Frame, ...], tuple[Frame, ...], tuple[Frame, ...]] = ((), (), ())
    """To either replica and to the controller, oldest first."""
    requests: Pair = ((), ())
    """From the orchestrator to either replica."""
    answers: Pair = ((), ())
    peers: Pair = ((), ())
    """From either replica to the other."""
    late_requests: Pair = ((), ())
    """On connections of an orchestrator that is dead: they may arrive at any time."""
    entry: tuple[int, bool] = (0, False)
    """The switch's: replica and suspend bit."""
    rows: tuple[int, bool] = (0, False)
    """As the controller wants the entry."""
    sent: int = 0
    done: int = 0
    """Packets processed."""
    last: int = 0
    """The last one, where order matters."""
    excused: int = 0
    """Packets that a process held, or that were sent to it, when it died."""
    dropped: int = 0
    """Packets that guarantee ``none`` gives up."""
    alive: bool = True
    """The orchestrator, with the controller in it."""
    step: str = "planned"
    journal: str = "planned"
    waits: frozenset[str] = frozenset()
    epoch: int = 1
    """Of holding and relaying: a fresh one after a restart."""
    source: int = 0
    orphan: bool = False
    """The move of what a dead replica owned."""
    owner: int = 0
    """As of the moves that have ended."""
    noticed: frozenset[int] = frozenset()
    """Replicas known to be dead."""
    drained: bool = False
    lane: tuple[int, ...] = ()
    """The move's buffer."""
    orphans: tuple[int, ...] = ()
    """Punted packets that no move has."""
    open: bool = False
    """A move takes punted packets."""
    relayed: int = 0
    """Packets of the lane that were sent to a replica."""
    broken: bool = False
    """Something was lost on the way: requests and markers may be repeated."""
    faults: int = 1

    @property
    def target(self) -> int:
        """The replica that is not the source."""
        return 1 - self.source

    def replica(self, which: int, **changes: Any) -> None:
        """Change a replica."""
        changed = self.replicas[which]._replace(**changes)
        self.replicas = (changed, self.replicas[1]) if which == 0 else (self.replicas[0], changed)

    def enqueue(self, which: int, *frames: Frame) -> None:
        """Put frames into a queue."""
        queues = list(self.queues)
        queues[which] += frames
        self.queues = (queues[0], queues[1], queues[2])

    def toward(self, which: int, *frames: Frame) -> None:
        """Send frames to a replica; what a dead one is sent is lost with it."""
        if self.replicas[which].alive:
            self.enqueue(which, *frames)
        else:
            self.excused |= bits(frames)

    def to_peer(self, sender: int, *notes: Note) -> None:
        """Send to the other replica; what a dead one is sent is lost with it."""
        if self.replicas[1 - sender].alive:
            self.peers = put(self.peers, sender, *notes)
        else:
            self.excused |= bits(notes)

    def dequeue(self, which: int) -> Frame:
        """Take the oldest frame of a queue."""
        queues = list(self.queues)
        frame, queues[which] = queues[which][0], queues[which][1:]
        self.queues = (queues[0], queues[1], queues[2])
        return frame


def put(pair: Pair, which: int, *notes: Note) -> Pair:
    """The pair with messages added to one of the two channels."""
    return (pair[0] + notes, pair[1]) if which == 0 else (pair[0], pair[1] + notes)


def rest(pair: Pair, which: int) -> Pair:
    """The pair without the oldest message of one of the two channels."""
    return (pair[0][1:], pair[1]) if which == 0 else (pair[0], pair[1][1:])


def emptied(pair: Pair, which: int) -> Pair:
    """The pair with one of the two channels empty."""
    return ((), pair[1]) if which == 0 else (pair[0], ())


def bits(packets: tuple[Frame, ...]) -> int:
    """The mask of the packets in a queue, relayed ones included."""
    mask = 0
    for frame in packets:
        if isinstance(frame, int):
            mask |= 1 << frame
        elif isinstance(frame, tuple) and frame[0] in ("relayed", "back", "forward"):
            mask |= 1 << frame[-1]
    return mask


Snapshot = tuple[Any, ...]
snapshot = attrgetter(*(each.name for each in fields(World)))
"""A state's values, in the order of `World`'s fields: ``World(*snapshot(world))`` is a copy."""
