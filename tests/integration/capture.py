"""Every IP packet that a host of the lab sends and receives: python -m tests.integration.capture

Captures until its input ends; prints ``ready`` first, then a line for each packet: hexadecimal, from its IP header on.
"""

from __future__ import annotations

import os
import select
import socket
import sys

from splitmerge.linux.afpacket import PacketSocket
from topo.links import HOST_INTERFACE

_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_IP = {b"\x08\x00", b"\x86\xdd"}


def main() -> None:
    """Capture, then print. The ring has room for what comes while this process waits for its turn."""
    packets: list[bytes] = []
    with PacketSocket(HOST_INTERFACE, ring_bytes=32 << 20) as port:
        with socket.socket(fileno=os.dup(port.fileno())) as options:
            options.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 0)
        print("ready", flush=True)
        while True:
            readable, _, _ = select.select([port, sys.stdin], [], [])
            if port in readable:
                packets += [frame[14:] for frame in port.receive() if frame[12:14] in _IP]
            elif sys.stdin in readable:
                break
        assert port.drops == port.truncated == 0, "not all of them were captured"
    for packet in packets:
        print(packet.hex())


if __name__ == "__main__":
    main()
