"""The lab that is struck: replicas with the IDS, traffic over UDP and TCP, an orchestrator that strikes at a step."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from chaos.probe import Rows
from splitmerge.client import OrchestratorClient
from splitmerge.demo.commands import TrafficCommand
from splitmerge.errors import SplitmergeError
from topo.enter import popen_beside
from topo.launch import start_lab, stop_lab
from topo.model import load_topology, one_switch
from topo.running import RunningLab
from topo.spec import LabSpec, read_record
from topo.switches import device_id, grpc_address
from traffic.http_client import ClientReport
from traffic.udp_report import Account, SideReport, account

SERVER = "10.0.2.2"
BUCKETS = 1024
FLOWS, RATE = 16, 40.0
"""Of the traffic: flows over UDP, and datagrams a second on each, each way."""
_HOOK = Path(__file__).parent / "hook"


@dataclass
class ChaosLab(RunningLab):
    """The lab that is struck."""

    topology: str = "one-switch"
    _probe: subprocess.Popen[bytes] | None = field(default=None)

    # -- what there is -----------------------------------------------------------------------------------------

    def live(self) -> dict[int, dict[str, Any]]:
        """Replicas that work."""
        return {each["replica"]: each for each in self.ask("/replicas") if each["state"] == "live"}

    def switch_pid(self, position: int = 0) -> int:
        """The process of the switch at this position of the topology."""
        program = "simple_switch_grpc" if self.record.target == "bmv2" else "p4switch"
        return self.pid_of(f"{program} --device-id {device_id(position)} ")

    def rows(self) -> Rows:
        """What the switch itself says."""
        probe = self._probe_process()
        assert probe.stdin is not None and probe.stdout is not None
        probe.stdin.write(b"\n")
        probe.stdin.flush()
        readable, _, _ = select.select([probe.stdout], [], [], 20.0)
        line = probe.stdout.readline() if readable else b""
        if not line:
            raise SplitmergeError("the probe of the switch has ended")
        return msgspec.json.decode(line, type=Rows)

    def _probe_process(self) -> subprocess.Popen[bytes]:
        if self._probe is None or self._probe.poll() is not None:
            argv = [sys.executable, "-m", "chaos.probe", *(self.record.switches.values() or (grpc_address(),))]
            self._probe = popen_beside(self.record.pid, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self._probe

    def close(self) -> None:
        """End the probe."""
        if self._probe is not None:
            self._probe.kill()
            self._probe.communicate()

    # -- strikes -----------------------------------------------------------------------------------------------

    def wish(self, wish: dict[str, Any]) -> None:
        """What the orchestrator is to do when it has journalled a step."""
        path = self.directory / "wish"
        path.with_suffix(".tmp").write_bytes(msgspec.json.encode(wish))
        path.with_suffix(".tmp").replace(path)

    @property
    def struck(self) -> bool:
        """Whether the wish has come true."""
        return not (self.directory / "wish").exists()

    def forget_wish(self) -> None:
        """The step never came."""
        (self.directory / "wish").unlink(missing_ok=True)

    def well(self, client: OrchestratorClient) -> bool:
        """Whether everything is up, nothing moves, and every bucket has an owner that lives."""
        status = client.get("/status")
        if not (status["ready"] and status["switch_ready"] and status["agent"]) or status["moves_running"]:
            return False
        replicas = client.get("/replicas")
        live = [each for each in replicas if each["state"] == "live"]
        return (
            sum(each["buckets"] for each in live) == BUCKETS
            and all(each["connected"] for each in live)
            and not any(each["buckets"] or each["state"] == "starting" for each in replicas if each not in live)
        )

    def wait_well(self) -> None:
        """Until it is, by what the orchestrator and the switch say; where all are dead, a replica is asked for.

        :raises Timeout: if that takes too long.
        """

        def both(client: OrchestratorClient) -> bool:
            if not self.well(client):
                self._begin_anew(client)
                return False
            rows = self.rows()
            live = set(self.live())
            return not (rows.problem or rows.suspended) and {*rows.buckets, *rows.flows} <= live

        self.wait("everything to be well again", both)

    @staticmethod
    def _begin_anew(client: OrchestratorClient) -> None:
        """Ask for a replica if none is left: nothing dead is replaced here, and an agent takes all its own along."""
        status = client.get("/status")
        left = [each for each in client.get("/replicas") if each["state"] != "gone"]
        if status["ready"] and status["agent"] and not left:
            client.post("/scale-out", {"rebalance": False})


class Traffic:
    """Numbered UDP in both directions and HTTP over TCP, from the client through the middleboxes to the server."""

    def __init__(self, lab: ChaosLab, *, flows: int = FLOWS, rate: float = RATE) -> None:
        self.silence = 0.0
        """When it is finished: seconds of the longest time in which nothing arrived, of each flow and way, added up."""
        self._all: list[TrafficCommand] = []
        self._echo = self._start(lab, "server", "udp", "server", "--bind", SERVER)
        self._web = self._start(lab, "server", "http_server", "--bind", SERVER, "--port", "80")
        for each in self._all:
            each.wait_ready()
        self._udp = self._start(
            lab, "client", "udp", "client", "--server", SERVER, "--flows", str(flows), "--rate", str(rate),
            "--quiet", "1.5",
        )  # fmt: skip
        self._http = self._start(
            lab, "client", "http_client", "--server", SERVER, "--connections", "4", "--rate", "10", "--timeout", "40",
        )  # fmt: skip
        for each in self._all[2:]:
            each.wait_ready()

    def _start(self, lab: ChaosLab, namespace: str, module: str, *arguments: str) -> TrafficCommand:
        try:
            command = TrafficCommand(lab.record, namespace, module, *arguments)
        except BaseException:
            self.close()
            raise
        self._all.append(command)
        return command

    def finish(self) -> tuple[Account, ClientReport]:
        """Stop, and say what became of every datagram and every request."""
        self._http.ask_to_stop()
        self._udp.ask_to_stop()
        web, sent = self._http.report(ClientReport), self._udp.report(SideReport)
        self._echo.ask_to_stop()
        answered = self._echo.report(SideReport)
        self.silence = sum(flow.longest_gap_ms for flow in (*sent.flows, *answered.flows)) / 1000
        return account(sent, answered), web

    def close(self) -> None:
        """End what still runs."""
        for each in self._all:
            each.kill()


@contextmanager
def chaos_lab(
    directory: Path, target: str = "embedded", topology: str = "one-switch", **changes: Any
) -> Iterator[ChaosLab]:
    """A lab with four slots and two replicas, or of a topology that has a name, and the hook in its orchestrator.

    ``changes`` are fields of `LabSpec`.
    """
    hooks = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_HOOK), os.environ.get("PYTHONPATH")])),
        "SPLITMERGE_CHAOS_FILE": str(directory / "wish"),
        "SPLITMERGE_CHAOS_SOCKET": str(directory / "lab" / "control.sock"),
    }
    saved = {name: os.environ.get(name) for name in hooks}
    os.environ.update(hooks)
    planned = one_switch(4) if topology == "one-switch" else load_topology(Path(topology))
    # What a strike does to one move is looked at: a third replica that comes of itself would make moves of its own.
    settings: dict[str, Any] = {"target": target, "topology": planned, "ephemeral": True, "replace": False}
    settings |= changes
    spec = LabSpec(name="chaos", directory=str(directory / "lab"), **settings)
    try:
        record = start_lab(spec)
    finally:
        for name, value in saved.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    lab = ChaosLab(record, directory, topology)
    try:
        lab.wait("the first replica", lambda client: client.get("/status")["ready"] and lab.live())
        yield lab
    finally:
        lab.close()
        with suppress(SplitmergeError):  # whoever reads the outcome knows already
            stop_lab(read_record(spec.root))
