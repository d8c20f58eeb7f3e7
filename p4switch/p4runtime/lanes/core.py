"""A grpcio server's insides, as far as lanes need them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

log = logging.getLogger("p4switch.p4runtime")

_KNOWN = ((1, 81), (1, 99))
"""First and last versions of grpcio whose insides are as described here; those between were not all looked at."""
_PENDING = 16
"""Calls of a method that may arrive before the serving thread has asked for more."""
_NO_FLAGS = 0
_GO_ON: tuple[None, tuple[()]] = (None, ())
"""What the serving thread expects of a tag: no call of its own has ended, and nothing is to be called back."""


class Failure(NamedTuple):
    """How a call ends that is not OK. ``metadata``: trailing metadata."""

    code: grpc.StatusCode
    message: str
    metadata: tuple[tuple[str, bytes], ...] = ()


class Core:
    """Batches of operations on calls, each with what is to be done afterwards, on the serving thread.

    Operations belong to one batch each: they keep what is sent or received.
    """

    def __init__(self, server: Any, queue: Any, cygrpc: Any) -> None:
        self._server = server
        self._queue = queue
        self._cygrpc = cygrpc
        self._codes = {code: getattr(cygrpc.StatusCode, code.name.lower()) for code in grpc.StatusCode}
        self._hint = cygrpc.WriteFlag.buffer_hint
        self._methods: list[tuple[str, Callable[[Any], None]]] = []

    def serve(self, method: str, arrived: Callable[[Any], None]) -> None:
        """Before `start`: have ``arrived`` called with each call of ``method`` (``/package.Service/Method``)."""
        self._server.register_method(method)
        self._methods.append((method, arrived))

    def start(self) -> None:
        """Begin to take calls: after the server's own start."""
        for method, arrived in self._methods:
            _Arrivals(self, method, arrived).ask()

    def ask(self, method: str, tag: Callable[[Any], Any]) -> bool:
        """Ask for a call; ``tag`` gets its event. False: the server is stopping."""
        try:
            self._server.request_registered_call(self._queue, self._queue, method, tag)
        except ValueError:
            return False
        return True

    def batch(self, call: Any, operations: tuple[Any, ...], then: Callable[[Any], None]) -> None:
        """Start operations; ``then`` gets the event when all are done, ``success`` False if the call is no more."""

        def tag(event: Any) -> Any:
            try:
                then(event)
            except Exception:
                log.exception("a call's event")  # the serving thread must go on
            return _GO_ON

        call.start_server_batch(operations, tag)

    # -- operations --------------------------------------------------------------------------------------------------

    def receive(self) -> Any:
        """The next message; `message_of` its event."""
        return self._cygrpc.ReceiveMessageOperation(_NO_FLAGS)

    @staticmethod
    def message_of(event: Any) -> bytes | None:
        """What the first operation of a batch received; None: there is no more."""
        raw: bytes | None = event.batch_operations[0].message()
        return raw

    def begin(self) -> Any:
        """Initial metadata: in front of whatever is sent first."""
        return self._cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS)

    def send(self, raw: bytes, *, more: bool = False) -> Any:
        """A message. ``more`` follow at once: it may wait for them in a buffer of 64 KiB, and is done with earlier."""
        return self._cygrpc.SendMessageOperation(raw, self._hint if more else _NO_FLAGS)

    def status(self, failure: Failure | None) -> Any:
        """The last thing that is sent."""
        if failure is None:
            return self._cygrpc.SendStatusFromServerOperation(None, self._cygrpc.StatusCode.ok, b"", _NO_FLAGS)
        code, text = self._codes[failure.code], failure.message.encode()
        return self._cygrpc.SendStatusFromServerOperation(failure.metadata or None, code, text, _NO_FLAGS)

    def close(self) -> Any:
        """The call's end as the client sees it; once for each call."""
        return self._cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS)


def _version() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", grpc.__version__)
    return (int(found[1]), int(found[2])) if found else (0, 0)


class _Arrivals:
    """Calls of one method. New ones are asked for several at a time: the first steps of a call do not wait for that."""

    def __init__(self, core: Core, method: str, arrived: Callable[[Any], None]) -> None:
        self._core = core
        self._method = method
        self._arrived = arrived
        self._pending = 0

    def ask(self) -> None:
        while self._pending < _PENDING and self._core.ask(self._method, self._tag):
            self._pending += 1

    def _tag(self, event: Any) -> Any:
        self._pending -= 1
        if event.success:
            try:
                self._arrived(event.call)
            except Exception:
                log.exception("%s", self._method)
            if self._pending < _PENDING // 2:
                self.ask()
        return _GO_ON


def open_core(server: grpc.Server) -> Core | None:
    """The insides of a server that has not started; None if this grpcio is not as lanes expect."""
    if not _KNOWN[0] <= _version() <= _KNOWN[1]:
        log.info("grpcio %s: its own workers serve all calls", grpc.__version__)
        return None
    try:
        from grpc._cython import cygrpc

        state = server._state
        return Core(state.server, state.completion_queue, cygrpc)
    except (ImportError, AttributeError) as error:
        log.info("grpcio's own workers serve all calls: %s", error)
        return None
