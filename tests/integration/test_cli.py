"""The command line on a lab of its own, as a user types it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from splitmerge.demo.commands import TrafficCommand
from tests.integration.labs import SERVER, TestLab
from topo.enter import descendants
from topo.spec import _alive, read_record

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]

FLOWS = "3"
"""Two could be in one bucket, and then nothing could be evened."""

pytestmark = [pytest.mark.integ, pytest.mark.usefixtures("namespaces"), pytest.mark.timeout(300)]


def splitmerge(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "splitmerge", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "160", **environment},
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """``splitmerge up`` was run; calls other commands on that lab."""
    state = str(tmp_path_factory.mktemp("c"))
    target = os.environ.get("SPLITMERGE_TEST_TARGET", "embedded")

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return splitmerge(*arguments, SPLITMERGE_STATE_DIR=state)

    up = command("up", "--slots", "3", "--target", target, "--json")
    assert up.returncode == 0, up.stderr
    assert json.loads(up.stdout)["target"] == target
    try:
        yield command
    finally:
        down = command("down", "--json")
        assert json.loads(down.stdout) == {"name": "lab", "ended": True}
        assert os.listdir(state) == []


def ok(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr + result.stdout
    return result.stdout


def lab_of(run: Run) -> TestLab:
    """The lab behind the commands."""
    state = Path(json.loads(ok(run("status", "--json")))["lab"]["directory"])
    return TestLab(read_record(state), state.parent)


def test_a_fresh_lab_has_dropped_nothing(run: Run) -> None:
    nothing: dict[str, object] = {who: {} for who in ("switch", "replicas", "controller", "orchestrator")}
    assert json.loads(ok(run("status", "--json")))["drops"] == nothing
    assert "docs/drops.md" not in ok(run("status"))


def test_a_flow_is_seen_split_moved_and_merged(run: Run) -> None:
    lab = lab_of(run)
    lab.wait("the first replica", lambda client: client.get("/status")["ready"] and lab.live())
    web = lab.command("server", "http_server", "--bind", SERVER, "--port", "80")
    http = lab.command("client", "http_client", "--server", SERVER, "--connections", FLOWS, "--rate", "10")
    try:
        lab.wait("flows", lambda client: len(client.get("/flows")) == int(FLOWS))
        flow = json.loads(ok(run("flows", "--json")))[0]["flow"]
        assert json.loads(ok(run("scale-out", "--no-rebalance", "--json")))["added"] == [2]
        moved = json.loads(ok(run("migrate", "--flow", flow, "--target", "2", "--json")))["moves"]
        assert all(move["step"] == "done" for move in moved)
        assert {"flow": flow, "replica": 2}.items() <= next(
            each for each in json.loads(ok(run("flows", "--json"))) if each["flow"] == flow
        ).items()
        assert "2" in ok(run("replicas")) and flow in ok(run("flows"))
        how = (
            "--guarantee", "no-buffer", "--deadline", "5", "--references", "0.5", "--when-full", "drop", "--packets",
            "9000", "--bytes", "9000000",
        )  # fmt: skip
        back = json.loads(ok(run("migrate", "--all", "--source", "2", "--target", "1", *how, "--json")))["moves"]
        assert back and all((move["step"], move["guarantee"]) == ("done", "no-buffer") for move in back)
        assert "no-buffer" in ok(run("moves"))
        number = str(back[0]["epoch"])
        assert "no-buffer" in ok(run("moves", number)) and flow in ok(run("moves", number))
        assert flow in json.loads(ok(run("moves", number, "--json")))["scope"]["keys"]
        evened = json.loads(ok(run("rebalance", "--by", "flows", "--json")))["moves"]
        assert [(move["source"], move["target"], move["step"]) for move in evened] == [(1, 2, "done")]
        config = json.loads(ok(run("policy", "average-flows", "--set", "merge_below=0", "--json")))["config"]
        assert (config["policy"], config["settings"]) == ("average-flows", {"merge_below": 0})
        assert "merge_below" in ok(run("policy")) and run("policy", "luck").returncode == 1
        assert json.loads(ok(run("policy", "explicit", "--json")))["config"]["settings"] == {}
        assert json.loads(ok(run("moves", "--json")))[0]["step"] == "done"
        how = ("--guarantee", "loss-free", "--buffer", "cpu", "--deadline", "20")
        assert json.loads(ok(run("scale-in", *how, "--json")))["removed"] in (1, 2)
        newest = json.loads(ok(run("moves", "--limit", "1", "--json")))[0]
        assert (newest["guarantee"], newest["buffer"], newest["step"]) == ("loss-free", "cpu", "done")
        assert json.loads(ok(run("status", "--json")))["replicas"] == 1
    finally:
        _end(http, web)


def _end(*commands: TrafficCommand) -> None:
    for command in commands:
        command.kill()


def test_hosts_know_each_other_by_name_and_nobody_waits_for_a_dns(run: Run) -> None:
    look = (
        "import socket; print(socket.gethostbyname('server'), *(socket.getfqdn(a) for a in ('10.0.1.2', 'fd00:2::2')))"
    )
    assert ok(run("exec", "client", "--", sys.executable, "-c", look)).split() == ["10.0.2.2", "client", "server"]
    lost = (
        "import socket, time; began = time.monotonic()\n"
        "try: print(socket.gethostbyname('x.example.org'))\n"
        "except socket.gaierror: print(time.monotonic() - began)\n"
    )
    assert float(ok(run("exec", "client", "--", sys.executable, "-c", lost))) < 4.0, "an unanswered question takes 5 s"


def test_exec_gives_the_commands_own_output_and_status(run: Run) -> None:
    lab_of(run)
    inside = run("exec", "client", "--", "ip", "-4", "-brief", "address", "show", "eth0")
    assert "10.0.1.2/24" in ok(inside)
    assert run("exec", "client", "--", "false").returncode == 1
    assert run("exec", "client", "--", "no-such-command").returncode == 127
    assert run("exec", "client", "--", "/etc/passwd").returncode == 126


def test_hints_are_for_this_lab(run: Run) -> None:
    lab = lab_of(run)
    options = f"--state-dir {lab.directory}"
    assert f"`splitmerge down {options}`" in run("up").stderr
    assert f"`splitmerge moves {options}`" in run("cancel", "4711").stderr


def test_the_only_switch_has_one_name(run: Run) -> None:
    status = json.loads(ok(run("status", "--json")))
    assert list(status["switches"]) == ["switch"] == list(lab_of(run).record.switches)
    assert {each["switch"] for each in json.loads(ok(run("replicas", "--json")))} == {"switch"}
    assert "one of: switch" in run("shell", "--switch", "s1").stderr


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["exec", "nowhere", "--", "true"], ["nowhere", "client, server"]),
        (["exec", "client", "--", "no-such-command"], ["no-such-command", "install it"]),
        (["migrate", "--target", "2"], ["nothing to move", "--flow, --bucket, or --all"]),
        (["migrate", "--all", "--target", "2"], ["give --source"]),
        (["migrate", "--all", "--bucket", "1", "--target", "2"], ["--all, and flows or buckets besides"]),
        (["migrate", "--bucket", "1024", "--target", "2"], ["no such bucket", "0 to 1023"]),
        (["migrate", "--flow", "tcp,10.0.0.1", "--target", "2"], ["write protocol,address:port"]),
        (["migrate", "--bucket", "1", "--target", "77"], ["77"]),
        (["migrate", "--bucket", "1", "--target", "1", "--guarantee", "hope"], ["hope", "loss-free"]),
        (["cancel", "4711"], ["there is no move 4711", "splitmerge moves"]),
        (["scale-in", "--replica", "77"], ["77", "living replicas"]),
        (["up"], ["runs already", "splitmerge down --state-dir"]),
        (["--name", "x"], []),
    ],
)
def test_bad_input_says_where_and_what_to_do(run: Run, arguments: list[str], parts: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode != 0
    said = " ".join(result.stderr.split())
    assert all(part in said for part in parts), said
    assert "Traceback" not in said
    assert json.loads(ok(run("status", "--json")))["ready"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["status"], ["no lab runs", "splitmerge up --state-dir"]),
        (["up", "--vm-slots", "1", "--vm-image", "none"], ["none: No such file", "make vm-image"]),
        (["up", "--set", "nope=1"], ["no setting 'nope'", "the section has: min_replicas"]),
        (["down"], ["no lab runs"]),
        (["status", "--name", "../x"], ["not a usable name"]),
        (["up", "--middlebox", "no.such:Thing"], ["no.such"]),
        (["up", "--config", "none.json"], ["none.json", "No such file"]),
        (["up", "--topology", "none.toml"], ["none.toml", "No such file"]),
        (["up", "--policy", "flow-count", "--set", "merge_below=70"], ["merge below 70", "merge_below <= split"]),
        (["up", "--policy", "luck"], ["luck", "flow-count", "package.module:Class"]),
        (["up", "--state-dir", "/proc/x"], ["/proc/x", "--state-dir"]),
        (["up", "--slots", "3", "--topology", "x.toml"], ["--slots", "leave one"]),
        (["demo", "--json", "/tmp"], ["--json /tmp", "can be written"]),
        (["demo", "--migrations", "0"], ["--migrations", "at least 1"]),
        (["demo", "--json", "/no/such/folder/x.json"], ["its folder does not exist"]),
    ],
)
def test_without_a_lab_the_error_says_how_to_begin(tmp_path: Path, arguments: list[str], parts: list[str]) -> None:
    result = splitmerge(*arguments, SPLITMERGE_STATE_DIR=str(tmp_path))
    said = " ".join(result.stderr.split())
    assert result.returncode != 0 and all(part in said for part in parts), said
    assert "Traceback" not in said


# -- labs that do not come up --------------------------------------------------------------------------------------

LATE = """
import os, time

