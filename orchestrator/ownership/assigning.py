"""New flows that the controller announces get an owner (§3.2): the policy of assignment chooses, a move does it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any

from orchestrator.migration import Move
from orchestrator.migration.steps import Step
from orchestrator.moves.placement import Placement
from orchestrator.replicas.fleet import Fleet
from orchestrator.replicas.noticed import NoRoom
from orchestrator.scaling.scaler import Scaler
from p4rt_controller import AssignmentPolicy
from splitmerge.errors import SplitmergeError
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope

RETRY = 1.0
"""Seconds until a flow that did not get its owner is tried again."""
NEW_FLOWS = 65_536
"""New flows that may wait for an owner; more are dropped (the controller announces them again) and counted."""
NO_ROOM = "announcement_full"
DROPS = (NO_ROOM,)
"""Reasons for which news of a flow is dropped here: announcements, not packets (docs/drops.md)."""


class Assigner:
    """See the module's text. ``later`` runs work in a task of the orchestrator's; ``waiting`` is `Network.waiting`."""

    def __init__(
        self,
        policy: AssignmentPolicy,
        fleet: Fleet,
        placement: Placement,
        scaler: Scaler,
        later: Callable[[Coroutine[Any, Any, None], str], None],
        waiting: Callable[[Iterable[bytes]], Collection[bytes]],
    ) -> None:
        self.drops = dict.fromkeys(DROPS, 0)
        """By reason."""
        self._policy = policy
        self._fleet = fleet
        self._placement = placement
        self._scaler = scaler
        self._later = later
        self._waiting = waiting
        self.no_room = NoRoom()
        self._new: dict[FlowKey, None] = {}
        self._resting: dict[FlowKey, bool] = {}
        """Flows that the switch had no room for a moment ago, and whether packets of them have come since."""
        self._coming: Counter[int] = Counter()
        self._here = asyncio.Event()

    def announced(self, key: FlowKey) -> None:
        """A packet of this flow has come, and nobody owns it."""
        if key in self._resting:
            self._resting[key] = True
            return
        if len(self._new) + len(self._resting) >= NEW_FLOWS and key not in self._new:
            self.drops[NO_ROOM] += 1
            return
        self._new[key] = None
        self._here.set()

    async def run(self) -> None:
        """Choose, in batches, until cancelled."""
        while True:
            await self._here.wait()
            loads = self._loads()
            if not loads:
                await asyncio.sleep(RETRY)
                continue
            batch, self._new = list(self._new), {}
            self._here.clear()
            chosen: dict[int, list[FlowKey]] = {}
            for key in batch:
                target = self._placement.entry(key)
                if target is None:
                    target = self._policy.choose(key, loads)
                    loads[target] += 1
                chosen.setdefault(target, []).append(key)
            for target, keys in chosen.items():
                self._coming[target] += len(keys)
                self._later(self._adopt(target, keys), f"new flows to {target}")

    def _loads(self) -> dict[int, int]:
        """Flows of each living replica: its entries in the switch, and those on their way to it.

        What replicas report is up to a quarter of a second old: a burst of new flows would all go to one.
        """
        return {
            each.number: self._placement.entries(each.number) + self._coming[each.number] for each in self._fleet.live()
        }

    async def _adopt(self, target: int, keys: list[FlowKey]) -> None:
        try:
            move = await self._scaler.adopt_new(target, keys)
        except SplitmergeError:
            self._again(keys)
            raise
        finally:
            self._coming[target] -= len(keys)
        if move is None or move.step is not Step.DONE:
            self._again(keys)
            return
        self._again(set(keys).difference(map(FlowKey, move.plan.scope.keys)))  # others asked for these: theirs, then
        if move.refused:
            self._rest(move)

    def _rest(self, move: Move) -> None:
        """The switch had no room for some, and their packets are gone: a flow that still sends is tried again soon."""
        loop = asyncio.get_running_loop()
        self.no_room.take(len(move.refused), move.reason, loop.time())
        for key in map(FlowKey, move.refused):
            if key not in self._resting:  # it may have been announced again while a move before was under way
                self._resting[key] = False
                loop.call_later(RETRY, self._rested, key)

    def _rested(self, key: FlowKey) -> None:
        if self._resting.pop(key):
            self.announced(key)

    def _again(self, keys: Iterable[FlowKey]) -> None:
        """Try these again soon, as long as there is something to bring: a packet that comes later is announced anew."""
        if tried := list(keys):
            asyncio.get_running_loop().call_later(RETRY, self._retry, tried)

    def _retry(self, keys: list[FlowKey]) -> None:
        waiting, locks = set(self._waiting(keys)), self._scaler.mover.locks
        held: list[FlowKey] = []
        for key in keys:
            if key in waiting:
                self.announced(key)
            elif locks.holder(Scope(keys=(key,))) is not None:  # that move has its packets, and may leave them behind
                held.append(key)
        self._again(held)
