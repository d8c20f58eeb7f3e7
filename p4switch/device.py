"""A switch without ports: one loaded program's state and the back end that runs it."""

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from p4switch.ir import Program
from p4switch.runtime import DROP_PORT, State


class Transmit(NamedTuple):
    """A frame to send."""

    port: int
    frame: bytes
    queue: int = 0
    """Of the port, where it has several; a larger number goes first."""


class Backend(Protocol):
    """Runs packets through a program. Never raises because of what a packet holds."""

    def process(self, port: int, frame: bytes, now_us: int) -> list[Transmit]:
        """All that one received frame leads to, in the order of sending."""


def microsecond_clock() -> Callable[[], int]:
    """A clock of microseconds that begins at 0 now."""
    start = time.monotonic_ns()

    def now_us() -> int:
        return (time.monotonic_ns() - start) // 1000

    return now_us


class Device:
    """State and back end of one program.

    A new pipeline is a new Device: nothing of the old one survives, clone sessions and groups included.
    ``process`` must be called with ``state.lock`` held; see p4switch.runtime.

    :raises UnsupportedError: the program uses what the back end cannot do.
    """

    def __init__(
        self,
        program: Program,
        *,
        drop_port: int = DROP_PORT,
        clock: Callable[[], int] | None = None,
        backend: Callable[[State], Backend] | None = None,
        queues: int = 1,
    ) -> None:
        self.program = program
        self.clock = clock or microsecond_clock()
        self.state = State(program, self.clock, drop_port=drop_port, queues=queues)
        self.backend = (backend or _interpreter)(self.state)
        self.process = self.backend.process


def _interpreter(state: State) -> Backend:
    from p4switch.interpreter import Interpreter  # a back end is only imported when it is used

    return Interpreter(state)
