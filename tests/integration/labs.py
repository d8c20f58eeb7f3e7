"""What the integration tests do with a lab."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from middleboxes.ids import STATISTICS, Alert, Statistics, combine
from splitmerge.demo.commands import TrafficCommand
from splitmerge.errors import BadInput
from topo.launch import start_lab, stop_lab
from topo.model import one_switch
from topo.running import RunningLab
from topo.spec import LabSpec, read_record
from traffic.udp_report import Account, FlowAccount

SERVER = "10.0.2.2"
WITHIN = 30.0


class TestLab(RunningLab):
    """The lab of a test."""

    __test__ = False

    def command(self, namespace: str, module: str, *arguments: str) -> TrafficCommand:
        command = TrafficCommand(self.record, namespace, module, *arguments)
        command.wait_ready()
        return command

    def kill_at(self, step: str) -> None:
        """The orchestrator is to die when it has journalled this step."""
        (self.directory / "kill").write_text(step)

    def spare(self) -> None:
        """It is not to die, if it has not."""
        (self.directory / "kill").unlink(missing_ok=True)

    @property
    def killed(self) -> bool:
        return not (self.directory / "kill").exists()

    def alerts(self) -> list[Alert]:
        """Those whose lines are whole: the newest may be being written."""
        path = self.directory / "alerts.jsonl"
        *lines, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]
        return [msgspec.json.decode(line, type=Alert) for line in lines]

    def statistics(self) -> Statistics:
        return combine([msgspec.convert(each["value"], Statistics) for each in self.contributions(STATISTICS)])

    def wait_quiet(self) -> None:
        """Until the orchestrator is ready and no move is under way."""
        self.wait("quiet", lambda client: (s := client.get("/status"))["ready"] and not s["moves_running"])

    def live(self) -> list[int]:
        with self.client() as client:
            return sorted(each["replica"] for each in client.get("/replicas") if each["state"] == "live")

    def move_all(self) -> int:
        """Everything from the replica that has most buckets to the one that has fewest; how many moves it took."""
        with self.client() as client:
            replicas = [each for each in client.get("/replicas") if each["state"] == "live"]
            by_size = sorted(replicas, key=lambda each: each["buckets"])
            ends = {"source": by_size[-1]["replica"], "target": by_size[0]["replica"]}
            moves = client.post("/migrate", {"all": True, **ends})["moves"]
        assert moves and all(move["step"] == "done" for move in moves), moves
        return len(moves)


@contextmanager
def build_lab(directory: Path, **changes: Any) -> Iterator[TestLab]:
    config = {"sqli_thresh": 30, "alerts": str(directory / "alerts.jsonl")}
    target = os.environ.get("SPLITMERGE_TEST_TARGET", "embedded")
    settings: dict[str, Any] = {
        "target": target,
        "punt": os.environ.get("SPLITMERGE_TEST_PUNT", LabSpec(name="t", directory="/").punt),
        "topology": one_switch(4),
        "middlebox_config": config,
        "ephemeral": True,
    } | changes
    spec = LabSpec(name="t", directory=str(directory / "lab"), **settings)
    record = start_lab(spec)
    lab = TestLab(record, directory)
    try:
        lab.wait("the first replica", lambda client: client.get("/status")["ready"] and lab.live())
        yield lab
    finally:
        stop_lab(read_record(spec.root))


def whole(result: Account) -> bool:
    """Whether something was sent and all of it came, once and in order."""
    return result.sent > 0 and (result.lost, result.duplicated, result.reordered) == (0, 0, 0)


def troubled(result: Account) -> list[FlowAccount]:
    """The flows that lost, repeated or reordered something."""
    names = ("lost", "duplicated", "reordered")
    return [flow for flow in result.flows if any(getattr(flow.forward, n) or getattr(flow.backward, n) for n in names)]


def refused(call: Callable[[], Any]) -> str:
    """The message of the refusal that the call must end in."""
    try:
        call()
    except BadInput as error:
        return str(error)
    raise AssertionError("was not refused")
