"""`Guest`: the library as a middlebox sees it (figure 5 of the paper), over the cores of this package.

It does no I/O: `handle` takes control messages, `plane` takes frames, and what is to be sent comes out as instructions
(packets that the middlebox sends go to ``send``). A `Guest` alone is enough to test a middlebox.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from guestlib.coherence.coherent import Coherent
from guestlib.coherence.objects import LOCAL, SYNCH, Combiner, Flags
from guestlib.coherence.synch import Alone
from guestlib.errors import FlowMigrated, GuestError
from guestlib.instructions import Await, Begin, Hold, Instruction, Keep, ToOrchestrator, Unhold, drive
from guestlib.moves import Moves
from guestlib.packets.dataplane import DataPlane
from guestlib.packets.holds import Room
from guestlib.partitioned.fences import Fences
from guestlib.partitioned.flows import Flow, FlowTable
from guestlib.partitioned.gone import GoneKeys
from guestlib.partitioned.ports import FreePorts
from guestlib.partitioned.questions import Questions
from guestlib.partitioned.relations import Relations
from guestlib.partitioned.timers import TimerQueue
from guestlib.plain import not_run, refuse_unplain
from guestlib.settings import Settings, configure
from guestlib.state import StateTypes
from splitmerge.colocation import Outside, PortRange
from splitmerge.errors import BadInput
from splitmerge.figures import REMEDY, checked
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Claim, FlowsGone, KeysAdded, ListFlows, Message, Owns, Relate

logger = logging.getLogger("guestlib")

TOMBSTONES = 262144
"""Keys of which it is remembered that they moved away."""

ALONE_DEADLINE = 1.0
"""Seconds that a guest without a shell pretends to have."""

Config = TypeVar("Config", bound=msgspec.Struct)
TimerCallback = Callable[["Guest", FlowKey], object]
RunSequence = Callable[[str, Begin, Flags], Any]
"""How a shell waits: runs the sequence that this begins, about this object, within the deadline of these flags."""


class Guest:
    """The guest library of one replica. Keys are flow keys; times are seconds of the shell's monotonic clock."""

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        tombstones: int = TOMBSTONES,
        plane: DataPlane | None = None,
    ) -> None:
        self._config = Settings(config or {})
        self._config_taken = False
        self.replica = 0
        self.now = 0.0
        """When the batch of packets, or whatever else is being handled, came."""
        self.clock: Callable[[], float] = self._came
        """The time as it is: timers run from then, though a batch may take long."""
        self.sent: list[bytes] = []
        """Frames sent while no interface is attached (in unit tests)."""
        self.send: Callable[[bytes], object] = self.sent.append
        """Send one Ethernet frame on the traffic interface."""
        self.figures: dict[str, float] = {}
        """The middlebox's own numbers; they travel in Stats, checked there (`splitmerge.figures`)."""
        self.plane = plane or DataPlane()
        self.types = StateTypes()
        self.timers = TimerQueue()
        self.table = FlowTable(self.timers, Fences(tombstones))
        self.table.steering.on_busy = self._steering_busy
        self.table.steering.on_own_lost = self._end_lost
        self.plane.strays = self.table.strays
        self.coherent = Coherent(self.types)
        self._callbacks: dict[str, TimerCallback] = {}
        self._on_wanted: Callable[[Guest, FlowKey, FlowKey], object] = lambda guest, key, wanted: None
        self.moves = Moves(self.table, self.types, self._callbacks, self.plane)
        self.relations = Relations(self.table)
        self._active = self.table.active
        self._gone = GoneKeys()
        self._ports = FreePorts(self.table)
        self._questions = Questions(self.table, self._wanted)
        self._outbox: list[Instruction] = []
        self._run: RunSequence = self._run_alone
        self._alone = Alone()
        self._send_now: Callable[[bytes], object] = self.send

    def begin(self, replica: int, incarnation: str, run: RunSequence | None = None) -> None:
        """After the snapshot: who this replica is, and how its shell waits for others."""
        self.replica = self.moves.replica = replica
        self.coherent.origin = incarnation
        self._run = run or self._run_alone

    def _came(self) -> float:
        return self.now

    def check_figures(self, where: str) -> None:
        """After ``setup``: :raises BadInput: if it has made a figure that statistics would leave out."""
        if wrong := checked(self.figures).wrong:
            raise BadInput(where, f"a figure that its setup makes: {wrong[0]}", REMEDY)

    # -- configuration --------------------------------------------------------------------------------------

    @property
    def config(self) -> Mapping[str, Any]:
        """The middlebox's own configuration, a dict, as it was given; `configure` checks it."""
        self._config_taken = True
        return self._config

    def configure(self, kind: type[Config]) -> Config:
        """The same as this msgspec Struct, in ``setup``; what is not given has the Struct's defaults.

        :raises BadInput: for a key without a field, a wrong type or a value out of bounds, with the fields there are.
        """
        return configure(kind, self.config, f"middlebox: {kind.__name__}")

    def unread(self) -> tuple[str, ...]:
        """After ``setup``: keys of the configuration that it has not asked for; perhaps nobody ever will."""
        return self._config.unread() if self._config_taken else tuple(sorted(self._config))

    # -- partitioned state ---------------------------------------------------------------------------------

    def register_state(self, *types: type[Any]) -> None:
        """Let these msgspec Struct types be flow or coherent state, under their class names. :raises StateError:"""
        for each in types:
            self.types.register(each)

    def create_flow(
        self,
        key: FlowKey,
        state: Any,
        *,
        aliases: Iterable[FlowKey] = (),
        group: str = "",
        expected: bool = False,
    ) -> Any:
        """Add a flow; its state is returned, not yet referenced.

        :param aliases: further keys of the same flow (a NAT's translated side). A frame sent with such a key waits
            until packets of that key will come to the replica that has the flow, unless they do anyway.
        :param group: flows of one group move together.
        :param expected: no packet has come by ``key`` either (a connection that somebody announced): it is steered too.
        :raises FlowExists: one of the keys is in use.
        :raises FlowMigrated: one of them lives at another replica: drop the packet.
        :raises StateError: the state's type is not registered.
        """
        if type(state) not in self.types.kinds:
            self.types.kind_of(state)
        self.table.create(key, state, tuple(aliases), group, expected=expected)
        return state

    def add_alias(self, key: bytes, alias: FlowKey) -> None:
        """Let a flow be found by one more key. :raises FlowMissing: :raises FlowExists: :raises FlowMigrated:"""
        self.table.add_alias(key, alias)

    def group(self, key: bytes, name: str) -> None:
        """Put a flow into a group, whose flows move together (empty: into none). :raises FlowMissing: FlowMigrated:"""
        self.table.set_group(key, name)

    def colocated_port(
        self, outside: Outside, key: bytes, within: PortRange, start: int = 0
    ) -> tuple[int, FlowKey] | None:
        """A free port such that the translated key has the bucket of ``key``, and that key; None if none is free.

        The keys of a bucket are where the bucket is, so no other replica can choose the same. Where that bucket is not
        here (its flow was moved without it, with its group), the translated key is in one that is. Where none is, it is
        in the bucket of ``key`` all the same, for an expected flow, whose own key gets an entry; a port of an earlier
        flow that has left comes last there, as that one may live elsewhere, and the switch would not be told.
        :param start: which of the ports is tried first; a random number makes the choice hard to guess (RFC 6056).
        """
        return self._ports.choose(outside, key, within, start)

    def send_after(self, frame: bytes, key: bytes) -> None:
        """Send a frame when packets of every key of this flow come to its replica: at once, unless some are pending.

        For frames that announce a connection. Later frames of the frame's own key stay behind it. If one of the flow's
        keys is refused, it is dropped: see `on_refused`.
        """
        if not self.table.steering.keep(frame, key, self.now):
            self._send_now(frame)

    def waits_for(self, key: bytes) -> bool:
        """Whether `send_after` would keep a frame for this flow: the switch has yet to be told of one of its keys."""
        return self.table.steering.waits_for(key)

    def _steering_busy(self, busy: bool) -> None:
        """Frames are looked at before they are sent only while some of them may have to wait."""
        if busy:
            self._send_now, self.send = self.send, self._send_in_turn
        else:
            self.send = self._send_now

    def _send_in_turn(self, frame: bytes) -> None:
        if not self.table.steering.keep(frame, b"", self.now):
            self._send_now(frame)

    def delete_flow(self, key: bytes) -> None:
        """Free a flow and its timers, also inside a transaction on it. :raises FlowMissing: :raises FlowMigrated:"""
        flow = self.table.delete(key)
        for kept in flow.kept or ():  # its last words; no state is left to miss an answer
            self._send_now(kept.frame)
        self._gone.note(flow.keys)

    def get_flow(self, key: bytes) -> Any:
        """The flow's state, referenced until `put_flow`: the flow cannot move meanwhile.

        :raises FlowMissing: there is none: create it.
        :raises FlowMigrated: it lives elsewhere, or is leaving: drop the packet.
        """
        flow = self._active.get(key)
        if flow is None:
            flow = self.table.find(key)
        flow.refs += 1
        return flow.state

    def put_flow(self, key: bytes) -> None:
        """End the transaction that `get_flow` began. :raises TransactionError: if none is open."""
        flow = self._active.get(key)
        if flow is None or not flow.refs:
            self.table.put_absent(key)
            return
        flow.refs -= 1
        if flow.on_unpinned and not flow.refs:
            flow.unpinned()

    def flow(self, key: bytes) -> FlowTransaction:
        """``with guest.flow(key) as state:`` is get_flow and put_flow."""
        return FlowTransaction(self, key)

    def has_flow(self, key: bytes) -> bool:
        """Whether the flow is active here."""
        return key in self._active

    # -- timers --------------------------------------------------------------------------------------------

    def on_timer(self, name: str, callback: TimerCallback) -> None:
        """Name a callback, in ``setup``: timers travel by name. :raises GuestError: if the name is taken.

        :raises MiddleboxError: if the callback is a coroutine function or a generator; so do the other calls that take
            functions.
        """
        if name in self._callbacks:
            raise GuestError(f"timer {name!r} has a callback already")
        refuse_unplain(f"timer {name!r}", "its callback", callback)
        self._callbacks[name] = callback

    def on_refused(self, callback: Callable[[Guest, FlowKey, FlowKey], object]) -> None:
        """In ``setup``: call this with a flow's key and the second key of it that another living flow has.

        Frames that waited for that key, or announce the flow (`send_after`), are dropped already, and the flow has the
        key no more: without a callback it goes on without it. If it was expected, and that key is its own, it ends
        behind the callback, unless it has ended in it: its packets come to the other flow.
        """

        refuse_unplain("on_refused", "its callback", callback)

        def refused(key: FlowKey, second: FlowKey) -> None:
            try:
                _run_whole(callback(self, key, second))
            except Exception:
                logger.exception("second key %s of %s refused: callback failed", second, key)

        self.table.steering.on_refused = refused

    def _end_lost(self, flow: Flow) -> None:
        """Another flow has its own key."""
        logger.warning("%s ends: another replica has a flow of this key", flow.key)
        self.delete_flow(flow.key)

    def on_wanted(self, callback: Callable[[Guest, FlowKey, FlowKey], object]) -> None:
        """In ``setup``: call this with a flow's key and that key of it which a new flow elsewhere is to have.

        A flow that has ended, and is kept for its time-out only, is best deleted then. While it stays, the new one is
        refused (`on_refused` there); so it is without a callback.
        """
        refuse_unplain("on_wanted", "its callback", callback)
        self._on_wanted = callback

    def flow_timer(self, key: bytes, timeout: float, name: str) -> None:
        """Call ``name``'s callback once, ``timeout`` seconds from now, wherever the flow is then; again moves it.

        :raises FlowMissing: :raises FlowMigrated: :raises GuestError: if the name has no callback.
        """
        flow = self._active.get(key)
        if flow is None:
            flow = self.table.find(key)
        if name not in self._callbacks:
            raise GuestError(f"timer {name!r} has no callback: call on_timer in setup")
        self.timers.arm(flow, name, self.clock() + timeout)

    def cancel_timer(self, key: bytes, name: str) -> bool:
        """Whether there was such a timer; then it will not fire. :raises FlowMissing: :raises FlowMigrated:"""
        return self.timers.cancel(self.table.find(key), name)

    def fire_timers(self, now: float, limit: int = 256) -> int:
        """Call the callbacks of timers that are due, at most ``limit``; how many. A failing callback is logged."""
        self.now = now
        fired = 0
        while fired < limit and (timer := self.timers.pop_due(now)) is not None:
            fired += 1
            try:
                _run_whole(self._callbacks[timer.name](self, timer.flow.key))
            except FlowMigrated as error:
                logger.info("timer %s: %s", timer.name, error)
            except Exception:
                logger.exception("timer %s of %s failed", timer.name, timer.flow.key)
                self.failed()
        return fired

    # -- coherent state ------------------------------------------------------------------------------------

    def create_shared(self, key: str, initial: Any, combiner: Combiner | None = None) -> None:
        """Create a coherent object. ``initial`` is each replica's first element: what adds nothing when combined.

        :raises SharedExists: :raises StateError:
        """
        refuse_unplain(f"shared object {key!r}", "its combiner", combiner)
        self.coherent.create(key, initial, combiner)

    def delete_shared(self, key: str) -> None:
        """Forget the object at this replica. :raises SharedMissing: :raises TransactionError: while it is in use."""
        self.coherent.delete(key)

    def get_shared(self, key: str, flags: Flags = LOCAL) -> Any:
        """Open a transaction.

        With a combiner: LOCAL this replica's element, to write; PULL the value over all, to read.
        Without one: SYNCH the one value under its lock, to write; LOCAL the copy that this replica saw last, to read.
        PULL waits until the other replicas have answered between their transactions, SYNCH until the lock is free.
        :raises SharedMissing: :raises SharedError: the object is not of the kind that these flags are for.
        :raises TransactionError: PULL or SYNCH inside a transaction on the object, which would wait for itself.
        :raises Timeout: it did not come in time.  :raises SynchUnavailable: the lock service refuses.
        """
        if flags is LOCAL:
            return self.coherent.get_local(key)
        return self._run(key, lambda now, deadline: self.coherent.get(key, flags, now, deadline), flags)

    def put_shared(self, key: str, flags: Flags = LOCAL) -> None:
        """Close the transaction. PUSH: the element then goes to the orchestrator. SYNCH: write, and free the lock.

        :raises TransactionError: none is open, or what was only to be read was written to.
        :raises LockLost: (SYNCH) somebody else has got the lock meanwhile; nothing was written.
        :raises Timeout: (SYNCH) no answer came: nobody knows whether it was written.
        """
        if flags is SYNCH:
            self._run(key, lambda now, deadline: self.coherent.write(key, now), flags)
        else:
            self._outbox += self.coherent.put(key, flags, self.now)

    def drop_shared(self, key: str) -> None:
        """Close a SYNCH transaction without writing, and free the lock. :raises TransactionError: if none is open."""
        self.coherent.drop(key)

    def shared(self, key: str, flags: Flags = LOCAL) -> SharedTransaction:
        """``with guest.shared(key, flags) as value:`` is get_shared and put_shared; PUSH is LOCAL and then PUSH.

        If the block raises, SYNCH writes nothing and frees the lock.
        """
        return SharedTransaction(self, key, flags)

    def last_combined(self, key: str) -> Any:
        """What the combiner gave last (on PULL, PUSH or the end); None before. :raises SharedMissing:"""
        return self.coherent.find(key).combined

    def _run_alone(self, key: str, begin: Begin, flags: Flags) -> Any:
        """Without a shell there are no others."""

        def wait(awaited: Await) -> float:
            for step in awaited.steps:
                if (answer := self._alone.answer(step)) is not None:
                    self.coherent.handle(answer, self.now)
            return self.now

        return drive(begin(self.now, ALONE_DEADLINE), wait)

    # -- for the shell -------------------------------------------------------------------------------------

    def handle(self, message: Message, now: float) -> list[Instruction]:
        """Take one control message; what to do about it, in order."""
        self.now = now
        match message:
            case ListFlows():
                return [ToOrchestrator(self._questions.listed(message, now))]
            case Relate():
                return self.relations.handle(message, now)
            case Claim():
                return [ToOrchestrator(self._questions.claimed(message))]
            case Owns(buckets=buckets, mixed=mixed):
                self.table.fences.owned = {*buckets, *mixed}
                self.table.fences.mixed = set(mixed)
                return []
            case KeysAdded():
                return self.table.steering.handle(message)
        steps = self.moves.handle(message, now) + self.coherent.handle(message, now)
        return [out for step in steps for out in self._route(step, now)]

    def flush(self, now: float) -> list[Instruction]:
        """What is due after a batch of frames."""
        steps = self.plane.flush()
        return steps + self.moves.pump(now) if self.moves.carrying else steps

    def marker_met(self, epoch: int) -> list[Instruction]:
        """Everything that the switch sent before this epoch's marker has been processed."""
        return [out for step in self.moves.marker_met(epoch, self.now) for out in self._route(step, self.now)]

    def poll(self, now: float) -> list[Instruction]:
        """Everything that time or the middlebox has made due, except timers (`fire_timers`) and `take_gone`."""
        self.now = now
        steps = [*self._outbox, *self.poll_control(now), *self.plane.poll(now)]
        self._outbox.clear()
        return steps

    def poll_control(self, now: float) -> list[Instruction]:
        """The part of `poll` that is about control messages."""
        steps = self.moves.poll(now) + self.coherent.poll(now)
        steps += self.table.steering.poll(now) + self.relations.poll(now)
        return [out for step in steps for out in self._route(step, now)]

    def next_due(self) -> float | None:
        """When `poll` or `fire_timers` has something to do; None if nothing is known to come."""
        if self._outbox:
            return 0.0
        parts = (self.timers, self.moves, self.plane, self.coherent, self.table.steering, self.relations)
        dues = (part.next_due() for part in parts)
        return min((due for due in dues if due is not None), default=None)

    def failed(self) -> None:
        """The middlebox has failed in a callback: locks that it holds are freed, unwritten."""
        if not self.coherent.concurrent:
            self.coherent.drop_all()

    def take_gone(self) -> FlowsGone | None:
        """Keys deleted since the last call, for the orchestrator; None if there are none."""
        return self._gone.take(self._active)

    def keep_gone(self, gone: FlowsGone) -> None:
        """The orchestrator could not be told: tell it later."""
        self._gone.note(gone.keys)

    def _route(self, step: Instruction, now: float) -> list[Instruction]:
        match step:
            case Hold(epoch, keys, buckets, spared):
                return self.plane.hold(epoch, keys, buckets, now, spared)
            case Keep(epoch, keys, buckets, packets, size, spared):
                return self.plane.keep(epoch, keys, buckets, Room(packets, size), spared)
            case Unhold(epoch):
                return self.plane.release(epoch)
            case _:
                return [step]

    def _wanted(self, key: FlowKey, second: FlowKey) -> None:
        try:
            _run_whole(self._on_wanted(self, key, second))
        except Exception:
            logger.exception("%s of %s is wanted: callback failed", second, key)
            self.failed()


