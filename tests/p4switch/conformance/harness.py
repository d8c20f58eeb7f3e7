"""Switches for conformance tests: the embedded one in this process or a real one, both with their ports on nanomsg."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pynng
from finsy.proto import p4r

from p4src import P4BLOB, P4INFO
from p4switch.app import Switch
from p4switch.cli import config_of as parse_flags
from tests.p4switch.p4runtime.conftest import PROGRAMS, Names, config_of

HERE = Path(__file__).parent
DEADLINE = 10.0
CPU_PORT = 510
_HEADER = struct.Struct("=iii")
_EAGER = [(f"grpc.{name}_reconnect_backoff_ms", 50) for name in ("initial", "min", "max")]
_PORT_ADD, _PACKET_IN, _PACKET_OUT = 0, 3, 4

CONFIGS: dict[str, p4r.ForwardingPipelineConfig] = {
    "splitmerge": config_of(P4BLOB, P4INFO),
    "entities": config_of(PROGRAMS / "entities.json", PROGRAMS / "entities.p4info.txtpb"),
    **{
        name: config_of(HERE / "programs" / f"{name}.json", HERE / "programs" / f"{name}.p4info.txtpb")
        for name in ("redirect", "router", "choices")
    },
}
NAMES = {name: Names(config.p4info) for name, config in CONFIGS.items()}


class Wire:
    """All ports of a switch: the far end of its ``--packet-in``."""

    def __init__(self, address: str) -> None:
        milliseconds = int(DEADLINE * 1000)
        self._socket = pynng.Pair0(
            dial=address, send_timeout=milliseconds, recv_timeout=milliseconds, recv_buffer_size=4096
        )
        for port in range(1, 9):
            self._socket.send(_HEADER.pack(_PORT_ADD, port, 0))

    def send(self, port: int, frame: bytes) -> None:
        """Give the switch a frame."""
        self._socket.send(_HEADER.pack(_PACKET_IN, port, len(frame)) + frame)

    def receive(self) -> tuple[int, bytes]:
        """The frame that comes next, with its port. :raises pynng.Timeout: none within `DEADLINE` seconds."""
        while True:
            message = self._socket.recv()
            kind, port, length = _HEADER.unpack_from(message)
            if kind == _PACKET_OUT:
                return port, message[_HEADER.size :][:length]

    def answers(self, port: int, frame: bytes, wanted: int = 1) -> list[tuple[int, bytes]]:
        """What a frame leads to, by port and contents: so many frames, in whatever order."""
        self.send(port, frame)
        return sorted(self.receive() for _ in range(wanted))

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def embedded(path: Path, *flags: str) -> Iterator[tuple[str, Wire]]:
    """An embedded switch without program; gives its address and its ports."""
    address, packets = f"unix:{path}/switch.sock", f"ipc://{path}/packets"
    words = ["--device-id", "1", "--no-p4", "--packet-in", packets, *flags]
    config = parse_flags([*words, "--", "--grpc-server-addr", address, "--cpu-port", str(CPU_PORT)])
    with Switch(config) as switch:
        switch.start()
        with contextlib.closing(Wire(packets)) as wire:
            yield address, wire
        assert switch.engine.failure is None


@contextlib.contextmanager
def simple_switch_grpc(program: str, path: Path) -> Iterator[tuple[str, Wire]]:
    """A real ``simple_switch_grpc``; as `embedded`."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        address, thrift = f"127.0.0.1:{one.getsockname()[1]}", two.getsockname()[1]
    words = [program, "--device-id", "1", "--no-p4", "--packet-in", f"ipc://{path}/packets"]
    words += ["--thrift-port", str(thrift), "--notifications-addr", f"ipc://{path}/notifications"]
    words += ["--log-file", str(path / "packets"), "--log-flush"]
    words += ["--", "--grpc-server-addr", address, "--cpu-port", str(CPU_PORT)]
    with (path / "output").open("w") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output)
        try:
            with grpc.insecure_channel(address, options=_EAGER) as channel:
                grpc.channel_ready_future(channel).result(timeout=30)
            with contextlib.closing(Wire(f"ipc://{path}/packets")) as wire:
                yield address, wire
        finally:
            process.terminate()
            process.wait(DEADLINE)
