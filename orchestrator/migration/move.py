"""One move: flows leave the source and live at the target, by the way and with the guarantee that its plan says.

Sans-IO: `Move.handle` takes an event and the time and returns instructions, to be carried out **in order**. It asks
nothing of clocks, sockets or disks. Which step follows is `orchestrator.migration.paths`; what is asked for in each is
`orchestrator.migration.asks`.

Rules that the shell keeps:
1. `Record` is on disk before the next instruction is begun: a step is journalled before it is taken. Only DRAINING
   and RESUMING, from which a new process does what it would do from the step before, are begun first (``later``); and
   a marker for the source may leave at the end of the step before its own (`Move.drains_next`).
2. Every `Suspend`, `Redirect`, `Drain` and `Resume` ends in exactly one `NetworkDone` or `NetworkFailed`, also after
   `Abandon`. A move has at most one of them under way.
3. `Send` may fail silently: the move repeats its request until it is answered or the replica is gone.
4. `Tick` is due at `Move.timer`.
5. `Recover` is given when the network has suspended the scope again (in `paths.SUSPENDED`) under the fresh epoch *and*
   has drained both replicas, as far as they live: what the former process relayed is behind the owner's marker then,
   and the target keeps all that it was sent. Without that, a new hold would let packets go that stand behind relayed
   ones still in a queue.

The decision is the `Record` of `Step.COMMITTING`. Before it the source owns the flows and any failure leads back
there; from it on the target does, and every failure but the target's own death leads forward. The target may still
die in COMMITTING: the source's copies are frozen, so the move turns.

A hold must begin behind everything that was sent to the replica before it was fenced off: packets still in its queue
would be held, and then stand behind younger ones that were buffered. So the source is drained (CLEARING) before THAWING
too, unless it was already.

A move that is called off after the switch was pointed to the target is not simply pointed back: a write whose answer
was lost may take effect late, and packets would be at the source, the target and the source again, with nobody to say
which came first. So the scope is suspended (RECALLING), which fences both replicas off, before anything is given back.
And what the target gave back may come late, be it that it gave up or that it died. So the source takes no more of that
(SEALING) before it gets what is younger. How long giving back takes depends on the source: no deadline ends it, but the
target gives up when it gets no answer (`guestlib.moves.carriers`), and a replica that hangs is ended, as anywhere.

Flows in use at the source for too long undo the move, and are reported in `Move.pinned`: mostly before it has begun
(`InUse`), else when the deadline of Export passes. Whoever planned it plans again without them.
"""

from __future__ import annotations

from collections import deque

from orchestrator.errors import InvalidTransition
from orchestrator.migration.asks import ASKS, Situation, export, operation
from orchestrator.migration.events import (
    Abandon,
    Accepted,
    Answer,
    Begin,
    BufferFull,
    Cancel,
    Doubt,
    Event,
    Instruction,
    InUse,
    NetworkDone,
    NetworkFailed,
    Record,
    Recover,
    Replan,
    ReplicaBack,
    ReplicaLost,
    Send,
    Tick,
    brief,
)
from orchestrator.migration.figures import Figures
from orchestrator.migration.paths import SUSPENDED, TRANSITIONS
from orchestrator.migration.plan import NOBODY, Plan, Times
from orchestrator.migration.reasons import (
    WORTH_SAYING,
    is_behind,
    is_gone,
    joined,
    lead_elsewhere,
    no_owner,
    unanswered,
    why_stays,
)
from orchestrator.migration.requests import Requests, answers, refuses
from orchestrator.migration.steps import BEHIND, DECIDED, NETWORK, RESERVED, TERMINAL, Path, Step, Trigger
from splitmerge import messages as m

