"""The ledger over many random moves under load: nothing lost, nothing doubled, nothing reordered.

    python -m benchmarks.moves_ledger [--moves 10_000] [--target embedded|bmv2] [--json build/moves-ledger.json]

A lab with three replicas; numbered UDP in both directions and HTTP over TCP flow through it while workers move what
they like: one flow, a few, buckets, now and then all that a replica has; and one more calls off what it happens to
find under way. Each UDP flow has a promise by its client's port (`promise_of`): most are only moved with order kept, as
buckets, whole replicas and TCP connections are; others by key without order, or with what meets a frozen flow given up.
At the end every datagram is accounted for, every flow has one owner, and nothing is suspended.

Prints progress. Exit status 1 if a flow was not given what its moves promise, a TCP connection broke, a move failed
that nobody called off, or there were not enough of them.
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
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from chaos.lab import ChaosLab, Traffic, chaos_lab
from splitmerge.errors import BadInput, SplitmergeError
from splitmerge.flowkey import UDP, FlowKey
from traffic.udp_report import FlowAccount

REPLICAS = 3
FLOWS, RATE = 32, 50.0
WORKERS = 3
ORDER, LOSS_FREE, GIVEN_UP = "order-preserving", "loss-free", "none"
"""What the moves of a flow promise: nothing lost, doubled or late; nothing lost or doubled; nothing doubled, and what
is lost is counted."""
KINDS = {
    ORDER: ({"buffer": "cpu"}, {"buffer": "replica"}),
    LOSS_FREE: ({"guarantee": "loss-free", "buffer": "cpu"}, {"guarantee": "no-buffer"}),
    GIVEN_UP: ({"guarantee": "none"},),
}
"""Ways to move of each promise."""
_PROMISES = (ORDER, ORDER, ORDER, LOSS_FREE, GIVEN_UP)
_CALLED_OFF = "called off"
"""Begins the reason of a move that somebody called off."""
_CANCEL_AFTER = 0.05
"""Seconds between two looks for a move to call off, in the mean."""
_MOVES_A_CANCEL = 8
"""Moves that have ended, at least, for each that is called off: where they are slow there is time for a look at every
one, and too few would be done."""
_WHAT = ("flow",) * 12 + ("flows",) * 4 + ("buckets",) * 3
_OVERTAKEN = "any more when its turn came"
"""What the reason of a move says that had nothing left to move."""
_EVERYTHING_EVERY = 40
"""Moves of one worker between two of all that a replica has."""


def promise_of(flow: FlowKey) -> str:
    """What every move of this flow promises at least."""
    return _PROMISES[flow.low_port % len(_PROMISES)] if flow.protocol == UDP else ORDER


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What happened."""

    target: str
    moves: int
    wanted: int
    """Moves that were asked for; fewer are enough only where a time was given."""
    done: int
    undone: int
    called_off: int
    """Of the undone ones, those that were called off."""
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
    """Of these three, all that there were; below, those that a promise was about."""
    lost_against: int
    """Datagrams lost of flows that none may be lost of."""
    reordered_against: int
    """Late ones of flows whose order is kept."""
    given_up: int
    """Datagrams lost of the flows that some may be lost of: counted by their replicas, or wrong."""
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
        lost = max(0, self.lost_against - self.kernel_drops)
        uncounted = max(0, self.given_up - self.late_dropped - self.kernel_drops)
        wrong = (lost, uncounted, self.duplicated, self.reordered_against, self.broken, self.owned_twice)
        enough = self.moves >= self.wanted
        return self.sent > 0 and enough and not any((*wrong, self.suspended_rows, self.undone - self.called_off))

    @property
    def late_dropped(self) -> int:
        """Packets that met a frozen flow and were given up, as the replicas counted them."""
        return self.drops["replicas"].get("late_dropped", 0)


