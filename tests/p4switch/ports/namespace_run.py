"""Runs inside a fresh network namespace: a switch on veth pairs. Prints what was seen as JSON. See test_af_packet."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from finsy.proto import p4d, p4i, p4r, p4r_grpc  # noqa: F401  # loads the messages before gRPC starts threads
from pyroute2 import IPRoute

from splitmerge.linux.afpacket import PacketSocket

DEADLINE = 20.0


def veth(ip: IPRoute, name: str, peer: str) -> None:
    ip.link("add", ifname=name, kind="veth", peer={"ifname": peer})
    for link in (name, peer):
        (index,) = ip.link_lookup(ifname=link)
        Path(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6").write_text("1")
        ip.link("set", index=index, state="up")


def receive(port: PacketSocket, deadline: float = DEADLINE) -> list[bytes]:
    ready, _, _ = select.select([port], [], [], deadline)
    return port.receive(64) if ready else []


def until(port: PacketSocket, wanted: int, deadline: float = DEADLINE) -> list[bytes]:
    frames: list[bytes] = []
    end = time.monotonic() + deadline
    while len(frames) < wanted and time.monotonic() < end:
        frames += receive(port, max(0.0, end - time.monotonic()))
    return frames


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def send_until_seen(one: PacketSocket, two: PacketSocket, frame: bytes) -> bool:
    """Whether the way works (again): carriers of a veth pair come up a moment after the links."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        one.send(frame)
        if frame in receive(two, 0.2):
            return True
    return False


def main(folder: Path, program: str, p4info: str) -> None:
    with IPRoute() as ip:
        veth(ip, "s1", "h1")
        veth(ip, "s2", "h2")
        veth(ip, "s3", "h3")
        words = ["--device-id", "1", "--log-console", "-i", "1@s1", "-i", "2@s2", "-i", "3@s3", "--pcap", str(folder)]
        words += [program, "--p4info", p4info, "--", "--grpc-server-addr", f"unix:{folder}/s", "--cpu-port", "510"]
        switch = subprocess.Popen([sys.executable, "-m", "p4switch", *words], stdout=subprocess.PIPE, text=True)
        try:
            print(json.dumps(talk(ip, switch)))
        finally:
            switch.kill()
            switch.wait()


def talk(ip: IPRoute, switch: subprocess.Popen[str]) -> dict[str, object]:
    assert switch.stdout is not None
    lines = []
    while not lines or not lines[-1].startswith("Server listening"):
        lines.append(switch.stdout.readline().strip())
        assert lines[-1], "the switch ended"
    one, two = PacketSocket("h1"), PacketSocket("h2")
    frames = [
        bytes([0xFF] * 6 + [2, 0, 0, 0, 0, 1]) + b"\x12\x34" + bytes([2, 0]) + n.to_bytes(2, "big") for n in range(500)
    ]
    for frame in frames:
        one.send(frame + bytes(42))
    seen = until(two, len(frames))
    long = frames[0] + bytes(1480)
    one.send(long)
    seen_long = until(two, 1)
    (index,) = ip.link_lookup(ifname="s2")
    ip.link("set", index=index, state="down")
    for frame in frames[:10]:
        one.send(frame + bytes(42))
    before = cpu_seconds(switch.pid)
    time.sleep(1.0)  # the switch gives up on a dead port after 50 ms; nothing can be seen of it from outside
    spent = cpu_seconds(switch.pid) - before
    ip.link("set", index=index, state="up")
    again = send_until_seen(one, two, frames[0] + bytes(42))
    os.kill(switch.pid, signal.SIGUSR1)
    switch.send_signal(signal.SIGTERM)
    started = time.monotonic()
    rest, _ = switch.communicate(timeout=DEADLINE)
    return {
        "lines": lines,
        "in_order": seen == [frame + bytes(42) for frame in frames],
        "seen": len(seen),
        "long": seen_long == [long],
        "cpu_while_down": spent,
        "again": again,
        "exit": switch.returncode,
        "seconds": time.monotonic() - started,
        "log": rest.splitlines(),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
