"""Packets a second of the interpreter on the project's own program, in memory, on one core.

Run: python benchmarks/bench_interpreter.py [seconds]
"""

import json
import struct
import sys
import time
from collections.abc import Callable

from p4src import P4BLOB
from p4switch.check import check_program
from p4switch.device import Device
from p4switch.load import load_program
from p4switch.runtime import ActionCall, CloneSession, Replica

CLIENT, SERVER, REPLICA, CPU = 1, 2, 11, 510
SWITCH_MAC, CLIENT_MAC, SERVER_MAC = 0x0200000000FE, 0x020000000102, 0x020000000202
CLIENT_IP, SERVER_IP = 0x0A000102, 0x0A000202
FLOWS = 10_000


def checksum(header: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF ^ total


def tcp_frame(src_mac: int, source: int, target: int, sport: int, dport: int, payload: int) -> bytes:
    """An Ethernet, IPv4 and TCP frame."""
    ip = struct.pack("!BBHHHBBHII", 0x45, 0, 40 + payload, 1, 0x4000, 64, 6, 0, source, target)
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    tcp = struct.pack("!HHIIBBHHH", sport, dport, 1, 1, 0x50, 0x10, 1024, 0, 0)
    return SWITCH_MAC.to_bytes(6) + src_mac.to_bytes(6) + b"\x08\x00" + ip + tcp + bytes(payload)


def make_device() -> Device:
    """The lab's forwarding state with FLOWS flow entries, all to one replica; flow FLOWS + 1 is suspended."""
    program = load_program(P4BLOB.read_bytes())
    check_program(program)
    device = Device(program)
    tables = {name.rpartition(".")[2]: table for name, table in device.state.tables.items()}
    action = {name.rpartition(".")[2]: name for table in tables.values() for name in table.actions}
    tables["port_role"].insert((CLIENT,), ActionCall(action["set_host"]))
    tables["port_role"].insert((SERVER,), ActionCall(action["set_host"]))
    tables["port_role"].insert((REPLICA,), ActionCall(action["set_replica"], (1,)))
    tables["replica"].insert((1,), ActionCall(action["to_replica"], (REPLICA,)))
    for address, port, mac in ((CLIENT_IP, CLIENT, CLIENT_MAC), (SERVER_IP, SERVER, SERVER_MAC)):
        forward = ActionCall(action["forward"], (port, SWITCH_MAC, mac))
        tables["route_v4"].insert(((address & ~0xFF, 24),), forward)
    for bucket in range(1024):
        tables["bucket"].insert((bucket,), ActionCall(action["steer_bucket"], (1, 0)))
    for flow in range(FLOWS + 1):
        steer = ActionCall(action["steer"], (1, int(flow == FLOWS)))
        match = (CLIENT_IP, SERVER_IP, 10_000 + flow, 80, 6)
        tables["flow_v4"].insert(match, steer, idle_timeout_ns=60_000_000_000)
    device.state.clone_sessions.insert(1, CloneSession((Replica(CPU),)))
    return device


def rate(run: Callable[[int], object], seconds: float) -> float:
    """Calls a second."""
    for i in range(200):
        run(i)
    done, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        for i in range(done, done + 500):
            run(i)
        done += 500
    return done / elapsed


def main() -> None:
    """Print one JSON object: what was done, and how often a second."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    device = make_device()
    frames = [tcp_frame(CLIENT_MAC, CLIENT_IP, SERVER_IP, 10_000 + i % FLOWS, 80, 6) for i in range(1000)]
    by_bucket = [tcp_frame(CLIENT_MAC, CLIENT_IP, SERVER_IP, 30_000 + i, 80, 6) for i in range(1000)]
    big = [tcp_frame(CLIENT_MAC, CLIENT_IP, SERVER_IP, 10_000 + i % FLOWS, 80, 1346) for i in range(1000)]
    suspended = tcp_frame(CLIENT_MAC, CLIENT_IP, SERVER_IP, 10_000 + FLOWS, 80, 6)
    process = device.process
    expected = [
        (process(CLIENT, frames[0], 0), REPLICA),
        (process(CLIENT, by_bucket[0], 0), REPLICA),
        (process(REPLICA, frames[0], 0), SERVER),
        (process(CLIENT, suspended, 0), CPU),
    ]
    for sent, port in expected:
        assert [frame.port for frame in sent] == [port], (sent, port)
    print(
        json.dumps(
            {
                "host_to_replica_64": round(rate(lambda i: process(CLIENT, frames[i % 1000], i), seconds)),
                "host_to_replica_by_bucket_64": round(rate(lambda i: process(CLIENT, by_bucket[i % 1000], i), seconds)),
                "host_to_replica_1400": round(rate(lambda i: process(CLIENT, big[i % 1000], i), seconds)),
                "replica_to_host_64": round(rate(lambda i: process(REPLICA, frames[i % 1000], i), seconds)),
                "suspended_to_cpu_64": round(rate(lambda i: process(CLIENT, suspended, i), seconds)),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
