"""What a move is told, and what it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.migration.plan import Plan
from orchestrator.migration.steps import Step
from splitmerge import messages as m

# -- events ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accepted:
    """It has its number and waits for its turn: its deadline runs."""

    asked: float | None = None
    """When that was asked for which it is a part of, in the shell's clock; None: now. Its deadline runs from then."""


@dataclass(frozen=True, slots=True)
class Begin:
    """No other move touches the scope: go. ``plan``: what is to be moved, and how, by now; None: as planned."""

    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class InUse:
    """Before it began its source was asked: these flows are in use, and have been for as long as it may wait.

    Or a flow that goes along has such a key, and it is not known whether another one has it too (``owners``).
    """

    keys: tuple[bytes, ...]
    """Every key of them."""
    aliases: tuple[bytes, ...] = ()
    """Those that are not their flows' own."""
    owners: tuple[int, ...] = ()
    """Other replicas that the keys lead to, if the move ends for that; none: they are in use at the source."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Somebody wants it off. Has no effect after the decision."""

    reason: str


@dataclass(frozen=True, slots=True)
class NetworkDone:
    """The step that the network was asked for is done. Counts are those of a `Resume`, else 0."""

    relayed: int = 0
    dropped: int = 0
    peak: int = 0
    refused: tuple[bytes, ...] = ()
    """Of a `Resume` of new flows: those that have no entry, since the switch refused it."""
    refusal: str = ""
    """Why it did."""


@dataclass(frozen=True, slots=True)
class NetworkFailed:
    """The step that the network was asked for failed, or was abandoned."""

    reason: str
    refused: bool = False
    """The switch has done what it had room for, and will not do the rest."""
    flows: tuple[bytes, ...] = ()
    """Those that it refused entries."""
    silent: bool = False
    """The switch did its part, and the replica gave no sign on the data plane."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A replica's message that names this move's epoch."""

    replica: int
    message: m.Message


@dataclass(frozen=True, slots=True)
class BufferFull:
    """Whoever keeps this move's packets, a replica or the controller, has little room left."""

    where: str
    busy: bool = False
    """As `Tick.busy`."""


@dataclass(frozen=True, slots=True)
class ReplicaLost:
    """This replica has ended and will not come back."""

    replica: int


@dataclass(frozen=True, slots=True)
class ReplicaBack:
    """This replica has connected again; what was sent before may be lost."""

    replica: int


@dataclass(frozen=True, slots=True)
class Recover:
    """First event of a move read back from the journal. ``relay``: a fresh epoch for holding and relaying."""

    relay: int
    orphaned: bool = False
    """The earlier process knew that the source was gone: it may have decided for that, and not because all state was
    at the target."""


@dataclass(frozen=True, slots=True)
class Tick:
    """`Move.timer` has come."""

    busy: bool = False
    """The replica in `Move.working` takes packets, and says so: it has not come to the marker yet."""


Event = (
    Accepted | Begin | InUse | Cancel | NetworkDone | NetworkFailed | Answer | BufferFull | ReplicaLost | ReplicaBack
    | Recover | Tick
)  # fmt: skip


# -- instructions ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """Write the move's step to the journal before anything that follows.

    ``later``: what the network was told before this is begun before it; it is not written any more once the move has
    gone on.
    """

    epoch: int
    step: Step
    relay: int
    later: bool = False


@dataclass(frozen=True, slots=True)
class Replan:
    """The plan has become this one while the move waited: write it to the journal before anything that follows."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Send:
    """Send this message to this replica, if it is connected.

    ``later``: what the network was told before this is begun before it.
    """

    replica: int
    message: m.Message
    later: bool = False


@dataclass(frozen=True, slots=True)
class Reserve:
    """Network.reserve: entries for these flows that lead where their packets go already; all of them or none."""

    epoch: int
    keys: tuple[bytes, ...]
    replica: int


@dataclass(frozen=True, slots=True)
class Suspend:
    """Network.suspend: buffer the packets of the scope from now on."""

    epoch: int
    scope: m.Scope
    source: int


@dataclass(frozen=True, slots=True)
class Redirect:
    """Network.redirect: point the scope to the target; nothing goes to the source any more."""

    epoch: int
    scope: m.Scope
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Network.drain: return when the replica has met a marker that follows its last packets."""

    epoch: int
    replica: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Network.resume: point the scope to the replica and deliver what was buffered, in order, before the rest.

    ``ordered``: the replica holds the rest until then; else delivery may begin before all has been collected.
    ``new``: nobody has had these flows: those that the switch refuses are left out.
    """

    epoch: int
    scope: m.Scope
    target: int
    ordered: bool = True
    new: bool = False


@dataclass(frozen=True, slots=True)
class Abandon:
    """The step under way at the network waits for a replica that is gone: end it."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Doubt:
    """The move has waited too long for this replica: end it if it has said nothing at all for so many ``seconds``, or
    (of ``packets``) taken no packet; not if it is busy."""

    replica: int
    seconds: float
    of: Literal["words", "packets"] = "words"
    later: bool = False
    """The move is over with this, and asks no more: it is for others to see, from so many seconds on, whether the
    replica has been silent for so long. One that says anything meanwhile is well."""


Instruction = Record | Replan | Send | Reserve | Suspend | Redirect | Drain | Resume | Abandon | Doubt


def brief(event: Event) -> str:
    """The event in one short line: scopes may name 100,000 flows."""
    match event:
        case Answer(replica, message):
            return f"{type(message).__name__} from {replica}"
        case Begin() | InUse():
            return type(event).__name__
        case _:
            return str(event)
