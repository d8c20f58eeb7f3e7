"""One move: flows leave the source and live at the target; nothing is lost, doubled or reordered.

Sans-IO: `Move.handle` takes an event and the time and returns instructions, to be carried out **in order**. It asks
nothing of clocks, sockets or disks. Which step follows is `orchestrator.steps`; this file says what is done in each.

Rules that the shell keeps:
1. `Record` is on disk before the next instruction is begun: a step is journalled before it is taken.
2. Every `Suspend`, `Drain` and `Resume` ends in exactly one `NetworkDone` or `NetworkFailed`, also after `Abandon`.
   A move has at most one of them under way.
3. `Send` may fail silently: the move repeats its request until it is answered or the replica is gone.
4. `Tick` is due at `Move.timer`.
5. `Recover` is given when the network has suspended the scope again (in `steps.SUSPENDED`) under the fresh epoch *and*
   has drained the owner: what the former process relayed is behind the owner's marker then. Without that, the new
   hold would let packets go that stand behind relayed ones still in a queue.

The decision is the `Record` of `Step.COMMITTING`. Before it the source owns the flows and any failure leads back
there; from it on the target does, and every failure but the target's own death leads forward. The target may still
die in COMMITTING: nothing was delivered to it yet and the source's copies are frozen, so the move turns.

A hold must begin behind everything that was sent to the replica before the suspension: packets still in its queue
would be held, and then stand behind younger ones that were buffered. So the source is drained (CLEARING) before THAWING
too, unless it was already.

Flows that are still in use at the source when its deadline passes undo the move, and are reported in `Move.pinned`.
Whoever planned it plans again without them: the move of the rest is then an ordinary one, with nothing to give back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.errors import InvalidTransition
from orchestrator.steps import DECIDED, NETWORK, TERMINAL, TRANSITIONS, Step, Trigger
from splitmerge import messages as m
from splitmerge.errors import BadInput

NOBODY = 0
"""Source of a move of flows that no replica has seen yet."""
HISTORY = 256
"""Entries of a move's history that are kept for post-mortem."""


@dataclass(frozen=True, slots=True)
class Times:
    """Deadlines and pauses of a move, in seconds."""

    retry: float = 0.25
    """A request is repeated after this, then after twice as long, and so on."""
    retry_most: float = 2.0
    """… but not after longer than this."""
    references: float = 2.0
    """How long the source may wait for reference counts; flows still pinned then stay."""
    export: float = 30.0
    """Deadline of EXPORTING as a whole."""
    discard: float = 2.0
    """Deadline of DISCARDING: what stays staged is void by its epoch anyway."""
    network_retry: float = 0.5
    """Pause before a failed step of the network is tried again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a move is to do. ``source`` is `NOBODY` for new flows, whose packets the controller buffers already."""

    epoch: int
    scope: m.Scope
    source: int
    target: int
    address: str = ""
    """Where the source sends the state: the target's peer address."""
    guarantee: str = "order-preserving"
    buffer: str = "cpu"

    def __post_init__(self) -> None:
        if self.source == self.target or self.target == NOBODY:
            raise BadInput("move", f"from replica {self.source} to replica {self.target}", "name two replicas")
        if not self.scope.keys and not self.scope.buckets:
            raise BadInput("move", "of no flows and no buckets", "name some")
        if (self.guarantee, self.buffer) != ("order-preserving", "cpu"):
            problem = f"guarantee {self.guarantee!r} with buffer {self.buffer!r}"
            raise BadInput("move", problem, "this version has order-preserving with buffer cpu")


# -- events ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """No other move touches the scope: go."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Somebody wants it off. Has no effect after the decision."""

    reason: str


@dataclass(frozen=True, slots=True)
class NetworkDone:
    """The step that the network was asked for is done. Counts are those of a `Resume`, else 0."""

    relayed: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class NetworkFailed:
    """The step that the network was asked for failed, or was abandoned."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A replica's message that names this move's epoch."""

    replica: int
    message: m.Message


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


@dataclass(frozen=True, slots=True)
class Tick:
    """`Move.timer` has come."""


Event = Begin | Cancel | NetworkDone | NetworkFailed | Answer | ReplicaLost | ReplicaBack | Recover | Tick


