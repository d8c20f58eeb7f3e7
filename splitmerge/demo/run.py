"""Runs the demo: a lab of its own, traffic, moves, the account. Everything is gone when it returns or raises."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from middleboxes.ids import STATISTICS, Alert, Statistics, combine
from splitmerge.client import OrchestratorClient
from splitmerge.demo.commands import TrafficCommand
from splitmerge.demo.moves import Mover, Progress
from splitmerge.demo.plan import DemoPlan
from splitmerge.demo.result import DemoResult, Evidence, settle, suspended
from splitmerge.demo.workplace import LAB, workplace
from splitmerge.errors import BadInput
from topo.errors import LabNotFound
from topo.launch import start_lab, stop_lab
from topo.model import Topology, load_topology, one_switch
from topo.spec import LabRecord, LabSpec, read_record
from traffic.http_client import ClientReport
from traffic.udp_report import SideReport, account

_SERVER = "10.0.2.2"
_HTTP_PORT, _UDP_PORT = 80, 9000
_SLOTS = 4
_ASKED = 5
"""Times that statistics are asked for while a replica's part is missing; each takes the orchestrator's two seconds."""


def run_demo(plan: DemoPlan, progress: Progress) -> DemoResult:
    """The whole demo. ``progress`` is called with the phase and the number of moves so far.

    :raises SplitmergeError: if a part cannot be started or fails; a wrong account is not an error but a result.
    """
    progress("building the lab", 0)
    with workplace() as directory:
        alerts = directory / "alerts.jsonl"
        spec = LabSpec(
            name=LAB,
            directory=str(directory / LAB),
            ephemeral=True,
            topology=_topology(plan),
            target=plan.target,
            punt=plan.punt,
            middlebox_config={"sqli_thresh": plan.threshold, "alerts": str(alerts)},
        )
        with _lab(spec) as record, OrchestratorClient(Path(record.api_socket)) as client, ExitStack() as stack:
            return _verify(plan, record, client, stack, alerts, progress)


def _topology(plan: DemoPlan) -> Topology:
    """The topology asked for. :raises BadInput: if the demo cannot run on it."""
    if not plan.topology:
        return one_switch(_SLOTS)
    topology = load_topology(Path(plan.topology))
    servers = [host for host in topology.hosts if host.name == "server" and f"{_SERVER}/24" in host.addresses]
    if not servers or "client" not in {host.name for host in topology.hosts} or len(topology.slots) < _SLOTS:
        where = f"--topology {plan.topology}"
        raise BadInput(where, f"no client, server {_SERVER}/24 and {_SLOTS} slots", "the demo needs these")
    return topology


@contextmanager
def _lab(spec: LabSpec) -> Iterator[LabRecord]:
    try:
        yield start_lab(spec)
    finally:
        with suppress(LabNotFound):  # it never came up, or ended by itself: nothing to end
            stop_lab(read_record(spec.root))


def _verify(
    plan: DemoPlan,
    record: LabRecord,
    client: OrchestratorClient,
    stack: ExitStack,
    alerts: Path,
    progress: Progress,
) -> DemoResult:
    mover = Mover(client, plan, progress)
    mover.wait_for_replica()
    started = time.monotonic()
    progress("starting traffic", 0)
    http_server, udp_server, http, udp = _start_traffic(plan, record, stack)
    mover.run(until=started + plan.limit)
    progress("ending traffic", plan.migrations)
    http.ask_to_stop()
    udp.ask_to_stop()
    http_report, udp_client = http.report(ClientReport), udp.report(SideReport)
    udp_server.ask_to_stop()
    http_server.ask_to_stop()
    udp_report = account(udp_client, udp_server.report(SideReport))
    progress("merging the replicas", plan.migrations)
    mover.merge_all()
    moves = mover.moves()
    return settle(
        Evidence(
            target=plan.target,
            http=http_report,
            udp=udp_report,
            alerts=_read_alerts(alerts),
            statistics=_statistics(client),
            suspended=suspended(moves),
            undone=tuple(f"move {move['epoch']}: {move['reason']}" for move in moves if move["step"] != "done"),
            moves_wanted=plan.migrations,
            flows_moved=sum(move["staged"] for move in moves),
            added=mover.added,
            removed=mover.removed,
            died=client.get("/status")["replicas_died"],
            seconds=time.monotonic() - started,
        )
    )


def _start_traffic(plan: DemoPlan, record: LabRecord, stack: ExitStack) -> tuple[TrafficCommand, ...]:
    def start(namespace: str, module: str, *arguments: str) -> TrafficCommand:
        command = TrafficCommand(record, namespace, module, *arguments)
        stack.callback(command.kill)
        return command

    servers = (
        start("server", "http_server", "--bind", _SERVER, "--port", str(_HTTP_PORT)),
        start("server", "udp", "server", "--bind", _SERVER, "--port", str(_UDP_PORT)),
    )
    for command in servers:
        command.wait_ready()
    clients = (
        start("client", "http_client", *_http_arguments(plan)),
        start("client", "udp", "client", *_udp_arguments(plan)),
    )
    for command in clients:
        command.wait_ready()
    return (*servers, *clients)


def _http_arguments(plan: DemoPlan) -> list[str]:
    options: dict[str, Any] = {
        "server": _SERVER,
        "port": _HTTP_PORT,
        "connections": plan.connections,
        "rate": plan.request_rate,
        "seed": plan.seed,
        "attackers": plan.attackers,
        "attack-length": plan.attack_length,
        "attack-within": plan.attack_within,
        "strays": 0.02,
        "threshold": plan.threshold,
    }
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def _udp_arguments(plan: DemoPlan) -> list[str]:
    options = {"server": _SERVER, "port": _UDP_PORT, "flows": plan.udp_flows, "rate": plan.udp_rate}
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def _read_alerts(path: Path) -> tuple[Alert, ...]:
    if not path.exists():
        return ()
    return tuple(msgspec.json.decode(line, type=Alert) for line in path.read_bytes().splitlines())


def _statistics(client: OrchestratorClient) -> Statistics:
    """All replicas' contributions, those of ended ones included, put together by the middlebox's own combiner.

    A replica that had no processor when it was asked is asked again.
    """
    for _ in range(_ASKED):
        found = client.get(f"/shared/{STATISTICS}")
        if not found["missing"]:
            break
    return combine([msgspec.convert(element["value"], Statistics) for element in found["elements"]])