def _run_whole(result: object) -> None:
    """:raises NotRun: if what a callback returned is code that has not run."""
    if result is not None and (problem := not_run(result)) is not None:
        raise problem


class FlowTransaction:
    """The context manager of `Guest.flow`: right even if the flow is deleted inside."""

    __slots__ = ("_flow", "_guest", "_key")

    def __init__(self, guest: Guest, key: bytes) -> None:
        self._guest = guest
        self._key = key
        self._flow: Flow | None = None

    def __enter__(self) -> Any:
        state = self._guest.get_flow(self._key)
        self._flow = self._guest.table.active[self._key]
        return state

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._guest.table.active.get(self._key) is self._flow:
            self._guest.put_flow(self._key)
        else:  # deleted inside, perhaps created anew
            self._guest.table.put_absent(self._key)


class SharedTransaction:
    """The context manager of `Guest.shared`."""

    __slots__ = ("_flags", "_guest", "_key")

    def __init__(self, guest: Guest, key: str, flags: Flags) -> None:
        self._guest = guest
        self._key = key
        self._flags = flags

    def __enter__(self) -> Any:
        return self._guest.get_shared(self._key, self._flags.opens)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None and self._flags is SYNCH:
            self._guest.drop_shared(self._key)
        else:
            self._guest.put_shared(self._key, self._flags.closes)