# -- instructions ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """Write the move's step to the journal before anything that follows."""

    epoch: int
    step: Step
    relay: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send this message to this replica, if it is connected."""

    replica: int
    message: m.Message


@dataclass(frozen=True, slots=True)
class Suspend:
    """Controller.suspend: buffer the packets of the scope from now on."""

    epoch: int
    scope: m.Scope
    source: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Controller.drain: return when the replica has met a marker that follows its last packets."""

    epoch: int
    replica: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Controller.resume: point the scope to the replica; deliver what was buffered, in order, before the rest."""

    epoch: int
    scope: m.Scope
    target: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """The step under way at the network waits for a replica that is gone: end it."""

    epoch: int


Instruction = Record | Send | Suspend | Drain | Resume | Abandon


# -- the move ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ask:
    """A request and what answers it."""

    replica: int
    message: m.Message
    answer: type[m.Message]
    epoch: int


@dataclass(slots=True)
class Figures:
    """What a move did, for reports."""

    staged: int = 0
    """Flows whose state was staged at the target."""
    relayed: int = 0
    dropped: int = 0
    """Packets that the buffer had no room for."""
    entered: dict[Step, float] = field(default_factory=dict)
    """When each step was last entered, in the shell's clock."""

    @property
    def suspended(self) -> float:
        """Seconds for which the network held packets back; 0 while it still does, or if it never did."""
        begun = self.entered.get(Step.SUSPENDING)
        ended = self.entered.get(Step.RELEASING, self.entered.get(Step.DISCARDING))
        ended = ended if ended is not None else self.entered.get(Step.DONE, self.entered.get(Step.UNDONE))
        return 0.0 if begun is None or ended is None else ended - begun


