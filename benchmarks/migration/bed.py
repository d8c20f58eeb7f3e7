"""The test bed: a lab of its own with two replicas, the flows that are moved, and moves over the REST API."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.migration import middlebox, population
from splitmerge.client import OrchestratorClient
from splitmerge.errors import SplitmergeError, Timeout
from topo.enter import popen_in
from topo.errors import LabNotFound
from topo.launch import start_lab, stop_lab
from topo.links import HOST_INTERFACE
from topo.model import one_switch
from topo.spec import LabRecord, LabSpec, read_record

WITHIN = 60.0
"""Seconds for anything that is waited for."""
MOVE_WITHIN = 120.0
FILL_RATE = 8_000.0
"""Frames a second while flows are made."""
FLOWS_MOST = 100_000
"""Flows that one request lists."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How a move is made."""

    guarantee: str
    buffer: str

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.guarantee}/{self.buffer}"

    @property
    def options(self) -> dict[str, str]:
        """Fields of a request for such a move; a buffer only where there is one."""
        buffer = {} if self.guarantee in ("no-buffer", "none") else {"buffer": self.buffer}
        return {"guarantee": self.guarantee} | buffer


MODES = (
    Mode("order-preserving", "replica"),
    Mode("order-preserving", "cpu"),
    Mode("loss-free", "cpu"),
    Mode("no-buffer", "replica"),
    Mode("none", "replica"),
)
"""`loss-free` with buffer `replica` is `order-preserving`; `no-buffer` and `none` use no buffer."""


@dataclass(slots=True)
class Bed:
    """A running lab and what is in it."""

    record: LabRecord
    client: OrchestratorClient
    filled: dict[int, int] = field(default_factory=dict)
    """Bytes of state → flows that have been made."""
    runs: int = 0
    """Generators started."""

    # -- replicas ----------------------------------------------------------------------------------------------

    def live(self) -> list[dict[str, Any]]:
        """The replicas that work, oldest first."""
        found = [each for each in self.client.get("/replicas") if each["state"] == "live"]
        return sorted(found, key=lambda each: int(each["replica"]))

    def wait_live(self, count: int) -> None:
        """Until so many replicas work. :raises Timeout:"""
        self.wait(lambda: len(self.live()) >= count, f"{count} replicas")

    def wait(self, holds: Any, what: str) -> None:
        """Until this holds. :raises Timeout: after `WITHIN` seconds."""
        end = time.monotonic() + WITHIN
        while not holds():
            if time.monotonic() > end:
                raise Timeout(what, WITHIN)
            time.sleep(0.1)

    def figure(self, name: str) -> int:
        """One of the middlebox's figures over all replicas."""
        return int(sum(each["custom"].get(name, 0) for each in self.live()))

    # -- flows -------------------------------------------------------------------------------------------------

    def flows_to(self, address: str, port: int) -> dict[str, int]:
        """Flow → replica that knows it, of the flows to (or from) this address and port."""
        flows = self.client.get("/flows", limit=100_000)
        return {each["flow"]: int(each["replica"]) for each in flows if f"{address}:{port}" in each["flow"]}

    def fill(self, state: int, flows: int) -> None:
        """Make flows with so much state, until all are there. :raises Timeout: if they do not come."""
        end = time.monotonic() + WITHIN
        before = sum(self.filled.values()) - self.filled.get(state, 0)
        while (have := self.client.get("/status")["flows"]) < before + flows:
            if time.monotonic() > end:
                raise Timeout(f"{flows} flows (there are {have - before})", WITHIN)
            self._once(state, flows)
            time.sleep(0.6)  # statistics come four times a second
        self.filled[state] = flows

    def _once(self, state: int, flows: int) -> None:
        generator = self.generate(state, flows, FILL_RATE, rounds=1)
        generator.wait(timeout=WITHIN)
        self.take(generator)

    def generate(self, state: int, flows: int, rate: float, rounds: int = 0) -> subprocess.Popen[bytes]:
        """Start the generator of numbered frames over the first flows of this size; `take` it when it is to end."""
        self.runs += 1
        argv = [
            sys.executable, "-m", "benchmarks.migration.population", "--interface", HOST_INTERFACE,
            "--state", str(state), "--flows", str(flows), "--rate", str(rate), "--run", str(self.runs),
            *(("--rounds", str(rounds)) if rounds else ()),
        ]  # fmt: skip
        generator = popen_in(
            self.record, "client", argv, stdout=subprocess.PIPE, start_new_session=True,
            bufsize=0,  # else what it says after its first line is read with it, and `communicate` misses it
        )  # fmt: skip
        assert generator.stdout is not None
        readable, _, _ = select.select([generator.stdout], [], [], WITHIN)
        if not readable or generator.stdout.readline() != b"ready\n":
            generator.kill()
            generator.communicate()
            raise SplitmergeError("the generator of numbered frames did not begin")
        return generator

    def take(self, generator: subprocess.Popen[bytes]) -> int:
        """End a generator; frames a flow that it sent."""
        with suppress(ProcessLookupError):
            generator.send_signal(signal.SIGTERM)
        out, _ = generator.communicate(timeout=WITHIN)
        if generator.returncode:
            raise SplitmergeError(f"the generator failed with status {generator.returncode}")
        return int(json.loads(out)["rounds"])

    # -- moves -------------------------------------------------------------------------------------------------

    def gather(self) -> None:
        """Everything at the first replica, by bucket, as at the beginning."""
        first, *others = self.live()
        for other in others:
            if other["buckets"] or other["flows"]:
                self.move({"all": True}, int(other["replica"]), int(first["replica"]), None)

    def move(self, what: dict[str, Any], source: int, target: int, mode: Mode | None) -> dict[str, Any]:
        """One call that moves; the sum of its moves, which all must end well.

        :raises SplitmergeError: if one was undone.
        """
        body = {**what, "source": source, "target": target, "wait": True}
        if mode is not None:
            body |= mode.options
        started = time.perf_counter()
        moves = self.client.post("/migrate", body)["moves"]
        seconds = time.perf_counter() - started
        undone = [f"move {move['epoch']}: {move['reason']}" for move in moves if move["step"] != "done"]
        if undone:
            raise SplitmergeError("; ".join(undone))
        return {
            "moves": len(moves),
            "call_ms": seconds * 1000,
            "suspended_ms": max((move["suspended_ms"] for move in moves), default=0.0),
            "waited_ms": max((move["waited_ms"] for move in moves), default=0.0),
            "staged": sum(move["staged"] for move in moves),
            "relayed": sum(move["relayed"] for move in moves),
            "dropped": sum(move["dropped"] for move in moves),
            "peak_buffer": sum(move["peak_buffer"] for move in moves),
        }


