"""A policy of one's own imported and made for trial, in a process of its own.

It is anybody's code: its import may fail, end its process, or never come to an end. Whatever it does, it does it there
first; `orchestrator.scaling.asking` bounds what it does later. It is begun anew, not forked: who asks may have threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from splitmerge.errors import BadInput
from splitmerge.exits import how_ended

MADE_WITHIN = 30.0
"""Seconds for a policy's module to be imported and its class to be made; a middlebox's setup has as long."""

_Problem = tuple[str, str, str]
"""What a `BadInput` is made of."""


def try_policy(name: str, settings: Mapping[str, Any], within: float | None = None) -> None:
    """Make the policy of this name, ``package.module:Class``, with these settings, where nobody waits for it for ever.

    Blocks for ``within`` seconds at most (`MADE_WITHIN`); then the process is ended.
    :raises BadInput: as `make_policy`; or that it has not come to an end by then, or has ended the process.
    """
    within = MADE_WITHIN if within is None else within
    where = f"elasticity: policy {name!r}"
    try:
        given = msgspec.msgpack.encode(settings)
    except (OverflowError, TypeError, ValueError) as error:
        raise BadInput(
            where, f"a setting is none that can be passed on: {error}", "numbers of at most 64 bits"
        ) from None
    with tempfile.TemporaryFile() as report:
        script = f"from {__name__} import main; main(*__import__('sys').argv[1:])"
        argv = [sys.executable, "-P", "-c", script, name, str(report.fileno()), str(os.getpid())]
        try:
            status = _run(argv, report.fileno(), given, within)
        except subprocess.TimeoutExpired:
            problem = f"its import, or its making, has not come to an end within {within:g} s"
            raise BadInput(where, problem, "see its module, and __init__, for what it waits for") from None
        except OSError as error:
            raise BadInput(where, f"no process can be made to try it: {error.strerror}", "end some others") from None
        report.seek(0)
        raw = report.read()
    if not raw:
        raise BadInput(where, f"its import, or its making, ends the process ({how_ended(status)})", "see its module")
    found: _Problem | None = msgspec.msgpack.decode(raw, type=_Problem | None)
    if found is not None:
        raise BadInput(*found)


def _run(argv: Sequence[str], report: int, settings: bytes, within: float) -> int:
    """The status that it ends with. :raises subprocess.TimeoutExpired: it is ended by force."""
    path = os.pathsep.join(each or os.getcwd() for each in sys.path)  # what is found from here, and nothing else
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(report,),
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        try:
            process.communicate(settings, timeout=within)
        finally:
            process.kill()
    return process.returncode


def main(name: str, report: str, parent: str) -> None:
    """The process; it does not return to what the policy's module may have left running.

    :param report: descriptor of the file that takes what is wrong.
    :param parent: process id of who asks.
    """
    from orchestrator.elasticity.settings import make_policy
    from topo.namespaces import die_with_parent

    die_with_parent(int(parent))
    settings = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=dict[str, Any])
    problem: _Problem | None = None
    try:
        make_policy(name, settings)
    except BadInput as error:
        problem = (error.where, error.problem, error.remedy)
    os.write(int(report), msgspec.msgpack.encode(problem))
    os._exit(0)
