"""Real programs in a lab's namespaces."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from topo.enter import popen_in
from topo.spec import LabRecord

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN = 30.0


@contextmanager
def peer(record: LabRecord, namespace: str, *argv: str, ready: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """A program, killed at the end. ``ready``: wait until it prints that word."""
    process = popen_in(
        record, namespace, argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        if ready:
            _wait(process)
        yield process
    finally:
        process.kill()
        process.communicate()


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command line of a module."""
    return (sys.executable, "-m", module, *arguments)


def feed(process: subprocess.Popen[bytes], line: str) -> None:
    """Give it a line of input. It must be there to read it."""
    assert process.stdin is not None
    try:
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        raise AssertionError(f"{process.args} has ended: {process.communicate()}") from None


def finish(process: subprocess.Popen[bytes], within: float) -> str:
    """End its input, wait for its end; what it printed. It must succeed."""
    out, problem = process.communicate(timeout=within)
    assert process.returncode == 0, problem.decode(errors="replace")[-2000:]
    return out.decode()


def run(record: LabRecord, namespace: str, *argv: str, within: float = 30.0) -> str:
    """Run a program to its end; what it printed."""
    with peer(record, namespace, *argv, ready=False) as process:
        return finish(process, within)


def _wait(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    found, _, _ = select.select([process.stdout], [], [], READY_WITHIN)
    line = process.stdout.readline() if found else b""
    if line.strip() != b"ready":
        process.kill()
        _, problem = process.communicate()
        raise AssertionError(f"{process.args} is not ready: {line!r} {problem.decode(errors='replace')[-2000:]}")
