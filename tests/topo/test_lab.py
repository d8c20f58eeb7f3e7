"""When the first replica of a lab is not waited for any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from topo.errors import NeverReady, ProcessFailed
from topo.lab import _stillborn
from topo.processes import Command, Supervised

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
