"""Runs moves: the shell around `orchestrator.migration`.

`Mover.plan` gives a move its number, `Mover.begin` begins it when its scope is free; `Running.ended` resolves when it
is over. Instructions are carried out in order and without awaiting: `Record` is a synchronous write (one that may come
`later` is made when the step's task has begun), a network step becomes a named task, messages go to the sessions. So no
two events interleave within one move.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import msgspec

from orchestrator import migration as core
from orchestrator.journal import Journal, MoveRow
from orchestrator.migration.paths import SUSPENDED
from orchestrator.migration.steps import Step
from orchestrator.moves.placement import Locks, Placement
from orchestrator.moves.recovery import Recovery
from orchestrator.moves.reports import Report, Reports, report
from orchestrator.moves.running import Running
from orchestrator.network import Network
from p4rt_controller import ReplicaSilent, Room, WriteRejected
from splitmerge.alarm import Alarm
from splitmerge.errors import SplitmergeError
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Commit, Message, Scope

logger = logging.getLogger("orchestrator.moves")

RELAYS = 4096
"""Epochs beside their numbers that are remembered of moves that have ended."""
_NOTHING = Scope()
OVER_EVERY = 1024
"""Ends of moves between two times that replicas are told which are over, and need not be remembered."""


@dataclass(slots=True)
class Mover:
    """All moves of one orchestrator. ``tasks`` owns the network steps; ``send`` tells a replica, if it is connected."""

    journal: Journal
    network: Network
    placement: Placement
    send: Callable[[int, Message], object]
    tasks: asyncio.TaskGroup
    on_end: Callable[[Report], None]
    times: core.Times = field(default_factory=core.Times)
    options: core.Options = field(default_factory=core.Options)
    """How a move is made that says nothing else."""
    doubt: Callable[[core.Doubt], None] = lambda doubt: None
    """End a replica that hangs, and does not just work."""
    works: Callable[[int], bool] = lambda replica: False
    """Whether a replica works its packets off: markers and relayed packets come to it when it has."""
    locks: Locks = field(default_factory=Locks)
    reports: Reports = field(default_factory=Reports)
    """Of moves that have ended."""
    stopping: bool = False
    """Set at the end of the process: what happens now is for the next one to put right."""
    recovery: Recovery = field(init=False)
    relays: dict[int, int] = field(default_factory=dict)
    """Epoch under which a move began, or holds and relays, that is not its number → that move: replicas tell of the
    hold after its end, too."""
    over: Callable[[int], object] = lambda epoch: None
    """Told, once in `OVER_EVERY` moves, that those with epochs older than this are over."""
    _running: dict[int, Running] = field(default_factory=dict)
    _leading: dict[int, Running] = field(default_factory=dict)
    _ends: int = 0

    def __post_init__(self) -> None:
        self.recovery = Recovery(
            self.network, self.tasks, self.times.network_retry, self.times.unreached, self.doubt, self.works
        )

    # -- moves -------------------------------------------------------------------------------------------------

    def plan(
        self,
        scope: Scope,
        source: int,
        target: int,
        address: str,
        home: str = "",
        options: core.Options | None = None,
        *,
        orphan: bool = False,
        asked: float | None = None,
        follows: int = 0,
    ) -> Running:
        """Give a move its number: it is journalled and listed, can be called off, and waits for `begin`.

        ``address``, ``home``: the peer addresses of both. ``orphan``: the source has ended. ``asked``: when that was
        asked for which it is a part of, in the loop's clock: its deadline runs from then; None: from now. ``follows``:
        as `Move.follows`.
        :raises BadInput: for an empty scope, source and target alike, or options that make no sense.
        """
        plan = core.Plan(self.journal.next_epoch(), scope, source, target, address, home, options or self.options)
        planned = time.time()
        self.journal.plan(plan, planned, follows)
        running = self._add(core.Move(plan, self.times, orphan=orphan), asked=asked)
        running.move.planned, running.move.follows = planned, follows
        self.locks.wait(plan.epoch, scope)
        self._feed(running, core.Accepted(asked))
        return running

    def begin(self, running: Running, scope: Scope) -> None:
        """Its turn has come (`Locks.ahead`): it takes this scope, which may be more than was planned.

        What a dead source owned goes through the controller's buffer: earlier moves may have left packets there. Where
        younger moves have begun, it gets an epoch that is newer than theirs: see `Locks`.
        """
        move = running.move
        options, epoch = move.plan.options, move.plan.epoch
        if move.source_gone and move.plan.source != core.NOBODY:
            options = msgspec.structs.replace(options, guarantee="order-preserving", buffer="cpu")
        plan = replace(move.plan, scope=scope, options=options, renewed=self._renewed(epoch))
        self.locks.take(epoch, scope, plan.fence)
        self._feed(running, core.Begin(plan))

    def _renewed(self, epoch: int) -> int:
        if not self.locks.overtaken(epoch):
            return 0
        surplus = list(islice(self.relays, max(0, len(self.relays) - RELAYS)))
        for relay in [each for each in surplus if self.relays[each] not in self._running]:
            del self.relays[relay]
        renewed = self.journal.next_relay(epoch)
        self.relays[renewed] = epoch
        logger.info("move %d: begins as epoch %d, since younger moves have begun", epoch, renewed)
        return renewed

    def recover(self, row: MoveRow) -> None:
        """Take up a move that an earlier process left, before the switch is connected.

        Its scope is suspended under a fresh epoch at once, so that the first reconciliation of the switch finds it so.
        Call `resume_recovered` when the replicas are back.
        """
        running = self._add(core.Move(row.plan, self.times, step=row.step), recovered=True)
        running.move.planned, running.move.follows = row.planned, row.follows
        if row.step is not Step.PLANNED:  # else it has not begun, and others may have had its turn
            self.locks.take(row.plan.epoch, row.plan.scope, row.plan.fence)
        relay = self.journal.next_relay(row.plan.epoch)
        self.relays[relay] = row.plan.epoch
        running.move.relay = relay
        if row.step in SUSPENDED[row.plan.path]:
            plan = row.plan
            work = self.recovery.suspend(relay, plan.scope, plan.source or plan.target)
            running.operation = self.tasks.create_task(work, name=f"move: suspend again {plan.epoch}")

    def resume_recovered(self, gone: Iterable[int], unknown: Collection[int] = ()) -> None:
        """Bring the recovered moves on their way to their ends, each by itself.

        ``gone``: replicas that have ended, as the earlier process knew. Moves that name one of ``unknown``, of which it
        is not known yet whether it has, wait for another call.
        """
        for replica in gone:
            for running in self._running.values():
                running.orphaned |= running.recovered and running.move.plan.source == replica
            self.lost(replica)
        for running in list(self._running.values()):
            plan = running.move.plan
            if running.recovered and not running.resumed and {plan.source, plan.target}.isdisjoint(unknown):
                running.resumed = True
                self.tasks.create_task(self._take_up(running), name=f"move: take up {plan.epoch}")

    async def _take_up(self, running: Running) -> None:
        """Once its scope is suspended, and its replicas took in what the switch sent and the former process relayed."""
        move = running.move
        if running.operation is not None:
            await running.operation
            replicas = [each for each in (move.plan.source, move.plan.target) if each != core.NOBODY]
            for drained in [self.recovery.drained(move.relay, each) for each in replicas]:
                await drained
        running.recovered = False
        logger.info("move %d: taken up again in step %s", move.plan.epoch, move.step.name)
        self._feed(running, core.Recover(move.relay, running.orphaned))

    def _add(self, move: core.Move, *, recovered: bool = False, asked: float | None = None) -> Running:
        loop = asyncio.get_running_loop()
        now = loop.time()
        deadline = None if recovered else move.plan.options.deadline
        asked = now if asked is None else asked
        alarm = Alarm(lambda: move.timer, partial(self._tick, move.plan.epoch))  # it does not keep `Running` alive
        running = Running(move, loop.create_future(), alarm, recovered, deadline=deadline, asked=asked)
        self._running[move.plan.epoch] = running
        late = self.times.stuck if deadline is None else asked + deadline - now + self.times.late
        self._watch(running, max(0.0, late))
        return running

    def running(self) -> list[core.Move]:
        """Moves under way, oldest first."""
        return [running.move for _, running in sorted(self._running.items())]

    def awaited(self, keys: Iterable[bytes]) -> list[bytes]:
        """Those of these flows that a move is to take which has not begun, and whose source is nobody, or has ended.

        What waits for them at the controller has nowhere else to go. Such a move ends by its deadline, if it has one.
        """
        moves = [each.move for each in self._running.values() if each.move.step is Step.PLANNED]
        plans = [move.plan for move in moves if move.source_gone]
        takers = {key: (plan.source, plan.target) for plan in plans for key in plan.scope.keys}
        buckets = {bucket for plan in plans for bucket in plan.scope.buckets}
        return [key for key in keys if self._is_among(key, takers) or self._goes_with(key, buckets)]

    def _is_among(self, key: bytes, takers: Mapping[bytes, tuple[int, int]]) -> bool:
        """Whether it is the source's yet: it has no entry, or one that leads there, or to the target in advance."""
        return key in takers and self.placement.entry(key) in (None, *takers[key])

    def _goes_with(self, key: bytes, buckets: Collection[int]) -> bool:
        """Whether the flow goes where one of these buckets does."""
        return self.placement.entry(key) is None and FlowKey(key).bucket in buckets

    async def wait(self, epoch: int) -> None:
        """Return when this move is over (at once if it is not under way)."""
        running = self._running.get(epoch)
        if running is not None:
            await asyncio.shield(running.ended)

    def cancel(self, epoch: int, reason: str) -> bool:
        """Call a move off, if it is not decided; whether such a move is under way.

        One that waits to be taken up again is called off anyway: its process ended.
        """
        running = self._running.get(epoch)
        if running is None or running.move.decided:
            return False
        if not running.recovered:
            self._feed(running, core.Cancel(reason))
        return True

    @contextmanager
    def leading(self, running: Running) -> Iterator[None]:
        """Inside, another move may follow from this one, though it has ended: `cancel_rest` calls that off."""
        epoch = running.move.plan.epoch
        self._leading[epoch] = running
        try:
            yield
        finally:
            del self._leading[epoch]

    def cancel_rest(self, epoch: int, reason: str) -> Report | None:
        """Call off what is to follow from a move that has ended; the move's report. None if nothing is to follow.

        Moves that follow already have numbers of their own: they are called off as well, as far as they can be.
        """
        running = self._leading.get(epoch)
        if running is None or running.report is None or not (running.move.stays or running.gathers):
            return None
        noted = self.reports.get(epoch) or running.report
        if not running.off:
            running.off = True
            for move in [each for each in self.running() if each.follows == epoch]:
                self.cancel(move.plan.epoch, reason)
            what = "the others stay as well" if running.move.stays else "flows of its groups elsewhere stay"
            noted = self.note(noted, f"{what}: {reason}")
        return noted

    def drop(self, running: Running, reason: str, *, moot: bool) -> None:
        """Before it has begun: it need not begin any more. ``moot``: as `Move.moot`."""
        running.move.moot = moot
        self._feed(running, core.Cancel(reason))

    def in_use(
        self, running: Running, keys: tuple[bytes, ...], aliases: tuple[bytes, ...] = (), owners: tuple[int, ...] = ()
    ) -> None:
        """Before it has begun: flows of it are in use at its source, with these keys (`core.InUse`). It ends.

        ``owners``: or the keys lead to these replicas.
        """
        self._feed(running, core.InUse(keys, aliases, owners))

    def full(self, epoch: int, where: str) -> None:
        """Whoever keeps this move's packets has little room left. It may be said again and again: once will do."""
        running = self._running.get(self.relays.get(epoch, epoch))
        if running is not None and not (running.recovered or running.full):
            running.full = True
            self._feed(running, core.BufferFull(where, self._busy(running)))

    def dropped(self, replica: int, epoch: int, total: int) -> None:
        """A replica had no room for so many packets of this move after its answer; the move may have ended meanwhile.

        Each figure includes those before it, so the same one again, or an older one, adds nothing.
        """
        teller = epoch << 16 | replica
        epoch = self.relays.get(epoch, epoch)
        running = self._running.get(epoch)
        if running is not None:
            figures = running.move.figures
            if (packets := total - figures.unroomed.get(teller, 0)) > 0:
                figures.unroomed[teller] = total
                figures.dropped += packets
            return
        ended = self.reports.get(epoch)
        if ended is not None and (packets := total - ended.unroomed.get(teller, 0)) > 0:
            unroomed = {**ended.unroomed, teller: total}
            more = replace(ended, dropped=ended.dropped + packets, unroomed=unroomed)
            self.reports.put(more)
            self.journal.keep_figures(epoch, more.packed)

    def note(self, result: Report, problem: str, untaken: Scope = _NOTHING) -> Report:
        """The report of a move that has ended, with something else that who asked for it must know, also later.

        ``problem`` may be empty. ``untaken``: as `Report.untaken`.
        """
        current = self.reports.get(result.epoch) or result
        reason = core.joined(current.reason, problem) if problem else current.reason
        more = replace(current, reason=reason)
        if untaken.keys or untaken.buckets:
            more = replace(more, untaken_keys=len(untaken.keys), untaken_buckets=len(untaken.buckets))
        self.reports.put(more)
        self.journal.keep_figures(more.epoch, more.packed)
        logger.warning("move %d: %s", more.epoch, problem or f"{more.untaken} of it stay, and no move follows for them")
        return more

    # -- events ------------------------------------------------------------------------------------------------

    def answer(self, replica: int, message: Message) -> None:
        """A replica's message with an epoch; those of moves that are over are ignored."""
        epoch = getattr(message, "epoch", 0)
        running = self._running.get(self.relays.get(epoch, epoch))
        if running is not None and not running.recovered:
            self._feed(running, core.Answer(replica, message))

    def lost(self, replica: int) -> None:
        """The replica has ended for good."""
        self.recovery.lost(replica)
        for running in list(self._running.values()):
            if running.recovered:  # it acts on this when it is taken up
                running.move.source_gone |= replica == running.move.plan.source
                running.move.target_gone |= replica == running.move.plan.target
            else:
                self._feed(running, core.ReplicaLost(replica))

    def back(self, replica: int) -> None:
        """The replica has connected (again)."""
        for running in [each for each in self._running.values() if not each.recovered]:
            self._feed(running, core.ReplicaBack(replica))

    def late(self) -> list[int]:
        """Moves under way that are late, or were asked for together with one: nobody waits for them. Oldest first."""
        return [epoch for epoch, running in sorted(self._running.items()) if running.late.is_set()]

    def touches(self, replica: int) -> bool:
        """Whether a move under way names the replica."""
        return any(replica in (each.move.plan.source, each.move.plan.target) for each in self._running.values())

    # -- carrying out ------------------------------------------------------------------------------------------

    def _feed(self, running: Running, event: core.Event) -> None:
        """Let a move go on. A fault in it ends the process, wherever the event came from: see `_fail`."""
        if running.ended.done() or self.stopping:
            return
        try:
            self._handle(running, event)
        except Exception as fault:
            self._fail(running, fault)

    def _fail(self, running: Running, fault: Exception) -> None:
        """Nobody can say what of a step was done, and a timer's or a callback's error would only be logged.

        The journal knows what was begun: the next process puts it right.
        """
        self.stopping = True
        move = running.move
        logger.critical("move %d: a fault in step %s ends the process: %s", move.plan.epoch, move.step.name, fault)

        async def end() -> None:
            raise fault

        work = end()
        try:
            self.tasks.create_task(work, name=f"move: fault in {move.plan.epoch}")
        except RuntimeError:  # the process is ending already
            work.close()

    def _handle(self, running: Running, event: core.Event) -> None:
        move = running.move
        now = asyncio.get_running_loop().time()
        for instruction in move.handle(event, now):
            self._carry_out(running, instruction)
        if move.ended:
            self._ended(running)
        else:
            running.alarm.follow()

    def _tick(self, epoch: int) -> None:
        running = self._running.get(epoch)
        if running is not None:
            self._feed(running, core.Tick(self._busy(running)))

    def _carry_out(self, running: Running, instruction: core.Instruction) -> None:
        match instruction:
            case core.Record(later=True) | core.Send(later=True):
                # The network's step is a task: it has its turn first.
                asyncio.get_running_loop().call_soon(self._later, running, instruction)
            case core.Record(epoch, step, relay):
                self._record(running, epoch, step, relay)
            case core.Replan(plan):
                self.journal.replan(plan)
            case core.Send(replica, Commit() as message):
                # No entry that leads out of one of its buckets comes before the move is over (`Registrar`).
                whole = self.placement.whole_with(message.scope, replica)
                self.send(replica, msgspec.structs.replace(message, whole=whole))
            case core.Send(replica, message):
                self.send(replica, message)
            case core.Reserve(epoch, keys, replica):
                self._operate(running, f"reserve {epoch}", self.network.reserve(keys, replica))
            case core.Suspend(epoch, scope, source):
                move = running.move
                suspend = self.network.suspend(epoch, scope, source, _room(move), mark=move.drains_next)
                self._operate(running, f"suspend {epoch}", suspend)
            case core.Drain(epoch, replica):
                work = self.network.drain(epoch, replica, self._patience(running, replica))
                self._operate(running, f"drain {epoch}", work)
            case core.Redirect(epoch, scope, source, target):
                redirect = self.network.redirect(epoch, scope, source, target, mark=running.move.drains_next)
                self._operate(running, f"redirect {epoch}", redirect)
            case core.Resume(epoch, scope, target, ordered, new):
                busy = self._patience(running, target)
                resume = self.network.resume(epoch, scope, target, ordered=ordered, new=new, busy=busy)
                self._operate(running, f"resume {epoch}", resume)
            case core.Doubt():
                self.doubt(instruction)
            case core.Abandon():
                running.abandoned = True
                if running.operation is not None:
                    running.operation.cancel()

    def _busy(self, running: Running) -> bool:
        replica = running.move.working
        return replica is not None and self.works(replica)

    def _patience(self, running: Running, replica: int) -> Callable[[], bool]:
        """Asked by the network while this replica lets it wait."""

        def busy() -> bool:
            move = running.move
            if not self.works(replica):
                return False
            logger.info("move %d: %s waits: replica %d is busy", move.plan.epoch, move.step.name, replica)
            return True

        return busy

    def _watch(self, running: Running, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        running.late_at = loop.time() + seconds
        if running.watch is None:
            running.watch = loop.call_at(running.late_at, self._late, running)

    def _late(self, running: Running) -> None:
        move, loop = running.move, asyncio.get_running_loop()
        if loop.time() < running.late_at:  # it has taken a step since the timer was set
            running.watch = loop.call_at(running.late_at, self._late, running)
            return
        running.watch = None
        why = f": {move.reason}" if move.reason else ""
        logger.warning("move %d: not over, but %s for long; it goes on%s", move.plan.epoch, move.step.name, why)
        running.late.set()

    def _later(self, running: Running, instruction: core.Record | core.Send) -> None:
        """Carry this out now. A step from which the move has gone on is not journalled any more; requests go out."""
        move = running.move
        passed = move.ended if isinstance(instruction, core.Send) else move.step is not instruction.step
        if self.stopping or passed:
            return
        try:
            self._carry_out(running, replace(instruction, later=False))
        except Exception as fault:
            self._fail(running, fault)

    def _record(self, running: Running, epoch: int, step: Step, relay: int) -> None:
        move = running.move
        if not move.ended:
            self.journal.record(epoch, step, relay)
            if running.deadline is None:
                self._watch(running, self.times.stuck)
            return
        owners, flows = move.owners()
        running.report = report(move)
        self.journal.end(MoveRow(move.plan, step, relay, move.reason), owners, flows, running.report.packed)
        self.placement.own(owners, move.plan.target)
        self.placement.place(flows)

    def _operate(self, running: Running, name: str, work: Coroutine[Any, Any, Any]) -> None:
        running.abandoned = False
        running.operation = self.tasks.create_task(self._network_step(running, work), name=f"move: {name}")
        running.operation.add_done_callback(lambda task: self._cancelled(running, task, work))

    async def _network_step(self, running: Running, work: Coroutine[Any, Any, Any]) -> None:
        event: core.Event
        try:
            result = await work
            relayed, dropped, peak = (getattr(result, name, 0) for name in ("relayed", "dropped", "peak_packets"))
            refused, refusal = getattr(result, "refused", ()), getattr(result, "refusal", "")
            event = core.NetworkDone(relayed, dropped, peak, refused, refusal)
        except (SplitmergeError, OSError) as error:
            logger.warning("move %d: %s: %s", running.move.plan.epoch, running.move.step.name, error)
            rejected = isinstance(error, WriteRejected)
            flows = tuple(error.flows) if isinstance(error, WriteRejected) else ()
            event = core.NetworkFailed(str(error), rejected, flows, silent=isinstance(error, ReplicaSilent))
        self._feed(running, event)

    def _cancelled(self, running: Running, task: asyncio.Task[None], work: Coroutine[Any, Any, Any]) -> None:
        """An abandoned step has ended; the end of the process cancels steps too, and then nothing follows."""
        work.close()  # one that was cancelled before its first turn has not begun
        if task.cancelled() and running.abandoned:
            self._feed(running, core.NetworkFailed("abandoned: it waited for a replica that is gone"))

    def _ended(self, running: Running) -> None:
        move = running.move
        running.alarm.stop()
        if running.watch is not None:
            running.watch.cancel()
        del self._running[move.plan.epoch]
        self.locks.free(move.plan.epoch)
        self.network.abandon(move.relay)
        assert running.report is not None  # the record of its last step has been written
        result = running.report
        self.reports.ended(result)
        level = logging.INFO if result.done else logging.WARNING
        took = "" if result.suspended is None else f" in {result.suspended * 1000:.1f} ms"
        logger.log(
            level, "move %d: %s, from %d to %d %s%s%s", result.epoch, result.what, result.source, result.target,
            result.step.value, took, f": {result.reason}" if result.reason else "",
        )  # fmt: skip
        running.ended.set_result(result)
        self._ends += 1
        if self._ends % OVER_EVERY == 0:
            self.over(self.locks.oldest)
        self.on_end(result)


def _room(move: core.Move) -> Room | None:
    """What the controller may keep for it, as asked for. On the way back it has all that it keeps for any move.

    A move that is called off when its room is nearly used up goes that way too, with all that waits: nothing is dropped
    for it.
    """
    options = move.plan.options
    if move.step is not Step.SUSPENDING or (options.packets is None and options.bytes is None):
        return None
    drops = options.when_full == "drop"
    return Room(options.packets or sys.maxsize, options.bytes or sys.maxsize, drops=drops)
