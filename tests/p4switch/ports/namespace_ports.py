"""Runs inside a fresh network namespace: ports added and removed by command while packets pass. Prints JSON.

Numbered frames pass from port 1 to port 2 without a pause, while ports 3 and 4 come and go. See test_ports.
"""

from __future__ import annotations

import contextlib
import io
import json
import struct
import sys
import threading
import time
from pathlib import Path

from finsy.proto import p4d, p4i, p4r, p4r_grpc  # noqa: F401  # loads the messages before gRPC starts threads
from namespace_links import DEADLINE, set_link, until, veth
from pyroute2 import IPRoute

from p4switch import cli
from p4switch.app import Switch
from p4switch.cli import config_of
from p4switch.runtime import ActionCall
from p4switch.runtime.hashes import csum16
from splitmerge.linux.afpacket import PacketSocket

ROUNDS = 10


class Flow(threading.Thread):
    """Numbered frames from one interface to another, at a rate that all back ends keep up with."""

    def __init__(self, source: str, sink: str) -> None:
        super().__init__(daemon=True)
        self._source, self.sink = PacketSocket(source), PacketSocket(sink, ring_bytes=16 << 20)
        self.stopping = threading.Event()
        self.sent = 0
        self.seen: list[int] = []

    def run(self) -> None:
        while not self.stopping.wait(0.001):
            for _ in range(4):
                assert self._source.send(numbered(True, self.sent))
                self.sent += 1
            self.gather()

    def gather(self) -> None:
        self.seen += [number_of(data) for data in self.sink.receive(1000)]


def numbered(first: bool, number: int) -> bytes:
    """A frame of the first or the second flow, with a number."""
    source_port = key(first)[2]
    payload = struct.pack("!HHHHI", source_port, 5000, 12, 0, number)
    head = struct.pack("!BBHHHBBHII", 0x45, 0, 32, 1, 0, 64, 17, 0, *key(first)[:2])
    head = head[:10] + struct.pack("!H", csum16(int.from_bytes(head), 160)) + head[12:]
    return bytes.fromhex("0200000000fe0200000001020800") + head + payload


def key(first: bool) -> tuple[int, ...]:
    """A flow's key in the program's table."""
    return 0x0A000102, 0x0A000202, 4000 if first else 4001, 5000, 17


def number_of(frame: bytes) -> int:
    """Which one it is."""
    return int.from_bytes(frame[42:46])


def command(path: Path, *words: str) -> str:
    """What `p4switch WORDS` says, in this process, as starting another takes longer than all the rest."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        status = cli.main([words[0], "--socket", str(path), *words[1:]])
    return f"refused: {error.getvalue()}" if status else out.getvalue()


def sent_by(path: Path, port: int) -> int:
    """What `p4switch ports` says that a port has sent."""
    return next(
        int(each["sent_packets"]) for each in json.loads(command(path, "ports", "--json")) if each["port"] == port
    )


def passes(source: PacketSocket, sink: PacketSocket, number: int, seconds: float = DEADLINE) -> bool:
    """Whether frames go from one to the other, tried for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        source.send(numbered(False, number))
        time.sleep(0.01)
        if any(number_of(data) == number for data in sink.receive(1000)):
            return True
    return False


def connect(switch: Switch) -> None:
    """The first flow goes from port 1 to 2, the second from 3 to 4."""
    pipeline = switch.control.pipeline
    assert pipeline is not None
    tables = pipeline.device.state.tables

    def insert(table: str, match: tuple[int, ...], action: str, *args: int) -> None:
        tables[f"SplitmergeIngress.{table}"].insert(match, ActionCall(f"SplitmergeIngress.{action}", args))

    with switch.engine.control_of(pipeline.device):
        for first, here, there in ((True, 1, 2), (False, 3, 4)):
            insert("port_roles.port_role", (here,), "port_roles.set_host")
            insert("port_roles.port_role", (there,), "port_roles.set_replica", there)
            insert("replicas.replica", (there,), "replicas.to_replica", there)
            insert("flow.flow_v4", key(first), "flow.steer", there, 0)


def talk(switch: Switch, path: Path, ip: IPRoute) -> dict[str, object]:
    seen: dict[str, object] = {"first": json.loads(command(path, "ports", "--json"))}
    flow = Flow("h1", "h2")
    flow.start()
    ends = PacketSocket("h3"), PacketSocket("h4")
    passed = []
    for number in range(ROUNDS):
        said = command(path, "port-add", "3@s3", "4@s4")
        assert said == "", said
        passed.append(passes(*ends, number))
        assert command(path, "port-remove", *(("3", "4") if number % 2 else ("4", "3"))) == ""
    seen["passed"] = passed
    seen["gone"] = passes(*ends, ROUNDS, seconds=2.0)
    seen["refused"] = [
        command(path, *words)
        for words in (
            ("port-add", "1@s3"),
            ("port-add", "5@s1"),
            ("port-add", "5@nothing"),
            ("port-add", "70000@s3"),
            ("port-add", "510@s3"),
            ("port-remove", "3"),
        )
    ]
    assert switch.engine.ports_down() == {3, 4}
    command(path, "port-add", "3@s3")
    assert switch.engine.ports_down() == {4}
    set_link(ip, "h3", "down")
    until(lambda: switch.engine.ports_down() == {3, 4}, "a port that was added is watched")
    flow.stopping.set()
    flow.join(5)
    until(lambda: flow.gather() is None and len(flow.seen) >= flow.sent, f"{len(flow.seen)} of {flow.sent}")
    seen["in order"] = flow.seen == list(range(flow.sent))
    seen["sent"] = flow.sent
    # The last frame is counted after it is sent: it may be here before that.
    until(lambda: sent_by(path, 2) >= flow.sent, f"port 2 counts {sent_by(path, 2)} of {flow.sent}")
    seen["last"] = json.loads(command(path, "ports", "--json"))
    seen["table"] = command(path, "ports")
    return seen


def main(folder: str, program: str, backend: str, *more: str) -> None:
    with IPRoute() as ip:
        for number in range(1, 5):
            veth(ip, f"s{number}", f"h{number}")
        path = Path(folder) / "ports.sock"
        # The switch begins without a port: all are added.
        words = ["--backend", backend, "--control-socket", str(path), *more, program]
        config = config_of([*words, "--", "--grpc-server-addr", f"unix:{folder}/s", "--cpu-port", "510"])
        with Switch(config) as switch:
            switch.start()
            connect(switch)
            assert command(path, "port-add", "1@s1", "2@s2") == ""
            seen = talk(switch, path, ip)
            assert switch.engine.failure is None
            drops = switch.engine.drops.by_reason_and_port()
            seen["drops"] = {f"{reason} {port}": count for (reason, port), count in drops.items()}
        seen["socket left"] = path.exists()
        print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
