"""Moves from their number to their turn: what they wait for, what they take along, and what they leave.

A move has its number, is listed and can be called off from the moment that somebody asks for it. It begins when no
other move touches its flows: moves that were planned for the same ones in the order of their numbers; which flows go
along is only known then (`placement.Locks`). Before, its source is asked what belongs to them (`Relate`): their second
keys, the flows of their groups, and which of them are in use. A source that does not say in time is asked again: a move
without that would tear flows and groups. One that has ended is not asked.

Flows in use are left to another move, where there may be one (`Course.may_leave`), so that the others need not wait for
them; that one has its number before the others move. Else the move waits until they have been given back, for
`references` seconds, and ends if they are not. Nothing is suspended and no table is written before that. What gets in
use later is waited for when it is exported.

A key that goes along is the source's to give away if it leads there, or to nobody. That of an expected flow may lead
elsewhere until the source has been answered: another flow may live there with that very key. Such a flow is in use, too
(`guestlib.partitioned.relations`). Moves that wait for its answer have no locks and plan nothing, so its question does
not wait for them (but it may stand behind a move of packets that came before their key was asked for; `references` ends
that); and no move begins that would take such a key (`Placement.elsewhere`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from orchestrator.errors import NoSuchReplica
from orchestrator.migration import NOBODY, Options, unanswered
from orchestrator.migration.apart import apart, behind, without
from orchestrator.moves.mover import Mover
from orchestrator.moves.placement import Placement
from orchestrator.moves.registrar import Registrar
from orchestrator.moves.reports import Report
from orchestrator.moves.running import Running
from orchestrator.replicas.fleet import Fleet, ReplicaState
from splitmerge.errors import SplitmergeError
from splitmerge.messages import Related, Scope

logger = logging.getLogger("orchestrator.moves")

T = TypeVar("T")
Ask = Callable[[Scope], Awaitable[Related | None]]
"""What belongs to a scope, as its source says; None if it does not."""
PAUSE = 0.5
"""Seconds until a source that did not say what belongs to a scope is asked again."""
ANSWERS = 1.0
"""Seconds in which a source that is well has said what belongs to a scope; beyond those that it may wait for flows."""
BRIEF = 0.02
"""Seconds that a source waits for flows in use before it names them: most transactions are over by then."""
_NOTHING = Related(request=0, keys=())
_STRANGERS = "has none with such a key, and no entry leads to it; packets without state go with their bucket"


@dataclass(slots=True)
class Course:
    """What became, in its turn, of what a move was to take. ``may_leave``: another one may take what is in use."""

    may_leave: bool = False
    known: bool = False
    """Its source had flows of what it is for: if it has none any more, they have ended."""
    wanted: Scope = field(default_factory=Scope)
    """What it is for, less what it left."""
    groups: set[str] = field(default_factory=set)
    """Names of its flows' groups: others of them may be elsewhere."""
    left: Scope = field(default_factory=Scope)
    """What it left, since flows of that are in use."""
    used: tuple[bytes, ...] = ()
    """Those flows."""
    follower: Running | None = None
    """The move that is to take what it left: planned. See to it that `Turns.take` follows, or call it off."""
    planned: Callable[[Running], None] = lambda running: None
    """Told of that one."""
    void: bool = False
    """It has not begun, since nothing of it was left to take; nobody has called it off."""


