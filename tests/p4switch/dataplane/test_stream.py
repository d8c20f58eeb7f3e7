"""``--dp-grpc-server-addr``: PacketStream and SetPortOperStatus, as BMv2's own tests use them."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format

from p4switch.app import Switch
from p4switch.cli import config_of
from p4switch.dataplane import StreamPorts
from p4switch.dataplane.messages import (
    OperStatus,
    PacketStreamRequest,
    PacketStreamResponse,
    SetPortOperStatusRequest,
    SetPortOperStatusResponse,
)
from p4switch.ports import Numbered, Sent
from p4switch.runtime import ActionCall, ActionSet, WeightedAction
from tests.p4switch.conformance.harness import CONFIGS

_TESTS = Path(__file__).parent.parent
WIRE = _TESTS / "ports" / "wire.json"
"""A program that sends from port 1 to port 2 and back."""
PROGRAMS = _TESTS / "conformance" / "programs"
DEVICE = 3
DEADLINE = 10.0


def frame(last: int = 0) -> bytes:
    return bytes([0xFF] * 6 + [2, 0, 0, 0, 0, 1]) + b"\x12\x34" + bytes([2, 0]) + bytes(43) + bytes([last])


class Client:
    """Stubs as generated code has them: the method's path and the messages."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stream = channel.stream_stream(
            "/p4.bm.DataplaneInterface/PacketStream",
            request_serializer=PacketStreamRequest.SerializeToString,
            response_deserializer=PacketStreamResponse.FromString,
        )
        self._status = channel.unary_unary(
            "/p4.bm.DataplaneInterface/SetPortOperStatus",
            request_serializer=SetPortOperStatusRequest.SerializeToString,
            response_deserializer=SetPortOperStatusResponse.FromString,
        )

    def open(self) -> tuple[queue.SimpleQueue[Any], Any]:
        """A queue of requests, None ends them; and the call."""
        requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        return requests, self._stream(iter(requests.get, None), timeout=DEADLINE)

    def exchange(self, *requests: Any) -> list[Any]:
        """All answers to these requests, then the end."""
        return list(self._stream(iter(requests), timeout=DEADLINE))

    def set_status(self, port: int, status: int, device: int = DEVICE) -> None:
        request = SetPortOperStatusRequest(device_id=device, port=port, oper_status=status)
        self._status(request, timeout=DEADLINE)


def packet(port: int, data: bytes, number: int = 0, device: int = DEVICE) -> Any:
    return PacketStreamRequest(id=number, device_id=device, port=port, packet=data)


@contextlib.contextmanager
def switch_on(path: Path, program: Path, *words: str) -> Iterator[tuple[Switch, Client]]:
    address = f"unix:{path}/dp"
    flags = ["--", "--grpc-server-addr", f"unix:{path}/s", "--dp-grpc-server-addr", address]
    config = config_of([str(program), "--device-id", str(DEVICE), *words, *flags])
    with Switch(config) as running:
        running.start()
        with grpc.insecure_channel(address) as channel:
            yield running, Client(channel)
        assert running.engine.failure is None


@pytest.fixture(params=["native", "interpreter"])
def switch(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Switch, Client]]:
    with switch_on(tmp_path, WIRE, "--backend", request.param) as opened:
        yield opened


def test_bytes_on_the_wire_are_the_protocols() -> None:
    assert packet(9, b"\xab", 42).SerializeToString() == bytes.fromhex("082a 1003 1809 2201ab")
    request = SetPortOperStatusRequest(device_id=3, port=9, oper_status=OperStatus.UP)
    assert request.SerializeToString() == bytes.fromhex("0803 1009 1802")
    assert "OPER_STATUS_UP" in text_format.MessageToString(request)


def test_answers_have_the_id_of_their_request(switch: tuple[Switch, Client]) -> None:
    client = switch[1]
    requests, call = client.open()
    requests.put(packet(1, frame(9), 42))
    answer = next(call)
    assert (answer.id, answer.device_id, answer.port, answer.packet) == (42, DEVICE, 2, frame(9))
    requests.put(packet(2, frame(8)))
    assert (answer := next(call)).id == 0 and answer.port == 1
    requests.put(None)
    assert list(call) == []
    assert call.code() is grpc.StatusCode.OK


def test_half_closing_waits_for_all_answers(switch: tuple[Switch, Client]) -> None:
    client = switch[1]
    for _ in range(3):
        answers = client.exchange(*(packet(1, frame(n % 251), n) for n in range(1, 1001)))
        assert [(item.id, item.packet) for item in answers] == [(n, frame(n % 251)) for n in range(1, 1001)]


