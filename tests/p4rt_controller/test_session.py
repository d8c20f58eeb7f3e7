"""The session's end, at whatever moment it comes."""

from __future__ import annotations

import asyncio

import pytest

from p4rt_controller import Controller, ControllerOptions
from p4rt_controller.session import Session
from p4src import P4BLOB, P4INFO


async def test_a_connection_that_breaks_as_the_controller_closes_is_the_last_one(monkeypatch: pytest.MonkeyPatch):
    """A task group that fails at the moment of a cancellation tells only of its failure (Python 3.11)."""
    connections: list[str] = []

    async def breaks(self: Session) -> str:
        connections.append("made")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if len(connections) > 1:
                raise
        return "the switch ended it"

    monkeypatch.setattr(Session, "_connect_once", breaks)
    options = ControllerOptions(address="127.0.0.1:1", p4info=P4INFO, p4blob=P4BLOB)
    async with asyncio.timeout(5), Controller(options, lambda event: None):
        while not connections:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert connections == ["made"]
