"""Messages of the control network: what orchestrator, replicas and VMM agents say to one another.

Every message is a frozen msgspec struct, tagged by its class name and validated when decoded. Flow keys travel as
their wire bytes (`splitmerge.flowkey`). ``epoch`` is the number of a move, or a newer one that it began under: a
receiver answers `Refused` to one that is older than what it has already decided for the flows named (but never to
`Thaw`). Every request is idempotent: the sender repeats it until the answer comes, so a message may be lost, repeated,
late or out of order without harm.

    orchestrator                source                      target
        | -- Export ------------> |                            |
        |                         | -- Stage ----------------> |   (state and timers, replica to replica)
        | <------------------------------------- AllStaged --- |   (if nothing stays at the source)
        |                         | <------------- Staged ---- |
        | <------- Exported ----- |                            |
        |  (decision journalled: commit or abort)              |
        | -- Commit -----------------------------------------> |   from here the target owns the flows
        | <------------------------------------- Committed --- |
        | -- Release -----------> |                            |   source keeps tombstones
        | <------- Released ----- |                            |
        |  or: Discard to the target, Thaw to the source: the source still owns them

Around this, by the way packets are kept in order or from loss (docs/migration.md): Prepare before all else, when the
target keeps the packets; Return and Seal, when such a move is undone; Forward, when the source passes late packets on.
Packets go from replica to replica as Carry.

Modules: `peers` (greetings, the life of a replica), `moves`, `flows` (what a replica holds), `shared` (coherent state).
"""

from __future__ import annotations

from splitmerge.messages.base import (
    PROTOCOL,
    Message,
)
from splitmerge.messages.flows import (
    AddKeys,
    BucketCounts,
    Claim,
    CountBuckets,
    FlowList,
    FlowsGone,
    KeysAdded,
    ListFlows,
    Owns,
    Relate,
    Related,
    SecondKey,
    Stats,
)
from splitmerge.messages.moves import (
    AllStaged,
    Carried,
    Carry,
    Commit,
    Committed,
    Discard,
    Discarded,
    Export,
    Exported,
    FlowRecord,
    Forward,
    Forwarding,
    HoldDropped,
    HoldFull,
    KeptFrame,
    MovesOver,
    Prepare,
    Prepared,
    Release,
    Released,
    Return,
    Returned,
    Scope,
    Seal,
    Sealed,
    Stage,
    Staged,
    Thaw,
    Thawed,
    TimerRecord,
)
from splitmerge.messages.peers import (
    AgentError,
    CreateReplica,
    DestroyReplica,
    Finish,
    Finished,
    Hello,
    Refused,
    ReplicaCreated,
    ReplicaGone,
    Welcome,
)
from splitmerge.messages.shared import (
    ENDED,
    SharedAbandon,
    SharedCollect,
    SharedCollected,
    SharedElement,
    SharedFold,
    SharedFolded,
    SharedLock,
    SharedLocked,
    SharedLockRefused,
    SharedLost,
    SharedPull,
    SharedPulled,
    SharedPush,
    SharedPushed,
    SharedRenew,
    SharedWrite,
    SharedWritten,
)

AnyMessage = (
    Hello | Welcome | Refused | Prepare | Prepared | HoldFull | HoldDropped | Export | Stage | Staged | AllStaged
    | Exported | Commit | Committed | Forward | Forwarding | Release | Released | Discard | Discarded | Thaw | Thawed
    | Return | Returned | Seal | Sealed | Carry | Carried | ListFlows | FlowList | FlowsGone | Stats | SharedPush
    | SharedPushed | SharedPull | SharedCollect | SharedCollected | SharedPulled | SharedLock | SharedLocked
    | SharedLockRefused | SharedRenew | SharedWrite | SharedWritten | SharedLost | SharedAbandon | CreateReplica
    | ReplicaCreated
    | DestroyReplica | ReplicaGone | AgentError | Finish | Finished
    | AddKeys | KeysAdded | Claim | Owns | Relate | Related | CountBuckets | BucketCounts
    | SharedFold | SharedFolded | MovesOver
)  # fmt: skip
"""What the codec decodes to."""

__all__ = [
    "ENDED",
    "PROTOCOL",
    "AddKeys",
    "AgentError",
    "AllStaged",
    "AnyMessage",
    "BucketCounts",
    "Carried",
    "Carry",
    "Claim",
    "Commit",
    "Committed",
    "CountBuckets",
    "CreateReplica",
    "DestroyReplica",
    "Discard",
    "Discarded",
    "Export",
    "Exported",
    "Finish",
    "Finished",
    "FlowList",
    "FlowRecord",
    "FlowsGone",
    "Forward",
    "Forwarding",
    "Hello",
    "HoldDropped",
    "HoldFull",
    "KeptFrame",
    "KeysAdded",
    "ListFlows",
    "Message",
    "MovesOver",
    "Owns",
    "Prepare",
    "Prepared",
    "Refused",
    "Relate",
    "Related",
    "Release",
    "Released",
    "ReplicaCreated",
    "ReplicaGone",
    "Return",
    "Returned",
    "Scope",
    "Seal",
    "Sealed",
    "SecondKey",
    "SharedAbandon",
    "SharedCollect",
    "SharedCollected",
    "SharedElement",
    "SharedFold",
    "SharedFolded",
    "SharedLock",
    "SharedLockRefused",
    "SharedLocked",
    "SharedLost",
    "SharedPull",
    "SharedPulled",
    "SharedPush",
    "SharedPushed",
    "SharedRenew",
    "SharedWrite",
    "SharedWritten",
    "Stage",
    "Staged",
    "Stats",
    "Thaw",
    "Thawed",
    "TimerRecord",
    "Welcome",
]