@dataclass(frozen=True, slots=True)
class Turns:
    """``deadline``: seconds that a source may take to say what belongs to a scope, before it is asked again."""

    fleet: Fleet
    mover: Mover
    placement: Placement
    registrar: Registrar
    deadline: float

    def plan(
        self, source: int, target: int, scope: Scope, options: Options | None = None, asked: float | None = None,
        follows: int = 0,
    ) -> Running | None:  # fmt: skip
        """Give the move its number; None if nothing of it is the source's. See to it that `take` follows.

        ``asked``, ``follows``: as `Mover.plan`.
        :raises NoSuchReplica: if the target does not live, or is being removed: what it got now would end with it. One
            that drains takes what is its already, and waits for those flows' ends (`_takes`).
        """
        mine = self.still_of(source, scope, target)
        if not mine.keys and not mine.buckets:
            return None
        taker = self.fleet.get(target)
        if not self._takes(target, source, mine):
            raise NoSuchReplica(target, [each.number for each in self.fleet.live()])
        giver = self.fleet.replicas.get(source)
        home = giver.address if giver is not None else ""
        orphan = source != NOBODY and self.is_gone(source)
        return self.mover.plan(
            mine, source, target, taker.address, home, options, orphan=orphan, asked=asked, follows=follows
        )

    def follow(self, last: Running, source: int, scope: Scope) -> Running | None:
        """As `plan`: a move that is made for this one, with its target, options and deadline."""
        plan = last.move.plan
        return self.plan(source, plan.target, scope, plan.options, last.asked, plan.epoch)

    async def take(self, running: Running, course: Course | None = None) -> Report:
        """Begin it when its turn has come, and return its end."""
        try:
            await self._turn(running, course or Course())
        except BaseException:
            self.mover.cancel(running.move.plan.epoch, "who asked for it has failed")
            raise
        return await asyncio.shield(running.ended)

    async def _turn(self, running: Running, course: Course) -> None:
        plan, locks, placement = running.move.plan, self.mover.locks, self.placement
        course.wanted, related = plan.scope, _NOTHING
        brief = min(BRIEF, running.move.references)
        patience: float | None = brief
        strange: tuple[bytes, ...] = ()
        until: float | None = None
        while not running.ended.done():
            mine = self.still_of(plan.source, course.wanted, plan.target)
            if reason := self._obstacle(running, mine):
                self._drop(running, course, reason, moot=self._arrived(plan.target, course.wanted))
                return
            ahead = locks.ahead(plan.epoch, mine)
            if ahead is None:
                with self.registrar.planning(mine):
                    answer = await self._ask(running, mine, patience)
                    if answer is None:
                        continue
                    related = answer
                    strangers = self._strangers(related)
                    running.move.unknown = tuple(sorted(strangers.union(running.move.unknown)))
                    mine = _unnamed(mine, strangers)
                    if not (mine.keys or mine.buckets):
                        none = f"no such flow: replica {plan.source} {_STRANGERS}"
                        self._drop(running, course, "its flows have ended" if course.known else none, moot=course.known)
                        return
                    course.known = True
                    course.wanted = _unnamed(course.wanted, strangers)
                    whole = Scope(keys=tuple(sorted({*mine.keys, *related.keys})), buckets=mine.buckets)
                    ahead = locks.ahead(plan.epoch, whole)
                    strange = placement.elsewhere(plan.source, related.keys)
                    ready = not (strange or related.used)
                    ready = ready and mine == self.still_of(plan.source, course.wanted, plan.target)
                    if ahead is None and ready and not self._obstacle(running, mine):
                        course.groups.update(related.groups)
                        self._plan_follower(running, course)
                        self.mover.begin(running, whole)
                        return
            if ahead is not None:
                await _unless_over(running, self.mover.wait(ahead))
                patience = brief  # what was given back may be in use again
            elif related.used:
                patience = None if await self._mind(running, mine, related, course) else patience
            elif strange:
                until = await self._await_answers(running, strange, course, until)
                patience = brief  # who has asked for them since, it says only if asked so

    async def _mind(self, running: Running, mine: Scope, related: Related, course: Course) -> bool:
        """Leave flows in use, or wait for them: whether the move goes on. If not: ask once more, or it is over."""
        if course.may_leave:
            stay = await self.staying(mine, related.used, lambda scope: self._ask(running, scope, None))
            if stay is None:
                return False
            is_second = self.placement.is_second
            rest = without(mine, stay, is_second)
            if rest.keys or rest.buckets:
                course.left, course.wanted = _both(course.left, apart(mine, stay, is_second)), rest
                course.used = tuple(sorted({*course.used, *related.used}.difference(related.aliases)))
                return True
        waits = f"flows of it are in use at replica {running.move.plan.source}"
        running.move.explain(waits, holds=True)
        later = await self._ask(running, mine, running.move.references)
        running.move.explain(waits, holds=False)
        if later is not None and later.used:
            self._plan_follower(running, course)
            self.mover.in_use(running, later.used, later.aliases)
        return later is not None

    async def _await_answers(
        self, running: Running, strange: tuple[bytes, ...], course: Course, until: float | None
    ) -> float:
        """Keys of flows that go along lead elsewhere, as far as is known: until when the move waits, and ends then."""
        now = asyncio.get_running_loop().time()
        until = now + running.move.references if until is None else until
        if now >= until:
            self._plan_follower(running, course)
            owners = {self.placement.owner(key) for key in strange}
            self.mover.in_use(running, strange, owners=tuple(sorted(owners)))
        else:
            await _unless_over(running, asyncio.sleep(min(BRIEF, until - now)))
        return until

    async def staying(self, scope: Scope, used: Iterable[bytes], ask: Ask) -> set[bytes] | None:
        """Keys of what stays with flows in use, as far as buckets do not say so. None if ``ask`` says nothing."""
        along = await ask(Scope(keys=tuple(used)))
        if along is None:
            return None
        stay = {*used, *along.keys}
        if (buckets := behind(scope, stay, self.placement.is_second)).buckets:
            within = await ask(buckets)
            if within is None:
                return None
            stay.update(key for key in set(scope.keys).intersection(within.keys) if self.placement.is_second(key))
        return stay

    def _plan_follower(self, running: Running, course: Course) -> None:
        """Plan the move for what this one leaves: a process that ends meanwhile leaves word of it.

        It must not wait for anything before this one is over, which never waits for it.
        """
        if course.used and self._takes(running.move.plan.target, running.move.plan.source, course.left):
            course.follower = self.follow(running, running.move.plan.source, course.left)
            if course.follower is not None:
                course.planned(course.follower)

    def _drop(self, running: Running, course: Course, reason: str, *, moot: bool) -> None:
        """It need not begin; what it left may be taken all the same, if somebody can take it."""
        course.void = self._takes(running.move.plan.target, running.move.plan.source, course.left)
        self._plan_follower(running, course)
        self.mover.drop(running, reason, moot=moot)

    def _arrived(self, target: int, scope: Scope) -> bool:
        """Whether all of it is the target's already."""
        owners = {self.placement.owner(key) for key in scope.keys}
        return owners.union(map(self.placement.bucket_owner, scope.buckets)) == {target}

    def _takes(self, replica: int, source: int, scope: Scope) -> bool:
        """Whether this may move there. To a replica that drains only what nobody has had and its entries lead there
        for: it keeps its flows, and such packets have no other way to theirs.
        """
        found = self.fleet.replicas.get(replica)
        if found is None or found.state is not ReplicaState.FINISHING:
            return found is not None and found.state is ReplicaState.LIVE
        its = all(self.placement.entry(key) == replica for key in scope.keys)
        return found.draining and source == NOBODY and its

    def _obstacle(self, running: Running, mine: Scope) -> str:
        """Why a move that waits need not begin any more; empty if it may."""
        plan = running.move.plan
        if not mine.keys and not mine.buckets:
            return f"nothing of it was replica {plan.source}'s any more when its turn came"
        return "" if self._takes(plan.target, plan.source, mine) else f"replica {plan.target} takes no flows any more"

    async def _ask(self, running: Running, scope: Scope, patience: float | None) -> Related | None:
        """What belongs to it; None if the move is over, or, after a moment, if its source does not say."""
        source = running.move.plan.source
        with _asking(running, source, ANSWERS + (patience or 0.0)):
            related = await _unless_over(running, self._related(source, scope, patience))
        if running.ended.done():
            return None
        running.move.explain(unanswered(source), holds=related is None)
        return related

    async def _related(self, source: int, scope: Scope, patience: float | None) -> Related | None:
        """What belongs to it; None, after a moment, if the source does not say."""
        if source == NOBODY or self.is_gone(source):
            return _NOTHING
        try:
            return await self.fleet.related(source, scope, (), self.deadline, patience)
        except SplitmergeError as error:
            if self.is_gone(source):
                return _NOTHING
            logger.warning("replica %d does not say what belongs to flows that are to move: %s", source, error)
        await asyncio.sleep(PAUSE)
        return None

    def _strangers(self, related: Related) -> frozenset[bytes]:
        """Keys named that the source has no flow of, and that no entry leads to it for: they are left out.

        Such keys may have packets all the same, of a middlebox that keeps no state for them: they go with their bucket.
        An entry of theirs would stay for ever: it goes when a flow ends, and theirs has, or never was.
        """
        return frozenset(key for key in related.unknown if self.placement.entry(key) is None)

    def is_gone(self, replica: int) -> bool:
        """Whether it has ended."""
        found = self.fleet.replicas.get(replica)
        return found is None or found.state is ReplicaState.GONE

    def still_of(self, source: int, scope: Scope, target: int = NOBODY) -> Scope:
        """What of the scope is the source's now. Nobody's is also what only its packets have yet to come to the target
        for: it got an entry when these waited at the controller, or were on their way there.
        """
        if source == NOBODY:
            return Scope(keys=tuple(key for key in scope.keys if self.placement.entry(key) in (None, target)))
        buckets = self.placement.scope_of_buckets(scope.buckets, source)
        keys = {key for key in scope.keys if self.placement.owner(key) == source} | set(buckets.keys)
        return Scope(keys=tuple(sorted(keys)), buckets=buckets.buckets)


