"""``status``, ``replicas``, ``flows``, ``moves``: looking, without changing anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.migration.steps import Step
from splitmerge.cli.options import DEFAULT_NAME, Json, Name, StateDir, connect, running_lab
from splitmerge.cli.output import console, say, show_json, show_table
from splitmerge.errors import BadInput, PeerError
from topo.errors import LabUnfinished
from topo.found import Unfinished, unfinished
from topo.naming import command as lab_command
from topo.naming import localised


def status(name: Name = DEFAULT_NAME, state_dir: StateDir = None, as_json: Json = False) -> None:
    """Is the lab well? Switch, replicas, flows, moves, every packet dropped, by reason; and problems, with what to do.

    A fresh lab has dropped none. What each reason (drops.switch.no_route …) means, when it is normal, and what to do:
    docs/drops.md. punted: packets sent up to the controller, not lost.

    Of a lab that is being built, or ended: since when, and by which process.
    """
    try:
        record = running_lab(name, state_dir)
    except LabUnfinished as error:
        return _show_unfinished(error.found, as_json=as_json)
    try:
        with connect(name, state_dir) as client:
            answer = client.get("/status")
    except PeerError:
        found = unfinished(Path(record.directory))
        if found is None or not found.ending:
            raise
        return _show_unfinished(found, as_json=as_json)
    answer = {
        "lab": {"name": record.name, "process": record.pid, "target": record.target, "directory": record.directory},
        **answer,
    }
    if as_json:
        return show_json(answer)
    show_table(f"lab {record.name!r} on {record.target}", ("what", "value"), _rows(answer))
    if any(answer["drops"].values()):
        say("docs/drops.md has the reasons of drops: what causes each, when it is normal, what to do")
    for each in answer["problems"]:
        said = localised(each, Path(record.directory))
        console.print(f"problem: {said}", style="red", highlight=False, soft_wrap=True)
    return None


def _show_unfinished(found: Unfinished, *, as_json: bool) -> None:
    lab = {
        "name": found.directory.name,
        "state": found.state,
        "since": datetime.fromtimestamp(found.since).astimezone().isoformat(timespec="seconds"),
        "process": found.pid,
        "started_by": found.starter,
        "directory": str(found.directory),
    }
    if as_json:
        return show_json({"lab": lab, "ready": False})
    show_table(f"lab {found.directory.name!r} {found.state}", ("what", "value"), _rows({"lab": lab, "ready": False}))
    if not found.ending:
        say(f"`{lab_command(found.directory, 'down')}` ends it")
    return None


def _rows(value: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested answers as one list of dotted names."""
    rows: list[tuple[str, str]] = []
    for name, item in value.items():
        if isinstance(item, dict):
            rows += _rows(item, f"{prefix}{name}.")
        elif isinstance(item, list):
            rows.append((f"{prefix}{name}", f"{len(item)}"))
        else:
            rows.append((f"{prefix}{name}", str(item)))
    return rows


def replicas(name: Name = DEFAULT_NAME, state_dir: StateDir = None, as_json: Json = False) -> None:
    """The replicas: where each is, what it holds, what it has done."""
    with connect(name, state_dir) as client:
        answer = client.get("/replicas")
    if as_json:
        return show_json(answer)
    for each in answer:
        each["dropped"] = sum(each["drops"].values())
        each["cpu_s"] = each["cpu_seconds"]
        each["pid"] = str(each["pid"] or "")  # a name, not a number: it is copied
    columns = (
        "replica", "state", "slot", "switch", "port", "flows", "buckets", "packets", "dropped", "held", "cpu_s",
        "pid",
    )  # fmt: skip
    spare = ("held", "port", "slot", "switch", "buckets", "cpu_s", "pid")
    show_table("replicas", columns, ([row.get(column, "") for column in columns] for row in answer), spare)
    return None


