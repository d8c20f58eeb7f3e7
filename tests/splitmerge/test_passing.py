"""`splitmerge exec` passes signals on to its command, once, and ends as that ends."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from splitmerge.cli.signals import SIGNALS

ROOT = Path(__file__).resolve().parents[2]
EXEC = """
import os, signal, subprocess, sys
from splitmerge.cli import life, main
from topo.spec import LabRecord
hangs_up = signal.SIG_IGN if "ignored" in sys.argv else signal.SIG_DFL
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL),
                        (signal.SIGHUP, hangs_up)):
    signal.signal(number, handler)
record = LabRecord(name="x", pid=os.getppid(), directory="/x", target="", api_socket="", namespaces={"client": ""})
life.running_lab = lambda name, state_dir: record
def enter():
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
life.popen_in = lambda record, namespace, argv: subprocess.Popen(argv, preexec_fn=enter)
main()
"""
"""The command, with the running test as its lab, whose only namespace is its own."""
PLAIN = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
COUNTS = """
import os, signal, time
came = []
def note(number, frame):
    came.append(signal.Signals(number).name)
    print(*came, flush=True)
    if number == signal.SIGTERM:
        os._exit(7)
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, note)
print(os.getpid(), flush=True)
while True:
    time.sleep(0.1)  # pause() would wait on for a signal that came just before it
"""
"""Says what it has got so far; SIGTERM ends it with 7."""


@contextmanager
def running(command: str, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """`splitmerge exec client -- python -c COMMAND`, when the command runs."""
    argv = [sys.executable, "-c", EXEC, "exec", "client", "--", sys.executable, "-c", command, *arguments]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, **options) as process:
        number = 0
        try:
            assert process.stdout is not None
            number = int(process.stdout.readline())
            yield process
        finally:
            process.kill()
            if number:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", SIGNALS, ids=lambda each: each.name)
def test_a_command_ends_by_a_signal_that_exec_alone_gets_and_exec_says_by_which(number: signal.Signals) -> None:
    with running(PLAIN, stderr=subprocess.DEVNULL) as process:
        process.send_signal(number)
        assert process.wait(20) == 128 + number


def test_a_command_decides_what_signals_do() -> None:
    with running(COUNTS) as process:
        for number in (signal.SIGINT, signal.SIGHUP):
            process.send_signal(number)
            assert said(process).endswith(number.name)
        process.send_signal(signal.SIGTERM)
        assert (said(process), process.wait(20)) == ("SIGINT SIGHUP SIGTERM", 7)


def test_the_terminals_ctrl_c_comes_once() -> None:
    master, slave = os.openpty()

    def own_terminal() -> None:
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    try:
        with running(COUNTS, stdin=slave, start_new_session=True, preexec_fn=own_terminal) as process:
            os.write(master, b"\x03")
            assert said(process) == "SIGINT"
            process.send_signal(signal.SIGTERM)  # passed on behind the other, were that passed on
            assert (said(process), process.wait(20)) == ("SIGINT SIGTERM", 7)
    finally:
        os.close(master)
        os.close(slave)


def test_what_exec_was_begun_with_ignored_is_not_passed_on() -> None:
    with running(COUNTS, "ignored") as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert (said(process), process.wait(20)) == ("SIGTERM", 7)


ENDED = """
import os, signal, subprocess
from splitmerge.cli.passing import Passing
with Passing() as passing:
    child = subprocess.Popen(["true"])
    passing.to(child.pid)
    child.wait()
    join = passing._thread.join
    passing._thread.join = lambda: (join(), [os.kill(os.getpid(), each) for each in passing._signals])
print("its status is the command's")
"""
"""Signals that nobody has taken when the command has ended: a busy machine wakes the thread that takes them late."""


def test_a_signal_that_ended_a_command_at_once_does_not_end_exec_besides() -> None:
    words = [sys.executable, "-c", ENDED]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert (result.returncode, result.stdout, result.stderr) == (0, "its status is the command's\n", "")
