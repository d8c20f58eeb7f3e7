"""Short ways through grpcio: any client and any end of a call, as grpcio's own workers would have it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from p4switch.p4runtime import service
from p4switch.p4runtime.lanes import Failure, StreamLane, UnaryLane, open_core

METHOD = "/test.Service/Change"
DEADLINE = 10.0


STREAM = "/test.Service/Talk"


class Echo:
    """Streams that give each message back, the word "fail" excepted, and ``BURST`` as so many messages."""

    BURST = 1000

    def __init__(self) -> None:
        self.closed: list[queue.SimpleQueue[Any]] = []
        self.said_all: list[queue.SimpleQueue[Any]] = []

    def open(self) -> queue.SimpleQueue[Any]:
        return queue.SimpleQueue()

    def receive(self, stream: queue.SimpleQueue[Any], raw: bytes) -> None:
        match raw:
            case b"fail":
                stream.put(Failure(grpc.StatusCode.ABORTED, "as asked", (("why-bin", b"\0"),)))
            case b"burst":
                stream.put([str(i).encode() for i in range(self.BURST)])
            case b"large":
                stream.put([bytes([i]) * (1 << 20) for i in range(8)])
            case _:
                stream.put([raw])

    def take(self, stream: queue.SimpleQueue[Any]) -> Any:
        return stream.get()

    def received_all(self, stream: queue.SimpleQueue[Any]) -> None:
        self.said_all.append(stream)
        stream.put(None)

    def close(self, stream: queue.SimpleQueue[Any]) -> None:
        self.closed.append(stream)
        stream.put(None)


class Served:
    """A server with a method that answers as ``handle`` says, and an echo."""

    def __init__(self, path: Path, handle: Callable[[bytes], Failure | None], quick: bool) -> None:
        self.address = f"unix:{path}/lane.sock"
        self.workers = futures.ThreadPoolExecutor(4)
        self.server = grpc.server(self.workers, options=[("grpc.max_receive_message_length", -1)])
        core = open_core(self.server)
        assert core is not None, "the grpcio that is locked has what a lane needs"
        UnaryLane(core, METHOD, handle, quick=lambda raw: quick, workers=self.workers)
        self.echo = Echo()
        StreamLane(core, STREAM, self.echo)
        self.server.add_insecure_port(self.address)
        self.server.start()
        core.start()
        self.channel = grpc.insecure_channel(self.address, options=[("grpc.max_receive_message_length", -1)])
        self.call = self.channel.unary_unary(METHOD)
        self.talk = self.channel.stream_stream(STREAM)

    def closes(self) -> bool:
        """Whether a stream is closed, now or soon: its client may know of the end before."""
        end = time.monotonic() + DEADLINE
        while not self.echo.closed and time.monotonic() < end:
            time.sleep(0.01)
        return bool(self.echo.closed)

    def stop(self) -> None:
        self.channel.close()
        assert self.server.stop(0).wait(DEADLINE)
        self.workers.shutdown()


@pytest.fixture(params=[True, False], ids=["on the serving thread", "by a worker"])
def serve(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Served]]:
    served: list[Served] = []

    def starter(handle: Callable[[bytes], Failure | None] = lambda raw: None) -> Served:
        served.append(Served(tmp_path, handle, request.param))
        return served[-1]

    yield starter
    for item in served:
        item.stop()


def broken(raw: bytes) -> Failure | None:
    raise RuntimeError("of the handler")


REFUSED = Failure(grpc.StatusCode.UNKNOWN, "täglich", (("details-bin", b"\0\xff"),))


@pytest.mark.parametrize(
    ("handle", "code", "message", "metadata"),
    [
        (lambda raw: REFUSED, grpc.StatusCode.UNKNOWN, "täglich", [("details-bin", b"\0\xff")]),
        (
            lambda raw: Failure(grpc.StatusCode.PERMISSION_DENIED, "no"),
            grpc.StatusCode.PERMISSION_DENIED,
            "no",
            [],
        ),
        (broken, grpc.StatusCode.UNKNOWN, "Exception calling application: of the handler", []),
    ],
    ids=["with details", "without", "handler raises"],
)
def test_a_failure_reaches_the_client(serve: Any, handle: Any, code: Any, message: str, metadata: Any) -> None:
    served = serve(handle)
    for _ in range(3):  # the lane goes on
        with pytest.raises(grpc.RpcError) as caught:
            served.call(b"x", timeout=DEADLINE)
        assert (caught.value.code(), caught.value.details()) == (code, message)
        assert [tuple(item) for item in caught.value.trailing_metadata()] == metadata


@pytest.mark.parametrize("size", [0, 1, 70_000, 3 << 20])
def test_a_request_arrives_whole(serve: Any, size: int) -> None:
    seen: list[bytes] = []
    served = serve(seen.append)
    raw = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert served.call(raw, timeout=DEADLINE) == b""
    assert seen == [raw]


def test_many_clients_at_once_are_all_answered_once(serve: Any) -> None:
    seen: list[bytes] = []
    served = serve(seen.append)
    calls = [(str(i).encode(), served.call.future(str(i).encode(), timeout=DEADLINE)) for i in range(500)]
    assert all(call.result() == b"" for _, call in calls)
    assert sorted(seen) == sorted(raw for raw, _ in calls)


def test_calls_that_their_clients_give_up_leave_the_others_alone(serve: Any) -> None:
    hold, seen = threading.Event(), []

    def handle(raw: bytes) -> None:
        hold.wait(DEADLINE)
        seen.append(raw)

    served = serve(handle)
    given_up = [served.call.future(b"no", timeout=0.05) for _ in range(5)]
    for call in given_up:
        with pytest.raises(grpc.RpcError) as caught:
            call.result()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    waiting = [served.call.future(b"yes", timeout=DEADLINE) for _ in range(5)]
    waiting[0].cancel()
    hold.set()
    assert all(call.result() == b"" for call in waiting[1:])
    assert seen.count(b"yes") >= 4


def test_a_call_without_a_message_is_refused(serve: Any) -> None:
    served = serve(lambda raw: None)
    with pytest.raises(grpc.RpcError) as caught:
        served.channel.stream_unary(METHOD)(iter(()), timeout=DEADLINE)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert served.call(b"x", timeout=DEADLINE) == b""


def test_a_server_that_stops_waits_for_the_call_in_hand(serve: Any) -> None:
    entered = threading.Event()

    def handle(raw: bytes) -> None:
        entered.set()
        time.sleep(0.2)

    served = serve(handle)
    call = served.call.future(b"x", timeout=DEADLINE)
    assert entered.wait(DEADLINE)
    assert served.server.stop(DEADLINE).wait(DEADLINE)
    assert call.result() == b""


def test_other_methods_and_unknown_ones_are_the_servers_own(serve: Any) -> None:
    served = serve(lambda raw: None)
    with pytest.raises(grpc.RpcError) as caught:
        served.channel.unary_unary("/test.Service/Other")(b"", timeout=DEADLINE)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_stream_is_answered_in_order(serve: Any) -> None:
    served = serve()
    words = [str(i).encode() for i in range(200)]
    assert list(served.talk(iter(words), timeout=DEADLINE)) == words
    assert len(served.echo.said_all) == 1
    assert served.closes()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (b"burst", [str(i).encode() for i in range(Echo.BURST)]),
        (b"large", [bytes([i]) * (1 << 20) for i in range(8)]),
        (b"", [b""]),
    ],
    ids=["many at once", "beyond all windows", "empty"],
)
def test_what_is_sent_arrives_whole_and_at_once(serve: Any, word: bytes, expected: list[bytes]) -> None:
    said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    answers = serve().talk(iter(said.get, None), timeout=DEADLINE)
    said.put(word)
    assert [next(answers) for _ in expected] == expected  # though the client has not said all
    said.put(None)
    assert list(answers) == []


def test_a_stream_that_fails_says_so_after_what_was_sent(serve: Any) -> None:
    said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    answers = serve().talk(iter(said.get, None), timeout=DEADLINE)
    for word in (b"x", b"fail"):
        said.put(word)
    assert next(answers) == b"x"
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    said.put(None)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.ABORTED, "as asked")
    assert [tuple(item) for item in caught.value.trailing_metadata()] == [("why-bin", b"\0")]


def test_a_client_that_is_gone_is_noticed(serve: Any) -> None:
    served = serve()
    said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    answers = served.talk(iter(said.get, None), timeout=DEADLINE)
    said.put(b"large")
    next(answers)  # seven more are on their way
    answers.cancel()
    said.put(None)
    assert served.closes()
    assert list(served.talk(iter([b"x"]), timeout=DEADLINE)) == [b"x"]


def test_a_client_that_does_not_read_holds_up_nobody_else(serve: Any) -> None:
    served = serve()
    said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    slow = served.talk(iter(said.get, None), timeout=DEADLINE)
    said.put(b"large")
    assert list(served.talk(iter([b"x", b"y"]), timeout=DEADLINE)) == [b"x", b"y"]
    assert served.call(b"z", timeout=DEADLINE) == b""
    assert [len(next(slow)) for _ in range(8)] == [1 << 20] * 8
    said.put(None)


@pytest.mark.parametrize("version", ["1.80.0", "2.0.0", "unknown"])
def test_an_unknown_grpcio_has_no_lanes(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr("grpc.__version__", version)
    assert open_core(grpc.server(futures.ThreadPoolExecutor(1))) is None


def test_a_server_without_these_parts_has_no_lanes() -> None:
    assert open_core(object()) is None  # type: ignore[arg-type]


def test_without_lanes_all_is_served_the_same(
    monkeypatch: pytest.MonkeyPatch, start: Any, configs: Any, sm_names: Any
) -> None:
    monkeypatch.setattr(service, "open_core", lambda server: None)
    switch = start()
    client = switch.primary(configs["splitmerge"])
    entry = sm_names.entry("port_role", b"\1", action=sm_names.action("set_host"))
    client.insert(entry)
    assert client.read(sm_names.entry("port_role", b"\1"))
    with pytest.raises(grpc.RpcError) as caught:
        client.insert(entry)
    assert "refused" in caught.value.details()
    other = switch.client()
    other.arbitrate(1)
    assert other.ended() is grpc.StatusCode.INVALID_ARGUMENT
