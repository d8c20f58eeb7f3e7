"""Keys that the switch must be told of before their first packets: a flow's second keys, and keys that are expected.

A packet of a flow comes to the replica that has the flow since the switch was told of the flow's key, or owns the key's
bucket. A second key (a NAT's translated side) has a bucket of its own. So the library asks the orchestrator for an
entry (AddKeys), and keeps the frames that would provoke packets of that key until it is there (KeysAdded):

    create_flow(key, state, aliases=[outside])     AddKeys ->
    send(translated)                               kept: its key is `outside`, which is pending
                                                   <- KeysAdded: kept frames go out, in order

No entry is needed, and nothing waits, for a second key in the bucket of the flow's own key while this replica owns that
bucket whole: both keys then go where the bucket goes (`splitmerge.colocation` finds ports that make it so). In a bucket
that is mixed (a key of it leads to another replica, `fences.Fences.mixed`) it is asked for as well, since the flow
there may have the very same one; what needs no entry is answered at once, by the orchestrator alone.

AddKeys is repeated until answered. What is kept is bounded in frames, bytes and time; drops are counted. A flow that
moves takes along which of its keys are pending and the frames kept for it, and asks anew where it arrives; so the
orchestrator never has to answer for a flow that is under way. All of this is pure: time comes in, instructions go out.
"""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Set
from typing import TYPE_CHECKING, NamedTuple

from guestlib.instructions import Instruction, ToOrchestrator, Transmit
from splitmerge.flowkey import FlowKey
from splitmerge.messages import AddKeys, KeysAdded, SecondKey

if TYPE_CHECKING:
    from guestlib.partitioned.flows import Flow

REPEAT = 0.25
"""Seconds after which what is not answered is asked again."""
GIVE_UP = 5.0
"""Seconds for which a frame is kept."""
FRAMES = 4096
"""Most frames kept at a time, over all flows."""
BYTES = 8 * 1024 * 1024
REFUSED = 4096
"""Refused keys remembered."""
KEYS_AT_ONCE = 512
"""Most keys in one AddKeys."""


class Kept(NamedTuple):
    """A frame that waits until the flow with key ``after`` has nothing pending."""

    frame: bytes
    key: bytes
    """The frame's own key; empty if it has none."""
    after: bytes
    until: float

    def announces(self, keys: Set[bytes]) -> bool:
        """Whether it is about the flow with these keys, and none of its own frames."""
        return self.after in keys and self.key not in keys


