"""The data plane's loop without gRPC: drops, the gate, packet-outs, shutdown."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping

import pytest

from p4src import P4BLOB
from p4switch.check import check_program
from p4switch.device import Device
from p4switch.engine import Engine, EngineOptions, Gate
from p4switch.load import load_program
from p4switch.ports import DropReason, Received, Sent
from p4switch.runtime import ActionCall, Digest, Expired

CPU_PORT = 510
DEADLINE = 10.0
PROGRAM = load_program(P4BLOB.read_bytes())
check_program(PROGRAM)
PLAIN = bytes.fromhex("0001 00 00000000 00000000")
"""packet_out to port 2, untagged: egress_port is the topmost nine bits."""


class QueuePort:
    """Ports in memory: frames to receive are given with `give`, frames sent are in ``sent``."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes]] = []
        self.arrived = threading.Condition()
        self.broken: Exception | None = None
        self._frames: list[Received] = []
        self._event = os.eventfd(0, os.EFD_NONBLOCK)

    def give(self, *frames: Received) -> None:
        self._frames += frames
        os.eventfd_write(self._event, 1)

    def fileno(self) -> int:
        return self._event

    def ports(self) -> Mapping[int, str]:
        return {1: "one", 2: "two"}

    def receive(self, limit: int) -> list[Received]:
        if self.broken is not None:
            raise self.broken
        taken, self._frames = self._frames[:limit], self._frames[limit:]
        if not self._frames:
            os.eventfd_read(self._event)
        return taken

    def send(self, port: int, frame: bytes) -> Sent:
        with self.arrived:
            self.sent.append((port, frame))
            self.arrived.notify_all()
        return Sent.YES

    def drops(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        pass

    def wait(self, wanted: int) -> list[tuple[int, bytes]]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.sent) >= wanted, DEADLINE)
            return list(self.sent)


class Heard:
    """What the engine tells."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.swept = threading.Event()

    def packet_ins(self, frames: list[bytes]) -> None:
        self.frames += frames

    def expired(self, entries: list[Expired]) -> None:
        pass

    def digests(self, messages: list[Digest]) -> None:
        self.swept.set()


@pytest.fixture
def port() -> QueuePort:
    return QueuePort()


@pytest.fixture
def engine(port: QueuePort) -> Iterator[Engine]:
    made = Engine([port], EngineOptions(cpu_port=CPU_PORT, packet_outs=4))
    made.attach(Heard())
    made.start()
    yield made
    made.stop()
    assert made.failure is None


def with_device(engine: Engine) -> Device:
    device = Device(PROGRAM)
    with engine.control():
        engine.set_device(device)
    return device


def until(condition: object, seconds: float = DEADLINE) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_without_program_frames_are_counted(engine: Engine, port: QueuePort) -> None:
    port.give(*[Received(1, b"x" * 60)] * 100)
    until(lambda: engine.drops.total(DropReason.NO_PIPELINE) == 100)
    assert engine.received == {1: [100, 6000]}


def test_packet_outs_pass_in_order(engine: Engine, port: QueuePort) -> None:
    with_device(engine)
    header = (2 << 7).to_bytes(2, "big") + bytes(9)
    for number in range(50):  # far more than may wait: the caller is slowed down, nothing is lost
        assert engine.packet_out(header + number.to_bytes(2, "big") + bytes(60))
    assert [frame[:2] for _, frame in port.wait(50)] == [n.to_bytes(2, "big") for n in range(50)]
    assert {where for where, _ in port.sent} == {2}


def test_unknown_output_port_is_counted(engine: Engine, port: QueuePort) -> None:
    with_device(engine)
    engine.packet_out((300 << 7).to_bytes(2, "big") + bytes(9) + bytes(60))
    until(lambda: engine.drops.by_reason_and_port() == {(DropReason.NO_SUCH_PORT, 300): 1})


def test_without_cpu_port_packet_outs_are_counted(port: QueuePort) -> None:
    engine = Engine([port], EngineOptions())
    assert engine.packet_out(b"x")
    assert engine.drops.total(DropReason.NO_CPU_PORT) == 1
    engine.stop()


def test_a_failing_back_end_costs_one_frame(engine: Engine, port: QueuePort, caplog: pytest.LogCaptureFixture) -> None:
    device = with_device(engine)
    process = device.process

    def failing(where: int, frame: bytes, now_us: int) -> list[object]:
        if frame == b"bad":
            raise ZeroDivisionError
        return process(where, frame, now_us)  # type: ignore[return-value]

    device.process = failing  # type: ignore[assignment]
    port.give(Received(1, b"bad"), Received(1, b"good"))
    until(lambda: engine.drops.total(DropReason.PIPELINE_ERROR) == 1)
    header = (2 << 7).to_bytes(2, "big") + bytes(9)
    engine.packet_out(header + b"after it".ljust(60))
    assert port.wait(1) == [(2, b"after it".ljust(60))]


def test_control_is_not_starved_by_traffic(engine: Engine, port: QueuePort) -> None:
    device = with_device(engine)
    table = device.state.tables["SplitmergeIngress.replicas.replica"]
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            port.give(*[Received(1, b"\x02" * 60)] * 64)
            time.sleep(0)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        longest = 0.0
        for number in range(200):
            started = time.monotonic()
            with engine.control_of(device):
                table.insert((number,), ActionCall("SplitmergeIngress.replicas.to_replica", (2,)))
            longest = max(longest, time.monotonic() - started)
    finally:
        over.set()
        thread.join(DEADLINE)
    assert longest < 2.0


def test_packets_stand_still_within_control(engine: Engine, port: QueuePort) -> None:
    device = with_device(engine)
    header = (2 << 7).to_bytes(2, "big") + bytes(9)
    with engine.control_of(device):
        engine.packet_out(header + b"held".ljust(60))
        time.sleep(0.1)  # time in which it must not pass; nothing can be waited for
        assert port.sent == []
    assert port.wait(1) == [(2, b"held".ljust(60))]


def test_gate_lets_the_waiting_in_before_the_next_batch() -> None:
    gate, order = Gate(), []
    inside, waiting = threading.Event(), threading.Event()

    def other() -> None:
        inside.wait(DEADLINE)
        waiting.set()
        with gate:
            order.append("control")

    thread = threading.Thread(target=other)
    thread.start()
    with gate:
        inside.set()
        waiting.wait(DEADLINE)
        until(gate._next.locked)
    with gate:
        order.append("data")
    thread.join(DEADLINE)
    assert order == ["control", "data"]


def test_stop_wakes_whoever_waits_and_is_prompt(port: QueuePort) -> None:
    engine = Engine([port], EngineOptions(cpu_port=CPU_PORT, packet_outs=1))
    results: list[bool] = []
    assert engine.packet_out(b"x")
    thread = threading.Thread(target=lambda: results.append(engine.packet_out(b"y")))
    thread.start()
    engine.start()
    started = time.monotonic()
    engine.stop()
    engine.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert time.monotonic() - started < 2.0
    assert len(results) == 1


def test_failure_of_a_port_ends_the_loop_and_is_kept(port: QueuePort) -> None:
    engine = Engine([port], EngineOptions())
    engine.start()
    port.broken = RuntimeError("gone")
    port.give(Received(1, b""))
    until(lambda: engine.failure is not None)
    engine.stop()
    assert isinstance(engine.failure, RuntimeError)
