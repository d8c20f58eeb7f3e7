"""The source's side of one move: freeze, encode, stage at the target a window of parts at a time.

Parts are encoded only when the window opens, so that a bucket of 100,000 flows neither stalls the packets for long nor
stands in memory twice. A part's ``parts`` is 0 while more follow, and the number of parts in the last one.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Collection, Sequence

from guestlib.errors import StateError
from guestlib.instructions import Instruction, ToOrchestrator, ToPeer
from guestlib.partitioned.fences import Fate, bucket_of
from guestlib.partitioned.flows import Flow, FlowTable
from guestlib.partitioned.timers import timers_of
from guestlib.state import StateTypes
from splitmerge.messages import Export, Exported, FlowRecord, KeptFrame, Refused, Stage, TimerRecord

PART_FLOWS = 256
"""Most flows in one Stage."""
PART_BYTES = 256 * 1024
"""A Stage with this many bytes of state takes no further flow."""
LARGEST_STATE = 8 * 1024 * 1024
"""Bytes of one flow's state that can still travel (a frame of the control network holds 16 MiB)."""
WINDOW = 8
"""Parts on their way at a time."""
WINDOW_BYTES = 4 * 1024 * 1024
"""While as many bytes of state are on their way no further part is sent."""
SLICE = 512
"""Most flows frozen, thawed or taken over at a time, before packets get their turn (a few milliseconds)."""
STAGE_RETRY = 0.5
"""Seconds after which parts without an answer are sent again; doubled each time, up to `STAGE_RETRY_MOST`."""
STAGE_RETRY_MOST = 4.0


class Phase(enum.Enum):
    """Where one epoch stands at this replica."""

    ARMED = "armed"  # source: the export begins when the marker is met
    WAITING = "waiting"  # source: some flows are still referenced
    STAGING = "staging"  # source: all that can move is frozen, parts are on their way
    EXPORTED = "exported"  # source: all parts are at the target; the orchestrator decides
    FORWARDING = "forwarding"  # source: decided, what still comes is passed on to the target
    RELEASING = "releasing"  # source: decided, the last packets are on their way to the target
    THAWING = "thawing"  # source: decided, the flows are becoming active again
    REFUSED = "refused"  # source: the export failed, the flows are active again
    RELEASED = "released"  # source: decided, the flows are elsewhere
    THAWED = "thawed"  # source: decided, the flows stayed
    STAGED = "staged"  # target: parts, or packets, are kept aside
    RETURNING = "returning"  # target: decided, the packets kept are on their way to the source
    RETURNED = "returned"  # target: decided, and they are there
    COMMITTING = "committing"  # target: decided, the flows are becoming active
    COMMITTED = "committed"  # target: decided, the flows live here
    DISCARDED = "discarded"  # target: decided, the parts are forgotten


