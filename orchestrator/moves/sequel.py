"""A move that was asked for, and what follows from it: flows in use, the rest without them; groups from elsewhere.

All of it is one wish: it has one deadline, which runs from when it was asked for, and what is called off is not tried
again, neither as a whole nor in part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.errors import JournalError
from orchestrator.migration import were_in_use
from orchestrator.migration.apart import without
from orchestrator.migration.steps import Step
from orchestrator.moves.reports import Report
from orchestrator.moves.running import Late, Running
from orchestrator.moves.turns import Course, Turns
from orchestrator.replicas.fleet import Fleet
from splitmerge.errors import SplitmergeError, first_of
from splitmerge.messages import Scope

TRIES = 4
"""Moves of one wish at most, but for those that gather groups."""
_OFTEN = "flows in use, or that got another key, were in the way too often"


@dataclass(slots=True)
class Wish:
    """All moves of one wish so far. ``tasks`` owns those that run beside each other."""

    late: Late
    tasks: asyncio.TaskGroup
    moves: list[Running] = field(default_factory=list)
    tried: int = 0
    """Moves of it, but for those that gather groups."""

    def add(self, running: Running) -> None:
        """One more, which is told of if it is late."""
        self.late.watch(running)
        self.moves.append(running)

    def attempt(self, running: Running) -> None:
        """One more that counts."""
        self.tried += 1
        self.add(running)


@dataclass(frozen=True, slots=True)
class Sequel:
    """``deadline``: seconds that a replica may take to say what belongs to a scope."""

    turns: Turns
    fleet: Fleet
    deadline: float

    async def carry_out(self, first: Running, late: Late) -> list[Report]:
        """Begin a move when its turn comes; the reports of it and of what followed. ``late`` is set if one is late.

        The first takes what is not in use. The second, which is planned when the first begins, waits for what is, with
        the buckets that it is in and the flows of its groups, and ends undone if that is not given back; then another
        one takes what was. Flows that get in use when a move has begun undo it, and the rest is moved without them.
        Moves that bring flows of groups from elsewhere run beside those. What cannot follow is said in the reason of
        the report of that which it would follow: what has been moved has been moved.
        :raises JournalError: if the journal cannot be written.
        """
        failed: SplitmergeError | None = None
        wish = Wish(late, asyncio.TaskGroup())
        try:
            async with wish.tasks:
                wish.attempt(first)
                await self._pursue(first, wish)
        except* SplitmergeError as group:
            failed = first_of(group)
        finally:
            for each in wish.moves:
                if each.move.step is Step.PLANNED:  # nobody would take it, and others would wait for it
                    self.turns.mover.cancel(each.move.plan.epoch, "who asked for it has failed")
        if failed is not None:
            raise failed
        reports = self.turns.mover.reports
        ended = [(reports.get(each.move.plan.epoch) or each.report) for each in wish.moves]
        return sorted((each for each in ended if each is not None), key=lambda each: each.epoch)

    async def _pursue(self, running: Running, wish: Wish, *, spared: bool = False) -> None:
        """One move, and what follows from it. ``spared``: it is for what another one left, and leaves nothing.

        :raises JournalError:
        """
        moved: Running | None = running
        known = spared
        while moved is not None:
            may_leave = not spared and wish.tried < TRIES
            course = Course(may_leave, known=known, planned=wish.attempt)
            with self.turns.mover.leading(moved):
                result = await self.turns.take(moved, course)
                self._let_follow(moved, course, result, wish)
                if result.done and course.groups:
                    await self._gather(moved, course.groups, wish)
                again = await self._again(moved, course, wish)
            known, spared, moved = bool(moved.move.torn), False, again

    def _let_follow(self, running: Running, course: Course, result: Report, wish: Wish) -> None:
        """What the move left is taken, unless it is called off with it."""
        move, mover, follower = running.move, self.turns.mover, course.follower
        goes_on = result.done or course.void or (move.stays and not move.called_off)
        if follower is None:
            if course.used and not goes_on:
                mover.note(result, were_in_use(len(course.used)))
        elif goes_on:
            name = f"move {follower.move.plan.epoch}"
            wish.tasks.create_task(self._pursue(follower, wish, spared=True), name=name)
        else:
            mover.cancel(follower.move.plan.epoch, f"move {move.plan.epoch}, which left it these flows, was not done")

    async def _again(self, last: Running, course: Course, wish: Wish) -> Running | None:
        """The move of the rest, after one that flows in use have undone; None if none follows.

        Why not, and how much stays so, is in the last report. :raises JournalError:
        """
        if not last.move.stays:
            return None
        rest, again = course.wanted, None
        try:
            if last.move.called_off or wish.tried >= TRIES:
                self._leave(last, rest, "" if last.move.called_off else f"the others stay as well: {_OFTEN}")
                return None
            rest = await self._rest(last, rest)
            if last.off:
                self._leave(last, rest)
            elif rest.keys or rest.buckets:
                again = self.turns.follow(last, last.move.plan.source, rest)
        except JournalError:
            raise
        except SplitmergeError as error:
            self._leave(last, rest, f"the others stay as well: {error}")
            return None
        if again is not None:
            wish.attempt(again)
        return again

    def _leave(self, last: Running, rest: Scope, why: str = "") -> None:
        """No move follows for this, as far as it is not in use. ``why``: if it has not been told."""
        assert last.report is not None
        plan, turns = last.move.plan, self.turns
        left = turns.still_of(plan.source, without(rest, last.move.pinned_keys, turns.placement.is_second), plan.target)
        if left.keys or left.buckets:
            turns.mover.note(last.report, why, left)

    def _tell(self, last: Running, problem: str) -> None:
        """Of a move that is over."""
        assert last.report is not None
        self.turns.mover.note(last.report, problem)

    async def _rest(self, running: Running, wanted: Scope) -> Scope:
        """What was wanted, less what is in use. :raises PeerError: if the source does not say what belongs to that."""
        used, source = running.move.pinned_keys, running.move.plan.source
        if not used:
            return wanted
        stay = await self.turns.staying(wanted, used, lambda of: self.fleet.related(source, of, (), self.deadline))
        assert stay is not None  # else it would have been raised
        return without(wanted, stay, self.turns.placement.is_second)

    async def _gather(self, last: Running, groups: Iterable[str], wish: Wish) -> None:
        """Flows of these groups that are at other replicas follow. Who cannot be asked is named in the last report."""
        plan, last.gathers = last.move.plan, True
        try:
            for other in [each.number for each in self.fleet.live() if each.number != plan.target]:
                running = await self._gathering(last, other, groups)
                if running is not None:
                    wish.add(running)
                    await self.turns.take(running, Course(known=True))
                if last.off or (running is not None and running.move.called_off and not running.move.moot):
                    break
        finally:
            last.gathers = False

    async def _gathering(self, last: Running, other: int, groups: Iterable[str]) -> Running | None:
        """The move that brings flows of these groups from there; None if there are none, or no more are to follow."""
        try:
            keys = (await self.fleet.related(other, Scope(), set(groups), self.deadline)).keys
            return self.turns.follow(last, other, Scope(keys=keys)) if keys and not last.off else None
        except JournalError:
            raise
        except SplitmergeError as error:
            if not self.turns.is_gone(other):  # else what it had is lost, and nothing is torn
                self._tell(last, f"flows of its groups at replica {other}, if any, stay there: {error}")
        return None
