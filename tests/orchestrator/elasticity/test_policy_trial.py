"""A policy of one's own that hangs, or ends its process, as it is imported or made: it is refused, and that soon."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.elasticity import trial
from orchestrator.elasticity.trial import try_policy
from splitmerge.cli.app import app
from splitmerge.errors import BadInput
from tests.orchestrator.lab import Lab
from tests.vmm.rig import processes

CLASS = """
import os, time
{head}
print("whatever a module says")
class Mine:
    def __init__(self, most=3, **more): {made}
    def recommend(self, seen): ...
"""
HANGS_FOR = 60
"""Seconds."""
HANGS = "its import, or its making, has not come to an end within 1 s (see its module, and __init__,"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The name of a policy that does this when it is imported, and this when it is made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(head: str = "", made: str = "...") -> str:
        name = f"policy{len(list(tmp_path.iterdir()))}_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{name}.py").write_text(CLASS.format(head=head, made=made))
        return f"{name}:Mine"

    return write


def test_a_policy_that_hangs_where_it_is_made_does_not_hold_the_end_of_the_process_up(tmp_path: Path) -> None:
    script = f"""
import asyncio, time
from orchestrator.scaling.asking import aside

async def main():
    asked = asyncio.create_task(aside(lambda: time.sleep({HANGS_FOR})))
    await asyncio.sleep(0.1)
    assert not asked.done()

asyncio.run(main())
"""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", script], check=True, timeout=HANGS_FOR)
    assert time.monotonic() - begun < HANGS_FOR


async def test_a_policy_is_put_on_trial_where_it_holds_nothing_up(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    made_in: list[threading.Thread] = []

    def make(section: object, assignment: str) -> None:
        made_in.append(threading.current_thread())
        raise BadInput("elasticity: policy", "is none", "name another")

    monkeypatch.setattr("orchestrator.rest.api.make_section", make)
    await lab.patch("/elasticity", {"policy": "x:Y"}, 400)
    (thread,) = made_in
    assert thread is not threading.main_thread() and thread.daemon, "an executor's would be waited for"


def test_a_setting_that_cannot_be_passed_on_is_refused(mine: Callable[..., str]) -> None:
    with pytest.raises(BadInput, match="a setting is none that can be passed on"):
        try_policy(mine(), {"most": 10**30})


@pytest.mark.parametrize(
    ("head", "made", "said"),
    [
        ("time.sleep(60)", "...", HANGS),
        ("while True: pass", "...", HANGS),
        ("", "time.sleep(60)", HANGS),
        ("os._exit(4)", "...", "its import, or its making, ends the process (exit 4) (see its module)"),
        ("os.abort()", "...", "ends the process (signal SIGABRT)"),
        ("x = = 1", "...", "cannot be imported: SyntaxError: invalid syntax"),
        ("", "1 / 0", "cannot be made: ZeroDivisionError"),
    ],
    ids=["sleeps", "is busy", "its class sleeps", "exits", "aborts", "no Python", "its class fails"],
)
def test_what_it_does_it_does_in_a_process_of_its_own(
    mine: Callable[..., str], head: str, made: str, said: str
) -> None:
    name, within = mine(head, made), 1.0 if said is HANGS else None
    begun = time.monotonic()
    with pytest.raises(BadInput) as caught:
        try_policy(name, {}, within)
    assert said in str(caught.value) and time.monotonic() - begun < 15
    assert [line for _, line in processes() if name in line] == []


def test_one_that_is_well_is_made_with_its_settings(mine: Callable[..., str]) -> None:
    try_policy(mine(made="assert (most, more) == (5, {'ways': [1, 'x']})"), {"most": 5, "ways": [1, "x"]})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "MADE_WITHIN", 1.0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("command", [["up"], ["simulate", "burst"]], ids=" ".join)
def test_commands_refuse_one_that_hangs(mine: Callable[..., str], command: list[str], tmp_path: Path) -> None:
    argv = [*command, "--policy", mine("time.sleep(60)")]
    result = CliRunner().invoke(app, argv, env={"SPLITMERGE_STATE_DIR": str(tmp_path / "labs")})
    assert isinstance(result.exception, BadInput) and HANGS in str(result.exception)
    assert not (tmp_path / "labs").exists()


@pytest.mark.usefixtures("impatient")
async def test_an_orchestrator_that_is_told_to_take_one_goes_on_with_its_work(
    lab: Lab, mine: Callable[..., str]
) -> None:
    before = (await lab.get("/elasticity"))["config"]
    asked = asyncio.create_task(lab.patch("/elasticity", {"policy": mine("time.sleep(60)")}, status=400))
    longest = 0.0
    while not asked.done():
        begun = time.monotonic()
        await lab.get("/status")
        longest = max(longest, time.monotonic() - begun)
        await asyncio.sleep(0.05)
    assert HANGS.startswith((await asked)["error"]) and longest < 2.0
    assert (await lab.get("/elasticity"))["config"] == before


async def test_one_that_is_taken_is_made_for_trial_and_for_use(
    lab: Lab, mine: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = tmp_path_factory.mktemp("made") / "by"
    note = f"def note():\n    with open({str(made)!r}, 'a') as log:\n        log.write(f'{{os.getpid()}} ')"
    await lab.patch("/elasticity", {"policy": mine(note, "note()"), "settings": {"most": 5}})
    trial, use = map(int, made.read_text().split())
    assert trial != use == os.getpid()
