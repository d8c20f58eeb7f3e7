"""One strike: traffic, a move, the blow at its step, and what is left when everything is well again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from chaos.cells import Cell
from chaos.grouped import group_of
from chaos.lab import BUCKETS, FLOWS, RATE, ChaosLab, Traffic
from middleboxes.ids import STATISTICS, Statistics
from splitmerge.errors import BadInput, PeerError, SplitmergeError
from splitmerge.flowkey import FlowKey
from splitmerge.messages import ENDED

CUT = 1.0
"""Seconds for which the control network, or the way to the switch, is away."""
APART = 4.0
"""Seconds for which the control network is away, and replicas are ended: above the orchestrator's
`deadlines.reconnect` (2 s)."""
BEFORE, AFTER = 0.4, 0.8
"""Seconds of traffic before the move, and after everything is well."""
UDP = "udp"
"""Flows of which something is demanded at the end have keys that begin so; those of TCP come and go."""
MOVED_GROUPS = 2
"""Groups of which a move by key moves a flow; the others of them follow."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it."""

    target: str = "embedded"
    """The switch."""
    topology: str = "one-switch"
    kind: str
    component: str
    step: str
    end: str = ""
    """Step in which the move ended."""
    seconds: float = 0.0
    """From the blow until everything was well again."""
    sent: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    silence: float = 0.0
    """Seconds without an arrival, the longest of each flow and way, added up."""
    flows: int = 0
    owned_twice: int = 0
    owned_by_none: int = 0
    """Flows of the traffic that nobody has, although their packets pass."""
    misplaced: int = 0
    """Flows that are not where the move's end says; counted where no replica died."""
    torn: int = 0
    """Groups whose flows are not all at one replica."""
    waiting: int = 0
    """Packets of flows without a move that the controller still has: the next one would deliver them late."""
    elsewhere: int = 0
    """Flows that the target had before the move: an entry of an earlier flow with this key had led them there."""
    suspended: int = 0
    """Rows of the switch that still suspend something."""
    expired: int = 0
    """Packets whose hold ran out while a part was away."""
    died: int = 0
    """Replicas reported dead."""
    requests: int = 0
    broken: int = 0
    """TCP connections that broke, or whose answers were wrong."""
    state_lost: int = 0
    """Requests that the middleboxes did not count although their replica lived."""
    drops: dict[str, int] = {}
    """What living replicas and the switch say they dropped meanwhile, by reason."""
    passed: bool = False
    """The move did not enter the step: the source had exported before the marker was back, say."""
    problem: str = ""
    """Why there is no outcome."""
    note: str = ""
    """What is not as it should be, and documented: a part that is away for longer than a hold lasts."""
    faults: tuple[str, ...] = ()
    """What is not as it should be; empty: the cell holds."""
    failures: int = 0
    """Earlier strikes at this cell that did not hold: see `chaos.table.merged`."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is before a move."""

    source: int
    target: int
    owners: Mapping[str, list[int]]
    keys: tuple[str, ...] = ()
    """Flows that are named, in a move by key: each takes its group along."""

    def owner_if(self, end: str, flow: str) -> int:
        """Which replica is to have this flow of the source's when the move has ended so."""
        groups = {group_of(FlowKey.parse(key)) for key in self.keys}
        moves = not groups or group_of(FlowKey.parse(flow)) in groups
        return self.target if moves and end == "done" else self.source


def strike(lab: ChaosLab, cell: Cell, away: float = 0.0) -> Outcome:
    """Do it. ``away``: seconds before a killed orchestrator's successor begins to work.

    :raises SplitmergeError: if the lab does not come to rest; it is of no use then.
    """
    source, target = prepare(lab)
    before = lab.ask("/status")["replicas_died"]
    counted, expired, dropped = _requests(lab), _expired(lab), _drops(lab)
    earlier, old = _newest(lab), lab.owners()
    traffic = Traffic(lab)
    try:
        time.sleep(BEFORE)
        scene = _scene(lab, cell, source, target, old)
        lab.wish(_wish(lab, cell, source, target, away))
        begun = time.monotonic()
        _begin(lab, cell, scene)
        lab.wait(f"the move to come to {cell.step}", lambda client: lab.struck or lab.well(client), within=40.0)
        lab.wait_well()
        passed = not lab.struck
        seconds = time.monotonic() - begun
        time.sleep(AFTER)
        account, web = traffic.finish()
    finally:
        traffic.close()
        lab.forget_wish()
    owners, flows = lab.owners(), [flow.flow for flow in account.flows]
    stay = [flow for flow in flows if scene.owners.get(flow) == [source]]
    end = _end(lab, source, target, earlier)
    died = lab.ask("/status")["replicas_died"] - before
    return Outcome(
        target=lab.record.target,
        topology=lab.topology,
        kind=cell.kind.name,
        component=cell.component,
        step=cell.step,
        end=end,
        seconds=round(seconds, 2),
        sent=account.sent,
        lost=account.lost - account.kernel_drops,
        duplicated=account.duplicated,
        reordered=account.reordered,
        silence=round(traffic.silence, 3),
        flows=len(owners),
        owned_twice=sum(len(replicas) > 1 for replicas in owners.values()),
        owned_by_none=sum(flow not in owners for flow in flows),
        misplaced=0 if died else sum(scene.owner_if(end, flow) not in owners.get(flow, ()) for flow in stay),
        torn=_torn(stay, owners) if cell.kind.by_key else 0,
        waiting=lab.ask("/status")["controller"]["waiting"]["orphans"],
        elsewhere=sum(flow in scene.owners for flow in flows) - len(stay),
        suspended=lab.rows().suspended,
        expired=_expired(lab) - expired,
        died=died,
        requests=web.requests,
        broken=web.errors,
        state_lost=0 if died else web.responses - _since(counted, _requests(lab)),
        passed=passed,
        drops={
            name: count - dropped.get(name, 0) for name, count in _drops(lab).items() if count > dropped.get(name, 0)
        },
    )


