"""Fixtures: the whole orchestrator in one process (`tests.orchestrator.lab`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.orchestrator.lab import Agent, Lab, Tables


@pytest.fixture
async def make_lab(tmp_path: Path) -> AsyncIterator[Callable[..., Lab]]:
    ends: list[Callable[[], Awaitable[None]]] = []

    def make(**settings: Any) -> Lab:
        agent = Agent(tmp_path, f"unix:{tmp_path}/control.sock")
        task = asyncio.create_task(agent.run())

        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])
            await agent.end()

        ends.append(end)
        tables = Tables()
        tables.peers = agent.peers
        return Lab(tmp_path, tables, agent, settings)

    yield make
    for end in ends:
        await end()


@pytest.fixture
async def lab(make_lab: Callable[..., Lab]) -> AsyncIterator[Lab]:
    made = make_lab()
    async with made.up():
        yield made


@pytest.fixture
async def three(lab: Lab) -> Lab:
    """Three replicas; the first has all buckets."""
    for _ in range(2):
        await lab.post("/scale-out", {"rebalance": False})
    return lab
