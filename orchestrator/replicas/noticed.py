"""What happened lately that an operator should hear of though it may be over: failed packets, lost flows, no room."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from orchestrator.journal import KEPT_DEATHS, DeathRow
from splitmerge.messages import Stats

WINDOW = 60.0
"""Seconds of a middlebox's past that are looked at."""
APART = 1.0
"""Seconds between two of the figures that are kept, at least."""
TOLD_FOR = 600.0
"""Seconds for which a death that cost state is told of, and work that failed when nobody waited for it."""
FAILURES = 100
"""Failures of which so many are remembered, the newest."""
ERROR = "middlebox_error"
"""The reason that `guestlib` counts a packet under that the middlebox failed on."""


@dataclass(slots=True)
class Recent:
    """A middlebox's packets, and those that it failed on, over the last `WINDOW` seconds."""

    _past: deque[tuple[float, int, int]] = field(default_factory=deque)
    """(time, packets, errors), counted since the replica began, oldest first."""
    _now: tuple[int, int] = (0, 0)

    def take(self, stats: Stats, now: float) -> None:
        """Newer figures; the first ones are what later ones are compared with."""
        self._now = stats.packets, stats.drops.get(ERROR, 0)
        if not self._past or now - self._past[-1][0] >= APART:
            self._past.append((now, *self._now))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while len(self._past) > 1 and now - self._past[1][0] >= WINDOW:
            self._past.popleft()

    def failed(self, now: float) -> tuple[int, int]:
        """(packets failed on, packets in all)."""
        self._forget(now)
        if not self._past or now - self._past[-1][0] > WINDOW:  # it is silent: nothing is recent
            return 0, 0
        _, packets, errors = self._past[0]
        failed = self._now[1] - errors
        return failed, max(failed, self._now[0] - packets)  # packets that waited were counted when they came


@dataclass(slots=True)
class NoRoom:
    """New flows that the switch refused entries, over the last `WINDOW` seconds."""

    _past: deque[tuple[float, int]] = field(default_factory=deque)
    """(time, flows), oldest first; `APART` seconds or more lie between two."""
    _why: str = ""

    def take(self, flows: int, why: str, now: float) -> None:
        """So many more, and what the switch said."""
        self._why = why
        if self._past and now - self._past[-1][0] < APART:
            at, before = self._past.pop()
            self._past.append((at, before + flows))
        else:
            self._past.append((now, flows))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._past and now - self._past[0][0] > WINDOW:
            self._past.popleft()

    def told(self, now: float) -> Iterator[str]:
        """In words, if there were any."""
        self._forget(now)
        if flows := sum(each for _, each in self._past):
            tries = f"{flows:,} time{'s' * (flows != 1)} in the last {WINDOW:g} s"
            yield (
                f"new flows get no entry in the switch, {tries}: {self._why}; their packets are dropped (`table_full`) "
                "and they are tried again when more come: entries go as flows end, and assignment `hash` needs none"
            )


@dataclass(slots=True)
class Deaths:
    """Replicas that ended unasked while they had flows. Times are seconds since 1970."""

    _known: deque[DeathRow]

    def __init__(self, rows: Iterable[DeathRow] = ()) -> None:
        """``rows``: of an earlier process, oldest first."""
        self._known = deque(rows, maxlen=KEPT_DEATHS)

    def take(self, row: DeathRow) -> None:
        """One has died."""
        if row.flows:
            self._known.append(row)

    def told(self, now: float) -> Iterator[str]:
        """Those of the last `TOLD_FOR` seconds, in words."""
        for each in self._known:
            if now - each.at <= TOLD_FOR:
                flows = f"{each.flows:,} flow{'s' * (each.flows != 1)}"
                yield (
                    f"replica {each.replica} died at {_clock(each.at)} with {flows}: what state was nowhere else is "
                    "lost; `splitmerge moves` shows who has them now, and the agent's log how it ended"
                )


@dataclass(slots=True)
class Failures:
    """Work that failed when nobody waited for it any more. Times are seconds since 1970."""

    _known: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=FAILURES))

    def take(self, what: str, now: float) -> None:
        """This has failed, in words that say why."""
        self._known.append((now, what))

    def told(self, now: float) -> Iterator[str]:
        """Those of the last `TOLD_FOR` seconds, in words."""
        yield from (f"{what}, at {_clock(at)}" for at, what in self._known if now - at <= TOLD_FOR)


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