class Move:
    """The state machine of one move. ``orphan``: the source is gone from the start, nothing can be exported."""

    def __init__(
        self,
        plan: Plan,
        times: Times | None = None,
        *,
        orphan: bool = False,
        step: Step = Step.PLANNED,
    ) -> None:
        self.plan = plan
        self.times = times or Times()
        self.step = step
        self.relay = plan.epoch
        self.pinned: tuple[bytes, ...] = ()
        """Flows that were in use at the source for too long: why the move was undone."""
        self.reason = ""
        self.figures = Figures()
        self.history: deque[str] = deque(maxlen=HISTORY)
        self.source_gone = orphan or plan.source == NOBODY
        self.target_gone = False
        self._asks: deque[_Ask] = deque()
        self._cancelled = False
        self._operating = False
        self._retry_at: float | None = None
        self._retry_after = 0.0
        self._deadline: float | None = None

    @property
    def ended(self) -> bool:
        """Whether the move is over, one way or the other."""
        return self.step in TERMINAL

    @property
    def decided(self) -> bool:
        """Whether the target is the owner, as far as the journal is concerned."""
        return self.step in DECIDED

    @property
    def timer(self) -> float | None:
        """When to send `Tick`; None if there is nothing to wait for."""
        due = [at for at in (self._retry_at, self._deadline) if at is not None]
        return min(due, default=None)

    def owners(self) -> tuple[dict[int, int], dict[bytes, int]]:
        """Of a move that is over: owners that change with it, of buckets and of flows with entries of their own.

        Undone, the flows named have entries that lead where they led; a move that never began leaves none.
        """
        scope = self.plan.scope
        if self.step is Step.DONE:
            return dict.fromkeys(scope.buckets, self.plan.target), dict.fromkeys(scope.keys, self.plan.target)
        begun = len(self.figures.entered) > 1 and self.plan.source != NOBODY
        return {}, dict.fromkeys(scope.keys, self.plan.source) if begun else {}

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take one event at ``now`` (seconds, any monotonic clock); return what to do, in order.

        Answers that come late, twice, or from the wrong replica change nothing.
        :raises InvalidTransition: if the event makes no sense here: a bug of the shell or of the table.
        """
        self.history.append(f"{now:.6f} {self.step.name} {_brief(event)}")
        match event:
            case Begin():
                return self._advance(Trigger.NEW if self.plan.source == NOBODY else Trigger.BEGIN, now)
            case Cancel(reason):
                return self._cancel(reason, now)
            case NetworkDone(relayed, dropped):
                self.figures.relayed += relayed
                self.figures.dropped += dropped
                return self._network_ended(True, "", now)
            case NetworkFailed(reason):
                return self._network_ended(False, reason, now)
            case Answer(replica, message):
                return self._answer(replica, message, now)
            case ReplicaLost(replica):
                return self._lost(replica, now)
            case ReplicaBack(replica):
                return self._repeat(now) if self._asks and self._asks[0].replica == replica else []
            case Recover(relay):
                self.relay = relay
                return self._recover(now)
            case Tick():
                return self._tick(now)

    # -- events ------------------------------------------------------------------------------------------------

    def _cancel(self, reason: str, now: float) -> list[Instruction]:
        if self.decided or self.ended:
            return []
        self._cancelled = True
        self.reason = self.reason or reason
        if self._operating:
            return [Abandon(self.relay)] if self.step is Step.DRAINING else []
        if Trigger.CANCEL not in TRANSITIONS[self.step]:
            return []
        return self._advance(Trigger.CANCEL, now)

    def _network_ended(self, ok: bool, reason: str, now: float) -> list[Instruction]:
        if not self._operating:
            raise InvalidTransition(self.plan.epoch, self.step.name, "network ended", list(self.history))
        self._operating = False
        if not ok:
            self.reason = self.reason or reason
        return self._after_network(ok, now)

    def _after_network(self, ok: bool, now: float) -> list[Instruction]:
        peers = {
            Step.RESUMING: self.target_gone, Step.RESTORING: self.source_gone, Step.CLEARING: self.source_gone,
        }  # fmt: skip
        peer_gone = peers.get(self.step, True)
        if not ok and not peer_gone:
            return self._retry_network(now)
        if (gone := self._gone()) is not None:
            return self._advance(gone, now)
        if ok and self._cancelled and Trigger.CANCEL in TRANSITIONS[self.step]:
            return self._advance(Trigger.CANCEL, now)
        if ok:
            return self._advance(Trigger.OK, now)
        return self._advance(Trigger.FAILED, now)

    def _retry_network(self, now: float) -> list[Instruction]:
        self._retry_at = now + self.times.network_retry
        return self._advance(Trigger.FAILED, now)

    def _answer(self, replica: int, message: m.Message, now: float) -> list[Instruction]:
        if not self._asks or self._asks[0].replica != replica:
            return []
        ask = self._asks[0]
        if isinstance(message, m.Refused):
            if message.request != type(ask.message).__name__ or message.epoch != ask.epoch:
                return []
            self.reason = self.reason or f"replica {replica} refused {message.request}: {message.reason}"
            # Refused by the target and no source to go back to: nobody has the flows, as if both were gone.
            stranded = self.step is Step.COMMITTING and self.source_gone
            return self._advance(Trigger.BOTH_GONE if stranded else Trigger.REFUSED, now)
        if not isinstance(message, ask.answer) or getattr(message, "epoch", None) != ask.epoch:
            return []
        self._asks.popleft()
        if isinstance(message, m.Exported):
            return self._advance(self._exported(message), now)
        if self._asks:
            return self._ask_now(now)
        return self._advance(Trigger.ANSWERED, now)

    def _exported(self, message: m.Exported) -> Trigger:
        self.figures.staged = len(message.staged)
        self.pinned = tuple(sorted(set(message.pinned)))
        if not self.pinned:
            return Trigger.ANSWERED
        self.reason = f"{len(self.pinned)} of its flows are in use at the source"
        return Trigger.PINNED

    def _lost(self, replica: int, now: float) -> list[Instruction]:
        if replica not in (self.plan.source, self.plan.target):
            return []
        self.source_gone = self.source_gone or replica == self.plan.source
        self.target_gone = self.target_gone or replica == self.plan.target
        self.reason = self.reason or f"replica {replica} is gone"
        if self._operating:
            waits_for = {Step.DRAINING: self.plan.source, Step.RESTORING: self.plan.source}
            waits_for |= {Step.RESUMING: self.plan.target, Step.CLEARING: self.plan.source}
            return [Abandon(self.relay)] if waits_for.get(self.step) == replica else []
        gone = self._gone()
        if self.ended or gone is None:
            return []
        return self._after_network(False, now) if self.step in NETWORK else self._advance(gone, now)

    def _recover(self, now: float) -> list[Instruction]:
        before = self.step
        if before not in DECIDED:
            self.reason = self.reason or f"the orchestrator ended in step {before.name}"
        following = TRANSITIONS[before][Trigger.RECOVER]
        if following is Step.THAWING and self.source_gone:
            gone = Trigger.BOTH_GONE if self.target_gone else Trigger.SOURCE_GONE
            return self._advance(gone, now)
        # A step that leads to itself on recovery is entered again: its requests went with the old process.
        return self._enter(following, now) if following is before else self._advance(Trigger.RECOVER, now)

    def _tick(self, now: float) -> list[Instruction]:
        if self._deadline is not None and now >= self._deadline:
            self.reason = self.reason or f"no answer in step {self.step.name}"
            return self._advance(Trigger.DEADLINE, now)
        if self._retry_at is None or now < self._retry_at:
            return []
        if self.step in NETWORK:
            return self._operate()
        return self._repeat(now)

    # -- steps -------------------------------------------------------------------------------------------------

    def _gone(self) -> Trigger | None:
        if self.source_gone and self.target_gone:
            return Trigger.BOTH_GONE
        if self.target_gone:
            return Trigger.TARGET_GONE
        return Trigger.SOURCE_GONE if self.source_gone else None

    def _advance(self, trigger: Trigger, now: float) -> list[Instruction]:
        following = TRANSITIONS[self.step].get(trigger)
        if following is None:
            raise InvalidTransition(self.plan.epoch, self.step.name, trigger.name, list(self.history))
        return [] if following is self.step else self._enter(following, now)

    def _enter(self, step: Step, now: float) -> list[Instruction]:
        self._asks.clear()
        self._retry_at = self._deadline = None
        self.step = step
        self.figures.entered[step] = now
        record = Record(self.plan.epoch, step, self.relay)
        if step in NETWORK:
            return [record, *self._operate()]
        ask = _ASKS.get(step)
        if ask is None:
            return [record]
        self._asks.extend(ask(self))
        if step is Step.EXPORTING:
            self._deadline = now + self.times.export
        if step is Step.DISCARDING:
            self._deadline = now + self.times.discard
        return [record, *self._ask_now(now)] if self._asks else [record]

    def _operate(self) -> list[Instruction]:
        self._operating, self._retry_at = True, None
        source, target = self.plan.source, self.plan.target
        match self.step:
            case Step.SUSPENDING:
                return [Suspend(self.relay, self.plan.scope, source)]
            case Step.DRAINING | Step.CLEARING:
                return [Drain(self.relay, source)]
            case Step.RESUMING:
                return [Resume(self.relay, self.plan.scope, target)]
            case _:
                return [Resume(self.relay, self.plan.scope, source)]

    def _ask_now(self, now: float) -> list[Instruction]:
        self._retry_after = self.times.retry
        self._retry_at = now + self._retry_after
        return [Send(self._asks[0].replica, self._asks[0].message)]

    def _repeat(self, now: float) -> list[Instruction]:
        self._retry_after = min(self._retry_after * 2, self.times.retry_most)
        self._retry_at = now + self._retry_after
        return [Send(self._asks[0].replica, self._asks[0].message)]

    def validate(self) -> None:
        """Check what must always be true of a move. :raises AssertionError: if it is not."""
        assert self.plan.source != self.plan.target
        assert self.relay >= self.plan.epoch
        if self.ended:
            assert not self._operating and not self._asks and self.timer is None
        if self._operating:
            assert self.step in NETWORK and not self._asks
        if self.step in NETWORK:
            assert self._operating or self._retry_at is not None
        if self._asks:
            assert self._retry_at is not None and self.step in _ASKS


def _epochs(move: Move) -> tuple[int, ...]:
    """The move's own epoch, under which state is staged and frozen, and that of holding, if it is another one."""
    return (move.plan.epoch,) if move.relay == move.plan.epoch else (move.plan.epoch, move.relay)


