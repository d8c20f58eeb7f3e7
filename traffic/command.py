"""What every traffic command shares: readiness, the end, and one JSON object on stdout.

A command says ``ready ADDRESS:PORT`` (one line) on the descriptor given with ``--ready-fd``, else on stderr, when it
can be used. It ends by itself, after ``--duration`` seconds, on SIGTERM or SIGINT, or when its stdin closes
(``--stop-on-stdin``), and then reports. argparse, not typer: a hundred of these start in an experiment, and each import
costs more than the command.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import msgspec
import uvloop

from splitmerge.errors import SplitmergeError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
Main = Callable[[argparse.Namespace, "Control"], Awaitable[msgspec.Struct]]


class Control:
    """How a command is told to end, and tells that it is ready."""

    def __init__(self, ready_fd: int = -1, *, progress: bool = False, stream: TextIO | None = None) -> None:
        self.stopped = asyncio.Event()
        self.hurried = asyncio.Event()
        """Told to end once more: what is under way is not waited for either."""
        self._ready_fd = ready_fd
        self._progress = progress
        self._stream = stream or sys.stderr

    def stop(self) -> None:
        """Told to end: finish what is under way, or, the second time, leave it."""
        (self.hurried if self.stopped.is_set() else self.stopped).set()

    def ready(self, address: str, port: int) -> None:
        """Say that the command can be used, once."""
        line = f"ready {address}:{port}\n"
        if self._ready_fd < 0:
            self._stream.write(line)
            self._stream.flush()
            return
        os.write(self._ready_fd, line.encode())
        os.close(self._ready_fd)

    def progress(self, text: str) -> None:
        """Tell a person, if asked to."""
        if self._progress:
            self._stream.write(text + "\n")
            self._stream.flush()

    async def stop_within(self, seconds: float) -> bool:
        """Wait for the end, at most so long; whether it has come."""
        try:
            await asyncio.wait_for(self.stopped.wait(), max(seconds, 0.0))
        except TimeoutError:
            return self.stopped.is_set()
        return True


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options that every command has."""
    made = argparse.ArgumentParser(prog=f"python -m traffic.{name}", description=description)
    _add_common(made)
    made.set_defaults(json=False, progress=False, ready_fd=-1, duration=0.0, stop_on_stdin=False)
    return made


def add_role(roles: argparse._SubParsersAction[argparse.ArgumentParser], name: str) -> argparse.ArgumentParser:
    """A sub-command, which takes the common options too, before its name or behind it."""
    made: argparse.ArgumentParser = roles.add_parser(name)
    _add_common(made)
    return made


def _add_common(made: argparse.ArgumentParser) -> None:
    # No defaults here: a sub-command's would undo what was given before its name.
    none = argparse.SUPPRESS
    made.add_argument("--json", action="store_true", default=none, help="JSON on one line (else indented)")
    made.add_argument("--progress", action="store_true", default=none, help="progress on stderr")
    made.add_argument("--ready-fd", type=int, default=none, metavar="FD", help="say `ready` there (default: on stderr)")
    made.add_argument("--duration", type=float, default=none, metavar="S", help="end after so many seconds")
    made.add_argument("--stop-on-stdin", action="store_true", default=none, help="end when stdin closes")


def options_of(kind: type[T], parsed: argparse.Namespace) -> T:
    """A dataclass of options out of what was parsed: one argument a field, by its name."""
    return kind(**{each.name: getattr(parsed, each.name) for each in fields(kind)})


def run(main: Main, options: argparse.Namespace, failure: Callable[[Any], str] = lambda report: "") -> int:
    """Run a command to its end and print its report; the exit status, 2 for bad input, 1 for what went wrong else.

    ``failure``: why a report is one of nothing done at all (said on stderr, and exit status 1), or empty.
    """
    try:
        report = uvloop.run(_supervise(main, options))
    except (SplitmergeError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2 if isinstance(error, ValueError) else 1
    text = msgspec.json.encode(report)
    _say_all((text if options.json else msgspec.json.format(text, indent=2)) + b"\n")
    if problem := failure(report):
        sys.stderr.write(f"error: {problem}\n")
    return 1 if problem else 0


def _say_all(report: bytes) -> None:
    """All of it to stdout, through a buffer of its own.

    An unbuffered ``sys.stdout`` (PYTHONUNBUFFERED) leaves out what a short write left over, and writes to a full pipe
    are short where work of the event loop's io_uring comes in between.
    """
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(report)


async def _supervise(main: Main, options: argparse.Namespace) -> msgspec.Struct:
    control = Control(options.ready_fd, progress=options.progress)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, control.stop)
    if options.stop_on_stdin:
        loop.add_reader(sys.stdin.fileno(), _read_stdin, loop, control)
    if options.duration > 0:
        loop.call_later(options.duration, control.stopped.set)
    return await main(options, control)


def _read_stdin(loop: asyncio.AbstractEventLoop, control: Control) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        loop.remove_reader(sys.stdin.fileno())
        control.stopped.set()
