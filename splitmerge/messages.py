"""Messages of the control network: what orchestrator, replicas and VMM agents say to one another.

Every message is a frozen msgspec struct, tagged by its class name and validated when decoded. Flow keys travel as
their wire bytes (`splitmerge.flowkey`). ``epoch`` is the number of a move: a receiver answers `Refused` to one that is
older than what it has already decided for the flows named. Every request is idempotent: the sender repeats it until
the answer comes, so a message may be lost, repeated, late or out of order without harm.

    orchestrator                source                      target
        | -- Export ------------> |                            |
        |                         | -- Stage ----------------> |   (state and timers, replica to replica)
        |                         | <------------- Staged ---- |
        | <------- Exported ----- |                            |
        |  (decision journalled: commit or abort)              |
        | -- Commit -----------------------------------------> |   from here the target owns the flows
        | <------------------------------------- Committed --- |
        | -- Release -----------> |                            |   source keeps tombstones
        | <------- Released ----- |                            |
        |  or: Discard to the target, Thaw to the source: the source still owns them

Around this, by the way packets are kept in order or from loss (docs/migration.md): Prepare before all else, when the
target keeps the packets; Return, when such a move is undone; Forward, when the source passes late packets on. Packets
go from replica to replica as Carry.
"""

from __future__ import annotations

from typing import Literal

import msgspec

PROTOCOL = 3
"""Version of this vocabulary; a `Hello` with another one is refused."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Base of every message."""


# -- who is there ------------------------------------------------------------------------------------------


class Hello(Message, frozen=True, kw_only=True):
    """First message on a connection, from the side that connected."""

    protocol: int = PROTOCOL
    role: str
    """``replica`` (to the orchestrator), ``peer`` (replica to replica), ``agent`` (VMM agent to the orchestrator)."""
    replica: int = 0
    """Replica id, 1..65535; 0 for agents."""
    name: str = ""
    """For people."""
    address: str = ""
    """Where this replica's peers send state: ``unix:/path`` or ``tcp:host:port``."""
    incarnation: str = ""
    """Differs between two processes that had the same replica id."""
    kind: str = ""
    """Of an agent: what its replicas are, ``process`` or ``vm``."""
    slots: tuple[int, ...] = ()
    """Of an agent: the slots that it makes replicas on; all of them if empty."""


class Welcome(Message, frozen=True, kw_only=True):
    """Answer to `Hello`. ``epoch``: the newest epoch that the answering side knows; older ones are void."""

    protocol: int = PROTOCOL
    epoch: int = 0
    locks: str = ""
    """From the orchestrator: the lock service of SYNCH, ``etcd://host:port``; itself if empty."""
    lease: float = 5.0
    """Seconds that a lock is granted for there."""


class Refused(Message, frozen=True, kw_only=True):
    """The request of this epoch was not carried out and changed nothing."""

    epoch: int
    request: str
    """Class name of the request refused."""
    reason: str


# -- partitioned state: one move ---------------------------------------------------------------------------


class Scope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The flows that a move takes: those listed, and every flow of the buckets listed."""

    keys: tuple[bytes, ...] = ()
    buckets: tuple[int, ...] = ()


class TimerRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A timer on its way. ``remaining`` seconds at export; ``name`` selects the callback at the target."""

    name: str
    remaining: float


