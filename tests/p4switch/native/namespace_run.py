"""Runs inside a fresh network namespace: the native data plane on veth pairs. Prints what was seen as JSON.

A flow moves to and fro between two replicas while its frames, numbered, come in as fast as they can be sent.
See test_data_plane.
"""

import json
import struct
import sys
import threading
import time
from pathlib import Path

from pyroute2 import IPRoute

from p4switch.device import Device
from p4switch.engine import Engine, EngineOptions
from p4switch.load import load_program
from p4switch.native import NativeDevice
from p4switch.native.engine import NativeEngine
from p4switch.ports import InterfacePort
from p4switch.runtime import ActionCall, CloneSession, Digest, Expired, Replica
from p4switch.runtime.hashes import csum16
from splitmerge.linux.afpacket import PacketSocket

FRAMES = 20_000
RING = 64 << 20
"""Bytes of a ring that has room for all of them: whoever reads it may be without a processor for as long as it is."""
CPU = 510
KEY = (0x0A000102, 0x0A000202, 4000, 5000, 17)
PREFIX = "SplitmergeIngress."


class Listener:
    """Keeps what the engine tells."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.idle: list[Expired] = []

    def packet_ins(self, frames: list[bytes]) -> None:
        self.frames += frames

    def expired(self, entries: list[Expired]) -> None:
        self.idle += entries

    def digests(self, messages: list[Digest]) -> None:
        assert not messages


def veth(ip: IPRoute, name: str, peer: str) -> None:
    ip.link("add", ifname=name, kind="veth", peer={"ifname": peer})
    for link in (name, peer):
        (index,) = ip.link_lookup(ifname=link)
        Path(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6").write_text("1")
        ip.link("set", index=index, state="up")


def frame(number: int) -> bytes:
    """A frame of the flow with its number as payload."""
    payload = struct.pack("!HHHHI", 4000, 5000, 12, 0, number)
    head = struct.pack("!BBHHHBBHII", 0x45, 0, 32, 1, 0, 64, 17, 0, KEY[0], KEY[1])
    checksum = csum16(int.from_bytes(head), 160)
    head = head[:10] + struct.pack("!H", checksum) + head[12:]
    return bytes.fromhex("0200000000fe0200000001020800") + head + payload


def marker(port: int, number: int) -> bytes:
    """A packet-out: a frame that is no flow's, to a port."""
    body = b"\xff" * 12 + b"\x12\x34" + struct.pack("!I", number)
    return struct.pack("!HBII", port << 7, 0, 0, 0) + body.ljust(60, b"\0")


class Receiver(threading.Thread):
    """Collects ("data", n) and ("marker", n) of one port."""

    def __init__(self, interface: str) -> None:
        super().__init__(daemon=True)
        self.socket = PacketSocket(interface, ring_bytes=RING)
        self.seen: list[tuple[str, int]] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            frames = self.socket.receive(256)
            for data in frames:
                kind, at = ("marker", 14) if data[12:14] == b"\x12\x34" else ("data", 42)
                self.seen.append((kind, int.from_bytes(data[at : at + 4])))
            if not frames:
                self.stopping.wait(0.001)


def call(name: str, *args: int) -> ActionCall:
    return ActionCall(PREFIX + name, args)


def fill(device: Device) -> None:
    tables = device.state.tables
    with device.state.lock:
        tables[PREFIX + "port_roles.port_role"].insert((1,), call("port_roles.set_host"))
        for replica, port in ((7, 11), (8, 12)):
            tables[PREFIX + "port_roles.port_role"].insert((port,), call("port_roles.set_replica", replica))
            tables[PREFIX + "replicas.replica"].insert((replica,), call("replicas.to_replica", port))
        tables[PREFIX + "flow.flow_v4"].insert(KEY, call("flow.steer", 7, 0), idle_timeout_ns=10**9)
        device.state.clone_sessions.insert(1, CloneSession((Replica(CPU),)))


def steer(engine: Engine, device: Device, replica: int, suspend: int = 0) -> None:
    with engine.control_of(device):
        flows = device.state.tables[PREFIX + "flow.flow_v4"]
        flows.modify(KEY, call("flow.steer", replica, suspend), idle_timeout_ns=10**9)


def wait_for(condition: object, seconds: float = 15.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.005)


