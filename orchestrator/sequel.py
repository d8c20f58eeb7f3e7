"""A move that was asked for, and what follows from it: flows in use, the rest without them; groups from elsewhere.

All of it is one wish: it has one deadline, which runs from when it was asked for, and what is called off is not tried
again, neither as a whole nor in part.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.apart import without
from orchestrator.errors import JournalError
from orchestrator.fleet import Fleet
from orchestrator.mover import Late, Running
from orchestrator.reports import Report
from orchestrator.turns import Course, Turns
from splitmerge.errors import SplitmergeError
from splitmerge.messages import Scope

TRIES = 4
"""Moves of one wish at most, but for those that gather groups."""


@dataclass(frozen=True, slots=True)
class Sequel:
    """``deadline``: seconds that a replica may take to say what belongs to a scope."""

    turns: Turns
    fleet: Fleet
    deadline: float

    async def carry_out(self, first: Running, late: Late) -> list[Report]:
        """Begin a move when its turn comes; the reports of it and of what followed. ``late`` is set if one is late.

        The first takes what is not in use. The second waits for what is, with the buckets that it is in and the flows
        of its groups, and ends undone if that is not given back; then another one takes what was. Flows that get in use
        when a move has begun undo it, and the rest is moved without them. What cannot follow is said in the last
        report's reason: what has been moved has been moved.
        :raises JournalError: if the journal cannot be written.
        """
        running, wanted, spared = first, first.move.plan.scope, False
        reports: list[Report] = []
        gathered: list[Report] = []
        while True:
            late.watch(running)
            course = Course(may_leave=not spared and len(reports) < TRIES - 1)
            with self.turns.mover.leading(running):
                reports.append(await self.turns.take(running, course))
                if reports[-1].done and course.groups:
                    gathered += await self._gather(running, reports, course.groups, late)
                spared = reports[-1].done
                following = await self._next(running, course.left if spared else wanted, reports, course)
            if following is None:
                return [*reports, *gathered]
            running, wanted = following

    async def _next(
        self, last: Running, wanted: Scope, reports: list[Report], course: Course
    ) -> tuple[Running, Scope] | None:
        """The move that follows, and what it is for; None if none does. Why not, is in the last report.

        ``wanted``: what has not been moved.
        :raises JournalError:
        """
        move, done = last.move, reports[-1].done
        if move.called_off or not (done or move.stays):
            if course.used:
                self._tell(reports, _were_in_use(len(course.used)), course)
            return None
        if len(reports) == TRIES:
            return None
        try:
            rest = wanted if done else await self._rest(last, wanted)
            if last.off:
                reports[-1] = self.turns.mover.reports.get(reports[-1].epoch) or reports[-1]
                return None
            again = self._following(last, move.plan.source, rest) if rest.keys or rest.buckets else None
        except JournalError:
            raise
        except SplitmergeError as error:
            why = _were_in_use(len(course.used)) if done else "the others stay as well"
            self._tell(reports, f"{why}: {error}", course)
            return None
        return None if again is None else (again, rest)

    def _tell(self, reports: list[Report], problem: str, course: Course) -> None:
        """Of a move that is over: what it left stays, too."""
        reports[-1] = self.turns.mover.note(reports[-1], problem, course.used if reports[-1].done else ())

    def _following(self, last: Running, source: int, scope: Scope) -> Running | None:
        """A move that is made for the last one; None if nothing of the scope is the source's."""
        plan = last.move.plan
        return self.turns.plan(source, plan.target, scope, plan.options, last.asked, plan.epoch)

    async def _rest(self, running: Running, wanted: Scope) -> Scope:
        """What was wanted, less what is in use. :raises PeerError: if the source does not say what belongs to that."""
        used = running.move.pinned_keys
        if not used:
            return wanted
        related = await self.fleet.related(running.move.plan.source, Scope(keys=used), (), self.deadline)
        return without(wanted, {*used, *related.keys}, self.turns.placement.is_second)

    async def _gather(self, last: Running, reports: list[Report], groups: set[str], late: Late) -> list[Report]:
        """Flows of these groups that are at other replicas follow. Who cannot be asked is named in the last report."""
        plan = last.move.plan
        gathered: list[Report] = []
        for other in [each.number for each in self.fleet.live() if each.number != plan.target]:
            try:
                keys = (await self.fleet.related(other, Scope(), groups, self.deadline)).keys
                running = self._following(last, other, Scope(keys=keys)) if keys else None
            except JournalError:
                raise
            except SplitmergeError as error:
                if not self.turns.is_gone(other):  # else what it had is lost, and nothing is torn
                    problem = f"flows of its groups at replica {other}, if any, stay there: {error}"
                    reports[-1] = self.turns.mover.note(reports[-1], problem)
                continue
            if running is not None:
                late.watch(running)
                gathered.append(await self.turns.take(running))
                if running.move.called_off:
                    break
        return gathered


def _were_in_use(count: int) -> str:
    """Of a move that has left so many flows."""
    return f"{count} of its flows {'was' if count == 1 else 'were'} in use, and {'stays' if count == 1 else 'stay'}"
