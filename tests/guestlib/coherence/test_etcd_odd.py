"""An etcd that answers what it should not: whoever waits hears of it, and the thread goes on."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from guestlib.blocking import SelectorPoller
from guestlib.coherence import worker
from guestlib.coherence.etcd import EtcdAddress, EtcdLocks, connect
from guestlib.coherence.worker import LockWorker
from splitmerge.messages import Message, SharedElement, SharedLock, SharedLockRefused, SharedRenew, SharedWrite

WITHIN = 10.0
GOOD: dict[str, Any] = {
    "/kv/range": {},
    "/lease/grant": {"ID": "7"},
    "/kv/txn": {"succeeded": True, "header": {"revision": "9"}, "responses": [{}, {"response_range": {}}]},
    "/lease/keepalive": {"result": {"TTL": "5"}},
}


class Odd(ThreadingHTTPServer):
    """Says what is in ``answers``, by the end of the path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = dict(GOOD)

    @property
    def address(self) -> EtcdAddress:
        return EtcdAddress("127.0.0.1", self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._say({"etcdserver": "3.5.0"})

    def do_POST(self) -> None:
        assert isinstance(self.server, Odd)
        self.rfile.read(int(self.headers["content-length"]))
        self._say(next(answer for end, answer in self.server.answers.items() if self.path.endswith(end)))

    def _say(self, answer: Any) -> None:
        raw = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def odd() -> Iterator[Odd]:
    with Odd() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(WITHIN)


def locks_of(odd: Odd) -> EtcdLocks:
    return EtcdLocks(connect(odd.address), "test", "a", 5.0, time.monotonic)


ASK = SharedLock(request=1, key="k")
ODD: list[tuple[str, str, Any]] = [
    ("a list", "/kv/range", []),
    ("nothing", "/kv/range", None),
    ("a key without revision", "/kv/range", {"kvs": [{"value": "YS8x"}]}),
    ("keys that are none", "/kv/range", {"kvs": [3]}),
    ("a lease without number", "/lease/grant", {"ID": None}),
    ("too few responses", "/kv/txn", {"succeeded": True, "header": {"revision": "9"}, "responses": []}),
    ("responses of another form", "/kv/txn", {"succeeded": True, "header": {}, "responses": "ab"}),
]


@pytest.mark.parametrize(("end", "answer"), [each[1:] for each in ODD], ids=[each[0] for each in ODD])
def test_a_lock_is_refused_if_the_answer_makes_no_sense(
    odd: Odd, end: str, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    locks = locks_of(odd)
    odd.answers[end] = answer
    (refused,) = locks.handle(ASK)
    assert isinstance(refused, SharedLockRefused) and "makes no sense" in refused.reason
    assert locks.next_due() is None and len(caplog.records) == 1
    odd.answers = dict(GOOD)
    assert locks.handle(SharedLock(request=2, key="k")), "and then it is given"


def test_a_write_and_a_renewal_are_asked_again(odd: Odd) -> None:
    locks = locks_of(odd)
    locks.handle(ASK)
    element = SharedElement(origin="i", version=9, kind="Limit", value=b"x")
    for answer in ([], {"succeeded": False, "responses": []}, {"responses": [None]}):
        odd.answers["/kv/txn"] = answer
        assert locks.handle(SharedWrite(key="k", element=element)) == []
    odd.answers["/lease/keepalive"] = {"result": []}
    assert locks.handle(SharedRenew(key="k", token=9)) == []


@pytest.mark.parametrize("fault", ["no certificates", "a defect"])
def test_a_thread_that_cannot_work_refuses(
    poller: SelectorPoller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    if fault == "a defect":
        monkeypatch.setattr(worker, "EtcdLocks", None)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = EtcdAddress("127.0.0.1", nobody.getsockname()[1], tls=fault == "no certificates")
        heard: list[Message] = []
        made = LockWorker(address, None, "a", 5.0, poller, heard.append)
        for request in (1, 2):
            made.take(SharedLock(request=request, key="k"))
            until = time.monotonic() + WITHIN
            while len(heard) < request and time.monotonic() < until:
                poller.run(0.1)
        made.close()
    assert [each.request for each in heard if isinstance(each, SharedLockRefused)] == [1, 2]
    assert len(caplog.records) == 1
