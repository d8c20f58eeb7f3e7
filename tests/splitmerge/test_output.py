"""Tables fit the terminal: no cell is wrapped, what there is no room for is left out and named."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typer import Exit
from typer.testing import CliRunner

from splitmerge.cli.app import app
from splitmerge.cli.judging import show_moved
from splitmerge.cli.output import console, problems, say, show_error, show_table
from splitmerge.cli.views import show_moves
from splitmerge.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "benchmarks", "chaos", "experiments", "guestlib", "middleboxes", "model", "orchestrator", "p4rt_controller",
    "p4switch", "splitmerge", "tools", "topo", "traffic",
)  # fmt: skip

MOVE: dict[str, Any] = {
    "epoch": 1234, "source": 1, "target": 2, "step": "undone", "guarantee": "order-preserving", "buffer": "replica",
    "keys": 100_000, "buckets": 1024, "staged": 100_000, "relayed": 0, "held": 12_345, "carried": 0, "dropped": 12_345,
    "suspended_ms": 1234.5, "reason": "not decided within 1 s; replica 1 is gone", "unknown": None,
}  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_moves_are_one_line_each_and_every_reason_is_read_whole(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    show_moves("moves", [MOVE | {"reason": ""}, dict(MOVE)])
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line[:1] in "┏┃┡│└"]
    assert all(len(line) <= width for line in table)
    assert sum(line.startswith("│") for line in table) == 2, "a row is one line"
    assert sum(MOVE["reason"] in line for line in lines) == 1
    assert "…" not in "".join(lines) or width < 80
    assert ("also has: reason" in "".join(lines)) == (width < 200)


@pytest.mark.parametrize(
    ("steps", "title"), [(["done"], "moved"), (["undone"], "undone"), (["undone", "done"], "moved"), ([], "moved")]
)
def test_the_title_is_what_became_of_the_moves(
    steps: list[str], title: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moves = [MOVE | {"step": step, "epoch": number, "stateless": 0} for number, step in enumerate(steps)]
    with suppress(Exit):  # some were undone
        show_moved({"moves": moves}, tmp_path, as_json=False)
    assert capsys.readouterr().out.split()[0] == title


class Answers:
    """An orchestrator that answers so to whatever is asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __call__(self, *of: object) -> Answers:
        return self

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *error: object) -> None:
        """None."""

    def get(self, path: str, **query: object) -> Any:
        return self.answer

    def post(self, path: str, body: object) -> Any:
        return self.answer

    def delete(self, path: str) -> Any:
        return self.answer


def shown(monkeypatch: pytest.MonkeyPatch, command: str, answer: Any) -> str:
    for module in ("views", "moves", "scaling"):
        monkeypatch.setattr(f"splitmerge.cli.{module}.connect", Answers(answer))
    result = CliRunner().invoke(app, [command])
    assert result.exit_code == 0, result.exception
    return result.stdout


def test_moves_come_in_the_same_order_as_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(monkeypatch, "moves", [MOVE | {"epoch": epoch} for epoch in (12, 11, 10)])
    assert re.findall(r"^│ +(1\d) ", out, re.MULTILINE) == ["12", "11", "10"]


