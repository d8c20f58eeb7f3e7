"""BMv2's queues are deepened by a program of its own, which may hang."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.topo.conftest import Put
from topo import switches

CLIENT = "simple_switch_CLI"


def state(pid: int) -> str:
    """As in proc(5): Z is one that has ended, and whose parent has not looked yet; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.parametrize("sleep", ["exec sleep 60", "sleep 60 & echo $! > {}/pid; wait"], ids=["itself", "its child"])
async def test_a_program_that_hangs_is_ended_and_the_queues_are_not_deep_yet(
    tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch, sleep: str
) -> None:
    put(CLIENT, f"echo $$ > {tmp_path}/pid\n{sleep.format(tmp_path)}")
    monkeypatch.setattr(switches, "CLI_WITHIN", 2.0)
    try:
        assert await switches._deepen_queues(9090) is False
        assert await within(5.0, lambda: state(int((tmp_path / "pid").read_text())) in ("", "Z"))
    finally:
        with suppress(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


async def test_a_program_that_hangs_is_ended_with_the_lab(tmp_path: Path, put: Put) -> None:
    put(CLIENT, f"echo $$ > {tmp_path}/pid\nexec sleep 60")
    deepens = asyncio.create_task(switches._deepen_queues(9090))
    assert await within(5.0, lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    deepens.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deepens
    assert state(int((tmp_path / "pid").read_text())) == "", "it has been waited for, too"


@pytest.mark.parametrize(
    ("script", "deep"),
    [
        ('read said; test "$1 $2 $said" = "--thrift-port 9091 set_queue_depth 16384"', True),
        ("exit 1", False),
        ("cat > /dev/null; echo Could not connect to thrift client", False),
    ],
    ids=["it does", "it fails", "too early"],
)
async def test_the_queues_are_deep_when_the_program_says_so(put: Put, script: str, deep: bool) -> None:
    put(CLIENT, script)
    assert await switches._deepen_queues(9091) is deep


async def within(seconds: float, true: Callable[[], object]) -> bool:
    """Whether it is true by then."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not true() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.02)
    return bool(true())
