"""finsy's own client, with the project's program."""

from __future__ import annotations

import asyncio
from typing import Any

import finsy as fy
import pytest

from p4src import P4BLOB, P4INFO

OPTIONS = fy.SwitchOptions(p4info=P4INFO, p4blob=P4BLOB, device_id=1, fail_fast=True)


def flow(number: int, **action: int) -> fy.P4TableEntry:
    match = fy.P4TableMatch(low_addr=1, high_addr=number, low_port=1, high_port=80, protocol=6)
    return fy.P4TableEntry("flow_v4", match=match, action=fy.P4TableAction("steer", **action), idle_timeout_ns=10**12)


async def test_tables(switch: Any) -> None:
    async with asyncio.timeout(20), fy.Switch("s", switch.address, OPTIONS) as client:
        assert client.is_primary
        entries = [flow(n, replica=n, suspend=0) for n in range(1, 101)]
        await client.insert(entries)
        read = [entry async for entry in client.read([fy.P4TableEntry("flow_v4")])]
        assert [entry.match["high_addr"] for entry in read if entry.match is not None] == list(range(1, 101))
        assert [entry.action.args["replica"] for entry in read if isinstance(entry.action, fy.P4TableAction)] == list(
            range(1, 101)
        )
        assert {entry.idle_timeout_ns for entry in read} == {10**12}
        await client.modify([flow(5, replica=6, suspend=1)])
        (one,) = [entry async for entry in client.read([flow(5)])]
        assert isinstance(one.action, fy.P4TableAction) and one.action.args == {"replica": 6, "suspend": 1}
        await client.delete([flow(n) for n in range(1, 101)])
        assert [entry async for entry in client.read([fy.P4TableEntry("flow_v4")])] == []


async def test_errors_have_their_questions(switch: Any) -> None:
    async with asyncio.timeout(20), fy.Switch("s", switch.address, OPTIONS) as client:
        await client.insert([flow(1, replica=1, suspend=0)])
        with pytest.raises(fy.P4ClientError) as caught:
            await client.insert([flow(1, replica=1, suspend=0), flow(2, replica=1, suspend=0)])
        assert [(key, error.canonical_code) for key, error in caught.value.details.items()] == [
            (0, fy.GRPCStatusCode.ALREADY_EXISTS)
        ]
        with pytest.raises(fy.P4ClientError) as caught:
            await client.delete([flow(9)])
        assert caught.value.is_not_found_only
        await client.delete([flow(9)], warn_only=True)


async def test_packets_and_clone_session(switch: Any) -> None:
    async with asyncio.timeout(20), fy.Switch("s", switch.address, OPTIONS) as client:
        await client.insert([fy.P4CloneSessionEntry(session_id=1, replicas=[510])])
        (session,) = [item async for item in client.read([fy.P4CloneSessionEntry()])]
        assert isinstance(session, fy.P4CloneSessionEntry) and session.session_id == 1
        packets = client.read_packets()
        reader = asyncio.ensure_future(anext(packets))
        await asyncio.sleep(0)  # the reader's queue is there once it has begun to wait
        loop = fy.P4PacketOut(bytes(60), egress_port=0, _pad=0, kind=4, epoch=7, sequence=9)
        await client.write([loop])
        packet = await reader
        assert (packet["reason"], packet["ingress_port"]) == (3, 510)
        assert packet.payload[12:24] == bytes.fromhex("88b5 04 00 00000007 00000009")


async def test_backup_takes_over_when_the_primary_leaves(switch: Any) -> None:
    async with asyncio.timeout(20):
        async with fy.Switch("a", switch.address, OPTIONS(initial_election_id=10)) as first:
            second = fy.Switch("b", switch.address, OPTIONS(initial_election_id=9, p4blob=None))
            async with second:
                assert first.is_primary and not second.is_primary