IN_USE = MOVE | {
    "epoch": 17, "reason": "4 of its flows are in use at the source", "pinned": ["f1", "f2", "f3", "f4"],
    "follows": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"step": "done"}, "; move 18 took the others"),
        ({"step": "draining"}, "; move 18 takes the others"),
        ({"step": "undone"}, "; move 18 did not take the others"),
        ({"step": "done", "source": 3}, ""),
        ({"step": "done", "follows": 16}, ""),
    ],
    ids=str,
)
@pytest.mark.parametrize("width", [60, 300])
def test_flows_that_stayed_are_named_and_the_move_that_takes_the_others(
    monkeypatch: pytest.MonkeyPatch, width: int, after: dict[str, Any], said: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    second = MOVE | {"epoch": 18, "follows": 17, "pinned": [], "reason": ""} | after
    out = shown(monkeypatch, "moves", [second, dict(IN_USE)])
    assert f"\nmove 17: 4 flows stayed at replica 1: f1, f2, f3 and 1 more{said}\n" in out
    assert ("pinned" in out and "follows" in out) or width < 300


def test_with_json_the_move_that_took_the_others_is_named_on_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    second = MOVE | {"epoch": 18, "follows": 17, "pinned": [], "reason": "", "step": "done", "stateless": False}
    answer = {"moves": [IN_USE | {"stateless": False}, second]}
    monkeypatch.setattr("splitmerge.cli.moves.connect", Answers(answer))
    result = CliRunner().invoke(app, ["migrate", "--bucket", "1", "--target", "2", "--json"])
    assert result.exit_code == 1 and json.loads(result.stdout) == answer
    assert result.stderr == ("move 17: 4 flows stayed at replica 1: f1, f2, f3 and 1 more; move 18 took the others\n")


def test_flows_that_a_move_left_have_a_move_of_their_own_by_which_the_command_is_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = MOVE | {"epoch": 17, "reason": "", "pinned": [], "follows": None, "step": "done", "stateless": False}
    second = first | {"epoch": 18, "follows": 17, "reason": "1 of its flows is in use at the source"}
    for left in ({"step": "undone", "pinned": ["f1"]}, {"pinned": ["f1"]}, {}):
        monkeypatch.setattr("splitmerge.cli.moves.connect", Answers({"moves": [dict(first), second | left]}))
        result = CliRunner().invoke(app, ["migrate", "--bucket", "1", "--target", "2"])
        assert result.exit_code == (1 if left else 0)
        assert ("move 18: 1 flow stayed at replica 1: f1" in result.output) == bool(left)
        assert "the others" not in result.output


@pytest.mark.parametrize(("step", "status"), [("done", 0), ("undone", 1)])
def test_what_another_move_took_altogether_is_where_it_should_be(
    monkeypatch: pytest.MonkeyPatch, step: str, status: int
) -> None:
    """A move that is undone without flows in use, since it lacked a key, is made again with that."""
    first = MOVE | {"epoch": 17, "reason": "lacks a key", "pinned": [], "follows": None, "stateless": False}
    second = first | {"epoch": 18, "follows": 17, "reason": "", "step": step}
    monkeypatch.setattr("splitmerge.cli.moves.connect", Answers({"moves": [first, second]}))
    result = CliRunner().invoke(app, ["migrate", "--bucket", "1", "--target", "2", "--json"])
    assert result.exit_code == status
    assert result.stderr.splitlines()[0] == "move 17 was undone, move 18 is for its flows: lacks a key"


TWO = [
    {"epoch": 19, "follows": 17, "step": "undone", "pinned": [], "reason": "busy", "stateless": False},
    {"epoch": 18, "follows": 17, "step": "done", "pinned": [], "reason": "", "stateless": False},
]
"""Newest first: for flows that got in use when the move had begun, less those; for what was in use before it began."""


def test_both_moves_that_follow_one_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(monkeypatch, "moves", [*(MOVE | each for each in TWO), dict(IN_USE)])
    shares = "; move 18 took its part of the others; move 19 did not take its part of the others"
    assert f"\nmove 17: 4 flows stayed at replica 1: f1, f2, f3 and 1 more{shares}\n" in out


def test_both_moves_that_are_for_the_flows_of_one_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    first = MOVE | {"epoch": 17, "reason": "lacks a key", "pinned": [], "follows": None, "stateless": False}
    monkeypatch.setattr("splitmerge.cli.moves.connect", Answers({"moves": [first, *(MOVE | each for each in TWO)]}))
    result = CliRunner().invoke(app, ["migrate", "--bucket", "1", "--target", "2", "--json"])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == "move 17 was undone, moves 18 and 19 are for its flows: lacks a key"


def test_what_a_move_left_that_no_move_follows_for_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one follows for what was in use, and took that."""
    first = MOVE | {"epoch": 17, "reason": "lacks a key", "pinned": [], "follows": None, "stateless": False}
    first |= {"untaken": {"keys": 2, "buckets": 1}}
    answer = {"moves": [first, MOVE | TWO[1]]}
    said = "move 17: 2 flows and 1 bucket did not move from replica 1, and no move follows for that: move it once more"
    for arguments in ([], ["--json"]):
        monkeypatch.setattr("splitmerge.cli.moves.connect", Answers(answer))
        result = CliRunner().invoke(app, ["migrate", "--bucket", "1", "--target", "2", *arguments])
        assert result.exit_code == 1
        assert said in result.stderr and "splitmerge flows" in result.stderr and "splitmerge moves" in result.stderr
        if arguments:
            assert json.loads(result.stdout) == answer
            whose = "move 17 was undone, move 18 is for some of its flows: lacks a key"
            assert result.stderr.splitlines()[0] == whose


@pytest.mark.parametrize(("count", "more"), [(1, ""), (3, ""), (25, " and 22 more")])
def test_flows_named_that_there_are_none_of_are_said(count: int, more: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flows = [f"udp,10.0.1.2:{port},10.0.2.2:2" for port in range(1, min(count, 20) + 1)]
    move = MOVE | {"step": "done", "reason": "", "pinned": [], "follows": None, "stateless": False}
    move |= {"unknown": {"keys": count, "flows": flows}}
    monkeypatch.setattr("splitmerge.cli.moves.connect", Answers({"moves": [move]}))
    result = CliRunner().invoke(app, ["migrate", "--flow", flows[0], "--target", "2"])
    said = f"move 1234: replica 1 has no such flow, which did not move: {', '.join(flows[:3])}{more}"
    assert (result.exit_code, result.stderr.splitlines()) == (0, [said])


def test_flows_that_ended_while_their_move_waited_are_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    first = MOVE | {"epoch": 17, "pinned": [], "follows": None, "step": "done", "stateless": False, "reason": ""}
    ended = first | {"epoch": 18, "follows": 17, "step": "undone", "reason": "its flows have ended"}
    for moot in (True, False):
        monkeypatch.setattr("splitmerge.cli.moves.connect", Answers({"moves": [first, ended | {"moot": moot}]}))
        result = CliRunner().invoke(app, ["migrate", "--bucket", "1", "--target", "2", "--json"])
        assert (result.exit_code, "move 18 was undone" in result.stderr) == ((0, False) if moot else (1, True))


@pytest.mark.parametrize(
    ("step", "said", "status"),
    [
        ("undone", "called off", 0),
        ("done", "done; what follows from it is called off", 0),
        ("draining", "not over yet; see `splitmerge moves`", 1),
    ],
)
def test_what_was_called_off_is_said(monkeypatch: pytest.MonkeyPatch, step: str, said: str, status: int) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    answer = MOVE | {"epoch": 17, "pinned": [], "step": step, "reason": ""}
    monkeypatch.setattr("splitmerge.cli.moves.connect", Answers(answer))
    result = CliRunner().invoke(app, ["cancel", "17"])
    assert result.exit_code == status and said in " ".join(result.output.split())


def test_a_move_that_is_late_is_named_with_what_shows_it_and_calls_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"moves": [MOVE | {"epoch": 17, "step": "draining", "reason": "", "stateless": False}]}
    monkeypatch.setattr("splitmerge.cli.moves.connect", Answers(answer))
    result = CliRunner().invoke(app, ["migrate", "--bucket", "1", "--target", "2"])
    assert result.exit_code == 1 and "move 17 takes long and goes on by itself: see `splitmerge moves" in result.stderr
    assert "17` calls it off" in result.stderr


def test_one_move_is_shown_with_its_steps_flows_and_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = IN_USE | {
        "steps_ms": {"planned": 0.0, "draining": 1.5}, "stateless": None, "planned_at": 1_790_000_000.5,
        "scope": {"keys": [f"k{number}" for number in range(25)], "buckets": [7]}, "history": ["a", "b"],
    }  # fmt: skip
    monkeypatch.setattr("splitmerge.cli.views.connect", Answers(answer))
    out = CliRunner().invoke(app, ["moves", "17"]).stdout
    assert re.search(r"steps_ms.draining +│ 1.5 ", out) and "stateless" not in out
    assert re.search(r"planned_at +│ 2026-09-2\dT\d\d:\d\d:20.500[+-]", out)
    assert "k18, k19 and 5 more\n" in out and "\nbuckets: 7\n" in out
    assert "\nflows that stayed: f1, f2, f3, f4\n" in out and out.endswith("lately: a; b\n")
    assert json.loads(CliRunner().invoke(app, ["moves", "17", "--json"]).stdout) == json.loads(json.dumps(answer))


def test_what_is_not_known_any_more_is_left_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = dict.fromkeys(("staged", "relayed", "held", "carried", "dropped", "suspended_ms", "pinned", "follows"))
    out = shown(monkeypatch, "moves", [MOVE | unknown])
    assert "None" not in out and "1,234" in out


def test_flows_show_their_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    flows = [{"flow": f"f{n}", "replica": 1, "bucket": 7, "entry": entry} for n, entry in enumerate((None, 2))]
    out = shown(monkeypatch, "flows", flows)
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line[:1] == "│"]
    assert [row[0::3] for row in rows] == [["f0", ""], ["f1", "2"]] and "entry" in out


def test_a_rebalance_that_moves_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(monkeypatch, "rebalance", {"moves": []})
    assert out == "nothing to even: by flows, the replicas are as even as moves make them\n"


def test_what_is_piped_has_all(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    show_moves("moves", [dict(MOVE)])
    out = capsys.readouterr().out
    assert all(word in out for word in ("order-preserving", "1,234.50", MOVE["reason"])) and "also has" not in out


def test_what_must_be_there_and_is_too_long_is_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert show_table("t", ("long", "more"), [("x" * 40, 1)], ("more",)) == ["more"]
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert len(row) == 20 and row.endswith("… │")


@pytest.mark.parametrize("why", ["[/x]", "replica [red]1[/red] is gone", "[link=x"])
def test_what_others_wrote_is_shown_as_it_is_and_is_no_markup(
    why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show_table("t", ("why",), [(why,)])
    monkeypatch.setenv("COLUMNS", "60")
    show_moves("moves", [MOVE | {"reason": why}])
    assert capsys.readouterr().out.count(why) == 2


@pytest.mark.parametrize("text", ["[fd00:ab::1]:5", "[b]x", "[/b]z", ":smile:", "[link=x", "[red]1[/red]"])
def test_everything_is_shown_as_it_was_written(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_table(text, (f"what {text}",), [(text,)])
    say(text)
    show_error(BadInput(text, text, text))
    for on in (console, problems):
        on.print(text)
    said = capsys.readouterr()
    assert said.out.count(text) == 5 and said.err.count(text) == 4


def test_a_line_is_not_broken_where_a_narrow_terminal_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    say("word " * 30)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_certs_command_shows_directories_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("[b]x", "[/b]z", ":ab:"):
        made = CliRunner().invoke(app, ["certs", "init", "--directory", name])
        assert made.exit_code == 0 and made.stdout.startswith(f"{name}/ca.pem and {name}/ca.key: ")
        assert f"certificates in {name}" in CliRunner().invoke(app, ["certs", "show", "--directory", name]).stdout


OWN = re.compile(r"(?<!make_)\bConsole\(|from_markup|markup=True|emoji=True|rich import print")
TEXT_COLUMN = re.compile(r"TextColumn\((?![^)]*markup=False)")
STATUS = re.compile(r"(?<!def )\b(?:console|problems)\.status\(")


def test_consoles_are_made_in_one_place() -> None:
    """Others would take what people wrote for markup, as would progress bars and spinners that are not told."""
    found = []
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        text = path.read_text()
        kinds = (STATUS, TEXT_COLUMN) if path == ROOT / "splitmerge/cli/output.py" else (OWN, STATUS, TEXT_COLUMN)
        found += [f"{path}: {match[0]}" for kind in kinds for match in kind.finditer(text)]
    assert not found
