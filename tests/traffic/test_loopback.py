"""The commands, as processes, over loopback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from traffic import command, udp
from traffic.errors import TrafficInput
from traffic.http_client import ClientOptions
from traffic.udp_report import account

DEADLINE = 20.0


@asynccontextmanager
async def running(module: str, *arguments: str, stdin: int = asyncio.subprocess.DEVNULL):
    """A command that has said ready, and the port it said."""
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"traffic.{module}", "--json", f"--ready-fd={writer}", *arguments,
        pass_fds=(writer,), stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    os.close(writer)
    try:
        line = await asyncio.wait_for(asyncio.to_thread(os.read, reader, 200), DEADLINE)
        assert line.startswith(b"ready "), await process.stderr.read()
        yield process, int(line.rsplit(b":", 1)[1])
    finally:
        os.close(reader)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def result(process, stop: int = 0, status: int = 0, said: bytes = b""):
    if stop:
        process.send_signal(stop)
    out, errors = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert process.returncode == status and said in (errors or b""), errors
    return json.loads(out)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_http_counts_agree_on_both_sides(address):
    async with (
        running("http_server", "--bind", address, "--port", "0") as (server, port),
        running(
            "http_client", "--server", address, "--port", str(port), "--connections", "5", "--requests", "60",
            "--rate", "200", "--attackers", "2", "--attack-within", "20", "--seed", "9",
        ) as (client, _),
    ):  # fmt: skip
        ours = await result(client)
        theirs = await result(server, signal.SIGTERM)
    assert theirs == {"requests": 300, "connections": 5, "errors": 0}
    assert (ours["requests"], ours["responses"], ours["errors"]) == (300, 300, 0)
    assert (ours["injections_sent"], ours["alerts_expected"]) == (62, 2)
    assert len({flow["flow"] for flow in ours["flows"]}) == 5
    assert ours["latency_ms"]["samples"] == 300


async def test_http_client_stops_on_sigterm_with_nothing_under_way():
    async with (
        running("http_server", "--port", "0") as (server, port),
        running("http_client", "--server", "127.0.0.1", "--port", str(port), "--rate", "100") as (client, _),
    ):
        ours = await result(client, signal.SIGTERM)
        theirs = await result(server, signal.SIGINT)
    assert ours["requests"] == ours["responses"] == theirs["requests"]
    assert ours["errors"] == 0


async def test_http_client_told_to_end_twice_reports_though_an_answer_never_comes():
    """The lab's network is gone before its programs are told to end. Told once, it finishes what is under way."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    arguments = ("--server", "127.0.0.1", "--port", str(port), "--connections", "3", "--rate", "50")
    async with server, running("http_client", *arguments) as (client, _):
        await asyncio.sleep(0.3)
        client.terminate()
        await asyncio.sleep(0.3)
        assert client.returncode is None
        before = time.monotonic()
        report = await result(client, signal.SIGTERM, status=1)
    assert time.monotonic() - before < 2.5, "splitmerge waits for 3 s"
    assert (report["requests"], report["responses"], report["errors"]) == (3, 0, 3)
    assert all("TimeoutError" in flow["error"] for flow in report["flows"])


async def test_http_client_says_why_nothing_was_answered():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        async with running(
            "http_client",
            "--server",
            "127.0.0.1",
            "--port",
            str(deaf.getsockname()[1]),
            "--connections",
            "1",
            "--timeout",
            "1",
        ) as (client, _):
            report = await result(client, status=1, said=b"error: nothing was answered: request 1: TimeoutError")
    assert (report["responses"], report["errors"]) == (0, 1)


async def test_http_client_notices_a_server_that_answers_wrongly():
    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"id":"x","crc":1,"length":0}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(lie, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with running(
            "http_client", "--server", "127.0.0.1", "--port", str(port), "--connections", "2", "--requests", "1"
        ) as (client, _):
            report = await result(client, status=1, said=b"error: nothing was answered: request 1: ")
    assert (report["requests"], report["responses"], report["errors"]) == (2, 0, 2)
    assert "Mismatch" in report["flows"][0]["error"]


async def test_latency_ends_with_the_kernel_not_with_the_turn_of_who_reads():
    async with (
        running("udp", "server", "--port", "0") as (server, port),
        running("udp", "client", "--server", "127.0.0.1", "--port", str(port), "--flows", "1", "--rate", "50") as (
            client,
            _,
        ),
    ):
        await asyncio.sleep(0.3)
        server.send_signal(signal.SIGSTOP)  # what comes waits in its socket
        await asyncio.sleep(0.3)
        server.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.3)
        ours = await result(client, signal.SIGTERM)
        theirs = await result(server, signal.SIGTERM)
    assert theirs["received"] == ours["sent"] >= 40
    assert ours["rtt_ms"]["max"] > 150  # the answers were late indeed
    assert theirs["latency_ms"]["max"] < 100


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_udp_ledger_over_loopback_is_clean(address, tmp_path):
    async with (
        running("udp", "server", "--bind", address, "--port", "0") as (server, port),
        running(
            "udp", "client", "--server", address, "--port", str(port), "--flows", "8", "--rate", "250", "--count", "100"
        ) as (client, _),
    ):
        ours = await result(client)
        theirs = await result(server, signal.SIGTERM)
    for name, report in (("client", ours), ("server", theirs)):
        (tmp_path / name).write_text(json.dumps(report))
    settled = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "traffic.udp", "--json", "settle", str(tmp_path / "client"), str(tmp_path / "server"),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    whole = await result(settled)
    assert {name: whole[name] for name in ("sent", "received", "lost", "duplicated", "reordered", "kernel_drops")} == {
        "sent": 1600, "received": 1600, "lost": 0, "duplicated": 0, "reordered": 0, "kernel_drops": 0,
    }  # fmt: skip
    assert ours["rtt_ms"]["samples"] == 800
    assert len(whole["flows"]) == 8


