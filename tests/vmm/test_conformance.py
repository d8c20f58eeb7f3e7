"""What every VMM agent does, whatever its replicas are made of: one suite."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from middleboxes.forward import FlowCount
from splitmerge import messages as m
from splitmerge.flowkey import FlowKey
from tests.vmm.rig import SLOTS, Rig, peer_address, processes, rig, stage_at

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="module")]
MB, CLIENT = bytes.fromhex("0200000000fe"), bytes.fromhex("020000000102")


def frame(port: int) -> bytes:
    """UDP from the client to the server, this source port; checksums are not the middlebox's affair."""
    udp = struct.pack("!HHHH", port, 7, 12, 0) + b"ping"
    ip = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes([10, 0, 1, 2]), bytes([10, 0, 2, 2])
    )
    return MB + CLIENT + b"\x08\x00" + ip + udp + bytes(18)


@pytest.fixture(params=["process", "vm"], scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def image(kind: str, request: pytest.FixtureRequest) -> Path | None:
    request.getfixturevalue("namespaces")
    return request.getfixturevalue("vm_image") if kind == "vm" else None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agent(kind: str, image: Path | None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """One for all tests, since a machine takes its time to boot; so every replica has a number of its own."""
    async with rig(kind, tmp_path_factory.mktemp("s"), image) as the:
        yield the


async def export(the: Rig, replica: int, port: int, epoch: int) -> FlowCount:
    """Move a flow from a replica to the test; its state."""
    key = FlowKey.from_frame(frame(port))
    assert key is not None
    scope = m.Scope(keys=(bytes(key),))
    address = peer_address(the.kind, the.directory)
    the.control.replica(replica, m.Export(epoch=epoch, scope=scope, target=900, address=address, deadline=5.0))
    stage = await the.control.expect(m.Stage, "peer", replica)
    exported = await the.control.expect(m.Exported, "replica", replica)
    assert exported.staged == 1 and [flow.key for flow in stage.flows] == [bytes(key)]
    the.control.replica(replica, m.Release(epoch=epoch, scope=scope))
    await the.control.expect(m.Released, "replica", replica)
    the.stage = stage  # type: ignore[attr-defined]
    return msgspec.msgpack.decode(stage.flows[0].state, type=FlowCount)


async def test_a_replicas_life(agent: Rig) -> None:
    """Created, ready, serves, gives a flow away with its state, takes it back, is destroyed."""
    control = agent.control
    control.agent(m.CreateReplica(request=1, replica=1, slot=1))
    created = await control.expect(m.ReplicaCreated, "agent", 1)
    hello = await control.expect(m.Hello, "replica", 1)
    assert created.pid in {pid for pid, _ in processes()} and hello.address

    for _ in range(3):
        assert await agent.serve(1, frame(4000))
    assert (await export(agent, 1, 4000, epoch=5)).packets == 3
    kept: m.Stage = agent.stage  # type: ignore[attr-defined]

    back = m.Stage(epoch=6, source=900, part=0, parts=1, flows=kept.flows)
    assert await stage_at(agent, hello.address, back) == m.Staged(epoch=6, part=0)
    scope = m.Scope(keys=tuple(flow.key for flow in kept.flows))
    control.replica(1, m.Commit(epoch=6, scope=scope, hold=False))
    assert (await control.expect(m.Committed, "replica", 1)).flows == 1
    await agent.serve(1, frame(4000))
    assert (await export(agent, 1, 4000, epoch=7)).packets == 4, "its state went away and came back"

    gone = await control.destroy(1)
    assert gone.status == "exit 0"
    control.agent(m.DestroyReplica(request=9, replica=1))
    assert (await control.expect(m.ReplicaGone, "agent", 1)).status == "exit 0", "asked again, it says the same"
    control.agent(m.CreateReplica(request=9, replica=1, slot=1))
    assert "has ended" in (await control.expect(m.AgentError, "agent")).reason


async def test_where_kvm_fails_machines_are_emulated_and_the_log_says_why(agent: Rig) -> None:
    if agent.kind == "vm":
        said = (agent.directory / "agent.log").read_text()
        assert "software emulation it is: " in said and "machines run on QEMU's software emulation" in said


async def test_deaths_and_hangs(agent: Rig) -> None:
    """A death is told of at once; a replica that hangs is ended by force at its deadline; slots are used again."""
    control = agent.control
    died = await control.create(21, 1)
    hangs = await control.create(22, 2)
    os.kill(died.pid, signal.SIGKILL)
    assert (await control.expect(m.ReplicaGone, "agent", 21)).status in ("signal SIGKILL", "the machine is gone")
    os.kill(hangs.pid, signal.SIGSTOP)
    started = asyncio.get_running_loop().time()
    gone = await control.destroy(22, deadline=1.0)
    assert gone.status == "signal SIGKILL" and asyncio.get_running_loop().time() - started >= 1.0
    assert not {died.pid, hangs.pid} & {pid for pid, _ in processes()}
    await control.create(23, 1)
    assert await agent.serve(1, frame(4001))
    await control.destroy(23)


async def test_ten_at_once_and_created_while_others_end(agent: Rig) -> None:
    control, ten = agent.control, {slot: 30 + slot for slot in range(1, SLOTS + 1)}
    for slot, number in ten.items():
        control.agent(m.CreateReplica(request=number, replica=number, slot=slot))
    for slot, number in ten.items():
        await control.expect(m.ReplicaCreated, "agent", number)
        await control.expect(m.Hello, "replica", number)
        assert await agent.serve(slot, frame(4100 + number))
    # Its slot is not free before it has ended: the new one is refused, and not made half.
    control.agent(
        m.DestroyReplica(request=51, replica=ten[1], deadline=60.0), m.CreateReplica(request=52, replica=52, slot=1)
    )
    assert f"slot 1 has replica {ten[1]}" in (await control.expect(m.AgentError, "agent")).reason
    assert (await control.expect(m.ReplicaGone, "agent", ten[1])).status == "exit 0"
    # Destroyed before it is made: it ends, and its slot is free.
    control.agent(
        m.CreateReplica(request=53, replica=53, slot=1), m.DestroyReplica(request=54, replica=53, deadline=60.0)
    )
    await control.expect(m.ReplicaGone, "agent", 53)
    await control.create(54, 1)
    left = [*list(ten.values())[1:], 54]
    for number in left:
        control.agent(m.DestroyReplica(request=100 + number, replica=number, deadline=60.0))
    for number in left:
        assert (await control.expect(m.ReplicaGone, "agent", number)).status == "exit 0"


async def test_an_agent_that_crashes_takes_all_along_and_the_next_one_starts_clean(agent: Rig) -> None:
    control = agent.control
    created = await control.create(71, 1)
    agent.process.kill()
    await agent.process.wait()
    async with asyncio.timeout(60):  # of machines nothing at all is left; of processes a socket, for the next agent
        while created.pid in {pid for pid, _ in processes()} or [  # noqa: ASYNC110 - not ours: nobody tells
            each for each in agent.leftovers() if not each.endswith("replica-71.sock")
        ]:
            await asyncio.sleep(0.02)
    await agent.again()
    assert (await control.destroy(71)).status == "its agent does not know it"
    await control.create(72, 1)
    assert await agent.serve(1, frame(4002))
    agent.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(agent.process.wait(), 60) == 0
    assert agent.leftovers() == []
