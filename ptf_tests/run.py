"""Runs the PTF tests on a switch that it starts itself. Needs no root: packets travel over a nanomsg socket.

python ptf_tests/run.py                              all tests, on the embedded switch
python ptf_tests/run.py --target bmv2                all tests, on simple_switch_grpc (from PATH)
python ptf_tests/run.py --punt ethernet              with the controller behind an Ethernet punt port
python ptf_tests/run.py steering suspend.Resume      one module, one test
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from splitmerge.interrupts import interrupts_later
from topo import bmv2

HERE = Path(__file__).parent
PROGRAMS = {"embedded": "p4switch", "bmv2": "simple_switch_grpc"}
DEVICE_ID = 1
CPU_PORT = 510
PORTS = "1-3,11-15,20"
"""Switch ports that the tests use; 3 gets no role, 20 is the punt port."""
START_DEADLINE = 30.0
"""Seconds until the switch must listen."""
STOP_DEADLINE = 10.0
"""Seconds that the switch may take to end once told to."""
TEST_DEADLINE = 60
"""Seconds that one test may take."""
GROUPS = ("all", "standard")
"""What ptf takes for all tests, besides modules and tests themselves."""


class CannotRun(Exception):
    """The tests cannot be run here; the message says what is missing."""


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns ptf's exit status, or 2 if the tests could not be run."""
    parser = argparse.ArgumentParser(
        prog="ptf_tests/run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--target",
        choices=sorted(PROGRAMS),
        default=os.environ.get("TARGET") or "embedded",
        help="the switch to test: embedded is this project's p4switch, bmv2 is simple_switch_grpc "
        "(default: the variable TARGET, or else embedded)",
    )
    parser.add_argument(
        "--punt",
        choices=("packet-in", "ethernet"),
        default="packet-in",
        help="where the controller is: behind the CPU port (P4Runtime) or an Ethernet port (default: packet-in)",
    )
    parser.add_argument("tests", nargs="*", help="modules or module.Class; all tests if none is named")
    chosen = parser.parse_args(arguments)
    if chosen.target not in PROGRAMS:
        parser.error(f"TARGET={chosen.target}: choose from {', '.join(sorted(PROGRAMS))}")
    # Told to end, it still stops the switch that it started.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        if chosen.tests:
            check_names(chosen.tests, known_tests())
        return run(chosen.target, chosen.punt, chosen.tests)
    except CannotRun as error:
        sys.stderr.write(f"ptf_tests: {error}\n")
        return 2


def known_tests() -> dict[str, list[str]]:
    """The tests of each module here, in their order: classes that have, or inherit in their module, a `runTest`.

    Read from the text, since importing it takes a second.
    """
    modules = {path.stem: ast.parse(path.read_text()) for path in sorted(HERE.glob("*.py"))}
    found = {name: _tests_in(module) for name, module in modules.items()}
    return {name: tests for name, tests in found.items() if tests}


def _tests_in(module: ast.Module) -> list[str]:
    tests: list[str] = []
    for each in module.body:
        if not isinstance(each, ast.ClassDef):
            continue
        own = any(isinstance(item, ast.FunctionDef) and item.name == "runTest" for item in each.body)
        if own or any(isinstance(base, ast.Name) and base.id in tests for base in each.bases):
            tests.append(each.name)
    return tests


def check_names(names: list[str], known: dict[str, list[str]]) -> None:
    """Whether each is a test, a module or a group of ptf's, a `^` in front of it or not.

    :raises CannotRun: naming the tests that there are in that module, or the modules that there are.
    """
    for name in names:
        module, _, test = name.removeprefix("^").partition(".")
        if module in GROUPS and not test:
            continue
        if module not in known:
            raise CannotRun(f"there is no test {name}; modules of tests: {', '.join(known)}")
        if test and test not in known[module]:
            raise CannotRun(f"there is no test {name}; {module} has: {', '.join(known[module])}")


