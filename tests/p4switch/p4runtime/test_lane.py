"""Write's short way through grpcio: any client, any end of a call, and an end of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from p4switch.p4runtime.lane import Failure, Lane, open_lane

METHOD = "/test.Service/Change"
DEADLINE = 10.0


class Served:
    """A server with one method on a lane, which answers as ``handle`` says."""

    def __init__(self, path: Path, handle: Callable[[bytes], Failure | None]) -> None:
        self.address = f"unix:{path}/lane.sock"
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        lane = open_lane(self.server, METHOD, handle)
        assert lane is not None, "the grpcio that is locked has what a lane needs"
        self.lane: Lane = lane
        self.server.add_insecure_port(self.address)
        self.server.start()
        self.lane.start()
        self.channel = grpc.insecure_channel(self.address)
        self.call = self.channel.unary_unary(METHOD)

    def stop(self) -> None:
        self.channel.close()
        self.server.stop(0).wait(DEADLINE)
        self.lane.join(DEADLINE)
        assert not self.lane._thread.is_alive()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    served: list[Served] = []

    def starter(handle: Callable[[bytes], Failure | None]) -> Served:
        served.append(Served(tmp_path, handle))
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
    served.server.stop(DEADLINE).wait(DEADLINE)
    assert call.result() == b""
    served.lane.join(DEADLINE)
    assert not served.lane._thread.is_alive()


def test_other_methods_and_unknown_ones_are_the_servers_own(serve: Any) -> None:
    served = serve(lambda raw: None)
    with pytest.raises(grpc.RpcError) as caught:
        served.channel.unary_unary("/test.Service/Other")(b"", timeout=DEADLINE)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_grpcio_without_these_parts_has_no_lane() -> None:
    assert open_lane(object(), METHOD, lambda raw: None) is None  # type: ignore[arg-type]


def test_without_a_lane_writes_are_served_all_the_same(
    monkeypatch: pytest.MonkeyPatch, start: Any, configs: Any, sm_names: Any
) -> None:
    monkeypatch.setattr("p4switch.p4runtime.service.open_lane", lambda *args: None)
    client = start().primary(configs["splitmerge"])
    entry = sm_names.entry("port_role", b"\1", action=sm_names.action("set_host"))
    client.insert(entry)
    assert client.read(sm_names.entry("port_role", b"\1"))
    with pytest.raises(grpc.RpcError) as caught:
        client.insert(entry)
    assert "refused" in caught.value.details()
