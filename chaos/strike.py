"""One strike: traffic, a move, the blow at its step, and what is left when everything is well again."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from chaos.cells import Cell
from chaos.lab import FLOWS, RATE, ChaosLab, Traffic
from middleboxes.ids import STATISTICS, Statistics
from splitmerge.errors import BadInput, PeerError, SplitmergeError

CUT = 1.0
"""Seconds for which the control network is away."""
BEFORE, AFTER = 0.4, 0.8
"""Seconds of traffic before the move, and after everything is well."""


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
    flows: int = 0
    owned_twice: int = 0
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


def strike(lab: ChaosLab, cell: Cell, away: float = 0.0) -> Outcome:
    """Do it. ``away``: seconds before a killed orchestrator's successor begins to work.

    :raises SplitmergeError: if the lab does not come to rest; it is of no use then.
    """
    source, target = prepare(lab)
    before = lab.ask("/status")["replicas_died"]
    counted, expired, dropped = _requests(lab), _expired(lab), _drops(lab)
    earlier = _newest(lab)
    traffic = Traffic(lab)
    try:
        time.sleep(BEFORE)
        lab.wish(_wish(lab, cell, source, target, away))
        begun = time.monotonic()
        _begin(lab, cell, source, target)
        lab.wait(f"the move to come to {cell.step}", lambda client: lab.struck or lab.well(client), within=40.0)
        lab.wait_well()
        passed = not lab.struck
        seconds = time.monotonic() - begun
        time.sleep(AFTER)
        account, web = traffic.finish()
    finally:
        traffic.close()
        lab.forget_wish()
    owners = lab.owners()
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
        flows=len(owners),
        owned_twice=sum(len(replicas) > 1 for replicas in owners.values()),
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


def sent_within(seconds: float) -> int:
    """Datagrams that the traffic of a strike sends in this time, both ways together, at most."""
    return round(2 * FLOWS * RATE * (seconds + BEFORE))


def prepare(lab: ChaosLab) -> tuple[int, int]:
    """Two replicas that live; the one that owns (nearly) everything, and the other."""
    lab.wait_well()
    while len(lab.live()) < 2:
        lab.tell("/scale-out", {"rebalance": False})
    live = lab.live()
    source = max(live, key=lambda replica: live[replica]["buckets"])
    target = min((replica for replica in live if replica != source), key=lambda replica: live[replica]["buckets"])
    if live[source]["buckets"] < 512:
        raise SplitmergeError(f"replica {source} owns {live[source]['buckets']} buckets only")
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
        case _:
            wish["cut"] = CUT
    return wish


def _begin(lab: ChaosLab, cell: Cell, source: int, target: int) -> None:
    body = {"all": True, "source": source, "target": target, "wait": False} | cell.kind.options
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
    """Requests counted meanwhile. What replicas counted that died in an earlier strike may be forgotten."""
    return sum(count - before.get(origin, 0) for origin, count in now.items())