class Steering:
    """The pending keys and kept frames of the flows that are active here.

    ``active`` is the flow table's dict. ``on_busy`` hears whether frames have to be looked at before they are sent.
    """

    def __init__(
        self, active: dict[bytes, Flow], on_busy: Callable[[bool], None] = lambda busy: None,
        *, frames: int = FRAMES, size: int = BYTES,
    ) -> None:  # fmt: skip
        self.on_busy = on_busy
        self.drops: Counter[str] = Counter()
        self.kept = 0
        """Frames kept now."""
        self.refused = 0
        """Keys that another flow has, says the orchestrator."""
        self.on_refused: Callable[[FlowKey, FlowKey], None] = lambda key, second: None
        """Hears of each: the flow's own key, and the one refused."""
        self.on_lost: Callable[[Flow, FlowKey], None] = lambda flow, second: None
        """Hears of each before, unless it is the flow's own key."""
        self.on_own_lost: Callable[[Flow], None] = lambda flow: None
        """Hears, after, of an active flow whose own key is refused."""
        self.lately_refused: OrderedDict[bytes, None] = OrderedDict()
        """The newest of them: another flow may have ended since, and the orchestrator knows."""
        self._active = active
        self._frames, self._size = frames, size
        self._bytes = 0
        self._pending: dict[bytes, Flow] = {}
        self._boxes: dict[bytes, Flow] = {}
        self._box_of: dict[bytes, Flow] = {}  # by the key of kept frames: all of one key are in one flow's box
        self._announced: set[bytes] = set()  # keys of flows that kept frames of others may be about
        self._fresh: dict[bytes, None] = {}
        self._chosen: set[bytes] = set()  # of the pending keys
        self._asked: dict[int, list[SecondKey]] = {}
        self._request_of: dict[bytes, int] = {}
        self._numbers = itertools.count(1)
        self._repeat_at = 0.0
        self._busy = False

    # -- flows -----------------------------------------------------------------------------------------------

    def want(self, flow: Flow, keys: Iterable[FlowKey], chosen: Iterable[FlowKey] = ()) -> None:
        """These keys of an active flow need entries, or leave. ``chosen``: those in other buckets that are here."""
        flow.pending = {*(flow.pending or ()), *keys}
        self._chosen.update(chosen)
        self.enter(flow)

    def arrive(self, flow: Flow) -> None:
        """A flow comes here, or is here again: nobody says in which buckets its pending keys have been chosen."""
        self._chosen.update(flow.pending or ())
        self.enter(flow)

    def enter(self, flow: Flow) -> None:
        """A flow with pending keys or kept frames is active here from now on."""
        if flow.pending:
            self._pending[flow.key] = flow
            self._fresh[flow.key] = None
        if flow.kept:
            self._boxes[flow.key] = flow
            self._box_of.update((each.key, flow) for each in flow.kept)
            self._announced.update(each.after for each in flow.kept if each.after != each.key)
            self.kept += len(flow.kept)
            self._bytes += sum(len(each.frame) for each in flow.kept)
        self._look()

    def leave(self, flow: Flow) -> None:
        """The flow freezes, or is deleted; it keeps what it has."""
        self._fresh.pop(flow.key, None)
        if self._pending.pop(flow.key, None) is not None:
            for key in flow.pending or ():
                self._request_of.pop(key, None)
                self._chosen.discard(key)
        if self._boxes.pop(flow.key, None) is not None:
            self.kept -= len(flow.kept or ())
            self._bytes -= sum(len(each.frame) for each in flow.kept or ())
            self._unbox(flow, ())
        self._look()

    def unannounce(self, flow: Flow) -> None:
        """The flow ends, and the switch was never told of all its keys: what announces it is dropped."""
        keys = frozenset(flow.keys)
        if self._announced.isdisjoint(keys):  # as nearly always: no look at each frame
            return
        for box in list(self._boxes.values()):
            assert box.kept is not None
            stay = deque(each for each in box.kept if not each.announces(keys))
            if gone := self._drop(box, stay):
                self.drops["second_key_unconfirmed"] += gone
        self._look()

    def _unbox(self, flow: Flow, stay: Iterable[Kept]) -> None:
        """Frames of no other keys than these are in the flow's box."""
        for key in {each.key for each in flow.kept or ()} - {each.key for each in stay}:
            del self._box_of[key]

    def _look(self) -> None:
        busy = bool(self._pending or self._boxes)
        if not self._boxes:
            self._announced.clear()
        if busy is not self._busy:
            self._busy = busy
            self.on_busy(busy)

    # -- frames ----------------------------------------------------------------------------------------------

    def keep(self, frame: bytes, after: bytes, now: float) -> bool:
        """Whether the frame has to wait, and does (or was dropped for want of room); if not, send it.

        It waits if its own key, or the flow with key ``after`` (empty: none), is pending, or an earlier frame of its
        key waits.
        """
        key = FlowKey.from_frame(frame) or b""
        flow = self._active.get(key)
        announced = after
        if flow is not None and flow.pending and key in flow.pending:
            after = after or key
        behind = self._box_of.get(key)
        if behind is None and not self.waits_for(after):
            return False
        owner = behind or flow or self._active[after]
        if self.kept >= self._frames or self._bytes + len(frame) > self._size:
            self.drops["second_key_overflow"] += 1
            return True
        if owner.kept is None:
            owner.kept = deque()
        owner.kept.append(Kept(frame, key, after, now + GIVE_UP))
        self._boxes[owner.key] = owner
        self._box_of[key] = owner
        if announced:
            self._announced.add(announced)
        self.kept += 1
        self._bytes += len(frame)
        self._look()
        return True

    def waits_for(self, after: bytes) -> bool:
        """Whether a frame that waits for the flow with this key does."""
        flow = self._active.get(after) if after else None
        return flow is not None and bool(flow.pending)

    def take_ready(self) -> list[Instruction]:
        """Frames that wait for nothing any more, each behind the earlier ones of its key."""
        out: list[Instruction] = []
        for flow in list(self._boxes.values()):
            out += self._ready(flow)
        self._look()
        return out

    def _ready(self, flow: Flow) -> list[Instruction]:
        assert flow.kept is not None
        stay: deque[Kept] = deque()
        blocked: set[bytes] = set()
        out: list[Instruction] = []
        for each in flow.kept:
            if each.key in blocked or self.waits_for(each.after):
                stay.append(each)
                blocked.add(each.key)
            else:
                out.append(Transmit(each.frame))
                self._bytes -= len(each.frame)
        self.kept -= len(out)
        self._put_back(flow, stay)
        return out

    def _put_back(self, flow: Flow, stay: deque[Kept]) -> None:
        self._unbox(flow, stay)
        flow.kept = stay or None
        if not stay:
            del self._boxes[flow.key]

    def _expire(self, now: float) -> None:
        for flow in list(self._boxes.values()):
            assert flow.kept is not None
            if gone := self._drop(flow, deque(each for each in flow.kept if each.until > now)):
                self.drops["second_key_unconfirmed"] += gone

    def _drop(self, flow: Flow, stay: deque[Kept]) -> int:
        """Of what is kept in the flow's box, drop all but what stays; how many frames that are."""
        assert flow.kept is not None
        if gone := len(flow.kept) - len(stay):
            self._bytes -= sum(len(each.frame) for each in flow.kept) - sum(len(each.frame) for each in stay)
            self.kept -= gone
            self._put_back(flow, stay)
        return gone

    # -- asking ----------------------------------------------------------------------------------------------

    def handle(self, message: KeysAdded) -> list[Instruction]:
        """The orchestrator's answer. Refused keys are another flow's: what waits for them is dropped, counted."""
        answered, refused = {*message.keys, *message.refused}, frozenset(message.refused)
        lost: list[tuple[Flow, FlowKey]] = []
        for asked in self._asked.get(message.request, ()):
            if asked.key not in answered:
                continue
            flow = self._pending.get(asked.flow)
            if self._request_of.get(asked.key) != message.request or flow is None:
                continue  # the flow has moved or ended since, or asked anew
            del self._request_of[asked.key]
            assert flow.pending is not None
            flow.pending.discard(FlowKey(asked.key))
            self._chosen.discard(asked.key)
            if asked.key in refused:
                self.refused += 1
                self._remember_refused(asked.key)
                self._drop_vain(flow, asked.key)
                lost.append((flow, FlowKey(asked.key)))
            if not flow.pending:
                flow.pending = None
                del self._pending[flow.key]
        self._tell_lost(lost)
        return self.take_ready()

    def _tell_lost(self, lost: list[tuple[Flow, FlowKey]]) -> None:
        for flow, second in lost:
            if second != flow.key:
                self.on_lost(flow, second)
        for flow, second in lost:
            self.on_refused(flow.key, second)
        for flow, second in lost:
            if second == flow.key and self._active.get(second) is flow:
                self.on_own_lost(flow)

    def _remember_refused(self, key: bytes) -> None:
        self.lately_refused[key] = None
        self.lately_refused.move_to_end(key)
        if len(self.lately_refused) > REFUSED:
            self.lately_refused.popitem(last=False)

    def _drop_vain(self, flow: Flow, refused: bytes) -> None:
        """Drop what waits for a key that another flow has, and what announces the flow, by whichever of its keys: some
        packets of it will never come here. It may wait in another flow's box, behind an earlier frame of its own key.
        """
        keys = frozenset(flow.keys)
        everywhere = not self._announced.isdisjoint(keys)
        own = self._box_of.get(refused)
        for box in list(self._boxes.values()) if everywhere else [own] if own is not None else []:
            assert box.kept is not None
            stay = deque(each for each in box.kept if each.after != refused and not each.announces(keys))
            if gone := self._drop(box, stay):
                self.drops["second_key_refused"] += gone

    def poll(self, now: float) -> list[Instruction]:
        """Ask for what is new, and again for what is not answered; give up frames that waited too long."""
        self._expire(now)
        out = self.take_ready()  # what waited for a flow that has ended or moved
        if now >= self._repeat_at:
            out += self._repeat()
            self._repeat_at = now + REPEAT
        if self._fresh:
            out += self._ask_fresh()
        return out

    def _ask_fresh(self) -> list[Instruction]:
        keys = [
            SecondKey(key=bytes(key), flow=bytes(flow), chosen=key in self._chosen)
            for flow in self._fresh
            for key in sorted(self._pending[flow].pending or ()) if key not in self._request_of
        ]  # fmt: skip
        self._fresh.clear()
        return [self._ask(keys[at : at + KEYS_AT_ONCE]) for at in range(0, len(keys), KEYS_AT_ONCE)]

    def _ask(self, keys: list[SecondKey]) -> Instruction:
        request = next(self._numbers)
        self._request_of.update((each.key, request) for each in keys)
        self._asked[request] = keys
        return ToOrchestrator(AddKeys(request=request, keys=tuple(keys)))

    def _repeat(self) -> list[Instruction]:
        """The same questions under the same numbers: an answer that takes longer than a repetition still counts."""
        out: list[Instruction] = []
        for request, keys in list(self._asked.items()):
            left = [each for each in keys if self._request_of.get(each.key) == request]
            if left:
                self._asked[request] = left
                out.append(ToOrchestrator(AddKeys(request=request, keys=tuple(left))))
            else:
                del self._asked[request]
        return out

    def next_due(self) -> float | None:
        """When `poll` has something to do; None if nothing is pending or kept."""
        if self._fresh:
            return 0.0
        return self._repeat_at if self._pending or self._boxes or self._asked else None

    def validate_state(self) -> None:
        """Assert every redundancy (for tests)."""
        assert all(self._active.get(key) is flow and flow.pending for key, flow in self._pending.items())
        assert all(self._active.get(key) is flow and flow.kept for key, flow in self._boxes.items())
        assert self.kept == sum(len(flow.kept or ()) for flow in self._boxes.values())
        assert self._bytes == sum(len(each.frame) for flow in self._boxes.values() for each in flow.kept or ())
        assert self._fresh.keys() <= self._pending.keys()
        assert self._chosen <= {key for flow in self._pending.values() for key in flow.pending or ()}
        boxed = {each.key: flow for flow in self._boxes.values() for each in flow.kept or ()}
        assert boxed == self._box_of
