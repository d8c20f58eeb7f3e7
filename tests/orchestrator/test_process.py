"""The orchestrator's process: what it loads before its moves go on, and when its API comes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import uvicorn

from orchestrator import process
from orchestrator.rest import serving
from orchestrator.service import Orchestrator
from splitmerge.client import OrchestratorClient
from tests.orchestrator.lab import FLOWS, WITHIN, Lab, until_listens

LATER = ("fastapi", "pydantic", "uvicorn", "prometheus_client", "guestlib")
"""What no move needs, and takes more than half as long to load as all else."""


def test_a_new_process_loads_first_what_moves_need() -> None:
    """While it loads, packets of suspended flows have nowhere to go."""
    text = f"import sys, orchestrator.process; print([each for each in {LATER} if each in sys.modules])"
    out = subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True, timeout=60)
    assert out.stdout.strip() == "[]"


async def killed_in_a_move(lab: Lab) -> None:
    async with lab.up():
        lab.give_flows(1, FLOWS[:1])
        await lab.post("/scale-out", {"rebalance": False})
        lab.tables.stuck = "redirect"
        await lab.post("/moves", {"keys": [str(FLOWS[0])], "target": 2, "wait": False})
        await lab.until(lambda: "redirect" in lab.tables.calls)
    lab.tables.stuck = "suspend"


async def test_the_api_comes_behind_the_moves_that_an_earlier_process_left(
    make_lab: Callable[..., Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "API_WAITS", WITHIN)
    lab = make_lab()
    await killed_in_a_move(lab)
    async with lab.up(wait=False):
        task = asyncio.create_task(process._api(lab.orchestrator, tmp_path / "api.sock"))
        await lab.until(lambda: lab.tables.calls[-1] == "suspend")
        await asyncio.sleep(0.2)
        assert not (tmp_path / "api.sock").exists()
        lab.tables.go_on()
        await lab.until(lambda: (tmp_path / "api.sock").exists())
        assert not lab.orchestrator.mover.running()
        task.cancel()
        await asyncio.wait([task])


async def test_the_api_does_not_wait_for_long(
    make_lab: Callable[..., Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A switch that is away holds moves up for as long as it is: somebody will want to know."""
    monkeypatch.setattr(process, "API_WAITS", 0.1)
    lab = make_lab()
    await killed_in_a_move(lab)
    async with lab.up(wait=False):
        task = asyncio.create_task(process._api(lab.orchestrator, tmp_path / "api.sock"))
        await until_listens(tmp_path / "api.sock")
        with OrchestratorClient(tmp_path / "api.sock") as client:
            moves = await asyncio.to_thread(client.get, "/moves")
        assert [move["step"] for move in moves] == ["redirecting"] and lab.orchestrator.mover.running()
        lab.tables.go_on()
        task.cancel()
        await asyncio.wait([task])


async def test_what_takes_long_is_done_in_a_thread_and_signals_stay_the_processs(
    make_lab: Callable[..., Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making the application loads more, and takes a quarter of a second: packets would wait for it."""
    made: list[tuple[threading.Thread, bool]] = []

    def make(orchestrator: Orchestrator) -> uvicorn.Server:
        server = make_server(orchestrator)
        made.append((threading.current_thread(), server.config.loaded))
        return server

    make_server = serving.make_server
    monkeypatch.setattr(serving, "make_server", make)
    lab = make_lab()
    async with lab.up():
        before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        task = asyncio.create_task(process._api(lab.orchestrator, tmp_path / "api.sock"))
        await until_listens(tmp_path / "api.sock")
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
        task.cancel()
        await asyncio.wait([task])
    ((thread, loaded),) = made
    assert thread is not threading.main_thread() and loaded
