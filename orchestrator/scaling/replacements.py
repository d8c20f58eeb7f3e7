"""When may a replica be made that nobody asked for? Who is owed, when the next try is, and when it is given up.

The one owner of that question: the first replica and those in place of dead ones are made when this says so, and by
nobody else. A death owes one replica of the same kind. A try that fails is repeated with a growing pause, and so is a
replacement that dies young: a middlebox that ends at once is not started for ever. After ``tries`` it is given up: its
place stays empty (`absent`), which no minimum and no fixed number makes up for, and policies add none of its kind
(`barred`), until somebody scales out or an agent connects. Where replacing is switched off every death is given up at
once. No clock, no tasks. What is owed is not journalled: a new process knows it from replicas that are gone and still
own something. Who is not replaced is (`left_dead`): where replacing is switched off it stays so; else tries begin anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

from orchestrator.config import ReplacementConfig

logger = logging.getLogger("orchestrator.replacing")

NOBODY_DIED = 0
"""`Owed.replica` of the first one, which is in nobody's place."""
PROVEN = 5.0
"""Seconds that one must live, after tries that failed, until all is taken to be well; and twice as long as any before
it that died young."""
AGAIN = "see the agent's log for why; `splitmerge scale-out` tries again"


@dataclass(slots=True)
class Owed:
    """One replica that is to come, in place of another or as the first."""

    replica: int
    """Who died; `NOBODY_DIED`: nobody lives, and nobody has died."""
    kind: str
    """What it was: ``process`` or ``vm``; empty if any will do."""
    lived: int
    """How many replicas there are to be: as many as there were, this one and those missed then included, less those
    that were scaled in since. With as many again, nothing is owed, whoever added them."""
    due: float
    """When the next try is."""
    failures: int = 0
    reason: str = ""
    """Of the newest failure; of one that nobody tries to replace, how it died."""
    ended: int = 0
    """Replicas in this place that ended by themselves, before or soon after they came; who died may be the first."""
    age: float = 0.0
    """Seconds that the one of these lived that lived the longest."""
    waits: str = ""
    """Why there can be no try yet, though one is due; empty if that is not so."""

    @property
    def what(self) -> str:
        """For people: what is owed."""
        return f"a replica in place of replica {self.replica}" if self.replica else "the first replica"