def _scene(lab: ChaosLab, cell: Cell, source: int, target: int, old: Mapping[str, object]) -> Scene:
    """``old``: flows of earlier traffic. :raises Timeout: if none of the new one's come through."""

    def seen(_: object) -> dict[str, list[int]]:
        owners = lab.owners()
        new = [flow for flow in owners if flow.startswith(UDP) and flow not in old]
        return owners if len(new) >= FLOWS // 2 else {}

    owners = lab.wait("the traffic's flows", seen)
    if not cell.kind.by_key:
        return Scene(source, target, owners)
    groups: dict[int, str] = {}
    for flow, at in sorted(owners.items()):
        if flow.startswith(UDP) and flow not in old and at == [source]:
            groups.setdefault(group_of(FlowKey.parse(flow)), flow)
    return Scene(source, target, owners, tuple(groups[group] for group in sorted(groups)[:MOVED_GROUPS]))


def _torn(flows: list[str], owners: Mapping[str, list[int]]) -> int:
    """Groups of these flows, which were together before, that are not any more."""
    found: dict[int, set[int]] = {}
    for flow in flows:
        found.setdefault(group_of(FlowKey.parse(flow)), set()).update(owners.get(flow, []))
    return sum(len(at) > 1 for at in found.values())


def sent_within(seconds: float) -> int:
    """Datagrams that the traffic of a strike sends in this time, both ways together, at most."""
    return round(2 * FLOWS * RATE * (seconds + BEFORE))


def sent_in(silence: float) -> int:
    """Datagrams that were due on the flows while each was silent: `Outcome.silence`."""
    return round(RATE * silence)


def prepare(lab: ChaosLab) -> tuple[int, int]:
    """Two replicas that live; the one that owns everything, and the other."""
    lab.wait_well()
    while len(lab.live()) < 2:
        lab.tell("/scale-out", {"rebalance": False})
    live = lab.live()
    source = max(live, key=lambda replica: live[replica]["buckets"])
    target = min((replica for replica in live if replica != source), key=lambda replica: live[replica]["buckets"])
    for other in live:  # a strike may have left it a part
        if other != source and live[other]["buckets"]:
            lab.tell("/moves", {"all": True, "source": other, "target": source})
    lab.wait_well()
    if (owned := lab.live()[source]["buckets"]) < BUCKETS:
        raise SplitmergeError(f"replica {source} owns {owned} buckets only")
    return source, target


def _wish(lab: ChaosLab, cell: Cell, source: int, target: int, away: float) -> dict[str, Any]:
    wish: dict[str, Any] = {"step": cell.step}
    if cell.cancel_in:
        wish["cancel"] = cell.cancel_in
    replicas = lab.live()
    match cell.component:
        case "orchestrator":
            wish |= {"pids": [-1], "away": away}
        case "switch":
            wish["pids"] = [lab.switch_pid()]
        case "far":
            behind = list(lab.record.switches).index(replicas[target]["switch"])
            wish["pids"] = [lab.switch_pid(behind)]
        case "source":
            wish["pids"] = [replicas[source]["pid"]]
        case "target":
            wish["pids"] = [replicas[target]["pid"]]
        case "agent":
            wish["pids"] = [lab.pid_of("orchestrator.vmm")]
        case "link":
            wish["unlink"] = CUT
        case _:
            wish["cut"] = APART if cell.component == "apart" else CUT
            wish["peers"] = [each["pid"] for each in replicas.values()]
    return wish


def _begin(lab: ChaosLab, cell: Cell, scene: Scene) -> None:
    what = {"keys": scene.keys} if scene.keys else {"all": True, "source": scene.source}
    body = {**what, "target": scene.target, "wait": False} | cell.kind.options
    try:
        lab.tell("/moves", body)
    except (PeerError, BadInput):
        if not lab.struck:
            raise


def _newest(lab: ChaosLab) -> int:
    """The number of the newest move; 0 if there was none."""
    return max((int(move["epoch"]) for move in lab.ask("/moves", limit=1)), default=0)


def _end(lab: ChaosLab, source: int, target: int, earlier: int) -> str:
    """How the move that was struck has ended: the first of these two since then. Others may clear up behind it."""
    found = {
        move["epoch"]: move["step"]
        for move in lab.ask("/moves", limit=50)
        if move["epoch"] > earlier and (move["source"], move["target"]) == (source, target)
    }
    return str(found[min(found)]) if found else "none"


def _drops(lab: ChaosLab) -> dict[str, int]:
    """Packets dropped so far, by reason; copies and repeats that meant nothing are left out."""
    said = lab.ask("/status")["drops"]
    return {
        f"{who} {reason}": count
        for who, reasons in said.items()
        for reason, count in reasons.items()
        if reason not in ("punted", "relay_repeated", "relay_gap")
    }


def _expired(lab: ChaosLab) -> int:
    """Packets that living replicas held for longer than a hold lasts."""
    return int(sum(each["custom"].get("hold_expired", 0) for each in lab.live().values()))


def _requests(lab: ChaosLab) -> dict[str, int]:
    """Requests that each middlebox has counted."""
    elements = lab.contributions(STATISTICS)
    return {each["origin"]: msgspec.convert(each["value"], Statistics).requests for each in elements}


def _since(before: dict[str, int], now: dict[str, int]) -> int:
    """Requests counted meanwhile, by replicas that live.

    What was counted by some that died in an earlier strike may be forgotten, or become part of a sum (`ENDED`).
    """
    return sum(count - before.get(origin, 0) for origin, count in now.items() if not origin.startswith(ENDED))