def _unnamed(scope: Scope, keys: frozenset[bytes]) -> Scope:
    """The scope without these keys by name: the bucket of one stays in it."""
    if not keys:
        return scope
    return Scope(keys=tuple(key for key in scope.keys if key not in keys), buckets=scope.buckets)


def _both(one: Scope, other: Scope) -> Scope:
    return Scope(keys=tuple(sorted({*one.keys, *other.keys})), buckets=tuple(sorted({*one.buckets, *other.buckets})))


@contextmanager
def _asking(running: Running, source: int, seconds: float) -> Iterator[None]:
    """The move waits for its source to say what belongs to it, and says so itself after so many ``seconds``."""
    loop, move = asyncio.get_running_loop(), running.move

    def silent() -> None:
        if not running.ended.done():
            move.explain(unanswered(source), holds=True)

    timer = loop.call_later(seconds, silent)
    move.asked = None if source == NOBODY else (source, loop.time())
    try:
        yield
    finally:
        move.asked = None
        timer.cancel()


async def _unless_over(running: Running, work: Coroutine[Any, Any, T]) -> T | None:
    """The result; None if the move is over before: somebody has called it off, or its deadline has passed."""
    loop = asyncio.get_running_loop()
    scope = asyncio.timeout(None)
    waits = True

    def over(ended: asyncio.Future[Report]) -> None:
        if waits:  # a callback that is due already comes though it was removed, and finds the scope left
            scope.reschedule(loop.time())

    try:
        async with scope:
            running.ended.add_done_callback(over)
            try:
                return await work
            finally:
                waits = False
                running.ended.remove_done_callback(over)
    except TimeoutError:
        if not scope.expired():
            raise
        return None
