"""`splitmerge scale-in --drain` against a served orchestrator: what it says while flows end; whose its socket is."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.rest.serving import make_server, serve_api
from splitmerge.cli import scaling
from splitmerge.client import OrchestratorClient
from splitmerge.errors import BadInput
from splitmerge.flowkey import UDP, FlowKey
from tests.orchestrator.lab import WITHIN, Lab, until_listens

FLOWS = [FlowKey.of(UDP, bytes((10, 0, 1, 2)), 4000 + number, bytes((10, 0, 2, 2)), 9) for number in range(4)]


async def served(lab: Lab, path: Path) -> asyncio.Task[None]:
    task = asyncio.create_task(serve_api(make_server(lab.orchestrator), path))
    await until_listens(path)
    return task


async def test_the_rest_api_is_its_owners_alone_and_replaces_a_socket_that_was_left(lab: Lab, tmp_path: Path) -> None:
    for _ in range(2):
        task = await served(lab, tmp_path / "api.sock")
        assert stat.S_IMODE((tmp_path / "api.sock").stat().st_mode) == 0o600
        with OrchestratorClient(tmp_path / "api.sock") as client:
            assert (await asyncio.to_thread(client.get, "/status"))["ready"]
        task.cancel()
        await asyncio.wait([task])


async def test_a_drain_says_how_many_flows_are_left_until_there_are_none(
    make_lab: Callable[..., Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scaling, "LOOK", 0.05)
    lab = make_lab(assignment="round-robin")
    async with lab.up():
        await lab.post("/scale-out")
        for key in FLOWS:
            lab.orchestrator.assigner.announced(key)
        await lab.until(lambda: len(lab.tables.flows) == len(FLOWS))
        mine = [key for key in FLOWS if lab.tables.flows[key] == 2]
        lab.give_flows(2, mine)
        await lab.until(lambda: lab.orchestrator.fleet.replicas[2].flows == len(mine))
        task = await served(lab, tmp_path / "api.sock")
        with OrchestratorClient(tmp_path / "api.sock", WITHIN) as client:
            work = asyncio.create_task(asyncio.to_thread(scaling._drained, client, {"replica": 2, "drain": True}))
            said = ""
            async with asyncio.timeout(WITHIN):
                while f"replica 2: {len(mine)} flows left" not in said:
                    await asyncio.sleep(0.02)
                    said += capsys.readouterr().err
            for key in mine:
                lab.agent.peers[2].guest.delete_flow(key)
            assert (await asyncio.wait_for(work, WITHIN))["removed"] == 2
        task.cancel()
        await asyncio.wait([task])


async def test_a_drain_that_cannot_be_is_refused_as_it_is_asked_for(lab: Lab, tmp_path: Path) -> None:
    await lab.post("/scale-out")
    task = await served(lab, tmp_path / "api.sock")
    with OrchestratorClient(tmp_path / "api.sock", WITHIN) as client:
        for wait in (True, False):
            with pytest.raises(BadInput, match=r"new flows of its buckets.*least-loaded"):
                await asyncio.to_thread(scaling._drained, client, {"drain": True, "wait": wait})
    task.cancel()
    await asyncio.wait([task])