HISTORY = 256
"""Entries of a move's history that are kept for post-mortem."""
DOUBT_AGAIN = 0.25
"""Seconds until a move past its deadline looks again whether the replica that it waits for says something."""
_DRAINS = frozenset({Step.DRAINING, Step.CLEARING, Step.GATHERING, Step.SETTLING})
"""Steps in which a marker follows packets to a replica."""
_MAYBE_ORPHANED = frozenset({Step.COMMITTING, Step.RESUMING, Step.SWITCHING})
"""Decided steps that a move may be in whose source is known to have died before all state was at the target."""
_INSERTS = frozenset({
    Step.RESERVING, Step.SUSPENDING, Step.REDIRECTING, Step.RECALLING, Step.SWITCHING, Step.RESUMING,
})  # fmt: skip
"""Steps in which flows named may get entries that they had not."""
_BEGUN = frozenset(Step).difference({Step.PLANNED, Step.RESERVING, Step.PREPARING})
"""Steps of the ways that hold packets back, in which they have begun to."""
_WRITES = frozenset({Step.RESERVING, Step.SUSPENDING, Step.REDIRECTING, Step.RECALLING, Step.RESTORING})
"""Steps of moves that can still be undone, in which the switch gets entries for the flows named."""


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
        self.relay = plan.fence
        self.follows = 0
        """The move that this one was made for: what that one left, or the rest of its groups. 0: none."""
        self.planned = 0.0
        """When it was asked for, in seconds since 1970; 0: not known."""
        self.asked: tuple[int, float] | None = None
        """Before it has begun: the replica that has been asked what belongs to it, and has not answered, since when."""
        self.pinned: tuple[bytes, ...] = ()
        """Flows that were in use at the source for too long: why the move was undone."""
        self.pinned_keys: tuple[bytes, ...] = ()
        """Every key of those."""
        self.unknown: tuple[bytes, ...] = ()
        """Keys named that the source had no flow of when the move began: it does not take them."""
        self.torn = 0
        """Flows that got a key while the move began, which it does not name: the next one would name it."""
        self.refused: frozenset[bytes] = frozenset()
        """Flows of its scope that the switch refused entries: they have none."""
        self.reason = ""
        self._passing = ""
        """`reason`, if that is a failure of a step that is tried again: why the move is late, until that is done."""
        self.final = False
        """The source refused for good: with its flows' state as it is, another such move would be refused too."""
        self.moot = False
        """Undone before it began, since nothing was left to do: its flows had ended, or were at the target."""
        self.figures = Figures()
        self.history: deque[str] = deque(maxlen=HISTORY)
        self.source_gone = orphan or plan.source == NOBODY
        self.target_gone = False
        self.fenced = False
        """The controller buffers the scope's packets though its way does not begin so: undone, or recovered."""
        self._turned = False
        """The switch was told to point to the target, and may do so, without anything being suspended."""
        self._reserved = step in RESERVED and plan.path in (Path.FORWARD, Path.NONE)
        """Its flows have entries in the switch that an earlier process made."""
        self._table = TRANSITIONS[plan.path]
        self._requests = Requests(self.times)
        self._early: m.Message | None = None
        self._cancelled = False
        self._operating = False
        self._retry_at: float | None = None
        self._expires: float | None = None
        self._doubt_at: float | None = None
        self._staged_all = step in DECIDED  # as journalled: see `Recover.orphaned`

    @property
    def ended(self) -> bool:
        """Whether the move is over, one way or the other."""
        return self.step in TERMINAL

    @property
    def decided(self) -> bool:
        """Whether the target is the owner, as far as the journal is concerned."""
        return self.step in DECIDED

    @property
    def stays(self) -> bool:
        """Whether it was undone for the sake of flows that stay, `pinned` or `torn`: the others may yet move."""
        return self.step is Step.UNDONE and bool(self.pinned or self.torn)

    @property
    def called_off(self) -> bool:
        """Whether somebody wanted it off before it was decided, if only on its way back: that is final."""
        return self._cancelled

    @property
    def timer(self) -> float | None:
        """When to send `Tick`; None if there is nothing to wait for."""
        if self.ended:
            return None
        dues = (self._retry_at, self._requests.due, self._expires, self._doubt_at)
        return min((at for at in dues if at is not None), default=None)

    @property
    def working(self) -> int | None:
        """The replica whose marker, behind all that it was sent before, the move waits for; None if for nobody's."""
        return self._peer() if self._operating and self.step in _DRAINS else None

    @property
    def drains_next(self) -> bool:
        """Whether a marker for the source follows what the network does in this step."""
        return self._table[self.step].get(Trigger.OK) in _DRAINS - {Step.GATHERING} and not self.source_gone

    @property
    def stateless(self) -> bool:
        """Whether flows go on at the target without their state: the source died before all of it was there."""
        dead = self.source_gone and self.plan.source != NOBODY
        return dead and self.step is Step.DONE and not self._staged_all

    def owners(self) -> tuple[dict[int, int], dict[bytes, int]]:
        """Of a move that is over: owners that change with it, of buckets and of flows with entries of their own.

        Undone, the flows named have entries that lead where they led; a move that never touched the switch leaves none.
        """
        scope = self.plan.scope
        keys = [key for key in scope.keys if key not in self.refused]
        if self.step is Step.DONE:
            return dict.fromkeys(scope.buckets, self.plan.target), dict.fromkeys(keys, self.plan.target)
        written = self._reserved or not _WRITES.isdisjoint(self.figures.entered)
        begun = self.plan.source != NOBODY and written
        return {}, dict.fromkeys(keys, self.plan.source) if begun else {}

    def explain(self, why: str, *, holds: bool) -> None:
        """Say why the move has not begun, as long as that holds; what has happened to it meanwhile stays."""
        if holds:
            self.reason = self.reason or why
        elif self.reason == why:
            self.reason = ""

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take one event at ``now`` (seconds, any monotonic clock); return what to do, in order.

        Answers that come late, twice, or from the wrong replica change nothing.
        :raises InvalidTransition: if the event makes no sense here: a bug of the shell or of the table.
        """
        self.history.append(f"{now:.6f} {self.step.name} {brief(event)}")
        match event:
            case Accepted(asked):
                self._accept(now if asked is None else asked)
                return []
            case Begin(plan):
                return self._begin(plan, now)
            case InUse(keys, aliases, owners):
                how = self._stay(keys, (), aliases)
                if owners:
                    self.reason = lead_elsewhere(len(self.pinned), owners)
                return self._advance(how, now)
            case Cancel(reason):
                return self._cancel(reason, now)
            case NetworkDone(relayed, dropped, peak, refused, refusal):
                self.figures.relayed += relayed
                self.figures.peak = max(self.figures.peak, peak)
                self.figures.dropped += dropped
                self._entries(refused)
                self._pass()
                if refused:
                    self.reason = joined(self.reason, no_owner(len(refused), refusal))
                return self._network_ended(True, "", now)
            case NetworkFailed(reason, refused, flows, silent):
                # What the switch has no room for was not pointed anywhere either: the rest is fenced off, or back.
                enough = self.step is Step.RECALLING or (self._turned and self.step is Step.RESTORING)
                if refused and self.step is Step.RESERVING:
                    return self._no_room(reason, now)
                if refused:
                    self._entries(flows)
                doubts = self._unreached(now) if silent else []
                return [*self._network_ended(refused and enough, reason, now), *doubts]
            case Answer(replica, message):
                return self._answer(replica, message, now)
            case BufferFull(where, busy):
                why = f"the room for its packets at {where} is nearly used up{self._behind(busy, now)}"
                forward = Trigger.CANCEL in self._table[self.step]  # on its way back it is off already
                return self._cancel(why, now) if forward and self.plan.options.when_full == "abort" else []
            case ReplicaLost(replica):
                return self._lost(replica, now)
            case ReplicaBack(replica):
                return self._back(replica, now)
            case Recover(relay, orphaned):
                self.relay = relay
                if orphaned and self.step in _MAYBE_ORPHANED:
                    self._staged_all = False
                return self._recover(now)
            case Tick(busy):
                return self._tick(busy, now)

    # -- events ------------------------------------------------------------------------------------------------

    def _accept(self, asked: float) -> None:
        if (seconds := self.plan.options.deadline) is not None:
            self._expires = asked + seconds

    def _begin(self, plan: Plan | None, now: float) -> list[Instruction]:
        out: list[Instruction] = []
        if self._expires is None:
            self._accept(now)
        if plan is not None and plan != self.plan:
            self.plan, self._table, self.relay = plan, TRANSITIONS[plan.path], plan.fence
            out.append(Replan(plan))
        named = bool(self.plan.scope.keys) and Trigger.NAMED in self._table[Step.PLANNED]
        how = Trigger.NEW if self.plan.source == NOBODY else Trigger.NAMED if named else Trigger.BEGIN
        return [*out, *self._advance(how, now)]

    def _cancel(self, reason: str, now: float) -> list[Instruction]:
        if self.decided or self.ended or self._cancelled:
            return []
        self._cancelled = True
        self.reason = joined(self.reason, reason)
        if self._operating:
            return [Abandon(self.relay)] if self.step is Step.DRAINING else []
        if Trigger.CANCEL not in self._table[self.step]:
            return []
        return self._advance(Trigger.CANCEL, now)

    def _network_ended(self, ok: bool, reason: str, now: float) -> list[Instruction]:
        if not self._operating:
            raise InvalidTransition(self.plan.epoch, self.step.name, "network ended", list(self.history))
        self._operating = False
        if not self.reason:
            self.reason = reason
            self._passing = reason if self._table[self.step].get(Trigger.FAILED) is self.step else ""
        self.fenced = self.fenced or (ok and self.step is Step.RECALLING)
        return self._after_network(ok, now)

    def _pass(self) -> None:
        """What the step failed with so far was no reason of anything but that it took long."""
        if self._passing:
            self.explain(self._passing, holds=False)
        self._passing = ""

    def _entries(self, refused: tuple[bytes, ...]) -> None:
        """The switch has made the entries that a step needs, but for these flows."""
        if self.step in _INSERTS:
            self.refused = frozenset(refused)

    def _no_room(self, reason: str, now: float) -> list[Instruction]:
        """None of the flows has got an entry, and nothing else was done yet."""
        self._operating = False
        self.reason = self.reason or reason
        self._entries(self.plan.scope.keys)
        return self._advance(Trigger.FULL, now)  # whoever is gone: decided, it would wait for room for ever

    def _unreached(self, now: float) -> list[Instruction]:
        """The replica talks, perhaps, but nothing that the switch sends reaches it, unless it is busy."""
        peer, since, most = self._peer(), self.figures.entered.get(self.step, now), self.times.unreached
        again = self._table[self.step].get(Trigger.FAILED) is self.step
        return [Doubt(peer, most, "packets")] if peer and again and now >= since + most else []

    def _behind(self, busy: bool, now: float) -> str:
        """Why the move is where it is, if that is a replica with much to do: the end of a reason."""
        if not busy or self.working is None:
            return ""
        return is_behind(self.working, now - self.figures.entered[self.step])

    def _after_network(self, ok: bool, now: float) -> list[Instruction]:
        rows = self._table[self.step]
        if not ok and rows[Trigger.FAILED] is self.step and not self._waits_in_vain():
            self._retry_at = now + self.times.network_retry
            return self._advance(Trigger.FAILED, now)
        gone = self._gone()
        if not ok and self.step is Step.REDIRECTING and gone is Trigger.SOURCE_GONE:
            gone = None  # where the switch points is unknown: it must be fenced off before the target takes over
        if not ok and self.step is Step.RESERVING and gone is not Trigger.BOTH_GONE:
            gone = None  # the write may yet take effect: it is made once more, and answered, before the move is over
        if ok and self.step is Step.SWITCHING and gone is Trigger.TARGET_GONE:
            gone = None  # packets go to the dead target already: the move ends as one whose target died later
        if gone is not None:
            return self._advance(gone, now)
        if not ok:
            return self._advance(Trigger.FAILED, now)
        if self._cancelled and Trigger.CANCEL in rows:
            return self._advance(Trigger.CANCEL, now)
        return self._advance(self._early_answer() if self._early is not None else Trigger.OK, now)

    def _waits_in_vain(self) -> bool:
        """Whether the network's step cannot succeed, or need not any more, for want of a replica."""
        peer = self._peer()
        if peer is None:
            return self._gone() is Trigger.BOTH_GONE
        return self.source_gone if peer == self.plan.source else self.target_gone

    def _peer(self) -> int | None:
        """The replica that the network's step is about, if it is about one."""
        if self.step in (Step.DRAINING, Step.CLEARING, Step.RESTORING, Step.SETTLING):
            return self.plan.source
        if self.step in (Step.RESUMING, Step.GATHERING, Step.SWITCHING):
            return self.plan.target
        return None

    def _early_answer(self) -> Trigger:
        """The source exported while the echo of its marker was on its way."""
        message, self._early = self._early, None
        if isinstance(message, m.Exported):
            trigger = self._exported(message)
            return Trigger.EXPORTED if trigger is Trigger.ANSWERED else trigger
        return Trigger.REFUSED

    def _answer(self, replica: int, message: m.Message, now: float) -> list[Instruction]:
        if isinstance(message, m.AllStaged):  # as good as the source's word, which comes later
            exported = m.Exported(epoch=message.epoch, staged=message.staged)
            return self._answer(self.plan.source, exported, now) if replica == self.plan.target else []
        if isinstance(message, m.Exported) and (replica, message.epoch) == (self.plan.source, self.plan.fence):
            self._has_exported(message)
        if self.step is Step.DRAINING:
            return self._answered_early(replica, message)
        ask = self._requests.of(replica)
        if ask is None:
            return []
        if isinstance(message, m.Refused):
            if not refuses(message, ask):
                return []
            self.reason = self.reason or f"replica {replica} refused {message.request}: {message.reason}"
            self.final = self.final or message.final
            # Refused by the target and no source to go back to: nobody has the flows, as if both were gone.
            stranded = self.step is Step.COMMITTING and self.source_gone
            return self._advance(Trigger.BOTH_GONE if stranded else Trigger.REFUSED, now)
        if not answers(message, ask):
            return []
        self._requests.answered()
        if isinstance(message, m.Exported):
            return self._advance(self._exported(message), now)
        self.figures.count(message)
        if self._requests.current is not None:
            return self._requests.go_on(now)
        return self._advance(self._answered(), now)

    def _answered_early(self, replica: int, message: m.Message) -> list[Instruction]:
        if replica != self.plan.source or getattr(message, "epoch", None) != self.plan.fence:
            return []
        if isinstance(message, m.Refused) and message.request == "Export":
            self.reason = self.reason or f"replica {replica} refused Export: {message.reason}"
            self.final = self.final or message.final
            self._early = message
        if isinstance(message, m.Exported) and not isinstance(self._early, m.Refused):
            self._early = message
        return []

    def _has_exported(self, message: m.Exported) -> None:
        """The target has this much, in whatever step the source's word of it comes: also before its death, or after."""
        if not self.ended:
            self.figures.staged = message.staged
            self._staged_all = self._staged_all or not message.pinned

    def _exported(self, message: m.Exported) -> Trigger:
        return self._stay(message.pinned, message.torn, message.aliases) if message.pinned else Trigger.ANSWERED

    def _stay(self, keys: tuple[bytes, ...], torn: tuple[bytes, ...], aliases: tuple[bytes, ...]) -> Trigger:
        """Flows with these keys stay, in use or ``torn``, and the move with them."""
        used = set(keys).difference(torn)
        self.pinned_keys = tuple(sorted(used))
        self.pinned = tuple(sorted(used.difference(aliases)))
        self.torn = len(set(torn).difference(aliases))
        self.reason = why_stays(len(self.pinned), self.torn)
        return Trigger.PINNED

    def _answered(self) -> Trigger:
        rows = self._table[self.step]
        if self.fenced and Trigger.FENCED in rows:
            return Trigger.FENCED
        if self._turned and Trigger.TURNED in rows:
            return Trigger.TURNED
        other_gone = self.target_gone if self.step is Step.THAWING else self.source_gone
        return Trigger.ALONE if other_gone and Trigger.ALONE in rows else Trigger.ANSWERED

    def _lost(self, replica: int, now: float) -> list[Instruction]:
        if replica not in (self.plan.source, self.plan.target):
            return []
        self.source_gone = self.source_gone or replica == self.plan.source
        self.target_gone = self.target_gone or replica == self.plan.target
        self.reason = joined(self.reason, is_gone(replica))
        if self._operating:
            return [Abandon(self.relay)] if replica == self._peer() and self.step is not Step.SWITCHING else []
        gone = self._gone()
        if self.ended or gone is None:
            return []
        if self.step is Step.RELEASING and gone is Trigger.TARGET_GONE and self.plan.path is Path.FORWARD:
            # The source passes packets on to it, and would try for long, while nobody takes the dead one's flows over.
            return self._requests.instead(ASKS[self.step](self._situation), now)
        return self._after_network(False, now) if self.step in NETWORK else self._advance(gone, now)

    def _back(self, replica: int, now: float) -> list[Instruction]:
        """What it was asked may have been lost with its connection."""
        if self.step is Step.DRAINING and replica == self.plan.source:
            return [] if self._early is not None or self._cancelled else self._ask_to_export()
        return self._requests.repeat(now) if self._requests.of(replica) is not None else []

    def _recover(self, now: float) -> list[Instruction]:
        before = self.step
        self.fenced = self.plan.path is Path.REPLICA and before in SUSPENDED[Path.REPLICA]
        holds = bool(SUSPENDED[self.plan.path]) or self.plan.path is Path.FORWARD
        self.figures.since_unknown = holds and self.plan.source != NOBODY and before in _BEGUN
        if before not in DECIDED:
            self.reason = self.reason or f"the orchestrator ended in step {before.name}"
        if self.target_gone:
            self.reason = joined(self.reason, is_gone(self.plan.target))
        following = self._table[before][Trigger.RECOVER]
        gone = self._gone()
        undone_alone = following is Step.THAWING and self.source_gone
        worked_alone = before is Step.RESUMING and gone is Trigger.TARGET_GONE
        if gone is not None and (undone_alone or worked_alone):
            return self._advance(gone, now)
        # Until SWITCHING is done packets go to the source, whose death is no reason to leave it so.
        unturned = following is Step.SWITCHING and gone is Trigger.SOURCE_GONE
        if gone is not None and not unturned and self._table[following].get(gone, following) is not following:
            self.step = following
            return self._advance(gone, now)
        # A step that leads to itself on recovery is entered again: its requests went with the old process.
        return self._enter(following, now)

    def _tick(self, busy: bool, now: float) -> list[Instruction]:
        if self._expires is not None and now >= self._expires:
            return self._expired(busy, now)
        if self._doubt_at is not None and now >= self._doubt_at:
            self._doubt_at = now + DOUBT_AGAIN
            asked = self._requests.current
            waited = self._peer() if asked is None else asked.replica
            return [Doubt(waited, self.times.overdue)] if waited else []
        if self._requests.overdue(now):
            self.reason = self.reason or f"no answer in step {self.step.name}"
            return self._advance(Trigger.DEADLINE, now)
        if self._retry_at is not None and now >= self._retry_at:
            return self._operate()
        return self._requests.tick(now)

    def _expired(self, busy: bool, now: float) -> list[Instruction]:
        """It is called off, and whom it waits for is doubted; also if it is over with that, and has not begun."""
        self._expires = None
        self._doubt_at = now + self.times.overdue
        doubts: list[Instruction] = []
        if self.asked is not None and self.step is Step.PLANNED:
            replica, since = self.asked
            self.explain(unanswered(replica), holds=now - since >= WORTH_SAYING)
            doubts.append(Doubt(replica, self.times.overdue, later=True))
        why = f"not decided within {self.plan.options.deadline:g} s{self._behind(busy, now)}"
        return [*self._cancel(why, now), *doubts]

    # -- steps -------------------------------------------------------------------------------------------------

    def _gone(self) -> Trigger | None:
        if self.source_gone and self.target_gone:
            return Trigger.BOTH_GONE
        if self.target_gone:
            return Trigger.TARGET_GONE
        return Trigger.SOURCE_GONE if self.source_gone else None

    def _advance(self, trigger: Trigger, now: float) -> list[Instruction]:
        following = self._table[self.step].get(trigger)
        if following is None:
            raise InvalidTransition(self.plan.epoch, self.step.name, trigger.name, list(self.history))
        if following is Step.DISCARDING and self.target_gone:
            following = Step.UNDONE
        return [] if following is self.step else self._enter(following, now)

    def _enter(self, step: Step, now: float) -> list[Instruction]:
        self._requests.clear()
        self._retry_at = self._early = None
        asked = self.step is Step.DRAINING and step is Step.EXPORTING
        self.step = step
        self._turned = self._turned or step is Step.SWITCHING
        self.figures.entered[step] = now
        self.figures.at_source = self.plan.path is Path.FORWARD
        if step in BEHIND:
            # The marker, which has the longer way, tells the source to begin, so that no round trip lies between; the
            # record comes last: what it takes, the marker would wait for at the source.
            export = self._ask_to_export(later=True) if step is Step.DRAINING else []
            return [*self._operate(), *export, Record(self.plan.epoch, step, self.relay, later=True)]
        out: list[Instruction] = [Record(self.plan.epoch, step, self.relay)]
        if step in NETWORK:
            return [*out, *self._operate()]
        if (asks := ASKS.get(step)) is None:
            return out
        return [*out, *self._requests.begin(asks(self._situation), now, self._within(step), made=asked)]

    def _ask_to_export(self, *, later: bool = False) -> list[Instruction]:
        ask = export(self._situation)
        return [Send(ask.replica, ask.message, later)]

    def _within(self, step: Step) -> float | None:
        """Seconds for a step's requests; None: they are repeated until they are answered."""
        return self.references + self.times.export if step is Step.EXPORTING else None

    @property
    def references(self) -> float:
        """Seconds that the source may wait for flows in use."""
        asked = self.plan.options.references
        return self.times.references if asked is None else asked

    @property
    def _situation(self) -> Situation:
        return Situation(self.plan, self.relay, self.fenced, self.references, self.source_gone, self.target_gone)

    def _operate(self) -> list[Instruction]:
        self._operating, self._retry_at = True, None
        return [operation(self.step, self._situation)]

    def validate(self) -> None:
        """Check what must always be true of a move. :raises AssertionError: if it is not."""
        assert self.plan.source != self.plan.target
        assert self.relay >= self.plan.fence >= self.plan.epoch
        if self.ended:
            assert not self._operating and self._requests.current is None and self.timer is None
        if self._operating:
            assert self.step in NETWORK and self._requests.current is None
        if self.step in NETWORK:
            assert self._operating or self._retry_at is not None
        if self._requests.current is not None:
            assert self._requests.due is not None and self.step in ASKS
