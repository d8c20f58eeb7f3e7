"""Runs inside a fresh network namespace: frames of every length on the wire. Prints what was seen as JSON.

Port 1 takes frames of up to 9,000 bytes of payload, port 2 of 1,500. See test_lengths.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

from finsy.proto import p4d, p4i, p4r, p4r_grpc  # noqa: F401  # loads the messages before gRPC starts threads
from pyroute2 import IPRoute

from p4switch.app import Switch
from p4switch.cli import config_of
from splitmerge.linux.afpacket import PacketSocket
from tests.p4switch.ports.namespace_links import until, veth

SHORTEST, WIRE, JUMBO = 14, 1514, 9014
"""Bytes: a header and nothing, port 2's longest frame, port 1's. What is shorter no Linux interface sends."""


def frame(length: int) -> bytes:
    """Of this length, and no other's beginning."""
    return (b"\2\0\0\0\0\1\2\0\0\0\0\2\x12\x34" + length.to_bytes(2, "big") * (length // 2))[:length]


def through(source: PacketSocket, sink: PacketSocket, lengths: Iterable[int]) -> bool:
    """Whether all of these come out as they went in, in order."""
    sent = [frame(length) for length in lengths]
    seen: list[bytes] = []
    for start in range(0, len(sent), 100):
        for data in sent[start : start + 100]:
            assert source.send(data)

        def gathered(wanted: int = min(start + 100, len(sent))) -> bool:
            seen.extend(sink.receive(1000))
            return len(seen) >= wanted

        until(gathered, f"{len(seen)} of {len(sent)} frames")
    return seen == sent


def mtu(ip: IPRoute, name: str, size: int) -> None:
    ip.link("set", index=ip.link_lookup(ifname=name)[0], mtu=size)


def main(folder: str, program: str, backend: str) -> None:
    with IPRoute() as ip:
        veth(ip, "s1", "h1")
        veth(ip, "s2", "h2")
        for name in ("s1", "h1"):
            mtu(ip, name, JUMBO - SHORTEST)
        words = ["-i", "1@s1", "-i", "2@s2", "--backend", backend, program]
        config = config_of([*words, "--", "--grpc-server-addr", f"unix:{folder}/s"])
        with Switch(config) as switch:
            switch.start()
            one, two = PacketSocket("h1", ring_bytes=32 << 20), PacketSocket("h2", ring_bytes=8 << 20)
            seen = {"all": [through(*ends, range(SHORTEST, WIRE + 1)) for ends in ((one, two), (two, one))]}

            def lost(reason: str) -> int:
                drops = switch.engine.drops.by_reason_and_port()
                below = sum(io.drops().get(reason, 0) for io in switch.engine.ports)
                return below + sum(count for (why, _), count in drops.items() if why == reason)

            beyond = (WIRE + 20, 4000, JUMBO)
            for length in beyond:
                one.send(frame(length))
            until(lambda: lost("too_long") == len(beyond), "what port 2 cannot carry is counted")
            for name in ("s1", "h1"):
                mtu(ip, name, 60_000)
            grown = PacketSocket("h1")
            grown.send(frame(40_000))
            until(lambda: lost("longer_than_ring_slot") == 1, "what came to be longer than port 1 took is counted")
            seen["after"] = [through(one, two, range(60, 90))]
            assert switch.engine.failure is None
        print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