async def test_a_closed_stdin_ends_a_command():
    async with running("udp", "--stop-on-stdin", "server", "--port", "0", stdin=asyncio.subprocess.PIPE) as (server, _):
        server.stdin.close()
        report = await result(server)
    assert report["received"] == 0


async def relay(port: int, action) -> tuple[asyncio.DatagramTransport, int]:
    """A path between client and server that loses, repeats or swaps: ``action(n, data)`` gives what goes on."""

    class Relay(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.client = None
            self.seen = 0

        def connection_made(self, transport) -> None:
            self.transport = transport

        def datagram_received(self, data, address) -> None:
            if address[1] == port:
                self.transport.sendto(data, self.client)
                return
            self.client = address
            self.seen += 1
            for each in action(self.seen, data):
                self.transport.sendto(each, ("127.0.0.1", port))

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Relay, local_addr=("127.0.0.1", 0))
    return transport, transport.get_extra_info("sockname")[1]


async def test_udp_ledger_sees_exactly_what_a_bad_path_does():
    kept: list[bytes] = []

    def misbehave(number: int, data: bytes) -> list[bytes]:
        match number:
            case 10 | 20:
                return []
            case 30:
                return [data, data]
            case 40:
                kept.append(data)
                return []
            case 41:
                return [data, kept.pop()]
        return [data]

    serving, asking = command.Control(), command.Control()
    ports: asyncio.Queue[int] = asyncio.Queue()
    serving.ready = lambda address, port: ports.put_nowait(port)
    asking.ready = lambda address, port: None
    async with asyncio.TaskGroup() as group:
        server = group.create_task(udp.serve("127.0.0.1", 0, serving, quiet=0.05))
        path, port = await relay(await asyncio.wait_for(ports.get(), DEADLINE), misbehave)
        client = await udp.run_client(("127.0.0.1", port), asking, flows=1, rate=1000, count=50, quiet=0.2)
        serving.stopped.set()
    path.close()
    theirs = server.result()
    # The relay stands between, so the two sides know the flow by different addresses.
    both = account(client, _renamed(theirs, client.flows[0].flow))
    assert (both.forward.sent, both.forward.lost, both.forward.duplicated, both.forward.reordered) == (50, 2, 1, 1)
    assert (both.backward.sent, both.backward.lost, both.backward.duplicated) == (49, 0, 0)


def _renamed(report, flow):
    flows = [msgspec.structs.replace(each, flow=flow) for each in report.flows]
    return msgspec.structs.replace(report, flows=flows)


def test_what_the_kernel_drops_at_the_receiver_is_reported():
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        receiver.bind(("127.0.0.1", 0))
        for _ in range(100):
            sender.sendto(bytes(1000), receiver.getsockname())
        receiver.setblocking(False)
        got, until = 0, time.monotonic() + DEADLINE
        while got + udp.kernel_drops(receiver) < 100 and time.monotonic() < until:  # ksoftirqd may deliver some later
            with suppress(BlockingIOError):
                receiver.recv(2000)
                got += 1
        assert got + udp.kernel_drops(receiver) == 100
        assert udp.kernel_drops(receiver) > 0


@pytest.mark.parametrize("wrong", [{"connections": 0}, {"rate": 0}, {"requests": -1}, {"strays": 1.5}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(TrafficInput, match=r"--"):
        ClientOptions(server="127.0.0.1", **wrong)


async def test_wrong_numbers_for_udp_are_refused():
    with pytest.raises(TrafficInput, match="udp client"):
        await udp.run_client(("127.0.0.1", 1), command.Control(), flows=0)


@pytest.mark.parametrize("arguments", [["--duration", "0.1", "server"], ["server", "--duration", "0.1"]])
async def test_common_options_stand_on_either_side_of_the_role(arguments):
    async with running("udp", *arguments, "--port", "0") as (server, _):
        assert (await result(server))["role"] == "server"


async def test_a_command_says_what_is_wrong_and_exits_2():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "traffic.http_client", "--server", "127.0.0.1", "--rate", "0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert (process.returncode, out) == (2, b"")
    assert errors == b"error: --rate: 0.0 (more than 0)\n"
