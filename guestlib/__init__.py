"""The guest library: what a stateful middlebox is written against (§3.1 of the paper).

`guest.Guest` is what a middlebox calls, over cores without I/O and clock, by subject: `partitioned` (flows, which of
their keys are here, timers), `moves` (flows that leave and arrive), `packets` (what waits for them, and in which order
it goes on) and `coherent` state in `coherence`. `engine` joins them; `shell`, with `blocking` or `aio`, is the I/O
around.
"""

from guestlib.aio import AsyncReplica
from guestlib.blocking import run_replica
from guestlib.coherence.objects import LOCAL, PULL, PUSH, SYNCH, Flags
from guestlib.config import ReplicaConfig
from guestlib.errors import (
    FlowError,
    FlowExists,
    FlowMigrated,
    FlowMissing,
    GuestError,
    LockLost,
    MiddleboxError,
    SharedError,
    SharedExists,
    SharedMissing,
    StateError,
    SynchUnavailable,
    TransactionError,
)
from guestlib.guest import Guest
from guestlib.middlebox import Middlebox, Packet, load_middlebox
from guestlib.settings import configure
from guestlib.shell import FrameSocket, prepare

__all__ = [
    "LOCAL",
    "PULL",
    "PUSH",
    "SYNCH",
    "AsyncReplica",
    "Flags",
    "FlowError",
    "FlowExists",
    "FlowMigrated",
    "FlowMissing",
    "FrameSocket",
    "Guest",
    "GuestError",
    "LockLost",
    "Middlebox",
    "MiddleboxError",
    "Packet",
    "ReplicaConfig",
    "SharedError",
    "SharedExists",
    "SharedMissing",
    "StateError",
    "SynchUnavailable",
    "TransactionError",
    "configure",
    "load_middlebox",
    "prepare",
    "run_replica",
]
