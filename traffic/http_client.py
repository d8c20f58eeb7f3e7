"""HTTP clients with a known number of SQL injections: `python -m traffic.http_client --server 10.0.2.2 --json`.

Each of N persistent connections is one flow. It sends the requests of its `Plan` at a rate, one at a time, and compares
each answer with what it sent. A connection that breaks is an error and is not made again: its flow is over.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import time
import zlib
from dataclasses import dataclass, field

import msgspec

from splitmerge.flowkey import TCP, FlowKey
from traffic import command
from traffic.errors import TrafficError, TrafficInput
from traffic.http_server import Answer
from traffic.payloads import Plan, Planned, plans
from traffic.summary import Latency, latency

CONNECT_AGAIN = 0.1
"""Seconds until a refused connection is tried again."""
_ANSWER = msgspec.json.Decoder(Answer)


class FlowReport(msgspec.Struct, frozen=True, kw_only=True):
    """One connection."""

    flow: str
    """Its flow key, as `FlowKey.parse` reads it; empty if it was never connected."""
    requests: int
    responses: int
    injections: int
    """Injections among the requests sent."""
    error: str = ""


class ClientReport(msgspec.Struct, frozen=True, kw_only=True):
    """All connections. Counts are of requests sent whole."""

    requests: int
    responses: int
    errors: int
    """Connections that broke, answers that did not come in time or did not match."""
    injections_sent: int
    threshold: int
    alerts_expected: int
    """Flows with more than ``threshold`` injections."""
    seconds: float
    latency_ms: Latency
    flows: list[FlowReport]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """One run. ``requests`` 0: until told to stop. Times in seconds, ``rate`` in requests a second a connection."""

    server: str
    port: int = 80
    connections: int = 30
    rate: float = 50.0
    requests: int = 0
    seed: int = 1
    attackers: int = 10
    attack_length: int = 31
    attack_within: int = 50
    strays: float = 0.0
    threshold: int = 30
    timeout: float = 10.0

    def __post_init__(self) -> None:
        for name in ("connections", "rate", "timeout"):
            if not getattr(self, name) > 0:
                raise TrafficInput(f"--{name}", f"{getattr(self, name)}", "more than 0")
        for name in ("requests", "attackers", "attack_length", "attack_within", "threshold"):
            if getattr(self, name) < 0:
                raise TrafficInput(f"--{name.replace('_', '-')}", f"{getattr(self, name)}", "0 or more")
        if not 0 <= self.strays <= 1:
            raise TrafficInput("--strays", f"{self.strays}", "a share, 0 to 1")


@dataclass(slots=True)
class _Flow:
    """One connection while it lasts."""

    plan: Plan
    key: str = ""
    requests: int = 0
    responses: int = 0
    injections: int = 0
    error: str = ""
    seconds: list[float] = field(default_factory=list)
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    limit: asyncio.Timeout | None = None
    """Of the request under way."""

    def report(self) -> FlowReport:
        return FlowReport(
            flow=self.key,
            requests=self.requests,
            responses=self.responses,
            injections=self.injections,
            error=self.error,
        )


class _Mismatch(TrafficError):
    """The answer is not the request's."""


async def run(options: ClientOptions, control: command.Control) -> ClientReport:
    """Connect, say ready, send until all is sent or told to stop, finish what is under way, report."""
    flows = [
        _Flow(plan)
        for plan in plans(
            seed=options.seed,
            flows=options.connections,
            attackers=options.attackers,
            attack_length=options.attack_length,
            attack_within=options.attack_within,
            strays=options.strays,
        )
    ]
    try:
        async with asyncio.TaskGroup() as group:
            for flow in flows:
                group.create_task(_connect(flow, options), name=f"connect {flow.plan.flow}")
        control.ready(options.server, options.port)
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(work(flows, control), name=work.__name__) for work in (_progress, _hurry)]
            await _drive_all(flows, options, control, started)
            for each in beside:
                each.cancel()
    finally:
        await asyncio.gather(*map(_close, flows))
    return _report(flows, options, time.monotonic() - started)


async def _drive_all(flows: list[_Flow], options: ClientOptions, control: command.Control, started: float) -> None:
    async with asyncio.TaskGroup() as group:
        for flow in flows:
            group.create_task(_drive(flow, options, control, started), name=f"flow {flow.plan.flow}")


async def _connect(flow: _Flow, options: ClientOptions) -> None:
    try:
        async with asyncio.timeout(options.timeout):
            flow.streams = await _open(options)
    except (OSError, TimeoutError) as error:
        flow.error = f"connect: {str(error) or f'nothing within {options.timeout:g} s'}"
        return
    writer = flow.streams[1]
    here, there = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
    flow.key = str(FlowKey.of(TCP, _packed(here[0]), here[1], _packed(there[0]), there[1]))


