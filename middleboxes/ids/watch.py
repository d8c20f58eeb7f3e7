"""Thresholds of clients, over all flows and replicas: what the middlebox does with the coherent `Tally`.

A sign is counted in this replica's element at once (LOCAL). A while later (`IdsConfig.refresh`) a timer of the flow,
which goes where the flow goes, has the elements of all replicas added up (PULL). Who looks last sees every sign: so
whichever replicas a client's flows are on, and wherever they move meanwhile, a threshold that is passed is noticed.
One look serves every sign before it: a replica looks at most once in that while. Who writes an alert says so in its
element and sends that to the orchestrator (PUSH), so that the others write no second one, even if this replica dies.
Two that look in the same moment may both write one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from guestlib import PULL, PUSH, Guest
from middleboxes.ids import tally
from middleboxes.ids.analysis import Sign
from middleboxes.ids.config import IdsConfig
from middleboxes.ids.detector import Rule
from middleboxes.ids.tally import Excess, Tally
from splitmerge.errors import SplitmergeError
from splitmerge.flowkey import FlowKey

logger = logging.getLogger("middleboxes.ids")

TALLY = "ids.tally"
"""Key of the coherent object."""


class Seen(NamedTuple):
    """A client's last sign of a kind at this replica."""

    flow: str
    sign: str


class ClientWatch:
    """Internal state: when this replica looked last, and what it can quote in an alert."""

    def __init__(self, config: IdsConfig, rules: Mapping[str, Rule], clock: Callable[[], float]) -> None:
        self._config, self._rules, self._clock = config, rules, clock
        self._looked_at = float("-inf")
        self._seen: dict[tuple[str, str], Seen] = {}
        self._seen_before: dict[tuple[str, str], Seen] = {}
        """Of this window and of the one before, as the counts are."""
        self._seen_in = 0

    def create(self, guest: Guest) -> None:
        """In `setup`."""
        guest.create_shared(TALLY, Tally(), tally.combine)

    def saw(self, guest: Guest, flow: str, client: str, signs: Sequence[Sign]) -> bool:
        """Count a client's signs; whether any is of a kind that has a threshold of clients, so that a look is due."""
        counted = [sign for sign in signs if self._rules[sign.kind].client is not None] if client else []
        if not counted:
            return False
        mine = self._open(guest)
        for sign in counted:
            tally.count(mine, sign.kind, client, self._config.most_clients)
            if len(self._seen) < self._config.most_clients:
                self._seen[sign.kind, client] = Seen(flow, sign.evidence)
        guest.put_shared(TALLY)
        return True

    def look(self, guest: Guest) -> list[tuple[Excess, Seen | None]]:
        """The clients beyond a threshold over all replicas, of whom none has written yet, and what can be quoted.

        Nothing if this replica has looked since the sign that wanted it. If the others cannot be asked, this one's
        own counts are taken.
        """
        if self._looked_at > guest.now - self._config.refresh:
            return []
        self._looked_at = guest.now
        self._open(guest)  # this replica's windows roll even if it sees nothing
        guest.put_shared(TALLY)
        try:
            total: Tally = guest.get_shared(TALLY, PULL)
        except SplitmergeError as error:
            logger.warning("the other replicas' counts cannot be asked for: %s", error)
            total = tally.combine([guest.get_shared(TALLY)])
        found = tally.excesses(total, self._rules)
        guest.put_shared(TALLY)
        return [(excess, self._quotable(excess.kind, excess.client)) for excess in found]

    def _quotable(self, kind: str, client: str) -> Seen | None:
        return self._seen.get((kind, client)) or self._seen_before.get((kind, client))

    def alerted(self, guest: Guest, excess: Excess) -> None:
        """An alert was written."""
        tally.note(self._open(guest), excess)
        guest.put_shared(TALLY, PUSH)

    def _open(self, guest: Guest) -> Tally:
        """This replica's element, in the present window; the caller puts it back."""
        mine: Tally = guest.get_shared(TALLY)
        window = int(self._clock() // self._config.window)
        tally.roll(mine, window)
        if window > self._seen_in:
            self._seen_before = self._seen if window == self._seen_in + 1 else {}
            self._seen, self._seen_in = {}, window
        return mine


def client_of(key: FlowKey, client: int) -> str:
    """Address of the key's low (0) or high (1) endpoint; empty if it is not known which."""
    if client < 0:
        return ""
    width = 4 if len(key) == 13 else 16
    return str(ip_address(bytes(key[client * width : (client + 1) * width])))