def _ask_export(move: Move) -> list[_Ask]:
    plan = move.plan
    export = m.Export(
        epoch=plan.epoch, scope=plan.scope, target=plan.target, address=plan.address, deadline=move.times.references
    )
    return [_Ask(plan.source, export, m.Exported, plan.epoch)]


def _ask_commit(move: Move) -> list[_Ask]:
    scope, target = move.plan.scope, move.plan.target
    return [_Ask(target, m.Commit(epoch=epoch, scope=scope), m.Committed, epoch) for epoch in _epochs(move)]


def _ask_release(move: Move) -> list[_Ask]:
    release = m.Release(epoch=move.plan.epoch, scope=move.plan.scope)
    return [_Ask(move.plan.source, release, m.Released, move.plan.epoch)]


def _ask_thaw(move: Move) -> list[_Ask]:
    scope, source = move.plan.scope, move.plan.source
    return [_Ask(source, m.Thaw(epoch=epoch, scope=scope), m.Thawed, epoch) for epoch in _epochs(move)]


def _ask_discard(move: Move) -> list[_Ask]:
    return [_Ask(move.plan.target, m.Discard(epoch=move.plan.epoch), m.Discarded, move.plan.epoch)]


_ASKS: dict[Step, Callable[[Move], list[_Ask]]] = {
    Step.EXPORTING: _ask_export,
    Step.COMMITTING: _ask_commit,
    Step.RELEASING: _ask_release,
    Step.THAWING: _ask_thaw,
    Step.DISCARDING: _ask_discard,
}


def _brief(event: Event) -> str:
    """The event in one short line: scopes may name 100,000 flows."""
    match event:
        case Answer(replica, message):
            return f"{type(message).__name__} from {replica}"
        case _:
            return str(event)
