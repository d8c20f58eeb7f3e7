"""Every IP packet of this network namespace, for the lab: python -m tests.integration.capture

Captures until its input ends; prints ``ready`` first, then a line for each packet: hexadecimal, from its IP header on.
"""

from __future__ import annotations

import select
import socket
import sys

_ETH_P_ALL = 3
_IP = {b"\x08\x00", b"\x86\xdd"}


def main() -> None:
    """Capture, then print."""
    packets: list[bytes] = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as sock:
        print("ready", flush=True)
        while True:
            readable, _, _ = select.select([sock, sys.stdin], [], [])
            if sock in readable:
                frame, address = sock.recvfrom(1 << 16)
                if frame[12:14] in _IP and address[0] != "lo":
                    packets.append(frame[14:])
            elif sys.stdin in readable:
                break
    for packet in packets:
        print(packet.hex())


if __name__ == "__main__":
    main()
