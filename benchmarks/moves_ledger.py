"""The ledger over many random moves under load: nothing lost, nothing doubled, nothing reordered.

    python -m benchmarks.moves_ledger [--moves 10_000] [--target embedded|bmv2] [--json build/moves-ledger.json]

A lab with three replicas; numbered UDP in both directions and HTTP over TCP flow through it while workers move what
they like: one flow, a few, buckets, now and then all that a replica has. Only moves that promise order are made. At the
end every datagram is accounted for, every flow has one owner, and nothing is suspended.

Prints progress. Exit status 1 if a datagram is missing, doubled or late, a TCP connection broke, or a move failed.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from chaos.lab import ChaosLab, Traffic, chaos_lab
from splitmerge.errors import BadInput, SplitmergeError

REPLICAS = 3
FLOWS, RATE = 32, 50.0
WORKERS = 3
KINDS = [{"buffer": "cpu"}, {"buffer": "replica"}]
"""Ways to move that promise order."""
_WHAT = ("flow",) * 12 + ("flows",) * 4 + ("buckets",) * 3
_OVERTAKEN = "any more when its turn came"
"""What the reason of a move says that had nothing left to move."""
_EVERYTHING_EVERY = 40
"""Moves of one worker between two of all that a replica has."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What happened."""

    target: str
    moves: int
    done: int
    undone: int
    by_kind: dict[str, int]
    refused: int
    """Asked for, and nothing to do: the flow had moved or ended meanwhile."""
    flows_moved: int
    seconds: float
    suspended_ms: dict[str, float]
    """p50, p99 and max over the moves."""
    sent: int
    lost: int
    duplicated: int
    reordered: int
    kernel_drops: int
    requests: int
    broken: int
    owned_twice: int
    suspended_rows: int
    dropped: int
    """Packets for which the moves' buffers had no room."""
    drops: dict[str, dict[str, int]]
    """What switch and replicas say they dropped, by reason."""
    reasons: dict[str, int]
    """Why moves were undone."""

    @property
    def holds(self) -> bool:
        """Whether all is as promised."""
        wrong = (self.lost - self.kernel_drops, self.duplicated, self.reordered, self.broken, self.owned_twice)
        return self.sent > 0 and not any((*wrong, self.suspended_rows, self.undone))