def test_other_devices_empty_packets_and_ports_that_cannot_be(switch: tuple[Switch, Client]) -> None:
    wrong = [packet(1, frame(), 1, DEVICE + 1), packet(1, b"", 2), packet(1 << 20, frame(), 3)]
    assert [item.id for item in switch[1].exchange(*wrong, packet(1, frame(), 4))] == [4]


def test_one_client_at_a_time(switch: tuple[Switch, Client]) -> None:
    client = switch[1]
    requests, first = client.open()
    requests.put(packet(1, frame(), 1))
    assert next(first).id == 1
    with pytest.raises(grpc.RpcError) as refused:
        client.exchange(packet(1, frame(), 2))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    requests.put(packet(1, frame(), 3))
    assert next(first).id == 3, "the first client noticed nothing"
    first.cancel()
    requests.put(None)
    end: list[Any] = []
    until = time.monotonic() + DEADLINE
    while not end and time.monotonic() < until:  # a cancelled call is over for the client before the switch hears of it
        with contextlib.suppress(grpc.RpcError):
            end = client.exchange(packet(1, frame(), 4))
    assert [item.id for item in end] == [4]


def test_frames_without_a_client_are_counted(switch: tuple[Switch, Client]) -> None:
    running, client = switch
    client.exchange(packet(1, frame(), 1))
    ports = running.engine.ports[0]
    assert sorted(ports.ports()) == [1, 2]
    assert ports.send(2, frame()) is Sent.LATER


def test_oper_status_reaches_the_state(switch: tuple[Switch, Client]) -> None:
    running, client = switch
    client.set_status(5, OperStatus.DOWN)
    pipeline = running.control.pipeline
    assert pipeline is not None
    assert pipeline.device.state.ports_down == {5} == running.engine.ports_down()
    client.set_status(5, OperStatus.UP)
    assert not pipeline.device.state.ports_down
    for port, status, device in ((5, OperStatus.UNKNOWN, DEVICE), (5, OperStatus.UP, DEVICE + 1)):
        with pytest.raises(grpc.RpcError) as refused:
            client.set_status(port, status, device)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def spread(running: Switch) -> None:
    """Have the program choose between ports 1 and 2 by hash."""
    pipeline = running.control.pipeline
    assert pipeline is not None
    (table,) = (table for name, table in pipeline.device.state.tables.items() if name.endswith("by_selector"))
    choices = tuple(WeightedAction(ActionCall("ChoicesIngress.send", (port,)), 1, port) for port in (1, 2))
    with running.engine.control_of(pipeline.device):
        table.insert((6,), ActionSet(choices))


@pytest.mark.parametrize("backend", ["native", "interpreter"])
def test_a_port_that_is_down_is_not_chosen_not_even_by_the_next_program(tmp_path: Path, backend: str) -> None:
    requests = [packet(3, b"\0\6" + n.to_bytes(2, "big") + bytes(32), n + 1) for n in range(0, 1 << 16, 997)]
    with switch_on(tmp_path, PROGRAMS / "choices.json", "--backend", backend) as (running, client):

        def ports() -> dict[int, int]:
            return {item.id: item.port for item in client.exchange(*requests)}

        spread(running)
        before = ports()
        assert set(before.values()) == {1, 2} and len(before) == len(requests)
        client.set_status(1, OperStatus.DOWN)
        assert set(ports().values()) == {2}
        running.control.load(CONFIGS["choices"])
        spread(running)
        assert set(ports().values()) == {2}
        client.set_status(1, OperStatus.UP)
        assert ports() == before


def test_stopping_ends_the_stream(tmp_path: Path) -> None:
    with switch_on(tmp_path, WIRE) as (_, client):
        requests, call = client.open()
        requests.put(packet(1, frame(), 7))
        assert next(call).id == 7
    with pytest.raises(grpc.RpcError):
        next(call)
    requests.put(None)


def test_numbers_stay_with_frames() -> None:
    ports = StreamPorts("unix:x")
    session = ports.open()
    assert session is not None
    assert ports.bring(3, b"x", 9)
    ((port, data),) = ports.receive(8)
    assert isinstance(data, Numbered) and (port, data.number) == (3, 9)
    ports.leave(session)
    assert ports.receive(8) == []
    assert session.take() == []
    ports.close()
    assert not ports.bring(3, b"x", 9)
