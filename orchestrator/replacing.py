"""Replicas that died are replaced, one for one, whatever the policy: `Replacements` decides, `Replacer` acts.

A death owes one replica of the same kind. A try that fails is repeated with a growing pause, and so is a replacement
that dies young: a middlebox that ends at once is not started for ever. After ``tries`` it is given up and
said so, in the log and in the status; an agent that connects begins anew. What is owed is not journalled: after a
restart it is known from replicas that are gone and still own something.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.config import ReplacementConfig
from orchestrator.fleet import Fleet, Replica
from orchestrator.journal import Journal
from orchestrator.scaling import Scaler
from splitmerge.errors import SplitmergeError

logger = logging.getLogger("orchestrator.replacing")

SETTLED_WITHIN = 5.0
"""Seconds that a replacement waits for the dead one's flows to be others', so that its slot is free."""
POLL = 0.05
MADE = "replicas.replaced"
"""Name of the total in the journal."""
LONGEST_SLEEP = 60.0


@dataclass(slots=True)
class Owed:
    """One replica that is to come in place of another."""

    replica: int
    """Who died."""
    kind: str
    """What it was: ``process`` or ``vm``."""
    lived: int
    """How many replicas there were, this one and those owed before it included: with as many again, nothing is owed,
    whoever added them."""
    due: float
    """When the next try is."""
    failures: int = 0
    reason: str = ""
    """Of the newest failure."""


class Replacements:
    """What is owed, and when to try: no clock, no tasks. ``most``: how many can be owed, the number of slots."""

    def __init__(self, settings: ReplacementConfig, most: int, made: int = 0) -> None:
        self.made = made
        """Replacements that came up, those of earlier processes included."""
        self.owed: list[Owed] = []
        self.given_up: list[Owed] = []
        self._settings = settings
        self._most = most
        self._young: dict[int, tuple[Owed, float]] = {}

    @property
    def timer(self) -> float | None:
        """When the next try is due."""
        return min((each.due for each in self.owed), default=None)

    def lost(self, replica: int, kind: str, lived: int, now: float) -> None:
        """A replica died that nobody had asked to end; ``lived``: how many there were with it. ``now`` in seconds.

        Those that are owed already count as if they were there: of several that die together each is replaced.
        """
        if not self._settings.enabled:
            return
        young = self._young.pop(replica, None)
        if young is not None and now - young[1] < self._settings.young:
            self.owed.append(young[0])
            self.failed(young[0], f"replica {replica} died {now - young[1]:.1f} s after it came", now)
            return
        self.owed.append(Owed(replica, kind, lived + len(self.owed), now + self._settings.first_wait))
        del self.owed[: -self._most]

    def due(self, now: float) -> Owed | None:
        """The one to try now, if any: the one that waits the longest."""
        return min((each for each in self.owed if each.due <= now), key=lambda each: each.due, default=None)

    def came(self, owed: Owed, replica: int, now: float) -> None:
        """This replica lives in its place."""
        self._drop(owed)
        self.made += 1
        self._young = {number: each for number, each in self._young.items() if now - each[1] < self._settings.young}
        self._young[replica] = (owed, now)

    def failed(self, owed: Owed, reason: str, now: float) -> None:
        """This try came to nothing."""
        owed.failures += 1
        owed.reason = reason
        pause = min(self._settings.first_wait * 2**owed.failures, self._settings.longest_wait)
        owed.due = now + pause
        if owed.failures < self._settings.tries:
            logger.warning("in place of replica %d: %s; again in %.1f s", owed.replica, reason, pause)
            return
        logger.error(
            "replica %d is not replaced: %d tries failed, the last: %s; a scale-out by hand tries again",
            owed.replica,
            owed.failures,
            reason,
        )
        self._drop(owed)
        self.given_up = [*self.given_up, owed][-self._most :]

    def needless(self, owed: Owed) -> None:
        """There are replicas enough."""
        self._drop(owed)

    def agent_here(self, kind: str, now: float) -> None:
        """An agent has connected: what failed without it is tried again."""
        anew = [each for each in self.given_up if kind in ("", each.kind) or not each.kind]
        self.given_up = [each for each in self.given_up if each not in anew]
        for each in anew:
            each.failures, each.due = 0, now + self._settings.first_wait
        self.owed = (self.owed + anew)[-self._most :]

    def _drop(self, owed: Owed) -> None:
        self.owed = [each for each in self.owed if each is not owed]


class Replacer:
    """Makes what `Replacements` says. ``ceiling``: replicas that there may be; ``acted``: called after each."""

    def __init__(
        self,
        core: Replacements,
        journal: Journal,
        fleet: Fleet,
        scaler: Scaler,
        ceiling: Callable[[], int],
        acted: Callable[[], None],
    ) -> None:
        self.core = core
        self._journal = journal
        self._fleet = fleet
        self._scaler = scaler
        self._ceiling = ceiling
        self._acted = acted
        self._changed = asyncio.Event()

    def lost(self, replica: Replica) -> None:
        """This replica died; its state is not yet GONE."""
        self.core.lost(replica.number, self._fleet.kind_of(replica.slot), self._alive(), _now())
        self._changed.set()

    def found_dead(self, replicas: list[Replica]) -> None:
        """These died before an earlier process of the orchestrator ended."""
        for replica in replicas:
            self.core.lost(replica.number, self._fleet.kind_of(replica.slot), self._alive() + 1, _now())

    def _alive(self) -> int:
        """Replicas that take flows. One that is starting is none yet: it may be the very one that is owed. One that is
        being emptied is none any more: it may be there for long, and the policy does not count it either."""
        return len(self._fleet.live())

    def agent_here(self, kind: str) -> None:
        """An agent of this kind has connected."""
        self.core.agent_here(kind, _now())
        self._changed.set()

    async def run(self) -> None:
        """Replace until cancelled."""
        while True:
            self._changed.clear()
            owed = self.core.due(_now())
            if owed is not None:
                await self._replace(owed)
                continue
            timer = self.core.timer
            wait = LONGEST_SLEEP if timer is None else max(0.0, timer - _now())
            # Not wait_for: Python 3.11's loses a cancellation that comes together with what is waited for.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    async def _replace(self, owed: Owed) -> None:
        await self._settled(owed.replica)
        try:
            async with self._scaler.scaling:
                newcomer = await self._make(owed)
                if newcomer is None:
                    return
                await self._give_share(newcomer)
        except SplitmergeError as error:
            self.core.failed(owed, str(error), _now())
        else:
            self._acted()

    async def _make(self, owed: Owed) -> Replica | None:
        alive = self._alive()
        if alive >= min(owed.lived, self._ceiling()):
            logger.warning("replica %d is not replaced: there are %d, which is enough", owed.replica, alive)
            self.core.needless(owed)
            return None
        newcomer = await self._scaler.add(owed.kind)
        self.core.came(owed, newcomer.number, _now())
        self._journal.add({MADE: 1})
        logger.warning("replica %d is in the place of replica %d, which died", newcomer.number, owed.replica)
        return newcomer

    async def _give_share(self, newcomer: Replica) -> None:
        try:
            await self._scaler.give_share(newcomer.number)
        except SplitmergeError as error:  # it lives: that it has little to do is no reason for another one
            logger.warning("replica %d: its share of the flows: %s", newcomer.number, error)

    async def _settled(self, dead: int) -> None:
        """Until others have what the dead one had, or for so long as that may take."""
        until = _now() + SETTLED_WITHIN
        while dead in self._fleet.replicas and _now() < until:  # noqa: ASYNC110 - bounded, and rare
            await asyncio.sleep(POLL)


def _now() -> float:
    return asyncio.get_running_loop().time()
