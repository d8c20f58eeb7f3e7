"""What the cores ask their shell to do. The shell carries instructions out in order."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from splitmerge.flowkey import FlowKey
from splitmerge.messages import Message


@dataclass(frozen=True, slots=True)
class ToOrchestrator:
    """Send on the control connection; if it is away the message is lost, and the orchestrator will ask again."""

    message: Message


@dataclass(frozen=True, slots=True)
class ToLocks:
    """Send to the lock service; if it is away the message is lost, and the core will say it again."""

    message: Message


@dataclass(frozen=True, slots=True)
class ToPeer:
    """Send to another replica; if it cannot be reached the message is lost, and the core will say it again.

    ``again``: it was sent before. The connection is a reliable stream, so while bytes wait on it nothing is lost that
    was sent on it, and saying it again would only make a slow peer slower: the shell leaves it out then.
    """

    address: str
    message: Message
    again: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """Send on the connection that the message being handled came from."""

    message: Message


@dataclass(frozen=True, slots=True)
class Hold:
    """To the data plane: direct packets of these keys and buckets wait until END of the epoch.

    ``spared``: keys whose packets do not wait.
    """

    epoch: int
    keys: tuple[bytes, ...]
    buckets: tuple[int, ...]
    spared: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Keep:
    """To the data plane: packets of these keys and buckets wait until it is decided whose they are.

    ``packets``, ``size`` (bytes): most that may wait; without any room they are dropped and counted.
    ``spared``: keys whose packets do not wait.
    """

    epoch: int
    keys: tuple[bytes, ...]
    buckets: tuple[int, ...]
    packets: int
    size: int
    spared: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Unhold:
    """To the data plane: what this epoch keeps is this replica's, and goes to the middlebox in order."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Met:
    """A MARKER of this epoch has been met: exports that wait for it may begin."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Process:
    """Give this frame to the middlebox now."""

    frame: bytes
    key: FlowKey | None


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send this frame on the traffic interface, after everything sent before."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Looped:
    """The switch has sent a LOOP of this number back."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Await:
    """What a sequence yields: carry the steps out, and go on with it when ``done`` says so (or throw `Timeout` in).

    ``what`` is what is waited for, for people.
    """

    steps: list[Instruction]
    done: Callable[[], bool]
    what: str


Instruction = Looped | ToOrchestrator | ToLocks | ToPeer | Reply | Hold | Keep | Unhold | Met | Process | Transmit

Waiting = Generator[Await, float, Any]
"""A sequence: yields what to wait for, is sent the time then, and returns the result. Closing it gives up."""
Begin = Callable[[float, float], Waiting]
"""Begins a sequence: from the time, and the seconds that it may take."""


def drive(sequence: Waiting, wait: Callable[[Await], float]) -> Any:
    """Run a sequence; ``wait`` returns the time, and what it raises is raised inside the sequence."""
    try:
        awaited = next(sequence)
        while True:
            try:
                now = wait(awaited)
            except BaseException as error:
                awaited = sequence.throw(error)
            else:
                awaited = sequence.send(now)
    except StopIteration as stop:
        return stop.value
