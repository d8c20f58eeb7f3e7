"""What a replica holds, and keys that no packet has come by yet."""

from __future__ import annotations

from typing import Any

import msgspec

from splitmerge.messages.base import Message
from splitmerge.messages.moves import Scope


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


class Claim(Message, frozen=True, kw_only=True):
    """Orchestrator to replica: a flow of another replica asks for this key. May it have it, if a flow of yours has it?

    Answered with a `FlowList` of the key if that flow keeps it, else of none; then its bucket is mixed (`Owns`).
    """

    request: int
    key: bytes
    flow: bytes
    """The own key of the flow that asks. It may have come to you since."""


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


class SecondKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to send to the replica that has the flow whose own key is ``flow`` (which may be the same: expected)."""

    key: bytes
    flow: bytes
    chosen: bool = False
    """It may have been found free in a bucket that was the replica's then: who has that by now finds it free too."""


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
    """Orchestrator to replica: these buckets are yours whole, as of now. Moves and claims that follow change that.

    ``mixed`` ones are yours as well, but for keys in them that lead, or are about to lead, to other replicas.
    """

    buckets: tuple[int, ...]
    mixed: tuple[int, ...] = ()


class Relate(Message, frozen=True, kw_only=True):
    """Orchestrator to replica: which keys belong to flows of this scope, or to flows of these groups, or theirs?"""

    request: int
    scope: Scope = Scope()
    groups: tuple[str, ...] = ()
    patience: float | None = None
    """Seconds to wait until those of them that are in use have been given back, each once, with nothing frozen; then
    tell which have not. None: answer at once, and do not tell."""


class Related(Message, frozen=True, kw_only=True):
    """Replica to orchestrator: what a move of the scope must take along besides, so that no flow or group is torn."""

    request: int
    keys: tuple[bytes, ...]
    groups: tuple[str, ...] = ()
    """Groups of which flows are in it: others of them may be at other replicas."""
    unknown: tuple[bytes, ...] = ()
    """Keys of the scope that no flow here has."""
    used: tuple[bytes, ...] = ()
    """Every key of the flows that were in use when this was asked and have been ever since; of very many, some.
    Flows of its groups that are expected, and whose own keys are not answered (`KeysAdded`), are in use, too."""
    aliases: tuple[bytes, ...] = ()
    """Of ``used``: those that are not their flows' own keys."""


class Stats(Message, frozen=True, kw_only=True):
    """Replica to orchestrator, about four times a second. Counts since the replica started, unless said otherwise."""

    replica: int
    flows: int
    """Flows held now."""
    packets: int
    """Traffic that came to it, each packet once, whatever became of it: not markers, ENDs, LOOPs and repeats. One that
    another replica carried here came there."""
    bytes: int
    """Their frames', without tags."""
    cpu_seconds: float
    held: int
    """Packets held now for flows that are arriving."""
    drops: dict[str, int]
    """Packets dropped, by reason."""
    hold_dropped: dict[int, int] = msgspec.field(default_factory=dict)
    """What `HoldDropped` said last of each of the newest epochs that it said something of."""
    hold_full: tuple[int, ...] = ()
    """Epochs that `HoldFull` was said of, as long as nothing is decided: it may not have arrived."""
    custom: dict[Any, Any] = msgspec.field(default_factory=dict)
    """The middlebox's own figures, numbers by name. Any here: a replica is not cut off for a wrong one, which is left
    out (`splitmerge.figures`)."""
