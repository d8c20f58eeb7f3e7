"""A middlebox set up for trial, in a process of its own: what it refuses, it refuses before a lab is built.

It is anybody's code: it may fail, end its process, or never come to an end. Whatever it does, it does it there.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from splitmerge.cli.signals import as_ever
from splitmerge.errors import BadInput, SplitmergeError, shortened
from splitmerge.exits import how_ended
from splitmerge.plugins import in_words
from topo.namespaces import die_with_parent

SETUP_WITHIN = 30.0
"""Seconds for the module to be imported and its setup to return; a lab's agent has as long (`topo.lab`)."""
PROBLEM_MOST = 2000
"""Characters of what is told of a problem."""
_LENGTH = struct.Struct("!I")


class Tried(msgspec.Struct, frozen=True):
    """A middlebox that was set up."""

    answers: tuple[bytes, ...] = ()
    """The addresses at which it answers (`guestlib.middlebox.Middlebox`)."""
    unread: tuple[str, ...] = ()
    """Keys of its configuration that its setup has not asked for."""


class _Report(msgspec.Struct):
    """What the trial says: what was set up, or what is wrong."""

    tried: Tried = Tried()
    problem: tuple[str, str, str] | None = None
    """Where, what and what to do."""


class Trial:
    """Begins when it is made, by fork(2): where no other thread runs. Its result is to be asked for, once."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        self._name = name
        sys.stdout.flush()
        sys.stderr.flush()
        self._reading, writing = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._reading)
            _run(writing, parent, name, settings)
        os.close(writing)

    def result(self, within: float | None = None) -> Tried:
        """What the setup has made. Nothing of the trial is left.

        :raises BadInput: what the middlebox refuses, how it fails, or that its setup has not returned in ``within`` s
            (`SETUP_WITHIN`).
        """
        within = SETUP_WITHIN if within is None else within
        try:
            raw = self._read(time.monotonic() + within)
        finally:
            os.close(self._reading)
            os.kill(self.pid, signal.SIGKILL)  # it is not reaped yet: still ours, ended or not
            _, status = os.waitpid(self.pid, 0)
        where = f"--middlebox {self._name}"
        if raw is None:
            problem = f"its setup has not returned within {within:g} s"
            raise BadInput(where, problem, "see its code for what it waits for")
        if not raw:
            ended = os.waitstatus_to_exitcode(status)
            how = how_ended(ended)
            raise BadInput(where, f"its setup ends the process ({how})", "see its code")
        report = msgspec.msgpack.decode(raw, type=_Report)
        if report.problem is not None:
            raise BadInput(*report.problem)
        return report.tried

    def _read(self, until: float) -> bytes | None:
        """The report; empty if the process ends without; None if neither has happened by then.

        Not up to the end of the pipe: processes that the setup has begun may have its other end too.
        """
        ended = os.pidfd_open(self.pid)
        raw = b""
        try:
            while (left := until - time.monotonic()) > 0:
                ready, _, _ = select.select([self._reading, ended], [], [], left)
                if self._reading in ready:
                    chunk = os.read(self._reading, 65536)
                    raw += chunk
                    if not chunk:
                        return b""
                    if _is_whole(raw):
                        return raw[_LENGTH.size :]
                elif ready and not select.select([self._reading], [], [], 0)[0]:  # nor written between the two looks
                    return b""
        finally:
            os.close(ended)
        return None


def _is_whole(raw: bytes) -> bool:
    return len(raw) >= _LENGTH.size and len(raw) - _LENGTH.size >= _LENGTH.unpack_from(raw)[0]


def _run(writing: int, parent: int, name: str, settings: Mapping[str, Any]) -> NoReturn:
    """The forked process; nothing of the command's own code may run on here."""
    status = 70  # sysexits.h: EX_SOFTWARE
    try:
        die_with_parent(parent)
        as_ever()
        report = msgspec.msgpack.encode(_tried(name, settings))
        sys.stdout.flush()
        with os.fdopen(writing, "wb") as output:
            output.write(_LENGTH.pack(len(report)) + report)
        status = 0
    finally:
        os._exit(status)


def _tried(name: str, settings: Mapping[str, Any]) -> _Report:
    from guestlib import Guest, load_middlebox
    from guestlib.middlebox import answers_of, set_up

    where = f"--middlebox {name}"
    try:
        middlebox = load_middlebox(name)
        guest = Guest(config=settings)
        set_up(middlebox, guest, where)
        return _Report(Tried(answers_of(middlebox, where), guest.unread()))
    except BadInput as error:
        problem = (error.where, error.problem, error.remedy)
    except SplitmergeError as error:
        problem = (where, str(error), "see its code, and --config")
    except (Exception, SystemExit) as error:
        problem = (where, f"its setup fails: {in_words(error)}", "see its code, and --config")
    whose, what, remedy = (shortened(str(each), PROBLEM_MOST) for each in problem)
    return _Report(problem=(whose, what, remedy))
