"""A lane for a method with streams both ways."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

from p4switch.p4runtime.lanes.core import Core, Failure

log = logging.getLogger("p4switch.p4runtime")

T = TypeVar("T")


class Streams(Protocol[T]):
    """Who answers. All but `take` may be called from any thread; `open` and `close` must not wait."""

    def open(self) -> T:
        """A client has called."""

    def receive(self, stream: T, raw: bytes) -> None:
        """A message from it. May wait: it is the client who waits then."""

    def take(self, stream: T) -> Sequence[bytes] | Failure | None:
        """What is to be sent next, waiting for it; how the call ends, None if well."""

    def received_all(self, stream: T) -> None:
        """The client will say no more."""

    def close(self, stream: T) -> None:
        """The client is gone, or the call has ended. Perhaps again."""


class StreamLane(Generic[T]):
    """One thread of each call receives and one takes what is to be sent; from message to message it needs neither."""

    def __init__(self, core: Core, method: str, streams: Streams[T]) -> None:
        self._core = core
        self._streams = streams
        core.serve(method, self._arrived)

    def _arrived(self, call: Any) -> None:
        _Call(self._core, call, self._streams).start()


class _Call(Generic[T]):
    def __init__(self, core: Core, call: Any, streams: Streams[T]) -> None:
        self._core = core
        self._call = call
        self._streams = streams
        self._stream = streams.open()
        self._received: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        """At most one message: the next is asked for when it is taken."""
        self._outgoing: deque[bytes] = deque()
        self._begun = False
        self._sent = threading.Semaphore(0)
        """Released when all of `_outgoing` is sent, or the call is no more."""

    def start(self) -> None:
        self._core.batch(self._call, (self._core.close(),), self._closed)
        for work, name in ((self._read, "reader"), (self._write, "writer")):
            threading.Thread(target=work, name=f"p4rt-stream-{name}", daemon=True).start()

    def _closed(self, event: Any) -> None:
        self._streams.close(self._stream)

    # -- from the client ---------------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            self._ask()
            while (raw := self._received.get()) is not None:
                self._ask()
                self._streams.receive(self._stream, raw)
        finally:
            self._streams.received_all(self._stream)

    def _ask(self) -> None:
        core = self._core
        core.batch(self._call, (core.receive(),), lambda event: self._received.put(core.message_of(event)))

    # -- to the client -----------------------------------------------------------------------------------------------

    def _write(self) -> None:
        core, ended = self._core, False
        while not ended:
            batch = self._streams.take(self._stream)
            if batch is None or isinstance(batch, Failure):
                ended = True
                core.batch(self._call, (*self._begin(), core.status(batch)), lambda event: None)
            elif batch:
                self._outgoing.extend(batch)
                self._send()
                self._sent.acquire()
        self._streams.close(self._stream)

    def _begin(self) -> tuple[Any, ...]:
        if self._begun:
            return ()
        self._begun = True
        return (self._core.begin(),)

    def _send(self) -> None:
        raw = self._outgoing.popleft()
        # Initial metadata would wait in the buffer with the message, and the batch for both.
        message = self._core.send(raw, more=self._begun and bool(self._outgoing))
        self._core.batch(self._call, (*self._begin(), message), self._went)

    def _went(self, event: Any) -> None:
        if not event.success:
            self._outgoing.clear()
        if self._outgoing:
            self._send()
        else:
            self._sent.release()
