"""The guest library: what a stateful middlebox is written against (§3.1 of the paper)."""

from guestlib.aio import AsyncReplica
from guestlib.blocking import run_replica
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
from guestlib.objects import LOCAL, PULL, PUSH, SYNCH, Flags
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
