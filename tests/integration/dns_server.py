"""A DNS server for the lab, over UDP and TCP: python -m tests.integration.dns_server ADDRESS PORT [DELAY]

Names that begin with ``no`` do not exist; every other has the address 192.0.2.1. Each answer comes DELAY seconds after
its question, so that things can happen in between.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from functools import partial

import dns.message
import dns.rcode
import dns.rrset


def answer(question: bytes) -> bytes:
    """The response to a query."""
    query = dns.message.from_wire(question)
    response = dns.message.make_response(query)
    name = query.question[0].name
    if name.to_text().startswith("no"):
        response.set_rcode(dns.rcode.NXDOMAIN)
    else:
        response.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.1"))
    return response.to_wire()


class Datagrams(asyncio.DatagramProtocol):
    """Each answered by itself, after the delay."""

    def __init__(self, delay: float) -> None:
        self._loop, self._delay = asyncio.get_running_loop(), delay

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._loop.call_later(self._delay, self._transport.sendto, answer(data), address)


async def stream(delay: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, with as many questions as the client wants, one after the other."""
    try:
        while head := await reader.read(1):
            (length,) = struct.unpack("!H", head + await reader.readexactly(1))
            response = answer(await reader.readexactly(length))
            await asyncio.sleep(delay)
            writer.write(struct.pack("!H", len(response)) + response)
            await writer.drain()
    finally:
        writer.close()


async def main(address: str, port: str, delay: str = "0") -> None:
    """Serve until killed; prints ``ready``."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(partial(Datagrams, float(delay)), local_addr=(address, int(port)))
    server = await asyncio.start_server(partial(stream, float(delay)), address, int(port))
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