async def _open(options: ClientOptions) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection; a server that is only being started refuses at first, and is asked again until the timeout."""
    while True:
        try:
            return await asyncio.open_connection(options.server, options.port)
        except ConnectionRefusedError:
            await asyncio.sleep(CONNECT_AGAIN)


async def _drive(flow: _Flow, options: ClientOptions, control: command.Control, started: float) -> None:
    """Send the flow's requests on time; flows are spread evenly over the interval between two requests."""
    if flow.streams is None:
        return
    phase = flow.plan.flow / options.connections
    while not options.requests or flow.requests < options.requests:
        due = started + (flow.requests + phase) / options.rate
        if await control.stop_within(due - time.monotonic()):
            return
        try:
            async with asyncio.timeout(options.timeout) as flow.limit:
                await _exchange(flow, options.server, *flow.streams)
        except (OSError, TimeoutError, EOFError, ValueError, TrafficError) as error:
            flow.error = f"request {flow.requests}: {type(error).__name__} {error}".rstrip()
            return
        finally:
            flow.limit = None


async def _exchange(flow: _Flow, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    planned = flow.plan.request(flow.requests, host)
    before = time.monotonic()
    writer.write(planned.wire)
    flow.requests += 1
    flow.injections += planned.injection
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    _check(planned, head, await reader.readexactly(length))
    flow.seconds.append(time.monotonic() - before)
    flow.responses += 1


def _check(planned: Planned, head: bytes, body: bytes) -> None:
    answer = _ANSWER.decode(body)
    target = planned.wire.split(b" ", 2)[1]
    expected = Answer(planned.id, zlib.crc32(target + planned.body), len(planned.body))
    if answer != expected or not head.startswith(b"HTTP/1.1 200 "):
        raise _Mismatch(f"expected {expected}, got {answer}")


async def _close(flow: _Flow) -> None:
    if flow.streams is None:
        return
    writer = flow.streams[1]
    writer.close()
    try:
        async with asyncio.timeout(2.0):
            await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        flow.error = flow.error or f"close: {str(error) or 'timeout'}"


async def _hurry(flows: list[_Flow], control: command.Control) -> None:
    """Told to end twice, it waits for no answer any more: the network may be gone."""
    await control.hurried.wait()
    now = asyncio.get_running_loop().time()
    for flow in flows:
        if flow.limit is not None and not flow.limit.expired():
            flow.limit.reschedule(now)


async def _progress(flows: list[_Flow], control: command.Control) -> None:
    while not await control.stop_within(1.0):
        control.progress(f"{sum(flow.responses for flow in flows)} responses")


def _report(flows: list[_Flow], options: ClientOptions, seconds: float) -> ClientReport:
    return ClientReport(
        requests=sum(flow.requests for flow in flows),
        responses=sum(flow.responses for flow in flows),
        errors=sum(1 for flow in flows if flow.error),
        injections_sent=sum(flow.injections for flow in flows),
        threshold=options.threshold,
        alerts_expected=sum(1 for flow in flows if flow.injections > options.threshold),
        seconds=seconds,
        latency_ms=latency([sample for flow in flows for sample in flow.seconds]),
        flows=[flow.report() for flow in flows],
    )


def _failure(report: ClientReport) -> str:
    """Why not one answer came, though some were asked for; else empty."""
    errors = [flow.error for flow in report.flows if flow.error]
    return f"nothing was answered: {errors[0]}" if errors and not report.responses else ""


def _packed(address: str) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, address.partition("%")[0])


async def _main(options: argparse.Namespace, control: command.Control) -> ClientReport:
    return await run(command.options_of(ClientOptions, options), control)


def main() -> int:
    """The command."""
    parser = command.parser("http_client", "HTTP clients with a known number of SQL injections")
    parser.add_argument("--server", required=True, metavar="ADDRESS")
    parser.add_argument("--port", type=int, default=80)
    parser.add_argument("--connections", type=int, default=30, metavar="N")
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second on each connection")
    parser.add_argument("--requests", type=int, default=0, help="on each connection, then end (default: until stopped)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--attackers", type=int, default=10, help="connections that attack once")
    parser.add_argument("--attack-length", type=int, default=31, help="consecutive injections of an attack")
    parser.add_argument("--attack-within", type=int, default=50, help="an attack begins within so many requests")
    parser.add_argument("--strays", type=float, default=0.0, help="share of other requests that are injections")
    parser.add_argument("--threshold", type=int, default=30, help="the detector's sqli_thresh, for alerts_expected")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for an answer")
    return command.run(_main, parser.parse_args(), _failure)


if __name__ == "__main__":
    sys.exit(main())