@dataclass
class Moving:
    """Workers that move until enough is moved."""

    lab: ChaosLab
    wanted: int
    seed: int
    kinds: list[dict[str, str]]
    until: float = math.inf
    """When to stop though it is not enough, by the monotonic clock."""
    results: list[dict[str, Any]] = field(default_factory=list)
    made: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    problems: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _last: float = 0.0

    def run(self, workers: int) -> None:
        """:raises SplitmergeError: if a worker failed."""
        threads = [threading.Thread(target=self._guard, args=(number,), daemon=True) for number in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.problems:
            raise SplitmergeError(self.problems[0])

    def _guard(self, number: int) -> None:
        try:
            self._work(random.Random(self.seed * 1000 + number))
        except SplitmergeError as error:
            self.problems.append(str(error))

    def _work(self, chance: random.Random) -> None:
        with self.lab.client() as client:
            live = sorted(each["replica"] for each in client.get("/replicas") if each["state"] == "live")
            for count in range(10 * self.wanted):
                if len(self.results) >= self.wanted or self.problems or time.monotonic() >= self.until:
                    return
                what = "everything" if count % _EVERYTHING_EVERY == _EVERYTHING_EVERY - 1 else chance.choice(_WHAT)
                body = self._body(what, chance, client.get("/flows", limit=10_000), live)
                self._move(client, what, body)

    def _body(self, what: str, chance: random.Random, flows: list[dict[str, Any]], live: list[int]) -> dict[str, Any]:
        source, target = chance.sample(live, 2)
        body: dict[str, Any] = {"target": target, **chance.choice(self.kinds)}
        if what == "everything":
            return body | {"all": True, "source": source}
        if what == "buckets" or not flows:
            return body | {"buckets": chance.sample(range(1024), chance.choice((1, 4, 32)))}
        keys = [flow["flow"] for flow in flows if flow["replica"] != target]
        count = 1 if what == "flow" else chance.randint(2, 8)
        return body | {"keys": chance.sample(keys, min(count, len(keys)))}

    def _move(self, client: Any, what: str, body: dict[str, Any]) -> None:
        try:
            moves = client.post("/moves", body)["moves"]
        except BadInput:
            self.refused += 1
            return
        made = [move for move in moves if _OVERTAKEN not in move["reason"]]
        with self._lock:
            self.refused += len(moves) - len(made)
            self.results += made
            self.made[f"{what} {body['buffer']}"] += len(made)
            if time.monotonic() - self._last > 5.0:
                self._last = time.monotonic()
                sys.stderr.write(f"{len(self.results)} of {self.wanted} moves, {self.refused} refused\n")
                sys.stderr.flush()


def measure(
    lab: ChaosLab, moves: int, *, seed: int = 1, workers: int = WORKERS, flows: int = FLOWS, rate: float = RATE,
    kinds: list[dict[str, str]] | None = None, within: float = math.inf,
) -> Report:  # fmt: skip
    """Move that often in this lab, and account for everything. :raises SplitmergeError: if it cannot be done."""
    while len(lab.live()) < REPLICAS:
        lab.tell("/scale-out", {})
    moving = Moving(lab, moves, seed, kinds or KINDS, time.monotonic() + within)
    traffic = Traffic(lab, flows=flows, rate=rate)
    started = time.monotonic()
    try:
        time.sleep(1.0)
        moving.run(workers)
        seconds = time.monotonic() - started
        time.sleep(0.5)
        account, web = traffic.finish()
    finally:
        traffic.close()
    lab.wait_well()
    ended = Counter(move["step"] for move in moving.results)
    held = sorted(move["suspended_ms"] for move in moving.results) or [0.0]
    return Report(
        target=lab.record.target,
        moves=len(moving.results),
        done=ended["done"],
        undone=ended["undone"],
        by_kind=dict(moving.made),
        refused=moving.refused,
        flows_moved=sum(move["staged"] for move in moving.results),
        seconds=round(seconds, 1),
        suspended_ms={
            "p50": statistics.median(held), "p99": held[min(len(held) - 1, len(held) * 99 // 100)], "max": held[-1],
        },
        sent=account.sent,
        lost=account.lost,
        duplicated=account.duplicated,
        reordered=account.reordered,
        kernel_drops=account.kernel_drops,
        requests=web.requests,
        broken=web.errors,
        owned_twice=sum(len(owners) > 1 for owners in lab.owners().values()),
        suspended_rows=lab.rows().suspended,
        dropped=sum(move["dropped"] for move in moving.results),
        drops=lab.ask("/status")["drops"],
        reasons=dict(Counter(move["reason"] for move in moving.results if move["step"] != "done")),
    )  # fmt: skip


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.moves_ledger", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--moves", type=lambda text: int(text.replace("_", "")), default=10_000)
    parser.add_argument("--target", choices=("embedded", "bmv2"), default="embedded")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--flows", type=int, default=FLOWS)
    parser.add_argument("--rate", type=float, default=RATE, help="datagrams a second on each flow, each way")
    parser.add_argument(
        "--within", type=float, default=math.inf, metavar="SECONDS", help="stop then, moved enough or not"
    )
    parser.add_argument("--json", type=Path, default=Path("build/moves-ledger.json"), metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ledger") as name, chaos_lab(Path(name), options.target) as lab:
        report = measure(
            lab,
            options.moves,
            seed=options.seed,
            workers=options.workers,
            flows=options.flows,
            rate=options.rate,
            within=options.within,
        )
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    for name in Report.__struct_fields__:
        sys.stdout.write(f"{name:14} {getattr(report, name)}\n")
    sys.stdout.write("holds\n" if report.holds else "DOES NOT HOLD\n")
    return int(not report.holds)


if __name__ == "__main__":
    sys.exit(main())