class SourceMove:
    """One export. `Moves` decides when; this does it."""

    def __init__(self, export: Export, replica: int, table: FlowTable, types: StateTypes, now: float) -> None:
        self.phase = Phase.WAITING
        self.epoch = export.epoch
        self.address = export.address
        self.deadline = now + export.deadline
        self.late = export.late
        self.refusal: Refused | None = None
        self.frozen: dict[bytes, Flow] = {}
        self._replica = replica
        self._table = table
        self._types = types
        self._scope_keys = export.scope.keys
        self._scope_buckets = frozenset(export.scope.buckets)
        self._named = frozenset(export.scope.keys)
        self._waiting: dict[bytes, Flow] = {}
        self._torn: list[Flow] = []
        self._pinned: tuple[bytes, ...] = ()
        self._torn_keys: tuple[bytes, ...] = ()
        self._pinned_aliases: tuple[bytes, ...] = ()
        self._unfrozen = deque(table.within(export.scope.keys, ()))
        self._buckets_left = deque(export.scope.buckets)
        self._unsent: deque[Flow] = deque()
        self._unacked: dict[int, Stage] = {}
        self._bytes_out = 0
        self._interval = STAGE_RETRY
        self._next_part = 0
        self._sent_at = now
        table.fences.disown(self._scope_buckets)
        table.fences.set_buckets(self._scope_buckets, Fate.FROZEN, self.epoch)
        table.fences.set_keys(self._outside(self._scope_keys), Fate.FROZEN, self.epoch)
        self._decided = table.fences.decisions
        """When the scope's fences were set."""

    # -- freezing --------------------------------------------------------------------------------------

    def _freeze_some(self) -> None:
        """Freeze a slice of the flows that no transaction holds; the others freeze when they are put."""
        for _ in range(SLICE):
            while not self._unfrozen and self._buckets_left:
                self._unfrozen.extend(self._table.in_bucket(self._buckets_left.popleft()))
            if not self._unfrozen:
                return
            flow = self._unfrozen.popleft()
            if self._table.active.get(flow.key) is not flow:  # deleted meanwhile, or frozen by another of its keys
                continue
            if flow.aliases and not self._whole(flow):
                self._torn.append(flow)
                continue
            if not flow.refs:
                self._freeze(flow)
            elif flow.key not in self._waiting:  # else it was found by another of its keys
                flow.await_unpinned(self._unpinned)
                self._waiting[flow.key] = flow

    def _whole(self, flow: Flow) -> bool:
        """Whether every key of the flow that the switch knows of moves. One that was added since the move was planned
        would be left behind: such a flow stays, and is reported."""
        if self._table.fences.owned is None:
            return True
        return all(flow.goes_with(key, self._named, self._scope_buckets) for key in flow.keys)

    @property
    def _seen_all(self) -> bool:
        return not self._unfrozen and not self._buckets_left

    def _outside(self, keys: tuple[bytes, ...]) -> Sequence[bytes]:
        """The keys that no bucket of the scope covers."""
        if not self._scope_buckets:
            return keys
        return [key for key in keys if bucket_of(key) not in self._scope_buckets]

    def _fence(self, flow: Flow, fate: Fate) -> None:
        """The keys of a flow, unless it has none but its own, which has its fence with the scope and keeps it yet."""
        fences = self._table.fences
        if not flow.aliases and flow.key in self._named and fences.decisions == self._decided:
            return
        fence = fences.of(flow.key)
        if flow.aliases or fence is None or (fence.fate, fence.epoch) != (fate, self.epoch):
            fences.set_keys(self._outside(flow.keys), fate, self.epoch)

    def _freeze(self, flow: Flow) -> None:
        self._table.remove(flow)
        self._fence(flow, Fate.FROZEN)
        self.frozen[flow.key] = flow
        self._unsent.append(flow)

    def _unpinned(self, flow: Flow) -> None:
        del self._waiting[flow.key]
        if flow.key in self._table.active:  # else it was deleted, and there is nothing to move
            self._freeze(flow)

    # -- progress --------------------------------------------------------------------------------------

    @property
    def waiting(self) -> Collection[bytes]:
        """Own keys of flows that freeze when their last references go; empty if there are none."""
        return self._waiting

    def next_due(self) -> float | None:
        """When `poll` has something to do."""
        if self.phase is Phase.WAITING:
            return self.deadline if self._waiting and self._seen_all else 0.0
        return self._sent_at + self._interval if self.phase is Phase.STAGING else None

    def poll(self, now: float) -> list[Instruction]:
        """Go on if the references are gone or the deadline has passed; repeat what nobody has answered."""
        if self.phase is Phase.WAITING:
            self._freeze_some()
            if self._seen_all and (not self._waiting or now >= self.deadline):
                self._all_frozen()
            return self._pump(now)
        return self._again(now) if self.phase is Phase.STAGING else []

    def _again(self, now: float) -> list[Instruction]:
        """Doubled intervals, and not while bytes wait on the connection, for the reasons given in `carriers`."""
        if now < self._sent_at + self._interval:
            return []
        self._sent_at = now
        again = self._interval < STAGE_RETRY_MOST
        self._interval = min(2 * self._interval, STAGE_RETRY_MOST)
        return [ToPeer(self.address, stage, again=again) for stage in self._unacked.values()]

    def repeat(self, now: float) -> list[Instruction]:
        """The orchestrator has not had the answer: give it, or see to it that there will be one."""
        return [self._exported()] if self.phase is Phase.EXPORTED else self._again(now)

    def acknowledged(self, part: int, now: float) -> list[Instruction]:
        """The target keeps this part."""
        stage = self._unacked.pop(part, None)
        if stage is None:
            return []
        self._bytes_out -= _bytes_of(stage)
        self._sent_at, self._interval = now, STAGE_RETRY
        return self._pump(now)

    def _all_frozen(self) -> None:
        self.phase = Phase.STAGING
        staying = (*self._waiting.values(), *self._torn)
        self._pinned = tuple(bytes(key) for flow in staying for key in flow.keys)
        self._torn_keys = tuple(bytes(key) for flow in self._torn for key in flow.keys)
        self._pinned_aliases = tuple(bytes(alias) for flow in staying for alias in flow.aliases)
        self._unpin()

    def _pump(self, now: float) -> list[Instruction]:
        """Encode and send what the window allows; whole parts only while flows are still being frozen."""
        out: list[Instruction] = []
        least = PART_FLOWS if self.phase is Phase.WAITING else 1
        while len(self._unsent) >= least and len(self._unacked) < WINDOW and self._bytes_out < WINDOW_BYTES:
            try:
                stage = self._part(now)
            except StateError as error:
                return self.fail(str(error), final=True)
            self._unacked[stage.part] = stage
            self._bytes_out += _bytes_of(stage)
            self._sent_at = now
            out.append(ToPeer(self.address, stage))
        if self.phase is Phase.STAGING and not self._unacked:
            self.phase = Phase.EXPORTED
            out.append(self._exported())
        return out

    def _part(self, now: float) -> Stage:
        records: list[FlowRecord] = []
        size = 0
        while self._unsent and len(records) < PART_FLOWS and size < PART_BYTES:
            record = self._record(self._unsent[0], now)
            size += len(record.state)
            if records and size > LARGEST_STATE:  # it goes alone, in the next part
                break
            self._unsent.popleft()
            records.append(record)
        number = self._next_part
        self._next_part += 1
        parts = 0 if self._unsent or self.phase is Phase.WAITING else self._next_part
        whole = bool(parts) and not self._pinned
        return Stage(
            epoch=self.epoch, source=self._replica, part=number, parts=parts, flows=tuple(records), whole=whole
        )

    def _record(self, flow: Flow, now: float) -> FlowRecord:
        state = self._types.encode(flow.state)
        if len(state) > LARGEST_STATE:
            raise StateError(f"{flow.key}: state of {len(state)} bytes; the most that can move is {LARGEST_STATE}")
        key, kind = bytes(flow.key), self._types.kind_of(flow.state)
        if not (flow.timers or flow.aliases or flow.group or flow.pending or flow.kept):
            return FlowRecord(key=key, kind=kind, state=state)
        return FlowRecord(
            key=key,
            kind=kind,
            state=state,
            timers=tuple(TimerRecord(name=t.name, remaining=max(0.0, t.due - now)) for t in timers_of(flow)),
            aliases=tuple(map(bytes, flow.aliases)),
            group=flow.group,
            pending=tuple(map(bytes, sorted(flow.pending or ()))),
            kept=tuple(KeptFrame(frame=each.frame, after=each.after) for each in flow.kept or ()),
        )

    def _exported(self) -> Instruction:
        exported = Exported(
            epoch=self.epoch,
            staged=len(self.frozen),
            pinned=self._pinned,
            torn=self._torn_keys,
            aliases=self._pinned_aliases,
        )
        return ToOrchestrator(exported)

    # -- ends ------------------------------------------------------------------------------------------

    def fail(self, reason: str, *, final: bool = False) -> list[Instruction]:
        """The export cannot be carried out: everything is as before, and the orchestrator is told.

        ``final``: nor could another one, with the flows' state as it is.
        """
        self.begin_thaw()
        while self.thaw_some():
            pass
        self.phase = Phase.REFUSED
        self.refusal = Refused(epoch=self.epoch, request="Export", reason=reason, final=final)
        return [ToOrchestrator(self.refusal)]

    def begin_thaw(self) -> None:
        """The flows stay here. `thaw_some` makes them active again."""
        self._unpin()
        self._unfrozen.clear()
        self._buckets_left.clear()
        self._unacked.clear()
        self._unsent.clear()
        self._table.fences.own(self._scope_buckets)
        self._table.fences.set_buckets(self._scope_buckets, Fate.HERE, self.epoch)
        self._table.fences.set_keys(self._scope_keys, Fate.HERE, self.epoch)

    def thaw_some(self) -> bool:
        """Make a slice of the flows active; whether there are more."""
        for _ in range(min(SLICE, len(self.frozen))):
            _, flow = self.frozen.popitem()
            if flow.key in self._table.active:  # a newer move has brought it back meanwhile
                continue
            flow.epoch = self.epoch
            self._table.fences.set_keys(flow.keys, Fate.HERE, self.epoch)
            self._table.insert(flow)
        return bool(self.frozen)

    def begin_forward(self) -> None:
        """The flows live elsewhere, and their late packets go there; so do parts that are not acknowledged yet."""
        self.phase = Phase.FORWARDING
        self._unacked.clear()

    def begin_release(self) -> None:
        """The flows live elsewhere: keep tombstones only. `release_some` forgets the copies."""
        self._table.fences.set_buckets(self._scope_buckets, Fate.GONE, self.epoch)
        self._table.fences.set_keys(self._outside(self._scope_keys), Fate.GONE, self.epoch)
        self._decided = self._table.fences.decisions

    def release_some(self) -> bool:
        """Forget a slice of the frozen copies; whether there are more. Flows that were pinned stay, with their keys."""
        for _ in range(min(SLICE, len(self.frozen))):
            _, flow = self.frozen.popitem()
            flow.timers = None  # each refers to the flow
            self._fence(flow, Fate.GONE)
        if self.frozen:
            return True
        self._table.fences.set_keys(self._pinned, Fate.HERE, self.epoch)
        return False

    def superseded(self, key: bytes) -> None:
        """A newer move brought this flow back, so this one was committed: the copy kept for it is void."""
        self.frozen.pop(key, None)

    def _unpin(self) -> None:
        for flow in self._waiting.values():
            flow.await_no_more(self._unpinned)
            self._table.fences.set_keys(flow.keys, Fate.HERE, self.epoch)
        for flow in self._torn:
            self._table.fences.set_keys(flow.keys, Fate.HERE, self.epoch)
        self._torn.clear()
        self._waiting.clear()


def _bytes_of(stage: Stage) -> int:
    return sum(len(record.state) for record in stage.flows)