def run(target: str, punt: str, tests: list[str]) -> int:
    """Start the switch, run ptf on it, stop the switch; returns ptf's status. :raises CannotRun:"""
    ptf = _find("ptf", "install the project with its dev extras")
    switch = _find(PROGRAMS[target], "install it, or choose another --target")
    if target == "bmv2" and bmv2.lacks(str(switch), bmv2.PACKETS):
        raise CannotRun(f"{switch} was built without nanomsg, which brings these tests' packets: build it with that")
    grpc_port, thrift_port = _free_ports(2)
    with tempfile.TemporaryDirectory(prefix="ptf-") as name:
        folder = Path(name)
        packets = folder / "packets"
        command = [
            *(str(switch), "--packet-in", f"ipc://{packets}", "--no-p4", "--device-id", str(DEVICE_ID)),
            *("--log-level", "warn", "--thrift-port", str(thrift_port), "--"),
            *("--grpc-server-addr", f"127.0.0.1:{grpc_port}", "--cpu-port", str(CPU_PORT)),
        ]
        with _running(command, folder / "switch.log", grpc_port, packets):
            parameters = f"address='127.0.0.1:{grpc_port}';device_id={DEVICE_ID};target='{target}';punt='{punt}'"
            return _run_ptf(ptf, parameters, f"ipc://{packets}", folder, tests)


def _run_ptf(ptf: Path, parameters: str, packets: str, folder: Path, tests: list[str]) -> int:
    command = [
        *(sys.executable, str(ptf), "--test-dir", str(HERE), "--platform", "nn"),
        *("--device-socket", f"0-{{{PORTS}}}@{packets}"),
        *("--qlen", "1000", "--default-timeout", "5", "--default-negative-timeout", "0.05"),
        *("--log-file", str(folder / "ptf.log"), "--test-case-timeout", str(TEST_DEADLINE)),
        *("--test-params", parameters),
        *tests,
    ]
    environment = os.environ | {
        "PYTHONPATH": str(HERE.parent),
        "PYTHONWARNINGS": "ignore::DeprecationWarning",  # of ptf's own way to import
        "PYTHONDONTWRITEBYTECODE": "1",  # or ptf leaves compiled tests beside the sources
    }
    process: subprocess.Popen[bytes] | None = None
    try:
        with interrupts_later():
            process = subprocess.Popen(command, cwd=folder, env=environment)
        return process.wait()
    finally:
        if process is not None and process.poll() is None:
            _stop(process)


@contextmanager
def _running(command: list[str], log: Path, grpc_port: int, packets: Path) -> Iterator[None]:
    """The switch, from when it listens until the block is left; its log is shown if it ends too early."""
    process: subprocess.Popen[bytes] | None = None
    try:
        with interrupts_later(), log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=log.parent, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        _wait_until_listening(process, log, grpc_port, packets)
        yield
        if process.poll() is not None:
            sys.stderr.write(f"ptf_tests: the switch ended with status {process.returncode}:\n{log.read_text()}\n")
    finally:
        if process is not None:
            _stop(process)


def _wait_until_listening(process: subprocess.Popen[bytes], log: Path, grpc_port: int, packets: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE
    while not (packets.exists() and _accepts(grpc_port)):
        if process.poll() is not None:
            raise CannotRun(f"the switch ended with status {process.returncode}:\n{log.read_text()}")
        if time.monotonic() > deadline:
            raise CannotRun(f"the switch does not listen after {START_DEADLINE:g} s:\n{log.read_text()}")
        # Another process tells when it listens only by listening.
        time.sleep(0.02)


def _accepts(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.settimeout(1.0)
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    """TCP ports of the loopback that nobody has; all bound together, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _find(program: str, remedy: str) -> Path:
    """The program beside this Python, or on PATH. :raises CannotRun:"""
    beside = Path(sys.executable).parent / program
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        raise CannotRun(f"{program} is neither beside {sys.executable} nor on PATH: {remedy}")
    return Path(found)


if __name__ == "__main__":
    sys.exit(main())
