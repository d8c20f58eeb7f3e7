"""Figure 8: attacks detected through a burst of load (§5.1)."""

from __future__ import annotations

import math
import tempfile
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from benchmarks.migration.bed import Bed, bed
from experiments.beds import (
    HTTP_PORT,
    LEAD,
    SERVER,
    STREAM_PORT,
    command,
    diary,
    dropped,
    heard,
    left,
    loads_over_time,
    now,
    pause_until,
    replicas_over_time,
)  # fmt: skip
from experiments.experiment import Experiment, Results
from experiments.figure import Figure, Mark, Panel, Raw, headline, lost, over_runs
from middleboxes.ids import Alert
from traffic.attacks import Attack, AttacksReport
from traffic.http_server import ServerReport
from traffic.streams import OVERHEAD, Sent, account

_ONE, _PAIR, _ELASTIC = "single", "static-pair", "splitmerge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst(Experiment):
    """Thirty clients attack all the time; for a while thirty more do, and ten UDP flows come too.

    A packet costs the IDS so much that the base load uses `base_busy` of one replica's processor. The burst has twice
    the clients: more than one replica can serve, and what two can.
    """

    name: ClassVar[str] = "burst"
    figures: ClassVar[tuple[int, ...]] = (8,)
    variants: ClassVar[tuple[str, ...]] = (_ONE, _PAIR, _ELASTIC)

    load: float = 0.1
    """50 requests/s a client are 5 here: two cores are to carry sixty clients, the web server, the switch and two
    replicas of which each has work left for one."""
    duration: float = 120.0
    """§5.1."""
    burst_at: float = 45.0
    """§5.1."""
    burst_lasts: float = 45.0
    """§5.1."""
    clients: int = 30
    """§5.1; as many more in the burst."""
    rate: float = 50.0
    """Requests a second of a client (§5.1)."""
    attack: int = 31
    """Requests (§5.1)."""
    threshold: int = 30
    """Requests with an injection above which a connection is reported (§4.1)."""
    udp_flows: int = 10
    """§5.1, in the burst."""
    udp_mbit: float = 1.0
    """Of each (§5.1), headers included."""
    split_above: int = 60
    """Flows (§5.1)."""
    merge_below: int = 40
    """Flows (§5.1)."""
    interval: float = 5.0
    """Seconds of a point. Ours."""
    grace: float = 2.0
    """An attack not reported so many seconds after its last request was due is missed. Ours; not scaled."""
    base_busy: float = 0.7
    """Of one processor, by the base load. Ours."""
    packets_each: float = 3.3
    """Packets that a request takes: itself, answer, acknowledgements, its share of the connection. Measured."""
    own_us: float = 120.0
    """What a packet costs beside the work that is set, about, on the machine that the other figures were chosen on."""
    pinned: bool = True
    """Each replica has a processor of its own (`experiments.beds.Pin`), as a machine of its own would. Ours."""

    @property
    def seconds(self) -> float:
        """As in the paper."""
        return self.scaled(self.duration)

    @property
    def cost_us(self) -> float:
        """Work that is set for a packet."""
        pps = self.clients * self.rate * self.load * self.packets_each
        return max(0.0, self.base_busy * 1e6 / pps - self.own_us)

    def measure(self, variant: str, run: int) -> Raw:
        """One run."""
        section = {
            "settings": {"split_above": self.split_above, "merge_below": self.merge_below},
            "max_replicas": 2, "consecutive": 2, "interval": 0.25, "cool_down": self.scaled(5.0),
        }  # fmt: skip
        elastic: dict[str, Any] = {"policy": "flow-count", "elasticity": section} if variant == _ELASTIC else {}
        with tempfile.TemporaryDirectory(prefix="splitmerge-") as directory:
            alerts = Path(directory) / "alerts.jsonl"
            config = {
                "sqli_thresh": self.threshold, "alerts": str(alerts), "cost_us": self.cost_us,
                "linger": 0.2, "udp_idle": max(0.5, self.scaled(2.0)), "tcp_idle": 10.0, "handshake": 5.0,
            }  # fmt: skip
            with bed(
                self.target,
                "experiments.middlebox:CostlyIds",
                replicas=2 if variant == _PAIR else 1,
                middlebox_config=config,
                assignment="round-robin" if variant == _PAIR else "hash",
                **elastic,
            ) as made:
                return self._run(made, run, alerts)

    def _run(self, made: Bed, run: int, alerts: Path) -> Raw:
        with ExitStack() as stack:
            web = command(made, stack, "server", "http_server", "--bind", SERVER, "--port", HTTP_PORT)
            receive = command(made, stack, "server", "streams", "receive", "--bind", SERVER, "--port", STREAM_PORT)
            begin = now() + 3 * LEAD
            burst_at, lasts = begin + self.scaled(self.burst_at), self.scaled(self.burst_lasts)
            base = command(made, stack, "client", "attacks", *self._attack_words(begin, self.seconds, 2 * run))
            more = command(made, stack, "client", "attacks", *self._attack_words(burst_at, lasts, 2 * run + 1))
            pps = self.udp_mbit * self.load * 1e6 / 8 / 1250
            send = command(
                made, stack, "client", "streams", "send", "--server", SERVER, "--port", STREAM_PORT, "--flows",
                self.udp_flows, "--rate", pps, "--size", 1250 - OVERHEAD, "--at", burst_at,
            )  # fmt: skip
            book = stack.enter_context(diary(made, pin=self.pinned))
            pause_until(burst_at + lasts)
            send.ask_to_stop()
            sent = left(self.name, send.report(Sent))
            pause_until(begin + self.seconds)
            reports = [each.report(AttacksReport) for each in (more, base)]
            tally = account(sent, heard(self.name, receive))
            web.ask_to_stop()
            served = web.report(ServerReport)
        return {
            "attacks": self._judge([each for report in reports for each in report.attacks], alerts, begin),
            "requests": served.requests,
            "udp": {"sent": tally.sent, "lost": tally.lost},
            "moves": dropped(made),
            "loads": loads_over_time(book.looks, begin),
            "replicas": replicas_over_time(book.looks, begin),
        }

    def _attack_words(self, begin: float, seconds: float, seed: int) -> list[object]:
        return [
            "--server", SERVER, "--port", HTTP_PORT, "--clients", self.clients, "--rate", self.rate * self.load,
            "--length", self.attack, "--grace", self.grace, "--seconds", seconds, "--at", begin, "--seed", seed,
        ]  # fmt: skip

    def _judge(self, attacks: list[Attack], alerts: Path, begin: float) -> list[list[Any]]:
        """[when its last request was due, detected, whole] of each attack."""
        clock = _wall_minus_monotonic()
        lines = alerts.read_bytes().splitlines() if alerts.exists() else []
        seen = [each for each in (msgspec.json.decode(line, type=Alert) for line in lines) if each.scope == "flow"]
        ordered = sorted(attacks, key=lambda each: each.due)
        found = detected(ordered, [(each.flow, each.time - clock) for each in seen], self.grace)
        return [[each.due - begin, hit, not each.problem] for each, hit in zip(ordered, found, strict=True)]

    # -- figure --------------------------------------------------------------------------------------------------

    def draw(self, number: int, results: Results) -> Figure:
        """Attacks detected, of those due in each interval; and replicas."""
        series = [over_runs(name, runs, self.detected) for name, runs in results.items()]
        marks = [Mark("x", self.burst_at, "burst"), Mark("x", self.burst_at + self.burst_lasts, "its end")]
        replicas = [over_runs(name, runs, self._replicas) for name, runs in results.items()]
        panels = [
            Panel(title="Attacks detected", y="%", series=series, marks=marks),
            Panel(title="Replicas", y="replicas", series=replicas, marks=marks),
        ]
        lines = [
            line
            for name, runs in results.items()
            for line in headline(
                f"attacks detected in the burst, {name}",
                "%",
                [self._in_burst(run) for run in runs],
                bar=100.0 if name == _ELASTIC else None,
                better="least",
            )
        ]
        worst = [min(self.detected(run).values()) for run in results.get(_ELASTIC, [])]
        what = f"attacks detected in the worst {self.interval:g} s, {_ELASTIC}"
        lines += headline(what, "%", worst, bar=100.0, better="least")
        udp = {
            name: [{"packets": run["udp"]["sent"], "lost": run["udp"]["lost"]} for run in runs]
            for name, runs in results.items()
        }
        drops = [float(run["moves"]["dropped"]) for run in results.get(_ELASTIC, [])]
        lines += [*lost(udp, "UDP packets"), *headline("packets dropped by moves", "packets", drops, bar=0.0)]
        title = "Attacks detected through a burst"
        return Figure(number=number, title=title, x="time (s of the paper)", panels=panels, headlines=lines)

    def detected(self, run: Raw) -> dict[float, float]:
        """Middle of the interval → percent; intervals in which no attack was due are left out."""
        counts: dict[int, list[int]] = {}
        for due, found, _whole in run["attacks"]:
            each = counts.setdefault(int(due / self.time_scale / self.interval), [0, 0])
            each[0] += 1
            each[1] += found
        return {(n + 0.5) * self.interval: 100.0 * found / total for n, (total, found) in sorted(counts.items())}

    def _in_burst(self, run: Raw) -> float:
        """Percent of the attacks that were due while the burst lasted."""
        begin, end = self.burst_at, self.burst_at + self.burst_lasts
        chosen: list[bool] = [found for due, found, _ in run["attacks"] if begin <= due / self.time_scale < end]
        return 100.0 * sum(chosen) / max(len(chosen), 1)

    def _replicas(self, run: Raw) -> dict[float, float]:
        """At the middle of each interval."""
        found = {}
        for n in range(round(self.duration / self.interval)):
            at = (n + 0.5) * self.interval
            before = [count for when, count in run["replicas"] if when <= at * self.time_scale]
            found[at] = float(before[-1] if before else 1)
        return found


def detected(attacks: Sequence[Attack], alerts: Sequence[tuple[str, float]], grace: float) -> list[bool]:
    """Whether each attack, in order of ``due``, has exactly one of the alerts (flow, time), ``grace`` late at most.

    Ports come again: of a flow's alerts those belong to an attack that came after the time of the attack before it.
    """
    dues: dict[str, list[float]] = {}
    times: dict[str, list[float]] = {}
    for each in attacks:
        dues.setdefault(each.flow, []).append(each.due)
    for flow, at in alerts:
        times.setdefault(flow, []).append(at)

    def hit(attack: Attack) -> bool:
        mine = dues[attack.flow]
        number = bisect_left(mine, attack.due)
        begin = mine[number - 1] + grace if number else -math.inf
        end = attack.due + grace if number + 1 < len(mine) else math.inf
        said = [at for at in times.get(attack.flow, ()) if begin < at <= end]
        return bool(attack.flow) and len(said) == 1 and said[0] <= attack.due + grace

    return [hit(each) for each in attacks]


def _wall_minus_monotonic() -> float:
    """Alerts carry seconds since 1970, attacks CLOCK_MONOTONIC."""

    return time.time() - time.monotonic()
