"""One move of partitioned state (§3.3 of the paper; `splitmerge.messages` has the course of it)."""

from __future__ import annotations

from typing import Literal

import msgspec

from splitmerge.messages.base import Message


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


class FlowRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One flow's partitioned state on its way. ``state`` is msgpack of the type registered as ``kind``.

    Of a thousand flows most have nothing but that: what is empty is left out. None refers to another, so the collector
    need not know of them (``gc``).
    """

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
    """Most packets kept for this move, and never more than half of the replica's room; more are dropped and counted."""
    bytes: int
    """Most bytes kept for this move."""


class Prepared(Message, frozen=True, kw_only=True):
    """Target to orchestrator: what comes for the scope is kept."""

    epoch: int


class HoldFull(Message, frozen=True, kw_only=True):
    """Replica to orchestrator, once an epoch: nine tenths of the room for its packets are used. `Stats` repeats it."""

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
    """With the last part: how many there are; else 0."""
    flows: tuple[FlowRecord, ...]
    whole: bool = False
    """With the last part: no flow of the scope stays at the source."""


class Staged(Message, frozen=True, kw_only=True):
    """Target to source: this part is kept."""

    epoch: int
    part: int


class AllStaged(Message, frozen=True, kw_only=True):
    """Target to orchestrator: all flows of the scope are kept here; what `Exported` says with nothing ``pinned``.

    It is there first, by one message: whichever the orchestrator hears first will do. It is said once: if it gets lost,
    `Exported` tells.
    """

    epoch: int
    staged: int
    """As `Exported.staged`."""


class Exported(Message, frozen=True, kw_only=True):
    """Source to orchestrator: all that can move is frozen here and staged at the target."""

    epoch: int
    staged: int
    """Flows with state that are now at both."""
    pinned: tuple[bytes, ...] = ()
    """Every key of the flows that stay, still referenced at the deadline or `torn`: not frozen, not staged."""
    torn: tuple[bytes, ...] = ()
    """Of ``pinned``: those of flows that have a key which the move does not name, added since it was planned."""
    aliases: tuple[bytes, ...] = ()
    """Of ``pinned``: those that are not their flows' own keys."""


class Commit(Message, frozen=True, kw_only=True):
    """Orchestrator to target: what is staged for this epoch is yours.

    What `Prepare` kept is released, in order. With ``hold`` direct packets of the scope then wait until END.
    """

    epoch: int
    scope: Scope
    hold: bool = True
    whole: tuple[int, ...] = ()
    """Of the scope's buckets those that are yours whole, as in `Owns`; the others are mixed."""


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


class MovesOver(Message, frozen=True, kw_only=True):
    """Orchestrator to replica, now and then: epochs older than this are over, and are not asked about any more."""

    before: int


class Return(Message, frozen=True, kw_only=True):
    """Orchestrator to target: the move is off; give what `Prepare` kept to the source, in order."""

    epoch: int
    address: str
    """The source's peer address."""


class Returned(Message, frozen=True, kw_only=True):
    """Target to orchestrator: the source has processed it, or has not answered for so long that no more is sent."""

    epoch: int
    carried: int
    """Packets sent to the source. It may have taken fewer: see `Sealed`."""
    dropped: int = 0
    """Packets that there was no room for, or that were never sent."""


class Seal(Message, frozen=True, kw_only=True):
    """Orchestrator to source, of a move that is off: what the target has sent, and has not arrived, comes too late now.

    Younger packets follow, so nothing that is carried for the epoch is taken from here on.
    """

    epoch: int


class Sealed(Message, frozen=True, kw_only=True):
    """Source to orchestrator: so it is."""

    epoch: int
    taken: int
    """Packets of the epoch that were carried here and processed."""


class Carry(Message, frozen=True, kw_only=True):
    """Replica to replica: packets of an epoch's flows, to be processed now. Taken in sequence only (go-back-N)."""

    epoch: int
    number: int
    """1, 2, … within the epoch."""
    frames: tuple[bytes, ...]
    oldest: int = 1
    """The sender has no part with a lower number any more: one that has not arrived is not waited for."""


class Carried(Message, frozen=True, kw_only=True):
    """Answer to `Carry`: the number expected next."""

    epoch: int
    expected: int