class Replacements:
    """See the module's text. ``most``: how many can be owed, the number of slots.

    ``made`` and ``failed``: totals of earlier processes. Times are in seconds, of one clock.
    """

    def __init__(self, settings: ReplacementConfig, most: int, made: int = 0, failed: int = 0) -> None:
        self.made = made
        """Replacements that came up, those of earlier processes included."""
        self.tries_failed = failed
        """Tries that came to nothing, likewise."""
        self.owed: list[Owed] = []
        self.given_up: list[Owed] = []
        """Whose places stay empty."""
        self._settings = settings
        self._most = most
        self._young: dict[int, tuple[Owed, float]] = {}
        """Who came in whose place, and when."""

    # -- what there is -----------------------------------------------------------------------------------------

    @property
    def timer(self) -> float | None:
        """When the next try is due."""
        return min((each.due for each in self.owed), default=None)

    @property
    def absent(self) -> int:
        """Places that stay empty: to whoever keeps a number of replicas they count as if somebody were there."""
        return len(self.given_up)

    def barred(self, kind: str) -> str:
        """Why no policy may add a replica of this kind; empty if one may. An empty kind is any."""
        found = (each for each in reversed(self.given_up) if each.failures and _alike(kind, each.kind))
        return next((self._lost(each) for each in found), "")

    def on_trial(self, now: float) -> list[Owed]:
        """Places that somebody has come to after tries that failed, and has not yet lived in for long."""
        return [owed for owed, _, _ in self._trials(now)]

    def problems(self, now: float) -> list[str]:
        """What is wrong, how often it was tried, and what to do: a line each.

        A place is told of from the first try that failed until somebody has really lived there (`on_trial`).
        """
        trying = [
            f"{self._tried(each)}, {each.waits or _when(each.due - now)}; the last: {each.reason}"
            if each.reason
            else f"{each.what} {each.waits}"
            for each in self.owed
            if each.reason or each.waits
        ]
        living = [
            f"{self._tried(each)}; replica {replica} has come, and all is well if it lives for {left:.1f} s more; "
            f"the last: {each.reason}"
            for each, replica, left in self._trials(now)
        ]
        return trying + living + [self._lost(each) for each in self.given_up]

    def _tried(self, each: Owed) -> str:
        return f"{each.what}: {each.failures} of {self._settings.tries} tries failed"

    def _trials(self, now: float) -> list[tuple[Owed, int, float]]:
        """Where tries failed, who came in the end, and how many seconds more it must live."""
        left = ((owed, replica, since + self._proof(owed) - now) for replica, (owed, since) in self._young.items())
        return [each for each in left if each[0].reason and each[2] > 0]

    def _proof(self, owed: Owed) -> float:
        """Seconds for which who comes must live. More than `young` would be in vain: then a death is one of its own."""
        return min(max(PROVEN, 2 * owed.age), self._settings.young)

    def _lost(self, each: Owed) -> str:
        if not self._settings.enabled and each.replica:
            how = f" ({each.reason})" if each.reason else ""
            return f"replica {each.replica} died{how}; replacing is switched off: `splitmerge scale-out` adds one"
        who = f"replica {each.replica} is not replaced" if each.replica else "there is no first replica"
        return f"{who}: {each.failures} tries failed, the last: {each.reason}; {AGAIN}"

    # -- what happens ------------------------------------------------------------------------------------------

    def left_dead(self, dead: Iterable[Owed]) -> None:
        """What an earlier process had given up. It stays so where replacing is switched off; else tries begin anew."""
        if not self._settings.enabled:
            self.given_up = list(dead)[-self._most :]

    def nobody(self, now: float) -> bool:
        """No replica lives. Whether one will: at the very first start one is owed, whatever the settings."""
        if not self.owed and not self.given_up:
            self.owed.append(Owed(NOBODY_DIED, "", 1, now))
        return bool(self.owed)

    def lost(
        self, replica: int, kind: str, lived: int, now: float, *, age: float = float("inf"), how: str = ""
    ) -> None:
        """A replica died that nobody had asked to end. ``lived``: how many there were with it; ``age``: seconds since
        it came; ``how`` it died.

        Those that are owed or were given up count as if they were there: of several that die each has a place.
        """
        self.given_up = [each for each in self.given_up if each.replica != replica]  # known before a restart
        there = lived + len(self.owed) + self.absent
        how = f", {how}" if how else ""
        young = age < self._settings.young
        tried = self._young.pop(replica, None)
        if not self._settings.enabled:
            reason = f"{age:.1f} s after it came{how}" if young else how.removeprefix(", ")
            self._give_up(Owed(replica, kind, there, now, int(young), reason, ended=int(young)))
            return
        if tried is not None and (lived_for := now - tried[1]) < self._settings.young:
            owed = tried[0]
            if owed.replica == NOBODY_DIED:
                owed = replace(owed, replica=replica, kind=kind)
            owed.lived = there  # others may have come or gone since
            owed.age = max(owed.age, lived_for)
            self.owed.append(owed)
            self.failed(owed, f"replica {replica} died {lived_for:.1f} s after it came{how}", now, ended=True)
            return
        self.owed.append(Owed(replica, kind, there, now + self._settings.first_wait, ended=int(young)))
        del self.owed[: -self._most]

    def due(self, now: float) -> Owed | None:
        """The one to try now, if any: the one that waits the longest."""
        return min((each for each in self.owed if each.due <= now), key=lambda each: each.due, default=None)

    def came(self, owed: Owed, replica: int, now: float) -> None:
        """This replica lives in its place."""
        owed.waits = ""
        self._drop(owed)
        if owed.replica == NOBODY_DIED and not owed.failures:
            return
        self.made += owed.replica != NOBODY_DIED
        self._young = {number: each for number, each in self._young.items() if now - each[1] < self._settings.young}
        self._young[replica] = (owed, now)

    def waits(self, owed: Owed, reason: str, now: float) -> None:
        """There can be no try yet, for this reason, which goes away by itself: none has failed."""
        if not owed.waits:
            logger.warning("%s waits for a slot: %s", owed.what, reason)
        owed.waits = f"waits for a slot: {reason}"
        owed.due = now + self._settings.first_wait

    def failed(self, owed: Owed, reason: str, now: float, *, ended: bool = False) -> None:
        """This try came to nothing. ``ended``: a replica was made, and ended by itself."""
        owed.waits = ""
        self.tries_failed += 1
        owed.failures += 1
        owed.ended += ended
        owed.reason = reason
        pause = min(self._settings.first_wait * 2**owed.failures, self._settings.longest_wait)
        owed.due = now + pause
        if owed.failures < self._settings.tries:
            logger.warning("%s: %s; again in %.1f s", owed.what, reason, pause)
            return
        self._drop(owed)
        self._give_up(owed)

    def needless(self, owed: Owed) -> None:
        """There are replicas enough."""
        self._drop(owed)

    def there_are(self, alive: int, *, fewer: int = 0) -> None:
        """So many take flows now: places that were given up and have been filled since are forgotten.

        ``fewer``: so many of them were taken away on purpose: nobody waits for these.
        """
        for each in self.owed + self.given_up:
            each.lived -= fewer
        lacking = [each for each in self.given_up if each.lived > alive]
        most = max((each.lived for each in lacking), default=alive) - alive
        self.given_up = lacking[len(lacking) - min(most, len(lacking)) :]

    def agent_here(self, kind: str, now: float) -> None:
        """An agent has connected: what failed without it is tried again, and soon."""
        for each in self.owed:
            if _alike(kind, each.kind):
                each.due = min(each.due, now + self._settings.first_wait)
        wanted = [each for each in self.given_up if self._settings.enabled or each.replica == NOBODY_DIED]
        anew = [each for each in wanted if _alike(kind, each.kind)]
        self.given_up = [each for each in self.given_up if each not in anew]
        for each in anew:
            each.failures, each.due = 0, now + self._settings.first_wait
        self.owed = (self.owed + anew)[-self._most :]

    def _give_up(self, owed: Owed) -> None:
        logger.error("%s", self._lost(owed))
        self.given_up = [*self.given_up, owed][-self._most :]

    def _drop(self, owed: Owed) -> None:
        self.owed = [each for each in self.owed if each is not owed]


def _when(pause: float) -> str:
    return f"the next in {pause:.1f} s" if pause > 0 else "the next is being made"


def _alike(kind: str, other: str) -> bool:
    """Whether they may be the same; an empty one is any."""
    return not kind or not other or kind == other
