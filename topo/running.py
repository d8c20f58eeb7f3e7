"""A running lab, for whoever works on it from outside: the matrix of crashes, benchmarks, integration tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitmerge.client import OrchestratorClient
from splitmerge.errors import BadInput, PeerError, SplitmergeError, Timeout
from topo.enter import descendants
from topo.spec import LabRecord

WITHIN = 60.0
"""Seconds that `RunningLab.wait` waits unless told otherwise."""


@dataclass
class RunningLab:
    """A running lab; ``directory`` is the one that its own is in."""

    record: LabRecord
    directory: Path

    def client(self) -> OrchestratorClient:
        """Of the orchestrator; close it."""
        return OrchestratorClient(Path(self.record.api_socket), timeout=60.0)

    def wait(self, what: str, condition: Callable[[OrchestratorClient], Any], within: float = WITHIN) -> Any:
        """Until the condition gives something true; an orchestrator that is away or starting is waited for.

        :raises Timeout: if it does not.
        """
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            with self.client() as client, suppress(PeerError, BadInput):
                if result := condition(client):
                    return result
            time.sleep(0.05)
        raise Timeout(what, within)

    def ask(self, path: str, **query: Any) -> Any:
        """GET, waiting for an orchestrator that is away or starting."""
        return self.wait(path, lambda client: (client.get(path, **query),))[0]

    def tell(self, path: str, body: dict[str, Any]) -> Any:
        """POST, once."""
        with self.client() as client:
            return client.post(path, body)

    def owners(self) -> dict[str, list[int]]:
        """Flow → replicas that have its state."""
        found: dict[str, list[int]] = {}
        for flow in self.ask("/flows", limit=100_000):
            found.setdefault(flow["flow"], []).append(flow["replica"])
        return found

    def contributions(self, key: str) -> list[dict[str, Any]]:
        """All replicas' to a coherent object: one that had no processor when it was asked is asked again.

        :raises Timeout: if one never answers.
        """

        def whole(client: OrchestratorClient) -> Any:
            said = client.get(f"/shared/{key}")
            return None if said["missing"] else said

        elements: list[dict[str, Any]] = self.wait(f"everybody's part of {key}", whole)["elements"]
        return elements

    def pid_of(self, marker: str) -> int:
        """The lab's process whose command line has the marker. :raises SplitmergeError: if there is none."""
        for pid, line in descendants(self.record.pid):
            if marker in line:
                return pid
        raise SplitmergeError(f"no process of the lab has {marker!r} in its command line")
