"""Attack after attack, on schedule: the HTTP load of the paper's §5.1.

    python -m traffic.attacks --server 10.0.2.2 --clients 30 --rate 50 --duration 120 --json

An attack is a connection with ``--length`` consecutive POST requests that each carry an SQL injection; a client makes
one after the other. Attacks are due at fixed times, whatever became of the one before: a client that only waited for a
slow network would hide how much of its load the network carries. An attack that is not over ``--grace`` seconds after
its last request was due is given up. Unlike `traffic.http_client`, a connection here is one attack, and breaking is a
result and no error.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import sys
import time
from dataclasses import dataclass, field
from urllib.parse import quote_plus

import msgspec

from splitmerge.flowkey import TCP, FlowKey
from traffic import command
from traffic.errors import TrafficInput
from traffic.payloads import INJECTIONS

_HEAD_END = b"\r\n\r\n"


class Attack(msgspec.Struct, frozen=True, kw_only=True):
    """One attack; times as CLOCK_MONOTONIC in seconds."""

    client: int
    flow: str
    """Its flow key; empty if it was never connected."""
    due: float
    """When its last request was due to have been sent."""
    requests: int
    """Requests that were sent."""
    answered: int
    problem: str = ""
    """Why it is not whole; empty if it is."""


class AttacksReport(msgspec.Struct, frozen=True, kw_only=True):
    """All attacks, in the order of their ends."""

    started: float
    attacks: list[Attack]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackOptions:
    """One run; rate in requests a second a client, times in seconds."""

    server: str
    port: int = 80
    clients: int = 30
    rate: float = 50.0
    length: int = 31
    grace: float = 2.0
    seed: int = 1
    seconds: float = 120.0
    """Attacks that would not be over by then are not begun."""
    at: float = 0.0
    """CLOCK_MONOTONIC of the start; 0: at once."""

    def __post_init__(self) -> None:
        if self.clients < 1 or self.length < 1 or not self.rate > 0 or not self.grace > 0 or not self.seconds > 0:
            raise TrafficInput("attacks", "clients, length, rate, grace or seconds", "each more than 0")

    @property
    def attack_seconds(self) -> float:
        """From an attack's beginning to its last request."""
        return self.length / self.rate


@dataclass(slots=True)
class _Progress:
    """An attack while it lasts."""

    flow: str = ""
    requests: int = 0
    answered: int = 0
    streams: list[asyncio.StreamWriter] = field(default_factory=list)


async def run(options: AttackOptions, control: command.Control) -> AttacksReport:
    """Say ready, wait for the start, attack until the end or until told to stop; attacks under way are finished."""
    control.ready(options.server, options.port)
    await control.stop_within(options.at - time.monotonic() if options.at else 0.0)
    started = time.monotonic()
    attacks: list[Attack] = []
    async with asyncio.TaskGroup() as group:
        for client in range(options.clients):
            group.create_task(_client(client, options, control, started, attacks), name=f"client {client}")
    return AttacksReport(started=started, attacks=attacks)


async def _client(
    client: int, options: AttackOptions, control: command.Control, started: float, attacks: list[Attack]
) -> None:
    """One client's attacks; clients are spread evenly over the length of an attack."""
    each = options.attack_seconds
    begin = started + client / options.clients * each
    number = 0
    async with asyncio.TaskGroup() as group:
        while begin + each <= started + options.seconds:
            if await control.stop_within(begin - time.monotonic()):
                return
            attack = _attack(client, number, begin, options, attacks)
            group.create_task(attack, name=f"attack {client}/{number}")
            number, begin = number + 1, begin + each


async def _attack(client: int, number: int, begin: float, options: AttackOptions, attacks: list[Attack]) -> None:
    progress, problem = _Progress(), ""
    due = begin + options.attack_seconds
    try:
        async with asyncio.timeout(max(due + options.grace - time.monotonic(), 0.0)):
            await _requests(progress, f"{options.seed}/{client}/{number}", begin, options)
    except TimeoutError:
        problem = "given up"
    except (OSError, EOFError, ValueError) as error:
        problem = f"{type(error).__name__} {error}".rstrip()
    finally:
        for writer in progress.streams:  # what is not whole is broken off: nothing of it is to be sent later
            writer.close() if not problem else writer.transport.abort()
    attacks.append(
        Attack(
            client=client, flow=progress.flow, due=due, requests=progress.requests, answered=progress.answered,
            problem=problem,
        )
    )  # fmt: skip


async def _requests(progress: _Progress, identity: str, begin: float, options: AttackOptions) -> None:
    rng = random.Random(identity)
    reader, writer = await asyncio.open_connection(options.server, options.port)
    progress.streams.append(writer)
    here, there = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
    progress.flow = str(FlowKey.of(TCP, socket.inet_aton(here[0]), here[1], socket.inet_aton(there[0]), there[1]))
    for number in range(options.length):
        await asyncio.sleep(max(begin + (number + 1) / options.rate - time.monotonic(), 0.0))
        writer.write(_post(f"{identity}/{number}", rng.choice(INJECTIONS), options.server))
        progress.requests += 1
        await writer.drain()
        head = await reader.readuntil(_HEAD_END)
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
        progress.answered += 1


def _post(identity: str, value: str, host: str) -> bytes:
    body = f"user={quote_plus(identity)}&comment={quote_plus(value)}".encode()
    head = (
        f"POST /comment HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: {identity}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _main(options: argparse.Namespace, control: command.Control) -> AttacksReport:
    return await run(command.options_of(AttackOptions, options), control)


def main() -> int:
    """The command."""
    parser = command.parser("attacks", "attack after attack, on schedule")
    parser.add_argument("--server", required=True, metavar="ADDRESS")
    parser.add_argument("--port", type=int, default=80)
    parser.add_argument("--clients", type=int, default=30, metavar="N")
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second of each client")
    parser.add_argument("--length", type=int, default=31, help="requests of an attack")
    parser.add_argument("--grace", type=float, default=2.0, help="seconds after which a late attack is given up")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long attacks are made")
    parser.add_argument("--at", type=float, default=0.0, help="begin at this time of CLOCK_MONOTONIC (default: now)")
    return command.run(_main, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
