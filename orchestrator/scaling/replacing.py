"""Makes the first replica and those in place of dead ones, one for one, when `replacements` says so."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from orchestrator.errors import JournalError, NumbersUsedUp, ReplicaEnded, SlotsLeaving
from orchestrator.journal import Journal, UnreplacedRow
from orchestrator.replicas.fleet import Fleet, Replica
from orchestrator.scaling.replacements import NOBODY_DIED, Owed, Replacements
from orchestrator.scaling.scaler import Scaler
from splitmerge.errors import SplitmergeError

logger = logging.getLogger("orchestrator.replacing")

SETTLED_WITHIN = 5.0
"""Seconds that a replacement waits for the dead one's flows to be others', so that its slot is free."""
POLL = 0.05
MADE = "replicas.replaced"
FAILED = "replicas.replaced.failed"
"""Names of totals in the journal: replacements that came up, and tries that came to nothing."""
LONGEST_SLEEP = 60.0


class Replacer:
    """Makes what `Replacements` says. ``ceiling``: replicas that there may be.

    ``acted``: called after each that came in place of another; ``changed``: also when one was given up, and when
    somebody lives again, whoever asked for it.
    """

    def __init__(
        self,
        core: Replacements,
        journal: Journal,
        fleet: Fleet,
        scaler: Scaler,
        ceiling: Callable[[], int],
        acted: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self.core = core
        self._journal = journal
        self._fleet = fleet
        self._scaler = scaler
        self._ceiling = ceiling
        self._acted = acted
        self._told = changed
        self._noted: list[UnreplacedRow] | None = None
        self._failed = core.tries_failed
        self._changed = asyncio.Event()
        scaler.on_count = self._count_changed

    def nobody(self) -> bool:
        """No replica lives. Whether one will, by itself."""
        self._changed.set()
        return self.core.nobody(_now())

    def lost(self, replica: Replica) -> None:
        """This replica died; its state is not yet GONE. :raises JournalError: what failed cannot be written down."""
        age = _now() - replica.since if replica.since else float("inf")
        kind = self._fleet.agents.kind_of(replica.slot)
        self.core.lost(replica.number, kind, self._alive(), _now(), age=age, how=replica.status)
        self._tell()

    def found_dead(self, replicas: list[Replica]) -> None:
        """These died before an earlier process of the orchestrator ended. :raises JournalError: as `lost`."""
        known = {each.replica for each in self.core.given_up}
        for replica in [each for each in replicas if each.number not in known]:
            self.core.lost(replica.number, self._fleet.agents.kind_of(replica.slot), self._alive() + 1, _now())
        self.core.there_are(self._alive())
        self._note()

    def _alive(self) -> int:
        """Replicas that take flows. One that is starting is none yet: it may be the very one that is owed. One that is
        being emptied is none any more: it may be there for long, and the policy does not count it either."""
        return len(self._fleet.live())

    def _count_changed(self, by: int) -> None:
        alive = self._alive()
        self.core.there_are(alive, fewer=max(0, -by))
        if by > 0 and alive == 1:  # what the dead had is nobody's until somebody gives it out
            self._told()
        self._note()

    def _note(self) -> None:
        """Journal who is not replaced, if others are than before."""
        rows = [
            UnreplacedRow(each.replica, each.kind, each.lived, each.failures, each.reason)
            for each in self.core.given_up
            if each.replica != NOBODY_DIED
        ]
        if rows != self._noted:
            self._journal.leave_dead(rows)
            self._noted = rows

    def agent_here(self, kind: str) -> None:
        """An agent of this kind has connected."""
        self.core.agent_here(kind, _now())
        self._changed.set()

    async def run(self) -> None:
        """Make what is owed, until cancelled."""
        while True:
            self._changed.clear()
            owed = self.core.due(_now())
            if owed is not None:
                await self._make_good(owed)
                continue
            timer = self.core.timer
            wait = LONGEST_SLEEP if timer is None else max(0.0, timer - _now())
            # Not wait_for: Python 3.11's loses a cancellation that comes together with what is waited for.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    async def _make_good(self, owed: Owed) -> None:
        await self._settled(owed.replica)
        try:
            async with self._scaler.scaling:
                newcomer = await self._make(owed)
                if newcomer is not None and owed.replica != NOBODY_DIED:
                    await self._give_share(newcomer)
                    self._acted()
        except NumbersUsedUp as error:  # the next process would find none either
            self.core.failed(owed, str(error), _now())
        except JournalError:  # the process ends, and the next one begins with what the journal has
            raise
        except SlotsLeaving as error:
            return self.core.waits(owed, str(error), _now())
        except SplitmergeError as error:
            self.core.failed(owed, str(error), _now(), ended=isinstance(error, ReplicaEnded))
        return self._tell()

    def _tell(self) -> None:
        """Something has come, failed or been given up."""
        if failed := self.core.tries_failed - self._failed:
            self._failed = self.core.tries_failed
            self._journal.add({FAILED: failed})
        self._note()
        self._changed.set()
        self._told()

    async def _make(self, owed: Owed) -> Replica | None:
        alive = self._alive()
        if alive >= min(owed.lived, self._ceiling()):
            logger.warning("%s: there are %d, which is enough", owed.what, alive)
            self.core.needless(owed)
            return None
        newcomer = await self._scaler.add(owed.kind)
        self.core.came(owed, newcomer.number, _now())
        if owed.replica != NOBODY_DIED:
            self._journal.add({MADE: 1})
            logger.warning("replica %d is in the place of replica %d, which died", newcomer.number, owed.replica)
        return newcomer

    async def _give_share(self, newcomer: Replica) -> None:
        try:
            await self._scaler.give_share(newcomer.number)
        except SplitmergeError as error:  # it lives: that it has little to do is no reason for another one
            logger.warning("replica %d: its share of the flows: %s", newcomer.number, error)

    async def _settled(self, dead: int) -> None:
        """Until others have what the dead one had, or, where nobody else lives, there is a slot; not for ever."""
        until = _now() + SETTLED_WITHIN
        while self._waits_for(dead) and _now() < until:  # noqa: ASYNC110 - bounded, and rare
            await asyncio.sleep(POLL)

    def _waits_for(self, dead: int) -> bool:
        if self._alive():
            return dead in self._fleet.replicas
        return not self._fleet.free_slots()


def _now() -> float:
    return asyncio.get_running_loop().time()
