"""What the demo does to the replicas while traffic flows: splits, merges, and moves of every size."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from splitmerge.client import OrchestratorClient
from splitmerge.demo.plan import DemoPlan
from splitmerge.errors import SplitmergeError, Timeout

REPLICA_WITHIN = 20.0
"""Seconds for the first replica to work."""
_LATER_EVERY = 30
"""Moves between two times that a third replica comes and goes."""

Progress = Callable[[str, int], None]


class Mover:
    """Drives one orchestrator over REST."""

    def __init__(self, client: OrchestratorClient, plan: DemoPlan, progress: Progress) -> None:
        self._client = client
        self._plan = plan
        self._progress = progress
        self._random = random.Random(plan.seed)
        self.added = 0
        self.removed = 0

    def wait_for_replica(self) -> None:
        """Until the first replica works. :raises Timeout: if it does not come."""
        deadline = time.monotonic() + REPLICA_WITHIN
        while not (self._client.get("/status")["ready"] and self.live()):
            if time.monotonic() > deadline:
                raise Timeout("the first replica", REPLICA_WITHIN)
            time.sleep(0.05)

    def live(self) -> list[int]:
        """Ids of the replicas that work, oldest first."""
        return sorted(each["replica"] for each in self._client.get("/replicas") if each["state"] == "live")

    def scale_out(self) -> None:
        """One more replica, which takes its share."""
        self._client.post("/scale-out", {"count": 1})
        self.added += 1

    def scale_in(self, replica: int | None = None) -> None:
        """One replica less; the others take what it has."""
        self._client.post("/scale-in", {} if replica is None else {"replica": replica})
        self.removed += 1

    def run(self, until: float) -> None:
        """Move until the plan's number is reached and its seconds are over, or until ``until`` (monotonic seconds)."""
        enough = time.monotonic() + self._plan.seconds
        pause = self._plan.seconds / self._plan.migrations
        self.scale_out()
        for number, step in enumerate(self._steps()):
            done = len(self.moves())
            self._progress("moving flows", min(done, self._plan.migrations))
            now = time.monotonic()
            if now > until or (done >= self._plan.migrations and now > enough):
                return
            step()
            if number % _LATER_EVERY == _LATER_EVERY - 1:
                self._third_replica()
            time.sleep(max(0.0, min(pause, enough - time.monotonic())) / 2)

    def _third_replica(self) -> None:
        self.scale_out()
        self._one_flow()
        self.scale_in(self.live()[-1])

    def _steps(self) -> Iterator[Callable[[], None]]:
        return itertools.cycle((self._one_flow, self._one_flow, self._some_flows, self._one_flow, self._everything))

    def _one_flow(self) -> None:
        self._some_flows(1)

    def _some_flows(self, count: int = 4) -> None:
        flows = self._client.get("/flows")
        live = self.live()
        if not flows or len(live) < 2:
            return
        source = self._random.choice([flow["replica"] for flow in flows])
        keys = [flow["flow"] for flow in flows if flow["replica"] == source]
        chosen = self._random.sample(keys, min(count, len(keys)))
        self._migrate({"keys": chosen}, source, self._random.choice([each for each in live if each != source]))

    def _everything(self) -> None:
        source, target = self._random.sample(self.live(), 2)
        self._migrate({"all": True}, source, target)

    def _migrate(self, what: dict[str, Any], source: int, target: int) -> None:
        try:
            self._client.post("/migrate", {**what, "source": source, "target": target, "wait": True})
        except ValueError:
            # A flow may end, or be moved by the policy, between the look and the move: the next one is as good.
            return

    def moves(self) -> list[dict[str, Any]]:
        """Every move between two replicas that has ended."""
        moves: list[dict[str, Any]] = self._client.get("/moves", limit=10_000)
        return [move for move in moves if move["source"] and move["step"] in ("done", "undone")]

    def merge_all(self) -> None:
        """Back to one replica, as at the beginning."""
        for _ in range(64):
            if len(self.live()) <= 1:
                return
            self.scale_in()
        raise SplitmergeError("the replicas do not merge: still " + ", ".join(map(str, self.live())))
