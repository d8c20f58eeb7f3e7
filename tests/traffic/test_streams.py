"""Streams over loopback: schedule, orders, bins; and attacks on a real server."""

from __future__ import annotations

import asyncio
import json
import time

import msgspec
import pytest

from tests.traffic.test_loopback import DEADLINE, running
from traffic.attacks import AttackOptions, AttacksReport
from traffic.errors import TrafficInput
from traffic.streams import _WIRE, HEADER, Received, SendOptions, Sent, _Receiver, account
from traffic.udp import until_quiet


async def ended(process, kind, line: bytes = b""):
    if process.stdin is not None:
        process.stdin.write(line)
    out, problem = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert process.returncode == 0, problem
    return msgspec.json.decode(out, type=kind)


async def test_flows_begin_one_after_the_other_and_end_when_told() -> None:
    async with running("streams", "receive", "--port", "0", "--bin", "0.1") as (receiver, port):
        words = ("--server", "127.0.0.1", "--port", str(port), "--flows", "3", "--rate", "100", "--first-port", "31000")
        send = ("streams", "send", *words, "--every", "0.2", "--orders")
        async with running(*send, stdin=asyncio.subprocess.PIPE) as (sender, first_port):
            assert first_port == 31_000
            sent = await ended(sender, Sent, json.dumps([[0, 0.3], [1, 0.5], [2, 0.7]]).encode() + b"\n")
            lasted = time.monotonic() - sent.started
        receiver.terminate()
        received = await ended(receiver, Received)
    tally = account(sent, received)
    assert (tally.lost, tally.duplicated, tally.reordered, received.kernel_drops) == (0, 0, 0, 0)
    # Each lasts 0.3 s, and as much longer as the line took to come; 0.4 s are between the first end and the last.
    assert min(sent.sent) >= 29 and max(sent.sent) <= min(min(sent.sent) + 2, (lasted - 0.4) * 100 + 1), sent.sent
    assert sum(each.packets for each in received.bins) == tally.sent
    assert all(each.at >= sent.started - 0.1 for each in received.bins)


def test_a_bin_has_mean_and_largest_latency_of_what_came_in_it() -> None:
    side = _Receiver(0.5)
    for number, (clock, now) in enumerate([(0, 1_000_000), (0, 3_000_000), (500_000_000, 502_000_000)], 1):
        side.take(_WIRE.pack(b"SMst", 7, number, clock) + bytes(10), now)
    side.take(b"something else", 1)
    report = side.report(0)
    assert [tuple(msgspec.structs.astuple(each)) for each in report.bins] == [
        (0.0, 2, 2 * (HEADER + 10), 2.0, 3.0),
        (0.5, 1, HEADER + 10, 2.0, 2.0),
    ]
    assert report.flows[7].unique == 3 and report.malformed == 1


async def test_a_receiver_that_gets_no_turn_does_not_take_that_for_silence() -> None:
    """What waits in its socket by then is not lost."""
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(until_quiet(lambda: 0.0, 0.2, 60.0))
    await asyncio.sleep(0)
    loop.call_soon(time.sleep, 0.5)
    for _ in range(4):  # the sockets are read in each of them
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, DEADLINE)


@pytest.mark.parametrize(
    "wrong", [{"flows": 0}, {"rate": 0.0}, {"size": HEADER - 1}, {"every": -1.0}, {"first_port": 65_536}]
)
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(TrafficInput):
        SendOptions(server="127.0.0.1", port=1, **wrong)


async def test_every_attack_is_whole_and_on_time() -> None:
    async with running("http_server", "--port", "0") as (server, port):
        words = ("--clients", "2", "--rate", "100", "--length", "5", "--seconds", "0.31", "--grace", "5")
        async with running("attacks", "--server", "127.0.0.1", "--port", str(port), *words) as (client, _):
            report = await ended(client, AttacksReport)
        server.terminate()
        served = json.loads((await asyncio.wait_for(server.communicate(), DEADLINE))[0])
    # Each client has 0.31 s, the second one begins half an attack later: six and five attacks of 0.05 s.
    assert [sum(each.client == client for each in report.attacks) for client in (0, 1)] == [6, 5]
    assert all(each.answered == each.requests == 5 and each.flow and not each.problem for each in report.attacks)
    assert served["requests"] == 55
    first = min(each.due for each in report.attacks)
    assert first == pytest.approx(report.started + 0.05, abs=1e-6)


async def test_an_attack_that_nobody_answers_is_given_up() -> None:
    silent = await asyncio.start_server(lambda reader, writer: asyncio.sleep(5), "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        words = ("--clients", "1", "--rate", "50", "--length", "2", "--seconds", "0.05", "--grace", "1")
        before = time.monotonic()
        async with running("attacks", "--server", "127.0.0.1", "--port", str(port), *words) as (client, _):
            (attack,) = (await ended(client, AttacksReport)).attacks
        assert (attack.requests, attack.answered, attack.problem) == (1, 0, "given up")
        assert time.monotonic() - before < DEADLINE / 2


def test_attacks_without_clients_are_refused() -> None:
    with pytest.raises(TrafficInput):
        AttackOptions(server="127.0.0.1", clients=0)