class Late:
    # Set up at once for trial, and not in the lab, whose directory is the current one there.
    def setup(self, guest):
        if os.path.exists("spec.json"): {then}

    def on_packet(self, guest, packet): ...
"""


@contextmanager
def coming_up(tmp_path: Path, then: str, **streams: Any) -> Iterator[tuple[Run, subprocess.Popen[str]]]:
    """Other commands on the lab, and its `up`, which lives, or not, when this ends."""
    (tmp_path / "late.py").write_text(LATE.format(then=then))
    state = tmp_path / "l"
    state.mkdir()
    environment = {"SPLITMERGE_STATE_DIR": str(state), "PYTHONPATH": str(tmp_path)}
    # What a shell runs in the background ignores it.
    heard = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    )
    argv = [sys.executable, "-c", f"{heard}; from splitmerge.cli import main; main()"]
    with subprocess.Popen(
        [*argv, "up", "--slots", "1", "--middlebox", "late:Late"], cwd=ROOT, env={**os.environ, **environment},
        text=True, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},
    ) as up:  # fmt: skip
        try:
            yield lambda *arguments: splitmerge(*arguments, **environment), up
        finally:
            up.kill()
            splitmerge("down", **environment)


def wait_for_build(run: Run) -> Any:
    """What `status` says of the lab once its agent is there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        result = run("status", "--json")
        said = json.loads(result.stdout or "{}").get("lab", {})
        if said and (Path(said["directory"]) / "logs" / "agent.log").exists():
            return said
        time.sleep(0.05)
    raise AssertionError(result)