@contextmanager
def bed(
    target: Literal["embedded", "bmv2"] = "embedded",
    module: str = "benchmarks.migration.middlebox:Sized",
    *,
    name: str = "bench",
    replicas: int = 2,
    slots: int = 2,
    **changes: Any,
) -> Iterator[Bed]:
    """A lab with so many replicas, gone when the block ends. ``changes``: other fields of its `LabSpec`."""
    with tempfile.TemporaryDirectory(prefix="splitmerge-") as directory:
        spec = LabSpec(
            name=name,
            directory=str(Path(directory) / name),
            ephemeral=True,
            topology=one_switch(slots),
            target=target,
            middlebox=module,
            **{"log_level": "warning", **changes},
        )
        try:
            record = start_lab(spec)
            with OrchestratorClient(Path(record.api_socket), timeout=MOVE_WITHIN) as client:
                made = Bed(record, client)
                made.wait_live(1)
                if replicas > 1:
                    client.post("/scale-out", {"count": replicas - 1, "rebalance": False})
                    made.wait_live(replicas)
                yield made
        finally:
            with suppress(LabNotFound):
                stop_lab(read_record(spec.root))


def keys(state: int, flows: int) -> list[str]:
    """The first flows of this size, as the API wants them."""
    return [str(population.key(state, number)) for number in range(flows)]


def ledger(made: Bed) -> dict[str, int]:
    """What the middlebox has seen of the numbered frames since the start."""
    time.sleep(0.6)  # statistics come four times a second
    return {name: made.figure(name) for name in (middlebox.NUMBERED, middlebox.LOST, middlebox.AGAIN)}
