"""A move that was asked for, and what follows from it: the rest once more without flows in use; groups from elsewhere.

All of it is one wish: it has one deadline, which runs from when it was asked for, and what is called off is not tried
again, neither as a whole nor in part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from orchestrator.errors import JournalError
from orchestrator.fleet import Fleet
from orchestrator.mover import Late, Running
from orchestrator.reports import Report
from orchestrator.turns import Turns
from splitmerge.errors import SplitmergeError
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope

TRIES = 4
"""Moves of one wish at most: each holds its packets back until flows in use have been waited for, in vain."""


@dataclass(frozen=True, slots=True)
class Sequel:
    """``deadline``: seconds that a replica may take to say what belongs to a scope."""

    turns: Turns
    fleet: Fleet
    deadline: float

    async def carry_out(self, first: Running, late: Late) -> list[Report]:
        """Begin a move when its turn comes; the reports of it and of what followed. ``late`` is set if one is late.

        Flows in use stay, with the buckets that they are in and the flows of their groups; the rest is moved. What
        cannot follow is said in the last report's reason: what has been moved has been moved.
        :raises JournalError: if the journal cannot be written.
        """
        running, wanted = first, first.move.plan.scope
        reports: list[Report] = []
        while True:
            late.watch(running)
            groups: set[str] = set()
            with self.turns.mover.leading(running):
                reports.append(await self.turns.take(running, groups))
                following = await self._next(running, wanted, reports)
            if following is None:
                break
            running, wanted = following
        gathered = await self._gather(running, reports, groups, late) if reports[-1].done and groups else []
        return [*reports, *gathered]

    async def _next(self, last: Running, wanted: Scope, reports: list[Report]) -> tuple[Running, Scope] | None:
        """The move of the rest, and what that is; None if there is none. Why not, is said in the last report.

        :raises JournalError:
        """
        if last.move.called_off or not last.move.stays or len(reports) == TRIES:
            return None
        try:
            rest = await self._rest(last, wanted)
            if last.off:
                reports[-1] = self.turns.mover.reports.get(reports[-1].epoch) or reports[-1]
                return None
            again = self._following(last, last.move.plan.source, rest) if rest.keys or rest.buckets else None
        except JournalError:
            raise
        except SplitmergeError as error:
            reports[-1] = self.turns.mover.note(reports[-1], f"the others stay as well: {error}")
            return None
        return None if again is None else (again, rest)

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


def without(scope: Scope, stay: Iterable[bytes], is_second: Callable[[bytes], bool]) -> Scope:
    """The scope less the flows with these keys, and less the buckets that they are in: a bucket moves whole or stays.

    ``is_second``: whether a key goes with its flow, and not with its own bucket. In a scope with buckets such keys are
    left out: the source names those of the flows that move, and those of others stay with them.
    """
    staying = set(stay)
    full = {FlowKey(key).bucket for key in staying if not is_second(key)}
    buckets = tuple(bucket for bucket in scope.buckets if bucket not in full)
    behind = full.intersection(scope.buckets)
    keys = (key for key in scope.keys if key not in staying and FlowKey(key).bucket not in behind)
    return Scope(keys=tuple(key for key in keys if not (scope.buckets and is_second(key))), buckets=buckets)