def gone(processes: list[tuple[int, str]]) -> bool:
    """Whether they end: the kernel ends those whose parent did not, and whoever inherits them waits for them."""
    deadline = time.monotonic() + 5
    while (lives := any(_alive(pid) for pid, _ in processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not lives


def test_a_lab_that_is_being_built_is_told_of_and_ended(short_dir: Path) -> None:
    with coming_up(short_dir, "time.sleep(60)") as (run, up):
        lab = wait_for_build(run)
        assert (lab["state"], lab["started_by"]) == ("being built", up.pid)
        assert "is being built since" in run("replicas").stderr
        processes = descendants(lab["process"])
        begun = time.monotonic()
        assert json.loads(ok(run("down", "--json"))) == {"name": "lab", "ended": True}
        out, problem = up.communicate(timeout=30)
        assert time.monotonic() - begun < 30
        assert (up.returncode, out) == (1, "building lab 'lab'\n" if "building" in out else "")
        assert "lab 'lab' was ended while it was being built; nothing of it is left" in problem
        assert processes and gone(processes)
        assert os.listdir(short_dir / "l") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
def test_an_interrupt_while_a_lab_is_built_leaves_nothing(short_dir: Path, number: signal.Signals) -> None:
    with coming_up(short_dir, "time.sleep(60)") as (run, up):
        lab = wait_for_build(run)
        processes = descendants(lab["process"])
        up.send_signal(number)
        _, problem = up.communicate(timeout=30)
        assert up.returncode == 130 and "error: interrupted: nothing of the lab is left" in problem
        assert problem.startswith("interrupted: calling lab 'lab' off\n")
        assert processes and gone(processes)
        assert os.listdir(short_dir / "l") == []


def test_a_terminal_that_is_closed_while_a_lab_is_built_leaves_nothing(short_dir: Path) -> None:
    terminal, theirs = pty.openpty()

    def enter() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True, "preexec_fn": enter}
    with coming_up(short_dir, "time.sleep(60)", **streams) as (run, up):
        os.close(theirs)
        try:
            lab = wait_for_build(run)
            processes = [(lab["process"], ""), *descendants(lab["process"])]
        finally:
            os.close(terminal)
        assert up.wait(30) > 0, "it ends by itself: it is not killed"
        assert gone(processes)
        assert os.listdir(short_dir / "l") == []


def test_a_lab_that_does_not_come_up_keeps_the_log_that_it_names(short_dir: Path) -> None:
    with coming_up(short_dir, "raise OSError('no such luck')") as (run, up):
        _, problem = up.communicate(timeout=60)
        assert up.returncode == 1 and "no such luck" in problem
        (named,) = {word.rstrip(";") for word in problem.split() if word.startswith(str(short_dir)) and ".log" in word}
        assert "no such luck" in Path(named).read_text()
        told = run("status").stderr
        assert "no lab runs" in told and f"`splitmerge down --state-dir {short_dir / 'l'}` removes them" in told
        assert json.loads(ok(run("down", "--json")))["removed"]
        assert os.listdir(short_dir / "l") == []


@pytest.mark.parametrize(
    ("after", "how"),
    [(0.0, "replica 2: ended before its Hello: exit 9"), (0.1, "exit 9")],
    ids=["before their Hello", "just after"],
)
def test_a_middlebox_whose_replicas_end_as_they_start_is_named_at_once(short_dir: Path, after: float, how: str) -> None:
    """The cause is known after a second: nobody waits until the agent has had its 30 s."""
    (short_dir / "m.json").write_text(json.dumps({"after": after}))
    named = "tests.integration.stillborn:Stillborn"
    begun = time.monotonic()
    try:
        up = splitmerge(
            "up", "--middlebox", named, "--config", str(short_dir / "m.json"), SPLITMERGE_STATE_DIR=str(short_dir / "l")
        )
        took = time.monotonic() - begun
    finally:
        ok(splitmerge("down", SPLITMERGE_STATE_DIR=str(short_dir / "l")))
    assert up.returncode == 1 and took < 25
    said = " ".join(up.stderr.split())
    assert f"middlebox {named}: 2 replicas have ended by themselves as they started, the last: replica 2" in said
    assert how in said.partition("; log:")[0]


def test_with_json_an_error_is_json(tmp_path: Path) -> None:
    result = splitmerge("up", "--json", "--config", "none.json", SPLITMERGE_STATE_DIR=str(tmp_path))
    said = json.loads(result.stderr)
    assert result.returncode == 1 and result.stdout == ""
    assert said.keys() == {"error", "where", "remedy"} and "none.json" in said["where"]


def test_help_teaches() -> None:
    text = ok(splitmerge("--help"))
    for command in ("up", "demo", "status", "flows", "replicas", "migrate", "cancel", "scale-out", "scale-in", "down"):
        assert command in text
        assert ok(splitmerge(command, "--help"))


def test_where_packets_were_dropped_the_page_of_reasons_is_named(run: Run) -> None:
    def dropped() -> int:
        return json.loads(ok(run("status", "--json")))["drops"]["switch"].get("no_route", 0)

    before = dropped()
    to_nobody = "from socket import *; socket(AF_INET, SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))"
    ok(run("exec", "client", "--", sys.executable, "-c", to_nobody))
    lab_of(run).wait("the drop", lambda client: client.get("/status")["drops"]["switch"].get("no_route") == before + 1)
    assert "docs/drops.md" in ok(run("status")) and "docs/drops.md" in ok(run("status", "--help"))
