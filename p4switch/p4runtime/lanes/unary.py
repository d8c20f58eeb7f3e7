"""A lane for a method with one request and an empty answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import grpc

from p4switch.p4runtime.lanes.core import Core, Failure

log = logging.getLogger("p4switch.p4runtime")

Handler = Callable[[bytes], Failure | None]
"""Carries out a serialized request; None: done."""


class UnaryLane:
    """Requests that are ``quick`` are handled on the serving thread, the others by ``workers``."""

    def __init__(
        self, core: Core, method: str, handle: Handler, *, quick: Callable[[bytes], bool], workers: Executor
    ) -> None:
        self._core = core
        self._method = method
        self._handle = handle
        self._quick = quick
        self._workers = workers
        core.serve(method, self._arrived)

    def _arrived(self, call: Any) -> None:
        self._core.batch(call, (self._core.receive(),), lambda event: self._received(call, event))

    def _received(self, call: Any, event: Any) -> None:
        raw = self._core.message_of(event)
        if raw is None:
            text = f'"{self._method}" requires exactly one request message.'  # as grpcio has it
            self._end(call, Failure(grpc.StatusCode.UNIMPLEMENTED, text))
        elif self._quick(raw):
            self._work(call, raw)
        else:
            self._workers.submit(self._work, call, raw)

    def _work(self, call: Any, raw: bytes) -> None:
        try:
            failure = self._handle(raw)
        except Exception as error:
            log.exception("%s", self._method)
            failure = Failure(grpc.StatusCode.UNKNOWN, f"Exception calling application: {error}")
        self._end(call, failure)

    def _end(self, call: Any, failure: Failure | None) -> None:
        core = self._core
        answer = (core.send(b""),) if failure is None else ()
        core.batch(call, (core.begin(), *answer, core.status(failure), core.close()), _ignore)


def _ignore(event: Any) -> None:
    """The call is over; whether its answer arrived is the client's affair."""
