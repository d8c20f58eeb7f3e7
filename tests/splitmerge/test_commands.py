"""The commands' edges that need no lab: what is refused, what a dead lab leaves, and how Ctrl-C ends."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from orchestrator.elasticity import ElasticityConfig
from splitmerge.cli import main
from splitmerge.cli.app import app
from splitmerge.cli.errors import NotRun, status_of
from splitmerge.cli.scaling import policy_rows
from splitmerge.client import OrchestratorClient
from splitmerge.errors import BadInput, SplitmergeError, Unreachable
from tests.splitmerge.refusals import refusal
from topo.launch import _make_private, remove_leftovers, remove_stale
from topo.model import one_switch
from topo.spec import LabRecord

ROOT = Path(__file__).resolve().parents[2]
ENDED = 2**22
"""No process has this number: it is above the kernel's largest."""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--deadline", "inf"], "--deadline inf: not a time (seconds, 0 to 3600)"),
        (["--references", "inf"], "--references inf: not a time (seconds, 0 to 3600)"),
        (["--deadline", "nan"], "--deadline nan: not a time (seconds, 0 to 3600)"),
        (["--references", "nan"], "--references nan: not a time (seconds, 0 to 3600)"),
        (["--deadline", "-1"], "--deadline -1: not a time (seconds, 0 to 3600)"),
        (["--guarantee", "none", "--buffer", "cpu"], "--buffer: no use to moves with guarantee none: no packet waits"),
        (["--guarantee", "none", "--packets", "5"], "--packets: no use to moves with guarantee none: no packet waits"),
        (
            ["--guarantee", "none", "--bytes", "5000", "--when-full", "drop", "--deadline", "1"],
            "--when-full, --bytes: no use to moves with guarantee none: no packet waits for them (leave them out, or",
        ),
        (
            ["--guarantee", "no-buffer", "--buffer", "replica", "--packets", "5"],
            "--buffer: no use to moves with guarantee no-buffer: packets wait at the source (leave it out, or choose",
        ),
    ],
)
def test_a_move_that_makes_no_sense_is_refused(arguments: list[str], said: str) -> None:
    assert said in refusal("migrate", "--bucket", "1", "--target", "2", *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scale-in", "--drain", "--guarantee", "none"], "--guarantee: nothing moves with --drain (leave it out)"),
        (
            ["scale-out", "--no-rebalance", "--deadline", "3", "--when-full", "drop"],
            "--when-full, --deadline: nothing moves with --no-rebalance (leave it out)",
        ),
        (["scale-in", "--guarantee", "none", "--buffer", "cpu"], "--buffer: no use to moves with guarantee none"),
        (["rebalance", "--guarantee", "none", "--packets", "5"], "--packets: no use to moves with guarantee none"),
        (["rebalance", "--deadline", "inf"], "--deadline inf: not a time"),
        (["moves", "7", "--limit", "3"], "--limit 3: move 7 is one (leave one of the two out)"),
        (["up", "--deadline", "nan"], "--deadline nan: not a time (seconds, 0 to 3600)"),
        (["up", "--references", "-1"], "--references -1: not a time (seconds, 0 to 3600)"),
        (["migrate", "--all", "--bucket", "1", "--target", "2"], "migrate: --all, and flows or buckets besides"),
        (["migrate", "--target", "2"], "migrate: nothing to move (--flow, --bucket, or --all)"),
        (["up", "--deadline", "4000"], "moves: deadline: 4000 is out of range (seconds, 0 to 3600)"),
        (["up", "--packets", str(1 << 41)], f"moves: packets: {1 << 41} is out of range (1 to {1 << 40})"),
        (["up", "--guarantee", "none", "--buffer", "cpu"], "--buffer: no use to moves with guarantee none"),
        (["up", "--guarantee", "none", "--when-full", "drop"], "--when-full: no use to moves with guarantee none"),
        (["up", "--guarantee", "none", "--packets", "5"], "--packets: no use to moves with guarantee none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_how_flows_are_to_move_is_refused_where_it_makes_no_sense(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    assert said in refusal(*arguments, "--state-dir", str(tmp_path))


class Hears(OrchestratorClient):
    """An orchestrator that takes what it is asked for, and makes no move."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.heard: list[dict[str, Any]] = []

    def post(self, path: str, body: dict[str, Any]) -> Any:
        self.heard.append(body)
        return {"moves": [], "added": [2], "removed": 2}


MOVING = {
    "guarantee": "loss-free", "buffer": "cpu", "when_full": "drop", "references": 0.5, "deadline": 7.0, "packets": 500,
    "bytes": 70_000,
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "body", "seconds"),
    [
        (["migrate", "--bucket", "1", "--target", "2"], {"buckets": [1], "target": 2, "wait": True}, 127),
        (["scale-out", "--count", "2"], {"count": 2, "rebalance": True, "kind": ""}, 254),
        (["scale-in"], {"drain": False, "wait": True}, 120),
        (["rebalance"], {"by": "flows", "most": 64}, 127),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_every_command_that_moves_flows_says_how_and_waits_as_long_as_that_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], body: dict[str, Any], seconds: float
) -> None:
    orchestrator, waits = Hears(tmp_path / "api.sock"), []

    def connect(name: str, state_dir: Path | None, timeout: float) -> Hears:
        waits.append(timeout)
        return orchestrator

    for module in ("moves", "scaling"):
        monkeypatch.setattr(f"splitmerge.cli.{module}.connect", connect)
    options = [word for name, value in MOVING.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    for more, said in ((options, MOVING), ([], {})):
        result = CliRunner().invoke(app, [*arguments, *more, "--json"])
        assert result.exit_code == 0, result.exception
        assert orchestrator.heard.pop() == body | said
    assert waits[0] == seconds and waits[1] == (240 if "--count" in arguments else 120)


@pytest.mark.parametrize("command", ["migrate", "scale-out", "scale-in", "rebalance", "up"])
def test_help_names_how_flows_move_and_what_a_deadline_does(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    said = " ".join(CliRunner().invoke(app, [command, "--help"]).stdout.split())
    assert not [name for name in MOVING if f"--{name.replace('_', '-')}" not in said]
    assert "killed" in said


@pytest.mark.parametrize("command", ["migrate", "scale-out", "scale-in", "rebalance", "up"])
def test_help_says_that_a_move_without_room_drops_and_counts_until_it_is_called_off(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    said = " ".join(CliRunner().invoke(app, [command, "--help"]).stdout.split())
    assert "off, and drops, counted, only what has no room until then" in said
    assert "docs/migration.md, rule 8" in said or command != "migrate"


@pytest.mark.parametrize("number", ["inf", "nan", "-1", "0", "1e308"])
@pytest.mark.parametrize("option", ["--request-rate", "--udp-rate", "--seconds", "--limit"])
def test_a_demo_that_makes_no_sense_is_refused(option: str, number: str) -> None:
    assert refusal("demo", option, number).startswith(f"{option}: ")


def test_a_trace_is_not_written_over(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("time,flow,packets\n0,a,1\n")
    assert "it is the trace" in refusal("simulate", str(trace), "--csv", str(tmp_path / "." / "t.csv"))
    assert trace.read_text().startswith("time,flow,packets")


TRACE = "time,flow,packets\n0,a,10\n3,a,0\n"


def test_a_trace_comes_by_standard_input_and_the_timeline_goes_by_standard_output(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "splitmerge", "simulate", "-", "--csv", "-"]
    done = subprocess.run(argv, cwd=ROOT, input=TRACE, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and done.stderr == ""
    head, *rows = done.stdout.splitlines()
    assert head.startswith("time,") and len(rows) == 3 and not (ROOT / "-").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["burst", "--csv", "-", "--json"], "--csv -: standard output has the JSON already"),
        (["burst", "--set", "cool_down=nan"], "--set cool_down=nan: not a finite number"),
        (["burst", "--rate", "nan"], "--rate nan: is out of range (0 to 1e+12 packets per second)"),
        (["burst", "--rate", "-1"], "--rate -1: is out of range (0 to 1e+12 packets per second)"),
        (["burst", "--set", "split_above=-inf"], "--set split_above=-inf: not a finite number"),
    ],
)
def test_a_simulation_that_makes_no_sense_is_refused(arguments: list[str], said: str) -> None:
    assert said in refusal("simulate", *arguments)


def test_the_folder_of_labs_goes_with_the_last_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    first, second = dead_lab(tmp_path / "splitmerge", "first"), dead_lab(tmp_path / "splitmerge", "second")
    for directory, left in ((first, True), (second, False)):
        assert CliRunner().invoke(app, ["down", "--name", directory.name]).exit_code == 0
        assert directory.parent.exists() is left
    assert tmp_path.exists()


def test_a_lab_is_made_though_another_ones_end_takes_the_folder_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "labs" / "lab"
    make, ends = Path.mkdir, iter((True, False))

    def mkdir(self: Path, *arguments: Any, **options: Any) -> None:
        if self == directory and next(ends):
            self.parent.rmdir()
        make(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    _make_private(directory)
    assert directory.stat().st_mode & 0o777 == 0o700 and next(ends, None) is None


def test_a_policy_that_is_no_python_is_told_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_policy.py").write_text("\nclass Mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    said = refusal("simulate", "burst", "--policy", "broken_policy:Mine")
    assert f"cannot be imported: SyntaxError: expected ':' ({tmp_path}/broken_policy.py, line 2: class Mine)" in said


@pytest.mark.parametrize("command", ["up", "policy", "simulate"])
def test_help_names_everything_that_can_be_set(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    said = CliRunner().invoke(app, [command, "--help"]).stdout
    names = {*ElasticityConfig.__struct_fields__} - {"policy", "settings"} | {"split_above", "tolerance", "replicas"}
    assert not [name for name in sorted(names) if name not in said]


class Pidless(OrchestratorClient):
    """Knows of two replicas; the process of one is gone."""

    def get(self, path: str, **query: Any) -> Any:
        whole = {"state": "live", "slot": 1, "switch": "switch", "port": 11, "flows": 0, "buckets": 0, "packets": 0}
        rest: dict[str, Any] = {"drops": {}, "held": 0, "cpu_seconds": 0.0}
        return [{"replica": number, "pid": pid, **whole, **rest} for number, pid in ((1, 12345), (2, 0))]


def test_replicas_show_their_process_as_it_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("splitmerge.cli.views.connect", lambda name, state_dir: Pidless(tmp_path / "api.sock"))
    first, second = [
        line.split("│") for line in CliRunner().invoke(app, ["replicas"]).stdout.splitlines() if line[:1] == "│"
    ]
    assert (first[-2].strip(), second[-2].strip()) == ("12345", "")


@pytest.fixture
def client_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab with one namespace, this process's own."""
    record = LabRecord(name="x", pid=os.getpid(), directory="/x", target="", api_socket="", namespaces={"client": ""})
    monkeypatch.setattr("splitmerge.cli.life.running_lab", lambda name, state_dir: record)
    monkeypatch.setattr("splitmerge.cli.life.popen_in", lambda record, namespace, argv: subprocess.Popen(argv))


@pytest.mark.parametrize(
    ("file", "text", "mode", "status", "said"),
    [
        ("", "", 0, 127, "command 'no-such-command': not found (install it, or give its path)"),
        ("absent", None, 0, 127, "not found (install it, or give its path)"),
        (".", None, 0, 126, "is a directory (give a program)"),
        ("plain", "#!/bin/sh\n", 0o644, 126, "cannot be run: Permission denied (give a file that may be executed"),
        ("bare", "true\n", 0o755, 126, "is no program that this machine runs (begin it with a line like #!/bin/sh"),
        ("lost", "#!/no/such/interpreter\n", 0o755, 126, "its interpreter is not found (correct its first line)"),
    ],
)
def test_exec_ends_like_a_shell_for_what_it_cannot_run(
    tmp_path: Path, file: str, text: str | None, mode: int, status: int, said: str, client_alone: None
) -> None:
    path = tmp_path / file
    if file and text is not None:
        path.write_text(text)
        path.chmod(mode)
    words = ["exec", "client", "--", str(path) if file else "no-such-command"]
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, NotRun) and (error.status, status_of(error)) == (status, status)
    assert said in str(error)


def test_exec_of_more_arguments_than_the_kernel_takes_says_so(client_alone: None) -> None:
    error = CliRunner().invoke(app, ["exec", "client", "--", "true", "x" * 200_000]).exception
    assert isinstance(error, NotRun) and error.status == 126
    assert str(error).startswith("command 'true': its arguments are too long, or its environment is (give fewer")


@pytest.mark.parametrize(
    ("number", "said"), [(errno.EAGAIN, "(end some: a limit of this"), (errno.ENOMEM, "(end something that takes")]
)
def test_exec_where_no_process_can_be_made_does_not_say_that_the_lab_has_ended(
    client_alone: None, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refused(*arguments: object) -> int:  # as fork(2) does; limits do not hold for root
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("subprocess._fork_exec", refused)
    error = CliRunner().invoke(app, ["exec", "client", "--", "true"]).exception
    assert isinstance(error, NotRun) and error.status == 126
    assert f"command 'true': no process can be made for it: {os.strerror(number)} {said}" in str(error)


def test_exec_names_where_commands_can_run_alike_in_help_and_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`topo.links.wire` makes no other namespaces than these, and sees to it itself."""
    names = one_switch(2).namespaces()
    namespaces = dict.fromkeys(names, "")
    record = LabRecord(name="x", pid=os.getpid(), directory="/x", target="", api_socket="", namespaces=namespaces)
    monkeypatch.setattr("splitmerge.cli.life.running_lab", lambda name, state_dir: record)
    assert f"one of: {', '.join(names)})" in refusal("exec", "nowhere", "--", "true")
    monkeypatch.setenv("COLUMNS", "200")
    assert f" {', '.join(names)} … " in CliRunner().invoke(app, ["exec", "--help"]).stdout


def test_exec_in_a_lab_that_has_just_ended_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = LabRecord(name="x", pid=ENDED, directory="/l/x", target="", api_socket="", namespaces={"client": "/no/ns"})
    monkeypatch.setattr("splitmerge.cli.life.running_lab", lambda name, state_dir: record)
    assert "lab 'x': it has just ended (start one with `splitmerge up --name x --state-dir /l`)" in refusal(
        "exec", "client", "--", "true"
    )


def test_remedies_of_the_orchestrator_name_this_lab(tmp_path: Path) -> None:
    response = httpx.Response(404, json={"error": "no move 1", "where": "moves", "remedy": "see `splitmerge moves`"})
    with OrchestratorClient(tmp_path / "x", localised=lambda text: text.replace("moves", "moves --name x")) as client:
        client._http = httpx.Client(transport=httpx.MockTransport(lambda request: response), base_url="http://x")
        with pytest.raises(BadInput, match="see `splitmerge moves --name x`"):
            client.get("/moves/1")


def test_a_policys_own_settings_are_rows_of_their_own() -> None:
    config = {"policy": "static", "settings": {"replicas": 2}, "interval": 1.0}
    assert policy_rows(config) == [("policy", "static"), ("interval", "1.0"), ("replicas", "2")]


def test_a_lab_whose_moves_make_no_sense_is_refused(tmp_path: Path) -> None:
    said = refusal("up", "--state-dir", str(tmp_path), "--guarantee", "none", "--buffer", "cpu")
    assert "--buffer: no use" in said and not any(tmp_path.iterdir())


def test_a_lab_whose_replicas_could_hold_no_frame_is_refused(tmp_path: Path) -> None:
    said = refusal("up", "--state-dir", str(tmp_path), "--hold-packets", "1")
    assert "hold_packets: 1 (a whole number, 2 at least)" in said and not any(tmp_path.iterdir())
    said = refusal("up", "--state-dir", str(tmp_path), "--hold-bytes", "1000")
    assert "hold_bytes: 1000 (a whole number, 131072 at least)" in said


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (
            503,
            {"error": "is starting: no VMM agent yet", "where": "the orchestrator", "remedy": "try again"},
            "the orchestrator: is starting: no VMM agent yet (try again)",
        ),
        (503, {"error": "no memory", "where": "agent", "remedy": "see its log"}, "agent: no memory (see its log)"),
        (503, {"error": "replica 3 has ended", "where": "/flows", "remedy": ""}, "replica 3 has ended"),
        (
            400,
            {"error": "5000 is out of range", "where": "body.deadline", "remedy": "seconds, 0 to 3600"},
            "deadline: 5000 is out of range (seconds, 0 to 3600)",
        ),
        (409, {"error": "does not live", "where": "replica 9", "remedy": ""}, "replica 9: does not live"),
        (502, {"oops": 1}, 'the orchestrator answered 502: {"oops":1}'),
    ],
    ids=["starting", "a part of it", "a text with a subject", "a number", "cannot be done", "somebody else's answer"],
)
def test_a_refusal_says_who_cannot_and_what_to_do(status: int, body: dict[str, object], text: str) -> None:
    response = httpx.Response(status, json=body, request=httpx.Request("GET", "http://orchestrator/flows"))
    with OrchestratorClient(Path("none")) as client, pytest.raises(SplitmergeError) as caught:
        client._http = httpx.Client(
            transport=httpx.MockTransport(lambda request: response), base_url="http://orchestrator"
        )
        client.get("/flows")
    assert str(caught.value) == text


def test_the_client_sends_no_numbers_that_json_lacks(tmp_path: Path) -> None:
    with OrchestratorClient(tmp_path / "none") as client, pytest.raises(BadInput, match=r"request: deadline: inf"):
        client.post("/moves", {"target": 1, "deadline": float("inf")})


def test_an_orchestrator_that_is_away_is_told_with_what_to_do(tmp_path: Path) -> None:
    with OrchestratorClient(tmp_path / "api.sock") as client, pytest.raises(Unreachable) as caught:
        client.get("/status")
    assert "does not answer" in caught.value.problem and isinstance(caught.value.__cause__, httpx.ConnectError)
    assert f"try in a few seconds; log: {tmp_path}/logs/orchestrator.log" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "key 'a' twice in one object (leave one out)"),
        ('{"a": {"b": [{"c": 1, "c": 1}]}}', "key 'c' twice in one object"),
    ],
)
def test_a_configuration_that_says_a_thing_twice_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "c.json").write_text(text)
    assert said in refusal("up", "--config", str(tmp_path / "c.json"))


def test_an_agents_configuration_is_refused_with_where_its_keys_stand(tmp_path: Path) -> None:
    (tmp_path / "agent.json").write_text('{"colour": 1}')
    argv = [sys.executable, "-m", "splitmerge", "agent", "--config", str(tmp_path / "agent.json")]
    result = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert result.returncode == 2 and "see docs/vmm.md for the keys there are" in result.stderr


# -- labs that are over -------------------------------------------------------------------------------------------


def dead_lab(state: Path, name: str = "lab", files: tuple[str, ...] = ("spec.json", "lab.json")) -> Path:
    directory = state / name
    (directory / "logs").mkdir(parents=True)
    record = {"name": name, "pid": ENDED, "directory": str(directory), "target": "", "api_socket": "", "namespaces": {}}
    for each in files:
        (directory / each).write_text(json.dumps(record))
    return directory


@pytest.mark.parametrize("files", [("spec.json", "lab.json"), ("spec.json",)])
def test_down_removes_what_a_dead_lab_left(tmp_path: Path, files: tuple[str, ...]) -> None:
    directory = dead_lab(tmp_path, files=files)
    result = CliRunner().invoke(app, ["down", "--state-dir", str(tmp_path), "--json"])
    assert (result.exit_code, json.loads(result.stdout)["removed"]) == (0, True)
    assert not directory.exists()
    assert "no lab runs" in refusal("down", "--state-dir", str(tmp_path))


@pytest.mark.parametrize(
    ("files", "why"), [(("spec.json", "lab.json"), "the lab in {} is gone"), (("spec.json",), "no lab runs in {}")]
)
def test_what_a_dead_lab_left_is_told_with_what_removes_it(tmp_path: Path, files: tuple[str, ...], why: str) -> None:
    directory = dead_lab(tmp_path, files=files)
    for command in ("status", "replicas"):
        said = refusal(command, "--state-dir", str(tmp_path))
        assert why.format(directory) in said and "; files of one that is over are left there" in said
        assert f"`splitmerge down --state-dir {tmp_path}` removes them" in said
    assert "files of one" not in refusal("status", "--name", "other", "--state-dir", str(tmp_path))


def test_what_another_command_removes_meanwhile_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = dead_lab(tmp_path)
    monkeypatch.setattr("topo.launch.is_labs", lambda path: bool(shutil.rmtree(path)))
    assert remove_leftovers(directory) and not directory.exists()


def test_down_leaves_what_no_lab_made(tmp_path: Path) -> None:
    letter = tmp_path / "letters" / "letter.txt"
    letter.parent.mkdir()
    letter.write_text("dear")
    assert "no lab's" in refusal("down", "--name", "letters", "--state-dir", str(tmp_path))
    old = time.time() - 10_000
    os.utime(letter.parent, (old, old))
    remove_stale(tmp_path)
    assert letter.read_text() == "dear"


def test_what_killed_labs_left_goes_after_a_while(tmp_path: Path) -> None:
    fresh, stale = dead_lab(tmp_path, "fresh"), dead_lab(tmp_path, "stale")
    old = time.time() - 10_000
    os.utime(stale, (old, old))
    remove_stale(tmp_path)
    assert fresh.exists() and not stale.exists()


def test_a_lab_that_is_being_built_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    directory = dead_lab(tmp_path, files=("spec.json",))
    old = time.time() - 10_000
    os.utime(directory, (old, old))
    sleep = "import sys, time; print(flush=True); time.sleep(60)"
    argv = [sys.executable, "-c", sleep, "topo.lab", "--spec", str(directory / "spec.json")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            remove_stale(tmp_path)
            with pytest.raises(BadInput, match=f"is being built since .*process {process.pid},"):
                remove_leftovers(directory)
        finally:
            process.kill()
    assert directory.exists()
    assert remove_leftovers(directory) and not directory.exists()


# -- Ctrl-C -------------------------------------------------------------------------------------------------------


HEARD = "signal.signal(signal.SIGINT, signal.default_int_handler)"
"""What a shell runs in the background ignores it."""
AGAIN = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
INTERRUPT = f"import signal\n{HEARD}\n{AGAIN}"
AT_IMPORT = f"""
import sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "splitmerge.cli":
            sys.meta_path.remove(self)
            {"; ".join(INTERRUPT.split(chr(10)))}
sys.meta_path.insert(0, Interrupts())
"""


@pytest.mark.parametrize(
    "files",
    [
        {"typer.py": INTERRUPT},
        {"typer.py": INTERRUPT, "json.py": AGAIN + "def dumps(value): return 'json'"},
        {"sitecustomize.py": AT_IMPORT},
    ],
    ids=["once", "twice", "as early as can be"],
)
def test_an_interrupt_while_the_command_is_imported_ends_it_without_a_traceback(
    tmp_path: Path, files: dict[str, str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    result = subprocess.run(
        [sys.executable, "-m", "splitmerge", "status"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr == "error: interrupted: before the command began: nothing is changed\n"


def test_nothing_is_imported_before_an_interrupt_is_waited_for() -> None:
    """Else it would end in a traceback: importing what the command needs takes most of a second."""
    text = "import sys; before = set(sys.modules); import splitmerge.cli; print(*sorted(set(sys.modules) - before))"
    found = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert found.stdout.split() == ["splitmerge", "splitmerge.cli"], found.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_an_interrupt_as_the_command_ends_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("splitmerge.cli.app.main", interrupted)
    monkeypatch.setattr(sys, "argv", ["splitmerge", "status", *(["--json"] if as_json else [])])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    problem, remedy = "as the command began or ended", "`splitmerge status` shows what goes on in the lab"
    assert (ended.value.code, said.out) == (130, "")
    if as_json:
        assert json.loads(said.err) == {"error": problem, "where": "interrupted", "remedy": remedy}
    else:
        assert said.err == f"error: interrupted: {problem} ({remedy})\n"


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_configuration_is_called_so(tmp_path: Path, text: str) -> None:
    config = tmp_path / "ids.json"
    config.write_text(text)
    said = refusal("up", "--state-dir", str(tmp_path / "labs"), "--config", str(config))
    assert said.startswith(f"--config {config}: is empty ({{}} says that nothing is configured")


def test_a_configuration_that_the_middlebox_refuses_builds_no_lab(tmp_path: Path) -> None:
    config = tmp_path / "ids.json"
    config.write_text('{"treshold": 3}')
    said = refusal("up", "--state-dir", str(tmp_path / "labs"), "--config", str(config))
    assert "treshold" in said and not (tmp_path / "labs").exists()
    assert "no_such_module" in refusal("up", "--state-dir", str(tmp_path / "labs"), "--middlebox", "no_such_module:X")
