"""The standalone mode, as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import pytest

from p4rt_controller.__main__ import main
from topo.processes import tcp_listens

MAC = "02:00:00:00:00:fe"


@pytest.mark.timeout(120)  # the switch compiles the program, on however busy a machine
async def test_it_programs_the_switch_and_prints_events(switch):
    host, port = switch.grpc.split(":")
    async with asyncio.timeout(40):
        while not await tcp_listens(host, int(port)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "p4rt_controller", "static", "--address", switch.grpc, "--host", "1", "--host", "2",
        "--replica", "7=11", "--route", f"10.0.2.0/24=2,{MAC},02:00:00:00:02:02", "--answer", f"10.0.1.1={MAC}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(40):
            line = await process.stdout.readline()
        assert json.loads(line) == {
            "event": "SwitchReady", "pipeline_loaded": True, "inserted": 6, "modified": 0, "deleted": 0,
        }  # fmt: skip
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--replica", "7"], ["--replica", "x=1"], ["--route", "10.0.0.0/8=1"], ["--answer", "10.0.0.1"],
        ["--host", "700"], ["--route", f"10.0.0.0/8=x,{MAC},{MAC}"], ["--p4info", "nowhere"], ["--replica", "0=3"],
        ["--punt", "eth0"], ["--punt", "eth0=510"], ["--host", "5", "--punt", "eth0=5"],
    ],
)  # fmt: skip
def test_wrong_arguments_say_where(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(["static", *arguments]) == 2
    assert capsys.readouterr().err
