"""Ctrl-C in a command that waits for the orchestrator: what goes on is said, how to follow it and how to end it."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from splitmerge.cli import main
from splitmerge.cli.app import app
from splitmerge.cli.errors import Overdue, status_of
from splitmerge.cli.waiting import Action, patience, told
from splitmerge.errors import Unreachable
from topo.naming import default_state_dir

ROOT = Path(__file__).resolve().parents[2]


def move(epoch: int, source: int = 1, target: int = 2) -> dict[str, Any]:
    return {"epoch": epoch, "source": source, "target": target}


MOVING = Action("moving to replica 2", "moves", ours=lambda each: each["target"] == 2)
MERGING = Action("merging replica 1", "replicas", cancels=False, undo="it cannot be called off")


@pytest.mark.parametrize(
    ("action", "running", "problem", "remedy"),
    [
        (MOVING, [], "goes on, unless it is over", "`splitmerge moves --name x` shows it"),
        (MOVING, None, "goes on; which moves are under way, nobody says now", "`splitmerge moves --name x` shows it"),
        (MOVING, [move(3, target=9), move(4, source=0)], "goes on, unless it is over", "moves --name x` shows it"),
        (MOVING, [move(3)], "goes on: move 3 from replica 1 to 2", "`splitmerge cancel --name x 3` calls it off"),
        (
            MOVING,
            [move(number) for number in range(3, 8)],
            "move 3 from replica 1 to 2, move 4 from replica 1 to 2, move 5 from replica 1 to 2 and 2 more moves",
            "`splitmerge cancel --name x NUMBER` calls one off",
        ),
        (MERGING, [move(3)], "goes on: move 3", "`splitmerge replicas --name x` shows it; it cannot be called off"),
    ],
)
def test_what_goes_on(action: Action, running: list[dict[str, Any]] | None, problem: str, remedy: str) -> None:
    said, to_do = told(default_state_dir() / "x", action, running)
    assert problem in said and to_do.endswith(remedy) and said.startswith(action.what)


@pytest.mark.parametrize("deadline", [None, 0.0, 3600.0, 1e10, 1e300])
def test_a_wait_is_one_that_a_socket_takes(deadline: float | None) -> None:
    """What is too much, the orchestrator refuses, once it is asked."""
    with socket.socket() as one:
        one.settimeout(patience(deadline, 64))
        assert one.gettimeout() >= 64 * 120


class Slow(socketserver.ThreadingUnixStreamServer):
    """An orchestrator that never ends what it is asked for, but says that move 17 is under way."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.asked = threading.Event()
        self.done = threading.Event()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Slow  # type: ignore[assignment]

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *arguments: Any) -> None: ...

    def do_POST(self) -> None:
        self.server.asked.set()
        self.server.done.wait(30)

    do_DELETE = do_POST

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answers: dict[str, Any] = {"/status": {"moves_running": [move(17)]}, "/replicas": []}
        body = json.dumps(answers[path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def slow(short_dir: Path) -> Iterator[Slow]:
    """The orchestrator of a lab ``lab`` in that directory, whose process is this one."""
    directory = short_dir / "lab"
    directory.mkdir()
    api = directory / "api.sock"
    record = {
        "name": "lab", "pid": os.getpid(), "directory": str(directory), "target": "embedded", "api_socket": str(api),
        "namespaces": {},
    }  # fmt: skip
    (directory / "lab.json").write_text(json.dumps(record))
    server = Slow(api)
    thread = threading.Thread(target=server.serve_forever, name="orchestrator")
    thread.start()
    yield server
    server.done.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("arguments", "problem", "remedies"),
    [
        (["migrate", "--bucket", "1", "--target", "2"], "moving to replica 2 goes on: move 17", ["moves", "cancel 17"]),
        (["scale-out"], "scaling out by 1 goes on: move 17", ["scale-in", "cancel 17"]),
        (["scale-in", "--replica", "1"], "merging replica 1 goes on: move 17", ["replicas", "cannot be called off"]),
        (["scale-in", "--drain"], "draining a replica goes on: move 17", ["replicas", "cannot be called off"]),
        (["rebalance"], "evening flows goes on: move 17", ["moves", "cancel 17"]),
        (["cancel", "17"], "calling move 17 off goes on: move 17", ["moves"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_interrupt_ends_the_command_and_says_what_goes_on(
    slow: Slow, short_dir: Path, arguments: list[str], problem: str, remedies: list[str]
) -> None:
    # What a shell runs in the background ignores it.
    heard = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    argv = [sys.executable, "-c", f"{heard}; from splitmerge.cli import main; main()"]
    with subprocess.Popen(
        [*argv, *arguments, "--json", "--state-dir", str(short_dir)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert slow.asked.wait(20)
            process.send_signal(signal.SIGINT)
            out, said = process.communicate(timeout=20)
        finally:
            process.kill()
    error = json.loads(said)
    assert (process.returncode, out, error["where"]) == (130, "", "interrupted")
    assert error["error"].startswith(problem)
    words = f" --state-dir {short_dir}"
    for each in remedies:
        verb, _, more = each.partition(" ")
        command = f"splitmerge {verb}{words}" + (f" {more}" if more else "")
        assert (each if verb == "cannot" else command) in error["remedy"], error


@pytest.mark.parametrize(
    ("arguments", "seconds", "problem", "remedies"),
    [
        (
            ["migrate", "--bucket", "1", "--target", "2"], 0.2, "moving to replica 2 goes on: move 17",
            ["`splitmerge moves", "17` calls it off"],
        ),
        (["migrate", "--bucket", "1", "--target", "2", "--deadline", "0.1"], 0.3, "moving to replica 2 goes on", []),
        (["scale-out", "--count", "2"], 0.4, "scaling out by 2 goes on: move 17", ["17` calls it off", "scale-in"]),
        (["rebalance"], 0.2, "evening flows goes on: move 17 from replica 1 to 2", ["17` calls it off"]),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, list) else "",
)  # fmt: skip
def test_an_answer_that_does_not_come_in_time_says_what_goes_on_and_how_to_call_it_off(
    slow: Slow, short_dir: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], seconds: float, problem: str,
    remedies: list[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("splitmerge.cli.waiting.LONG", 0.2)
    error = CliRunner().invoke(app, [*arguments, "--state-dir", str(short_dir)]).exception
    assert isinstance(error, Overdue) and status_of(error) == 1
    assert error.where == f"no answer within {seconds:g} s" and error.problem.startswith(problem)
    assert all(each in error.remedy for each in remedies), error.remedy


@pytest.mark.parametrize("command", [["migrate", "--bucket", "1", "--target", "2"], ["status"]], ids=lambda c: c[0])
def test_an_interrupt_before_anything_is_asked_says_so(
    slow: Slow, short_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    def interrupted(*options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("splitmerge.cli.options.read_record", interrupted)
    monkeypatch.setattr("sys.argv", ["splitmerge", *command, "--state-dir", str(short_dir)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert (ended.value.code, said) == (130, "error: interrupted: nothing that the command began goes on\n")


def test_an_orchestrator_that_dies_meanwhile_leaves_a_hint_what_became_of_it(slow: Slow, short_dir: Path) -> None:
    slow.done.set()  # it closes the connection without an answer
    result = CliRunner().invoke(app, ["migrate", "--bucket", "1", "--target", "2", "--state-dir", str(short_dir)])
    assert isinstance(result.exception, Unreachable)
    said = str(result.exception)
    assert "(before you ask again, see with `splitmerge moves" in said and "what became of moving to replica 2" in said


def test_one_that_cannot_be_asked_has_begun_nothing(slow: Slow, short_dir: Path) -> None:
    (short_dir / "lab" / "api.sock").unlink()
    result = CliRunner().invoke(app, ["migrate", "--bucket", "1", "--target", "2", "--state-dir", str(short_dir)])
    assert isinstance(result.exception, Unreachable) and "became of" not in str(result.exception)
