"""Frames of every length: nothing at all, up to what Ethernet carries, and far beyond; on both back ends alike."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from p4switch.runtime import ActionCall
from p4switch.stf import parse_stf, run_stf
from p4switch.stf.commands import SendPacket
from tests.p4switch.native.namespace_run import KEY, frame
from tests.p4switch.native.test_oracle import NAMES, OURS, PROGRAMS, Twins

pytest.importorskip("llvmlite")
MTU_FRAME = 1518
BEYOND = (1519, 1600, 2047, 2048, 4096, 9018, 16_384, 65_535)
HEADERS = frame(0)[:42]
"""Ethernet, IPv4 and UDP."""
PORTS_END = 14 + 20 + 4


def frames(starts: list[bytes]) -> Iterator[bytes]:
    """One of each length, in turn from these starts, filled up with noise."""
    noise = random.Random(1).randbytes(max(BEYOND))
    for number, length in enumerate((*range(MTU_FRAME + 1), *BEYOND)):
        start = starts[number % len(starts)]
        yield (start + noise[len(start) :])[:length]


@pytest.mark.parametrize("name", NAMES)
def test_every_length_through_each_program(name: str) -> None:
    twins = Twins(PROGRAMS / f"{name}.json")
    commands = parse_stf((PROGRAMS / f"{name}.stf").read_text())
    for device in (twins.native, twins.oracle):
        run_stf(device, commands)  # entries, so that much is looked up and found
    twins.native.state.digests.take(), twins.oracle.state.digests.take()
    starts = [command.frame for command in commands if isinstance(command, SendPacket)] or [HEADERS]
    for data in frames(starts):
        twins.send(1, data)
    twins.compare()


def test_every_length_through_the_projects_program() -> None:
    twins = Twins(OURS)
    prefix = "SplitmergeIngress."
    for table, match, action, *args in (
        ("port_roles.port_role", (1,), "port_roles.set_host"),
        ("replicas.replica", (7,), "replicas.to_replica", 2),
        ("flow.flow_v4", KEY, "flow.steer", 7, 0),
    ):
        twins.change(f"tables/:{prefix}{table}/insert", match, ActionCall(prefix + action, tuple(args)))
    sent = 0
    for data in frames([HEADERS]):
        twins.send(1, data)
        sent += 1
    twins.compare()
    flow = next(iter(twins.native.state.tables[f"{prefix}flow.flow_v4"].entries()))
    assert flow.packets == sent - PORTS_END, "all that hold the UDP ports belong to the flow"
