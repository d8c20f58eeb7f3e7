"""When a lab is ready, and when its first replica is not waited for any more."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from topo import lab
from topo.errors import NeverReady, ProcessFailed
from topo.lab import Lab, _stillborn
from topo.links import Wiring
from topo.model import one_switch
from topo.processes import Command, Supervised
from topo.spec import LabSpec

HELLO = "replica 2: ended before its Hello: exit 9"


def row(ended: int, reason: str = HELLO, replica: int = 0) -> dict[str, Any]:
    return {"replica": replica, "kind": "", "failures": 1, "ended": ended, "reason": reason}


@pytest.mark.parametrize(
    ("replicas", "owed", "given_up", "enabled", "said"),
    [
        (0, [], [], True, ""),
        (0, [row(0, "no Hello within 20 s")], [], True, ""),
        (0, [row(1)], [], True, ""),
        (0, [row(2)], [], True, f"2 replicas have ended by themselves as they started, the last: {HELLO}"),
        (1, [row(2)], [], True, ""),
        (0, [row(0), row(3)], [], True, f"3 replicas have ended by themselves as they started, the last: {HELLO}"),
        (
            0, [], [row(1, "0.0 s after it came, exit 9", replica=1)], False,
            "its first replica has ended by itself as it started: it died 0.0 s after it came, exit 9",
        ),
    ],
    ids=["at first", "late", "one may be chance", "two", "one lives", "of several places", "nobody comes any more"],
)  # fmt: skip
def test_the_first_replica_is_waited_for_while_there_is_hope(
    replicas: int, owed: list[Any], given_up: list[Any], enabled: bool, said: str
) -> None:
    replacements = {"enabled": enabled, "owed": owed, "given_up": given_up}
    assert _stillborn({"replicas": replicas, "replacements": replacements}) == said


async def test_what_will_never_be_ready_is_not_waited_for_and_the_culprit_is_named(tmp_path: Path) -> None:
    async def ready() -> bool:
        raise NeverReady("middlebox x:Y", "it crashes")

    log = tmp_path / "agent.log"
    process = Supervised(Command("agent", ["sh", "-c", "echo the cause; exec sleep 60"], log, ready, ready_within=60.0))
    try:
        with pytest.raises(ProcessFailed, match=f"^middlebox x:Y: it crashes; log: {log}"):
            await process.start()
    finally:
        await process.stop()


LIVING: dict[str, Any] = {
    "ready": True, "replicas": 1, "agents": [{"kind": "process"}],
    "replacements": {"enabled": True, "owed": [], "given_up": [], "on_trial": []},
}  # fmt: skip
ON_TRIAL = LIVING | {"replacements": LIVING["replacements"] | {"on_trial": [row(1)]}}


@pytest.mark.parametrize(
    ("looks", "served", "ready"),
    [
        ([(0.0, LIVING), (0.1, LIVING), (0.21, LIVING)], False, [False, False, True]),
        ([(0.0, LIVING), (0.1, LIVING | {"replicas": 0}), (0.21, LIVING), (0.42, LIVING)], False, [False] * 3 + [True]),
        ([(0.0, LIVING), (0.1, ON_TRIAL), (0.4, ON_TRIAL), (0.5, LIVING), (0.71, LIVING)], False, [False] * 4 + [True]),
        ([(0.0, None), (0.3, LIVING), (0.51, LIVING)], False, [False, False, True]),
        ([(0.0, LIVING), (0.3, LIVING | {"agents": []})], False, [False, False]),
        ([(0.0, LIVING), (0.1, ON_TRIAL), (0.2, LIVING | {"replicas": 0})], True, [True, True, False]),
    ],
    ids=["for a while", "one ends meanwhile", "after one that ended", "no answer yet", "no agent", "the lab serves"],
)
async def test_a_lab_is_ready_when_its_first_replica_has_lived_for_a_while(
    looks: list[tuple[float, dict[str, Any] | None]], served: bool, ready: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the lab serves, an agent that begins anew is ready as soon as there is a replica."""
    built = Lab(LabSpec(name="t", directory="/t", topology=one_switch(1)), Wiring({}, {}))
    built._served = served
    said = []
    for now, status in looks:
        monkeypatch.setattr(lab, "_status", lambda api, status=status: status)
        monkeypatch.setattr(lab, "time", SimpleNamespace(monotonic=lambda now=now: now))
        said.append(await built._replica_lives("process"))
    assert said == ready