def flows(
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
    replica: Annotated[int | None, typer.Option(help="Only those of this replica.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 1000,
    as_json: Json = False,
) -> None:
    """The flows that replicas hold state for. entry: where an entry of its own in the switch leads, if it has one."""
    with connect(name, state_dir) as client:
        answer = client.get("/flows", replica=replica, limit=limit)
    if as_json:
        return show_json(answer)
    for each in answer:
        each["entry"] = "" if each["entry"] is None else each["entry"]
    _table("flows", ("flow", "replica", "bucket", "entry"), answer)
    if len(answer) == limit:
        say(f"the first {limit:,}; --limit shows more")
    return None


NEWEST = 20
"""Moves that are listed, unless it is said how many."""


def moves(
    epoch: Annotated[
        int | None, typer.Argument(help="Number of one, to see its steps, flows and buckets.", show_default=False)
    ] = None,
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
    limit: Annotated[int | None, typer.Option(help=f"The newest so many ({NEWEST}).", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Moves under way and ended, newest first: how many flows, and how long their packets were held back.

    follows: the move that this one was made for. It takes what that one left because flows were in use, or brings flows
    of the same groups from other replicas. pinned: how many flows stayed, since they were in use for too long.
    """
    if epoch is not None and limit is not None:
        raise BadInput(f"--limit {limit}", f"move {epoch} is one", "leave one of the two out")
    with connect(name, state_dir) as client:
        answer = client.get("/moves", limit=limit or NEWEST) if epoch is None else client.get(f"/moves/{epoch}")
    if as_json:
        return show_json(answer)
    if epoch is None:
        show_moves("moves", answer)
    else:
        _show_move(answer)
    return None


SPARE = ("reason", "guarantee", "buffer", "staged", "pinned", "buckets", "kept", "follows")
"""Columns of moves that go where there is no room."""
LATELY = 5
"""Entries of a move's history that are shown."""
LISTED, NAMED = 20, 3
"""Flows and buckets that are named of one move; flows that stayed, in a line about a move among others."""


def show_moves(title: str, moves: list[dict[str, Any]]) -> None:
    """Moves as a table; ``ms``: how long their packets were held back, at most; ``kept``: packets that waited.

    Reasons that there is no room for follow, one a line, and which flows stayed.
    """
    names = (
        "epoch", "source", "target", "follows", "step", "guarantee", "buffer", "keys", "buckets", "staged", "kept",
        "dropped", "left", "suspended_ms", "reason",
    )  # fmt: skip
    columns = (
        "epoch", "from", "to", "follows", "step", "guarantee", "buffer", "keys", "buckets", "staged", "kept", "dropped",
        "pinned", "ms", "reason",
    )  # fmt: skip
    for move in moves:
        move["kept"] = sum(move.get(name) or 0 for name in ("relayed", "held", "carried"))
        move["left"] = len(move.get("pinned") or ()) or None
    left_out = show_table(title, columns, ([_known(move.get(name)) for name in names] for move in moves), SPARE)
    for move in moves:
        if move["reason"] and "reason" in left_out:
            say(f"move {move['epoch']}: {move['reason']}")
        if said := stayed(move, moves):
            say(said)


def _known(value: object) -> object:
    return "" if value is None else value


def stayed(move: Mapping[str, Any], among: Iterable[Mapping[str, Any]]) -> str:
    """Which flows of the move stayed, and which of the others take the rest; empty if none stayed."""
    if not (pinned := move.get("pinned")):
        return ""
    flows = "1 flow" if len(pinned) == 1 else f"{len(pinned)} flows"
    said = f"move {move['epoch']}: {flows} stayed at replica {move['source']}: {some(pinned, NAMED)}"
    after = followers(move, among)
    what = "the others" if len(after) == 1 else "its part of the others"
    return "; ".join([said, *(f"move {each['epoch']} {_takes(each)} {what}" for each in after)])


def _takes(move: Mapping[str, Any]) -> str:
    return {Step.DONE.value: "took", Step.UNDONE.value: "did not take"}.get(move["step"], "takes")


def followers(move: Mapping[str, Any], among: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Which of the others are to take what this move left at its source, in the order in which they were planned.

    Of one that was undone there may be two: for flows that were in use before it began, and for the rest.
    """
    mine = (each for each in among if each.get("follows") == move["epoch"] and each["source"] == move["source"])
    return sorted(mine, key=lambda each: int(each["epoch"]))


def some(texts: Sequence[object], most: int, count: int | None = None) -> str:
    """The first of them, and how many more there are. ``count``: of all, where these are not all."""
    left = (len(texts) if count is None else count) - most
    more = f" and {left} more" if left > 0 else ""
    return ", ".join(map(str, texts[:most])) + more


def _show_move(move: dict[str, Any]) -> None:
    """One move, field by field; its flows and buckets follow, and what it did lately, if it is under way."""
    lists = {name: move.pop(name) or () for name in ("scope", "history", "pinned")}
    unknown = move.pop("unknown") or {"keys": None, "flows": ()}
    move["unknown"] = unknown["keys"]
    if planned := move.get("planned_at"):
        move["planned_at"] = datetime.fromtimestamp(planned).astimezone().isoformat(timespec="milliseconds")
    rows = _rows({name: value for name, value in move.items() if value not in (None, "")})
    show_table(f"move {move['epoch']}", ("what", "value"), rows)
    scope = lists["scope"] or {"keys": (), "buckets": ()}
    named = {"flows": scope["keys"], "buckets": scope["buckets"], "flows that stayed": lists["pinned"]}
    named |= {"flows that the source did not have": unknown["flows"]}
    for what, texts in named.items():
        if texts:
            say(f"{what}: {some(texts, LISTED)}")
    if lists["history"]:
        say(f"lately: {'; '.join(lists['history'][-LATELY:])}")


def _table(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    show_table(title, columns, ([row.get(column, "") for column in columns] for row in rows))


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (status, replicas, flows, moves):
        app.command()(command)