def main(program: Path) -> dict[str, object]:
    with IPRoute() as ip:
        for name, peer in (("s1", "h1"), ("s2", "h2"), ("s3", "h3")):
            veth(ip, name, peer)
        ports = [InterfacePort(1, "s1", ring_bytes=RING), InterfacePort(11, "s2"), InterfacePort(12, "s3")]
        listener = Listener()
        engine = NativeEngine(ports, EngineOptions(cpu_port=CPU))
        engine.attach(listener)
        engine.start()
        receivers = {11: Receiver("h2"), 12: Receiver("h3")}
        for receiver in receivers.values():
            receiver.start()
        device = NativeDevice(load_program(program.read_bytes()))
        with engine.control():
            engine.set_device(device)
        fill(device)
        try:
            return {
                **move(engine, device, listener, receivers),
                **change_device(engine, program, receivers),
                **go_down(engine, ip),
            }
        finally:
            engine.stop()
            for receiver in receivers.values():
                receiver.stopping.set()
                receiver.join(2)


def move(engine: NativeEngine, device: Device, listener: Listener, receivers: dict[int, Receiver]) -> dict[str, object]:
    """Markers around every move: `enter` before it on the new port, `leave` after it on the old one."""
    source = PacketSocket("h1")
    frames = [frame(number) for number in range(FRAMES)]

    def flood() -> None:
        for position, data in enumerate(frames):
            while not source.send(data):
                time.sleep(0.0001)
            if position % 64 == 63:
                time.sleep(0.001)

    sender = threading.Thread(target=flood)
    sender.start()
    here, there = 11, 12
    moves = 0
    while sender.is_alive() or moves < 10:
        number, moves = moves, moves + 1
        engine.packet_out(marker(there, 2 * number))
        steer(engine, device, 7 if there == 11 else 8)
        engine.packet_out(marker(here, 2 * number + 1))
        here, there = there, here
        time.sleep(0.002)
    entry = device.state.tables[PREFIX + "flow.flow_v4"].get(KEY)
    wait_for(lambda: entry.packets == FRAMES)
    steer(engine, device, 7, suspend=1)
    for data in frames:
        source.send(data)
    sender.join()
    suspended = time.monotonic()
    wait_for(lambda: entry.packets == 2 * FRAMES)
    # A LOOP packet-out comes back as a packet-in behind all earlier ones.
    engine.packet_out(struct.pack("!HBII", 0, 4, 9, 9) + frame(0)[:14])
    wait_for(lambda: listener.frames and listener.frames[-1][2] == 3)
    punted = [int.from_bytes(data[-4:]) for data in listener.frames[:-1]]
    wait_for(lambda: sum(kind == "data" for r in receivers.values() for kind, _ in r.seen) + len(punted) == 2 * FRAMES)
    data = {port: [n for kind, n in receiver.seen if kind == "data"] for port, receiver in receivers.items()}
    wait_for(lambda: listener.idle)
    engine.refresh()
    return {
        "all": sorted(data[11] + data[12]) == punted == list(range(FRAMES)),
        "in_order": all(numbers == sorted(numbers) for numbers in data.values()),
        "strays": sum(strays(receiver.seen, first=port == 11) for port, receiver in receivers.items()),
        "moved": bool(data[11]) and bool(data[12]),
        "moves": moves,
        "received": list(engine.received[1]),
        "sent": sum(queue.packets for queue in engine.outputs().values()),
        "idle_after": round(time.monotonic() - suspended, 1),
        "drops": {f"{reason} {port}": count for (reason, port), count in engine.drops.by_reason_and_port().items()},
    }


def strays(seen: list[tuple[str, int]], *, first: bool) -> int:
    """Data between a `leave` marker (odd) and the next `enter` marker (even)."""
    inside, found = first, 0
    for kind, number in seen:
        if kind == "marker":
            inside = number % 2 == 0
        else:
            found += not inside
    return found


def change_device(engine: NativeEngine, program: Path, receivers: dict[int, Receiver]) -> dict[str, object]:
    """To the interpreter and back: frames arrive whichever runs."""
    source, counts = PacketSocket("h1"), []
    for made in (Device, NativeDevice):
        device: Device = made(load_program(program.read_bytes()))
        fill(device)
        with engine.control():
            engine.set_device(device)
        before = len(receivers[11].seen)
        for number in range(100):
            source.send(frame(number))
        wait_for(lambda before=before: len(receivers[11].seen) == before + 100)
        counts.append([number for _, number in receivers[11].seen[before:]] == list(range(100)))
    return {"changed": counts}


def go_down(engine: NativeEngine, ip: IPRoute) -> dict[str, object]:
    """What a dead port does not take is counted."""
    (index,) = ip.link_lookup(ifname="s2")
    ip.link("set", index=index, state="down")
    source = PacketSocket("h1")
    for number in range(10):
        source.send(frame(number))

    def lost() -> int:
        return engine.drops.by_reason_and_port().get(("send_failed", 11), 0)

    wait_for(lambda: lost() == 10)
    return {"dead": lost()}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