@dataclass
class Moving:
    """Workers that move until enough is moved."""

    lab: ChaosLab
    wanted: int
    seed: int
    until: float = math.inf
    """When to stop though it is not enough, by the monotonic clock."""
    results: list[dict[str, Any]] = field(default_factory=list)
    made: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    problems: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)
    _last: float = 0.0

    def run(self, workers: int) -> None:
        """:raises SplitmergeError: if a worker failed."""
        threads = [threading.Thread(target=self._guard, args=(number,), daemon=True) for number in range(workers)]
        caller = threading.Thread(target=self._guard, args=(-1,), daemon=True)
        for thread in (*threads, caller):
            thread.start()
        for thread in threads:
            thread.join()
        self._over.set()
        caller.join()
        if self.problems:
            raise SplitmergeError(self.problems[0])

    def _guard(self, number: int) -> None:
        """A worker; with a negative number, the one that calls moves off."""
        chance = random.Random(self.seed * 1000 + number)
        try:
            self._work(chance) if number >= 0 else self._call_off(chance)
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

    def _call_off(self, chance: random.Random) -> None:
        with self.lab.client() as client:
            called = 0
            while not self._over.wait(chance.expovariate(1 / _CANCEL_AFTER)):
                if called * _MOVES_A_CANCEL > len(self.results):
                    continue
                running = [move for move in client.get("/moves", limit=4) if move["step"] not in ("done", "undone")]
                if running:
                    with suppress(BadInput):  # decided, or over, meanwhile
                        client.delete(f"/moves/{chance.choice(running)['epoch']}")
                        called += 1

    def _body(self, what: str, chance: random.Random, flows: list[dict[str, Any]], live: list[int]) -> dict[str, Any]:
        source, target = chance.sample(live, 2)
        body: dict[str, Any] = {"target": target}
        if what == "everything":
            return body | {"all": True, "source": source} | chance.choice(KINDS[ORDER])
        if what == "buckets" or not flows:
            buckets = chance.sample(range(1024), chance.choice((1, 4, 32)))
            return body | {"buckets": buckets} | chance.choice(KINDS[ORDER])
        promise = chance.choice(_PROMISES)
        keys = [flow["flow"] for flow in flows if flow["replica"] != target]
        keys = [key for key in keys if promise_of(FlowKey.parse(key)) == promise]
        count = 1 if what == "flow" else chance.randint(2, 8)
        return body | {"keys": chance.sample(keys, min(count, len(keys)))} | chance.choice(KINDS[promise])

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
            self.made[" ".join((what, *(body[name] for name in ("guarantee", "buffer") if name in body)))] += len(made)
            if time.monotonic() - self._last > 5.0:
                self._last = time.monotonic()
                sys.stderr.write(f"{len(self.results)} of {self.wanted} moves, {self.refused} refused\n")
                sys.stderr.flush()


def measure(
    lab: ChaosLab, moves: int, *, seed: int = 1, workers: int = WORKERS, flows: int = FLOWS, rate: float = RATE,
    within: float = math.inf,
) -> Report:  # fmt: skip
    """Move that often in this lab, and account for everything. :raises SplitmergeError: if it cannot be done."""
    while len(lab.live()) < REPLICAS:
        lab.tell("/scale-out", {})
    moving = Moving(lab, moves, seed, time.monotonic() + within)
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
    by_promise = {promise: [each for each in account.flows if promise_of(FlowKey.parse(each.flow)) == promise]
                  for promise in KINDS}  # fmt: skip
    held = sorted(move["suspended_ms"] for move in moving.results) or [0.0]
    return Report(
        target=lab.record.target,
        moves=len(moving.results),
        wanted=moves if within == math.inf else 0,
        called_off=sum(move["step"] == "undone" and move["reason"].startswith(_CALLED_OFF) for move in moving.results),
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
        lost_against=_sum(by_promise[ORDER] + by_promise[LOSS_FREE], "lost"),
        reordered_against=_sum(by_promise[ORDER], "reordered"),
        given_up=_sum(by_promise[GIVEN_UP], "lost"),
        kernel_drops=account.kernel_drops,
        requests=web.requests,
        broken=web.errors,
        owned_twice=sum(len(owners) > 1 for owners in lab.owners().values()),
        suspended_rows=lab.rows().suspended,
        dropped=sum(move["dropped"] for move in moving.results),
        drops=lab.ask("/status")["drops"],
        reasons=dict(Counter(move["reason"] for move in moving.results if move["step"] != "done")),
    )  # fmt: skip


def _sum(flows: list[FlowAccount], name: str) -> int:
    return sum(getattr(way, name) for flow in flows for way in (flow.forward, flow.backward))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.moves_ledger", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--moves", type=lambda text: int(text.replace("_", "")), default=10_000)
    parser.add_argument("--target", choices=("embedded", "bmv2"), default="embedded")
    parser.add_argument(
        "--topology", default="one-switch", metavar="NAME", help="three-switches, or a file: see `splitmerge up --help`"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--flows", type=int, default=FLOWS)
    parser.add_argument("--rate", type=float, default=RATE, help="datagrams a second on each flow, each way")
    parser.add_argument(
        "--within", type=float, default=math.inf, metavar="SECONDS",
        help="stop then, and take as many moves as there were for enough",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, default=Path("build/moves-ledger.json"), metavar="FILE")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ledger") as name,
        chaos_lab(Path(name), options.target, options.topology) as lab,
    ):
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
