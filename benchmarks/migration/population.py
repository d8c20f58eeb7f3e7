"""The flows that are moved: which they are, the frames that make them, and a generator that numbers those frames.

    python -m benchmarks.migration.population --interface eth0 --state 64 --flows 500 --rate 2000

sends rounds over the flows until SIGTERM, or ``--rounds``; each round has the next number, which stands in the payload
of every frame beside the number of the run, so that the middlebox (`benchmarks.migration.middlebox`) sees what was
lost, repeated or overtaken.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

from splitmerge.flowkey import UDP, FlowKey

CLIENT, SERVER = "10.0.1.2", "10.0.2.2"
CLASSES = {64: 20_000, 1024: 21_000, 32_768: 22_000}
"""Bytes of state → first UDP port of the flows that have so much."""
MAGIC = b"SMmv"
NUMBER = struct.Struct("!4sII")
"""`MAGIC`, number of the run, number of the round."""
_PORTS_EACH, _FIRST_PORT = 50_000, 1024
_BURST = 32


def ports(state: int, number: int) -> tuple[int, int]:
    """(client port, server port) of a flow."""
    return _FIRST_PORT + number % _PORTS_EACH, CLASSES[state] + number // _PORTS_EACH


def key(state: int, number: int) -> FlowKey:
    """The flow's key."""
    client_port, server_port = ports(state, number)
    return FlowKey.of(UDP, socket.inet_aton(CLIENT), client_port, socket.inet_aton(SERVER), server_port)


def state_bytes(server_port: int) -> int | None:
    """How much state a flow to this port has; None if it is not one of these flows."""
    return next((size for size, first in CLASSES.items() if first <= server_port < first + 1000), None)


def head(state: int, number: int) -> bytes:
    """Ethernet, IPv4 and UDP headers of a flow's frames, without a UDP checksum (RFC 768: 0, none)."""
    client_port, server_port = ports(state, number)
    udp = struct.pack("!HHHH", client_port, server_port, 8 + NUMBER.size, 0)
    addresses = socket.inet_aton(CLIENT) + socket.inet_aton(SERVER)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp) + NUMBER.size, 0, 0, 64, UDP, 0) + addresses
    words = sum(struct.unpack("!10H", ip))
    words = (words & 0xFFFF) + (words >> 16)
    checksum = ~((words & 0xFFFF) + (words >> 16)) & 0xFFFF
    return bytes.fromhex("0200000000fe0200000001020800") + ip[:10] + struct.pack("!H", checksum) + ip[12:] + udp


def frames(heads: list[bytes], run: int, number: int) -> Iterator[bytes]:
    """One round of a run."""
    payload = NUMBER.pack(MAGIC, run, number)
    return (each + payload for each in heads)


def send(interface: str, heads: list[bytes], run: int, rounds: int, rate: float, ended: Callable[[], bool]) -> int:
    """Send rounds 1, 2, … paced to ``rate`` frames a second; the number of rounds."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        wire.bind((interface, 0))
        started, sent, number = time.perf_counter(), 0, 0
        burst = max(1, min(_BURST, int(rate / 250)))
        while not ended() and number < rounds:
            number += 1
            for frame in frames(heads, run, number):
                wire.send(frame)
                sent += 1
                if sent % burst == 0:
                    time.sleep(max(0.0, sent / rate - (time.perf_counter() - started)))
        return number


def main() -> int:
    """The command; says ``ready`` when it begins and ``{"rounds": number}`` at the end."""
    parser = argparse.ArgumentParser(description="numbered frames over many flows")
    parser.add_argument("--interface", required=True)
    parser.add_argument("--state", type=int, choices=sorted(CLASSES), required=True)
    parser.add_argument("--flows", type=int, required=True)
    parser.add_argument("--rate", type=float, default=10_000.0, help="frames a second")
    parser.add_argument("--run", type=int, default=1, help="number of the run; numbers start again in each")
    parser.add_argument("--rounds", type=int, default=2**31, help="end after so many")
    options = parser.parse_args()
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    heads = [head(options.state, number) for number in range(options.flows)]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    rounds = send(options.interface, heads, options.run, options.rounds, options.rate, lambda: bool(stopped))
    sys.stdout.write(json.dumps({"rounds": rounds}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