class KeptFrame(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frame that may leave when the flow with key ``after`` has nothing pending."""

    frame: bytes
    after: bytes


class FlowRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One flow's partitioned state on its way. ``state`` is msgpack of the type registered as ``kind``."""

    key: bytes
    kind: str
    state: bytes
    timers: tuple[TimerRecord, ...] = ()
    aliases: tuple[bytes, ...] = ()
    """Further keys of the same flow (a NAT's translated side)."""
    group: str = ""
    """Flows of one group move together; empty: none."""
    pending: tuple[bytes, ...] = ()
    """Those of its keys that the switch has not been told of yet (see `AddKeys`)."""
    kept: tuple[KeptFrame, ...] = ()
    """Frames that wait for that, oldest first."""


class Prepare(Message, frozen=True, kw_only=True):
    """Orchestrator to target: keep direct packets of the scope from now on; `Commit` or `Return` decides about them.

    Flows that are active at the target already are not kept: they are none of the move's.
    """

    epoch: int
    scope: Scope
    packets: int
    """Most packets kept for this move; more are dropped and counted."""
    bytes: int
    """Most bytes kept for this move."""


class Prepared(Message, frozen=True, kw_only=True):
    """Target to orchestrator: what comes for the scope is kept."""

    epoch: int


class HoldFull(Message, frozen=True, kw_only=True):
    """Replica to orchestrator, once an epoch: nine tenths of the room for its packets are used."""

    epoch: int


class HoldDropped(Message, frozen=True, kw_only=True):
    """Replica to orchestrator: it had no room for so many packets of a move, after the move's answer, until now.

    Told at END, when the last packet that waited has been processed, or when the hold ran out. The figure is of all
    that the replica has dropped so far: what was told before is in it, and if it gets lost, `Stats` repeats it.
    """

    epoch: int
    dropped: int


class Export(Message, frozen=True, kw_only=True):
    """Orchestrator to source: freeze the flows (each once its reference count is 0) and stage them at the target."""

    epoch: int
    scope: Scope
    target: int
    address: str
    deadline: float
    """Seconds to wait for reference counts; flows still pinned then are reported and stay."""
    after: bool = False
    """Begin when a MARKER of this epoch has been met, not before."""
    late: Literal["never", "keep", "drop"] = "never"
    """Packets of the scope from now on: none come (drained); wait for `Forward` or `Thaw`; are dropped, counted."""
    packets: int = 0
    """With ``late="keep"``: most packets kept for this move."""
    bytes: int = 0
    """With ``late="keep"``: most bytes kept for this move."""


class Stage(Message, frozen=True, kw_only=True):
    """Source to target: state to keep aside; the source still owns it. May be one of several parts."""

    epoch: int
    source: int
    part: int
    parts: int
    flows: tuple[FlowRecord, ...]


class Staged(Message, frozen=True, kw_only=True):
    """Target to source: this part is kept."""

    epoch: int
    part: int


class Exported(Message, frozen=True, kw_only=True):
    """Source to orchestrator: all that can move is frozen here and staged at the target."""

    epoch: int
    staged: int
    """Flows with state that are now at both."""
    pinned: tuple[bytes, ...] = ()
    """Keys still referenced at the deadline: not frozen, not staged."""


class Commit(Message, frozen=True, kw_only=True):
    """Orchestrator to target: what is staged for this epoch is yours.

    What `Prepare` kept is released, in order. With ``hold`` direct packets of the scope then wait until END.
    """

    epoch: int
    scope: Scope
    hold: bool = True


class Committed(Message, frozen=True, kw_only=True):
    """Target to orchestrator: the flows live here."""

    epoch: int
    flows: int
    held: int = 0
    """Packets that `Prepare` kept, now on their way into the middlebox."""
    held_seconds: float = 0.0
    """How long the first of them waited."""
    dropped: int = 0
    """Packets that there was no room for."""


class Forward(Message, frozen=True, kw_only=True):
    """Orchestrator to source: the target works; pass on what was kept and what still comes for the scope."""

    epoch: int
    address: str
    """The target's peer address."""


class Forwarding(Message, frozen=True, kw_only=True):
    """Source to orchestrator: it does."""

    epoch: int


class Release(Message, frozen=True, kw_only=True):
    """Orchestrator to source: the flows of this epoch now live elsewhere; keep tombstones.

    ``carry``: pass on what still waits for the target first; else it is gone, and what waits is dropped and counted.
    """

    epoch: int
    scope: Scope
    carry: bool = True


class Released(Message, frozen=True, kw_only=True):
    """Source to orchestrator: so it is, and what was to be passed on has arrived."""

    epoch: int
    carried: int = 0
    """Packets passed on to the target."""
    dropped: int = 0
    """Late packets dropped: there was no room, or the move promised nothing about them."""


class Discard(Message, frozen=True, kw_only=True):
    """Orchestrator to target: forget what is staged for this epoch, and what is kept."""

    epoch: int


class Discarded(Message, frozen=True, kw_only=True):
    """Target to orchestrator: forgotten."""

    epoch: int
    dropped: int = 0
    """Packets kept for the move that nobody has got."""


class Thaw(Message, frozen=True, kw_only=True):
    """Orchestrator to source: the move is off; the flows are active here again.

    Packets that waited here are released, in order. With ``hold`` direct packets then wait until END.
    """

    epoch: int
    scope: Scope
    hold: bool = True


class Thawed(Message, frozen=True, kw_only=True):
    """Source to orchestrator: they are."""

    epoch: int
    dropped: int = 0
    """Packets that there was no room for."""


class Return(Message, frozen=True, kw_only=True):
    """Orchestrator to target: the move is off; give what `Prepare` kept to the source, in order."""

    epoch: int
    address: str
    """The source's peer address."""


class Returned(Message, frozen=True, kw_only=True):
    """Target to orchestrator: the source has it, and has processed it."""

    epoch: int
    carried: int
    dropped: int = 0
    """Packets that there was no room for."""


class Carry(Message, frozen=True, kw_only=True):
    """Replica to replica: packets of an epoch's flows, to be processed now. Taken in sequence only (go-back-N)."""

    epoch: int
    number: int
    """1, 2, … within the epoch."""
    frames: tuple[bytes, ...]


class Carried(Message, frozen=True, kw_only=True):
    """Answer to `Carry`: the number expected next."""

    epoch: int
    expected: int


# -- what a replica holds ----------------------------------------------------------------------------------


class ListFlows(Message, frozen=True, kw_only=True):
    """Orchestrator to replica: which flows do you hold? ``after`` pages: keys greater than it, in byte order."""

    request: int
    after: bytes = b""
    limit: int = 1000


class FlowList(Message, frozen=True, kw_only=True):
    """Keys in byte order; ``complete`` when there are none after the last."""

    request: int
    keys: tuple[bytes, ...]
    complete: bool


class CountBuckets(Message, frozen=True, kw_only=True):
    """Orchestrator to replica: which buckets do packets come in, for so many ``seconds`` from now?"""

    request: int
    seconds: float


class BucketCounts(Message, frozen=True, kw_only=True):
    """Packets by bucket, of those that came in ``seconds``; buckets without any are left out."""

    request: int
    seconds: float
    packets: dict[int, int]


class FlowsGone(Message, frozen=True, kw_only=True):
    """Replica to orchestrator: the middlebox deleted these flows (their own entries in the switch may go)."""

    keys: tuple[bytes, ...]


# -- keys that no packet has come by yet ---------------------------------------------------------------------


class SecondKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to send to the replica that has the flow whose own key is ``flow`` (which may be the same: expected)."""

    key: bytes
    flow: bytes


class AddKeys(Message, frozen=True, kw_only=True):
    """Replica to orchestrator: send me these too. Repeated, with the same number, until it is answered."""

    request: int
    keys: tuple[SecondKey, ...]


class KeysAdded(Message, frozen=True, kw_only=True):
    """Orchestrator to replica: packets of these keys of the request come to you. ``refused``: another flow has them."""

    request: int
    keys: tuple[bytes, ...] = ()
    refused: tuple[bytes, ...] = ()


class Owns(Message, frozen=True, kw_only=True):
    """Orchestrator to replica: these buckets are yours whole, as of now. Moves that follow change that."""

    buckets: tuple[int, ...]


class Relate(Message, frozen=True, kw_only=True):
    """Orchestrator to replica: which keys belong to flows of this scope, or to flows of these groups, or theirs?"""

    request: int
    scope: Scope = Scope()
    groups: tuple[str, ...] = ()


class Related(Message, frozen=True, kw_only=True):
    """Replica to orchestrator: what a move of the scope must take along besides, so that no flow or group is torn."""

    request: int
    keys: tuple[bytes, ...]
    groups: tuple[str, ...] = ()
    """Groups of which flows are in it: others of them may be at other replicas."""
    unknown: tuple[bytes, ...] = ()
    """Keys of the scope that no flow here has."""


class Stats(Message, frozen=True, kw_only=True):
    """Replica to orchestrator, about four times a second. Counts since the replica started, unless said otherwise."""

    replica: int
    flows: int
    """Flows held now."""
    packets: int
    bytes: int
    cpu_seconds: float
    held: int
    """Packets held now for flows that are arriving."""
    drops: dict[str, int]
    """Packets dropped, by reason."""
    hold_dropped: dict[int, int] = {}
    """What `HoldDropped` said last of each of the newest epochs that it said something of."""
    custom: dict[str, float] = {}
    """The middlebox's own figures."""


# -- coherent state ----------------------------------------------------------------------------------------


class SharedElement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One replica's contribution to a coherent object. A higher version replaces a lower one of the same origin."""

    origin: str
    """Incarnation that wrote it."""
    version: int
    kind: str
    value: bytes
    """msgpack of the type registered as ``kind``."""


class SharedPush(Message, frozen=True, kw_only=True):
    """Replica to orchestrator: my contribution to ``key`` as of now. ``final``: this replica is about to end."""

    request: int
    key: str
    element: SharedElement
    final: bool = False


class SharedPushed(Message, frozen=True, kw_only=True):
    request: int


class SharedPull(Message, frozen=True, kw_only=True):
    """Replica to orchestrator: everybody's newest contribution to ``key``, please, within ``deadline`` seconds."""

    request: int
    key: str
    deadline: float = 2.0


class SharedCollect(Message, frozen=True, kw_only=True):
    """Orchestrator to the other replicas: send me your contribution, once no transaction is open on it."""

    request: int
    key: str


class SharedCollected(Message, frozen=True, kw_only=True):
    """Replica to orchestrator. ``element`` is None if this replica has none."""

    request: int
    key: str
    element: SharedElement | None = None
    known: bool = False
    """It has such an object, though perhaps nothing in it yet."""


class SharedPulled(Message, frozen=True, kw_only=True):
    """Orchestrator to the replica that pulled: one element per origin, its own included."""

    request: int
    key: str
    elements: tuple[SharedElement, ...]
    missing: tuple[int, ...] = ()
    """Replicas that did not answer within the deadline: their elements may be old."""


class SharedLock(Message, frozen=True, kw_only=True):
    """Replica to lock service: the lock of ``key``, please. Numbers of a replica's requests grow."""

    request: int
    key: str


class SharedLocked(Message, frozen=True, kw_only=True):
    """Lock service to replica: it is yours for ``lease`` seconds, and longer if you renew it.

    ``token`` is larger than any before for this key: what comes with an older one is refused from now on.
    """

    request: int
    key: str
    token: int
    lease: float
    value: SharedElement | None = None
    """What was written last; its version is the token that it was written with. None if nothing was."""


class SharedLockRefused(Message, frozen=True, kw_only=True):
    """Lock service to replica: this request will not be granted."""

    request: int
    key: str
    reason: str


class SharedRenew(Message, frozen=True, kw_only=True):
    """Replica to lock service: I still hold the lock. Answered only if that is not so (`SharedLost`)."""

    key: str
    token: int


class SharedWrite(Message, frozen=True, kw_only=True):
    """Replica to lock service: write this (its version is my token) and free the lock, if it is still mine."""

    key: str
    element: SharedElement


class SharedWritten(Message, frozen=True, kw_only=True):
    """Lock service to replica: what you wrote with this token is the newest value, or was."""

    key: str
    token: int


class SharedLost(Message, frozen=True, kw_only=True):
    """Lock service to replica: this token holds the lock no more; nothing was written with it."""

    key: str
    token: int


class SharedAbandon(Message, frozen=True, kw_only=True):
    """Replica to lock service: the lock that I asked for by this request is not wanted (any more). Not answered."""

    request: int
    key: str


# -- life of a replica -------------------------------------------------------------------------------------


class CreateReplica(Message, frozen=True, kw_only=True):
    """Orchestrator to agent: restore a replica from the snapshot, on this slot of the topology."""

    request: int
    replica: int
    slot: int
    """Slot of the topology: names the network namespace and so the switch port."""


class ReplicaCreated(Message, frozen=True, kw_only=True):
    """Agent to orchestrator: the process (or VM) runs. The replica itself says `Hello` when it is ready."""

    request: int
    replica: int
    pid: int = 0


class DestroyReplica(Message, frozen=True, kw_only=True):
    """Orchestrator to agent: end it (after it has merged; SIGTERM, then SIGKILL at the deadline)."""

    request: int
    replica: int
    deadline: float = 5.0


class ReplicaGone(Message, frozen=True, kw_only=True):
    """Agent to orchestrator: it has ended, asked for or not."""

    request: int = 0
    replica: int
    status: str
    """``exit 0``, ``exit 1``, ``signal SIGKILL`` …"""


class AgentError(Message, frozen=True, kw_only=True):
    """Agent to orchestrator: the request failed and left nothing behind."""

    request: int
    reason: str


class Finish(Message, frozen=True, kw_only=True):
    """Orchestrator to replica: no more packets will come. Run the combiners, push, and exit."""

    request: int


class Finished(Message, frozen=True, kw_only=True):
    request: int


AnyMessage = (
    Hello | Welcome | Refused | Prepare | Prepared | HoldFull | HoldDropped | Export | Stage | Staged | Exported
    | Commit | Committed | Forward | Forwarding | Release | Released | Discard | Discarded | Thaw | Thawed
    | Return | Returned | Carry | Carried | ListFlows | FlowList | FlowsGone | Stats | SharedPush | SharedPushed
    | SharedPull | SharedCollect | SharedCollected | SharedPulled | SharedLock | SharedLocked | SharedLockRefused
    | SharedRenew | SharedWrite | SharedWritten | SharedLost | SharedAbandon | CreateReplica | ReplicaCreated
    | DestroyReplica | ReplicaGone | AgentError | Finish | Finished
    | AddKeys | KeysAdded | Owns | Relate | Related | CountBuckets | BucketCounts
)  # fmt: skip
"""What the codec decodes to."""
